"""Forged replies: none of a million is believed, and the true one still gets through.

``python -m pytest -s tests/dns/test_flood.py`` prints the figures.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import ae_core as ae
import ae_dns
from ae_dns.testing import NameServer

FORGED = 1_000_000
PER_QUERY = 4_000
RECV = 120
#: What chi-square with 15 degrees of freedom passes by chance.
ONCE_IN_FIVE_MILLION_RUNS = 60.0
#: What 16 independent normal values pass by chance, in standard deviations.
ONCE_IN_A_HUNDRED_MILLION_RUNS = 6.2


@pytest.fixture
def forger() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(Path(__file__).with_name("forger.py")), str(PER_QUERY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="forges from 127.0.0.2")
def test_none_of_a_million_forged_replies_is_believed(
    forger: subprocess.Popen[str], record_property: Callable[[str, object], None]
) -> None:
    assert forger.stdout is not None
    port = forger.stdout.readline().strip()
    # 0x20 is on, so that the forgery in other case is one.
    resolver = ae_dns.Resolver(
        servers=[f"127.0.0.1:{port}"], timeouts=(0.5, 5, 5), case_randomization=True
    )
    done: ae.CondVar[None] = ae.CondVar()
    answers: Counter[str] = Counter()
    started = ae.time()
    serial = 0
    wanted = FORGED // PER_QUERY

    def ask() -> None:
        nonlocal serial
        serial += 1
        resolver.a(f"host{serial}.Example-Name.test.").on_ready(got)

    def got(found: ae.CondVar[list[str]]) -> None:
        answers[",".join(found.recv())] += 1
        if sum(answers.values()) == wanted:
            done.send()
        elif serial < wanted:
            ask()

    for _ in range(4):
        ask()
    done.recv(RECV)
    seconds = ae.time() - started
    forger.terminate()
    forged = int(forger.stdout.readline())
    queries = resolver.statistics()["sent"]
    print(
        f"\n{forged} forged packets for {wanted} lookups in {seconds:.1f} s: "
        f"{answers['192.0.2.66']} believed, {answers['192.0.2.1']} true answers, "
        f"{queries - wanted} of them over TCP because the flood had drowned the first reply"
    )
    assert answers == {"192.0.2.1": wanted}
    assert forged >= FORGED
    record_property("cases", forged)


# ------------------------------------------------------------- what a forger has to guess


def chi_square(counts: list[int]) -> float:
    expected = sum(counts) / len(counts)
    return sum((count - expected) ** 2 / expected for count in counts)


def test_identifiers_and_ports_are_random(
    server: NameServer, scale: int, record_property: Callable[[str, object], None]
) -> None:
    """A false alarm is one of the bounds passed by chance: less than once in a million runs."""
    resolver = ae_dns.Resolver(servers=[server.endpoint], max_outstanding=64)
    idents: list[int] = []
    ports: list[int] = []
    done: ae.CondVar[None] = ae.CondVar()
    wanted = left = 4000 * scale

    def ask(_: object = None) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            resolver.a(f"n{left}.test.").on_ready(ask)
        elif left == -64:
            done.send()

    for _ in range(64):
        ask()
    done.recv(RECV * scale)
    for query in server.queries:
        idents.append(int.from_bytes(query.wire[:2], "big"))
        ports.append(query.source[1])
    assert len(idents) >= wanted  # more if a busy machine lost some
    record_property("cases", len(idents))
    for values, low, span in ((idents, 0, 65536), (sorted(set(ports)), 16384, 49152)):
        counts = Counter((value - low) * 16 // span for value in values)
        assert chi_square([counts[i] for i in range(16)]) < ONCE_IN_FIVE_MILLION_RUNS
    for bit in range(16):
        ones = sum(ident >> bit & 1 for ident in idents)
        deviation = math.sqrt(len(idents)) / 2
        assert abs(ones - len(idents) / 2) < ONCE_IN_A_HUNDRED_MILLION_RUNS * deviation
    # A port is retired after a hundred queries, and of many thousands that are chosen at random
    # some are chosen again: twice so many as there should be once in ten million runs, at 100,000.
    chosen = len(idents) / 100
    again = sum((number - 1) // 100 for number in Counter(ports).values())
    assert again <= chosen**2 / 49152 + 10 * (scale > 1), "used more than a hundred times"
    in_order = sum(b - a in (0, 1) for a, b in pairwise(idents))
    assert in_order < 10 * scale  # two in 65,536 by chance


def test_ports_in_flight_are_distinct(server: NameServer) -> None:
    """With up to 16 queries in flight every one of them has a port of its own, used once."""
    resolver = ae_dns.Resolver(servers=[server.endpoint], max_outstanding=16)
    found = [resolver.a(f"n{i}.test.") for i in range(160)]
    for each in found:
        each.recv(RECV)
    ports = [query.source[1] for query in server.queries]
    for i in range(0, 160, 16):
        assert len(set(ports[i : i + 16])) == 16
    assert len(set(ports)) > 155


def test_case_is_random_and_insisted_on(server: NameServer) -> None:
    resolver = ae_dns.Resolver(servers=[server.endpoint], case_randomization=True)
    for _ in range(8):
        assert resolver.a("www.demo.test.").recv(RECV) == ["192.0.2.80", "192.0.2.81"]
    spellings = {query.wire[12:26] for query in server.queries}
    assert len(spellings) > 4
    assert {spelling.lower() for spelling in spellings} == {b"\3www\4demo\4test"}
