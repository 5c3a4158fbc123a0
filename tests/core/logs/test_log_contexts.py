"""Contexts and loggers: LOG-09 to LOG-18, LOG-21, LOG-22; B37."""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import threading
from typing import Any

import pytest

from ae_core import logs
from ae_core._base.log import log, logger

pytestmark = pytest.mark.usefixtures("fresh_logs")


def test_context_is_that_of_the_calling_module() -> None:
    assert logs.ctx() is logs.ctx(__name__)
    assert logs.ctx().title == __name__
    assert logs.ctx(logs.ctx("a")) is logs.ctx("a")
    assert logs.ctx(None) is not logs.ctx(None)
    assert logs.ctx(None).title == "anonymous"


def test_module_without_a_name_logs_as_main(shown: Any) -> None:
    exec("log('error', 'x')", {"log": log, "__name__": None})
    assert shown() == "error __main__: x\n"


@pytest.mark.parametrize("name", [1, b"x", ["a"]])
def test_ctx_refuses_what_is_no_name(name: Any) -> None:
    with pytest.raises(TypeError, match="expected a context or its name"):
        logs.ctx(name)


def test_messages_climb_the_dotted_name_and_the_three_roots(shown: Any) -> None:
    seen: list[str] = []

    def spy(name: str) -> Any:
        def record(text: str) -> None:
            seen.append(name)

        return record

    roots = (logs.COLLECT, logs.FILTER)
    for context in (logs.ctx("a.b.c"), logs.ctx("a.b"), logs.ctx("a"), *roots):
        context.log_callback(spy(context.title))
    assert logs.ctx("a.b.c").log("error", "x")
    assert seen == ["a.b.c", "a.b", "a", "ae_core.logs.COLLECT", "ae_core.logs.FILTER"]
    assert shown() == "error a.b.c: x\n"


@pytest.mark.parametrize("name", [".", ".x", "..", "a", "", "a..b"])
def test_odd_names_reach_the_roots_too(name: str, shown: Any) -> None:
    assert logs.ctx(name).log("error", "x")
    assert shown() == f"error {name}: x\n"


def test_level_of_a_parent_counts(shown: Any) -> None:
    logs.ctx("foo").level("crit")
    assert not logs.ctx("foo.bar").log("error", "x")
    assert logs.ctx("foo.bar").log("crit", "y")
    assert shown() == "crit  foo.bar: y\n"


def test_true_value_of_a_callback_consumes_the_message(shown: Any) -> None:
    logs.ctx("a").log_callback(lambda text: True)
    assert logs.ctx("a").log("error", "x") is True
    assert shown() == ""


def test_diamond_and_cycle_deliver_once() -> None:
    seen: list[str] = []
    bottom = logs.Context(log_callback=seen.append)
    left, right = logs.Context(attach=bottom), logs.Context(attach=bottom)
    top = logs.Context(attach=[left, right])
    bottom.attach(top, bottom)
    assert top.log("error", "x")
    assert len(seen) == 1


def test_slaves_are_served_in_order_of_attachment() -> None:
    seen: list[str] = []

    def mark(name: str, text: str) -> None:
        seen.append(name)

    names = ["one", "two", "three"]
    slaves = [logs.Context(log_callback=functools.partial(mark, n)) for n in names]
    logs.Context(slaves=slaves).log("error", "x")
    assert seen == names


def levels_of(context: logs.Context) -> list[int]:
    seen: list[int] = []
    context.slaves([]).log_callback(lambda text: None)

    def note(when: float, origin: logs.Context, level: int, text: str) -> str:
        seen.append(level)
        return text

    context.format_callback(note)
    for level in range(2, 10):
        context.log(level, "x")
    return seen


@pytest.mark.parametrize(
    ("calls", "levels"),
    [
        ({}, [2, 3, 4, 5, 6, 7, 8, 9]),
        ({"level": "warn"}, [2, 3, 4, 5]),
        ({"level": 3}, [2, 3]),
        ({"level": 0}, []),
        ({"level": "off"}, []),
        ({"level": "none"}, []),
        ({"level": "0"}, []),
        ({"level": "all"}, [2, 3, 4, 5, 6, 7, 8, 9]),
        ({"levels": ["error", "debug"]}, [4, 8]),
        ({"levels": ["all"]}, [2, 3, 4, 5, 6, 7, 8, 9]),
        ({"levels": []}, []),
        ({"level": "crit", "enable": ["trace", 8]}, [2, 3, 8, 9]),
        ({"disable": "err"}, [2, 3, 5, 6, 7, 8, 9]),
        ({"disable": "all", "enable": "note"}, [6]),
    ],
)
def test_level_sets(calls: dict[str, Any], levels: list[int]) -> None:
    assert levels_of(logs.Context(**calls)) == levels


@pytest.mark.parametrize("method", ["level", "enable", "disable", "cap"])
def test_unknown_level_in_a_context_is_refused(method: str) -> None:
    with pytest.raises(ValueError, match="'loud'"):
        getattr(logs.Context(), method)("loud")


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.levels("error"),
        lambda c: c.slaves("a"),
        lambda c: c.slaves(c),
        lambda c: c.attach(1),
        lambda c: c.log_callback(1),
        lambda c: c.format_callback(1),
        lambda c: c.log_to_file(1.5),
        lambda c: logs.Context(no_such_method=1),
        lambda c: logs.Context(log=1),
    ],
)
def test_wrong_types_in_a_context_are_refused(call: Any) -> None:
    with pytest.raises(TypeError):
        call(logs.Context())


