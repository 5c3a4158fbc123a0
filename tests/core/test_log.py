"""ae.log, loggers and contexts: LOG-01 to LOG-18, LOG-21 to LOG-23; B30 to B33, B37."""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ae_core as ae
from ae_core import _log_targets, logs
from ae_core._log import LEVEL_NAMES, LEVELS, log, logger

STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} [+-]\d{4} ", re.MULTILINE)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The hierarchy as a new process has it, in one where nobody configured logging."""
    handlers = _log_targets._handlers

    def without_those_of_pytest(logger: object) -> list[logging.Handler]:
        return [h for h in handlers(logger) if not type(h).__module__.startswith("_pytest")]

    monkeypatch.setattr(_log_targets, "_handlers", without_those_of_pytest)
    monkeypatch.delenv("AE_VERBOSE", raising=False)
    monkeypatch.delenv("AE_LOG", raising=False)
    logs.reset()
    logs.exact_time(False)
    yield
    logs.reset()


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Any:
    """What was written to stderr, without the time stamps."""
    return lambda: STAMP.sub("", capsys.readouterr().err)


def python(code: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("AE_")}
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# Levels


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("fatal", 1), ("emerg", 1), ("exit", 1), ("alert", 2), ("critical", 3), ("crit", 3),
        ("error", 4), ("err", 4), ("die", 4), ("warn", 5), ("warning", 5), ("note", 6),
        ("notice", 6), ("info", 7), ("debug", 8), ("trace", 9), (1, 1), (9, 9), ("4", 4),
    ],
)  # fmt: skip
def test_level_names_have_their_numbers(name: str | int, number: int) -> None:
    assert LEVELS[name] == number


@pytest.mark.parametrize("level", ["Error", "", "0", 0, 10, -1, "10", None, True, [], 40, "fatal "])
def test_unknown_level_is_refused_by_name(level: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(level))):
        log(level, "x")
    with pytest.raises(ValueError, match=re.escape(repr(level))):
        logger(level)


# Messages


def test_message_without_arguments_is_literal(shown: Any) -> None:
    assert log("error", "100% %s %d")
    assert shown() == f"error {__name__}: 100% %s %d\n"


def test_message_with_arguments_is_formatted(shown: Any) -> None:
    assert log("error", "%d%% of %s", 5, "it")
    assert log("error", "%(a)s", {"a": 1})
    assert shown() == f"error {__name__}: 5% of it\nerror {__name__}: 1\n"


def test_continuation_lines_repeat_the_time_stamp(capsys: pytest.CaptureFixture[str]) -> None:
    log("crit", "a\nb\n")
    first, second = capsys.readouterr().err.splitlines()
    stamp = re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} [+-]\d{4}", first)
    assert stamp is not None
    assert first == f"{stamp[0]} crit  {__name__}: a"
    assert second == f"{stamp[0]} + b"


def test_one_trailing_newline_is_removed() -> None:
    seen: list[str] = []
    context = logs.Context(log_callback=seen.append, format_callback=lambda t, c, n, text: text)
    context.log("error", "a\n\n")
    context.log("error", "a")
    assert seen == ["a\n", "a"]


def test_callable_is_called_once_and_only_if_shown(shown: Any) -> None:
    calls: list[int] = []

    def message() -> str:
        calls.append(1)
        return "lazy %s"

    logs.LOG.attach(logs.Context(log_to_stderr=True))
    assert not log("debug", message)
    assert calls == []
    assert log("error", message, "text")
    assert calls == [1]
    assert shown() == f"error {__name__}: lazy text\n" * 2


@pytest.mark.parametrize("message", ["%d", lambda: 1 / 0, "%(a)s"])
def test_message_that_cannot_be_formatted_is_logged_with_the_reason(
    message: Any, shown: Any
) -> None:
    assert log("error", message, "x")
    text = shown()
    assert "not formatted" in text
    assert "'x'" in text


def test_object_without_a_text_does_not_raise(shown: Any) -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert log("error", Broken())
    assert log("error", "%s", Broken())
    assert shown().count("Broken object at") == 2


def test_error_adds_its_traceback(shown: Any) -> None:
    try:
        raise LookupError("deep")
    except LookupError as error:
        log("error", "failed", error=error)
    text = shown()
    assert text.startswith(f"error {__name__}: failed\n+ Traceback (most recent call last):\n+ ")
    assert text.endswith("+ LookupError: deep\n")


def test_logging_leaves_the_current_exception_alone(shown: Any) -> None:
    try:
        raise KeyError("mine")
    except KeyError:
        log("error", "%d", "not a number")
        with pytest.raises(KeyError, match="mine"):
            raise


def test_finalizer_may_log_while_the_interpreter_ends() -> None:
    done = python(
        "from ae_core._log import log\n"
        "class Late:\n"
        "    def __del__(self, log=log): log('error', 'late %s', 'words')\n"
        "import builtins; builtins.keep = Late()\n"
    )
    assert done.returncode == 0
    assert "late" in done.stderr
    assert "Traceback" not in done.stderr


