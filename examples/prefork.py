"""A server with several worker processes: a dead one is replaced, a reload refuses nobody.

    python examples/prefork.py [--workers N] [--host HOST] [--port PORT]

SIGHUP reloads: new workers start, then the old ones stop accepting, finish what they have begun,
and end. SIGTERM and Ctrl-C end it the same way, without new ones.

The parent binds and listens; the workers inherit the socket and accept from it. So it stays open
whatever becomes of a worker, and connections wait in its backlog until somebody accepts them: that
is why a reload refuses nobody. (With SO_REUSEPORT each worker would have a backlog of its own, and
take it along when it ends.) Each worker is a fresh interpreter, which is what reloads the program.

On a machine with two cores, of which the clients take their part, two workers echo 1.2 to 1.8 times
as many lines as one (five runs).
"""

from __future__ import annotations

__all__ = ("Parent", "work")

import argparse
import os
import signal
import socket
import subprocess
import sys
from typing import Final

import ae_core as ae
from ae_core.console import run
from ae_handle import Handle, serve
from ae_socket import Backoff, format_host_port

_GRACE: Final = 30.0
_READY: Final = b"ready\n"


# ---------------------------------------------------------------------- a worker


async def _serve_client(handle: Handle) -> None:
    """What this server does: it echoes lines."""
    handle.no_delay = True
    async for line in handle.each("line"):
        handle.push_write(line + b"\n")


async def work(sock: socket.socket, ready: int) -> None:
    """Serve on *sock* until SIGTERM; say so on the descriptor *ready*."""
    served = serve(None, None, _serve_client, sock=sock, max_clients=10_000)
    stop: ae.CondVar[None] = ae.CondVar()
    with ae.signal("TERM", stop.send), ae.signal("INT", lambda: None):  # Ctrl-C is the parent's
        os.write(ready, _READY)
        await stop
        await served.close(_GRACE)


# ---------------------------------------------------------------------- the parent


class _Worker:
    """A process, from its start until it is reaped."""

    def __init__(self, parent: Parent, sock: socket.socket) -> None:
        self.is_wanted = True
        self.ready: ae.CondVar[bool] = ae.CondVar()
        self._parent = parent
        ours, theirs = os.pipe()
        command = [sys.executable, __file__, "--worker", str(sock.fileno()), str(theirs)]
        self._process = subprocess.Popen(command, pass_fds=[sock.fileno(), theirs])
        os.close(theirs)
        self._pipe = ours
        self._readable: ae.Watcher | None = ae.io(ours, "r", self._said_something)
        self._child = ae.child(self._process.pid, self._ended)

    def stop(self) -> None:
        """Have it finish what it has begun, and end."""
        self.is_wanted = False
        self._process.send_signal(signal.SIGTERM)

    def _said_something(self) -> None:
        self._readable = None
        is_ready = os.read(self._pipe, 64) == _READY
        os.close(self._pipe)
        self.ready.send(is_ready)

    def _ended(self, pid: int, status: int) -> None:
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self._parent.worker_ended(self)


class Parent:
    """Keeps *count* workers on one socket until :meth:`stop`."""

    def __init__(self, sock: socket.socket, count: int) -> None:
        self._sock = sock
        self._count = count
        self._backoff = Backoff(first=0.1, most=10.0)  # workers that die at once
        self._workers: set[_Worker] = set()
        self._pause: ae.Watcher | None = None
        self._is_stopping = False
        self.ended: ae.CondVar[None] = ae.CondVar()

    async def start(self) -> None:
        """Start as many workers as there shall be, and wait until they accept."""
        new = [_Worker(self, self._sock) for _ in range(self._count)]
        self._workers.update(new)
        for worker in new:
            if await worker.ready:
                self._backoff.reset()

    async def reload(self) -> None:
        """Replace all workers; those that are there go when the new ones accept."""
        old = [worker for worker in self._workers if worker.is_wanted]
        await self.start()
        for worker in old:
            worker.stop()

    def stop(self) -> None:
        """End all workers; ``ended`` is sent when they have."""
        self._is_stopping = True
        self._sock.close()
        for worker in self._workers:
            if worker.is_wanted:
                worker.stop()
        if not self._workers:
            self.ended.send()

    def worker_ended(self, worker: _Worker) -> None:
        """Replace a worker that has ended by itself."""
        self._workers.discard(worker)
        if worker.is_wanted and not self._is_stopping:
            print("a worker has died, starting another", file=sys.stderr, flush=True)
            self._pause = ae.timer(next(self._backoff), self._replace)
        if self._is_stopping and not self._workers:
            self.ended.send()

    def _replace(self) -> None:
        wanted = sum(worker.is_wanted for worker in self._workers)
        if not self._is_stopping:
            self._workers.update(_Worker(self, self._sock) for _ in range(self._count - wanted))


async def _main(sock: socket.socket, count: int) -> None:
    parent = Parent(sock, count)
    reloading: list[ae.CondVar[None]] = []

    def reload() -> None:
        print("reloading", flush=True)
        task = ae.spawn(parent.reload())
        task.on_ready(lambda _: print("reloaded", flush=True))
        reloading[:] = [task]

    with (
        ae.signal("HUP", reload),
        ae.signal("TERM", parent.stop),
        ae.signal("INT", parent.stop),
    ):
        await parent.start()
        print("listening on", format_host_port(*sock.getsockname()[:2]), flush=True)
        await parent.ended


def main() -> int:
    """Be the parent, or a worker."""
    parser = argparse.ArgumentParser(description="Echo lines, with several processes.")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="how many")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) for any free one")
    parser.add_argument("--worker", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        sock, ready = options.worker
        ae.run(work(socket.socket(fileno=sock), ready))
        return 0
    sock = socket.create_server((options.host, options.port), backlog=1024)
    ae.run(_main(sock, options.workers))
    return 0


if __name__ == "__main__":
    run("prefork", main)
