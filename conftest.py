"""What every test gets, those of the examples included: a fresh binding, a leak check, a watchdog.

Fixtures for all rooms: ``trace`` records an order; ``backend`` runs the test once per backend of
ae_core's own table; ``unbound`` lets the test choose or detect by itself. Every other test begins
with the thread bound to a fresh built-in loop. Strict mode is on.

Loops, their variants and leaks are ae-core's own plugin's (``ae_core_pytest``), whose fixture
``ae_loop`` may be used as well.

A backend that owns the process is tested in a child: ``in_own_process(spec, PATH ...)`` in a test
runs PATH there, with ``--backend NAME``; ``-m each_backend`` selects what asks for a backend.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import count as count_up
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

import pytest

os.environ.setdefault("AE_STRICT", "1")  # read at the first detection
os.environ.setdefault("AE_STRICT_SLOW", "60")  # the machine may be busy

import ae_core as ae
from ae_core._base.thread_identity import sleep as real_sleep
from ae_core._detection.table import BACKENDS, BackendSpec
from ae_core._loop.deadlock import _other_threads
from ae_core.strict import _watchdog
from ae_core.testing import LeakCheck, LoopChoice, Trace, loop_choices, release

try:
    from hypothesis import settings
except ImportError:
    pass
else:
    settings.register_profile("ae", deadline=None, print_blob=True)
    settings.load_profile("ae")

pytest_plugins = ["ae_core_pytest"]  # also where the environment is older than its entry point

#: Seconds after which a test is a hang (``--hang``): all stacks are printed and the run ends.
HANG = 120.0
#: Warnings are errors, but for one: 3.15 raises it in the parent, and the child lives.
STRICT = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")

_stderr = pytest.StashKey[int]()
_costs = pytest.StashKey[list[str]]()

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
    group.addoption(
        "--require-programs",
        metavar="A,B",
        default=os.environ.get("REQUIRE_PROGRAMS", ""),
        help="fail where a test would be skipped for a reason that begins with one of these; "
        "else what REQUIRE_PROGRAMS in the environment says",
    )
    group.addoption(
        "--default-loop",
        metavar="ID",
        help="run every test on this loop, called as in the ids of tests, unless it brings its own",
    )

    group.addoption(
        "--scale",
        metavar="N",
        type=int,
        default=1,
        help="make what tests count (queries, objects, cases) so many times as many",
    )
    group.addoption(
        "--hang",
        metavar="SECONDS",
        type=float,
        default=HANG,
        help=f"take a test for a hang after so many seconds instead of {HANG:.0f}: under a tracer",
    )


@pytest.fixture
def scale(request: pytest.FixtureRequest) -> int:
    """So many times the usual number of queries, objects or cases are wanted (``--scale``)."""
    wanted: int = request.config.getoption("--scale")
    return wanted


def required(config: pytest.Config) -> set[str]:
    """Return the names given to ``--require-backends``."""
    return {name for name in config.getoption("--require-backends").split(",") if name}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    """A real server that must be there is no reason to skip (``--require-programs``)."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        wanted = item.config.getoption("--require-programs").split(",")
        if reason.startswith(tuple(name for name in wanted if name)):
            report.outcome = "failed"
            report.longrepr = f"{reason}, and --require-programs wants it"
    return report


def pytest_configure(config: pytest.Config) -> None:
    known = {spec.name for spec in BACKENDS}
    chosen = config.getoption("--backend")
    for name in required(config) | ({chosen} if chosen else set()):
        if name not in known:
            raise pytest.UsageError(f"unknown backend {name!r}, expected one of {sorted(known)}")
    config.addinivalue_line("markers", "blocking: leaves out backends on which recv() cannot wait")
    config.addinivalue_line(
        "markers",
        "each_backend: set on what runs on each backend, here or in a child",
    )
    config.stash[_costs] = []
    # a shell has what it runs in the background ignore SIGINT, and what tests start inherits that
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # output is not captured yet
    config.stash[_stderr] = os.dup(sys.__stderr__.fileno() if sys.__stderr__ else 2)


def pytest_unconfigure(config: pytest.Config) -> None:
    fd = config.stash.get(_stderr, -1)
    if fd != -1:
        del config.stash[_stderr]
        os.close(fd)


# ---------------------------------------------------------------------- cost

#: What a parser's time may grow by when its input is doubled.
DOUBLING: Final = 2.3
#: The size from which a quarter is enough: what is measured is still longer than the clock's step.
LARGE: Final = 1 << 18
#: So many measurements are made before a verdict against the work, at most and at least.
MOST_TRIES: Final = 40
LEAST_TRIES: Final = 6


def cost(make: Callable[[int], Callable[[], object]], size: int, times: int) -> float:
    """Return the processor's seconds that the work for an input of *size* takes, on average."""
    works = [make(size) for _ in range(times)]
    gc.disable()  # no collection before: it would take longer than most works, and changes nothing
    start = time.process_time()
    for work in works:
        work()
    total = time.process_time() - start
    gc.enable()
    return total / times


