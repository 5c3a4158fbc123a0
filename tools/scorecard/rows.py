"""The rows of the scorecard: what is promised, and what measures it.

What a row states beyond what it measures stands in its ``short``, and makes it red: a row is green
only where all that it states was measured and holds.
"""

from __future__ import annotations

__all__ = ("ROWS", "Row")

from collections.abc import Callable
from dataclasses import dataclass

from tools.scorecard import (
    children,
    connections,
    coverage,
    flakiness,
    fuzzing,
    idle,
    kernel_faults,
    leaks,
    signals,
    slow_peers,
)
from tools.scorecard.finding import Finding, Length, suite

BACKENDS = "asyncio,trio,twisted,gevent,libev,glib,qt,tk,loop"
Measure = Callable[[Length], Finding]


@dataclass(frozen=True)
class Row:
    """One promise.

    Attributes:
        number: As in the list of promises.
        name: The property.
        gate: What must hold.
        measure: Measures it.
        on_landing: Whether it is short enough to be measured on each landing.
    """

    number: int
    name: str
    gate: str
    measure: Measure
    on_landing: bool = False


def by_tests(*arguments: str, scale: int = 1, **options: object) -> Measure:
    """Measure by tests: *arguments* for pytest, *scale* for what they count in a full run."""

    def measure(length: Length) -> Finding:
        times = {"gate": 1, "full": scale, "nightly": scale * 10 if scale > 1 else 1}[length]
        small = {"cases": 0} if length == "gate" else {}
        return suite(*arguments, f"--scale={times}", **{**options, **small})  # type: ignore[arg-type]

    return measure


