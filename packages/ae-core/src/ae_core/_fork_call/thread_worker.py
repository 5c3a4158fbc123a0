"""A worker of ``fork_call`` where no loop can wait for pipes or children: on Windows.

One process for one call, with a thread that talks to it.
"""

from __future__ import annotations

__all__ = ("ThreadWorker",)

import os
import struct
import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from .pool import command

if TYPE_CHECKING:
    from .._loop.state import LoopState
    from .pool import Call, Pool, Surroundings


class ThreadWorker:
    """Serves one call and ends."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.process = subprocess.Popen(
            [os.fsdecode(part) for part in command(surroundings, duplex=False)],
            env=surroundings.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def begin(self, pool: Pool, core: LoopState, call: Call) -> None:
        self.pool = pool
        self.core = core
        self.call = call
        call.worker = self
        threading.Thread(target=self.work, name="ae-core-fork-call", daemon=True).start()

    def work(self) -> None:
        """In the thread: send the call, wait for the end."""
        frame = self.call.frame
        output, _ = self.process.communicate(struct.pack("<Q", len(frame)) + frame)
        code = self.process.returncode
        status = -code if code < 0 else code << 8
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self.core.call_threadsafe(lambda: self.ended(output, status))

    def ended(self, output: bytes, status: int) -> None:
        """In the loop."""
        call = self.call
        call.worker = None
        answered = len(output) >= 9 and len(output) - 9 == struct.unpack_from("<Q", output, 1)[0]
        try:
            self.pool.release(self.core, self)
        finally:
            if answered:
                call.answer(output[9:])
            else:
                call.fail(status)

    def kill(self) -> None:
        self.process.kill()

    def abandon(self) -> None:
        self.kill()
