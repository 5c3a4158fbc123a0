"""Row 26: two thousand children, beside others that ``subprocess`` starts and waits for."""

from __future__ import annotations

import os
import random
import subprocess
import threading

from tools.scorecard.finding import Finding, Length, main

#: So many of ours are under way at once.
AT_ONCE = 20


def measure(length: Length, seed: int = 26) -> Finding:
    import ae_core as ae

    count = {"gate": 100, "full": 2_000, "nightly": 20_000}[length]
    codes = random.Random(seed)
    wrong: list[str] = []
    others = [0, 0]
    stop = threading.Event()
    ae.use("loop")

    def foreign() -> None:
        while not stop.is_set():
            others[0] += 1
            others[1] += subprocess.run(["/bin/sh", "-c", "exit 7"], check=False).returncode == 7

    async def one() -> None:
        code = codes.randrange(256)
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {code}"], os.environ)
        ended: ae.CondVar[int] = ae.CondVar()
        with ae.child(pid, lambda _, status: ended.send(status)):
            status = os.waitstatus_to_exitcode(await ended)
        if status != code:
            wrong.append(f"{status} for {code}")

    async def play() -> None:
        for _ in range(0, count, AT_ONCE):
            for task in [ae.spawn(one()) for _ in range(AT_ONCE)]:
                await task

    thread = threading.Thread(target=foreign)
    thread.start()
    try:
        ae.run(play())
    finally:
        stop.set()
        thread.join()
    try:
        left = int(os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None)
    except ChildProcessError:
        left = 0
    figure = (
        f"{count} children, {len(wrong)} wrong statuses, {others[0] - others[1]} of {others[0]} "
        f"of subprocess stolen, {left} zombies"
    )
    return Finding(figure, not wrong and others[0] == others[1] and not left, seed=seed)


if __name__ == "__main__":
    main(measure)
