"""The system calls behind the built-in loop, each by itself; Windows' select by emulation."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import sys
import threading
from collections.abc import Iterator

import pytest

import ae_core as ae
from ae_core._backends import _multiplexers, _select_thread
from ae_core._backends._multiplexers import (
    BROKEN,
    INVALID,
    MULTIPLEXERS,
    READ,
    WRITE,
    Multiplexer,
)
from ae_core.testing import Trace

sockets_only = pytest.mark.skipif(
    sys.platform == "win32", reason="only sockets can be waited for, under numbers nobody chooses"
)


@pytest.fixture(params=MULTIPLEXERS)
def mux(request: pytest.FixtureRequest) -> Iterator[Multiplexer]:
    mux = MULTIPLEXERS[request.param]()
    yield mux
    mux.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def test_the_best_is_the_first() -> None:
    assert _multiplexers.best() == next(iter(MULTIPLEXERS))
    assert list(MULTIPLEXERS) == [
        name for name in ("epoll", "kqueue", "poll", "select") if name in MULTIPLEXERS
    ]


def test_readiness_in_both_directions(
    mux: Multiplexer, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, right = pair
    fd = right.fileno()
    assert mux.wait(0) == []
    mux.change(fd, 0, READ)
    assert mux.wait(0) == []
    left.send(b"x")
    assert mux.wait(-1) == [(fd, READ)]
    mux.change(fd, READ, READ | WRITE)
    masks = 0
    for found, mask in mux.wait(0):
        assert found == fd
        masks |= mask
    assert masks == READ | WRITE
    mux.change(fd, READ | WRITE, WRITE)
    assert mux.wait(0) == [(fd, WRITE)]
    mux.change(fd, WRITE, 0)
    assert mux.wait(0) == []


@sockets_only
def test_a_hang_up_is_reported(mux: Multiplexer) -> None:
    reader, writer = os.pipe()
    mux.change(reader, 0, READ)
    os.close(writer)
    ((fd, mask),) = mux.wait(-1)
    assert fd == reader
    assert mask & (READ | BROKEN)
    os.close(reader)


def test_a_closed_descriptor_is_an_error_at_once(mux: Multiplexer) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        mux.change(10_000, 0, READ)


def test_one_that_was_closed_under_its_watcher_does_not_end_the_wait(
    mux: Multiplexer, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, right = pair
    other = right.fileno()
    mux.change(left.fileno(), 0, READ)
    mux.change(other, 0, READ)
    right.close()
    for fd, mask in mux.wait(0):
        assert mask & INVALID or fd == left.fileno()  # which notices that its peer has gone
    with contextlib.suppress(OSError, KeyError):
        mux.change(other, READ, 0)
    assert (left.fileno(), READ) in [(fd, mask & READ) for fd, mask in mux.wait(-1)]


def test_the_wait_is_not_shorter_than_asked_for(mux: Multiplexer) -> None:
    import time

    started = time.monotonic()
    assert mux.wait(0.0123) == []
    # poll counts whole milliseconds, rounded up; clocks of the kernel differ by a trifle
    assert time.monotonic() - started >= 0.0115


@pytest.fixture
def host() -> Iterator[Multiplexer]:
    """Give a multiplexer that waits for guests, if this system has one."""
    mux = MULTIPLEXERS[_multiplexers.best()]()
    if not mux.can_poll_extra:
        mux.close()
        pytest.skip("the best multiplexer here does without")
    yield mux
    mux.close()


def test_a_guest_is_reported_beside_what_the_kernel_knows_and_forgotten(
    host: Multiplexer, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, right = (sock.fileno() for sock in pair)
    host.add(left, READ)
    assert host.wait_with(-1, {right: WRITE}) == [(right, WRITE)]
    assert host.wait_with(0, {right: READ}) == []
    pair[1].send(b"x")
    assert host.wait_with(-1, {right: READ}) == [(left, READ)]
    assert host.wait_with(-1, {right: READ | WRITE}) == [(left, READ), (right, WRITE)]
    assert host.wait(-1) == [(left, READ)]
    with pytest.raises(FileNotFoundError):
        host.remove(right)


def test_the_wait_with_a_guest_is_as_long_as_asked_for(
    host: Multiplexer, pair: tuple[socket.socket, socket.socket]
) -> None:
    import time

    started = time.monotonic()
    assert host.wait_with(0.0123, {pair[0].fileno(): READ}) == []
    assert time.monotonic() - started >= 0.0115


def test_a_guest_that_is_closed_is_reported_as_such(host: Multiplexer) -> None:
    assert host.wait_with(-1, {10_000: READ}) == [(10_000, INVALID)]


def test_more_guests_than_files_may_be_open_are_none(host: Multiplexer) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        assert host.wait_with(-1, dict.fromkeys(range(1000, 1064), READ)) == []
        assert len(host.wait_with(-1, dict.fromkeys(range(1000, 1063), READ))) == 63
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_failed_connect_is_reported(mux: Multiplexer) -> None:
    with socket.socket() as closed, socket.socket() as sock:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        sock.setblocking(False)
        sock.connect_ex(closed.getsockname())
        mux.change(sock.fileno(), 0, WRITE)
        ((fd, mask),) = mux.wait(-1)
        assert fd == sock.fileno()
        assert mask & (WRITE | BROKEN)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
        mux.remove(fd)


@sockets_only
def test_closed_and_opened_again_under_the_same_number(mux: Multiplexer) -> None:
    one = socket.socketpair()
    fd = one[1].fileno()
    mux.change(fd, 0, READ)
    two = socket.socketpair()
    os.dup2(two[1].fileno(), fd)
    mux.change(fd, READ, READ | WRITE)
    assert (fd, WRITE) in mux.wait(0)
    mux.change(fd, READ | WRITE, 0)
    for sock in (*one, *two):
        sock.close()


def test_stop_waits_until_the_thread_of_select_has_left_the_descriptor(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]
) -> None:
    # a system call that waits for a file keeps it open, and a server that is closed would accept
    forgotten: list[int] = []

    class Slow(_multiplexers.Select):
        def change(self, fd: int, old: int, new: int) -> None:
            if not new:
                threading.Event().wait(0.02)
                forgotten.append(fd)
            super().change(fd, old, new)

    monkeypatch.setattr(_select_thread, "Select", Slow)
    thread = _select_thread.SelectThread(lambda call: None, lambda fd, write, error: None)
    one, two = (sock.fileno() for sock in pair)
    thread.start(one, False, lambda: None)
    thread.start(two, False, lambda: None)
    thread.stop(one, False)
    assert forgotten == [one]
    thread.close()


# ---------------------------------------------------------------------- Windows


class WindowsSelect(_multiplexers.Select):
    """As on Windows: a count limit, sockets that fail only in the exception set."""

    windows = True
    chunk = 4
    failed: set[int] = set()


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> WindowsSelect:
    if sys.platform == "win32":
        pytest.skip("an emulation of Windows, for systems with descriptors")
    real = select.select
    WindowsSelect.failed = set()

    def winsock(
        read: list[int], write: list[int], errors: list[int], timeout: float | None
    ) -> tuple[list[int], list[int], list[int]]:
        if not read and not write and not errors:
            raise OSError(10022, "WSAEINVAL")
        assert len(read) <= WindowsSelect.chunk
        assert len(write) <= WindowsSelect.chunk
        failed = [fd for fd in errors if fd in WindowsSelect.failed]
        alive = [fd for fd in write if fd not in WindowsSelect.failed]
        found = real(read, alive, [], 0 if failed else timeout)
        return found[0], found[1], failed

    monkeypatch.setattr(_multiplexers.select, "select", winsock)
    return WindowsSelect()


def test_on_windows_a_failed_connect_is_writable(
    windows: WindowsSelect, pair: tuple[socket.socket, socket.socket]
) -> None:
    # LOOP-07
    fd = pair[1].fileno()
    WindowsSelect.failed = {fd}
    windows.change(fd, 0, WRITE)
    assert windows.wait(-1) == [(fd, WRITE)]


def test_on_windows_nothing_to_wait_for_is_a_sleep(windows: WindowsSelect) -> None:
    assert windows.wait(0.001) == []
    assert windows.wait(0) == []


def test_on_windows_more_than_the_limit_are_asked_in_chunks(windows: WindowsSelect) -> None:
    pairs = [socket.socketpair() for _ in range(10)]
    try:
        for _, right in pairs:
            windows.change(right.fileno(), 0, READ)
        assert windows.wait(0) == []
        assert windows.wait(0.02) == []
        for number in (1, 9):
            pairs[number][0].send(b"x")
            assert (pairs[number][1].fileno(), READ) in windows.wait(-1)
        pairs[1][1].recv(1)
        assert windows.wait(-1) == [(pairs[9][1].fileno(), READ)]
    finally:
        for sock in (sock for pair in pairs for sock in pair):
            sock.close()


@pytest.mark.usefixtures("unbound", "windows")
def test_the_loop_works_with_windows_select(monkeypatch: pytest.MonkeyPatch, trace: Trace) -> None:
    monkeypatch.setitem(MULTIPLEXERS, "select", WindowsSelect)
    ae.use("loop", multiplexer="select")
    pairs = [socket.socketpair() for _ in range(6)]
    try:
        watchers: list[ae.Watcher] = []
        for number, (left, right) in enumerate(pairs):

            def ready(right: socket.socket = right, number: int = number) -> None:
                right.recv(1)
                trace(number)

            watchers.append(ae.io(right, "r", ready))
            left.send(b"x")
        with ae.timer(0.001, trace.recorder("timer")):
            trace.run_until(7)
        assert set(trace) == {"timer", *range(6)}
        WindowsSelect.failed = {pairs[0][0].fileno()}
        with ae.io(pairs[0][0], "w", trace.recorder("failed connect")):
            trace.run_until(8)
        assert trace[7] == "failed connect"
        watchers.clear()
    finally:
        for sock in (sock for pair in pairs for sock in pair):
            sock.close()


def test_a_number_that_is_opened_again_at_that_moment_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mux = _multiplexers.Select()
    left, right = socket.socketpair()
    with left, right:
        mux.change(left.fileno(), 0, READ)

        def closed_then(*args: object) -> tuple[list[int], list[int], list[int]]:
            raise OSError(errno.EBADF, "closed when it was asked about, open when we look")

        monkeypatch.setattr(select, "select", closed_then)
        assert mux.wait(0.0) == []
