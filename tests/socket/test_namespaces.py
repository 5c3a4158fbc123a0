"""Happy Eyeballs over real, broken networks: two network namespaces, joined by two cables.

Needs root and iproute2 on Linux; skipped elsewhere, with the reason. The times are printed: see
them with ``pytest -rP tests/socket/test_namespaces.py``.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

# The IPv6 cable leads to the server, to a network whose packets it swallows, to one it calls
# unreachable, and, for the client alone, to nowhere. The same for IPv4.
LIVE6, LIVE4 = "fd77::2", "10.77.0.2"
SWALLOWED6, SWALLOWED4 = "fd77:1::1", "10.77.1.1"
UNREACHABLE6, UNREACHABLE4 = "fd77:2::1", "10.77.2.1"
NO_ROUTE6, NO_ROUTE4 = "fd88::1", "10.88.0.1"

SERVER = """
import sys
import ae_core as ae
from ae_socket import tcp_server
server = tcp_server(None, 0, lambda sock, host, port: sock.close())
print(server.address[1], flush=True)
ae.run()
"""

CLIENT = """
import json, os, sys, time
import ae_core as ae
from ae_socket import ConnectFailed, tcp_connect
from ae_socket.testing import ScriptedResolver
targets, live, timeout = json.loads(sys.argv[1])
for target in live:      # neighbours are found, modules loaded
    tcp_connect(*target).recv().close()
resolver = ScriptedResolver({"x.test": [tuple(target) for target in targets]})
before = len(os.listdir("/proc/self/fd"))
started = time.monotonic()
result = {"peer": None, "errors": [], "errno": None}
try:
    sock = tcp_connect("x.test", 80, timeout=timeout, resolver=resolver).recv()
    result["elapsed"] = time.monotonic() - started
    result["peer"] = sock.getpeername()[0]
    sock.close()
except ConnectFailed as error:
    result["elapsed"] = time.monotonic() - started
    result["errno"] = error.errno
    result["errors"] = [one.errno for one in error.errors]
result["left_open"] = len(os.listdir("/proc/self/fd")) - before
print(json.dumps(result))
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=60)


def obstacle() -> str | None:
    """Return why there can be no namespaces here."""
    if sys.platform != "linux":
        return "network namespaces are a thing of Linux"
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"ae-probe-{os.getpid()}"
    try:
        ip("netns", "add", name)
    except FileNotFoundError:
        return "the command ip (iproute2) is not installed"
    except subprocess.CalledProcessError as error:
        return f"no network namespaces: {error.stderr.decode().strip()}"
    ip("netns", "del", name)
    return None


OBSTACLE = obstacle()
pytestmark = pytest.mark.skipif(OBSTACLE is not None, reason=str(OBSTACLE))


