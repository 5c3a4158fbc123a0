"""Real name servers: nsd as the authority, unbound and dnsmasq as forwarders in front of it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

import ae_core as ae
import ae_dns
from ae_core.testing import leak_check

RECV = 60
ADDRESSES = [f"192.0.2.{i}" for i in range(1, 120)]

ZONE = """$ORIGIN zone.test.
$TTL 300
@ SOA ns hostmaster 1 3600 900 86400 30
@ NS ns
@ MX 20 mx2
@ MX 10 mx1
@ TXT "v=spf1 -all" "second"
@ CAA 0 issue "ca.test"
ns A 127.0.0.1
mx1 A 192.0.2.25
www A 192.0.2.1
www AAAA 2001:db8::1
a1 CNAME a2
a2 CNAME www
out CNAME away.other.test.
*.wild A 127.0.0.9
_imap._tcp SRV 1 5 143 www
_imap._tcp SRV 0 5 993 www
*.www SRV 0 0 1 .
""" + "\n".join(f"many A {address}" for address in ADDRESSES)

OTHER = """$ORIGIN other.test.
$TTL 300
@ SOA ns hostmaster 1 3600 900 86400 30
@ NS ns
ns A 127.0.0.1
away A 192.0.2.77
"""

NSD = """server:
  ip-address: 127.0.0.1@{port}
  username: ""
  chroot: ""
  zonesdir: "{dir}"
  database: ""
  logfile: "{dir}/nsd.log"
  pidfile: "{dir}/nsd.pid"
  xfrdfile: "{dir}/xfrd"
  zonelistfile: "{dir}/zones"
  server-count: 1
  receive-buffer-size: 4194304
  rrl-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: zone.test
  zonefile: zone
zone:
  name: other.test
  zonefile: other
"""

UNBOUND = """server:
  interface: 127.0.0.1
  port: {port}
  username: ""
  chroot: ""
  directory: "{dir}"
  pidfile: "{dir}/unbound.pid"
  use-syslog: no
  do-daemonize: no
  do-not-query-localhost: no
  module-config: "iterator"
  local-zone: "test." nodefault
  access-control: 127.0.0.0/8 allow
  num-threads: 1
remote-control:
  control-enable: no
forward-zone:
  name: "test."
  forward-addr: 127.0.0.1@{upstream}