ROWS = (
    Row(1, "coverage", "100 % of the lines, 98 % of the branches", coverage.measure),
    Row(
        2,
        "conformance",
        "0 failures on every backend",
        by_tests(
            "tests/conformance",
            "tests/core/backends/test_exclusive.py",
            f"--require-backends={BACKENDS}",
            least=1600,
            may_skip=True,
            backend=BACKENDS.replace(",", " "),
        ),
    ),
    Row(3, "DNS decoding of mutated packets", "only our error, 20 ms, 1 MiB", fuzzing.measure),
    Row(
        4,
        "hostile DNS packets",
        "60 packets, each refused within 5 ms",
        by_tests("tests/dns/test_hostile.py", least=60, most={"ms": 5.0}),
    ),
    Row(
        5,
        "DNS spoofing",
        "0 of 1,000,000 forged replies believed",
        by_tests("tests/dns/test_flood.py", "-k", "million", cases=1_000_000),
    ),
    Row(
        6,
        "entropy of queries",
        "100,000 queries: identifiers, ports, chi-square",
        by_tests(
            *("tests/dns/test_flood.py", "-k", "random or distinct"),
            scale=25,
            least=2,
            cases=100_000,
        ),
    ),
    Row(
        7,
        "DNS cache",
        "unasked records ignored, lifetimes and size bounded",
        by_tests("tests/dns/test_cache.py", "tests/dns/test_outcomes.py", least=20),
    ),
    Row(
        8,
        "resolv.conf",
        "150 configurations as glibc has them",
        by_tests("tests/dns/test_glibc.py", "tests/dns/test_config.py", cases=150),
    ),
    Row(
        9,
        "read types at every cut",
        "5,000 examples each, the same results",
        by_tests(
            "tests/handle",
            "-k",
            "cut or cuts or garbage or matches or octet_by_octet",
            scale=50,
            least=10,
        ),
    ),
    Row(
        10,
        "JSON",
        "95 documents read, 188 refused, 35 open ones as documented, one byte at a time",
        by_tests("tests/handle/types/test_json_documents.py", scale=2, least=600),
    ),
    Row(
        11,
        "CBOR",
        "what appendix A of RFC 8949 has, one byte at a time, depth and lengths bounded",
        by_tests(
            "tests/handle/types/test_cbor_encodings.py",
            "tests/handle/types/test_json_cbor.py",
            "tests/handle/types/test_cbor_limits.py",
            least=200,
        ),
    ),
    Row(
        12,
        "bombs",
        "doubling the input takes 2.3 times the time at most; for JSON of many keys, beyond what "
        "json.loads alone grows by",
        by_tests(
            "tests/handle/test_cost.py",
            "tests/handle/test_scaling.py",
            scale=4,
            least=100,
            most={"grown": 2.3},
        ),
    ),
    Row(
        13,
        "patterns that we ship",
        "doubling the input takes 2.5 times the time at most",
        by_tests(
            "tests/handle/test_cost.py",
            "-k",
            "regex or line-pattern",
            scale=4,
            least=4,
            most={"grown": 2.5},
        ),
    ),
    Row(
        14,
        "faults of system calls",
        "10,000 scenarios: one outcome, no hang, nothing left",
        by_tests(
            "tests/integration/test_every_call_fails.py",
            "tests/handle/test_faults.py",
            "tests/dns/test_faults.py",
            "tests/integration/test_kernel_refusals.py",
            scale=1000,
            cases=10_000,
            backend=BACKENDS.replace(",", " "),
            may_skip=True,
        ),
    ),
    Row(
        15,
        "faults by the kernel",
        "1,000 runs under strace: no hang, no traceback",
        kernel_faults.measure,
        True,
    ),
    Row(
        16,
        "connections",
        "10,000 plain and 2,000 TLS echoed, 0 errors, 6 KiB each",
        connections.measure,
        True,
    ),
    Row(
        17,
        "slow peers",
        "beside 2,000 of them 100 honest ones wait twice as long at most",
        slow_peers.measure,
    ),
    Row(
        18,
        "resets and half-closes",
        "200 cases, one error each",
        by_tests("tests/integration/test_resets.py", scale=2, cases=200),
    ),
    Row(
        19,
        "truncation",
        "the end without close_notify is always reported",
        by_tests(
            "tests/tls", "tests/handle", "-k", "truncation or truncated or close_notify", least=10
        ),
    ),
    Row(
        20,
        "host names",
        "250 names: 0 falsely accepted, 0 falsely refused",
        by_tests("tests/tls/test_names.py", cases=250),
    ),
    Row(
        21,
        "chains",
        "everything that is wrong with one is refused with its reason",
        by_tests("tests/tls/test_trust.py", "tests/tls/test_live_verification.py", least=20),
    ),
    Row(
        22,
        "TLS by default",
        "what openssl's and GnuTLS's clients find",
        by_tests("tests/tls/test_defaults.py", least=5),
    ),
    Row(
        23,
        "STARTTLS injection",
        "what came in plaintext is never delivered",
        by_tests("tests/handle/test_starttls.py", "tests/handle/test_tls.py", least=10),
    ),
    Row(
        24,
        "no descriptors left",
        "20 accept calls a second at most, accepting again within 1 s",
        by_tests("tests/socket/test_server_stress.py", "-k", "exhaustion or flood or limit"),
    ),
    Row(25, "signals", "100,000 beside I/O, none lost, p99 20 ms", signals.measure),
    Row(26, "children", "2,000 beside subprocess: every status, 0 zombies", children.measure),
    Row(
        27,
        "timers",
        "1,000,000; never early, in order, whatever the wall clock says",
        by_tests("tests/core/loop/test_timers.py", "tests/core/loop/test_wall_clock.py", least=40),
    ),
    Row(
        28,
        "fork",
        "the child is clean, the parent unharmed",
        by_tests(
            "tests/core/loop/test_fork.py",
            "tests/core/loop/test_fork_nothing.py",
            "tests/handle/test_fork.py",
            least=20,
        ),
    ),
    Row(29, "leaks", "10,000 of each kind without a collector: nothing left", leaks.measure),
    Row(
        30,
        "reentrancy",
        "every action in every callback",
        by_tests("tests/handle/test_reentrancy.py", least=25),
    ),
    Row(
        31,
        "Happy Eyeballs",
        "250 ms and a round trip at most, in the order of RFC 6724",
        by_tests("tests/socket/test_eyeballs.py", "tests/socket/test_namespaces.py", least=20),
    ),
    Row(
        32,
        "bad network",
        "50 seeds of delay, loss, order and cuts: the same data",
        by_tests(
            "tests/integration/test_bad_network.py",
            "tests/socket/test_virtual.py",
            "tests/tls/test_schedules.py",
            scale=50,
            least=200,
        ),
    ),
    Row(
        33,
        "Windows by emulation",
        "the socket suite passes on a scripted Winsock",
        by_tests(
            *("tests/socket", "-ptools.winsock"),
            least=500,
            may_skip=True,
            backend="loop",
        ),
    ),
    Row(34, "idle cost", "60 s without a wake-up on every backend", idle.measure, True),
    Row(35, "flakiness", "20 runs in random order under load, 0 flaky", flakiness.measure),
)
