"""The ``cbor`` frame type: one CBOR data item after the other.

Sans-I/O: imports nothing from ``ae_core``; fed by ``Handle``, tested with plain bytes.
"""

from __future__ import annotations

__all__ = ("Cbor",)

from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

from .._buffer import NEED_MORE, NeedMore, ReadBuffer
from .._errors import BadMessage
from ._immutable import Immutable

if TYPE_CHECKING:
    from ..abc import Coder

# Theory of operation
# -------------------
# cbor2 raises at short input and starts over at the next attempt, which is quadratic. A scanner
# finds the end first: it steps from head to head (RFC 8949, 3) without looking at the content,
# keeps its place in `ReadBuffer.state` and allocates nothing for the lengths a head promises. The
# decoder then sees each item once and whole.
#
# `stack` holds, for every open array, map or tag, how many items are still to come; for items of
# indefinite length a negative number says what may stand inside.

_ANY: Final = -1  # items until "break": an array
_KEY: Final = -2  # ... a map, at a key
_VALUE: Final = -3  # ... a map, at a value
_BYTES: Final = -4  # ... a byte string: definite byte strings only
_TEXT: Final = -5  # ... a text string: definite text strings only

_BREAK: Final = 0xFF


class Cbor(Immutable):
    """One CBOR data item (RFC 8949), any value, falsy ones too.

    Args:
        coder: An object with ``loads`` and ``dumps`` in place of the module ``cbor2``, which
            the extra ``ae-handle[cbor]`` installs. What its ``loads`` raises
            refuses the item.
        max_depth: How deeply arrays, maps and tags may be nested.

    Refuses (:class:`~ae_handle.BadMessage`, nothing is consumed) what is not well-formed.

    Raises:
        ImportError: At the first use, if ``cbor2`` is not installed and no coder given.

    Example:
        >>> from ae_handle import ReadBuffer
        >>> Cbor()(ReadBuffer(bytes.fromhex("83010203f6")))
        [1, 2, 3]

    Perl: ``$handle->push_read (cbor => $cb)``
    """

    __slots__ = ("coder", "max_depth")

    coder: Coder | None
    max_depth: int

    def __init__(self, coder: Coder | None = None, *, max_depth: int = 400) -> None:
        if coder is not None and not (hasattr(coder, "loads") and hasattr(coder, "dumps")):
            raise TypeError(f"expected a coder with loads and dumps, got {coder!r}")
        if isinstance(max_depth, bool) or not isinstance(max_depth, int) or max_depth < 1:
            raise ValueError(f"expected a depth of 1 or more, got {max_depth!r}")
        self._set(coder=coder, max_depth=max_depth)

    def __call__(self, buf: ReadBuffer, /) -> Any | NeedMore:
        if not buf:
            return NEED_MORE
        coder = _cbor2() if self.coder is None else self.coder
        scan = buf.state
        if scan is None:
            scan = buf.state = _Scan(self.max_depth)
        try:
            with buf.view() as data:
                end = scan.end(data)
        except BadMessage:
            buf.state = None  # to be found bad again, should it be asked again
            raise
        if end is None:
            return NEED_MORE
        item = buf.peek(end)
        try:
            value = coder.loads(item)
        except Exception as error:
            buf.state = None
            shown = item[:30].hex() + ("..." if len(item) > 30 else "")
            raise BadMessage(f"not a CBOR item: {error}: {shown}") from error
        buf.skip(end)
        return value

    def encode(self, value: Any, /) -> bytes:
        """Return *value* as one item.

        Raises:
            TypeError, ValueError: If CBOR has no such value.
        """
        coder = _cbor2() if self.coder is None else self.coder
        return bytes(coder.dumps(value))  # type: ignore[arg-type]  # CBOR coders give bytes


class _Scan:
    """Where the scanner stands, in octets from the front of the buffer."""

    __slots__ = ("max_depth", "pos", "stack")

    def __init__(self, max_depth: int) -> None:
        self.pos = 0
        self.stack: list[int] = [1]
        self.max_depth = max_depth

    def end(self, data: memoryview) -> int | None:
        """Return where the item ends, or None if that has not arrived."""
        stack = self.stack
        size = len(data)
        pos = self.pos
        while stack:
            if pos >= size:
                break
            head = data[pos]
            inside = stack[-1]
            if head == _BREAK:
                if inside >= 0 or inside == _VALUE:
                    raise BadMessage(f"CBOR break out of place at octet {pos}")
                stack.pop()
                pos += 1
                self._complete()
                self.pos = pos
                continue
            major, info = head >> 5, head & 31
            if inside <= _BYTES and (major != (2 if inside == _BYTES else 3) or info == 31):
                raise BadMessage(f"CBOR string made of something else at octet {pos}")
            after, argument = self._head(data, pos, major, info)
            if after > size:
                break
            if major in (2, 3) and argument is not None:
                # the content may still be on its way; the head is simply read again then
                if after + argument > size:
                    break
                after += argument
            pos = self.pos = after
            self._count(inside)
            self._open(major, argument)
            if len(stack) > self.max_depth + 1:
                raise BadMessage(f"CBOR nested deeper than {self.max_depth}")
            self._complete()
        if stack:
            return None
        return pos

    @staticmethod
    def _head(data: memoryview, pos: int, major: int, info: int) -> tuple[int, int | None]:
        """Return where the head ends and its argument; None for an indefinite length."""
        if info < 24:
            return pos + 1, info
        if info < 28:
            width = 1 << info - 24
            after = pos + 1 + width
            argument = int.from_bytes(data[pos + 1 : after], "big")
            if major == 7 and info == 24 and after <= len(data) and argument < 32:
                raise BadMessage(f"CBOR simple value {argument} in two octets at octet {pos}")
            return after, argument
        if info == 31 and major in (2, 3, 4, 5):
            return pos + 1, None
        raise BadMessage(f"not a CBOR head at octet {pos}: {data[pos]:#04x}")

    def _count(self, inside: int) -> None:
        """Note that one item more begins in the innermost open one."""
        if inside > 0:
            self.stack[-1] = inside - 1
        elif inside == _KEY:
            self.stack[-1] = _VALUE
        elif inside == _VALUE:
            self.stack[-1] = _KEY

    def _open(self, major: int, argument: int | None) -> None:
        """Note what the item that was just begun still needs."""
        if argument is None:
            self.stack.append((_BYTES, _TEXT, _ANY, _KEY)[major - 2])
        elif major == 4:
            self.stack.append(argument)
        elif major == 5:
            self.stack.append(2 * argument)
        elif major == 6:
            self.stack.append(1)

    def _complete(self) -> None:
        """Close everything that needs nothing more."""
        stack = self.stack
        while stack and stack[-1] == 0:
            stack.pop()


@cache
def _cbor2() -> Coder:
    """Return the module ``cbor2``, imported at first use."""
    try:
        import cbor2
    except ImportError as error:
        raise ImportError("the cbor frame type needs cbor2: install ae-handle[cbor]") from error
    coder: Coder = cast("Any", cbor2)
    return coder
