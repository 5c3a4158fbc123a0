"""``run_cmd(streams=True)``: the ends of a program's streams, as sockets."""

from __future__ import annotations

import gc
import os
import socket

import pytest

if os.name == "nt":
    pytest.skip("programs are given sockets on POSIX only", allow_module_level=True)

import ae_core as ae

PATIENCE = 60.0


def everything(sock: socket.socket) -> bytes:
    """Read until the end, and close."""
    sock.setblocking(True)
    with sock, sock.makefile("rb") as stream:
        return stream.read()


def test_the_three_ends_are_sockets_that_do_not_block() -> None:
    process = ae.run_cmd("cat; echo error >&2; exit 3", streams=True)
    stdin, stdout, stderr = process.streams()
    assert {sock.gettimeout() for sock in (stdin, stdout, stderr)} == {0.0}
    assert not any(os.get_inheritable(sock.fileno()) for sock in (stdin, stdout, stderr))
    stdin.sendall(b"text")
    stdin.close()
    assert everything(stdout) == b"text"
    assert everything(stderr) == b"error\n"
    assert process.recv(PATIENCE) == 768


def test_the_end_of_the_program_does_not_wait_for_its_streams() -> None:
    process = ae.run_cmd("sleep 60 & echo $!", streams=True)
    stdin, stdout, stderr = process.streams()
    assert process.recv(PATIENCE) == 0  # what it has started still holds them
    stdout.setblocking(True)
    os.kill(int(stdout.recv(100)), 15)
    assert everything(stdout) == b""
    stdin.close()
    stderr.close()


def test_what_was_redirected_has_no_end_here() -> None:
    errors = bytearray()
    process = ae.run_cmd("cat; echo error >&2", stdin=b"data", stderr=errors, streams=True)
    stdin, stdout, stderr = process.streams()
    assert (stdin, stderr) == (None, None)
    assert process.recv(PATIENCE) == 0
    assert everything(stdout) == b"data"
    assert errors == b"error\n"


def test_writing_to_what_the_program_writes_to_is_an_error() -> None:
    process = ae.run_cmd(["true"], streams=True)
    stdin, *outputs = process.streams()
    stdin.close()
    for sock in outputs:
        with sock, pytest.raises(BrokenPipeError):
            sock.send(b"x")
    process.recv(PATIENCE)


def test_they_are_handed_over_once_and_only_if_asked_for() -> None:
    process = ae.run_cmd(["true"], streams=True)
    for sock in process.streams():
        sock.close()
    with pytest.raises(RuntimeError, match="handed over already"):
        process.streams()
    process.recv(PATIENCE)
    process = ae.run_cmd(["true"])
    with pytest.raises(RuntimeError, match="streams=True"):
        process.streams()
    process.recv(PATIENCE)
    with pytest.raises(ValueError, match="capture"):
        ae.run_cmd(["true"], streams=True, capture=True)


def test_streams_that_nobody_has_taken_are_closed_with_the_process() -> None:
    ae.run_cmd(["true"]).recv(PATIENCE)  # what the first program opens stays open
    before = len(os.listdir("/proc/self/fd"))
    process = ae.run_cmd(["cat"], streams=True)  # ends when its input does
    pid = process.pid
    process.cancel()
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # of the watched child
    with pytest.raises(RuntimeError, match="handed over already, or closed"):
        process.streams()
    ended: ae.CondVar[int] = ae.CondVar()
    watcher = ae.child(pid, lambda _, status: ended.send(status))
    ended.recv(PATIENCE)
    watcher.cancel()
    process = ae.run_cmd(["true"], streams=True)
    assert process.recv(PATIENCE) == 0
    del process
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_those_of_a_program_that_cannot_be_started_are_at_their_end() -> None:
    process = ae.run_cmd(["ae-no-such-program"], streams=True)
    stdin, stdout, stderr = process.streams()
    with pytest.raises(FileNotFoundError):
        process.recv(PATIENCE)
    with stdin, pytest.raises(BrokenPipeError):
        stdin.send(b"x")
    assert everything(stdout) == everything(stderr) == b""


def test_a_cancelled_program_leaves_the_sockets_to_who_has_them() -> None:
    process = ae.run_cmd(["sleep", "60"], streams=True)
    ended: ae.CondVar[int] = ae.CondVar()
    watcher = ae.child(process.pid, lambda _, status: ended.send(status))
    stdin, stdout, stderr = process.streams()
    process.cancel()
    assert ended.recv(PATIENCE) == 15
    watcher.cancel()
    assert everything(stdout) == everything(stderr) == b""
    assert stdin.fileno() >= 0
    stdin.close()


def test_without_descriptors_the_call_fails_and_leaves_nothing_behind() -> None:
    import resource

    ae.run_cmd(["true"]).recv(PATIENCE)  # what the first program opens stays open
    before = len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 5, hard))
    spare: list[int] = []
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                spare.append(os.dup(0))
        for _ in range(3):  # room for the first pair
            os.close(spare.pop())
        with pytest.raises(OSError, match="Too many open files"):
            ae.run_cmd(["true"], streams=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for fd in spare:
        os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == before
