"""Loops with asyncio's interface of other kinds, and what comes out of one that ``recv()`` runs."""

from __future__ import annotations

import asyncio
import errno
import os
import selectors
import signal
import socket
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest

import ae_core as ae
from ae_core._backends._uvloop_polls import UvloopPolls
from ae_core._detection.current import current_loop
from ae_core.testing import Trace, binding

pytestmark = pytest.mark.usefixtures("unbound")

posix_only = pytest.mark.skipif(os.name == "nt", reason="POSIX only")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


# ---------------------------------------------------------------------- kinds of loops


def by_select() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


@posix_only
def test_a_loop_of_asyncio_on_select_refuses_what_that_cannot_take() -> None:
    import fcntl

    reader, writer = os.pipe()
    try:
        with binding("asyncio", loop_factory=by_select):
            os.write(writer, b"x")
            ready = ae.CondVar[None]()
            watcher = ae.io(reader, "r", ready)
            ready.recv(30)
            watcher.cancel()
            try:
                high = fcntl.fcntl(reader, fcntl.F_DUPFD, 1024)
            except OSError:
                pytest.skip("so many descriptors are not permitted")
            with pytest.raises(OSError, match="its limit is 1023") as refused:
                ae.io(high, "r", print)
            os.close(high)
            assert refused.value.errno == errno.EMFILE
            with pytest.raises((OSError, ValueError), match="Bad file descriptor"):
                ae.io(high, "r", print)
    finally:
        os.close(reader)
        os.close(writer)


class Other(asyncio.AbstractEventLoop):
    """A loop that shares no code with asyncio's own, as far as one can tell."""


def _passed_on(name: str) -> Callable[..., Any]:
    return lambda self, *args, **options: getattr(self.inner, name)(*args, **options)


for _name in (
    *("add_reader", "add_writer", "remove_reader", "remove_writer", "call_soon"),
    *("call_soon_threadsafe", "call_later", "create_future", "run_until_complete", "is_running"),
    *("is_closed", "close", "get_exception_handler", "set_exception_handler", "get_task_factory"),
):
    setattr(Other, _name, _passed_on(_name))
Other.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]


def other() -> Other:
    loop: Any = Other()
    loop.inner = asyncio.new_event_loop()
    return loop  # type: ignore[no-any-return]


@posix_only
def test_a_loop_that_shares_nothing_with_asyncios_own_watches_descriptors(
    pair: tuple[socket.socket, socket.socket], trace: Trace
) -> None:
    left, right = pair
    with binding("asyncio", loop_factory=other):
        done = ae.CondVar[None]()
        timer = ae.timer(0.001, lambda: left.send(b"x"))
        kept = [ae.io(right, "r", done), ae.io(right, "w", trace.recorder("writable"))]
        done.recv(30)
        assert "writable" in trace
        del kept, timer


