"""A proxy at the other end of a handle, which is asked to connect on.

Stands on the public interface of ``Handle``.
"""

from __future__ import annotations

__all__ = ("ask_proxy",)


import ae_core as ae

from ._buffers.read_buffer import NEED_MORE, ReadBuffer
from ._errors import UnexpectedEOF
from ._handle import Handle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

    from ae_socket import ProxyConnector, ProxyStep

    from ._buffers.read_buffer import NeedMore


def ask_proxy(
    handle: Handle, connector: ProxyConnector, host: str, service: str | int
) -> ae.CondVar[None]:
    """Have the proxy at the other end of *handle* connect to *host* and *service*.

    For a proxy that is reached in a way of its own: by TLS, say, or through another proxy. One
    that is reached by TCP needs no more than ``Handle(connect=..., connector=...)``.

    Args:
        handle: It may be connecting, and speak TLS. Nothing else may read from it meanwhile.
        connector: What :func:`ae_socket.http_connect` or :func:`ae_socket.socks5` has returned;
            what it says to the proxy is said here, where the proxy is does not matter.
        host, service: Where to; the proxy resolves the name.

    Returns:
        An operation. When it is ready the host is at the other end, and what it has said already
        is in the read buffer. For TLS with it, set ``handle.peer_name`` and call
        ``handle.start_tls``, or if *handle* speaks TLS with the proxy, take
        ``Handle(handle, tls="connect", peer_name=host)``. It need not be held. Cancelling it, or
        its failing, leaves the handle as it is then, of no use for anything but ``destroy()``.

    Raises:
        ae_socket.ProxyRefused: Through the operation: the proxy does not connect.
        HandleError: Through the operation: the connection to the proxy broke.
        TypeError, ValueError: Immediately, if there can be no such host.
    """
    if not isinstance(handle, Handle):
        raise TypeError(f"expected a Handle, got {handle!r}")
    return ae.spawn(_ask(handle, connector.negotiate(host, service)))


async def _ask(handle: Handle, steps: Generator[ProxyStep, bytes, None]) -> None:
    try:
        step = next(steps)
        while True:
            if step.data:
                handle.push_write(step.data)
            try:
                answer = await handle.push_read(_Answer(step))
            except UnexpectedEOF:
                step = steps.throw(EOFError())
            else:
                step = steps.send(answer)
    except StopIteration:
        return
    finally:
        steps.close()


class _Answer:
    """Reads the answer to one step, and nothing that is behind it."""

    __slots__ = ("_step",)

    def __init__(self, step: ProxyStep) -> None:
        self._step = step

    def __repr__(self) -> str:
        return "the answer of a proxy"

    def __call__(self, buffer: ReadBuffer, /) -> bytes | NeedMore:
        step = self._step
        if not step.is_head and len(buffer) < step.size:
            return NEED_MORE
        size = step.end_of_answer(buffer.peek(step.size))
        return buffer.take(size) if size else NEED_MORE


ask_proxy.__module__ = "ae_handle"
