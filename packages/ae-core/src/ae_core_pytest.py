"""The pytest plugin of ae-core: tests on any loop, virtual time, leaks as failures.

``async def test_...`` runs on each chosen loop if it is marked ``ae``, or everywhere with ``ae_mode
= auto``; a test that asks for the fixture ``ae_loop`` does, too. See the page "Test with pytest".

A module of its own, outside of ae_core, and without an import of ours before a test needs one:
pytest loads it in every environment that has ae-core installed, for all projects there.
"""

from __future__ import annotations

__all__ = ("ae_errors", "ae_loop", "ae_virtual_time", "has_failed")

import functools
import inspect
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from ae_core.abc import Backend
    from ae_core.testing import LoopChoice, VirtualBackend

_MODES: Final = ("strict", "auto")
_LEAKS: Final = ("error", "ignore")
#: Marks by which other plugins claim an ``async def`` for themselves.
_OTHERS: Final = ("anyio", "asyncio", "trio", "twisted")
_failed = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options and the settings."""
    group = parser.getgroup("ae", "event loops of ae-core")
    group.addoption(
        "--ae-loops",
        metavar="A,B",
        help="run the tests of ae-core's plugin on these loops, or on 'all' that are installed",
    )
    group.addoption(
        "--ae-require",
        metavar="A,B",
        default="",
        help="fail where a test would be skipped since one of these loops is not installed",
    )
    parser.addini("ae_loops", "the loops to run tests on, or 'all'", type="args", default=["loop"])
    parser.addini("ae_mode", "'auto' runs every 'async def' test, 'strict' those marked 'ae'")
    parser.addini("ae_leaks", "'error' fails a test that leaves something behind, or 'ignore'")


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark and check the settings."""
    config.addinivalue_line(
        "markers",
        "ae(loops=None, leaks=None): run the test on ae-core's loops; loops: which, as a list of "
        "names or 'all'; leaks: 'error' or 'ignore' what it leaves behind",
    )
    for name, words in (("ae_mode", _MODES), ("ae_leaks", _LEAKS)):
        value = config.getini(name) or words[0]
        if value not in words:
            raise pytest.UsageError(f"{name}: expected one of {', '.join(words)}, got {value!r}")


# ---------------------------------------------------------------------- coroutine functions


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> list[Any] | None:
    """Make a plain function of an ``async def`` test that is ours.

    So no other plugin takes it for one of its own, whatever that one's mode is.
    """
    if not inspect.iscoroutinefunction(obj) or not collector.istestfunction(obj, name):
        return None
    marks = {mark.name for mark in getattr(obj, "pytestmark", [])}
    marks |= {mark.name for mark in collector.iter_markers()}
    if "ae" not in marks and (
        collector.config.getini("ae_mode") != "auto" or not marks.isdisjoint(_OTHERS)
    ):
        return None

    @pytest.mark.usefixtures("ae_loop")
    @functools.wraps(obj)
    def run(*arguments: Any, **named: Any) -> None:
        import ae_core as ae

        ae.run(obj(*arguments, **named))

    vars(run)["ae_coroutine"] = True
    setattr(collector.obj, name, run)
    items: list[Any] = list(collector._genfunctions(name, getattr(collector.obj, name)))
    return items


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: Any) -> object | None:
    """Run an ``async def`` fixture of a test that is ours on the test's loop."""
    function: Any = fixturedef.func
    is_generator = inspect.isasyncgenfunction(function)
    if not (is_generator or inspect.iscoroutinefunction(function)):
        return None
    if "ae_loop" not in getattr(request, "fixturenames", ()):
        return None
    name = fixturedef.argname
    if request.scope != "function":
        raise pytest.UsageError(f"fixture {name!r}: an async fixture has the scope 'function'")
    import ae_core as ae

    backend = request.getfixturevalue("ae_loop")
    if backend.own_run:
        raise pytest.UsageError(
            f"fixture {name!r}: an async fixture needs a loop that goes on between two runs, "
            f"and {backend.name} has none; open it in the test"
        )
    values = {each: request.getfixturevalue(each) for each in fixturedef.argnames}
    if request.instance is not None:
        function = function.__get__(request.instance)
    if is_generator:
        generator = function(**values)
        value: object = ae.run(anext(generator))

        def finish() -> None:
            if ae.run(anext(generator, generator)) is not generator:
                pytest.fail(f"fixture {name!r} yielded more than once", pytrace=False)

        request.addfinalizer(finish)
    else:
        value = ae.run(function(**values))
    fixturedef.cached_result = (value, fixturedef.cache_key(request), None)
    return value if value is not None else True


