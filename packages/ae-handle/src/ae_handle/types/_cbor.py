"""The ``cbor`` frame type: one CBOR data item after the other.

Sans-I/O: imports nothing from ``ae_core``; fed by ``Handle``, tested with plain bytes.
"""

from __future__ import annotations

__all__ = ("Cbor",)

from functools import cache
from struct import Struct
from sys import maxsize

from .._buffers.read_buffer import NEED_MORE, ReadBuffer
from .._errors import BadMessage
from ._collisions import FEW, collide
from ._immutable import Coded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from .._buffers.read_buffer import NeedMore
    from ..abc import Coder

# Theory of operation
# -------------------
# cbor2 raises at short input and starts over at the next attempt, which is quadratic. A scanner
# finds the end first: it steps from head to head (RFC 8949, 3), keeps its place in
# `ReadBuffer.state` and allocates nothing for the lengths a head promises. The decoder then sees
# each item once and whole.
#
# The scanner also refuses what would cost the decoder more than linear time. What is a key of a
# map, or a member of a set, gets hashed, and a peer can choose integers of many digits, arrays and
# tagged values that all have one hash: 640 kB of those kept it busy for 6 s. cbor2 can refuse
# everything but strings there (`strict_hashable_types`), and so small integers too, which many
# protocols use. Those are allowed here, see `_collisions`.
#
# Tags are the other danger: by default cbor2 compiles regular expressions (tag 35: 36 kB in 19 s),
# computes decimal fractions (tag 4: 240 kB in 5 s) and parses mail. So tags are data, unless the
# program says that it wants more.
#
# An open array, map, tag or string is (kind, left, keys): `left` is how many items are still to
# come; below 0, counting down, if the length is indefinite. In a map an even `left` is at a key.

_ITEMS: Final = 0  # an array, or the one item behind a tag
_MAP: Final = 1
_SET: Final = 2  # the array behind tag 258: its members are keys
_SET_NEXT: Final = 3  # behind tag 258
_BIG_NEXT: Final = 4  # behind tag 2 or 3
_CHUNKS: Final = 5  # _CHUNKS + major: a string of indefinite length
_BYTES: Final = _CHUNKS + 2

_KEY: Final = {_MAP: "map key", _SET: "set member"}
_BREAK: Final = 0xFF
# The tags with a meaning here
_BIG: Final = (2, 3)
_STRING_REFERENCE: Final = 25
_NAMESPACE_HEAD: Final = b"\xd9\x01\x00"  # 256
_OF_SET: Final = 258
_SELF_DESCRIBED: Final = 55799

#: How many bytes an integer of tag 2 or 3 may have.
_MAX_BIG: Final = 4096

_FLOATS: Final = {25: Struct(">e"), 26: Struct(">f"), 27: Struct(">d")}


