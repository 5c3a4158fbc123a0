"""The measure of cost that the decoders' tests use: what it finds, and what it forgives.

The clock is a counter that the work itself moves, with a seeded disturbance on top of it: what is
tested is the verdict, on a machine as busy as we like.
"""

from __future__ import annotations

import gc
import random
import re
import time
from collections.abc import Callable

import pytest

from ae_handle import ReadBuffer

Doubling = Callable[..., None]
SIZE = 1 << 15


class Clock:
    """Processor time, as measured beside others who want the machine."""

    def __init__(self, seed: int, disturbance: float) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.disturbance = disturbance

    def work(self, seconds: float) -> None:
        """Take so long, and up to *disturbance* times as long where others are busy.

        Busy times come and go every millisecond or so: a long piece of work always meets some.
        """
        pieces = max(1, min(100, int(seconds * 1000)))
        for _ in range(pieces):
            busy = self.random.random() < 0.7
            factor = 1 + busy * self.disturbance * self.random.random()
            self.now += seconds / pieces * factor


@pytest.fixture(params=range(5))
def clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(request.param, 1.5)
    monkeypatch.setattr(time, "process_time", lambda: clock.now)
    monkeypatch.setattr(gc, "collect", lambda: 0)  # nothing here is worth the time
    return clock


def test_linear_work_passes_on_a_busy_machine(clock: Clock, doubling: Doubling) -> None:
    doubling(lambda n: lambda: clock.work(n * 2e-6), SIZE)


def test_sorting_passes_on_a_busy_machine(clock: Clock, doubling: Doubling) -> None:
    doubling(lambda n: lambda: clock.work(n * n.bit_length() * 1e-7), SIZE)


@pytest.mark.parametrize("power", [1.5, 2, 3])
def test_work_that_grows_faster_is_found_on_a_busy_machine(
    power: float, clock: Clock, doubling: Doubling
) -> None:
    with pytest.raises(AssertionError, match="ms: "):
        doubling(lambda n: lambda: clock.work(0.1 * (n / SIZE) ** power), SIZE)


def test_a_linear_part_does_not_hide_a_quadratic_one_of_the_same_size(
    clock: Clock, doubling: Doubling
) -> None:
    with pytest.raises(AssertionError, match="ms: "):
        doubling(lambda n: lambda: clock.work(n * 1e-6 + 2 * n * n * 1e-6 / SIZE), SIZE)


def test_what_python_itself_grows_by_is_divided_out(clock: Clock, doubling: Doubling) -> None:
    def grows(more: float) -> Callable[[int], Callable[[], object]]:
        return lambda n: lambda: clock.work(more * 0.1 * (n / SIZE) ** 1.3)

    with pytest.raises(AssertionError, match="ms: "):
        doubling(grows(1), SIZE)
    doubling(grows(1), SIZE, grows(0.5))


def test_work_that_grows_faster_than_python_itself_is_found(
    clock: Clock, doubling: Doubling
) -> None:
    def grows(power: float) -> Callable[[int], Callable[[], object]]:
        return lambda n: lambda: clock.work(0.1 * (n / SIZE) ** power)

    for base in (1.0, 1.2, 3.0):  # of the last one only a part counts
        with pytest.raises(AssertionError, match="Python itself"):
            doubling(grows(2), SIZE, grows(base))


def test_a_reader_that_begins_at_the_first_octet_each_time_is_found(doubling: Doubling) -> None:
    """By the real clock: what ``Regex`` would be if it forgot how far it had looked."""

    def prepare(size: int) -> Callable[[], object]:
        def work() -> None:
            buf = ReadBuffer()
            for i in range(size):
                buf.feed(b"\r\n\r"[i % 3 : i % 3 + 1])
                with buf.view() as view:
                    assert not re.search(rb"\r\n\r\n", view)

        return work

    with pytest.raises(AssertionError, match="ms: "):
        doubling(prepare, SIZE // 4)
