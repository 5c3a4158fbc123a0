"""The ``tls_detect`` and ``tls_autostart`` frame types: is this peer about to speak TLS?

Sans-I/O: imports nothing from ``ae_core``; fed by ``Handle``, tested with plain bytes.
"""

from __future__ import annotations

__all__ = ("TlsAutostart", "TlsDetect")


from .._buffers.octets import not_a_class
from .._buffers.read_buffer import NEED_MORE, ReadBuffer
from ._immutable import Immutable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from .._buffers.read_buffer import NeedMore
    from ..abc import TlsRole

# Theory of operation
# -------------------
# A TLS client speaks first, and what it says first has one of two shapes:
#
#     16 03 VV HH LL    a handshake record of version 3.VV; HH, the high byte of its length, is
#                       at most 40 (RFC 8446 5.1: 2^14 bytes and no more)
#     LL LL 01 03 VV    SSLv2's ClientHello, with the high bit of its length set, offering 3.VV
#
# The first byte that does not fit decides for plaintext, without waiting for more.


def _shape(head: bytes) -> tuple[int, int] | NeedMore | None:
    first = head[0]
    if first == 0x16:
        if head[1:2] not in (b"\3", b"\4", b""):
            return None
        if len(head) < 4:
            return NEED_MORE
        return (head[1], head[2]) if head[3] <= 0x40 else None
    if first >= 0x80:
        if head[2:3] not in (b"\1", b"") or head[3:4] not in (b"\3", b"\4", b""):
            return None
        return (head[3], head[4]) if len(head) >= 5 else NEED_MORE
    return None


class TlsDetect(Immutable):
    """Whether the peer begins a TLS handshake. Consumes nothing.

    Reads ``(major, minor)``, the version of the first record, such as ``(3, 1)``; or None for
    plaintext.

    Example:
        >>> from ae_handle import ReadBuffer
        >>> TlsDetect()(ReadBuffer(bytes.fromhex("1603010200")))
        (3, 1)
        >>> TlsDetect()(ReadBuffer(b"GET / HTTP/1.0")) is None
        True

    Perl: ``$handle->push_read (tls_detect => $cb)``
    """

    __slots__ = ()

    def __call__(self, buf: ReadBuffer, /) -> tuple[int, int] | NeedMore | None:
        head = buf.peek(5)
        return _shape(head) if head else NEED_MORE


class TlsAutostart(Immutable):
    """Start TLS if the peer does, else go on in plaintext.

    Args:
        mode: ``"accept"``, or ``"connect"`` where the server is the one that speaks first.
        context: As ``tls_context`` of :class:`~ae_handle.Handle`; None for that of the handle.

    Reads what :class:`TlsDetect` does; the handshake has begun when the callback runs.

    Raises:
        ValueError: If *mode* is another word.
        TypeError: If *context* is a class.

    Perl: ``$handle->push_read (tls_autostart => [$ctx,] $mode)``
    """

    __slots__ = ("context", "mode")

    mode: TlsRole
    context: object

    def __init__(self, mode: TlsRole, context: object = None) -> None:
        if mode not in _MODES:
            raise ValueError(f'expected "connect" or "accept", got {mode!r}')
        not_a_class("context", context)
        self._set(mode=mode, context=context)

    def __call__(self, buf: ReadBuffer, /) -> tuple[int, int] | NeedMore | None:
        head = buf.peek(5)
        return _shape(head) if head else NEED_MORE


_MODES: Final = ("connect", "accept")
