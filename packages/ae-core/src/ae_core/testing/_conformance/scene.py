"""What a conformance case works with: a stage, and how it says that something is wrong.

A case is a coroutine function. The same case runs *blocking* (every wait is a ``recv()``), as a
*coroutine* of ``ae_core.run``, and *hosted* in a loop that the program runs.
"""

from __future__ import annotations

__all__ = (
    "CASES",
    "Case",
    "CaseFailed",
    "CaseSkipped",
    "Scene",
    "case",
    "expect",
    "expect_equal",
    "expect_raises",
    "run_case",
    "send_once",
)

import os
import socket
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ... import _api
from ..._async import tasks
from ..._async.condvar import CondVar
from ..._detection import current
from ..._detection.current import detect
from ..._loop import exception_hook
from .._binding import binding
from .._leaks import LeakCheck
from .._trace import Trace
from .._virtual import VirtualBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from ..._loop.backend import Backend
    from ..._loop.watchers import Watcher

T = TypeVar("T")
BLOCKING: Final = "blocking"
COROUTINE: Final = "coroutine"
HOSTED: Final = "hosted"


class CaseFailed(AssertionError):
    """The backend does not do what a case demands; the text says what."""


class CaseSkipped(Exception):
    """The case says nothing about this backend, system or thread; the text says why."""


class Case:
    """One demand on a backend.

    Args:
        topic: What it is about: ``"timer"``, ``"io"`` ...
        function: What to do; raises :class:`CaseFailed`.
        ways: The ways in which it can be run; None for all.
        needs: What it needs besides: ``"main thread"``, ``"posix"``, ``"lax"`` (strict mode
            refuses what it is about).
    """

    __slots__ = ("function", "name", "needs", "topic", "ways")

    def __init__(
        self,
        topic: str,
        function: Callable[[Scene], Coroutine[Any, Any, None]],
        ways: tuple[str, ...] | None,
        needs: tuple[str, ...],
    ) -> None:
        self.topic = topic
        self.function = function
        self.name = function.__name__
        self.ways = ways
        self.needs = needs

    def __repr__(self) -> str:
        return f"{self.topic}: {self.name.replace('_', ' ')}"

    def obstacle(self, way: str) -> str | None:
        """Return why it cannot be run here, or None."""
        if self.ways is not None and way not in self.ways:
            return f"says nothing about a {way} program"
        if "main thread" in self.needs and threading.current_thread() is not _main_thread():
            return "needs the main thread"
        if "posix" in self.needs and os.name != "posix":
            return "needs a POSIX system"
        return None


def _main_thread() -> threading.Thread:
    return threading.main_thread()


CASES: list[Case] = []


def case(
    topic: str, *needs: str, ways: tuple[str, ...] | None = None
) -> Callable[[Callable[[Scene], Coroutine[Any, Any, None]]], Case]:
    """Enter a function into the list of cases."""

    def enter(function: Callable[[Scene], Coroutine[Any, Any, None]]) -> Case:
        entry = Case(topic, function, ways, needs)
        CASES.append(entry)
        return entry

    return enter


# ---------------------------------------------------------------------- demands


def expect(condition: Any, demand: str) -> None:
    """Fail with *demand*, a sentence that ought to be true, unless *condition* is."""
    if not condition:
        raise CaseFailed(demand)


def expect_equal(actual: Any, wanted: Any, about: str = "") -> None:
    """Fail unless *actual* equals *wanted*."""
    if actual != wanted:
        raise CaseFailed(f"{about + ': ' if about else ''}expected {wanted!r}, got {actual!r}")


@contextmanager
def expect_raises(kind: type[BaseException]) -> Iterator[list[BaseException]]:
    """Fail unless the block raises an exception of *kind*; it is in the list afterwards."""
    raised: list[BaseException] = []
    try:
        yield raised
    except kind as error:
        raised.append(error)
        return
    raise CaseFailed(f"expected {kind.__name__}, nothing was raised")


def send_once(condvar: CondVar[None]) -> None:
    """Make *condvar* ready; as a callback that may be called again."""
    if not condvar.ready:
        condvar.send()


