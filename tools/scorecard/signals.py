"""Row 25: a hundred thousand signals beside I/O: at least one call each time, and no late loop.

How late a timer is, is told with and without the time for which the process was ready to run and
the system ran others: the loop answers for the rest, so that alone decides.
"""

from __future__ import annotations

import subprocess
import sys
import time

from tools.scorecard.finding import Finding, Length, main

SENDER = """
import os, sys, time
pid, count, rate = map(int, sys.argv[1:])
begun = time.monotonic()
for number in range(count):
    os.kill(pid, 10)
    ahead = number / rate - (time.monotonic() - begun)
    if ahead > 0.001:
        time.sleep(ahead)
"""
RATE = 10_000


def measure(length: Length) -> Finding:
    import os
    import socket

    import ae_core as ae

    count = {"gate": 5_000, "full": 100_000, "nightly": 1_000_000}[length]
    calls = 0
    late: list[float] = []
    own: list[float] = []
    echoed = 0
    due = waited = 0.0
    statistics = os.open("/proc/self/schedstat", os.O_RDONLY)
    ae.use("loop")

    def waited_so_far() -> float:
        """Return for how many seconds this thread was ready and did not run."""
        return int(os.pread(statistics, 100, 0).split()[1]) / 1e9

    def arrived() -> None:
        nonlocal calls
        calls += 1

    async def play() -> None:
        nonlocal echoed, due, waited
        left, right = socket.socketpair()
        left.setblocking(False)
        right.setblocking(False)

        def echo() -> None:
            nonlocal echoed, waited
            if time.monotonic() < due:  # the last time this is so is when the timer comes due
                waited = waited_so_far()
            right.send(right.recv(1))
            echoed += 1

        ended: ae.CondVar[object] = ae.CondVar()
        with (
            ae.signal("USR1", arrived),
            ae.io(right, "r", echo),
            ae.io(left, "r", lambda: left.send(left.recv(1))),
        ):
            left.send(b"x")
            sender = subprocess.Popen(
                [sys.executable, "-c", SENDER, str(os.getpid()), str(count), str(RATE)]
            )
            watcher = ae.child(sender.pid, lambda pid, status: ended.send(status))
            while not ended.ready:
                waited = waited_so_far()
                due = time.monotonic() + 0.005
                await ae.sleep(0.005)
                late.append(time.monotonic() - due)
                own.append(late[-1] - (waited_so_far() - waited))
            watcher.cancel()
            before = calls
            os.kill(os.getpid(), 10)
            await ae.sleep(0.1)
            assert calls > before, "the last signal was lost"
            assert await ended == 0
        left.close()
        right.close()

    ae.run(play())
    os.close(statistics)
    wall, p99 = (1000 * sorted(each)[int(len(each) * 0.99)] for each in (late, own))
    figure = (
        f"{count} signals at {RATE}/s: {calls} calls, the last one told; {echoed} bytes echoed "
        f"beside them; timers late by {p99:.1f} ms (p99 of {len(late)}), by {wall:.1f} ms with "
        "the time that the system gave to other processes"
    )
    return Finding(figure, calls > 0 and p99 <= 20)


if __name__ == "__main__":
    main(measure)
