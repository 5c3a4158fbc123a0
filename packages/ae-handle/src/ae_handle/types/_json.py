"""The ``json`` frame type: one JSON value after the other.

Sans-I/O: imports nothing from ``ae_core``; fed by ``Handle``, tested with plain bytes.
"""

from __future__ import annotations

__all__ = ("Json",)

import re
from functools import cache

from .._buffers.read_buffer import NEED_MORE, ReadBuffer
from .._errors import BadMessage
from ._immutable import Coded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, NoReturn

    from .._buffers.read_buffer import NeedMore
    from ..abc import Coder

# Theory of operation
# -------------------
# JSON has no frame: a value ends where it ends. Handing the growing buffer to a decoder with each
# packet is quadratic (0.07 s for 142 kB in pieces of 1 kB), so a scanner finds the end first. It
# knows strings and brackets only, keeps its place in `ReadBuffer.state`, and looks at each byte
# once, mostly inside one regular expression without backtracking (possessive, hence linear). The
# decoder then sees each value once, whole, and it alone decides whether that is JSON.
#
# A number or a word at top level ends with the byte behind it, or with the stream: `at_eof`.
# The scanner bounds the depth, so that a decoder which recurses is never asked to go deeper.

_SPACE: Final = b" \t\n\r"
_BLANK: Final = re.compile(rb"[ \t\n\r]*+")
_SCALAR: Final = re.compile(rb"[^ \t\n\r,:\[\]{}\"]*+")

# Everything up to the next bracket, with the whole strings between, or up to the quote of a
# string that is not complete.
_PLAIN: Final = re.compile(rb'[^"\[\]{}]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"\[\]{}]*+)*+', re.DOTALL)
_IN_STRING: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)

_OPEN: Final = b"[{"
_CLOSE: Final = b"]}"
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_INFINITE: Final = (float("inf"), float("-inf"))
_FIRST: Final = frozenset(b'[{"-0123456789tfn')

# How many bytes at most a number or word at top level may have: Python refuses integers of more
# than 4300 digits, and nothing else that long is JSON.
_LONGEST_SCALAR: Final = 8192


class Json(Coded):
    """One JSON value (RFC 8259), any value, falsy ones too.

    Values may stand back to back; white space between them is skipped. A number, ``true``,
    ``false`` or ``null`` at top level is complete when the next byte has arrived, or the end
    of the stream; so, when writing several of them, write white space between them.

    Args:
        coder: An object with ``loads`` and ``dumps``, such as the module ``orjson``, in place
            of the standard library's. What its ``loads`` raises refuses the value.
        max_depth: How deeply arrays and objects may be nested. Their size is bounded by
            ``max_read_buffer``.

    Refuses (:class:`~ae_handle.BadMessage`, nothing is consumed) what is not JSON in UTF-8:
    ``NaN`` and ``Infinity`` too, and a byte order mark; and numbers that Python cannot hold, or not
    write again: ``1e400``, and integers of more than 4,300 digits. What is read can be written.

    Example:
        >>> from ae_handle import ReadBuffer
        >>> buf = ReadBuffer(b'{"id":1}[] 0 ')
        >>> [Json()(buf) for _ in range(3)]
        [{'id': 1}, [], 0]
        >>> Json().encode({"id": 1})
        b'{"id":1}'

    Perl: ``$handle->push_read (json => $cb)``
    """

    __slots__ = ("coder", "max_depth")

    def __init__(self, coder: Coder | None = None, *, max_depth: int = 512) -> None:
        self._set_coder(coder, max_depth)

    def __call__(self, buf: ReadBuffer, /) -> Any | NeedMore:
        return self._read(buf, final=False)

    def at_eof(self, buf: ReadBuffer, /) -> Any | NeedMore:
        """Read the value that only the end of the stream completes; drop trailing space."""
        value = self._read(buf, final=True)
        if value is NEED_MORE and not buf.peek(len(buf)).strip(_SPACE):
            buf.clear()
        return value

    def encode(self, value: Any, /) -> bytes:
        """Return *value* as compact JSON, without anything behind it.

        Raises:
            TypeError, ValueError: If JSON has no such value.
        """
        if self.coder is None:
            return _stdlib()[1](value)
        text = self.coder.dumps(value)
        return text.encode() if isinstance(text, str) else bytes(text)

    def _read(self, buf: ReadBuffer, *, final: bool) -> Any | NeedMore:
        if not buf:
            return NEED_MORE
        scan = buf.state
        if scan is None:
            scan = buf.state = _Scan(self.max_depth)
        elif isinstance(scan, str):
            raise BadMessage(scan)  # as before: nothing has been taken away since
        try:
            end = scan.end(buf, final)
            if end is None:
                return NEED_MORE
            value = self._decode(buf.peek(end)[scan.start :])
        except BadMessage as error:
            buf.state = str(error)
            raise
        buf.skip(end)
        return value

    def _decode(self, text: bytes) -> Any:
        loads = _stdlib()[0] if self.coder is None else self.coder.loads
        try:
            return loads(text)
        except Exception as error:
            shown = text[:60] + b"..." if len(text) > 60 else text
            raise BadMessage(f"not JSON: {error}: {shown!r}") from error