class Cbor(Coded):
    """One CBOR data item (RFC 8949), any value, falsy ones too.

    Args:
        coder: An object with ``loads`` and ``dumps`` in place of the module ``cbor2``, which
            the extra ``ae-handle[cbor]`` installs. It is used as it is: items that are well-formed
            are handed to it, and what its ``loads`` raises refuses the item.
        max_depth: How deeply arrays, maps and tags may be nested.
        tags: Give tags the meanings that cbor2 knows: times, decimals, sets, regular expressions,
            references. For peers that you trust: some of these take time out of all proportion.

    Tags are left to the program: a tagged value arrives as ``cbor2.CBORTag(tag, value)``. Only
    integers of more than 64 bits (tags 2 and 3) are decoded, up to 4,096 bytes, and the mark of
    CBOR itself (55799) is dropped. Whatever is read can be written again, by :meth:`encode`.

    Map keys, and the members of a set (tag 258), may be text, bytes, integers of up to 64 bits,
    floats and simple values.

    Refuses (:class:`~ae_handle.BadMessage`, nothing is consumed) what is not well-formed, other
    keys, and numbers as keys that were chosen to be slow. Without *tags*, and with no *coder*,
    decoding takes time linear in the size of the item.

    Raises:
        ImportError: At the first use, if ``cbor2`` is not installed and no coder given.

    Example:
        >>> from ae_handle import ReadBuffer
        >>> Cbor()(ReadBuffer(bytes.fromhex("83010203f6")))
        [1, 2, 3]
        >>> Cbor()(ReadBuffer(bytes.fromhex("c11a514b67b0")))
        CBORTag(1, 1363896240)

    Perl: ``$handle->push_read (cbor => $cb)``
    """

    __slots__ = ("coder", "max_depth", "tags")

    tags: bool

    def __init__(
        self, coder: Coder | None = None, *, max_depth: int = 400, tags: bool = False
    ) -> None:
        if not isinstance(tags, bool):
            raise TypeError(f"expected tags as a bool, got {tags!r}")
        if tags and coder is not None:
            raise TypeError("expected tags or a coder, not both: what tags mean is the coder's")
        self._set_coder(coder, max_depth, tags=tags)

    def __call__(self, buf: ReadBuffer, /) -> Any | NeedMore:
        if not buf:
            return NEED_MORE
        scan = buf.state
        if scan is None:
            if self.coder is None:
                _cbor2()
            scan = buf.state = _Scan(self.max_depth, checks=self.coder is None, tags=self.tags)
        elif isinstance(scan, str):
            raise BadMessage(scan)  # as before: nothing has been taken away since
        try:
            with buf.view() as data:
                end = scan.end(data)
            if end is None:
                return NEED_MORE
            value = self._decode(buf.peek(end))
        except BadMessage as error:
            buf.state = str(error)
            raise
        buf.skip(end)
        return value

    def _decode(self, item: bytes) -> Any:
        try:
            if self.coder is not None:
                return self.coder.loads(item)
            decoders = None if self.tags else _TAGS
            return _cbor2().loads(item, semantic_decoders=decoders, max_depth=self.max_depth)
        except Exception as error:
            shown = item[:30].hex() + ("..." if len(item) > 30 else "")
            raise BadMessage(f"not a CBOR item: {error}: {shown}") from error

    def encode(self, value: Any, /) -> bytes:
        """Return *value* as one item.

        Raises:
            TypeError, ValueError: If CBOR has no such value.
        """
        if self.coder is not None:
            return bytes(self.coder.dumps(value))  # type: ignore[arg-type]  # these give bytes
        cbor2 = _cbor2()
        try:
            item: bytes = cbor2.dumps(value)
            if not self.tags and _NAMESPACE_HEAD in item:
                # that tag would have a meaning all the same: strings become references below it
                item = cbor2.dumps(value, encoders={cbor2.CBORTag: _write_tag})
        except cbor2.CBOREncodeError as error:
            kind = TypeError if isinstance(error, cbor2.CBOREncodeTypeError) else ValueError
            raise kind(str(error)) from error
        return item