# ---------------------------------------------------------------------- which loops


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for ``ae_loop`` once for each loop that is wanted."""
    names = metafunc.fixturenames
    if "ae_virtual_time" in names:
        metafunc.parametrize("ae_loop", ["virtual"], indirect=True)
    elif "ae_loop" in names:
        mark = metafunc.definition.get_closest_marker("ae")
        wanted = mark.kwargs.get("loops") if mark is not None else None
        can_wait = hasattr(metafunc.function, "ae_coroutine")
        parameters = loop_parameters(metafunc.config, wanted, blocking=not can_wait)
        metafunc.parametrize("ae_loop", parameters, indirect=True)


def loop_parameters(
    config: pytest.Config, wanted: str | list[str] | None = None, *, blocking: bool = False
) -> list[Any]:
    """Return a parameter of ``ae_loop`` for each loop that is wanted.

    Args:
        config: Of pytest; its options are asked if *wanted* is None.
        wanted: Names of loops or backends, or ``all`` that can share a process.
        blocking: Leave out the loops on which ``recv()`` cannot wait.
    """
    from ae_core.testing import loop_choices

    choices = loop_choices()
    option = config.getoption("--ae-loops")
    if option:
        wanted = option.split(",")
    elif wanted is None:
        wanted = config.getini("ae_loops")
    assert wanted is not None
    names = {wanted} if isinstance(wanted, str) else set(wanted)
    required = set(filter(None, str(config.getoption("--ae-require")).split(",")))
    ids = {choice.id for choice in choices}
    known = {"all", *ids, *(choice.backend for choice in choices)}
    if unknown := sorted((names | required) - known):
        raise pytest.UsageError(f"unknown loop {unknown[0]!r}, expected one of {sorted(known)}")

    def is_in(choice: LoopChoice, some: set[str]) -> bool:
        # the name of a backend means its only or first loop, or all where none is called so
        return choice.id in some or (choice.backend not in ids and choice.backend in some)

    def parameter(choice: LoopChoice) -> Any:
        marks = []
        if choice.missing and not is_in(choice, required):
            why = f"loop {choice.id} needs {', '.join(choice.missing)}, which is not installed"
            marks.append(pytest.mark.skip(reason=why))
        return pytest.param(choice, id=choice.id, marks=marks)

    return [
        parameter(choice)
        for choice in choices
        if is_in(choice, names) or ("all" in names and not choice.exclusive and not choice.missing)
        if choice.blocking or not blocking
    ]


# ---------------------------------------------------------------------- fixtures


@pytest.fixture
def ae_errors() -> list[BaseException]:
    """What callbacks raised and nothing handled. A test that asks for it checks it itself."""
    return []


@pytest.fixture
def ae_loop(request: pytest.FixtureRequest, ae_errors: list[BaseException]) -> Iterator[Backend]:
    """Bind the test to a fresh loop, one test for each that is wanted.

    At the end the test fails if it has left a watcher, an operation, a descriptor, a thread or a
    child process behind, or if a callback raised something that nothing handled.
    """
    import ae_core as ae
    from ae_core.testing import LeakCheck, VirtualBackend, binding

    choice: Any = getattr(request, "param", None)
    if choice is None:
        raise pytest.UsageError("ask for ae_loop in the test's or a fixture's parameters")
    if choice == "virtual":
        bound = binding(VirtualBackend)
    else:
        choice.warm_up()
        bound = binding(choice.backend, **choice.options())
    hook = ae.exception_hook

    def collect(error: BaseException, watcher: object) -> None:
        ae_errors.append(error)

    with bound as backend:
        assert backend is not None
        check = LeakCheck()
        ae.exception_hook = collect
        try:
            yield backend
        finally:
            if ae.exception_hook is collect:
                ae.exception_hook = hook
        left: list[str] = []
        if not has_failed(request.node) and _watches_leaks(request.node):
            left = check.left()
    if has_failed(request.node):
        return
    if left:
        pytest.fail("left behind: " + "; ".join(left), pytrace=False)
    if ae_errors and "ae_errors" not in inspect.signature(request.function).parameters:
        raise BaseExceptionGroup("raised in callbacks, and not handled", ae_errors)


@pytest.fixture
def ae_virtual_time(ae_loop: VirtualBackend) -> VirtualBackend:
    """Bind the test to a loop on virtual time: an hour's timeouts take a millisecond."""
    return ae_loop


def _watches_leaks(item: pytest.Item) -> bool:
    mark = item.get_closest_marker("ae")
    wanted = mark.kwargs.get("leaks") if mark is not None else None
    return (wanted or item.config.getini("ae_leaks") or "error") == "error"


def has_failed(item: pytest.Item) -> bool:
    """Return whether a test has failed so far, for fixtures that look for what it left behind.

    The traceback of its failure keeps things alive, so there is nothing to be learnt from them.
    """
    return item.stash.get(_failed, False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Note that a test has failed: the traceback of its failure keeps things alive."""
    report = yield
    if report.failed:
        item.stash[_failed] = True
    return report
