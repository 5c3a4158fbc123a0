"""Compares ae_dns with glibc on scripted configurations; runs inside namespaces of its own.

``test_glibc`` starts it. It has the loopback interface to itself, name servers on port 53 of
a dozen loopback addresses, and its own /etc/resolv.conf, hosts and nsswitch.conf. For each
configuration it asks ``getent ahosts`` and ``Resolver.getaddrinfo`` and compares the addresses,
in order, and the names that were asked for.

Prints one JSON line per case: name, what glibc says, what we say.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import NamedTuple

import ae_core as ae
import ae_dns
from ae_dns.testing import DROP, TRUNCATE, NameServer, Query, Step, rcode

ZONE = """
host.a.test.   A 192.0.2.10
host.a.test.   AAAA 2001:db8::10
host.b.test.   A 192.0.2.11
only4.b.test.  A 192.0.2.12
only6.a.test.  AAAA 2001:db8::12
x.y.a.test.    A 192.0.2.13
x.y.           A 192.0.2.14
bare.          A 192.0.2.15
bare.          AAAA 2001:db8::15
alias.a.test.  CNAME host.b.test.
long.a.test.   CNAME long2.a.test.
long2.a.test.  CNAME long3.b.test.
long3.b.test.  CNAME host.a.test.
loop.a.test.   CNAME loop2.a.test.
loop2.a.test.  CNAME loop.a.test.
away.a.test.   CNAME nowhere.test.
text.a.test.   TXT "no address"
text.b.test.   A 192.0.2.16
multi.a.test.  A 192.0.2.20
multi.a.test.  A 198.51.100.20
multi.a.test.  A 203.0.113.20
multi.a.test.  AAAA 2001:db8::20
multi.a.test.  AAAA 2001:db8:ffff::20
mixed.a.test.  A 127.0.0.50
mixed.a.test.  A 10.1.2.3
mixed.a.test.  AAAA ::1
mixed.a.test.  AAAA fd00::1
mixed.a.test.  AAAA 2002:c000:201::1
old.a.test.    AAAA ::ffff:192.0.2.31
old.a.test.    AAAA 2001::31
under_score.a.test. A 192.0.2.32
xn--bcher-kva.a.test. A 192.0.2.33
*.wild.a.test. A 192.0.2.34
"""

GOOD, SERVFAIL, REFUSED, SILENT, TRUNCATING, NXDOMAIN, OTHER, NODATA, OLD, CLOSED, NOTIMP = (
    f"127.0.0.{i}" for i in range(1, 12)
)

NAMES = (
    *("host", "host.a.test", "host.a.test.", "HOST.A.Test", "x.y", "x.y.", "bare", "bare."),
    *("only4", "only6", "alias", "long.a.test", "loop.a.test", "away.a.test", "text", "multi"),
    *("mixed.a.test", "nothing", "nothing.a.test", "under_score.a.test", "deep.wild.a.test"),
)

CONFIGURATIONS = {
    "plain": f"nameserver {GOOD}\nsearch .\n",
    "search": f"search a.test\nnameserver {GOOD}\n",
    "search-two": f"search a.test b.test\nnameserver {GOOD}\n",
    "search-reversed": f"nameserver {GOOD}\nsearch b.test a.test\n",
    "ndots-0": f"nameserver {GOOD}\nsearch a.test\noptions ndots:0\n",
    "ndots-2": f"nameserver {GOOD}\nsearch a.test\noptions ndots:2\n",
    "ndots-3": f"nameserver {GOOD}\noptions ndots:3\nsearch b.test a.test\n",
    "domain": f"domain a.test\nnameserver {GOOD}\n",
}

# Others: one name each is enough to show what they do.
OPTIONS = {
    "domain-after-search": f"search b.test\ndomain a.test\nnameserver {GOOD}\n",
    "search-after-domain": f"domain b.test\nsearch a.test\nnameserver {GOOD}\n",
    "two-searches": f"search b.test\nsearch a.test\nnameserver {GOOD}\n",
    "search-dots": f"search a.test. b.test.\nnameserver {GOOD}\n",
    "search-twice-the-same": f"search a.test a.test\nnameserver {GOOD}\n",
    "search-many": f"search d1 d2 d3 d4 d5 d6 d7 a.test\nnameserver {GOOD}\n",
    "comments": f"# nameserver {NXDOMAIN}\n; search b.test\nsearch a.test\nnameserver {GOOD}\n",
    "tabs": f"search\ta.test\nnameserver\t{GOOD}  \n",
    "no-newline": f"search a.test\nnameserver {GOOD}",
    "unknown-lines": f"bogus x\nlookup file bind\nsearch a.test\nnameserver {GOOD}\n",
    "unknown-options": f"options debug foo:3 bar\nsearch a.test\nnameserver {GOOD}\n",
    "bad-server": f"nameserver not.an.address\nnameserver {GOOD}\nsearch a.test\n",
    "server-v6": "nameserver ::1\nsearch a.test\n",
    "no-server": "search a.test\n",
    "empty": "",
    "fourth-server-is-ignored": f"nameserver {REFUSED}\n" * 3
    + f"nameserver {GOOD}\nsearch a.test\n",
    "rotate": f"options rotate\nsearch a.test\nnameserver {GOOD}\nnameserver {GOOD}\n",
    "edns0": f"options edns0\nsearch a.test\nnameserver {GOOD}\n",
    "edns0-old-server": f"options edns0\nsearch a.test\nnameserver {OLD}\n",
    "trust-ad": f"options trust-ad\nsearch a.test\nnameserver {GOOD}\n",
    "use-vc": f"options use-vc\nsearch a.test\nnameserver {GOOD}\n",
    "no-aaaa": f"options no-aaaa\nsearch a.test\nnameserver {GOOD}\n",
    "single-request": f"options single-request\nsearch a.test\nnameserver {GOOD}\n",
    "reopen": f"options single-request-reopen\nsearch a.test\nnameserver {GOOD}\n",
    "ndots-huge": f"options ndots:99\nsearch a.test\nnameserver {GOOD}\n",
    "sortlist": f"sortlist 203.0.113.0/24\nsearch a.test\nnameserver {GOOD}\n",
}

SERVERS = {
    "servfail-then-good": f"nameserver {SERVFAIL}\nnameserver {GOOD}\nsearch a.test\n",
    "refused-then-good": f"nameserver {REFUSED}\nnameserver {GOOD}\nsearch a.test\n",
    "notimp-then-good": f"nameserver {NOTIMP}\nnameserver {GOOD}\nsearch a.test\n",
    "closed-then-good": f"nameserver {CLOSED}\nnameserver {GOOD}\nsearch a.test\n",
    "nxdomain-then-good": f"nameserver {NXDOMAIN}\nnameserver {GOOD}\nsearch a.test\n",
    "nodata-then-good": f"nameserver {NODATA}\nnameserver {GOOD}\nsearch a.test\n",
    "good-then-other": f"nameserver {GOOD}\nnameserver {OTHER}\nsearch a.test\n",
    "other-then-good": f"nameserver {OTHER}\nnameserver {GOOD}\nsearch a.test\n",
    "truncating": f"nameserver {TRUNCATING}\nsearch a.test\n",
    "servfail": f"nameserver {SERVFAIL}\nsearch a.test\n",
    "refused": f"nameserver {REFUSED}\nsearch a.test\n",
    "closed": f"nameserver {CLOSED}\nsearch a.test\n",
    "old": f"nameserver {OLD}\nsearch a.test\n",
}

SLOW = {
    "silent-then-good": f"nameserver {SILENT}\nnameserver {GOOD}\nsearch a.test\n"
    "options timeout:1 attempts:1\n",
    "silent": f"nameserver {SILENT}\nsearch a.test b.test\noptions timeout:1 attempts:1\n",
}

HOSTS = """# comment
127.0.0.1   localhost
::1         localhost ip6-localhost
192.0.2.90  both.a.test both
2001:db8::90 both.a.test both
192.0.2.91  four   # trailing
2001:db8::92 six
192.0.2.93  Mixed.Case.test
192.0.2.94  twice
192.0.2.95  twice
192.0.2.96  host.a.test
192.0.2.97  dotted.test.
bogus       line
"""
HOST_NAMES = (
    *("both", "both.a.test", "four", "six", "mixed.case.test", "MIXED.CASE.TEST", "twice"),
    *("host.a.test", "host", "localhost", "dotted.test", "both.", "line", "only6.a.test"),
)

ENVIRONMENT: dict[str, tuple[dict[str, str], str]] = {
    "localdomain": ({"LOCALDOMAIN": "a.test"}, "host"),
    "localdomain-two": ({"LOCALDOMAIN": "b.test a.test"}, "only6"),
    "res-options-ndots": ({"RES_OPTIONS": "ndots:2"}, "x.y"),
    "res-options-no-aaaa": ({"RES_OPTIONS": "no-aaaa"}, "host"),
    "res-options-use-vc": ({"RES_OPTIONS": "use-vc"}, "multi"),
}


class Case(NamedTuple):
    name: str
    conf: str
    host: str
    hosts: str = "127.0.0.1 localhost\n::1 localhost\n"
    environment: dict[str, str] = {}


def cases() -> Iterator[Case]:
    for title, conf in CONFIGURATIONS.items():
        for host in NAMES:
            yield Case(f"{title}/{host}", conf, host)
    for title, conf in OPTIONS.items():
        for host in ("host", "multi.a.test") if "search" in title else ("host",):
            yield Case(f"{title}/{host}", conf, host)
    for title, conf in SERVERS.items():
        for host in ("host", "only6.a.test", "nothing"):
            yield Case(f"{title}/{host}", conf, host)
    for title, conf in SLOW.items():
        yield Case(f"{title}/host", conf, "host")
    plain = CONFIGURATIONS["search"]
    for host in HOST_NAMES:
        yield Case(f"hosts/{host}", plain, host, HOSTS)
    for title, (environment, host) in ENVIRONMENT.items():
        yield Case(f"{title}/{host}", plain.replace("a.test", "b.test"), host, "", environment)


# ------------------------------------------------------------- name servers


def old(query: Query) -> Step | None:
    return rcode("FORMERR") if query.message.edns >= 0 else None


def serve(ready: threading.Event, log: list[NameServer]) -> None:
    """Run all name servers, in a thread with a loop of its own."""
    for address in (GOOD, "::1", SERVFAIL, REFUSED, SILENT, TRUNCATING, NXDOMAIN, NODATA, OLD):
        log.append(NameServer(ZONE, host=address, port=53))
    log.append(NameServer(ZONE.replace("192.0.2.1", "203.0.113.1"), host=OTHER, port=53))
    log.append(NameServer(host=NOTIMP, port=53))
    scripts: dict[str, Step] = {
        SERVFAIL: rcode("SERVFAIL"),
        REFUSED: rcode("REFUSED"),
        NOTIMP: rcode("NOTIMP"),
        SILENT: DROP,
        NXDOMAIN: rcode("NXDOMAIN"),
        NODATA: lambda query: query.reply(),
        TRUNCATING: lambda query: TRUNCATE if query.transport == "udp" else None,
        OLD: old,
    }
    for server in log:
        step = scripts.get(server.address[0])
        if step is not None:
            server.script("*", "*", *[step] * 100_000)
    ready.set()
    ae.run()


# ------------------------------------------------------------- both sides


def by_glibc(case: Case) -> list[str]:
    command = ["getent", "--no-addrconfig", "ahosts", case.host]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **case.environment}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    fields = [line.split() for line in done.stdout.splitlines()]
    return [field[0] for field in fields if field[1] == "STREAM"]


def by_us(case: Case) -> list[str]:
    for name in ("LOCALDOMAIN", "RES_OPTIONS"):
        os.environ.pop(name, None)
    os.environ.update(case.environment)
    resolver = ae_dns.Resolver()
    try:
        infos = resolver.getaddrinfo(case.host, 80).recv(60)
    except ae_dns.ResolveError:
        return []
    return [str(info.sockaddr[0]) for info in infos]


def asked(servers: list[NameServer]) -> list[str]:
    """Return the names that were asked for since the last call, in order, each once."""
    queries = [query for server in servers for query in server.queries]
    for server in servers:
        server.queries.clear()
    return list(dict.fromkeys(query.name for query in queries))


def main() -> None:
    directory = sys.argv[1]
    for name in ("resolv.conf", "hosts", "nsswitch.conf"):
        path = f"{directory}/{name}"
        with open(path, "w") as file:
            file.write("hosts: files dns\n")
        subprocess.run(["mount", "--bind", path, f"/etc/{name}"], check=True)
    commands = (
        *("link set lo up", "addr add 192.0.2.200/24 dev lo"),
        *("-6 addr add 2001:db8::200/64 dev lo", "route add default dev lo"),
        "-6 route add default dev lo",
    )
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True)
    servers: list[NameServer] = []
    ready = threading.Event()
    threading.Thread(target=serve, args=(ready, servers), daemon=True).start()
    ready.wait()
    for case in cases():
        for name, text in (("resolv.conf", case.conf), ("hosts", case.hosts)):
            with open(f"/etc/{name}", "w") as file:
                file.write(text)
        # A difference counts if it is there three times: a busy machine misses time-outs.
        for _ in range(3):
            glibc = by_glibc(case), asked(servers)
            ours = by_us(case), asked(servers)
            if glibc == ours:
                break
        result = {"case": case.name, "glibc": glibc[0], "glibc_asked": glibc[1]}
        result.update(ours=ours[0], ours_asked=ours[1])
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
