"""The ``netstring`` frame type: ``5:hello,``.

Sans-I/O: imports nothing from ``ae_core``; fed by ``Handle``, tested with plain bytes.
"""

from __future__ import annotations

__all__ = ("NetString",)


from .._buffers.octets import octets
from .._buffers.read_buffer import NEED_MORE, ReadBuffer
from .._errors import BadMessage
from ._immutable import Immutable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from .._buffers.read_buffer import NeedMore

# A length is checked while it arrives, so nothing that begins wrongly is waited for. Ten digits
# are ten gigabytes: more digits are not those of a netstring.
_DIGITS: Final = 10
_COMMA: Final = 0x2C


class NetString(Immutable):
    """A string with its decimal length in front and a comma behind.

    Reads :class:`bytes`. Refuses (:class:`~ae_handle.BadMessage`, nothing is consumed) anything
    but digits and a colon in front, leading zeros, more than 10 digits, another byte than the
    comma behind.

    Example:
        >>> from ae_handle import ReadBuffer
        >>> NetString()(ReadBuffer(b"5:hello,rest"))
        b'hello'
        >>> NetString().encode(b"hello")
        b'5:hello,'

    Source: D. J. Bernstein, "Netstrings" (1997)

    Perl: ``$handle->push_read (netstring => $cb)``
    """

    __slots__ = ()

    def __call__(self, buf: ReadBuffer, /) -> bytes | NeedMore:
        head = buf.peek(_DIGITS + 1)
        digits, colon, _ = head.partition(b":")
        if digits and not digits.isdigit():
            raise BadMessage(f"expected the length of a netstring, got {head!r}")
        if len(digits) > _DIGITS:
            raise BadMessage(f"expected a netstring's length of 10 digits or fewer, got {head!r}")
        if len(digits) > 1 and digits[:1] == b"0":
            raise BadMessage(f"expected a netstring's length without leading zeros, got {head!r}")
        if not colon:
            return NEED_MORE
        if not digits:
            raise BadMessage(f"expected the length of a netstring, got {head!r}")
        start = len(digits) + 1
        size = int(digits)
        if len(buf) <= start + size:
            return NEED_MORE
        with buf.view() as view:
            last = view[start + size]
            text = bytes(view[start : start + size])
        if last != _COMMA:
            raise BadMessage(f"expected a comma behind the netstring, got {bytes([last])!r}")
        buf.skip(start + size + 1)
        return text

    def encode(self, value: bytes | bytearray | memoryview, /) -> bytes:
        """Return *value* with its length and the comma.

        Raises:
            TypeError: If *value* is not bytes-like.
        """
        data = octets(value)
        return b"%d:%b," % (len(data), data)