class Scene:
    """The stage of one case.

    Args:
        way: ``"blocking"``, ``"coroutine"`` or ``"hosted"``.
        patience: Seconds after which a wait is a failure.
    """

    def __init__(self, way: str, patience: float) -> None:
        self.way = way
        self.patience = patience
        self.trace = Trace()
        #: What went to the exception hook: (error, watcher) pairs. A case takes what it expects.
        self.errors: list[tuple[BaseException, Watcher | None]] = []
        self.stack = ExitStack()

    @property
    def backend(self) -> Backend:
        """The backend under test."""
        return detect()

    @property
    def limit(self) -> float | None:
        """How long a wait may last; None on virtual time, which passes immediately."""
        return None if isinstance(self.backend, VirtualBackend) else self.patience

    async def wait(self, condvar: CondVar[T]) -> T:
        """Wait for *condvar* in this scene's way and return its value."""
        limit = self.limit
        if self.way == BLOCKING:
            try:
                return condvar.recv(limit)
            except TimeoutError as error:
                if condvar.ready:
                    raise  # it was sent through the condition variable
                raise self._hang(condvar) from error
        if limit is None:
            return await condvar
        first: CondVar[None] = CondVar()
        condvar.on_ready(lambda _: first.send())
        with _api.timer(limit, first.send):
            await first
        if not condvar.ready:
            raise self._hang(condvar)
        return condvar.recv()

    def _hang(self, condvar: object) -> CaseFailed:
        return CaseFailed(
            f"nothing came for {self.patience:g} s; so far: {list(self.trace)!r}, "
            f"errors: {[error for error, _ in self.errors]!r}"
        )

    async def wait_until(self, length: int) -> None:
        """Wait until the trace has *length* entries."""
        await self.wait(self.trace.reaches(length))

    async def pause(self, seconds: float) -> None:
        """Let the loop run for a while."""
        await self.wait(tasks.sleep(seconds))

    async def turns(self, count: int) -> None:
        """Let the loop run for *count* turns at least."""
        for _ in range(count):
            turn: CondVar[None] = CondVar()
            _api.postpone(turn.send)
            await self.wait(turn)

    def compute(self, seconds: float) -> None:
        """Use *seconds* up without returning to the loop."""
        backend = self.backend
        if isinstance(backend, VirtualBackend):
            backend.pass_time(seconds)
        else:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(max(end - time.monotonic(), 0.0))

    def reopen(self, number: int) -> tuple[socket.socket, int]:
        """Make the free descriptor *number* one of a pair; return the other, and it."""
        peer, new = self.pair()
        if peer.fileno() == number:
            peer, new = new, peer
        if new.fileno() != number:
            os.dup2(new.fileno(), number)
            self.stack.callback(os.close, number)
        return peer, number

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Return two joined non-blocking sockets, closed at the end."""
        left, right = socket.socketpair()
        left.setblocking(False)
        right.setblocking(False)
        self.stack.callback(left.close)
        self.stack.callback(right.close)
        return left, right

    def take_errors(self) -> list[str]:
        """Return, and forget, what went to the exception hook, as ``Type: text``."""
        errors, self.errors = self.errors, []
        return [f"{type(error).__name__}: {error}" for error, _ in errors]


async def _play(entry: Case, scene: Scene) -> None:
    """Run a case and see that it leaves nothing behind; on the loop, in any way."""
    package: Any = exception_hook.package
    hook = package.exception_hook
    package.exception_hook = lambda error, watcher: scene.errors.append((error, watcher))
    try:
        detect()
        check = LeakCheck()
        try:
            await entry.function(scene)
        finally:
            scene.stack.close()
        scene.trace._waiting.clear()
        watchers = check.watchers()
        expect(not watchers, f"watchers are left: {'; '.join(watchers)}")
        expect(not scene.errors, f"errors in callbacks: {scene.take_errors()}")
    finally:
        package.exception_hook = hook


def run_case(
    entry: Case,
    way: str,
    patience: float,
    host: Callable[[Coroutine[Any, Any, None]], object] | None = None,
) -> None:
    """Run a case in this thread, on the backend that it is bound to.

    Args:
        entry: The case.
        way: How.
        patience: Seconds after which a wait is a failure.
        host: Runs a coroutine in a loop of the program's; for the hosted way.

    Raises:
        CaseFailed, CaseSkipped: What came out of it.
    """
    why = entry.obstacle(way)
    if why is not None:
        raise CaseSkipped(why)
    with _without_strict_mode() if "lax" in entry.needs else nullcontext():
        _run(_play(entry, Scene(way, patience)), way, host)


def _run(
    play: Coroutine[Any, Any, None],
    way: str,
    host: Callable[[Coroutine[Any, Any, None]], object] | None,
) -> None:
    if way == BLOCKING:
        try:
            play.send(None)
        except StopIteration:
            return
        play.close()
        raise CaseFailed("the case waited by itself, not by the scene")
    if way == HOSTED:
        if host is None:
            play.close()
            raise CaseSkipped("no loop to be hosted by")
        host(play)
    else:
        tasks.run(play)


@contextmanager
def _without_strict_mode() -> Iterator[None]:
    # the first detection of the process turns it on, if the environment says so; not in a case
    if not current._aids_done:
        with binding("loop"):
            pass
    strict = sys.modules.get("ae_core.strict")
    if strict is None or not strict.enabled():
        yield
        return
    strict.disable()
    try:
        yield
    finally:
        strict.enable()
