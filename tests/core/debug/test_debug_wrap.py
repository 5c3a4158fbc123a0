"""Wrapped watchers: DEBUG-01 to DEBUG-09, B41."""

from __future__ import annotations

import functools
import gc
import re
import socket
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ae_core as ae
from ae_core import debug, logs
from ae_core._base import describe
from ae_core.debug import _wrap

pytestmark = pytest.mark.usefixtures("fresh_logs")
HERE = __name__


_first = 0


@pytest.fixture(autouse=True)
def wrapping() -> Iterator[None]:
    global _first
    _first = next(_wrap._ids)
    debug.wrap(1)
    yield
    debug.wrap(0)
    _wrap.trace_new(True)


def nothing() -> None:
    """A callback."""


def ours() -> list[debug.WrappedWatcher]:
    """The watchers of this test; a traceback may keep one of an earlier test alive."""
    return [watcher for watcher in debug.watchers() if watcher.id > _first]


# Switching


def test_level_is_returned_and_toggled() -> None:
    assert debug.wrap(0) == 0
    assert debug.wrap() == 1
    assert debug.wrap() == 0
    assert debug.wrap(2) == 2
    assert debug.wrap() == 0


@pytest.mark.parametrize("level", [3, -1, "1", 1.0, True, [], "x"])
def test_other_levels_are_refused_and_change_nothing(level: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(f"expected 0, 1 or 2, got {level!r}")):
        debug.wrap(level)
    assert debug.wrap(1) == 1


def test_only_later_watchers_are_wrapped() -> None:
    debug.wrap(0)
    before = ae.timer(1, nothing)
    debug.wrap(1)
    wrapped = ae.timer(1, nothing)
    debug.wrap(0)
    after = ae.timer(1, nothing)
    assert not isinstance(before, debug.WrappedWatcher)
    assert not isinstance(after, debug.WrappedWatcher)
    assert ours() == [wrapped]


@pytest.mark.parametrize("value", ["1", "2"])
def test_environment_wraps_the_first_watcher(value: str, python: Any) -> None:
    done = python(
        "import ae_core as ae\nw = ae.timer(1, print)\nprint(w, bool(w.backtrace))\n",
        AE_DEBUG_WRAP=value,
    )
    assert done.stdout == f"__main__:2(<module>)>timer>builtins.print {value == '2'}\n"


@pytest.mark.parametrize("value", ["3", "yes", "-1"])
def test_malformed_level_is_named_and_means_no(value: str, python: Any, unstamped: Any) -> None:
    done = python(
        "import ae_core as ae\nw = ae.timer(1, print); print(type(w).__name__)\n",
        AE_DEBUG_WRAP=value,
    )
    assert "Wrapped" not in done.stdout
    assert unstamped(done.stderr) == (
        f"warn  ae_core: AE_DEBUG_WRAP ({value}): not understood: {value!r} at position 1\n"
    )


# What is remembered


def test_watcher_knows_where_it_comes_from() -> None:
    one, two = socket.socketpair()
    with one, two:
        line = sys._getframe().f_lineno + 1
        watcher: Any = ae.io(one, "r", nothing)
        assert str(watcher) == (
            f"{HERE}:{line}(test_watcher_knows_where_it_comes_from)>io>{HERE}.nothing"
        )
        assert (watcher.type, watcher.kind, watcher.module) == ("io", "io", HERE)
        assert (watcher.line, watcher.function) == (
            line,
            "test_watcher_knows_where_it_comes_from",
        )
        assert watcher.callback == f"{HERE}.nothing"
        assert "direction='r'" in watcher.args
        assert f"fd={one.fileno()}" in watcher.args
        assert (watcher.calls, watcher.time_sum, watcher.time_max) == (0, 0.0, 0.0)
        assert (watcher.parent, watcher.errors, watcher.backtrace) == ("", [], "")
        assert watcher.trace is True
        assert watcher.created <= ae.time()
        assert repr(watcher) == f"<WrappedWatcher {watcher.id} {watcher}>"
        watcher.cancel()


@pytest.mark.parametrize("kind", ["io", "timer", "signal", "child", "idle"])
def test_every_kind_is_wrapped_and_works_as_ever(
    kind: str, backend: Any, exits: Callable[[int], int]
) -> None:
    one, two = socket.socketpair()

    def make(done: Callable[..., object]) -> Any:
        if kind == "io":
            return ae.io(one, "w", done)
        if kind == "timer":
            return ae.timer(0, done)
        if kind == "signal":
            return ae.signal("INT", done)
        if kind == "child":
            return ae.child(exits(0), done)
        return ae.idle(done)

    async def main() -> Any:
        done = ae.CondVar[Any]()

        def callback(*args: int) -> None:
            done(*args)

        watcher = make(callback)
        assert isinstance(watcher, debug.WrappedWatcher)
        assert watcher.type == kind
        inside = watcher.active
        assert inside
        if kind == "signal":
            import signal

            signal.raise_signal(signal.SIGINT)
        await done
        assert watcher.calls >= 1
        watcher.cancel()
        assert not watcher.active
        if kind != "child":
            with make(callback) as entered:
                inside = entered.active
            assert inside
            assert not entered.active

    ae.run(main())
    one.close()
    two.close()


