"""The pipes of a program that ``run_cmd`` has started: one that we fill, one that we empty."""

from __future__ import annotations

__all__ = ("Drain", "Feed")

import os
from typing import TYPE_CHECKING, Any, Final, Protocol

from .._base.closing import close_descriptor
from .._sources.loop_end import EndRecord
from .redirect import to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from .._loop.io_table import IoRecord
    from .._loop.state import LoopState
    from .redirect import Sink, Source

_READ_SIZE: Final = 65536  # what a pipe holds; glibc maps anything bigger anew for each read


class Owner(Protocol):
    """What a pipe asks of the process that it belongs to."""

    _core: LoopState

    def _cannot_watch(self, error: OSError) -> None: ...
    def _stream_ended(self, stream: Any) -> None: ...


class _Pipe:
    """A descriptor that is watched until it is closed, at the latest when the loop ends."""

    __slots__ = ("at_loop_end", "fd", "process", "record")

    at_loop_end: EndRecord
    record: IoRecord

    def __init__(self, process: Owner) -> None:
        self.process = process
        self.fd = -1

    def _watch(
        self, fd: int, write: bool, callback: Callable[[], None], context: Context | None
    ) -> None:
        os.set_blocking(fd, False)
        process = self.process
        core = process._core
        self.record = core.io.start(fd, write, callback, context, process._cannot_watch)
        self.at_loop_end = EndRecord(core, self._loop_ended, None, at_quit=False)
        self.fd = fd

    def close(self) -> None:
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            self.record.cancel()
            self.at_loop_end.cancel()
            del self.at_loop_end  # it refers to us
            close_descriptor(fd)

    def _loop_ended(self) -> None:
        self.close()
        del self.process  # which refers to us: a cycle, if it is kept

    def __del__(self) -> None:
        if self.fd >= 0:  # in a forked child, or its loop ended in another thread
            os.close(self.fd)


class Feed(_Pipe):
    """Writes into a pipe that the program reads."""

    __slots__ = ("callback", "rest")

    def __init__(self, process: Owner, fd: int, source: Source, context: Context | None) -> None:
        super().__init__(process)
        self.rest = memoryview(source.data)
        self.callback = source.callback
        self._watch(fd, True, self.on_writable, context)

    def on_writable(self) -> None:
        if not self.rest:
            more = b""
            try:
                if self.callback is not None:
                    more = to_bytes(self.callback())
            finally:
                if not more:
                    self.end()
            if not more or self.fd < 0:
                return
            self.rest = memoryview(more)
        try:
            self.rest = self.rest[os.write(self.fd, self.rest) :]
        except BlockingIOError:
            return
        except OSError:  # EPIPE: the program does not read (any more). That is its right.
            self.end()
        else:
            if not self.rest and self.callback is None:
                self.end()

    def end(self) -> None:
        self.close()
        self.process._stream_ended(self)


class Drain(_Pipe):
    """Reads from a pipe that the program writes into."""

    __slots__ = ("take",)

    def __init__(self, process: Owner, fd: int, sink: Sink, context: Context | None) -> None:
        super().__init__(process)
        self.take = sink.take
        self._watch(fd, False, self.on_readable, context)

    def on_readable(self) -> None:
        try:
            data = os.read(self.fd, _READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.end()
        else:
            self.take(data)

    def end(self) -> None:
        self.close()
        try:
            self.take(b"")
        finally:
            self.process._stream_ended(self)
