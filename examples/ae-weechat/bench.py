"""What the backend costs inside WeeChat: beside WeeChat's hooks alone, and the built-in loop.

    python bench.py [--seconds S] [--rounds N] [--readme]

Needs weechat-headless. This file is also the script that WeeChat runs: each contestant in a WeeChat
of its own, in turns, the built-in loop too, which keeps WeeChat waiting meanwhile. Printed are
microseconds of the processor (all that WeeChat does besides included) for a byte sent to and fro
between two watched sockets, a timer of a millisecond from the callback of the last, and a
postponed call likewise; medians of the rounds. ``--readme`` writes the table into the README.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import site
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

try:
    import weechat
except ImportError:
    weechat = None
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

WORK = {
    "round trip": "a byte to and fro",
    "timer": "a timer of 1 ms",
    "call": "a postponed call",
}
WAYS = {"weechat": "ae-weechat", "hooks": "WeeChat's hooks", "loop": "the built-in loop"}
CONTESTANTS = [
    f"{work}, {way}" for work in WORK for way in WAYS if (work, way) != ("call", "hooks")
]
SETTINGS = "AE_WEECHAT_BENCH"
WARM = 100  # events before any is counted


# ---------------------------------------------------------------------- in WeeChat


class Meter:
    """Counts events, and writes down what one of them costs when the time is over."""

    def __init__(self) -> None:
        self.count = 0
        self.is_over = False
        self.finished = None  # called at the end

    def event(self) -> bool:
        """Count one; return whether to go on."""
        self.count += 1
        if self.count == WARM:
            self.began, self.used = time.perf_counter(), time.process_time()
        elif not self.count % WARM and time.perf_counter() - self.began >= settings["seconds"]:
            cost = (time.process_time() - self.used) / (self.count - WARM)
            Path(settings["out"]).write_text(repr(cost * 1e6))
            self.is_over = True
            if self.finished is not None:
                self.finished()
            weechat.hook_timer(1, 0, 1, "leave", "")
        return not self.is_over


def there(value: object = None, left: object = None) -> int:
    """Give back the byte that has come."""
    theirs.send(theirs.recv(1))
    return 0


def back(value: object = None, left: object = None) -> int:
    """Send the byte again, which is back."""
    ours.recv(1)
    if meter.event():
        ours.send(b"x")
    return 0


def again(value: object = None, left: object = None) -> int:
    """Do the same once more."""
    if meter.event():
        start()
    return 0


def start_round_trips() -> None:
    if settings["way"] == "hooks":
        weechat.hook_fd(ours.fileno(), 1, 0, 0, "back", "")
        weechat.hook_fd(theirs.fileno(), 1, 0, 0, "there", "")
    else:
        kept[:] = ae.io(ours, "r", back), ae.io(theirs, "r", there)
    ours.send(b"x")


def start_timer() -> None:
    if settings["way"] == "hooks":
        weechat.hook_timer(1, 0, 1, "again", "")
    else:
        kept[:] = [ae.timer(0.001, again)]


def start_call() -> None:
    ae.postpone(again)


def begin(data: str, left: int) -> int:
    if settings["way"] == "loop":
        over = ae.CondVar()
        meter.finished = over.send
        start()
        over.recv()
    else:
        start()
    return 0


def leave(data: str, left: int) -> int:
    ae.release()
    weechat.command("", "/quit")
    return 0


# ---------------------------------------------------------------------- outside


def measure(name: str, seconds: float) -> int:
    """Run WeeChat with this file as a script, and print what it has written."""
    program = shutil.which("weechat-headless")
    if program is None:
        return MISSING
    work, _, way = name.partition(", ")
    with tempfile.TemporaryDirectory() as top:
        autoload = Path(top, "python", "autoload")
        autoload.mkdir(parents=True)
        shutil.copy(__file__, autoload)
        out = Path(top, "out")
        told = {
            "work": work,
            "way": way,
            "seconds": seconds,
            "out": str(out),
            "site": sysconfig.get_path("purelib"),
        }
        subprocess.run(
            ["timeout", "-s", "KILL", str(60 + 10 * seconds), program, "-d", top],
            env=os.environ | {SETTINGS: json.dumps(told)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        print(out.read_text())
    return 0


def table(costs: dict[str, float]) -> str:
    rows = ["".join(f"| {head} " for head in ("", *WAYS.values())), "|---" + "|---:" * len(WAYS)]
    for work, text in WORK.items():
        cells = (costs.get(f"{work}, {way}") for way in WAYS)
        rows.append("".join(f"| {cell} " for cell in (text, *map(in_microseconds, cells))))
    return "\n".join(f"{row}|" for row in rows)


def in_microseconds(cost: float | None) -> str:
    return "-" if cost is None else f"{cost:.0f} us"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=1.0, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--readme", action="store_true")
    parser.add_argument("--one", choices=CONTESTANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return measure(options.one, options.seconds)
    command = [sys.executable, __file__, "--seconds", str(options.seconds), "--one"]
    text = table(medians(CONTESTANTS, options.rounds, command))
    print(text)
    if options.readme:
        put_into_readme(text, __file__)
    return 0


if weechat is not None:
    settings = json.loads(os.environ[SETTINGS])
    site.addsitedir(settings["site"])
    import ae_core as ae

    weechat.register("bench", "ae-weechat", "1.0", "MIT", "what the backend costs", "", "")
    ae.use("loop" if settings["way"] == "loop" else "weechat")
    meter = Meter()
    kept: list[object] = []
    ours, theirs = socket.socketpair()
    start = {"round trip": start_round_trips, "timer": start_timer, "call": start_call}[
        settings["work"]
    ]
    weechat.hook_timer(100, 0, 1, "begin", "")
elif __name__ == "__main__":
    from turns import MISSING, medians, put_into_readme

    sys.exit(main())