def test_calls_and_time_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.5, 10.0, 10.25, 20.0, 23.0])
    monkeypatch.setattr(_wrap, "perf_counter", lambda: next(clock))
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1
        if count == 3:
            watcher.cancel()
            done.send()

    done = ae.CondVar[None]()
    watcher: Any = ae.timer(0, tick, interval=0.001)
    done.recv()
    assert (watcher.calls, watcher.time_sum, watcher.time_max) == (3, 3.75, 3.0)


def test_raising_callback_is_recorded_logged_and_the_loop_goes_on(
    shown: Callable[[], str],
) -> None:
    count = 0

    def fail() -> None:
        nonlocal count
        count += 1
        if count == 12:
            done.send()
        raise LookupError(f"number {count}")

    done = ae.CondVar[None]()
    watcher: Any = ae.timer(0, fail, interval=0.001)
    done.recv()
    watcher.cancel()
    assert watcher.calls == 12
    assert [text for _, text in watcher.errors] == [
        f"LookupError: number {n}" for n in range(1, 11)
    ]
    assert all(isinstance(when, float) for when, _ in watcher.errors)
    text = shown()
    assert text.count("Traceback") == 12
    assert str(watcher) in text
    assert "LookupError: number 12" in text
    ae.sleep(0).recv()


def test_exception_hook_gets_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[BaseException] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: seen.append(error))
    watcher: Any = ae.timer(0, lambda: 1 // 0)
    ae.sleep(0.001).recv()
    (error,) = seen
    assert isinstance(error, ZeroDivisionError)
    assert len(watcher.errors) == 1


def test_keyboard_interrupt_is_no_error_of_the_watcher() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    watcher: Any = ae.timer(0, interrupt)
    with pytest.raises(KeyboardInterrupt):
        ae.CondVar[None]().recv(60)
    assert watcher.errors == []


def test_error_without_a_text_is_recorded_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def fail() -> None:
        raise Mute

    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: None)
    watcher: Any = ae.timer(0, fail)
    ae.sleep(0.001).recv()
    assert watcher.errors[0][1] == "Mute: <no text: RuntimeError>"


def test_parent_is_the_watcher_in_whose_callback_it_was_made() -> None:
    children: list[Any] = []

    def make() -> None:
        children.append(ae.timer(0, make_grandchild))

    def make_grandchild() -> None:
        children.append(ae.timer(60, nothing))
        done.send()

    done = ae.CondVar[None]()
    watcher = ae.timer(0, make)
    done.recv()
    child, grandchild = children
    assert child.parent == str(watcher)
    assert grandchild.parent == str(child)
    late: Any = ae.timer(60, nothing)
    assert late.parent == ""


def test_second_level_keeps_the_stack_with_arguments() -> None:
    def maker(number: int, text: str, thing: object) -> Any:
        return ae.timer(1, nothing)

    debug.wrap(2)
    watcher = maker(7, "bell \x07 and\nnewline", object())
    lines = watcher.backtrace.splitlines()
    assert lines[0].startswith(f"{HERE} line ")
    assert (
        "maker(number=7, text='bell \\x07 and\\nnewline', thing=<builtins.object at 0x" in lines[0]
    )
    assert "test_second_level_keeps_the_stack_with_arguments()" in lines[1]
    assert watcher.backtrace.isprintable() or "\x07" not in watcher.backtrace
    assert "created at\n" + watcher.backtrace in watcher.verbose()


def test_creation_site_is_outside_our_packages() -> None:
    namespace = {"__name__": "ae_handle._handle", "ae": ae, "nothing": nothing}
    exec("def connect(): return ae.timer(1, nothing)", namespace)
    line = sys._getframe().f_lineno + 1
    watcher: Any = namespace["connect"]()  # type: ignore[operator]
    assert (watcher.module, watcher.line) == (HERE, line)


def test_watcher_of_ours_alone_is_given_to_the_outermost_frame() -> None:
    frame = describe.caller()
    assert frame.f_globals["__name__"] == HERE


class Called:
    def method(self) -> None:
        """A method."""

    def __call__(self) -> None:
        """An object that can be called."""


@pytest.mark.parametrize(
    ("callback", "text"),
    [
        (nothing, f"{HERE}.nothing"),
        (Called().method, f"{HERE}.Called.method"),
        (functools.partial(nothing), f"{HERE}.nothing"),
        (functools.partial(functools.partial(Called().method)), f"{HERE}.Called.method"),
        (print, "builtins.print"),
        ([].append, "list.append"),
        ("x".join, "str.join"),
        (7, "7"),
        ("long" * 100, "'" + "long" * 24 + "lon..."),
    ],
)
def test_callback_text(callback: Any, text: str) -> None:
    assert describe.callback_text(callback) == text


