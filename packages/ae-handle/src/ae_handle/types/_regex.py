"""The ``regex`` frame type: everything up to and including a match.

Sans-I/O: imports nothing from ``ae_core``; fed by ``Handle``, tested with plain bytes.
"""

from __future__ import annotations

__all__ = ("Regex",)


from .._buffers.octets import octets
from .._buffers.read_buffer import NEED_MORE, ReadBuffer
from .._errors import BadMessage
from .._typing import Generic, overload
from ._immutable import Immutable
from ._patterns import compiled, rebuilt, spans_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from typing import Any, Literal, TypeAlias, TypeVar

    from .._buffers.match_length import Searchable
    from .._buffers.read_buffer import NeedMore

    Pattern: TypeAlias = "bytes | re.Pattern[bytes] | Searchable"
    T_co = TypeVar("T_co", bytes, "re.Match[bytes]", covariant=True)
else:
    T_co = "T_co"

# Theory of operation
# -------------------
# `accept` is searched in what has arrived behind the last `skip`. If it is not there, `reject`
# decides whether the peer can still be right; if it matches, the request fails and consumes
# nothing. Then everything up to the end of a match of `skip` is put beyond search: it will be
# part of the value whatever follows, and is never looked at again. `ReadBuffer.state` is that
# offset. Patterns with a bounded match length are not searched twice either
# (see `_buffers/match_length.py`).
#
# With `groups` the match is wanted, but not the buffer that it was found in. So the bytes are
# searched again, alone; if the pattern leans on what was around them (look-ahead, $, \b, or ^ and
# \A behind a skip), that finds something else or nothing, and a match is built from the spans.


class Regex(Immutable, Generic[T_co]):
    r"""Bytes up to and including the first match of *accept*.

    Args:
        accept: What ends the item, anywhere in the data: ``bytes`` or a compiled pattern, of
            ``re`` or of another engine that has ``search(data, pos)``.
        reject: If *accept* does not match and this does, the data is refused
            (:class:`~ae_handle.BadMessage`); a callback request then stays in front.
        skip: If neither matches, everything up to the end of this match becomes part of the
            value without being looked at again: for long items.
        groups: Deliver the match of *accept* instead of the bytes. Its ``string`` is exactly
            what was consumed, skipped bytes included; groups and spans are those of the
            match in the buffer, but a group that a look-ahead captured behind the end matches
            nothing. Where the pattern leans on bytes around the match, ``re``, ``lastindex``
            and ``lastgroup`` are not the pattern's, and an item takes some 100 us more.

    A pattern of ``re`` can take quadratic time, and worse, for what a peer sends: ``[a-z]+\n``
    begins anew at each byte. For patterns or peers that are not to be trusted there is
    ``re2.compile`` of google-re2 (the extra ``ae-handle[re2]``), which is linear.

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
    _accept: Searchable
    _reject: Searchable | None
    _skip: Searchable | None

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
            _accept=compiled("accept", accept),
            _reject=None if reject is None else compiled("reject", reject),
            _skip=None if skip is None else compiled("skip", skip),
        )

    def __call__(self, buf: ReadBuffer, /) -> T_co | NeedMore:
        skipped: int = buf.state or 0
        if self.groups:
            spans = buf.search_rest(self._accept, skipped, spans_of)
            if spans is not None:
                match: T_co = self._match(buf, skipped, spans)
                return match
        else:
            end = buf.search_end(self._accept, skipped)
            if end >= 0:
                taken: Any = buf.take(end)
                value: T_co = taken
                return value
        if self._reject is not None and buf.search_end(self._reject, skipped) >= 0:
            shown = buf.peek(skipped + 60)[skipped:]
            pattern = getattr(self._reject, "pattern", self._reject)
            raise BadMessage(f"data matches the reject pattern {pattern!r}: {shown!r}")
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

    def _match(self, buf: ReadBuffer, skipped: int, spans: Any) -> Any:
        """Consume the item, and return its match; *spans* count from what was skipped."""
        data = buf.take(skipped + spans[0][1])
        if skipped:
            spans = tuple(
                (first if first < 0 else first + skipped, last if last < 0 else last + skipped)
                for first, last in spans
            )
        match = self._accept.search(data, skipped)
        if match is None or spans_of(match) != spans:
            match = rebuilt(data, self._accept, spans)
        return match