def test_cap_counts_here_and_behind_but_not_for_siblings() -> None:
    seen: list[tuple[str, int]] = []

    def target(name: str) -> dict[str, Any]:
        def note(when: float, origin: logs.Context, level: int, text: str) -> str:
            seen.append((name, level))
            return text

        return {"log_callback": lambda text: None, "format_callback": note}

    behind = logs.Context(**target("behind"))
    capped = logs.Context(cap="error", attach=behind, **target("capped"))
    sibling = logs.Context(**target("sibling"))
    logs.Context(attach=[capped, sibling]).log("alert", "x")
    assert seen == [("capped", 4), ("behind", 4), ("sibling", 2)]


def test_cap_does_not_change_which_messages_pass() -> None:
    seen: list[str] = []
    behind = logs.Context(level="error", log_callback=seen.append)
    logs.Context(cap="debug", attach=behind).log("error", "x")
    assert len(seen) == 1


def test_attach_and_detach_take_names_and_objects() -> None:
    seen: list[str] = []
    logs.ctx("x.target").slaves([]).log_callback(seen.append)
    context = logs.Context(attach=["x.target", logs.ctx("x.target")])
    context.log("error", "x")
    assert len(seen) == 1
    context.detach("x.target")
    assert not context.log("error", "x")


def test_reset_restores_the_hierarchy_and_keeps_objects(
    shown: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = logs.ctx("keep.me")
    context.level("off").slaves([]).log_callback(lambda text: True)
    logs.FILTER.level("trace")
    logs.LOG.log_callback(None)
    logs.COLLECT.slaves([])
    monkeypatch.setenv("AE_VERBOSE", "5")
    logs.reset()
    assert logs.ctx("keep.me") is context
    assert context.log("warn", "x")
    assert not context.log("note", "x")
    assert shown() == "warn  keep.me: x\n"


# Loggers


def test_logger_knows_whether_anybody_listens(shown: Any) -> None:
    debug: Any = logger("debug")
    assert not debug.enabled
    assert debug("x") is False
    logs.FILTER.level("debug")
    assert debug.enabled
    assert debug("%d", 7) is True
    logs.FILTER.level("error")
    assert not debug.enabled
    extra = logs.Context(log_callback=lambda text: None)
    logs.COLLECT.attach(extra)
    assert debug.enabled
    extra.log_callback(None)
    assert not debug.enabled
    assert shown() == f"debug {__name__}: 7\n"


def test_asking_a_logger_formats_nothing() -> None:
    logs.FILTER.level("all")
    seen: list[str] = []
    logs.LOG.log_callback(seen.append)
    assert logger("trace", "a.b").enabled
    assert seen == []


def test_context_makes_loggers() -> None:
    seen: list[str] = []
    context = logs.Context(log_callback=seen.append)
    assert context.logger("info")("x") is True
    assert len(seen) == 1
    assert repr(context.logger("info")) == "<Logger info <Context anonymous>>"


# Callbacks that misbehave


def test_callback_that_logs_into_its_own_context_does_not_recurse(shown: Any) -> None:
    seen: list[str] = []

    def callback(text: str) -> None:
        seen.append(text)
        logs.ctx("a").log("error", "from inside")

    logs.ctx("a").log_callback(callback)
    logs.ctx("a").log("error", "x")
    assert len(seen) == 1
    assert shown() == "error a: from inside\nerror a: x\n"


def test_callback_that_raises_is_reported_and_the_others_still_run(shown: Any) -> None:
    seen: list[str] = []

    def callback(text: str) -> None:
        raise LookupError("broken target")

    logs.ctx("a").log_callback(callback)
    logs.FILTER.log_callback(seen.append)
    assert logs.ctx("a").log("error", "x")
    assert any("x" in text for text in seen)
    assert "LookupError: broken target" in shown()


def test_threads_log_at_the_same_time() -> None:
    seen: list[str] = []
    context = logs.Context(log_callback=seen.append)
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        for _ in range(200):
            context.log("error", "x")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 800


def test_forgotten_anonymous_contexts_are_collected() -> None:
    gc.collect()
    before = sum(isinstance(thing, logs.Context) for thing in gc.get_objects())
    for _ in range(10):
        logs.Context(level="warn", log_callback=lambda text: None).log("error", "x")
    gc.collect()
    assert sum(isinstance(thing, logs.Context) for thing in gc.get_objects()) == before


def test_redirected_stderr_is_used(shown: Any) -> None:
    other = io.StringIO()
    with contextlib.redirect_stderr(other):
        log("error", "elsewhere")
    assert other.getvalue().endswith("elsewhere\n")
    assert shown() == ""


def test_what_is_reached_on_two_ways_is_asked_for_a_logger_once() -> None:
    got: list[str] = []
    top = logs.Context(log_callback=got.append)
    left, right, bottom = logs.Context(), logs.Context(), logs.Context()
    bottom.attach(left, right)
    for middle in (left, right):
        middle.attach(top)
    top.attach(bottom)  # a circle has no end
    logger = bottom.logger("error")
    assert logger.enabled
    assert logger("x")
    assert len(got) == 1
    top.log_callback(None)
    assert not logger.enabled