class _Scan:
    """Where the scanner stands, in bytes from the front of the buffer.

    Args:
        max_depth: How deep it goes.
        checks: Whether the decoder's time depends on what it finds.
        tags: Whether tags have meanings.
    """

    __slots__ = ("_checks", "_max_depth", "_open", "_pos", "_room", "_stack", "_tags")

    def __init__(self, max_depth: int, *, checks: bool, tags: bool) -> None:
        self._max_depth = max_depth
        self._checks = checks
        self._tags = tags
        self._pos = 0
        self._room = 0  # bytes of an integer in pieces that may still come
        self._open: tuple[int, int, list[Any] | None] = (_ITEMS, 1, None)  # the innermost
        self._stack: list[tuple[int, int, list[Any] | None]] = []  # those around it

    def end(self, data: memoryview) -> int | None:
        """Return where the item ends, or None if that has not arrived.

        Raises:
            BadMessage: If it is none.
        """
        checks = self._checks
        stack = self._stack
        pos = self._pos
        size = len(data)
        kind, left, keys = self._open
        while True:
            while not left:
                if keys is not None and collide(keys):
                    raise BadMessage(f"CBOR {_KEY[kind]}s that collide, before byte {pos}")
                if not stack:
                    return pos
                kind, left, keys = stack.pop()
            if pos >= size:
                break
            head = data[pos]
            if head == _BREAK:
                if left > 0 or (kind == _MAP and left & 1):
                    raise BadMessage(f"CBOR break out of place at byte {pos}")
                left = 0
                pos += 1
                continue
            major, info = head >> 5, head & 31
            after = pos + 1
            argument: int | None = info
            if info >= 24:
                if info < 28:
                    after += 1 << info - 24
                    if after > size:
                        break
                    argument = number = int.from_bytes(data[pos + 1 : after], "big")
                    if major == 7 and info == 24 and number < 32:
                        raise BadMessage(f"CBOR simple value {number} in two bytes at byte {pos}")
                elif info == 31 and 2 <= major <= 5:
                    argument = None
                else:
                    raise BadMessage(f"not a CBOR head at byte {pos}: {head:#04x}")
            if kind >= _CHUNKS and (major != kind - _CHUNKS or argument is None):
                raise BadMessage(f"CBOR string made of something else at byte {pos}")
            is_key = kind == _SET or (kind == _MAP and not left & 1)
            if checks and ((is_key and 4 <= major <= 6) or kind in (_BIG_NEXT, _BYTES)):
                self._check(kind, major, argument, pos)
            if argument is not None and (major == 2 or major == 3):
                # the content may still be on its way; the head is simply read again then
                after += argument
                if after > size:
                    break
                if kind == _BYTES:
                    self._room -= argument
            left -= 1
            if is_key and keys is not None:
                keys.append(_number(data[pos:after], major, argument))
            pos = after
            if argument is None or 4 <= major <= 6:
                stack.append((kind, left, keys))
                kind, left, keys = self._inside(kind, major, argument)
                if len(stack) > self._max_depth and major >= 4:
                    raise BadMessage(f"CBOR nested deeper than {self._max_depth}")
        self._pos = pos
        self._open = kind, left, keys
        return None

    def _check(self, kind: int, major: int, argument: int | None, pos: int) -> None:
        """Refuse what costs the decoder too much: where only some items may stand."""
        if kind in (_MAP, _SET):
            if not (self._tags and major == 6 and argument == _STRING_REFERENCE):
                what = ("an array", "a map", "a tagged value")[major - 4]
                raise BadMessage(f"CBOR {_KEY[kind]} that is {what}, at byte {pos}")
            return
        if major != 2:
            raise BadMessage(f"CBOR integer made of something else at byte {pos}")
        room = _MAX_BIG if kind == _BIG_NEXT else self._room
        if argument is not None and argument > room:
            raise BadMessage(f"CBOR integer of more than {_MAX_BIG} bytes at byte {pos}")

    def _inside(
        self, kind: int, major: int, argument: int | None
    ) -> tuple[int, int, list[Any] | None]:
        """Return what was opened by an item that stands in a *kind*."""
        if major == 6:
            assert argument is not None
            if argument in _BIG and not self._tags:
                return _BIG_NEXT, 1, None
            # the array may stand behind other tags still
            return _SET_NEXT if argument == _OF_SET or kind == _SET_NEXT else _ITEMS, 1, None
        if major < 4:
            self._room = _MAX_BIG if kind == _BIG_NEXT else maxsize
            return _CHUNKS + major, -1, None
        many = self._checks and (argument is None or argument >= FEW)
        if major == 5:
            return _MAP, -2 if argument is None else 2 * argument, [] if many else None
        is_set = self._checks and kind == _SET_NEXT
        left = -1 if argument is None else argument
        return _SET if is_set else _ITEMS, left, [] if many and is_set else None


def _number(item: memoryview, major: int, argument: int | None) -> int | float | None:
    """Return the number that a key is, or is equal to; None for anything else."""
    if argument is None or major == 2 or major == 3:
        return None
    if major == 0:
        return argument
    if major == 1:
        return -1 - argument
    info = item[0] & 31
    if info in _FLOATS:
        number: float = _FLOATS[info].unpack_from(item, 1)[0]
        return number
    return {20: 0, 21: 1, 22: None, 23: None}.get(argument, argument)  # False, True, null, ...


class _Tags(dict[int, "Any"]):
    """For each tag, what makes a value of it; none for those that are left to cbor2."""

    def __missing__(self, tag: int) -> Any:
        if tag in _BIG:
            raise KeyError(tag)
        if tag == _SELF_DESCRIBED:  # of whose arrays cbor2 itself makes tuples
            return lambda value, immutable: value
        make = _cbor2().CBORTag
        return lambda value, immutable: make(tag, value)


_TAGS: Final = _Tags()


def _write_tag(encoder: Any, tagged: Any) -> None:
    """Write a tagged value, whatever the tag."""
    encoder.encode_length(6, tagged.tag)
    encoder.encode(tagged.value)


@cache
def _cbor2() -> Any:
    """Return the module ``cbor2``, imported at first use."""
    try:
        import cbor2
    except ImportError as error:
        raise ImportError("the cbor frame type needs cbor2: install ae-handle[cbor]") from error
    return cbor2