"""


def free_port() -> int:
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            try:
                udp.bind(tcp.getsockname())
            except OSError:
                continue
            return int(tcp.getsockname()[1])


def find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def answers(port: int) -> bool:
    probe = ae_dns.Resolver(servers=[f"127.0.0.1:{port}"], timeouts=(0.1,) * 100)
    for _ in range(100):
        with suppress(ae_dns.ServerFailed):  # it is not there yet, and the kernel says so
            if probe.a("www.zone.test.").recv(RECV):
                return True
        pause: ae.CondVar[None] = ae.CondVar()
        timer = ae.timer(0.1, pause)
        pause.recv(RECV)
        timer.cancel()
    return False


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """The ports of all servers that are installed; they run until the last test is done."""
    directory = tmp_path_factory.mktemp("servers")
    (directory / "zone").write_text(ZONE)
    (directory / "other").write_text(OTHER)
    ports: dict[str, int] = {}
    with ExitStack() as stack:
        for name, configure in (("nsd", nsd), ("unbound", unbound), ("dnsmasq", dnsmasq)):
            program = find(name)
            if program is None or (name != "nsd" and "nsd" not in ports):
                continue
            port = free_port()
            command = [program, *configure(directory, port, ports.get("nsd", 0))]
            log = stack.enter_context((directory / f"{name}.log").open("wb"))
            process = subprocess.Popen(command, stdout=log, stderr=log)
            stack.callback(process.wait, RECV)
            stack.callback(process.terminate)
            if not answers(port):
                pytest.fail(f"{name}: {(directory / f'{name}.log').read_text()}")
            ports[name] = port
        yield ports


def nsd(directory: Path, port: int, _upstream: int) -> list[str]:
    path = directory / "nsd.conf"
    path.write_text(NSD.format(port=port, dir=directory))
    return ["-d", "-c", str(path)]


def unbound(directory: Path, port: int, upstream: int) -> list[str]:
    path = directory / "unbound.conf"
    path.write_text(UNBOUND.format(port=port, dir=directory, upstream=upstream))
    return ["-d", "-c", str(path)]


def dnsmasq(_directory: Path, port: int, upstream: int) -> list[str]:
    return [
        *("--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"),
        *("--listen-address=127.0.0.1", "--bind-interfaces", "--pid-file=", "--user="),
        *(f"--port={port}", f"--server=127.0.0.1#{upstream}"),
    ]


@pytest.fixture(params=["nsd", "unbound", "dnsmasq"])
def endpoint(request: pytest.FixtureRequest, servers: dict[str, int]) -> str:
    if request.param not in servers:
        pytest.skip(f"{request.param} (or nsd behind it) is not installed")
    return f"127.0.0.1:{servers[request.param]}"


@pytest.fixture
def authority(servers: dict[str, int]) -> str:
    if "nsd" not in servers:
        pytest.skip("nsd is not installed")
    return f"127.0.0.1:{servers['nsd']}"


@pytest.fixture(params=[False, True], ids=["", "0x20"])
def resolver(endpoint: str, request: pytest.FixtureRequest) -> ae_dns.Resolver:
    return ae_dns.Resolver(servers=[endpoint], case_randomization=request.param)


def test_lookups(resolver: ae_dns.Resolver) -> None:
    assert resolver.a("www.zone.test").recv(RECV) == ["192.0.2.1"]
    assert resolver.aaaa("www.zone.test").recv(RECV) == ["2001:db8::1"]
    assert resolver.a("anything.wild.zone.test").recv(RECV) == ["127.0.0.9"]
    assert resolver.mx("zone.test").recv(RECV) == ["mx1.zone.test", "mx2.zone.test"]
    assert resolver.ns("zone.test").recv(RECV) == ["ns.zone.test"]
    assert resolver.txt("zone.test").recv(RECV) == ["v=spf1 -allsecond"]
    assert resolver.srv("imap", "tcp", "zone.test").recv(RECV) == [
        ae_dns.Srv(0, 5, 993, "www.zone.test"),
        ae_dns.Srv(1, 5, 143, "www.zone.test"),
    ]


def test_aliases(resolver: ae_dns.Resolver) -> None:
    answer = resolver.resolve("a1.zone.test", "A").recv(RECV)
    assert (answer.name, answer[0].to_text()) == ("www.zone.test", "192.0.2.1")
    assert resolver.a("out.zone.test").recv(RECV) == ["192.0.2.77"]


def test_failures(resolver: ae_dns.Resolver) -> None:
    with pytest.raises(ae_dns.NoSuchName):
        resolver.resolve("nothing.zone.test", "A").recv(RECV)
    with pytest.raises(ae_dns.NoData):
        resolver.resolve("www.zone.test", "MX").recv(RECV)
    with pytest.raises(ae_dns.ServerFailed):
        resolver.resolve("elsewhere.test", "A").recv(RECV)


def test_replies_too_big_for_udp_come_over_tcp(resolver: ae_dns.Resolver) -> None:
    assert sorted(resolver.a("many.zone.test").recv(RECV)) == sorted(ADDRESSES)
    assert resolver.statistics()["sent"] == 2


def test_other_types(resolver: ae_dns.Resolver) -> None:
    answer = resolver.resolve("zone.test", "CAA").recv(RECV)
    assert answer[0].to_text() == '0 issue "ca.test"'
    answer = resolver.resolve("zone.test", "SOA").recv(RECV)
    assert answer[0].to_text() == "ns.zone.test. hostmaster.zone.test. 1 3600 900 86400 30"


def test_negative_answers_are_cached_as_the_soa_says(endpoint: str) -> None:
    resolver = ae_dns.Resolver(servers=[endpoint], cache=True)
    for _ in range(3):
        assert resolver.a("nothing.zone.test").recv(RECV) == []
        assert resolver.aaaa("mx1.zone.test").recv(RECV) == []
    assert resolver.statistics()["sent"] == 2


def test_ten_thousand_queries_leave_nothing_behind(authority: str) -> None:
    resolver = ae_dns.Resolver(servers=[authority], max_outstanding=1000)
    done: ae.CondVar[None] = ae.CondVar()
    asked = answered = lost = 0

    def ask() -> None:
        nonlocal asked
        asked += 1
        resolver.a(f"q{asked}.wild.zone.test.").on_ready(got)

    def got(found: ae.CondVar[list[str]]) -> None:
        nonlocal answered, lost
        answered += 1
        lost += found.recv() != ["127.0.0.9"]
        if asked < 10_000:
            ask()
        elif answered == 10_000:
            done.send()

    with leak_check():
        for _ in range(1000):
            ask()
        done.recv(RECV)
    assert lost == 0
    statistics = resolver.statistics()
    assert (statistics["outstanding"], statistics["queued"]) == (0, 0)


def test_nothing_is_asked_of_the_system(authority: str) -> None:
    """A resolver with servers of its own works where there is no configuration at all."""
    resolver = ae_dns.Resolver(servers=[authority])
    infos = resolver.getaddrinfo("www.zone.test", 80).recv(RECV)
    assert {info.sockaddr[0] for info in infos} == {"192.0.2.1", "2001:db8::1"}
