"""What every test gets: a fresh binding, a leak check, a watchdog, strict mode.

Fixtures for all rooms: ``trace`` records an order; ``backend`` runs the test once per backend of
ae_core's own table; ``unbound`` lets the test choose or detect by itself. Every other test begins
with the thread bound to a fresh built-in loop.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

os.environ.setdefault("AE_STRICT", "1")  # read at the first detection

import ae_core as ae
from ae_core._backends._table import BACKENDS, BackendSpec
from ae_core.testing import LeakCheck, Trace, release

try:
    from hypothesis import settings
except ImportError:
    pass
else:
    settings.register_profile("ae", deadline=None, print_blob=True)
    settings.load_profile("ae")

#: Seconds after which a test is a hang: all stacks are printed and the run ends.
HANG = 120.0

_failed = pytest.StashKey[bool]()
_stderr = pytest.StashKey[int]()

# Backends are one row each in the table; these options make other loops of them.
VARIANTS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "loop": [
        ("loop", {}),
        ("loop-poll", {"multiplexer": "poll"}),
        ("loop-select", {"multiplexer": "select"}),
    ],
}


# ---------------------------------------------------------------------- options


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ae_core", "event loop backends")
    group.addoption(
        "--backend",
        metavar="NAME",
        help="run the tests that need a backend on this one only, even if it owns the process",
    )
    group.addoption(
        "--require-backends",
        metavar="A,B",
        default="",
        help="fail where one of these backends would be skipped",
    )


def required(config: pytest.Config) -> set[str]:
    """Return the names given to ``--require-backends``."""
    return {name for name in config.getoption("--require-backends").split(",") if name}


def pytest_configure(config: pytest.Config) -> None:
    known = {spec.name for spec in BACKENDS}
    chosen = config.getoption("--backend")
    for name in required(config) | ({chosen} if chosen else set()):
        if name not in known:
            raise pytest.UsageError(f"unknown backend {name!r}, expected one of {sorted(known)}")
    # output is not captured yet
    config.stash[_stderr] = os.dup(sys.__stderr__.fileno() if sys.__stderr__ else 2)


def pytest_unconfigure(config: pytest.Config) -> None:
    fd = config.stash.get(_stderr, -1)
    if fd != -1:
        del config.stash[_stderr]
        os.close(fd)


# ---------------------------------------------------------------------- every test


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    faulthandler.dump_traceback_later(HANG, exit=True, file=item.config.stash[_stderr])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: Any = yield
    if report.failed:
        item.stash[_failed] = True
    return report


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a watcher, a descriptor, a thread or a child behind."""
    release()
    if not {"backend", "unbound"}.intersection(request.fixturenames):
        ae.detect()
    check = LeakCheck()
    yield
    if request.node.stash.get(_failed, False):
        release()  # the traceback of its failure keeps things alive
        return
    watchers = check.watchers()
    release()
    left = [*watchers, *check.left()]
    if left:
        pytest.fail("left behind: " + "; ".join(left), pytrace=False)


# ---------------------------------------------------------------------- fixtures


@pytest.fixture
def unbound() -> None:
    """Begin without a loop: the test calls ``use()``, or is about detection."""


@pytest.fixture
def trace() -> Trace:
    """Record an order: ``trace("fired")``; ``trace.run_until(2)``; ``trace == [...]``."""
    return Trace()


def missing(spec: BackendSpec) -> str | None:
    """Return why a backend cannot run here, or None."""
    if spec.library is not None and find_spec(spec.library.partition(".")[0]) is None:
        return f"backend {spec.name!r} needs {spec.package or spec.library}"
    return None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each backend, and each variant of it, where a test asks for ``backend``."""
    if "backend" not in metafunc.fixturenames:
        return
    chosen = metafunc.config.getoption("--backend")
    parameters = []
    for spec in BACKENDS:
        if spec.name != chosen and (chosen or spec.exclusive):
            continue  # tests/core/test_exclusive.py gives those a process of their own
        why = missing(spec)
        marks = []
        if why is not None and spec.name not in required(metafunc.config):
            marks.append(pytest.mark.skip(reason=why))
        for name, options in VARIANTS.get(spec.name, [(spec.name, {})]):
            parameters.append(pytest.param((spec.name, options), id=name, marks=marks))
    metafunc.parametrize("backend", parameters, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> ae.abc.Backend:
    """Bind the thread to one backend; the test runs once for each."""
    name, options = request.param
    ae.use(name, **options)
    return ae.detect()
