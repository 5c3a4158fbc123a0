"""ae_core.files: asynchronous file operations."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import ANY

import pytest

import ae_core as ae
from ae_core import files
from ae_core._async import thread_pool
from ae_core.testing import release

T = TypeVar("T")
PATIENCE = 60.0  # a hang, not a measure
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
permissions = pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")


@pytest.fixture(autouse=True)
def no_threads_stay() -> Iterator[None]:
    yield
    thread_pool.shutdown()
    assert [t.name for t in threading.enumerate() if t.name.startswith("ae-core")] == []


def done(condvar: ae.CondVar[T]) -> T:
    assert not condvar.ready  # rule 2: never ready inside the call that made it
    return condvar.recv(PATIENCE)


def error_of(condvar: ae.CondVar[Any]) -> int | None:
    with pytest.raises(OSError) as caught:
        done(condvar)
    return caught.value.errno


# ---------------------------------------------------------------------- upstream's script


def test_upstreams_script(tmp_path: Path) -> None:
    directory = tmp_path / "D"
    test, test2 = directory / "test", directory / "test2"
    assert done(files.mkdir(directory)) is None
    assert error_of(files.mkdir(directory)) == errno.EEXIST
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    fd = done(files.open(test, flags))
    assert isinstance(fd, int)
    assert error_of(files.open(test, flags)) == errno.EEXIST
    assert error_of(files.rmdir(directory)) == errno.ENOTEMPTY
    assert done(files.write(fd, b"tes--")) == 5
    assert done(files.write(fd, b"test2")) == 5
    assert done(files.write(fd, b"")) == 0
    assert done(files.seek(fd, 3)) == 3
    assert done(files.write(fd, b"t1")) == 2
    assert done(files.stat(fd)).st_size == 10
    assert done(files.stat(test)).st_size == 10
    assert done(files.lstat(test)).st_size == 10
    assert done(files.close(fd)) is None
    assert done(files.rename(test, test2)) is None
    assert done(files.load(test2)) == b"test1test2"
    assert error_of(files.unlink(test)) == errno.ENOENT
    assert done(files.unlink(test2)) is None
    assert done(files.rmdir(directory)) is None
    assert not directory.exists()


# ---------------------------------------------------------------------- one by one


def test_load_gives_the_whole_file(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    (tmp_path / "file").write_bytes(data)
    assert done(files.load(tmp_path / "file")) == data
    assert done(files.load(str(tmp_path / "file"))) == data
    assert done(files.load(os.fsencode(tmp_path / "file"))) == data


def test_load_of_an_empty_file_is_a_result(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert done(files.load(tmp_path / "empty")) == b""


@needs_proc
def test_load_reads_what_has_no_size() -> None:
    assert os.stat("/proc/self/status").st_size == 0
    assert b"Name:" in done(files.load("/proc/self/status"))


def test_load_errors(tmp_path: Path) -> None:
    assert error_of(files.load(tmp_path / "missing")) == errno.ENOENT
    assert error_of(files.load(tmp_path)) == (errno.EISDIR if os.name == "posix" else errno.EACCES)


def test_open_reads_by_default_and_is_not_inherited(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    fd = done(files.open(tmp_path / "file"))
    try:
        assert not os.get_inheritable(fd)
        assert done(files.read(fd, 3)) == b"con"
        assert done(files.read(fd, 100)) == b"tent"
        assert done(files.read(fd, 100)) == b""
        assert done(files.read(fd, 0)) == b""
        assert error_of(files.write(fd, b"x")) == errno.EBADF
    finally:
        done(files.close(fd))
    assert error_of(files.read(fd, 1)) == errno.EBADF


@permissions
def test_open_mode_is_subject_to_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        os.close(done(files.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY, 0o666)))
        done(files.mkdir(tmp_path / "directory", 0o777))
    finally:
        os.umask(old)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "directory").stat().st_mode & 0o777 == 0o750


def test_seek_gives_the_position_even_if_it_is_zero(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with open(tmp_path / "file", "rb") as file:
        assert done(files.seek(file, -2, os.SEEK_END)) == 5
        assert done(files.seek(file, 1, os.SEEK_CUR)) == 6
        assert done(files.seek(file, 0)) == 0
        assert error_of(files.seek(file, -1)) == errno.EINVAL


def test_write_of_every_bytes_like_kind_takes_a_copy(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)
    data = bytearray(b"two")
    first = files.write(fd, memoryview(b"xone")[1:])
    second = files.write(fd, data)
    data[:] = b"changed"
    assert (done(first), second.recv(PATIENCE)) == (3, 3)
    done(files.close(fd))
    assert (tmp_path / "file").read_bytes() == b"onetwo"


@pytest.mark.skipif(os.name != "posix", reason="needs a pipe that takes a part")
def test_write_writes_everything_or_says_how_much() -> None:
    r, w = os.pipe()
    os.set_blocking(w, False)
    try:
        written = done(files.write(w, b"x" * 1_000_000))
        assert 0 < written < 1_000_000
        assert error_of(files.write(w, b"x")) == errno.EAGAIN
    finally:
        os.close(r)
        os.close(w)


def test_truncate_by_path_and_by_descriptor(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    assert done(files.truncate(file, 4)) is None
    assert file.read_bytes() == b"cont"
    with open(file, "rb+") as handle:
        done(files.truncate(handle, 6))
    assert file.read_bytes() == b"cont\0\0"


def test_utime(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert done(files.utime(file, 1000, 2000.5)) is None
    status = done(files.stat(file))
    # Wine keeps no time of access: os.utime() alone shows it, followed by os.stat()
    assert (status.st_atime, status.st_mtime) == (1000 if os.name == "posix" else ANY, 2000.5)
    done(files.utime(file, None, None))
    assert file.stat().st_mtime > 1_000_000_000
    with open(file) as handle:
        if os.utime in os.supports_fd:
            done(files.utime(handle, 3000, 4000))
            assert file.stat().st_mtime == 4000
        else:
            assert error_of(files.utime(handle, 3000, 4000)) == errno.ENOSYS


@pytest.mark.skipif(not hasattr(os, "chown"), reason="needs chown")
def test_chown_leaves_what_is_none(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    before = file.stat()
    assert done(files.chown(file, None, None)) is None
    assert done(files.chown(file, before.st_uid, None)) is None
    with open(file) as handle:
        done(files.chown(handle, None, before.st_gid))
    assert (file.stat().st_uid, file.stat().st_gid) == (before.st_uid, before.st_gid)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_chown_changes_the_other_one(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    before = file.stat()
    done(files.chown(file, 12345, None))
    assert (file.stat().st_uid, file.stat().st_gid) == (12345, before.st_gid)
    done(files.chown(file, None, 54321))
    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 54321)


@permissions
def test_chmod(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert done(files.chmod(file, 0o600)) is None
    assert file.stat().st_mode & 0o777 == 0o600
    with open(file) as handle:
        done(files.chmod(handle.fileno(), 0o640))
    assert file.stat().st_mode & 0o777 == 0o640


def test_links(tmp_path: Path) -> None:
    file, hard = tmp_path / "file", tmp_path / "hard"
    file.write_bytes(b"content")
    assert done(files.link(file, hard)) is None
    assert hard.stat().st_ino == file.stat().st_ino
    assert error_of(files.link(tmp_path / "missing", tmp_path / "x")) == errno.ENOENT


@pytest.mark.skipif(os.name == "nt", reason="symbolic links are a privilege on Windows")
def test_symbolic_links(tmp_path: Path) -> None:
    file, soft = tmp_path / "file", tmp_path / "soft"
    file.write_bytes(b"content")
    assert done(files.symlink("file", soft)) is None
    assert done(files.readlink(soft)) == "file"
    assert done(files.readlink(os.fsencode(soft))) == "file"
    assert done(files.stat(soft)).st_size == 7
    assert done(files.lstat(soft)).st_ino != file.stat().st_ino
    assert error_of(files.readlink(file)) == errno.EINVAL


def test_rename_replaces(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "new").write_bytes(b"new")
    done(files.rename(tmp_path / "old", tmp_path / "new"))
    assert os.listdir(tmp_path) == ["new"]
    assert (tmp_path / "new").read_bytes() == b"old"


def test_readdir(tmp_path: Path) -> None:
    assert done(files.readdir(tmp_path)) == []
    for name in ("a", ".hidden", "ä"):
        (tmp_path / name).touch()
    for path in (tmp_path, str(tmp_path), os.fsencode(tmp_path)):
        names = done(files.readdir(path))
        assert sorted(names) == [".hidden", "a", "ä"]
    # Wine says that the name is bad: os.listdir() alone shows it
    expected = (errno.ENOTDIR, errno.EINVAL) if os.name == "nt" else (errno.ENOTDIR,)
    assert error_of(files.readdir(tmp_path / "a")) in expected


def test_close_closes_a_file_object_itself(tmp_path: Path) -> None:
    file = open(tmp_path / "file", "wb")  # noqa: SIM115
    file.write(b"buffered")
    done(files.close(file))
    assert file.closed
    assert (tmp_path / "file").read_bytes() == b"buffered"


def test_they_can_be_awaited(tmp_path: Path) -> None:
    async def main() -> bytes:
        fd = await files.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
        await files.write(fd, b"content")
        await files.seek(fd, 0)
        data = await files.read(fd, 100)
        await files.close(fd)
        return data

    assert ae.run(main()) == b"content"


# ---------------------------------------------------------------------- order, cancelling, lifetime


def test_calls_on_a_descriptor_are_done_in_order(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)
    writes = [files.write(fd, b"%d " % n) for n in range(200)]
    closed = files.close(fd)
    closed.recv(PATIENCE)
    assert all(write.ready for write in writes)
    assert (tmp_path / "file").read_bytes().split() == [b"%d" % n for n in range(200)]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_call_that_hangs_holds_up_nobody_else(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_bytes(b"content")
    hanging = files.load(tmp_path / "fifo")
    assert done(files.load(tmp_path / "file")) == b"content"
    assert not hanging.ready
    (tmp_path / "fifo").write_bytes(b"from the fifo")
    assert hanging.recv(PATIENCE) == b"from the fifo"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_cancelled_open_closes_what_it_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "fifo")
    begun = threading.Event()
    really_open = os.open

    def slow_open(path: Any, flags: int, mode: int) -> int:
        begun.set()
        return really_open(path, flags, mode)

    monkeypatch.setattr(os, "open", slow_open)
    opening = files.open(tmp_path / "fifo", os.O_WRONLY)
    assert begun.wait(PATIENCE)
    opening.cancel()
    assert opening.cancelled
    fd = really_open(tmp_path / "fifo", os.O_RDONLY)  # lets the other side go
    thread_pool.shutdown()
    done(files.stat(fd))  # turns of the loop: what has arrived is looked at
    assert os.read(fd, 1) == b""  # end of file: nobody has it open for writing
    os.close(fd)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_cancelled_call_that_has_not_begun_is_not_done(tmp_path: Path) -> None:
    r, w = os.pipe()
    hanging = files.read(r, 1)  # occupies the lane of the descriptor
    dropped = files.read(r, 1)
    last = files.read(r, 1)
    dropped.cancel()
    os.write(w, b"ab")
    assert (hanging.recv(PATIENCE), last.recv(PATIENCE)) == (b"a", b"b")
    os.close(r)
    os.close(w)


def test_forgetting_the_result_changes_nothing(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)
    files.write(fd, b"content")
    files.close(fd).recv(PATIENCE)
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_call_in_progress_is_no_deadlock(tmp_path: Path) -> None:
    seen = ae.CondVar[bytes]()
    (tmp_path / "file").write_bytes(b"content")
    files.load(tmp_path / "file").on_ready(lambda condvar: seen.send(condvar.recv()))
    assert seen.recv() == b"content"
    with pytest.raises(ae.Deadlock):
        ae.CondVar[None]().recv()


def test_idle_threads_go_away_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_pool, "IDLE", 0.01)
    done(files.readdir(tmp_path))
    for thread in threading.enumerate():
        if thread.name.startswith("ae-core"):
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_no_thread_at_all_is_an_error_that_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for call in (lambda: files.readdir(tmp_path), lambda: files.read(0, 1)):
            with pytest.raises(RuntimeError, match="can't start"):
                call()
    with pytest.raises(ae.Deadlock):
        ae.CondVar[None]().recv()
    assert done(files.readdir(tmp_path)) == []
    assert done(files.stat(0)).st_mode  # the descriptor's lane is free


@needs_proc
def test_a_result_for_a_loop_that_has_ended_is_undone(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    opening = files.open(tmp_path)
    release()
    thread_pool.shutdown()
    assert not opening.ready
    assert len(os.listdir("/proc/self/fd")) <= before


def test_there_is_a_limit_to_the_threads(tmp_path: Path) -> None:
    calls = [files.readdir(tmp_path) for _ in range(500)]
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("ae-core")]
    assert len(ours) <= thread_pool.MOST_THREADS
    assert [call.recv(PATIENCE) for call in calls] == [[]] * 500


@pytest.mark.parametrize("value", [1 << 63, -(1 << 63) - 1])
def test_a_number_that_no_system_takes_is_refused_at_the_call(value: int) -> None:
    with pytest.raises(ValueError, match="n: expected an int below"):
        files.read(0, value)


@pytest.mark.parametrize("value", [1e300, -1e300])
def test_a_time_that_no_system_takes_is_refused_at_the_call(value: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="atime: expected less than"):
        files.utime(tmp_path, value, 0)


def test_what_the_system_lacks_is_the_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "chown", raising=False)
    monkeypatch.setattr(os, "supports_fd", set())
    with open(tmp_path / "file", "wb") as file:
        assert error_of(files.chown(tmp_path, 0, 0)) == errno.ENOSYS
        assert error_of(files.chmod(file, 0o600)) == errno.ENOSYS
        assert error_of(files.utime(file, 0, 0)) == errno.ENOSYS


EXIT = """
import os, sys
from ae_core import files

fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
for n in range(300):
    files.write(fd, b"%d " % n)
"""


def test_what_was_started_is_finished_at_exit(tmp_path: Path) -> None:
    program = [sys.executable, "-c", EXIT, str(tmp_path / "file")]
    done = subprocess.run(program, capture_output=True, timeout=60, check=True)
    assert done.stderr == b""
    assert (tmp_path / "file").read_bytes().split() == [b"%d" % n for n in range(300)]


THREAD = """
import os, sys, threading
from ae_core import files

def work():
    with open(sys.argv[1], "wb") as file:
        assert files.write(file, b"content").recv() == 7

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def test_every_thread_has_its_own_loop_for_the_results(tmp_path: Path) -> None:
    program = [sys.executable, "-c", THREAD, str(tmp_path / "file")]
    subprocess.run(program, timeout=60, check=True)
    assert (tmp_path / "file").read_bytes() == b"content"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_its_own_threads(tmp_path: Path) -> None:
    done(files.readdir(tmp_path))
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            assert files.readdir(tmp_path).recv(PATIENCE) == []
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


# ---------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: files.load(3), TypeError, "path"),  # type: ignore[arg-type]
        (lambda: files.load("a\0b"), ValueError, "null character"),
        (lambda: files.load(b"a\0b"), ValueError, "null character"),
        (lambda: files.open("x", "r"), TypeError, "flags"),  # type: ignore[arg-type]
        (lambda: files.open("x", 0, "r"), TypeError, "mode"),  # type: ignore[arg-type]
        (lambda: files.read("name", 1), TypeError, "'name'"),  # type: ignore[arg-type]
        (lambda: files.read(True, 1), TypeError, "True"),
        (lambda: files.read(-1, 1), ValueError, "-1"),
        (lambda: files.read(0, -1), ValueError, "-1"),
        (lambda: files.read(0, 1.5), TypeError, "1.5"),  # type: ignore[arg-type]
        (lambda: files.write(1, "text"), TypeError, "bytes-like"),  # type: ignore[arg-type]
        (lambda: files.seek(0, None), TypeError, "offset"),  # type: ignore[arg-type]
        (lambda: files.seek(0, 0, "set"), TypeError, "whence"),  # type: ignore[arg-type]
        (lambda: files.truncate(None, 0), TypeError, "None"),  # type: ignore[arg-type]
        (lambda: files.truncate("x", 1.0), TypeError, "1.0"),  # type: ignore[arg-type]
        (lambda: files.utime("x", 1, None), ValueError, "None"),
        (lambda: files.utime("x", "1", 2), TypeError, "atime"),  # type: ignore[arg-type]
        (lambda: files.utime("x", 1, float("nan")), ValueError, "nan"),
        (lambda: files.chown("x", "root", None), TypeError, "uid"),  # type: ignore[arg-type]
        (lambda: files.chmod("x", "755"), TypeError, "mode"),  # type: ignore[arg-type]
        (lambda: files.mkdir("x", None), TypeError, "mode"),  # type: ignore[arg-type]
        (lambda: files.symlink(3, "x"), TypeError, "3"),  # type: ignore[arg-type]
    ],
)
def test_bad_arguments_are_refused_at_once(
    call: Callable[[], object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        call()
    assert text in str(caught.value)
