"""``run_cmd`` where a loop can wait neither for pipes nor for children: on Windows.

The same streams and the same result, with a thread for each of them. Descriptors 0, 1 and 2 only.
"""

from __future__ import annotations

__all__ = ("start_with_threads",)

import os
import subprocess
import threading
from collections.abc import Callable
from contextvars import copy_context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Protocol

from .._operations import pending
from .redirect import Existing, Named, Sink, Source, to_bytes

if TYPE_CHECKING:
    from .._loop.state import LoopState
    from .redirect import Redirect


class Process(Protocol):
    """What the streams ask of the process that they belong to."""

    _core: LoopState
    _pid: int
    _streams: list[Any]

    def _ended(self, pid: int, status: int) -> None: ...
    def throw(self, error: BaseException) -> None: ...
    def _stream_ended(self, stream: Any) -> None: ...


_NAMES: Final = ("stdin", "stdout", "stderr")
_READ_SIZE: Final = 65536


def start_with_threads(
    process: Process,
    cmd: Any,
    redirects: dict[int, Redirect],
    cwd: Any,
    env: Any,
    on_prepare: object,
) -> None:
    """Start *cmd* and have *process* informed of its output and its end.

    Raises:
        ValueError: What this system cannot do: an *on_prepare*, a descriptor above 2.
    """
    if on_prepare is not None:
        raise ValueError("on_prepare needs fork, which this system does not have")
    for number in redirects:
        if number > 2:
            raise ValueError(f"descriptor {number}: this system passes on 0, 1 and 2 only")
    arguments: dict[str, Any] = {}
    opened: list[int] = []
    streams: list[tuple[str, Source | Sink]] = []
    buffers: dict[int, str] = {}
    try:
        for number, redirect in redirects.items():
            name = _NAMES[number]
            if isinstance(redirect, Existing):
                arguments[name] = redirect.fd
            elif isinstance(redirect, Named):
                flags = redirect.flags | getattr(os, "O_BINARY", 0)
                opened.append(os.open(os.fsdecode(redirect.path), flags, 0o666))
                arguments[name] = opened[-1]
            elif isinstance(redirect, Sink) and id(redirect.buffer) in buffers:
                arguments[name] = subprocess.STDOUT
            else:
                arguments[name] = subprocess.PIPE
                streams.append((name, redirect))
                if isinstance(redirect, Sink) and redirect.buffer is not None:
                    buffers[id(redirect.buffer)] = name
        child: subprocess.Popen[Any] = subprocess.Popen(
            cmd, shell=isinstance(cmd, str), cwd=cwd, env=env, **arguments
        )
    except OSError as error:
        core = process._core
        refusal = error
        for _, redirect in streams:
            if isinstance(redirect, Sink):
                core.postpone(lambda end=redirect.take: end(b""))  # type: ignore[misc]
        core.postpone(lambda: process.throw(refusal))
        return
    finally:
        for fd in opened:
            os.close(fd)
    process._pid = child.pid
    _Stream(process, lambda stream: stream.wait(child))
    for name, redirect in streams:
        pipe = getattr(child, name)
        if isinstance(redirect, Source):
            _Stream(process, lambda stream, p=pipe, r=redirect: stream.feed(p, r))  # type: ignore[misc]
        else:
            _Stream(process, lambda stream, p=pipe, r=redirect: stream.drain(p, r))  # type: ignore[misc]


class _Stream:
    """One thread, and what it has to tell the loop. Stands in ``Process._streams`` until then."""

    def __init__(self, process: Process, work: Callable[[_Stream], None]) -> None:
        self.process = process
        self.closed = False
        self.context = copy_context() or None
        self.mark = pending()
        process._streams.append(self)
        threading.Thread(
            target=work, args=(self,), name=f"ae-core-{process._pid}", daemon=True
        ).start()

    # in the thread

    def wait(self, child: subprocess.Popen[Any]) -> None:
        code = child.wait()
        status = -code if code < 0 else code << 8

        def ended() -> None:
            self.process._ended(child.pid, status)
            self.end()

        self.tell(ended)

    def drain(self, pipe: Any, sink: Sink) -> None:
        def take(data: bytes) -> None:
            if not self.closed:
                sink.take(data)

        with pipe:
            while True:
                try:
                    data = os.read(pipe.fileno(), _READ_SIZE)
                except OSError:
                    data = b""
                self.tell(lambda data=data: take(data))  # type: ignore[misc]
                if not data or self.closed:
                    break
        self.tell(self.end)

    def feed(self, pipe: Any, source: Source) -> None:
        answers: SimpleQueue[bytes] = SimpleQueue()

        def ask() -> None:
            data = b""
            try:
                if source.callback is not None and not self.closed:
                    data = to_bytes(source.callback())
            finally:
                answers.put(data)

        data = source.data
        try:
            with pipe:
                while True:
                    while data and not self.closed:
                        data = data[os.write(pipe.fileno(), data) :]
                    if source.callback is None or self.closed or not self.tell(ask):
                        break
                    data = answers.get()
                    if not data:
                        break
        except OSError:
            data = b""  # the program does not read any more
        self.tell(self.end)

    def tell(self, call: Callable[[], object]) -> bool:
        core = self.process._core
        try:
            core.call_threadsafe(lambda: core.runner.call(call, self.context, None))
        except RuntimeError:
            return False  # the loop has ended
        return True

    # in the loop

    def end(self) -> None:
        self.close()
        self.process._stream_ended(self)

    def close(self) -> None:
        """Called by ``Process.cancel``: the thread goes when the program does."""
        self.closed = True
        self.mark.cancel()
