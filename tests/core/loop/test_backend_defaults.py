"""What a backend has that implements only what it must."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_core.abc import Backend
from ae_core.testing import binding, release


class Least(Backend):
    """Waits for nothing."""

    name = "least"
    closed = 0

    def io_start(self, fd: int, write: bool, callback: Callable[[], None]) -> Any: ...
    def io_stop(self, token: Any) -> None: ...
    def arm(self, at: float | None) -> None: ...
    def call_soon(self, callback: Callable[[], None]) -> None: ...
    def call_threadsafe(self, callback: Callable[[], None]) -> None: ...
    def run_until(self, done: Callable[[], bool]) -> None: ...
    def wake(self) -> None: ...
    def poll(self, block: bool) -> None: ...

    def close(self) -> None:
        super().close()
        self.closed += 1


def nothing() -> None:
    return None


@pytest.fixture
def least() -> Least:
    return Least(nothing)


def test_what_it_cannot_do_is_refused_by_its_name(least: Least) -> None:
    async def main() -> None:
        return None

    coroutine = main()
    for call in (
        lambda: least.idle_start(nothing),
        lambda: least.idle_stop(None),
        lambda: least.run(coroutine),
    ):
        with pytest.raises(RuntimeError, match="least has no"):
            call()
    coroutine.close()


def test_what_it_has_no_need_of_is_left_to_the_core(least: Least) -> None:
    assert least.child_start(1, lambda pid, status: None) is None
    assert least.signal_start(15, nothing) is None
    assert not least.has_signal(15)
    assert least.spawn(None, None) is False  # type: ignore[arg-type]
    for ends in (least.child_stop, least.signal_stop, least.io_discount, least.hold):
        ends(1)


def test_it_counts_by_the_clocks_of_the_system_and_runs_for_us_only(least: Least) -> None:
    before = time.monotonic(), time.time()
    least.now_update()
    assert before[0] <= least.clock() <= time.monotonic()
    for moment in (least.now(), least.time()):
        assert before[1] <= moment <= time.time()
    assert (least.usable(), least.ended(), least.running()) == (True, True, False)
    assert least.statistics() == {}
    assert least.waker() == least.wake


def test_it_calls_what_is_ready_in_order_until_the_core_takes_that_over(least: Least) -> None:
    calls: list[int] = []
    least.on_ready([lambda: calls.append(1), lambda: calls.append(2)])
    assert calls == [1, 2]


def test_what_escapes_goes_to_whoever_listens(least: Least) -> None:
    heard: list[BaseException] = []
    error = ValueError("of a test")
    least.escaped(error)
    least.on_escaped = heard.append
    least.escaped(error)
    assert heard == [error]


def test_a_forked_child_closes_it(least: Least) -> None:
    least.after_fork()
    assert least.closed == 1


def test_it_knows_whether_this_is_its_thread() -> None:
    backend = ae.detect()
    said = [backend.in_thread()]
    thread = threading.Thread(target=lambda: said.append(backend.in_thread()))
    thread.start()
    thread.join()
    assert said == [True, False]


def test_the_built_in_loop_that_was_closed_is_closed_again_without_harm() -> None:
    with binding("loop") as backend:
        assert backend is not None
        ae.sleep(0.001).recv()
        release()
        backend.close()
        assert not backend.usable()
