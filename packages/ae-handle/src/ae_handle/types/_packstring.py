"""The ``packstring`` frame type: bytes behind their length in binary.

Sans-I/O: imports nothing from ``ae_core``; fed by ``Handle``, tested with plain bytes.
"""

from __future__ import annotations

__all__ = ("PackString",)

import struct

from .._buffers.octets import octets
from .._buffers.read_buffer import NEED_MORE, ReadBuffer
from .._errors import BadMessage
from ._immutable import Immutable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from .._buffers.read_buffer import NeedMore

# Perl's pack letters as struct formats. Those without a fixed order are the machine's own, those
# without a fixed size (i I j J) the C compiler's.
_PERL: Final = {
    "c": "=b",
    "C": "=B",
    "s": "=h",
    "S": "=H",
    "l": "=i",
    "L": "=I",
    "q": "=q",
    "Q": "=Q",
    "i": "@i",
    "I": "@I",
    "j": "@n",
    "J": "@N",
    "n": ">H",
    "N": ">I",
    "v": "<H",
    "V": "<I",
}
_STRUCT_LETTERS: Final = frozenset("bBhHiIlLqQ")

# A BER compressed integer is at most this long here: 70 bits.
_BER_OCTETS: Final = 10


class PackString(Immutable):
    """Bytes with their length in front, as an integer of the given format.

    Args:
        fmt: A letter of Perl's ``pack``: ``c C s S l L q Q i I j J`` (the machine's byte order,
            or with ``<`` or ``>`` behind it that one), ``n N`` (network order), ``v V`` (little
            endian), ``w`` (BER compressed). Or, beginning with one of ``< > ! =``, a format of
            :mod:`struct` with a single integer.

    Reads :class:`bytes`. A negative length is refused (:class:`~ae_handle.BadMessage`).

    Raises:
        TypeError: If *fmt* is not a str.
        ValueError: If *fmt* is not one of those.

    Example:
        >>> from ae_handle import ReadBuffer
        >>> PackString("n")(ReadBuffer(bytes([0, 2]) + b"hithere"))
        b'hi'
        >>> PackString(">I").encode(b"abc").hex()
        '00000003616263'

    Perl: ``$handle->push_read (packstring => $format, $cb)``
    """

    __slots__ = ("_limit", "_struct", "fmt")

    fmt: str
    _struct: struct.Struct | None  # None: BER
    _limit: int

    def __init__(self, fmt: str) -> None:
        if not isinstance(fmt, str):
            raise TypeError(f"expected a format as str, got {fmt!r}")
        if fmt == "w":
            self._set(fmt=fmt, _struct=None, _limit=(1 << 7 * _BER_OCTETS) - 1)
            return
        packed = struct.Struct(_struct_format(fmt))
        bits = 8 * packed.size - packed.format[-1:].islower()  # lower case is signed
        self._set(fmt=fmt, _struct=packed, _limit=(1 << bits) - 1)

    def __call__(self, buf: ReadBuffer, /) -> bytes | NeedMore:
        packed = self._struct
        if packed is None:
            decoded = _read_ber(buf.peek(_BER_OCTETS))
            if decoded is None:
                return NEED_MORE
            start, size = decoded
        else:
            start = packed.size
            if len(buf) < start:
                return NEED_MORE
            (size,) = packed.unpack(buf.peek(start))
            if size < 0:
                raise BadMessage(f"expected a length of 0 or more, got {size}")
        if len(buf) < start + size:
            return NEED_MORE
        return buf.take(start + size)[start:]

    def encode(self, value: bytes | bytearray | memoryview, /) -> bytes:
        """Return *value* behind its length.

        Raises:
            TypeError: If *value* is not bytes-like.
            ValueError: If it is too long for the length's format.
        """
        data = octets(value)
        size = len(data)
        if size > self._limit:
            raise ValueError(f"{size} bytes are too many for format {self.fmt!r}: {self._limit}")
        head = _write_ber(size) if self._struct is None else self._struct.pack(size)
        return b"%b%b" % (head, data)


def _struct_format(fmt: str) -> str:
    """Translate *fmt* for :mod:`struct`."""
    if len(fmt) == 2 and fmt[0] in "<>!=" and fmt[1] in _STRUCT_LETTERS:
        return fmt
    letter, modifier = fmt[:1], fmt[1:]
    if letter in _PERL and (not modifier or modifier in "<>"):
        native = _PERL[letter]
        if not modifier:
            return native
        if letter not in "nNvVcC":
            # struct knows n and N in native order only; they are q and Q or i and I elsewhere
            sized = "bhiq"[struct.calcsize(native).bit_length() - 1]
            return modifier + (sized.upper() if letter.isupper() else sized)
    raise ValueError(
        f"expected one of Perl's letters {' '.join((*_PERL, 'w'))}, or a struct format such as "
        f"'>I', got {fmt!r}"
    )


def _read_ber(head: bytes) -> tuple[int, int] | None:
    """Return where a BER compressed integer ends and its value, or None if it is not complete."""
    value = 0
    for used, octet in enumerate(head, 1):
        value = value << 7 | octet & 0x7F
        if octet < 0x80:
            return used, value
    if len(head) == _BER_OCTETS:
        raise BadMessage(f"expected a compressed integer of 10 bytes or fewer, got {head!r}")
    return None


def _write_ber(value: int) -> bytes:
    octets = [value & 0x7F]
    while value := value >> 7:
        octets.append(value & 0x7F | 0x80)
    return bytes(reversed(octets))
