"""Log files: a message is in the file, as a whole, when ``log`` returns (LOG-19, LOG-20)."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from ae_core import logs
from ae_core._base.log import log
from ae_core.logs import _targets

pytestmark = pytest.mark.usefixtures("fresh_logs")
posix = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")
forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
both = pytest.mark.parametrize("method", ["log_to_file", "log_to_path"])
Lines: TypeAlias = Callable[[Path], list[str]]


@pytest.fixture
def lines(unstamped: Callable[[str], str]) -> Lines:
    """Read a log file without the time stamps."""
    return lambda path: unstamped(path.read_text(encoding="utf-8")).splitlines()


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is given to ``os.write``, call by call."""
    seen: list[bytes] = []
    write = os.write

    def noted(fd: int, data: Any) -> int:
        seen.append(bytes(data))
        return write(fd, data)

    monkeypatch.setattr(_targets.os, "write", noted)
    return seen


@both
def test_file_is_appended_to(method: str, tmp_path: Path, lines: Lines) -> None:
    path = tmp_path / "log"
    path.write_text("old\n")
    context = logs.Context(**{method: path})
    for i in range(100):
        assert context.log("error", "line %d", i)
    assert lines(path) == ["old", *(f"error anonymous: line {i}" for i in range(100))]


@both
def test_message_is_in_the_file_when_log_returns(method: str, tmp_path: Path, lines: Lines) -> None:
    path = tmp_path / "log"
    context = logs.Context(**{method: path})
    for i in range(50):
        context.log("error", "line %d", i)
        assert lines(path)[-1] == f"error anonymous: line {i}"


@both
@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), 9)", "os.abort()"])
def test_last_message_before_a_crash_is_on_disk(
    method: str, end: str, tmp_path: Path, python: Any, lines: Lines
) -> None:
    if end.startswith("os.kill") and not hasattr(signal, "SIGKILL"):
        pytest.skip("needs SIGKILL")
    path = tmp_path / "log"
    word = method.removeprefix("log_to_")
    done = python(
        "import os\nimport ae_core as ae\n"
        f"for i in range(1000): ae.log('error', 'line %d', i)\n{end}\n",
        AE_LOG=f"log={word}={escaped(path)}",
    )
    assert done.returncode != 0
    assert lines(path) == [f"error __main__: line {i}" for i in range(1000)]


@both
def test_message_of_many_lines_is_one_write(
    method: str, tmp_path: Path, writes: list[bytes], unstamped: Any
) -> None:
    context = logs.Context(**{method: tmp_path / "log"})
    text = "\n".join(f"line {i}" for i in range(10_000))
    context.log("error", text)
    (written,) = writes
    assert unstamped(written.decode()) == f"error anonymous: {text}\n".replace("\n", "\n+ ")[:-2]


