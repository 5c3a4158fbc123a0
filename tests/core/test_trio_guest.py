"""trio as a guest of the built-in loop: its tasks and our watchers in one thread."""

from __future__ import annotations

from typing import Any

import pytest

import ae_core as ae

trio = pytest.importorskip("trio", reason="trio is not installed")


def test_tasks_of_a_guest_run_and_watchers_of_ours_serve_each_other(trace: Any) -> None:
    done: ae.CondVar[Any] = ae.CondVar()
    # the guest waits in a thread of its own, of which our loop knows nothing
    running = ae.pending()

    async def main() -> int:
        await trio.sleep(0.01)
        trace("trio slept")
        answer: ae.CondVar[int] = ae.CondVar()
        with ae.timer(0.01, lambda: answer.send(5)):
            assert await answer == 5
        trace("timer of ours awaited in a task")
        task = ae.spawn(double(4))
        return await task

    async def double(number: int) -> int:
        await ae.sleep(0.001)
        return 2 * number

    def finished(outcome: Any) -> None:
        running.cancel()
        done.send(outcome)

    trio.lowlevel.start_guest_run(
        main,
        run_sync_soon_threadsafe=ae.detect().call_threadsafe,
        done_callback=finished,
        host_uses_signal_set_wakeup_fd=True,
    )
    assert done.recv(timeout=60).unwrap() == 8
    assert trace == ["trio slept", "timer of ours awaited in a task"]
    assert ae.backend() == "loop"