@given(st.text(alphabet=st.characters(codec="utf-8")), st.integers(1, 9))
def test_every_line_of_any_text_has_time_and_mark(text: str, level: int) -> None:
    lines = logs.default_format(1.5, logs.ctx("a.b"), level, text).split("\n")
    assert lines.pop() == ""
    stamp = logs.format_time(1.5)
    name = LEVEL_NAMES[level]
    assert lines[0].startswith(f"{stamp} {name:<5} a.b:")
    assert all(line.startswith(f"{stamp} + ") for line in lines[1:])
    joined = "\n".join(line.removeprefix(f"{stamp} + ") for line in lines)
    assert joined.removeprefix(f"{stamp} {name:<5} a.b: ") == text.rstrip("\n")


@pytest.mark.parametrize(
    ("when", "text"),
    [
        (0.0, "1970-01-01 00:00:00.000000"),
        (1.9999996, "1970-01-01 00:00:02.000000"),  # Perl prints 00:00:01.1000000
        (1e9 + 0.25, "2001-09-09 01:46:40.250000"),
    ],
)
def test_format_time(when: float, text: str) -> None:
    done = python(
        f"from ae_core import logs; print(logs.format_time({when!r}))", TZ="UTC0", LC_ALL="C"
    )
    assert done.stdout == f"{text} +0000\n"


# Results


def test_result_says_whether_a_target_took_the_message(shown: Any) -> None:
    assert log("error", "x") is True
    assert log("warn", "x") is False
    logs.LOG.log_callback(None)
    assert log("error", "x") is False


def test_closed_or_missing_stderr_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    assert log("error", "x") is False
    monkeypatch.setattr(sys, "stderr", None)
    assert log("error", "x") is False
    assert not logger("error").enabled


@pytest.mark.parametrize(
    ("verbose", "levels"),
    [
        ("0", []),
        ("", ["alert", "crit", "error"]),
        (None, ["alert", "crit", "error"]),
        ("4", ["alert", "crit", "error"]),
        ("5", ["alert", "crit", "error", "warn"]),
        ("9", ["alert", "crit", "error", "warn", "note", "info", "debug", "trace"]),
        ("debug", ["alert", "crit", "error", "warn", "note", "info", "debug"]),
    ],
)
def test_verbosity(verbose: str | None, levels: list[str]) -> None:
    environment = {} if verbose is None else {"AE_VERBOSE": verbose}
    done = python("from ae_core._log import log\nfor n in range(2, 10): log(n, 'm')", **environment)
    assert done.returncode == 0
    assert [line.split()[0] for line in STAMP.sub("", done.stderr).splitlines()] == levels


@pytest.mark.parametrize("value", ["loud", "10", "-1", "4.5"])
def test_malformed_verbosity_is_named_and_means_the_default(value: str) -> None:
    done = python("from ae_core._log import log\nlog('error', 'e'), log(5, 'w')", AE_VERBOSE=value)
    assert done.returncode == 0
    assert STAMP.sub("", done.stderr) == (
        f"warn  ae_core: AE_VERBOSE ({value}): not understood: {value!r} at position 1\n"
        "error __main__: e\n"
    )


def test_ignored_environment_ignores_ours(tmp_path: Any) -> None:
    code = "from ae_core._log import log; log('debug', 'x')"
    target = tmp_path / "log"
    assert "debug" in python(code, AE_VERBOSE="9").stderr
    done = python(code, "-E", AE_VERBOSE="9", AE_LOG=f"log=file={target}")
    assert done.stderr == ""
    assert not target.exists()


# Fatal


@pytest.mark.parametrize("verbose", ["0", "9"])
@pytest.mark.parametrize("call", ["log('fatal', 'x')", "logger('fatal')('x')", "log(1, 'x')"])
def test_fatal_ends_the_program_even_when_filtered(verbose: str, call: str) -> None:
    done = python(
        f"from ae_core._log import log, logger\n{call}\nprint('alive')", AE_VERBOSE=verbose
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert bool(done.stderr) is (verbose == "9")


def test_capped_fatal_still_exits(shown: Any) -> None:
    logs.LOG.cap("note")
    with pytest.raises(SystemExit) as caught:
        log("fatal", "x")
    assert caught.value.code == 1
    assert shown() == f"note  {__name__}: x\n"


def test_fatal_exit_can_be_replaced(monkeypatch: pytest.MonkeyPatch, shown: Any) -> None:
    monkeypatch.setattr(logs, "fatal_exit", lambda: None)
    assert log("fatal", "x") is True


def test_formats_can_be_replaced(monkeypatch: pytest.MonkeyPatch, shown: Any) -> None:
    monkeypatch.setattr(logs, "format_time", lambda when: "NOW")
    log("error", "a\nb")
    assert shown() == f"NOW error {__name__}: a\nNOW + b\n"
    monkeypatch.setattr(logs, "default_format", lambda t, c, n, text: f"{n}{c.title}{text}|")
    log("error", "a")
    assert shown() == f"4{__name__}a|"


# Contexts


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


def test_time_is_the_loops_unless_it_shall_be_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def note(when: float, origin: logs.Context, level: int, text: str) -> str:
        seen.append(when)
        return text

    context = logs.Context(log_callback=lambda text: None, format_callback=note)
    monkeypatch.setattr(ae.detect(), "now", lambda: 1e9)
    started = time.time()
    context.log("error", "x")
    logs.exact_time(True)
    context.log("error", "x")
    assert seen[0] == 1e9
    assert seen[1] >= started


def test_logging_chooses_no_loop() -> None:
    done = python(
        "import ae_core as ae\n"
        "ae.log('error', 'x'); ae.logger('trace').enabled\n"
        "print(ae.backend())"
    )
    assert done.stdout == "None\n"
