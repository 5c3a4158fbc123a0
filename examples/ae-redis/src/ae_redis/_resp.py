r"""The parser: bytes of RESP2 and RESP3 in, replies out.

Sans-I/O: fed with whatever one read returned, it gives all replies that are complete by then.
It never raises for what the server sent: :attr:`Parser.error` says that the rest is nonsense,
and the replies before it are given out all the same, however the network cut the stream.
"""

from __future__ import annotations

__all__ = ("MAX_REPLY", "Parser", "Push")

from typing import Any, Final

from ._collisions import collide
from ._errors import ProtocolError, ReplyError

# Theory of operation
# -------------------
# RESP is lines, and strings with a length that end like a line. So one split() at CRLF, in C,
# gives tokens of which each is a header or the whole body of a string; a reply then costs a
# dictionary look-up and a comparison of lengths (0.2 us). A body that contains CRLF itself was
# cut too often: it is joined again. Flat arrays of strings, the second most frequent reply, are
# checked and taken as one slice.
#
# What is incomplete is kept in one of two ways. A line: in `_line`, until its end has come;
# nothing is searched twice, and a line that exceeds MAX_LINE is an error. A string whose length
# is known: as the pieces that arrived, unsplit, joined once. Nothing is ever allocated because
# of a length that the server *announced*.
#
# Nested replies are built without recursion: `_stack` holds the outer ones. What a reply may
# cost in memory is bounded by `max_reply`: bytes of strings, and so much for each item that
# was announced, so that many tiny items cannot cost more than one big string.

_CRLF: Final = b"\r\n"
_ITEM: Final = 16  # the least an item costs, in bytes
_SMALL: Final = 4096

#: The longest line: a header, a number, a simple string or error.
MAX_LINE: Final = 65536
#: How deep replies may nest.
MAX_DEPTH: Final = 32
#: The default of ``max_reply``.
MAX_REPLY: Final = 64 << 20

# What most headers of strings say.
_SIZES: Final = {b"$%d" % size: size for size in range(1024)}
_size_of: Final = _SIZES.get

_PLUS, _MINUS, _COLON, _DOLLAR, _STAR = b"+-:$*"
_PERCENT, _TILDE, _GREATER, _BAR = b"%~>|"
_BANG, _EQUALS, _UNDERSCORE, _COMMA, _HASH, _OPEN = b"!=_,#("
# What may be a key: the hashes of these cannot be chosen, or few have the same
_SALTED: Final = frozenset({bytes, type(None)})
_HASHED: Final = _SALTED | {int, float, bool}
_BULKS: Final = frozenset(b"$!=")
_AGGREGATES: Final = frozenset(b"*%~>|")


class Push(list[Any]):
    """What a server sends unasked, in RESP3: a list of which the first item says what it is."""

    __slots__ = ()


class _Nothing:
    """The type of what stands for no value."""


_NOTHING: Final = _Nothing()


class _Refused(Exception):
    """Why the input is no RESP."""


