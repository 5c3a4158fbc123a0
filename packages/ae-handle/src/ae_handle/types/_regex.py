"""The ``regex`` frame type: everything up to and including a match.

Sans-I/O: imports nothing from ``ae_core``; fed by ``Handle``, tested with plain bytes.
"""

from __future__ import annotations

__all__ = ("Regex",)

import re
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from .._buffer import NEED_MORE, NeedMore, ReadBuffer
from .._errors import BadMessage
from .._octets import octets
from ._immutable import Immutable

if TYPE_CHECKING:
    from typing import TypeAlias

    Pattern: TypeAlias = "bytes | re.Pattern[bytes]"

T_co = TypeVar("T_co", bytes, "re.Match[bytes]", covariant=True)

# Theory of operation
# -------------------
# `accept` is searched in what has arrived behind the last `skip`. If it is not there, `reject`
# decides whether the peer can still be right; if it matches, the request fails and consumes
# nothing. Then everything up to the end of a match of `skip` is put beyond search: it will be
# part of the value whatever follows, and is never looked at again. `ReadBuffer.state` is that
# offset. Patterns with a bounded match length are not searched twice either (see `_pattern`).


class Regex(Immutable, Generic[T_co]):
    r"""Octets up to and including the first match of *accept*.

    Args:
        accept: What ends the item, anywhere in the data: ``bytes`` or a compiled pattern.
        reject: If *accept* does not match and this does, the data is refused
            (:class:`~ae_handle.BadMessage`); a callback request then stays in front.
        skip: If neither matches, everything up to the end of this match becomes part of the
            value without being looked at again: for long items.
        groups: Deliver the match of *accept* instead of the octets. It refers to a copy of
            exactly the octets that were consumed.

    The patterns are tried whenever data arrives: one that can match more when more is there
    (``\d+``) depends on how the stream was cut; let it end in what ends the item (``\d+\n``).

    Example:
        >>> from ae_handle import ReadBuffer
        >>> Regex(rb"\r?\n\r?\n")(ReadBuffer(b"a: 1\nb: 2\n\nbody"))
        b'a: 1\nb: 2\n\n'
        >>> Regex(rb"(\w+)=(\w+);", groups=True)(ReadBuffer(b"k=v; ")).groups()
        (b'k', b'v')

    Perl: ``$handle->push_read (regex => $accept, $reject, $skip, $cb)``
    """

    __slots__ = ("_accept", "_reject", "_skip", "accept", "groups", "reject", "skip")

    accept: Pattern
    reject: Pattern | None
    skip: Pattern | None
    groups: bool
    _accept: re.Pattern[bytes]
    _reject: re.Pattern[bytes] | None
    _skip: re.Pattern[bytes] | None

    @overload
    def __init__(
        self: Regex[bytes],
        accept: Pattern,
        reject: Pattern | None = None,
        skip: Pattern | None = None,
        *,
        groups: Literal[False] = False,
    ) -> None: ...
    @overload
    def __init__(
        self: Regex[re.Match[bytes]],
        accept: Pattern,
        reject: Pattern | None = None,
        skip: Pattern | None = None,
        *,
        groups: Literal[True],
    ) -> None: ...
    def __init__(
        self,
        accept: Pattern,
        reject: Pattern | None = None,
        skip: Pattern | None = None,
        *,
        groups: bool = False,
    ) -> None:
        self._set(
            accept=accept,
            reject=reject,
            skip=skip,
            groups=groups,
            _accept=_compiled("accept", accept),
            _reject=None if reject is None else _compiled("reject", reject),
            _skip=None if skip is None else _compiled("skip", skip),
        )

    def __call__(self, buf: ReadBuffer, /) -> T_co | NeedMore:
        skipped: int = buf.state or 0
        end = buf.search_end(self._accept, skipped)
        if end >= 0:
            taken: T_co = self._taken(buf, skipped, end)
            return taken
        if self._reject is not None and buf.search_end(self._reject, skipped) >= 0:
            shown = buf.peek(skipped + 60)[skipped:]
            raise BadMessage(f"data matches the reject pattern {self._reject.pattern!r}: {shown!r}")
        if self._skip is not None:
            end = buf.search_end(self._skip, skipped)
            if end > skipped:
                buf.state = end
        return NEED_MORE

    def encode(self, value: bytes | bytearray | memoryview, /) -> bytes:
        """Return *value*, after making sure that it reads back as one item.

        Raises:
            TypeError: If *value* is not bytes-like.
            ValueError: If *accept* does not match exactly at its end.
        """
        data = octets(value)
        buf = ReadBuffer(data)
        try:
            read = self(buf)
        except BadMessage as error:
            raise ValueError(str(error)) from error
        if read is NEED_MORE or buf:
            raise ValueError(f"{self.accept!r} does not match at the end of {data[:60]!r}")
        return data

    def _taken(self, buf: ReadBuffer, skipped: int, end: int) -> Any:
        if not self.groups:
            return buf.take(end)
        data = buf.peek(end)
        match = self._accept.search(data, skipped)
        if match is None or match.end() != end:
            # it leans on what is around it ($, ^, look-ahead): show it all of that
            match = self._accept.search(buf.peek(len(buf))[skipped:])
        buf.take(end)
        return match


def _compiled(name: str, pattern: object) -> re.Pattern[bytes]:
    if isinstance(pattern, bytes):
        return re.compile(pattern)
    source = getattr(pattern, "pattern", None)
    if not isinstance(source, bytes) or not callable(getattr(pattern, "search", None)):
        raise TypeError(f"expected {name} as bytes or a compiled pattern of bytes, got {pattern!r}")
    return pattern  # type: ignore[return-value]  # re.Pattern, or one of regex or re2