class _Scan:
    """Where the scanner stands, in bytes from the front of the buffer."""

    __slots__ = ("depth", "in_string", "max_depth", "pos", "start")

    def __init__(self, max_depth: int) -> None:
        self.start = -1  # of the value; -1: not seen yet
        self.pos = 0  # everything before was looked at
        self.depth = 0
        self.in_string = False
        self.max_depth = max_depth

    def end(self, buf: ReadBuffer, final: bool) -> int | None:
        """Return where the value ends, or None if that has not arrived."""
        with buf.view() as data:
            if self.start < 0:
                blank = _BLANK.match(data, self.pos)
                self.pos = blank.end() if blank else 0
                if self.pos == len(data):
                    return None
                if data[self.pos] not in _FIRST:
                    raise BadMessage(f"expected a JSON value, got {bytes(data[self.pos :][:60])!r}")
                self.start = self.pos
                if data[self.pos] == 0x22:
                    self.in_string = True
                    self.pos += 1
            if self.depth or self.in_string or data[self.start] in _OPEN:
                return self._structure(data)
            return self._scalar(data, final)

    def _scalar(self, data: memoryview, final: bool) -> int | None:
        word = _SCALAR.match(data, self.pos)
        self.pos = word.end() if word else self.pos
        if self.pos - self.start > _LONGEST_SCALAR:
            raise BadMessage(f"expected a JSON value, got {bytes(data[self.start :][:60])!r}...")
        return self.pos if final or self.pos < len(data) else None

    def _structure(self, data: memoryview) -> int | None:
        size = len(data)
        pos = self.pos
        while True:
            if self.in_string:
                inside = _IN_STRING.match(data, pos)
                pos = inside.end() if inside else pos
                if pos == size or data[pos] != 0x22:
                    break  # more of the string, or a backslash whose byte has not arrived
                self.in_string = False
                pos += 1
                if not self.depth:
                    self.pos = pos
                    return pos
            plain = _PLAIN.match(data, pos)
            pos = plain.end() if plain else pos
            if pos == size:
                break
            octet = data[pos]
            pos += 1
            if octet == 0x22:
                self.in_string = True
            elif octet in _OPEN:
                self.depth += 1
                if self.depth > self.max_depth:
                    raise BadMessage(f"JSON nested deeper than {self.max_depth}")
            else:
                self.depth -= 1
                if not self.depth:
                    self.pos = pos
                    return pos
        self.pos = pos
        return None


@cache
def _stdlib() -> tuple[Callable[[bytes], Any], Callable[[Any], bytes]]:
    """Return the standard library's two functions, strict; imported at first use."""
    from json import JSONDecoder, JSONEncoder

    read = JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite).decode
    write = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

    def encode(value: Any) -> bytes:
        text = write(value)
        try:
            return text.encode()
        except UnicodeEncodeError:  # half of a surrogate pair has an escape, but no bytes
            return _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text).encode()

    return (lambda text: read(text.decode())), encode


def _finite(text: str) -> float:
    number = float(text)
    if number in _INFINITE:
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")