class Parser:
    r"""An incremental parser.

    Args:
        max_reply: How many bytes one reply may need at most, roughly; not below 65536.

    Strings become :class:`bytes`, numbers :class:`int` and :class:`float`, null None, maps
    :class:`dict` and sets :class:`set`, errors :class:`ReplyError` instances (they are not
    raised), pushes :class:`Push`. Attributes are dropped. Keys of maps and members of sets may be
    strings, numbers of up to 64 bits, booleans and null; numbers that were chosen to be slow in a
    dict are refused.

    Attributes:
        error: None, or what is wrong with the stream; then nothing is parsed any more.
        pushed: Whether the last :meth:`feed` gave a :class:`Push`.

    Example:
        >>> parser = Parser()
        >>> parser.feed(b"+OK\r\n*2\r\n$3\r\nfoo\r\n:4")
        [b'OK']
        >>> parser.feed(b"2\r\n")
        [[b'foo', 42]]
    """

    __slots__ = (
        "_budget",
        "_bulk",
        "_have",
        "_items",
        "_kind",
        "_left",
        "_line",
        "_max_reply",
        "_need",
        "_pieces",
        "_stack",
        "error",
        "pushed",
    )

    def __init__(self, *, max_reply: int = MAX_REPLY) -> None:
        if max_reply < MAX_LINE:
            raise ValueError(f"expected a max_reply of {MAX_LINE} or more, got {max_reply!r}")
        self._max_reply = max_reply
        self._line = bytearray()
        # an incomplete string: its kind, its size with the CRLF, what is there of it
        self._bulk = 0
        self._need = 0
        self._have = 0
        self._pieces: list[bytes | bytearray] = []
        # the innermost incomplete aggregate, and those around it
        self._items: list[Any] | None = None
        self._left = 0
        self._kind = 0
        self._stack: list[tuple[list[Any], int, int]] = []
        self._budget = max_reply
        self.error: ProtocolError | None = None
        self.pushed = False

    def feed(self, data: bytes) -> list[Any]:
        """Return the replies that *data* completes, in order."""
        self.pushed = False
        replies: list[Any] = []
        if self.error is not None:
            return replies
        try:
            if self._need:
                rest = self._feed_string(data, replies)
                if rest:
                    self._feed_lines(rest, replies)
            elif self._line:
                ended = _CRLF in data or (data[:1] == b"\n" and self._line[-1] == 13)
                self._line += data
                if ended:
                    data = bytes(self._line)
                    self._line = bytearray()
                    self._feed_lines(data, replies)
                elif len(self._line) > MAX_LINE:
                    raise _Refused(f"a line of more than {MAX_LINE} bytes")
            else:
                self._feed_lines(data, replies)
        except _Refused as refused:
            self.error = ProtocolError(f"bad reply: {refused}")
            self._line = bytearray()
            self._pieces = []
            self._items = None
            self._stack = []
        return replies

    # ------------------------------------------------------------------ strings in pieces

    def _feed_string(self, data: bytes, replies: list[Any]) -> bytes:
        """Go on with an incomplete string; return what is behind it."""
        pieces = self._pieces
        over = self._have + len(data) - self._need
        if over < 0:
            self._have += len(data)
            if len(data) >= _SMALL:
                pieces.append(data)
            elif pieces and pieces[-1].__class__ is bytearray:
                pieces[-1] += data
            else:
                pieces.append(bytearray(data))
            return b""
        end = len(data) - over
        self._pieces = []
        self._need = 0
        if end >= 2:
            marker = data[end - 2 : end]
            pieces.append(data[: end - 2])
            value = b"".join(pieces)
        else:  # the marker itself was cut
            whole = b"".join((*pieces, data[:end]))
            marker = whole[-2:]
            value = whole[:-2]
        if marker != _CRLF:
            raise _Refused(f"a string of {len(value)} bytes is longer than that")
        self._add(_string(self._bulk, value), replies)
        return data[end:]

    # ------------------------------------------------------------------ lines

    def _feed_lines(self, data: bytes, replies: list[Any]) -> None:
        tokens = data.split(_CRLF)
        last = len(tokens) - 1  # that one is incomplete
        check = len(data) > MAX_LINE
        index = 0
        value: Any
        while index < last:
            token = tokens[index]
            index += 1
            kind = _DOLLAR
            value = None
            size = _size_of(token)
            if size is None:
                kind = token[0] if token else 0
                if check and len(token) > MAX_LINE:
                    raise _Refused(f"a line of more than {MAX_LINE} bytes")
                if kind == _PLUS:
                    value = token[1:]
                elif kind == _COLON:
                    value = _integer(token, 20)
                elif kind in _AGGREGATES:
                    count = _length(token, kind)
                    if kind == _STAR and 0 <= 2 * count <= last - index:
                        value = self._flat(tokens, index, count)
                        if value is not None:
                            index += 2 * count
                            self._add(value, replies)
                            continue
                    self._begin(kind, count, replies)
                    continue
                elif kind in _BULKS:
                    size = _length(token, kind)
                    if size > self._max_reply:
                        raise _Refused(f"a string of {size} bytes, max_reply is {self._max_reply}")
                    if size < 0:
                        size = None
                else:
                    value = _scalar(kind, token)
            if size is not None:
                if self._items is not None:
                    self._spend(size)
                value = tokens[index]
                if len(value) != size or index == last:
                    index, value = self._rejoin(tokens, index, size, kind)
                    if value is None:
                        return
                else:
                    index += 1
                if kind != _DOLLAR:
                    value = _string(kind, value)
            elif self._items is not None:
                self._spend(len(token))
            if self._items is None:
                replies.append(value)
            else:
                self._add(value, replies)
        rest = tokens[last]
        if rest:
            if len(rest) > MAX_LINE:
                raise _Refused(f"a line of more than {MAX_LINE} bytes")
            self._line += rest

    def _flat(self, tokens: list[bytes], index: int, count: int) -> list[bytes] | None:
        """Return the next *count* strings, or None if they are not just short strings.

        That they are all there is known.
        """
        if count and tokens[index] not in _SIZES:
            return None  # nested: do not look at everything at each level
        bodies = tokens[index + 1 : index + 2 * count : 2]
        sizes = list(map(len, bodies))
        if sizes != list(map(_size_of, tokens[index : index + 2 * count : 2])):
            return None
        self._charge(_STAR, count)
        self._spend(sum(sizes))
        return bodies

    def _rejoin(
        self, tokens: list[bytes], index: int, size: int, kind: int
    ) -> tuple[int, bytes | None]:
        """Return the string that begins at *index*, and the index behind it.

        None instead of the string if it is not complete: then it is put aside.
        """
        last = len(tokens) - 1
        begin = index
        have = -2
        while have < size and index < last:
            have += 2 + len(tokens[index])
            index += 1
        if have == size:
            return index, _CRLF.join(tokens[begin:index])
        if have > size:
            raise _Refused(f"a string of {size} bytes is longer than that")
        rest = _CRLF.join(tokens[begin:])
        if len(rest) >= size + 2:
            raise _Refused(f"a string of {size} bytes is longer than that")
        self._bulk = kind
        self._need = size + 2
        self._have = len(rest)
        self._pieces = [rest] if rest else []
        return index, None

    # ------------------------------------------------------------------ aggregates

    def _spend(self, size: int) -> None:
        self._budget -= size
        if self._budget < 0:
            raise _Refused(f"a reply that needs more than max_reply, {self._max_reply} bytes")

    def _charge(self, kind: int, count: int) -> None:
        """Check that an aggregate of *count* items may stand here."""
        if self._items is None:
            self._budget = self._max_reply
        elif kind == _GREATER:
            raise _Refused("a push inside a reply")
        elif len(self._stack) >= MAX_DEPTH - 1:
            raise _Refused(f"a reply nested deeper than {MAX_DEPTH}")
        if kind == _GREATER and not count:
            raise _Refused("an empty push")
        self._spend(_ITEM * (count + 4))

    def _begin(self, kind: int, count: int, replies: list[Any]) -> None:
        """Begin an aggregate of *count* items or pairs."""
        if count < 0:
            self._add(None, replies)
            return
        if kind in (_PERCENT, _BAR):
            count *= 2
        self._charge(kind, count)
        if not count:
            value = _aggregate(kind, [])
            if value is not _NOTHING:
                self._add(value, replies)
            return
        if self._items is not None:
            self._stack.append((self._items, self._left, self._kind))
        self._items = []
        self._left = count
        self._kind = kind

    def _add(self, value: Any, replies: list[Any]) -> None:
        """Put a value where it belongs; it may complete what it belongs to, and so on."""
        items = self._items
        while items is not None:
            items.append(value)
            self._left -= 1
            if self._left:
                return
            value = _aggregate(self._kind, items)
            if self._stack:
                items, self._left, self._kind = self._stack.pop()
            else:
                items = None
            self._items = items
            if value is _NOTHING:
                return  # an attribute: what it belongs to comes next
        if value.__class__ is Push:
            self.pushed = True
        replies.append(value)


