"""trio as a guest of the built-in loop: its tasks and our watchers in one thread."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("trio", reason="trio is not installed")

# In a process of its own: the thread in which a guest waits outlives the run by ten seconds.
PROGRAM = """
import ae_core as ae
import trio

done = ae.CondVar()
running = ae.pending()  # the guest waits in a thread of its own, of which our loop knows nothing


async def double(number):
    await ae.sleep(0.001)
    return 2 * number


async def main():
    await trio.sleep(0.01)
    print("trio slept")
    answer = ae.CondVar()
    with ae.timer(0.01, lambda: answer.send(5)):
        print("awaited", await answer)
    return await ae.spawn(double(4))


def finished(outcome):
    running.cancel()
    done.send(outcome)


trio.lowlevel.start_guest_run(
    main,
    run_sync_soon_threadsafe=ae.detect().call_threadsafe,
    done_callback=finished,
    host_uses_signal_set_wakeup_fd=True,
)
print("result", done.recv(timeout=60).unwrap(), ae.backend())
"""


def test_tasks_of_a_guest_and_watchers_of_ours_serve_each_other() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=100, check=False
    )
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == ["trio slept", "awaited 5", "result 8 loop"]
