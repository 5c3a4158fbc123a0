"""Descriptors of ours: how they are closed and woken by, and which a loop takes."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator

import pytest

from ae_core import logs
from ae_core._base import closing, wakeup
from ae_core._base.closing import close_descriptor, close_socket
from ae_core._base.descriptors import check_waitable
from ae_core._base.wakeup import Wakeup

posix_only = pytest.mark.skipif(os.name == "nt", reason="POSIX only")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        if is_open(fd):
            os.close(fd)


@pytest.fixture
def warned(fresh_logs: None) -> list[str]:
    """What ``ae_core`` logs."""
    messages: list[str] = []
    logs.ctx("ae_core").log_callback(lambda text: messages.append(text) or True)
    return messages


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


# ---------------------------------------------------------------------- closing


def test_an_error_of_close_is_logged_and_the_descriptor_closed_all_the_same(
    pipe: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
    warned: list[str],
) -> None:
    """As on systems whose ``close()`` leaves open what it fails for."""
    real, failures = os.close, [OSError(errno.EIO, "input/output error")]

    def close(fd: int) -> None:
        if failures:
            raise failures.pop()
        real(fd)

    monkeypatch.setattr(os, "close", close)
    close_descriptor(pipe[0])
    assert not is_open(pipe[0])
    assert is_open(pipe[1])
    assert "input/output error" in warned[0]


def test_a_descriptor_that_an_error_of_close_has_closed_is_not_closed_again(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch, fresh_logs: None
) -> None:
    """As on Linux; another thread may have the number by then."""
    real, closed = os.close, []

    def close(fd: int) -> None:
        real(fd)
        if fd not in closed:
            closed.append(fd)
            os.dup2(other, fd)
            raise OSError(errno.EIO, "input/output error")

    other = os.open(os.devnull, os.O_RDONLY)
    monkeypatch.setattr(os, "close", close)
    close_descriptor(pipe[0])
    assert os.path.sameopenfile(other, pipe[0])
    close_descriptor(other)
    assert not is_open(other)


def test_what_is_closed_already_is_logged_and_nothing_else(
    pipe: tuple[int, int], warned: list[str]
) -> None:
    os.close(pipe[0])
    close_descriptor(pipe[0])
    assert os.strerror(errno.EBADF) in warned[0]


def test_an_error_that_closes_nothing_again_ends_there(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch, fresh_logs: None
) -> None:
    tries: list[int] = []

    def fails(fd: int) -> None:
        tries.append(fd)
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(closing, "_close", fails)
    close_descriptor(pipe[0])
    assert tries == [pipe[0]] * 2


@posix_only
def test_an_error_of_closing_a_socket_is_logged(warned: list[str]) -> None:
    left, right = socket.socketpair()
    with right:
        number = left.fileno()
        os.close(number)
        close_socket(left)
    assert f"closing descriptor {number}: [Errno {errno.EBADF}]" in warned[0]


# ---------------------------------------------------------------------- wake-up


@pytest.mark.parametrize("one_byte", [False, True])
def test_a_wake_up_descriptor_that_is_full_or_closed_takes_no_more(one_byte: bool) -> None:
    one = Wakeup(one_byte=one_byte)
    assert one.drain() == b""
    one.notify()
    assert one.drain() == b"\0" * one_byte
    if len({one.fd, one.sender}) == 1:
        os.eventfd_write(one.fd, 2**64 - 2)
    else:
        with pytest.raises(BlockingIOError):
            while True:
                wakeup._send(one.sender)
    one.notify()
    assert len(one.drain()) > 4096 or not one_byte
    one.close()
    one.notify()
    assert one.drain() == b""


# ---------------------------------------------------------------------- what a loop takes


@pytest.mark.skipif(sys.platform != "linux", reason="epoll is asked")
def test_a_device_passes_where_no_descriptor_is_left_to_ask_by() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        with pytest.raises(PermissionError):
            check_waitable(null)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        check_waitable(null)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(null)