@pytest.fixture
def doubling(request: pytest.FixtureRequest, scale: int) -> Callable[..., None]:
    """Fail where work takes more than linear time, and note for the summary what it takes.

    ``doubling(make, size)``: ``make(n)`` returns the work for an input of *n*, for an eighth, a
    quarter, a half and all of *size*. Of a large *size* a quarter is enough, but for the scorecard
    (``--scale`` of 4 or more).

    Who passes at the first look has passed: noise makes long measurements longer and short ones
    hardly, so quadratic work, which takes 64 times as long, never looks linear. Linear work may
    look worse when others want the machine. So where there is a doubt each size is measured as
    often as makes the amounts of work equal, again and again, and the least of each counts; it
    ends early where the growth is twice what is allowed.

    ``doubling(make, size, base)``: where there is a doubt, *base*, made as *make* is and measured
    in turn with it, is what Python itself takes for the same input. What it grows by beyond the
    input is not the work's doing, and is divided out, twice the input's growth at most.
    """

    def check(
        make: Callable[[int], Callable[[], object]],
        size: int,
        base: Callable[[int], Callable[[], object]] | None = None,
    ) -> None:
        if size >= LARGE and scale < 4:
            size //= 4
        sizes = [size >> 3, size >> 2, size >> 1, size]
        least = [cost(make, each, 1) for each in sizes]
        own: list[float] = []
        for tries in range(MOST_TRIES):
            grown = least[3] / max(least[0], 0.001)  # less is the clock's own coarseness
            if own:
                grown /= min(2, max(1, own[3] / max(own[0], 0.001) / 8))
            if grown <= DOUBLING**3 or (tries >= LEAST_TRIES and grown > 2 * DOUBLING**3):
                break
            again = [cost(make, each, size // each) for each in sizes]
            least = [min(pair) for pair in zip(least, again, strict=True)] if tries else again
            if base is not None:
                again = [cost(base, each, size // each) for each in sizes]
                own = [min(pair) for pair in zip(own, again, strict=True)] if own else again
        row = "".join(f"{1000 * seconds:10.1f}" for seconds in least)
        if own:
            row += "; Python itself:" + "".join(f"{1000 * seconds:10.1f}" for seconds in own)
        request.config.stash[_costs].append(f"{request.node.name:60} {size:10,}{row}")
        request.node.user_properties.append(("grown", round((grown / 8) ** (1 / 3) * 2, 3)))
        assert grown <= DOUBLING**3, f"ms: {row}"

    return check


@pytest.fixture(scope="session")
def slow_keys() -> Callable[[int], list[int]]:
    """Return a function that makes so many numbers of which a dict is slow.

    One half fills the path on which CPython looks for the others, a few and often, from near its
    beginning.
    """

    def make(count: int) -> list[int]:
        bits = (3 * count // 4 + 50).bit_length()
        mask = (1 << bits) - 1
        path = [1]
        while len(path) < count // 2:
            path.append(5 * path[-1] + 1 & mask)
        where = {slot: index for index, slot in enumerate(path)}
        late: list[int] = []
        for high in count_up(1):
            for start in path[: len(path) // 4 : 7]:
                slot, perturb = start, high << bits | start
                while slot in where and perturb >> 5:
                    perturb >>= 5
                    slot = 5 * slot + perturb + 1 & mask
                if where.get(slot, len(path)) < len(path) // 4:
                    late.append(high << bits | start)
            if len(late) >= 20:
                break
        return path + late[:20] * (count // 40)

    return make


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print what the tests of costs have measured."""
    if rows := config.stash.get(_costs, []):
        terminalreporter.section("cost: ms at 1/8, 1/4, 1/2 and all of the input")
        for row in rows:
            terminalreporter.write_line(row)


# ---------------------------------------------------------------------- every test


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    # a child that runs tests looks after each of them itself; who counts more takes longer
    longer = "in_own_process" in getattr(item, "fixturenames", ())
    longer = longer or item.config.getoption("--scale") > 1
    hang = item.config.getoption("--hang") * (20 if longer else 1)
    faulthandler.dump_traceback_later(hang, exit=True, file=item.config.stash[_stderr])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session")
def warm_uvloop() -> None:
    """Have uvloop open the pipe that its first loop opens and that stays."""
    if find_spec("uvloop") is not None:
        import_module("uvloop").new_event_loop().close()


def default_loop(config: pytest.Config) -> LoopChoice:
    """Return the loop of tests that do not bring their own."""
    wanted = config.getoption("--default-loop") or "loop"
    return next(each for each in loop_choices() if wanted in (each.id, each.backend))


def watched() -> set[tuple[int, str]]:
    """Return the descriptors that are watched in any loop of the process, and by whom."""
    known = _watchdog._known.copy()
    return {(fd, each.site) for fd, each in known.items() if each.active()}


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a watcher, a descriptor, a thread or a child behind."""
    from ae_core_pytest import has_failed  # not before pytest has loaded it

    release()
    if "backend" in request.fixturenames:
        request.node.callspec.params["backend"].warm_up()
    elif "unbound" not in request.fixturenames:
        # not by detection, which finds what an earlier test has loaded
        choice = default_loop(request.config)
        choice.warm_up()
        ae.use(choice.backend, **choice.options())
        ae.detect()
    # a fixture of wider scope must not keep a thread: no wait would be in vain beside it. One that
    # ends, or begins to rest, takes its time.
    for _ in range(1000):
        if not _other_threads():
            break
        real_sleep(0.01)
    assert not _other_threads(), f"threads before the test: {threading.enumerate()}"
    check = LeakCheck()
    before = watched()
    hooks = sys.get_asyncgen_hooks()
    yield
    if has_failed(request.node):
        release()  # the traceback of its failure keeps things alive
        return
    watchers = check.watchers()
    release()
    left = [*watchers, *check.left()]
    if sys.get_asyncgen_hooks() != hooks:
        left.append(f"hooks of asynchronous generators: {sys.get_asyncgen_hooks()}")
        sys.set_asyncgen_hooks(*hooks)
    if watched() - before:
        gc.collect()  # the loop of a thread that has ended goes with its last reference
        left += [f"a watcher of fd {fd}, by {site}" for fd, site in watched() - before]
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


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., str]:
    """Run a program in a fresh interpreter, without ``AE_*`` variables, and return its output.

    ``script(code, status=0, **environment)``; what it prints to stderr is part of the output.
    """

    def run(code: str, *, status: int = 0, **environment: str) -> str:
        file = tmp_path / "program.py"
        file.write_text(dedent(code))
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AE_")}
        done = subprocess.run(
            [sys.executable, *STRICT, str(file)],
            check=False,
            env={**clean, "PYTHONFAULTHANDLER": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=HANG / 2,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    return run


#: Runs "$@" on a virtual screen, and says and ends as that does: xvfb-run complains and ends
#: otherwise where it cannot remove its folder, which happens. It uses descriptor 3 itself.
ON_A_SCREEN: Final = r"""
file=$(mktemp)
xvfb-run -a sh -c '"$@" 2>&7; echo $? >"$0"' "$file" "$@" 7>&2 2>"$file.said"
read -r status <"$file" || cat "$file.said" >&2
rm "$file" "$file.said"
exit "${status:-1}"
"""


@pytest.fixture(scope="session")
def screen() -> list[str]:
    """What stands before a command that needs a screen, and ends as that does, as a shell says."""
    if shutil.which("xvfb-run") is None:
        pytest.skip("xvfb-run is not installed")
    return ["sh", "-c", ON_A_SCREEN, "sh"]


@pytest.fixture
def in_own_process(pytestconfig: pytest.Config) -> Callable[..., None]:
    """Run tests in a child, on a backend that may own the process: ``(spec, *arguments)``.

    Where the library is missing and not required, or the child skips everything, so is the test.
    """

    def run(spec: BackendSpec, *arguments: str) -> None:
        if pytestconfig.getoption("--backend"):
            pytest.skip("this is such a process")
        if missing(spec.library) and spec.name not in required(pytestconfig):
            pytest.skip(f"backend {spec.name} needs {spec.library}, which is not installed")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
        command += [f"--backend={spec.name}", *arguments]
        command += ["--require-backends", pytestconfig.getoption("--require-backends")]
        done = subprocess.run(
            command,
            check=False,
            cwd=pytestconfig.rootpath,
            env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode == 0 and " passed" not in done.stdout:
            lines = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
            pytest.skip(lines[0] if lines else f"nothing was run: {done.stdout[-200:]}")
        assert done.returncode == 0, done.stdout[-10_000:]

    return run


def missing(library: str | None) -> bool:
    """Return whether *library* cannot be imported."""
    return library is not None and find_spec(library.partition(".")[0]) is None


def backend_parameters(config: pytest.Config, *, blocking: bool) -> list[Any]:
    """Return a parameter for each backend and variant that this run is about."""
    chosen = config.getoption("--backend")
    only = config.getoption("--default-loop")
    parameters = []
    for choice in loop_choices():
        if choice.backend != chosen and (chosen or choice.exclusive):
            continue  # tests/core/backends/test_exclusive.py gives those a process of their own
        if (blocking and not choice.blocking) or (only and choice.id != only):
            continue
        marks: list[pytest.MarkDecorator] = [pytest.mark.each_backend]
        if choice.missing and choice.backend not in required(config):
            needs = ", ".join(choice.missing)
            why = f"backend {choice.id} needs {needs}, which is not installed"
            marks.append(pytest.mark.skip(reason=why))
        parameters.append(pytest.param(choice, id=choice.id, marks=marks))
    return parameters


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "in_own_process" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.each_backend)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each backend, and each variant of it, where a test asks for ``backend``."""
    if "backend" in metafunc.fixturenames:
        blocking = metafunc.definition.get_closest_marker("blocking") is not None
        parameters = backend_parameters(metafunc.config, blocking=blocking)
        metafunc.parametrize("backend", parameters, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> ae.abc.Backend:
    """Bind the thread to one backend; the test runs once for each."""
    choice = request.param
    ae.use(choice.backend, **choice.options())
    return ae.detect()
