"""The parts of a loop's state by themselves: a backend and a state that record, no loop, no socket.

A test that needs more than the fixture imports the classes from here.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from ae_core._base.thread_identity import get_ident
from ae_core._loop.calls import CallQueue
from ae_core._loop.io_table import IoTable
from ae_core._loop.runner import CallbackRunner

Key = tuple[int, bool]


class Recorder:
    """A backend that waits for nothing, and says what it was asked for."""

    name = "recorder"

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.watched: dict[Key, Callable[[], None]] = {}
        self.uncounted: list[Key] = []
        self.refusal: OSError | None = None
        self.on_ready: Any = None
        self.on_refused: Any = None

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def io_start(self, fd: int, write: bool, callback: Callable[[], None]) -> Key:
        if self.refusal is not None:
            raise self.refusal
        assert (fd, write) not in self.watched, "a second watch of one descriptor and direction"
        self.watched[fd, write] = callback
        return fd, write

    def io_stop(self, token: Key) -> None:
        del self.watched[token]

    def io_discount(self, token: Key) -> None:
        self.uncounted.append(token)


class State:
    """A loop state made of the parts alone; its timers are called by the test."""

    def __init__(self) -> None:
        self.backend: Any = Recorder()
        self.closed = False
        self.nests = False
        self.thread = get_ident()
        self.said: list[str] = []  # what the runner has asked for
        self.reported: list[tuple[BaseException, Any]] = []
        self.timers: dict[int, Callable[[], object]] = {}
        self.numbers = count(1)
        self.from_threads: list[Callable[[], None]] = []
        self.raw_threadsafe = self.from_threads.append
        self.runner = CallbackRunner(
            self, lambda error, owner, source: self.reported.append((error, source))
        )
        self.calls = CallQueue(self)
        self.io = IoTable(self, self.runner)
        self.io.attach(self.backend)

    def resume(self) -> None:
        self.said.append("resume")

    def repeat(self, callback: Callable[[], object]) -> None:
        self.said.append("repeat")

    def wake(self) -> None:
        self.said.append("wake")

    def timer(self, after: float, callback: Callable[[], object]) -> int:
        self.timers[number := next(self.numbers)] = callback
        return number

    def cancel_timer(self, number: int) -> None:
        self.timers.pop(number, None)

    def has_timer(self, number: int) -> bool:
        return number in self.timers

    def turn(self) -> None:
        """Do what the loop was asked for."""
        soon, self.backend.soon = self.backend.soon, []
        for call in soon:
            call()
        for number in list(self.timers):
            self.timers.pop(number)()
        calls, self.from_threads[:] = self.from_threads.copy(), []
        for call in calls:
            call()


@pytest.fixture
def state() -> State:
    return State()


def fails() -> None:
    raise ValueError("of a test")


def interrupts() -> None:
    raise KeyboardInterrupt