class Cables(NamedTuple):
    client: str
    server: str
    port: int

    def connect(self, *targets: str | tuple[str, int], timeout: float | None = 30.0) -> Any:
        """Connect in the client's namespace to the first of *targets* that answers."""
        pairs = [(one, self.port) if isinstance(one, str) else one for one in targets]
        live = [(LIVE6, self.port), (LIVE4, self.port)]
        question = json.dumps([pairs, live, timeout])
        done = subprocess.run(
            ["ip", "netns", "exec", self.client, sys.executable, "-c", CLIENT, question],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        names = ", ".join(host for host, _ in pairs)
        print(f"{1000 * result['elapsed']:7.1f} ms  {names} -> {result['peer'] or 'failure'}")
        assert result["left_open"] == 0
        return result


@pytest.fixture(scope="module")
def cables() -> Iterator[Cables]:
    client, server = (f"ae-{name}-{os.getpid()}" for name in ("client", "server"))
    for name in (client, server):
        ip("netns", "add", name)
    try:
        for family, c, s in (
            ("6", "fd77::1/64", f"{LIVE6}/64"),
            ("4", "10.77.0.1/24", f"{LIVE4}/24"),
        ):
            ip("-n", client, "link", "add", f"c{family}", "type", "veth",
               "peer", "name", f"s{family}", "netns", server)  # fmt: skip
            for name, device, address in ((client, f"c{family}", c), (server, f"s{family}", s)):
                ip("-n", name, "link", "set", "lo", "up")
                ip("-n", name, "link", "set", device, "up")
                nodad = ["nodad"] if family == "6" else []
                ip("-n", name, "address", "add", address, "dev", device, *nodad)
        for switch in ("ipv6/conf/all/forwarding", "ipv4/ip_forward"):
            command = f"echo 1 > /proc/sys/net/{switch}"
            ip("netns", "exec", server, "sh", "-c", command)
        for kind, host6, host4 in (
            ("blackhole", SWALLOWED6, SWALLOWED4),
            ("unreachable", UNREACHABLE6, UNREACHABLE4),
        ):
            ip("-n", client, "route", "add", f"{host6}/128", "via", LIVE6)
            ip("-n", client, "route", "add", f"{host4}/32", "via", LIVE4)
            ip("-n", server, "route", "add", kind, f"{host6}/128")
            ip("-n", server, "route", "add", kind, f"{host4}/32")
        with subprocess.Popen(
            ["ip", "netns", "exec", server, sys.executable, "-c", SERVER],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        ) as child:
            assert child.stdout is not None
            try:
                yield Cables(client, server, int(child.stdout.readline()))
            finally:
                child.kill()
    finally:
        for name in (client, server):
            ip("netns", "del", name)


def closed(cables: Cables, host: str) -> tuple[str, int]:
    return host, 1 if cables.port != 1 else 2


def test_working_ipv6_is_used(cables: Cables) -> None:
    result = cables.connect(LIVE6, LIVE4)
    assert result["peer"] == LIVE6
    assert result["elapsed"] < 0.25


def test_swallowed_ipv6_costs_a_quarter_of_a_second(cables: Cables) -> None:
    result = cables.connect(SWALLOWED6, LIVE4)
    assert result["peer"] == LIVE4
    assert 0.25 <= result["elapsed"] < 1.0  # TCP alone would try for two minutes


def test_unreachable_ipv6_costs_a_quarter_of_a_second_at_most(cables: Cables) -> None:
    # To Linux an ICMP that is back before connect() has returned, as over these cables, is a
    # soft error for the time being; over a real distance it would be the end of the attempt.
    result = cables.connect(UNREACHABLE6, LIVE4)
    assert result["peer"] == LIVE4
    assert result["elapsed"] < 1.0


def test_ipv6_without_a_route_costs_nothing(cables: Cables) -> None:
    result = cables.connect(NO_ROUTE6, LIVE4)
    assert result["peer"] == LIVE4
    assert result["elapsed"] < 0.25


def test_reset_ipv6_costs_nothing(cables: Cables) -> None:
    result = cables.connect(closed(cables, LIVE6), LIVE4)
    assert result["peer"] == LIVE4
    assert result["elapsed"] < 0.25


@pytest.mark.parametrize("dead", [SWALLOWED4, UNREACHABLE4, NO_ROUTE4])
def test_dead_ipv4_is_overcome_just_the_same(cables: Cables, dead: str) -> None:
    result = cables.connect(dead, LIVE6)
    assert result["peer"] == LIVE6
    assert result["elapsed"] < 1.0


def test_slow_ipv6_is_overtaken(cables: Cables) -> None:
    # 300 octets a second, and a large datagram has used up what was saved: the SYN waits.
    shape = ["tc", "qdisc", "add", "dev", "c6", "root", "tbf"]
    shape += ["rate", "1200bit", "burst", "1600", "latency", "60s"]
    ip("netns", "exec", cables.client, *shape)
    try:
        send = (
            "import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM);"
            f"[s.sendto(bytes(700), ('{LIVE6}', 9)) for _ in range(3)]"
        )
        ip("netns", "exec", cables.client, sys.executable, "-c", send)
        result = cables.connect(LIVE6, LIVE4)
    finally:
        ip("netns", "exec", cables.client, "tc", "qdisc", "del", "dev", "c6", "root")
    assert result["peer"] == LIVE4
    assert 0.25 <= result["elapsed"] < 1.0


def test_many_dead_addresses_wait_a_quarter_of_a_second_each(cables: Cables) -> None:
    result = cables.connect(SWALLOWED6, SWALLOWED4, LIVE6, timeout=None)
    assert result["peer"] == LIVE6
    assert 0.5 <= result["elapsed"] < 1.0


def test_everything_dead_times_out_with_every_error(cables: Cables) -> None:
    result = cables.connect(SWALLOWED6, SWALLOWED4, closed(cables, LIVE4), timeout=0.8)
    assert result["elapsed"] >= 0.8
    assert result["errno"] == errno.ETIMEDOUT
    assert result["errors"] == [errno.ETIMEDOUT, errno.ETIMEDOUT, errno.ECONNREFUSED]


def test_everything_unreachable_fails_without_a_time_out(cables: Cables) -> None:
    result = cables.connect(UNREACHABLE6, NO_ROUTE4, NO_ROUTE6, timeout=None)
    assert result["peer"] is None
    # The kernel's word for "unreachable" route differs by family and version.
    dead = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES}
    assert set(result["errors"]) <= dead
