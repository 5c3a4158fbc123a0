"""Row 25: a hundred thousand signals beside I/O: at least one call each time, and no late loop."""

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
    echoed = 0
    ae.use("loop")

    def arrived() -> None:
        nonlocal calls
        calls += 1

    async def play() -> None:
        nonlocal echoed
        left, right = socket.socketpair()
        left.setblocking(False)
        right.setblocking(False)

        def echo() -> None:
            nonlocal echoed
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
                due = time.monotonic() + 0.005
                await ae.sleep(0.005)
                late.append(time.monotonic() - due)
            watcher.cancel()
            before = calls
            os.kill(os.getpid(), 10)
            await ae.sleep(0.1)
            assert calls > before, "the last signal was lost"
            assert await ended == 0
        left.close()
        right.close()

    ae.run(play())
    late.sort()
    p99 = 1000 * late[int(len(late) * 0.99)]
    figure = (
        f"{count} signals at {RATE}/s: {calls} calls, the last one told; {echoed} octets echoed "
        f"beside them; timers late by {p99:.1f} ms (p99 of {len(late)})"
    )
    return Finding(figure, calls > 0 and p99 <= 20)


if __name__ == "__main__":
    main(measure)
