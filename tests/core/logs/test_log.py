"""ae.log, its levels, messages and results: LOG-01 to LOG-08, LOG-23; B30 to B33."""

from __future__ import annotations

import io
import os
import re
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ae_core as ae
from ae_core import logs
from ae_core._base import log as _log
from ae_core._base.log import LEVEL_NAMES, LEVELS, log, logger

pytestmark = pytest.mark.usefixtures("fresh_logs")


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
    assert log("error", "%s", (1, 2))
    assert shown() == f"error {__name__}: 5% of it\nerror {__name__}: 1\nerror {__name__}: (1, 2)\n"


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


def test_finalizer_may_log_while_the_interpreter_ends(python: Any) -> None:
    done = python(
        "from ae_core._base.log import log\n"
        "class Late:\n"
        "    def __del__(self, log=log): log('error', 'late %s', 'words')\n"
        "import builtins; builtins.keep = Late()\n"
    )
    assert done.returncode == 0
    assert "late" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_finalizer_may_log_while_the_engine_is_being_imported(python: Any) -> None:
    done = python(
        "import sys\n"
        "import ae_core as ae\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.startswith('ae_core.logs.'):\n"
        "            ae.log('error', 'early in %s', name, error=KeyError('why'))\n"
        "sys.meta_path.insert(0, Finder())\n"
        "ae.log('error', 'first')\n"
    )
    assert done.returncode == 0
    lines = [line for line in done.stderr.splitlines() if "KeyError: 'why'" not in line]
    assert len(lines) > 1
    assert all("early in ae_core.logs." in line for line in lines[:-1])
    assert lines[-1].endswith("error __main__: first")
    assert done.stderr.count("KeyError: 'why'") == len(lines) - 1


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
def test_format_time(when: float, text: str, python: Any) -> None:
    done = python(
        f"from ae_core import logs; print(logs.format_time({when!r}))", TZ="UTC0", LC_ALL="C"
    )
    # Wine's C library says -0000 for UTC: time.strftime("%z") alone shows it
    zones = ("+0000", "-0000") if os.name == "nt" else ("+0000",)
    assert done.stdout in [f"{text} {zone}\n" for zone in zones]


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
def test_verbosity(verbose: str | None, levels: list[str], python: Any, unstamped: Any) -> None:
    environment = {} if verbose is None else {"AE_VERBOSE": verbose}
    done = python(
        "from ae_core._base.log import log\nfor n in range(2, 10): log(n, 'm')", **environment
    )
    assert done.returncode == 0
    assert [line.split()[0] for line in unstamped(done.stderr).splitlines()] == levels


@pytest.mark.parametrize("value", ["loud", "10", "-1", "4.5"])
def test_malformed_verbosity_is_named_and_means_the_default(
    value: str, python: Any, unstamped: Any
) -> None:
    done = python(
        "from ae_core._base.log import log\nlog('error', 'e'), log(5, 'w')", AE_VERBOSE=value
    )
    assert done.returncode == 0
    assert unstamped(done.stderr) == (
        f"warn  ae_core: AE_VERBOSE ({value}): not understood: {value!r} at position 1\n"
        "error __main__: e\n"
    )


def test_ignored_environment_ignores_ours(tmp_path: Any, python: Any) -> None:
    code = "from ae_core._base.log import log; log('debug', 'x')"
    target = tmp_path / "log"
    assert "debug" in python(code, AE_VERBOSE="9").stderr
    done = python(code, "-E", AE_VERBOSE="9", AE_LOG=f"log=file={target}")
    assert done.stderr == ""
    assert not target.exists()


# Fatal


@pytest.mark.parametrize("verbose", ["0", "9"])
@pytest.mark.parametrize("call", ["log('fatal', 'x')", "logger('fatal')('x')", "log(1, 'x')"])
def test_fatal_ends_the_program_even_when_filtered(verbose: str, call: str, python: Any) -> None:
    done = python(
        f"from ae_core._base.log import log, logger\n{call}\nprint('alive')", AE_VERBOSE=verbose
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


def test_logging_chooses_no_loop(python: Any) -> None:
    done = python(
        "import ae_core as ae\n"
        "ae.log('error', 'x'); ae.logger('trace').enabled\n"
        "print(ae.backend())"
    )
    assert done.stdout == "None\n"


@pytest.mark.parametrize("reason", [ImportError, OSError])
def test_message_gets_out_even_if_nothing_can_be_imported(
    reason: type[Exception], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the end of the interpreter, or without a descriptor to read a module by."""

    def refuse(*args: Any) -> Any:
        raise reason("no")

    monkeypatch.setattr(_log, "_logs", None)
    monkeypatch.setattr(_log, "_dispatch", None)
    monkeypatch.setattr("builtins.__import__", refuse)
    trace = logger("trace")
    taken = log("error", "last words"), log("debug", "unheard"), trace("unheard"), trace.enabled
    monkeypatch.undo()
    assert taken == (True, False, False, False)
    assert capsys.readouterr().err == f"error {__name__}: last words\n"


def test_last_words_need_a_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert not _log.last_words("x", 4, "unheard")
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    assert not _log.last_words("x", 4, "unheard")


def test_environment_is_read_when_the_engine_is_configured(
    monkeypatch: pytest.MonkeyPatch, shown: Any
) -> None:
    monkeypatch.setenv("AE_VERBOSE", "loud")
    monkeypatch.setenv("AE_LOG", "main=nonsense,off")
    logs._configure()
    assert shown() == (
        "warn  ae_core: AE_VERBOSE (loud): not understood: 'loud' at position 1\n"
        "warn  ae_core: AE_LOG (main=nonsense,off): not understood: 'nonsense' at position 6\n"
    )
    assert not logs.ctx("__main__").log("alert", "x")