def test_lambda_is_named_by_its_place() -> None:
    function = lambda: None  # noqa: E731
    line = function.__code__.co_firstlineno
    assert describe.callback_text(function) == f"{HERE}:{line}"


def test_object_is_named_by_its_class_and_not_asked() -> None:
    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError("do not ask")

        def __call__(self) -> None:
            """Called."""

    assert "Shy at 0x" in describe.callback_text(Shy())
    watcher: Any = ae.timer(1, Shy())
    assert "Shy at 0x" in str(watcher)


# Lifetime


def test_registry_is_weak_and_dropping_cancels() -> None:
    class Owner:
        def callback(self) -> None:
            """Called."""

    owner = Owner()
    gone = weakref.ref(owner)
    watcher: Any = ae.timer(60, owner.callback)
    number = watcher.id
    assert watcher in debug.watchers()
    assert _wrap.wrapped(number) is watcher
    del watcher, owner
    assert gone() is None
    assert _wrap.wrapped(number) is None
    assert ours() == []


@pytest.mark.parametrize("end", ["cancel", "call"])
def test_callback_is_let_go_as_without_wrapping(end: str) -> None:
    class Owner:
        def __init__(self) -> None:
            self.watcher = ae.timer(60 if end == "cancel" else 0, self.callback)

        def callback(self) -> None:
            """Called."""

    owner = Owner()
    gone = weakref.ref(owner)
    watcher = owner.watcher
    if end == "cancel":
        watcher.cancel()
    else:
        ae.sleep(0.001).recv()
    gc.disable()
    try:
        del owner
        assert gone() is None
    finally:
        gc.enable()
    assert not watcher.active


def test_watchers_are_listed_in_order_of_creation_and_hold_no_frames() -> None:
    class Big:
        """A local that must not be kept alive by what looks at the stack."""

    def make() -> Any:
        local = Big()
        refs.append(weakref.ref(local))
        return ae.timer(60, nothing)

    refs: list[Any] = []
    debug.wrap(2)
    watchers = [make() for _ in range(5)]
    assert ours() == watchers
    assert sorted(watcher.id for watcher in watchers) == [watcher.id for watcher in watchers]
    gc.collect()
    assert [ref() for ref in refs] == [None] * 5


def test_equal_to_nothing_but_itself() -> None:
    one, two = ae.timer(1, nothing), ae.timer(1, nothing)
    assert one != two
    assert one == one
    assert len({one, two}) == 2


# Tracing


def test_life_is_traced_at_level_trace(shown: Callable[[], str]) -> None:
    watcher: Any = ae.timer(0, nothing)
    text = str(watcher)
    ae.sleep(0.001).recv()
    del watcher
    assert shown() == ""
    logs.FILTER.level("trace")
    watcher = ae.timer(0, nothing)
    text = str(watcher)
    ae.sleep(0.001).recv()
    watcher.trace = False
    del watcher
    assert shown().splitlines() == [
        f"trace ae_core.debug: {what} {text}" for what in ("creat", "enter", "leave")
    ]
    watcher = ae.timer(60, nothing)
    text = str(watcher)
    del watcher
    assert shown().splitlines() == [
        f"trace ae_core.debug: {what} {text}" for what in ("creat", "dstry")
    ]
    _wrap.trace_new(False)
    watcher = ae.timer(0, nothing)
    assert watcher.trace is False
    ae.sleep(0.001).recv()
    assert shown() == ""


def test_verbose_tells_all() -> None:
    watcher: Any = ae.timer(60, nothing, interval=2.5)
    lines = watcher.verbose().splitlines()
    assert lines[0] == "type:     timer watcher"
    assert lines[1] == "args:     after=60 interval=2.5"
    assert "called:   0 times" in lines
    assert "errors:   0" in lines
    assert "parent:   -" in lines
    watcher.cancel()
    assert watcher.verbose().startswith("type:     timer watcher (inactive)\n")


def test_wrapping_does_not_hide_mistakes_from_strict_mode() -> None:
    from ae_core import strict

    before = strict.enabled()
    strict.enable()
    try:
        with pytest.raises(TypeError, match="expected a callable, got 'x'"):
            ae.timer(1, "x")  # type: ignore[arg-type]
        with pytest.warns(strict.StrictWarning):
            ae.timer(1, nothing)
        debug.wrap(0)
        debug.wrap(1)
        with pytest.warns(strict.StrictWarning):
            ae.timer(1, nothing)
    finally:
        if not before:
            strict.disable()


def test_wrapping_does_not_hide_mistakes_without_strict_mode() -> None:
    from ae_core import strict

    before = strict.enabled()
    strict.disable()
    debug.wrap(1)
    gc.collect()  # watchers that tracebacks of other tests hold
    try:
        with pytest.raises(TypeError, match="'x'"):
            ae.timer(1, "x")  # type: ignore[arg-type]
        assert debug.watchers() == []
    finally:
        debug.wrap(0)
        if before:
            strict.enable()
