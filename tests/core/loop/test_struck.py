"""What a signal handler raises, wherever it strikes: the loop goes on, and nothing else is lost.

Python runs a handler between two instructions: at the beginning of a function, after a call, at
the end of a loop's body. So an exception is raised at each of these places in the code of ae_core
in turn, one in each run of the same program, and the program goes on.
"""

from __future__ import annotations

import dis
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

import ae_core as ae
from ae_core._detection.table import BACKENDS
from ae_core.testing import binding

BACK = {op for name, op in dis.opmap.items() if name.startswith("JUMP_BACKWARD")}
CALLS = {op for name, op in dis.opmap.items() if name.startswith(("CALL", "PRECALL"))}


class Struck(Exception):
    """What the signal handler raises."""


class Striker:
    """Raises at the *number*-th place where a signal handler could run."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.at = ""
        self.last: dict[FrameType, int] = {}
        self.before: Any = sys.gettrace()

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_globals.get("__name__", "").startswith("ae_core.") or self.at:
            return None
        if frame.f_globals["__name__"].startswith("ae_core.testing"):
            return None
        if frame.f_code.co_name in ("__del__", "_translate"):
            return None  # Python itself swallows it; what is around a coroutine is the coroutine
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "call":
            self.strike(frame)
        elif event == "opcode":
            code = frame.f_code.co_code
            before = self.last.get(frame)
            if code[frame.f_lasti] in BACK or (before is not None and code[before] in CALLS):
                self.strike(frame)
            self.last[frame] = frame.f_lasti
        elif event == "return":
            self.last.pop(frame, None)
        return self.trace

    def strike(self, frame: FrameType) -> None:
        self.left -= 1
        if self.left <= 0 and not self.at:
            self.at = f"{frame.f_code.co_qualname}:{frame.f_lineno}"
            if self.before is not None:
                sys.setprofile(self.resume)  # a tracer that raises is taken away
            raise Struck(self.at)

    def resume(self, frame: FrameType, event: str, argument: object) -> None:
        """Have the tracer that was there before see what follows the strike."""
        sys.setprofile(None)
        sys.settrace(self.before)


@contextmanager
def struck_at(number: int) -> Iterator[Striker]:
    striker = Striker(number)
    sys.settrace(striker.trace)
    try:
        yield striker
    finally:
        sys.settrace(striker.before)


class Program:
    """Uses everything that a loop has; each part goes on for ever."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(
            ["interval", "timer", "io", "peer", "postponed", "thread", "coroutine", "signal"], 0
        )
        self.left, self.right = socket.socketpair()
        self.right.setblocking(False)
        self.left.setblocking(False)
        self.backend = ae.detect()
        self.held: list[Any] = [
            ae.timer(0.0002, self.interval, interval=0.0002),
            ae.io(self.right, "r", self.readable),
            ae.io(self.right, "r", lambda: self.count("peer")),
        ]
        if hasattr(signal, "SIGUSR1"):
            self.held.append(ae.signal("USR1", lambda: self.count("signal")))
        else:
            del self.counts["signal"]
        self.timer: Any = None
        self.seen = False
        self.task = ae.spawn(self.coroutine())

    def count(self, name: str) -> None:
        self.counts[name] += 1

    def interval(self) -> None:
        self.count("interval")
        self.timer = ae.timer(0, lambda: self.count("timer"))
        ae.postpone(lambda: self.count("postponed"))
        self.backend.call_threadsafe(lambda: self.count("thread"))
        self.left.send(b"x")
        if "signal" in self.counts:
            os.kill(os.getpid(), signal.SIGUSR1)

    def readable(self) -> None:
        self.right.recv(100)
        self.count("io")

    async def coroutine(self) -> None:
        while True:
            try:
                self.count("coroutine")
                await ae.sleep(0.0001)
            except Struck:
                self.seen = True  # in sleep(), say

    def run(self) -> None:
        for _ in range(2):
            ae.sleep(0.0005).recv(10)

    def goes_on(self) -> list[str]:
        """Return what does not go on."""
        before = self.counts.copy()
        for _ in range(400):
            ae.sleep(0.001).recv(30)
            still = [name for name, count in self.counts.items() if count <= before[name] + 1]
            if not still:
                return []
        return still

    def end(self) -> None:
        self.held.clear()
        self.timer = None
        self.task.cancel()
        try:
            self.task.recv(10)
        except ae.CancelledError:
            self.left.close()
            self.right.close()


def places(make: Callable[[], Any], first: int, step: int) -> Iterator[tuple[str, list[str], bool]]:
    """Run the program once for each place: where it was struck, what stands still, who saw it."""
    number = first
    while True:
        with make():
            program = Program()
            caught = False
            with struck_at(number) as striker:
                try:
                    program.run()
                except Struck:
                    caught = True
            if not striker.at:
                program.end()
                return
            yield striker.at, program.goes_on(), caught or program.seen
            program.end()
        number += step


def failures(name: str, step: int, **options: Any) -> tuple[int, list[str]]:
    """Strike at every *step*-th place; return how many that were, and what was wrong."""
    seen: list[BaseException] = []
    wrong = []
    count = 0
    before, ae.exception_hook = ae.exception_hook, lambda error, watcher: seen.append(error)
    try:
        for at, still, caught in places(lambda: binding(name, **options), 1, step):
            count += 1
            if still:
                wrong.append(f"struck at {at}: without {still}")
            if not caught and not any(isinstance(error, Struck) for error in seen):
                wrong.append(f"struck at {at}: nobody hears of it")
            wrong += [f"{at}: {error!r}" for error in seen if not isinstance(error, Struck)]
            seen.clear()
    finally:
        ae.exception_hook = before
    return count, wrong


# Every place takes half a minute a loop: STEP=1 in the environment.
STEP = int(os.environ.get("STEP", "7"))
LOOPS = [spec.name for spec in BACKENDS if spec.name != "trio"] + ["loop poll", "loop select"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX only")
@pytest.mark.parametrize("loop", LOOPS)
def test_a_handlers_exception_costs_no_more_than_the_call_that_was_made(loop: str) -> None:
    # in a process of its own: a descriptor that was made by a call that was broken off is lost
    done = subprocess.run(
        [sys.executable, __file__, str(STEP), *loop.split()],
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen", "AE_STRICT": "0"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip(f"{loop} is not installed")
    assert done.stdout.startswith("right "), done.stdout + done.stderr
    assert int(done.stdout.split()[1]) * STEP > 500


def main(step: str, name: str, *multiplexer: str) -> int:
    options = {"multiplexer": multiplexer[0]} if multiplexer else {}
    try:
        count, wrong = failures(name, int(step), **options)
    except ae.BackendUnavailable:
        return 77
    print(*wrong, sep="\n", end="")
    print(f"right {count}" if not wrong else "")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