@both
def test_short_writes_are_continued(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    write = os.write
    monkeypatch.setattr(_targets.os, "write", lambda fd, data: write(fd, data[:7]))
    context = logs.Context(**{method: tmp_path / "log"})
    context.log("error", "a message\nof two lines")
    assert lines(tmp_path / "log") == ["error anonymous: a message", "+ of two lines"]


@both
def test_message_after_a_torn_one_begins_a_line_of_its_own(
    method: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: Lines,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write = os.write
    left = [30, 0]  # octets that the disk still takes, write by write

    def filling(fd: int, data: Any) -> int:
        if not left:
            return write(fd, data)
        room = left.pop(0)
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data[:room])

    context = logs.Context(**{method: tmp_path / "log"})
    monkeypatch.setattr(_targets.os, "write", filling)
    assert not context.log("error", "torn")
    assert context.log("error", "whole")
    first, second = lines(tmp_path / "log")
    assert len(first) == 30
    assert second == "error anonymous: whole"
    assert capsys.readouterr().err.count("unable to write to log file") == 1


PIECES = 40  # lines of a message


@forking
@posix
@both
def test_threads_and_processes_never_mix_their_messages(
    method: str, tmp_path: Path, python: Any, unstamped: Any
) -> None:
    path = tmp_path / "log"
    word = method.removeprefix("log_to_")
    done = python(
        "import os, threading\nimport ae_core as ae\n"
        "def work(name):\n"
        "    for i in range(100):\n"
        f"        ae.log('error', '\\n'.join(f'{{name}}.{{i}}.{{k}}' for k in range({PIECES})))\n"
        "ae.log('trace', 'the file is open')\n"
        "children = []\n"
        "for name in 'abc':\n"
        "    if not (pid := os.fork()):\n"
        "        threads = [threading.Thread(target=work, args=(name + t,)) for t in 'xyz']\n"
        "        for t in threads: t.start()\n"
        "        for t in threads: t.join()\n"
        "        os._exit(0)\n"
        "    children.append(pid)\n"
        "assert not any(os.waitpid(pid, 0)[1] for pid in children)\n",
        "-W",
        "ignore",
        AE_LOG=f"log={word}={escaped(path)}",
    )
    assert (done.returncode, done.stderr) == (0, "")
    got = unstamped(path.read_text()).replace("error __main__: ", "").replace("+ ", "").split()
    messages = [got[i : i + PIECES] for i in range(0, len(got), PIECES)]
    assert len(messages) == 900
    for message in messages:
        name = message[0].rpartition(".")[0]
        assert message == [f"{name}.{k}" for k in range(PIECES)]


@pytest.mark.skipif(os.name == "nt", reason="the name of an open file cannot be changed")
def test_path_is_opened_anew_and_file_is_kept(tmp_path: Path, lines: Lines) -> None:
    kept, reopened = tmp_path / "kept", tmp_path / "reopened"
    context = logs.Context(
        attach=[logs.Context(log_to_file=kept), logs.Context(log_to_path=reopened)]
    )
    context.log("error", "one")
    kept.rename(tmp_path / "kept.1")
    reopened.rename(tmp_path / "reopened.1")
    context.log("error", "two")
    assert lines(tmp_path / "kept.1") == ["error anonymous: one", "error anonymous: two"]
    assert not kept.exists()
    assert lines(tmp_path / "reopened.1") == ["error anonymous: one"]
    assert lines(reopened) == ["error anonymous: two"]


def test_kept_file_is_opened_at_once_and_closed_with_its_context(
    tmp_path: Path, lines: Lines
) -> None:
    path = tmp_path / "log"
    context = logs.Context(log_to_file=path)
    assert lines(path) == []
    target = context._target
    assert isinstance(target, _targets.File)
    fd = target._fd
    assert fd is not None
    del target
    context.log_callback(None)
    with pytest.raises(OSError) as caught:
        os.fstat(fd)
    assert caught.value.errno == errno.EBADF


@posix
def test_daemon_that_closes_all_descriptors_goes_on_logging(tmp_path: Path, lines: Lines) -> None:
    path, other = tmp_path / "log", tmp_path / "other"
    context = logs.Context(log_to_file=path)
    assert isinstance(context._target, _targets.File)
    fd = context._target._fd
    assert fd is not None
    os.close(fd)
    with open(other, "wb", buffering=0) as stranger:
        os.dup2(stranger.fileno(), fd)
    context.log("error", "x")
    assert lines(path) == ["error anonymous: x"]
    assert other.read_bytes() == b""
    os.fstat(fd)  # what has our old number now is not ours to close
    os.close(fd)


def test_relative_name_means_the_directory_of_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    context = logs.Context(log_to_path="log")
    monkeypatch.chdir(tmp_path / "elsewhere")
    context.log("error", "x")
    assert lines(tmp_path / "log") == ["error anonymous: x"]


def test_text_that_is_no_utf8_is_escaped(tmp_path: Path, lines: Lines) -> None:
    context = logs.Context(log_to_file=tmp_path / "log")
    context.log("error", "caf\xe9 \udcff")
    assert lines(tmp_path / "log") == ["error anonymous: caf\xe9 \\udcff"]


@both
def test_failure_is_reported_once_elsewhere_and_the_next_message_tries_again(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: Lines, unstamped: Any
) -> None:
    path = tmp_path / "missing" / "log"
    logs.COLLECT.attach(logs.Context(**{method: path}))
    for i in range(3):
        log("error", "m%d", i)
    text = unstamped(capsys.readouterr().err)
    assert text.count("unable to write to log file") == 1
    assert f"error ae_core.logs: unable to write to log file {str(path)!r}: " in text
    assert "No such file or directory" in text
    path.parent.mkdir()
    log("error", "m4")
    assert lines(path) == [f"error {__name__}: m4"]


def test_two_broken_targets_do_not_feed_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        logs.COLLECT.attach(logs.Context(log_to_file=tmp_path / name / "log"))
    log("error", "x")
    assert capsys.readouterr().err.count("unable to write") == 2


def test_failure_of_the_only_target_still_reaches_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.LOG.log_to_file(tmp_path / "missing" / "log")
    assert not log("error", "x")
    assert capsys.readouterr().err.count("unable to write to log file") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@both
def test_full_disk_is_reported_and_raises_nothing(
    method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.LOG._set_target(None)
    context = logs.Context(**{method: "/dev/full"})
    assert [context.log("error", "x") for _ in range(3)] == [False] * 3
    assert capsys.readouterr().err.count("No space left on device") == 1


@posix
@both
def test_fifo_that_nobody_reads_blocks_nobody(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: Lines
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    context = logs.Context(**{method: fifo})
    assert not context.log("error", "lost")
    assert capsys.readouterr().err.count("No such device or address") == 1
    got: list[bytes] = []

    def read() -> None:
        with open(fifo, "rb") as reader:
            entered.set()
            got.append(reader.read())

    entered = threading.Event()
    holder = os.open(fifo, os.O_RDWR)
    thread = threading.Thread(target=read)
    thread.start()
    assert entered.wait(50)
    text = "long" * 100_000  # more than the pipe has room for
    assert context.log("error", text)
    del context
    os.close(holder)
    thread.join(50)
    assert got[0].count(b"long") == 100_000


@posix
def test_message_of_a_signal_handler_is_not_lost_in_the_middle_of_another(
    tmp_path: Path, lines: Lines
) -> None:
    """Wherever the signal strikes: each of 500 handlers says something."""
    path = tmp_path / "log"
    logs.LOG.log_to_file(path)
    said: list[bool] = []
    before = signal.signal(signal.SIGALRM, lambda *args: said.append(log("error", "handler")))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        others = 0
        while len(said) < 500:
            log("error", "main")
            others += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert all(said)
    got = lines(path)
    assert got.count(f"error {__name__}: handler") == len(said)
    assert got.count(f"error {__name__}: main") == others


def test_format_function_that_logs_does_not_recurse(tmp_path: Path, lines: Lines) -> None:
    def talking(when: float, context: logs.Context, level: int, message: str) -> str:
        log("error", "from the format function")
        return f"{message}\n"

    logs.LOG.log_to_file(tmp_path / "log").format_callback(talking)
    log("error", "x")
    assert lines(tmp_path / "log") == ["x"]


@forking
@posix
def test_fork_while_another_thread_writes_leaves_no_lock_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    path = tmp_path / "log"
    context = logs.Context(log_to_file=path)
    write = os.write
    inside, forked = threading.Event(), threading.Event()

    def slow(fd: int, data: Any) -> int:
        inside.set()
        assert forked.wait(50)
        return write(fd, data)

    monkeypatch.setattr(_targets.os, "write", slow)
    thread = threading.Thread(target=context.log, args=("error", "the thread's"))
    thread.start()
    assert inside.wait(50)
    pid = os.fork()
    if not pid:
        status = 1
        try:
            signal.alarm(50)
            forked.set()
            status = int(not context.log("error", "the child's"))
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    forked.set()
    thread.join(50)
    assert sorted(lines(path)) == ["error anonymous: the child's", "error anonymous: the thread's"]


@pytest.mark.parametrize("path", ["", b""])
def test_file_without_a_name_is_refused(path: Any) -> None:
    with pytest.raises(ValueError, match="expected the name of a file"):
        logs.Context().log_to_file(path)


def escaped(path: Path) -> str:
    """Return *path* as a word of ``AE_LOG``."""
    return "".join(f"\\{char}" for char in str(path))


@pytest.mark.parametrize("end", ["", "log('fatal', 'end')", "raise SystemExit(1)"])
def test_files_are_complete_after_the_program(
    end: str, tmp_path: Path, python: Any, lines: Lines
) -> None:
    path = tmp_path / "log"
    done = python(
        "from ae_core._base.log import log\nfor i in range(2000): log('error', 'line %d', i)\n"
        f"{end}\n",
        AE_LOG=f"log=file={escaped(path)}",
    )
    assert (done.returncode, done.stderr) == (bool(end), "")
    got = lines(path)
    assert got[:2000] == [f"error __main__: line {i}" for i in range(2000)]
    assert got[2000:] == (["fatal __main__: end"] if "fatal" in end else [])


def test_finalizer_at_the_end_of_the_program_reaches_the_file(
    tmp_path: Path, python: Any, lines: Lines
) -> None:
    path = tmp_path / "log"
    python(
        "from ae_core._base.log import log\n"
        "log('error', 'early')\n"
        "class Late:\n"
        "    def __del__(self, log=log): log('error', 'late')\n"
        "keep = Late()\n",
        AE_LOG=f"log=path={escaped(path)}",
    )
    assert lines(path) == ["error __main__: early", "error __main__: late"]


@forking
@posix
def test_forked_child_writes_its_own_messages_once(
    tmp_path: Path, python: Any, lines: Lines
) -> None:
    path = tmp_path / "log"
    done = python(
        "import os, warnings\n"
        "from ae_core._base.log import log\n"
        "warnings.simplefilter('ignore')\n"
        "for i in range(500): log('error', 'parent')\n"
        "if (pid := os.fork()) == 0:\n"
        "    log('error', 'child')\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0)\n",
        AE_LOG=f"log=file={escaped(path)}",
    )
    assert done.returncode == 0, done.stderr
    got = lines(path)
    assert got.count("error __main__: parent") == 500
    assert got.count("error __main__: child") == 1
