"""run_cmd where the system, the loop or the program's own functions get in the way."""

from __future__ import annotations

import errno
import gc
import os
import signal
import stat
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

if not hasattr(os, "fork"):
    pytest.skip("POSIX only", allow_module_level=True)

import ae_core as ae
from ae_core._detection.current import current_loop
from ae_core._process import spawn
from ae_core._process.pipes import Drain
from ae_core._process.redirect import Sink

PATIENCE = 60.0  # a hang, not a measure


def open_here() -> int:
    return len(os.listdir("/proc/self/fd"))


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def run_until(done: Callable[[], bool]) -> None:
    over = ae.CondVar[None]()
    with ae.timer(0.0, lambda: over.send() if done() else None, interval=0.01):
        over.recv(PATIENCE)


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize("stream", ["stdin", "stdout"])
def test_a_stream_that_the_loop_cannot_watch_ends_the_program_with_that_error(
    stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = current_loop().backend
    start = backend.io_start
    calls: list[int] = []

    def refuse(fd: int, write: bool, callback: Callable[[], None]) -> Any:
        is_pipe = stat.S_ISFIFO(os.fstat(fd).st_mode)
        if is_pipe and write == (stream == "stdin"):
            calls.append(fd)
            raise OSError(errno.ENOSPC, "no room in the kernel's table")
        return start(fd, write, callback)

    ended = ae.CondVar[int]()
    with monkeypatch.context() as patched:
        patched.setattr(type(backend), "io_start", lambda _, *arguments: refuse(*arguments))
        process = ae.run_cmd(["sleep", "1000"], stdin=lambda: b"", stdout=bytearray())
    watcher = ae.child(process.pid, lambda _, status: ended.send(status))
    with pytest.raises(OSError, match="no room"):
        process.recv(PATIENCE)
    assert len(calls) == 1
    assert ended.recv(PATIENCE) == signal.SIGTERM
    watcher.cancel()


def test_a_pipe_that_cannot_be_set_up_is_closed_and_the_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(fd: int, blocking: bool) -> None:
        raise OSError(errno.EIO, "of a test")

    ae.run_cmd("true").recv(PATIENCE)  # the loop has what it needs
    before = open_here()
    with monkeypatch.context() as patched:
        patched.setattr(os, "set_blocking", refuse)
        process = ae.run_cmd(["true"], stdout=bytearray())
    with pytest.raises(OSError, match="of a test"):
        process.recv(PATIENCE)
    assert process.pid is None
    assert open_here() == before


def test_what_interrupts_the_start_leaves_run_cmd_and_no_pipe_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*arguments: object) -> int:
        raise KeyboardInterrupt

    ae.run_cmd("true").recv(PATIENCE)  # the loop has what it needs
    before = open_here()
    with monkeypatch.context() as patched:
        patched.setattr(spawn, "spawn", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ae.run_cmd(["true"], stdin=b"data", stdout=bytearray())
    assert open_here() == before
    with pytest.raises(ae.Deadlock):  # nothing is watched any more
        ae.CondVar[None]().recv()


def test_a_descriptor_that_is_no_number_is_refused() -> None:
    class Strange:
        def fileno(self) -> str:
            return "seven"

    with pytest.raises(TypeError, match="gave 'seven', expected an int"):
        ae.run_cmd("true", stdout=Strange())


# ---------------------------------------------------------------------- cancelling


def test_one_that_was_not_started_can_be_cancelled_before_its_error_is_told() -> None:
    process = ae.run_cmd(["ae-no-such-program"], timeout=60)
    process.cancel()
    with pytest.raises(ae.CancelledError):
        process.recv()
    ae.sleep(0.0).recv()
    assert process.cancelled


def test_a_time_limit_does_nothing_to_one_that_the_program_itself_has_made_ready() -> None:
    process = ae.run_cmd(["sleep", "1000"], timeout=0.01)
    process.send(5)
    ae.sleep(0.02).recv()
    assert process.recv() == 5
    assert not gone(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    run_until(lambda: gone(process.pid))
    assert process.recv() == 5


def test_where_no_child_can_be_looked_at_a_cancelled_program_is_sent_the_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = ae.run_cmd(["sleep", "1000"])
    with monkeypatch.context() as patched:
        patched.delattr(os, "waitid")
        process.cancel()
    run_until(lambda: gone(process.pid))


# ---------------------------------------------------------------------- pipes


def test_an_input_callback_may_cancel_the_program() -> None:
    def give() -> bytes:
        process.cancel()
        return rests.pop()

    rests = [b"", b"more", b"", b"more"]
    counts = []
    while rests:
        process = ae.run_cmd(["sleep", "1000"], stdin=give)
        with pytest.raises(ae.CancelledError):
            process.recv(PATIENCE)
        run_until(lambda pid=process.pid: gone(pid))  # type: ignore[misc]
        counts.append(open_here())
    assert len(set(counts)) == 1, "descriptors are left open"


def test_a_pipe_that_is_falsely_reported_ready_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read, write = os.read, os.write
    false: list[str] = []

    def read_later(fd: int, size: int) -> bytes:
        if len(false) < 2 and "read" not in false:
            false.append("read")
            raise BlockingIOError
        return read(fd, size)

    def write_later(fd: int, data: Any) -> int:
        if bytes(data) == b"data" and "write" not in false:
            false.append("write")
            raise BlockingIOError
        return write(fd, data)

    out = bytearray()
    process = ae.run_cmd(["cat"], stdin=b"data", stdout=out)
    with monkeypatch.context() as patched:
        patched.setattr(os, "read", read_later)
        patched.setattr(os, "write", write_later)
        assert process.recv(PATIENCE) == 0
    assert sorted(false) == ["read", "write"]
    assert out == b"data"


def test_an_output_that_cannot_be_read_is_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    read = os.read

    def fail(fd: int, size: int) -> bytes:
        if os.fstat(fd).st_ino == inode:
            raise OSError(errno.EIO, "of a test")
        return read(fd, size)

    pieces: list[bytes] = []
    process = ae.run_cmd("echo text", stdout=pieces.append)
    inode = os.fstat(process._streams[0].fd).st_ino
    with monkeypatch.context() as patched:
        patched.setattr(os, "read", fail)
        assert process.recv(PATIENCE) == 0
    assert pieces == [b""]


def test_a_pipe_that_everything_has_forgotten_is_closed() -> None:
    reader, writer = os.pipe()
    owner: Any = SimpleNamespace(_core=current_loop(), _cannot_watch=print)
    pipe = Drain(owner, reader, Sink(None, print), None)
    pipe.record.cancel()
    pipe.at_loop_end.cancel()
    del pipe
    gc.collect()
    with pytest.raises(BrokenPipeError):
        os.write(writer, b"x")
    os.close(writer)


# ---------------------------------------------------------------------- a forked child


def test_a_forked_child_leaves_the_program_to_its_parent(
    script: Callable[..., str],
) -> None:
    said = script(
        """
        import gc, os
        import ae_core as ae
        from ae_core._process import spawn

        before = len(os.listdir("/proc/self/fd"))
        out = bytearray()
        process = ae.run_cmd("cat; exit 3", stdin=lambda: data.pop(), stdout=out)
        data = [b"", b"text"]
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                ae.sleep(0).recv()  # the child finds out that it is one
                pid = process.pid
                del process
                gc.collect()
                assert spawn._abandoned == [], "not ours to be waited for"
                os.kill(pid, 0)
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        print(process.recv(60), out.decode())
        """
    )
    assert said == "768 text\n"