# ---------------------------------------------------------------------- values


def _string(kind: int, value: bytes) -> Any:
    """Return what a string of this kind means."""
    if kind == _BANG:
        return ReplyError(value.decode("utf-8", "replace"))
    if kind == _EQUALS:  # "txt:", "mkd:"
        if value[3:4] != b":":
            raise _Refused("a verbatim string without a format")
        return value[4:]
    return value


def _scalar(kind: int, token: bytes) -> Any:
    """Return the value of a line of one of the rarer kinds."""
    if kind == _MINUS:
        return ReplyError(token[1:].decode("utf-8", "replace"))
    if kind == _UNDERSCORE and len(token) == 1:
        return None
    if kind == _HASH and token in (b"#t", b"#f"):
        return token == b"#t"
    if kind == _COMMA:
        return _double(token)
    if kind == _OPEN:
        return _integer(token, 4000)
    raise _Refused(f"expected a reply, got {token[:40]!r}")


def _integer(token: bytes, most: int) -> int:
    digits = token[1:]
    if digits.isdigit() and len(digits) < most:
        return int(digits)
    if digits[:1] in (b"-", b"+") and digits[1:].isdigit() and len(digits) <= most:
        return int(digits)
    raise _Refused(f"expected a number, got {token[:40]!r}")


def _double(token: bytes) -> float:
    text = token[1:]
    if text and text.strip(b"0123456789.eE+-") in (b"", b"inf", b"nan"):
        try:
            return float(text)
        except ValueError:
            pass  # told below
    raise _Refused(f"expected a number, got {token[:40]!r}")


def _length(token: bytes, kind: int) -> int:
    """Return the length in a header; -1 is the null of RESP2."""
    digits = token[1:]
    if digits.isdigit() and len(digits) < 16:
        return int(digits)
    if digits == b"-1" and kind in (_DOLLAR, _STAR):
        return -1
    if digits == b"?":
        raise _Refused("a streamed reply, which is not supported")
    raise _Refused(f"expected a length, got {token[:40]!r}")


def _aggregate(kind: int, items: list[Any]) -> Any:
    """Return what a complete aggregate means; nothing for an attribute."""
    if kind == _STAR:
        return items
    if kind == _PERCENT:
        keys = items[::2]
        _check_keys(keys, "map key")
        return dict(zip(keys, items[1::2], strict=True))
    if kind == _TILDE:
        _check_keys(items, "set member")
        return set(items)
    if kind == _GREATER:
        return Push(items)
    return _NOTHING


def _check_keys(keys: list[Any], what: str) -> None:
    """Refuse what a server may choose so that a dict of it takes more than linear time."""
    kinds = {key.__class__ for key in keys}
    if kinds <= _SALTED:
        return
    if not kinds <= _HASHED:
        kind = next(kind for kind in kinds if kind not in _HASHED)
        raise _Refused(f"a {what} that is neither a string nor a number: {kind.__name__}")
    numbers = [None if key.__class__ in _SALTED else key for key in keys]
    if any(isinstance(key, int) and key.bit_length() > 64 for key in numbers):
        raise _Refused(f"a {what} that is a number of more than 64 bits")
    if collide(numbers):
        raise _Refused(f"{what}s that collide")
