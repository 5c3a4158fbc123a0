"""Row 34: an idle loop wakes nobody up.

The kernel counts: a process that waits in one system call makes no voluntary context switch. A loop
of each backend is left alone, with a watcher of a silent descriptor and a timer far away, and the
switches of all threads are counted, less those of half a second of the same.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tools.scorecard.finding import ROOT, Finding, Length, main

PROGRAM = """
import os, sys, threading, time
import ae_core as ae
name, seconds = sys.argv[1], float(sys.argv[2])
if name == "uvloop":
    import uvloop
    ae.use("asyncio", loop_factory=uvloop.new_event_loop)
else:
    ae.use(name)
reader, writer = os.pipe()
def switches():
    counts = {}
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/status") as file:
            counts[task] = sum(int(l.split()[1]) for l in file if l.startswith("voluntary"))
    return counts
async def idle(seconds):
    before = switches()
    await ae.sleep(seconds)
    after = switches()
    return sum(after[task] - before.get(task, 0) for task in after)
async def main():
    watcher = ae.io(reader, "r", print)
    far = ae.timer(86400, print)
    await ae.sleep(1)
    ends = max([await idle(0.5) for _ in range(3)])  # what its beginning and its end take
    print(await idle(seconds) - ends)
    watcher.cancel(), far.cancel()
ae.run(main())
"""
BACKENDS = ("loop", "asyncio", "uvloop", "trio", "twisted", "gevent", "libev", "glib", "qt", "tk")
#: Threads (Tcl has one) may yield to each other once more at either end of the sleep.
MOST = 2
#: So many in five seconds of a busy machine; a timer that fires each second is found all the same.
MOST_ON_LANDING = 4


def measure(length: Length) -> Finding:
    seconds = {"gate": 5, "full": 60, "nightly": 600}[length]
    running = {
        name: subprocess.Popen(
            [sys.executable, "-c", PROGRAM, name, str(seconds)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        )
        for name in BACKENDS
    }
    wakes = {}
    errors = {}
    for name, process in running.items():
        out, err = process.communicate(timeout=seconds + 120)
        if process.returncode:
            errors[name] = err.strip().splitlines()[-1] if err.strip() else "?"
        else:
            wakes[name] = int(out)
    worst = max(wakes.values(), default=0)
    figure = f"{seconds} s idle, wake-ups: " + ", ".join(f"{n} {w}" for n, w in wakes.items())
    if errors:
        figure += "; not run: " + "; ".join(f"{name}: {why}" for name, why in errors.items())
    return Finding(
        figure,
        worst <= (MOST_ON_LANDING if length == "gate" else MOST) and not errors,
        backend=" ".join(wakes),
    )


if __name__ == "__main__":
    main(measure)
