"""Where messages end: LOG-19, LOG-20, LOG-29, and stdlib logging. Files: ``test_log_files``."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from ae_core import logs
from ae_core._base.log import log, logger
from ae_core.logs import _targets

posix = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")


pytestmark = pytest.mark.usefixtures("fresh_logs")
Lines: TypeAlias = Callable[[Path], list[str]]


@pytest.fixture(params=["thread", "at-once"])
def writer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Syslog is written by a thread of its own, or, where there is none to be had, at once."""

    def refuse(*args: Any) -> int:
        raise RuntimeError("can't start new thread")

    start = refuse if request.param == "at-once" else start_known_thread
    monkeypatch.setattr(_targets, "start_new_thread", start)


def start_known_thread(function: Callable[[], None], arguments: tuple[()]) -> None:
    """Start a thread that ``threading`` knows, and with it what looks at the threads."""
    threading.Thread(target=function, args=arguments).start()


def test_syslog_takes_a_format_too(syslogged: list[tuple[int, str]]) -> None:
    context = logs.Context(log_to_syslog=True, format_callback=lambda t, c, n, text: f"{n}:{text}")
    context.log("error", "x")
    assert logs.flush()
    assert [text for _, text in syslogged] == ["4:x"]


def test_traceback_that_cannot_be_shown_does_no_harm(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(Exception):
        @property
        def __cause__(self) -> BaseException:  # type: ignore[override]
            raise RuntimeError

    assert log("error", "x", error=Broken())
    assert "Broken" in capsys.readouterr().err


# Syslog


@pytest.fixture
def syslogged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    syslog = pytest.importorskip("syslog")
    got: list[tuple[int, str]] = []
    monkeypatch.setattr(syslog, "syslog", lambda priority, text: got.append((priority, text)))
    return got


@pytest.mark.usefixtures("writer")
def test_syslog_maps_levels_and_splits_lines(
    syslogged: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import syslog

    monkeypatch.setattr(logs, "fatal_exit", lambda: None)
    context = logs.Context(log_to_syslog="daemon")
    for level in range(1, 10):
        context.log(level, "x")
    context.log("note", "a\n\nb\0\n")
    assert logs.flush()
    severities = [0, 1, 2, 3, 4, 5, 6, 7, 7]
    assert syslogged[:9] == [(syslog.LOG_DAEMON | s, "(anonymous) x") for s in severities]
    note = syslog.LOG_DAEMON | syslog.LOG_NOTICE
    assert syslogged[9:] == [(note, "(anonymous) a"), (note, "+ "), (note, "+ b\\0")]


@pytest.mark.usefixtures("writer")
def test_syslog_that_fails_is_reported_once_elsewhere(
    syslogged: list[tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import syslog

    def refuse(priority: int, text: str) -> None:
        raise OSError(errno.ENOBUFS, "no")

    logs.COLLECT.attach(logs.Context(log_to_syslog=True))
    with monkeypatch.context() as patch:
        patch.setattr(syslog, "syslog", refuse)
        for _ in range(3):
            log("error", "x")
            assert logs.flush()
    log("error", "y")
    assert logs.flush()
    assert capsys.readouterr().err.count("unable to write to syslog: ") == 1
    assert [text for _, text in syslogged] == [f"({__name__}) y"]


def test_syslog_that_is_stuck_blocks_nobody_and_is_bounded(
    syslogged: list[tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import syslog

    monkeypatch.setattr(_targets, "start_new_thread", start_known_thread)
    monkeypatch.setattr(_targets, "_QUEUE_LIMIT", 5)
    inside, released = threading.Event(), threading.Event()
    send = syslog.syslog

    def stuck(priority: int, text: str) -> None:
        inside.set()
        assert released.wait(50)
        send(priority, text)

    monkeypatch.setattr(syslog, "syslog", stuck)
    logs.COLLECT.attach(logs.Context(log_to_syslog=True))
    context = logs.ctx("x")
    assert context.log("error", "first")
    assert inside.wait(50)
    logs.LOG.log_callback(None)
    assert [context.log("error", "m%d", i) for i in range(7)] == [True] * 5 + [False] * 2
    assert not logs.flush(0.01)
    logs.LOG.log_to_stderr()
    released.set()
    assert logs.flush()
    assert [text for _, text in syslogged] == ["(x) first", *(f"(x) m{i}" for i in range(5))]
    assert "syslog is too slow: 2 messages lost" in capsys.readouterr().err


@pytest.mark.usefixtures("writer")
def test_message_that_comes_just_before_the_end_of_the_work_is_sent(
    syslogged: list[tuple[int, str]],
) -> None:
    """Where the queue was found empty, and the next message still found a worker."""
    context = logs.Context(log_to_syslog=True)
    target: Any = context._target

    class Late:
        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            if len(syslogged) == 1:
                thread = threading.Thread(target=context.log, args=("error", "late"))
                thread.start()
                thread.join()

    target._lock = Late()
    context.log("error", "first")
    assert logs.flush()
    assert [text for _, text in syslogged] == ["(anonymous) first", "(anonymous) late"]


def test_nothing_starts_a_thread_at_the_end_of_the_program(
    syslogged: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_targets, "_at_end", False)
    monkeypatch.setattr(_targets, "start_new_thread", None)
    _targets._end()
    logs.Context(log_to_syslog=True).log("error", "x")
    assert [text for _, text in syslogged] == ["(anonymous) x"]


def test_forked_child_forgets_what_its_parent_has_to_send(
    syslogged: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = logs.Context(log_to_syslog=True)
    with monkeypatch.context() as patch:
        patch.setattr(_targets, "start_new_thread", lambda *args: 1)  # it never runs
        context.log("error", "the parent's")
    assert not logs.flush(0.01)
    _targets._forget_in_child()
    assert logs.flush(0)
    context.log("error", "the child's")
    assert logs.flush()
    assert [text for _, text in syslogged] == ["(anonymous) the child's"]


def test_syslog_default_facility_is_user(syslogged: list[tuple[int, str]]) -> None:
    import syslog

    logs.Context(log_to_syslog=True).log("error", "x")
    assert logs.flush()
    assert syslogged == [(syslog.LOG_USER | syslog.LOG_ERR, "(anonymous) x")]


@pytest.mark.parametrize("facility", ["", "err", "USER", "__import__('os')", "pid"])
def test_syslog_refuses_what_is_no_facility(facility: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"not a syslog facility: {facility!r}")):
        logs.Context().log_to_syslog(facility)


def test_platform_without_syslog_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "syslog", None)
    with pytest.raises(OSError, match="this platform has no syslog"):
        logs.Context().log_to_syslog()


# stdlib logging


class Records(logging.Handler):
    def __init__(self, level: int = 0) -> None:
        super().__init__(level)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    ("level", "number", "name"),
    [
        (2, 55, "ALERT"), (3, 50, "CRITICAL"), (4, 40, "ERROR"), (5, 30, "WARNING"),
        (6, 25, "NOTE"), (7, 20, "INFO"), (8, 10, "DEBUG"), (9, 5, "TRACE"),
    ],
)  # fmt: skip
def test_program_with_handlers_gets_ordinary_records(
    level: int, number: int, name: str, root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    records = Records()
    root.addHandler(records)
    root.setLevel(1)
    assert log(level, "%d%%\n", 100)
    (record,) = records.records
    assert (record.name, record.levelno, record.levelname) == (__name__, number, name)
    assert record.getMessage() == "100%"
    assert (record.pathname, record.funcName) == (
        __file__,
        "test_program_with_handlers_gets_ordinary_records",
    )
    assert capsys.readouterr().err == ""


def test_level_names_of_the_program_stay(python: Any) -> None:
    done = python(
        "import logging, sys\n"
        "logging.addLevelName(25, 'SUCCESS')\n"
        "logging.basicConfig(stream=sys.stdout, format='%(levelname)s', level=1)\n"
        "import ae_core as ae\n"
        "for level in ('alert', 'note', 'trace'): ae.log(level, 'x')\n"
    )
    assert (done.stdout.split(), done.stderr) == (["ALERT", "SUCCESS", "TRACE"], "")


def test_fatal_is_60_and_stdlib_names_stay(root: logging.Logger) -> None:
    records = Records()
    root.addHandler(records)
    with pytest.raises(SystemExit):
        log("fatal", "x")
    assert (records.records[0].levelno, records.records[0].levelname) == (60, "FATAL")
    assert logging.getLevelName("FATAL") == logging.FATAL == 50
    assert logging.getLevelName(50) == "CRITICAL"


def test_stdlib_levels_decide_as_long_as_verbosity_is_not_set(
    root: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = Records()
    root.addHandler(records)
    root.setLevel(logging.INFO)
    info, debug = logger("info"), logger("debug")
    assert (info.enabled, debug.enabled) == (True, False)
    assert (info("i"), debug("d")) == (True, False)
    root.setLevel(logging.DEBUG)
    assert (debug.enabled, debug("d")) == (True, True)
    records.setLevel(logging.WARNING)
    assert (debug.enabled, debug("d")) == (False, False)
    records.setLevel(0)
    monkeypatch.setenv("AE_VERBOSE", "4")
    logs.reset()
    assert (debug.enabled, debug("d"), log("error", "e")) == (False, False, True)
    monkeypatch.delenv("AE_VERBOSE")
    logs.reset()
    logs.FILTER.level("warn")
    assert (debug.enabled, debug("d"), log("warn", "w")) == (False, False, True)


def test_other_targets_keep_the_default_level_when_stdlib_sees_all(root: logging.Logger) -> None:
    records = Records()
    root.addHandler(records)
    root.setLevel(1)
    seen: list[str] = []
    logs.LOG.attach(logs.Context(log_callback=seen.append))
    assert log("debug", "x")
    assert seen == []
    logs.LOG.log_callback(None)
    assert not log("debug", "x")
    assert not logger("debug").enabled


def test_levels_of_one_stdlib_logger_count(root: logging.Logger) -> None:
    records = Records()
    root.addHandler(records)
    root.setLevel(logging.DEBUG)
    quiet = logging.getLogger("test_logs.quiet")
    quiet.setLevel(logging.ERROR)
    try:
        assert not logs.ctx("test_logs.quiet.child").log("info", "x")
        assert logs.ctx("test_logs.other").log("info", "x")
    finally:
        quiet.setLevel(0)
    assert [record.name for record in records.records] == ["test_logs.other"]


def test_handlers_of_one_branch_take_its_messages_and_stderr_the_others(
    capsys: pytest.CaptureFixture[str], unstamped: Any
) -> None:
    records = Records()
    branch = logging.getLogger("test_logs.branch")
    branch.addHandler(records)
    try:
        logs.ctx("test_logs.branch.leaf").log("error", "in")
        logs.ctx("test_logs.else").log("error", "out")
    finally:
        branch.removeHandler(records)
    assert [record.getMessage() for record in records.records] == ["in"]
    assert unstamped(capsys.readouterr().err) == "error test_logs.else: out\n"


def test_null_handler_is_no_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    null = logging.NullHandler()
    library = logging.getLogger("test_logs.library")
    library.addHandler(null)
    try:
        assert logs.ctx("test_logs.library").log("error", "seen")
    finally:
        library.removeHandler(null)
    assert "seen" in capsys.readouterr().err


def test_logger_that_does_not_propagate_takes_nothing(root: logging.Logger) -> None:
    records = Records()
    root.addHandler(records)
    island = logging.getLogger("test_logs.island")
    island.propagate = False
    try:
        assert not logs.ctx("test_logs.island").log("error", "x")
    finally:
        island.propagate = True
    assert records.records == []


def test_error_becomes_exc_info_and_is_not_in_the_text(root: logging.Logger) -> None:
    records = Records()
    root.addHandler(records)
    error = LookupError("x")
    log("error", "failed", error=error)
    (record,) = records.records
    assert record.getMessage() == "failed"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_handler_that_raises_disturbs_nobody(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise LookupError("broken handler")

    root.addHandler(Broken())
    assert not log("error", "x")


def test_explicit_stderr_stays_stderr(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    records = Records()
    root.addHandler(records)
    logs.LOG.log_to_stderr()
    log("error", "x")
    assert records.records == []
    assert "x" in capsys.readouterr().err


def test_logging_is_not_imported_by_a_message(python: Any) -> None:
    done = python(
        "import sys\n"
        "from ae_core._base.log import log\n"
        "assert 'ae_core.logs' not in sys.modules\n"
        "log('error', 'x')\n"
        "print('logging' in sys.modules)\n"
    )
    assert done.stdout == "False\n"


def test_program_without_handlers_gets_no_loggers(capsys: pytest.CaptureFixture[str]) -> None:
    logs.ctx("test_logs.never.made").log("error", "x")
    assert "test_logs.never.made" not in logging.root.manager.loggerDict