class Uvloop:
    """Refuses the other direction of what it has closed, until both are removed."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.broken = True

    def is_closed(self) -> bool:
        return False

    def call_soon(self, call: Callable[..., None], *arguments: Any) -> None:
        self.said.append("call_soon")

    def add(self, name: str, fd: int, callback: Callable[[], None]) -> None:
        if self.broken:
            raise RuntimeError("unable to perform operation; the handler is closed")
        self.said.append(name)
        self.callback = callback

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        self.add("add_reader", fd, callback)

    def add_writer(self, fd: int, callback: Callable[[], None]) -> None:
        self.add("add_writer", fd, callback)

    def remove_reader(self, fd: int) -> None:
        self.said.append("remove_reader")
        self.broken = False

    def remove_writer(self, fd: int) -> None:
        self.said.append("remove_writer")


def test_an_interest_in_a_loop_that_was_closed_ends_in_silence() -> None:
    loop = Uvloop()
    polls = UvloopPolls(loop)
    loop.broken = False
    polls.start(3, False, print)
    loop.is_closed = lambda: True  # type: ignore[method-assign]
    polls.stop(3, False)
    del loop.callback
    assert loop.said == ["add_reader"]
    loop.is_closed = lambda: False  # type: ignore[method-assign]
    polls.start(3, False, print)
    loop.is_closed = lambda: True  # type: ignore[method-assign]
    del loop.callback
    assert loop.said == ["add_reader"] * 2


def test_a_direction_that_uvloop_refuses_beside_a_closed_one_is_watched_anew() -> None:
    loop = Uvloop()
    polls = UvloopPolls(loop)
    polls.start(3, True, print)
    assert loop.said == ["remove_reader", "remove_writer", "add_writer"]
    del loop.callback  # for an error
    assert loop.said[3:] == ["call_soon"]
    polls.close()


@pytest.mark.skipif(find_spec("twisted") is None, reason="needs Twisted")
def test_the_loop_below_twisteds_asyncio_reactor_is_used(script: Callable[..., str]) -> None:
    output = script("""
        import asyncio
        from twisted.internet import asyncioreactor
        loop = asyncio.new_event_loop()
        asyncioreactor.install(loop)
        from twisted.internet import reactor
        import ae_core as ae

        backend = ae.detect()
        print(backend.name, backend.reason, backend.loop is loop)
        reactor.callLater(0.001, lambda: timers.append(ae.timer(0.001, reactor.stop)))
        timers = []
        reactor.run()
        print("stopped")
        """)
    assert output == "asyncio AsyncioSelectorReactor installed True\nstopped\n"


# ---------------------------------------------------------------------- what comes out of a run


@posix_only
def test_a_runtime_error_of_a_signal_handler_leaves_the_wait_as_it_is() -> None:
    def handler(number: int, frame: object) -> None:
        raise RuntimeError("of the program")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with binding("asyncio"):
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            with pytest.raises(RuntimeError, match="of the program"):
                ae.CondVar[None]().recv(30)
            ae.sleep(0.001).recv(30)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("make", [ae.timer, lambda *of: current_loop().timer(*of)])
def test_a_timer_that_an_alarm_breaks_off_when_it_is_made_takes_no_other_with_it(
    make: Callable[..., object], monkeypatch: pytest.MonkeyPatch, trace: Trace
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = ae.CondVar[None]()
        watcher = ae.timer(0.01, done)

        def strike(*arguments: object) -> None:
            monkeypatch.undo()
            raise TimeoutError("of the handler")

        monkeypatch.setattr(loop, "call_later", strike)
        with pytest.raises(TimeoutError, match="of the handler"):
            make(0.005, trace.recorder("broken off"))
        async with asyncio.timeout(30):
            await done
        watcher.cancel()

    asyncio.run(main())
    assert trace == []


def test_a_run_that_is_broken_off_before_its_end_is_ended() -> None:
    """A signal handler has raised where asyncio cleans up."""

    class Broken(asyncio.SelectorEventLoop):
        strikes = 1

        def run_until_complete(self, future: Any) -> Any:
            if self.strikes:
                self.strikes -= 1
                asyncio._set_running_loop(self)
                self._thread_id = 1
                raise LookupError("out of a signal handler")
            return super().run_until_complete(future)

    with binding("asyncio", loop_factory=Broken) as backend:
        assert backend is not None
        with pytest.raises(LookupError):
            ae.CondVar[None]().recv(30)
        assert not backend.running()
        ae.sleep(0.001).recv(30)


@pytest.mark.parametrize("has_handler", [False, True])
def test_errors_of_the_programs_own_callbacks_are_the_programs_matter(
    has_handler: bool, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Any] = []
    loop = asyncio.new_event_loop()
    if has_handler:
        loop.set_exception_handler(lambda loop, context: heard.append(context["exception"]))

    def fails() -> None:
        raise ValueError("of the program")

    try:
        with binding("asyncio", loop=loop):
            loop.call_soon(fails)
            ae.sleep(0.001).recv(30)
            del fails
        assert [str(error) for error in heard] == ["of the program"] * has_handler
        assert ("of the program" in caplog.text) != has_handler
    finally:
        loop.close()


def test_a_wait_that_is_woken_for_nothing_goes_on(trace: Trace) -> None:
    with binding("asyncio") as backend:
        assert backend is not None
        kept = [ae.timer(0.001, backend.wake), ae.timer(0.002, trace.recorder("later"))]
        ae.sleep(0.005).recv(30)
        assert trace == ["later"]
        del kept


def test_a_running_loop_is_not_run_by_its_backend_either() -> None:
    async def main() -> None:
        backend = ae.detect()
        for call in (lambda: backend.run_until(bool), lambda: backend.poll(False)):
            with pytest.raises(ae.BlockingNotAllowed):
                call()
        await ae.sleep(0)

    asyncio.run(main())


# ---------------------------------------------------------------------- ends


@posix_only
def test_watchers_of_what_was_closed_can_be_cancelled_in_both_directions(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    with binding("asyncio"):
        watchers = [ae.io(pair[1], direction, print) for direction in ("r", "w")]
        pair[1].close()
        for watcher in watchers:
            watcher.cancel()
        ae.sleep(0.001).recv(30)


def test_what_a_loop_that_was_closed_watched_and_planned_ends_in_silence(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    loop = asyncio.new_event_loop()
    with binding("asyncio", loop=loop) as backend:
        assert backend is not None
        token = backend.io_start(pair[1].fileno(), False, print)
        loop.remove_reader(pair[1])
        type(loop).close(loop)
        backend.io_stop(token)
        backend.arm(None)
        del loop.close  # what tells us
        backend.close()
        assert not backend.usable()


def test_the_end_of_a_loop_that_did_not_tell_is_found_out_at_the_next_watcher() -> None:
    """Its class closes it behind the method that tells us."""
    loop = asyncio.new_event_loop()
    ae.use("asyncio", loop=loop)
    watcher = ae.timer(60, print)
    type(loop).close(loop)
    with pytest.raises(RuntimeError, match="closed"):
        ae.timer(60, print)
    assert not watcher.active


def test_the_end_of_a_loop_that_rests_is_found_out_when_another_is_looked_for() -> None:
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    kept: list[ae.Watcher] = []

    async def watch() -> None:
        kept.append(ae.timer(60, print))

    first.run_until_complete(watch())
    second.run_until_complete(watch())
    type(first).close(first)
    asyncio.run(watch())
    assert [watcher.active for watcher in kept] == [False, True, False]
    second.close()
    assert not kept[1].active


def test_watchers_in_a_guest_of_our_loop_belong_to_the_loop_below(trace: Trace) -> None:
    guest = asyncio.new_event_loop()
    kept: list[ae.Watcher] = []

    def turn() -> None:
        asyncio._set_running_loop(guest)
        try:
            kept.append(ae.timer(0.001, trace.recorder(ae.detect().name)))
        finally:
            asyncio._set_running_loop(None)

    try:
        for _ in range(2):
            ae.abc.add_guest(guest)
        kept.append(ae.timer(0, turn))
        trace.run_until(1)
        assert trace == ["loop"]
    finally:
        guest.close()
