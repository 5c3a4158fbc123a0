"""trio beside another loop in one thread: as its guest, around it, inside it."""

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


# One loop inside another, and who drives the coroutine that waits.
NESTED = """
import asyncio
import ae_core as ae
import trio


async def wait():
    condvar = ae.CondVar()
    condvar.on_ready(lambda _: None)
    if inner == "trio":
        trio.lowlevel.current_trio_token().run_sync_soon(condvar.send, 5)
    else:
        asyncio.get_running_loop().call_soon(condvar.send, 5)
    return await condvar


async def as_guest():
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    trio.lowlevel.start_guest_run(
        wait, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=done.set_result
    )
    return (await done).unwrap()


async def in_asyncio():
    return trio.run(wait)


async def in_trio():
    return asyncio.run(wait())


inner = "trio"
print("guest", asyncio.run(as_guest()))
print("trio in asyncio", asyncio.run(in_asyncio()))
inner = "asyncio"
print("asyncio in trio", trio.run(in_trio))
"""


def test_a_coroutine_waits_as_what_drives_it_does_whatever_else_runs() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", NESTED], capture_output=True, text=True, timeout=100, check=False
    )
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == ["guest 5", "trio in asyncio 5", "asyncio in trio 5"]
