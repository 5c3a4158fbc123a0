"""The ``chunk`` frame type: a fixed number of bytes.

Sans-I/O: imports nothing from ``ae_core``; fed by ``Handle``, tested with plain bytes.
"""

from __future__ import annotations

__all__ = ("Chunk",)

from .._buffers.octets import octets
from .._buffers.read_buffer import NEED_MORE, ReadBuffer
from ._immutable import Immutable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._buffers.read_buffer import NeedMore


class Chunk(Immutable):
    """Exactly *size* bytes; zero of them need no input.

    Args:
        size: How many.

    Reads :class:`bytes`.

    Raises:
        TypeError: If *size* is not an integer.
        ValueError: If *size* is negative.

    Example:
        >>> from ae_handle import ReadBuffer
        >>> Chunk(4)(ReadBuffer(b"headbody"))
        b'head'

    Perl: ``$handle->push_read (chunk => $octets, $cb)``
    """

    __slots__ = ("size",)

    size: int

    def __init__(self, size: int) -> None:
        if size.__class__ is not int and (isinstance(size, bool) or not isinstance(size, int)):
            raise TypeError(f"expected a number of bytes, got {size!r}")
        if size < 0:
            raise ValueError(f"expected a size of 0 or more, got {size!r}")
        object.__setattr__(self, "size", size)  # `_set`, without a call: 10 % of such a read

    def __call__(self, buf: ReadBuffer, /) -> bytes | NeedMore:
        if len(buf) < self.size:
            return NEED_MORE
        return buf.take(self.size)

    def encode(self, value: bytes | bytearray | memoryview, /) -> bytes:
        """Return *value*, after making sure that it has the right size.

        Raises:
            TypeError: If *value* is not bytes-like.
            ValueError: If it has another size.
        """
        data = octets(value)
        if len(data) != self.size:
            raise ValueError(f"expected {self.size} bytes, got {len(data)}")
        return data
