"""A handle as a byte stream of anyio, and back.

Needs anyio. Works where anyio does: in asyncio and trio, those that run as guests included.
"""

from __future__ import annotations

__all__ = ("HandleStream", "as_handle")

import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint, checkpoint_if_cancelled

from ._buffers.read_buffer import NEED_MORE, NeedMore, ReadBuffer
from ._errors import HandleDestroyed, HandleError
from ._handle import Handle
from ._phases import OPEN

_SIZE = 65536


class HandleStream(anyio.abc.ByteStream):
    """A handle as an ``anyio.abc.ByteStream``.

    Args:
        handle: It may be connecting. Other code that reads or writes it competes with the stream.

    What was sent when the handle is closed is still sent, for as long as its ``linger`` says.

    **Lifetime**: the stream holds the handle.

    Attributes:
        handle: The handle.
    """

    def __init__(self, handle: Handle) -> None:
        self.handle = handle
        self._most = _SIZE
        self._receiving = False
        self._closed = False
        self._items: AsyncIterator[bytes] = handle.each(self._some)
        if handle.on_eof is None:
            handle.on_eof = _go_on
        if handle.on_error is None:
            handle.on_error = _go_on

    def _some(self, buffer: ReadBuffer) -> bytes | NeedMore:
        return buffer.take(min(self._most, len(buffer))) if buffer else NEED_MORE

    async def receive(self, max_bytes: int = _SIZE) -> bytes:
        """Return what has come, at least one byte.

        Raises:
            anyio.EndOfStream: The peer has sent everything.
            anyio.ClosedResourceError, anyio.BrokenResourceError: The stream was closed, or broke.
            anyio.BusyResourceError: Another task receives.
        """
        if max_bytes < 1:
            raise ValueError(f"expected max_bytes of 1 or more, got {max_bytes!r}")
        if self._receiving:
            raise anyio.BusyResourceError("receiving from")
        self._check()
        self._most = max_bytes
        self._receiving = True
        try:
            if not self.handle.read_buffer:
                return await anext(self._items)
            # it is there already: the next one does not wait, and a checkpoint has to be made
            await checkpoint_if_cancelled()
            item = await anext(self._items)
            await cancel_shielded_checkpoint()
            return item
        except StopAsyncIteration:
            raise anyio.EndOfStream from None
        except HandleError as error:
            raise self._failure(error) from error
        finally:
            self._receiving = False

    async def send(self, item: bytes) -> None:
        """Send *item*; return when the system has taken all of it.

        Raises:
            anyio.ClosedResourceError, anyio.BrokenResourceError: The stream was closed, or broke.
        """
        self._check()
        await checkpoint_if_cancelled()
        self.handle.push_write(item)
        if self._has_sent_all():
            await cancel_shielded_checkpoint()
        else:
            await self._drained()

    def _has_sent_all(self) -> bool:
        """Whether everything is sent already: to ask ``drained()`` takes two turns of the loop."""
        write = self.handle._write
        return self.handle._phase == OPEN and write.error is None and not self.handle.unsent

    async def _drained(self) -> None:
        try:
            await self.handle.drained()
        except HandleError as error:
            raise self._failure(error) from error

    async def send_eof(self) -> None:
        """Tell the peer that nothing more is sent; receiving goes on."""
        self._check()
        self.handle.push_shutdown()
        await self._drained()

    async def aclose(self) -> None:
        """Close it. What waits in another task gets ``anyio.ClosedResourceError``."""
        self._closed = True
        self.handle.destroy()
        await checkpoint()

    def _check(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError

    def _failure(self, error: HandleError) -> Exception:
        if self._closed or isinstance(error, HandleDestroyed):
            return anyio.ClosedResourceError()
        return anyio.BrokenResourceError(str(error))

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """The attributes of ``anyio.abc.SocketAttribute``, where the handle has a socket."""
        sock = self.handle.socket
        if not isinstance(sock, socket.socket):
            return {}
        names = anyio.abc.SocketAttribute
        found: dict[Any, Callable[[], Any]] = {
            names.family: lambda: sock.family,
            names.local_address: lambda: _address(sock.getsockname()),
            names.raw_socket: lambda: sock,
            names.remote_address: lambda: _address(sock.getpeername()),
        }
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            found[names.local_port] = lambda: sock.getsockname()[1]
            found[names.remote_port] = lambda: sock.getpeername()[1]
        return found


def _go_on(handle: Handle, error: HandleError | None = None) -> None:
    """Sending goes on after the peer's end, and an error is raised by the next call."""


def _address(address: Any) -> Any:
    return address[:2] if isinstance(address, tuple) else address


@asynccontextmanager
async def as_handle(stream: anyio.abc.ByteStream, **options: Any) -> AsyncIterator[Handle]:
    """Give a handle for any byte stream of anyio, such as its TLS streams.

    Args:
        stream: Where the bytes go and come from; it is closed at the end.
        options: Those of :class:`Handle`.

    The handle stands on one end of a pair of sockets, and two tasks pass on what comes at the
    other end, so it may be given to any code that takes a handle, and have TLS of its own.

    When the block is left what was pushed is sent first; then the handle is destroyed. If the
    block has destroyed it, that takes as long as its ``linger`` says, and no longer.
    """
    ours, theirs = socket.socketpair()
    handle = Handle(theirs, **options)
    other = HandleStream(Handle(ours, linger=0))

    async def pump(source: anyio.abc.ByteStream, destination: anyio.abc.ByteStream) -> None:
        try:
            while True:
                await destination.send(await source.receive())
        except anyio.EndOfStream:
            await destination.send_eof()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            await other.aclose()  # the handle is told by the end of its socket

    async def pump_out(done: anyio.Event) -> None:
        await pump(other, stream)
        done.set()

    sent = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(pump, stream, other)
        group.start_soon(pump_out, sent)
        try:
            yield handle
            # in a handle that was destroyed what is unsent lingers, and no longer than that
            with anyio.move_on_after(handle.linger if handle.is_destroyed else None):
                handle.push_shutdown()
                await sent.wait()
        finally:
            handle.destroy()
            await other.aclose()
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await stream.aclose()
