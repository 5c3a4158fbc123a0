"""The read buffer: bytes that have arrived and that no reader has taken yet.

Sans-I/O: imports nothing from ``ae_core``; fed by ``Handle``, tested with plain bytes.
"""

from __future__ import annotations

__all__ = ("NEED_MORE", "NeedMore", "ReadBuffer")

import re
from enum import Enum

from .._typing import overload
from .match_length import longest_match

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, Literal, TypeAlias, TypeVar

    from .match_length import Searchable

    T = TypeVar("T")
    Mark: TypeAlias = "tuple[bytes | bytearray, int, tuple[bytes, ...] | None]"

# Theory of operation
# -------------------
# Three shapes, chosen so that nothing is copied twice and nothing is searched twice:
#
# * What one recv() returned is kept as the `bytes` it is, and readers slice items out of it. This
#   is nearly always the only shape: `_data` is that object, `_pos` is where the rest begins.
# * Big pieces that arrive while an item is incomplete are put aside in `_more`, unjoined: a
#   100 MB chunk is joined once, when a reader takes it.
# * Small pieces, and pieces that a search wants to look at, are appended to a bytearray, whose
#   growth is amortised. A peer that sends a 1 MB line one byte at a time gets this.
#
# `searched` is how far an unsuccessful find() or search() came, counted from the front; the next
# one for the same thing goes on there, less what may straddle the boundary. It belongs to one
# request and one front: it is forgotten when anything is consumed or another request comes first.
#
# Invariant: `_data` is empty only if the whole buffer is; `Handle` tests exactly that.

# Pieces below this are appended rather than kept: a list of tiny objects costs 40 bytes each.
_SMALL: Final = 4096


class _Need(Enum):
    MORE = "need more"

    def __repr__(self) -> str:
        return "NEED_MORE"


#: What a reader returns that has not found a whole item yet. It must have consumed nothing.
NEED_MORE: Final = _Need.MORE
if TYPE_CHECKING:
    #: The type of NEED_MORE, for the annotations of readers: ``-> bytes | NeedMore``.
    NeedMore: TypeAlias = Literal[_Need.MORE]
else:

    def __getattr__(name):
        if name != "NeedMore":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from typing import Literal  # costs more to import than the half of ae_handle

        return Literal[_Need.MORE]


class ReadBuffer:
    """Unread bytes, with the operations a reader needs.

    Args:
        data: What it holds at first.

    ``len(buf)``, ``bool(buf)`` and ``bytes(buf)`` do what they say. Bytes leave at the front
    only, by :meth:`take` and :meth:`clear`.

    Attributes:
        searched: How many bytes from the front were searched without success. Set by
            :meth:`find` and :meth:`search`; a reader with a search of its own may use it too.
        state: Whatever a reader wants to remember until it is asked again; None at first.

    Both are reset when something is consumed, and when another request comes to the front.

    Example:
        >>> buf = ReadBuffer(b"key=value")
        >>> buf.take(buf.find(b"="))
        b'key'
        >>> bytes(buf)
        b'=value'

    Perl: ``$handle->{rbuf}``
    """

    __slots__ = (
        "_data",
        "_fed",
        "_more",
        "_more_size",
        "_others",
        "_pos",
        "_sought",
        "_start",
        "searched",
        "state",
    )

    _fed: int  # how often something was appended
    searched: int
    state: Any

    def __init__(self, data: bytes | bytearray | memoryview = b"") -> None:
        self._data: bytes | bytearray = bytes(data) if data else b""
        self._pos = 0
        self._more: list[bytes] | None = None
        self._more_size = 0
        self._sought: object = None
        self._start = 0
        self._others: dict[object, tuple[int, int]] | None = None
        self._fed = 0
        self.searched = 0
        self.state = None

    def __len__(self) -> int:
        return len(self._data) - self._pos + self._more_size

    def __bool__(self) -> bool:
        return bool(self._data)

    def __bytes__(self) -> bytes:
        return self.peek(len(self))

    def __repr__(self) -> str:
        size = len(self)
        shown = self.peek(min(size, 32))
        return f"<ReadBuffer {size} bytes: {shown!r}{'...' if size > 32 else ''}>"

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Append *data* at the end."""
        size = len(data)
        if not size:
            return
        self._fed += 1
        if type(data) is not bytes:
            data = bytes(data)
        old = self._data
        if not old:
            self._data = data
            return
        if self._more is not None:
            if size >= _SMALL:
                self._more.append(data)
                self._more_size += size
                return
            old = self._fold()
        elif size >= _SMALL and len(old) - self._pos >= _SMALL:
            self._more = [data]
            self._more_size = size
            return
        if type(old) is bytes:
            rest = len(old) - self._pos
            if rest <= size or rest <= 256:
                # the tail of one read before the next one: cheaper than a bytearray
                self._data = old[self._pos :] + data
                self._pos = 0
                return
            old = self._data = bytearray(memoryview(old)[self._pos :])
            self._pos = 0
        self._append(data)

    def feed_pieces(self, pieces: list[bytes]) -> None:
        """Append all of *pieces*, and take the list over."""
        size = sum(map(len, pieces))
        if self._data or size <= _SMALL * len(pieces) or not all(pieces):
            for piece in pieces:
                self.feed(piece)
            return
        self._fed += 1
        self._data = pieces.pop(0)
        if pieces:
            self._more = pieces
            self._more_size = size - len(self._data)

    def find(self, sub: bytes, start: int = 0) -> int:
        """Return where *sub* first occurs at or behind *start*, or -1.

        Counted from the front. Going on after a failure with the same arguments searches only
        what is new.

        Raises:
            ValueError: If *sub* is empty or *start* negative.
        """
        if not sub or start < 0:
            raise ValueError(f"expected something to find from 0 on, got {sub!r} from {start!r}")
        data = self._data if self._more is None else self._fold()
        pos = self._pos
        begin = start
        if self.searched and self._resumes(sub, start):
            begin = max(start, self.searched - len(sub) + 1)
        index = data.find(sub, pos + begin)
        if index >= 0:
            return index - pos
        self._note(sub, start, len(data) - pos)
        return -1

    @overload
    def search(self, pattern: re.Pattern[bytes], start: int = 0) -> re.Match[bytes] | None: ...
    @overload
    def search(self, pattern: Searchable, start: int = 0) -> Any: ...
    def search(self, pattern: Any, start: int = 0) -> Any:
        """Return the first match of *pattern* at or behind *start*, or None.

        The positions of the match count from the front. ``^``, ``\\b`` and look-behind see the
        bytes before *start*. Going on after a failure searches only what is new if the length
        of a match is bounded and does not depend on what follows it; else everything again.
        """
        if start < 0:
            raise ValueError(f"expected a start of 0 or more, got {start!r}")
        begin = start
        if self.searched and self._resumes(pattern, start):
            begin = self._resume_at(pattern, start)
        data = self._data if self._more is None else self._fold()
        if type(pattern) is re.Pattern:
            match = pattern.search(memoryview(data)[self._pos :] if self._pos else data, begin)
        else:
            match = pattern.search(bytes(memoryview(data)[self._pos :]), begin)
        if match is None:
            self._note(pattern, start, len(data) - self._pos)
        return match

    def search_end(self, pattern: Searchable, origin: int = 0) -> int:
        """Return where the first match of *pattern* ends, or -1.

        As :meth:`search`, but the pattern sees nothing of the bytes before *origin*: ``^``
        matches there.
        """
        end: int | None = self.search_rest(pattern, origin, _end_of)
        return -1 if end is None else origin + end

    def search_rest(self, pattern: Searchable, origin: int, look: Callable[[Any], T]) -> T | None:
        """Return what *look* returns for the first match behind *origin*, None without one.

        The positions of the match count from *origin*; it is gone when this returns.
        """
        begin = 0
        if self.searched and self._resumes(pattern, origin) and self._start == origin:
            begin = self._resume_at(pattern, origin) - origin
        with self.view() as view, view[origin:] as rest:
            # other engines than the usual one may keep the data, or want it as bytes
            match = pattern.search(rest if type(pattern) is re.Pattern else bytes(rest), begin)
            found = None if match is None else look(match)
            del match  # it refers to the view
            if found is None:
                self._note(pattern, origin, len(view))
        return found

    def view(self) -> memoryview:
        """Return a view of everything, without copying: for readers that scan.

        Release it (``with buf.view() as view``) before anything is fed or taken.
        """
        return memoryview(self._data if self._more is None else self._fold())[self._pos :]

    def peek(self, size: int) -> bytes:
        """Return the first *size* bytes, or fewer if there are fewer, and leave them there."""
        if size < 0:
            raise ValueError(f"expected a size of 0 or more, got {size!r}")
        pos = self._pos
        data = self._data
        if self._more is not None and size > len(data) - pos:
            data = self._fold()
            pos = self._pos
        if type(data) is bytes:
            return data[pos : pos + size]
        with memoryview(data) as view:
            return bytes(view[pos : pos + size])

    def take(self, size: int | None = None) -> bytes:
        """Remove the first *size* bytes, or everything, and return them.

        Raises:
            ValueError: If there are fewer, or *size* is negative.
        """
        if size is None:
            size = len(self)
        data = self._data
        pos = self._pos
        end = pos + size
        if size < 0 or end > len(data):
            if size < 0 or size > len(self):
                raise ValueError(f"cannot take {size!r} of {len(self)} bytes")
            taken = self._take_across(size)
        elif type(data) is bytes:
            taken = data[pos:end]
            self._pos = end
            if end == len(data):
                self._advance()
        else:
            with memoryview(data) as view:
                taken = bytes(view[pos:end])
            self._pos = end
            if end == len(data):
                self._advance()
            elif end > 65536 and end > len(data) // 2:
                self._data = data[end:]
                self._pos = 0
        if size and (self.searched or self.state is not None):
            self.reset_scan()
        return taken

    def skip(self, size: int) -> None:
        """Remove the first *size* bytes.

        Raises:
            ValueError: If there are fewer, or *size* is negative.
        """
        left = len(self._data) - self._pos
        if 0 < size <= left:
            self._pos += size
            if size == left:
                self._advance()
            self.reset_scan()
        else:
            self.take(size)

    def clear(self) -> None:
        """Remove everything."""
        self._data = b""
        self._pos = 0
        self._more = None
        self._more_size = 0
        self.reset_scan()

    # ------------------------------------------------------------------ for Handle

    def reset_scan(self) -> None:
        """Forget what readers noted: another request is at the front now."""
        self.searched = 0
        self.state = None
        self._sought = None
        self._others = None

    def mark(self) -> Mark:
        """Return where the front is, for :meth:`since`. Copies nothing."""
        return self._data, self._pos, None if self._more is None else tuple(self._more)

    @staticmethod
    def since(mark: Mark, size: int) -> bytes:
        """Return the *size* bytes that were consumed from *mark* on."""
        data, pos, more = mark
        # what was pieces then may have been appended to the very same object since
        with memoryview(data) as view, view[pos : pos + size] as front:
            if more is None or len(front) == size:
                return bytes(front)
            return b"".join((front, *more))[:size]

    def unread(self, data: bytes) -> None:
        """Put *data* back at the front."""
        if self._data:
            data = b"".join((data, memoryview(self._data)[self._pos :]))
        self._data = data
        self._pos = 0
        self.reset_scan()

    # ------------------------------------------------------------------ internals

    def _resumes(self, sought: object, start: int) -> bool:
        """Whether a search for *sought* from *start* can go on where the last one ended."""
        if self._sought != sought:
            others = self._others
            if others is None or sought not in others:
                return False
            others[self._sought] = self._start, self.searched
            self._sought = sought
            self._start, self.searched = others.pop(sought)
        return start >= self._start

    def _resume_at(self, pattern: Any, start: int) -> int:
        longest = longest_match(pattern)
        return start if longest is None else max(start, self.searched - longest + 1)

    def _note(self, sought: object, start: int, searched: int) -> None:
        if self.searched and self._sought is not None and self._sought != sought:
            if self._others is None:
                self._others = {}
            self._others[self._sought] = self._start, self.searched
            self._others.pop(sought, None)
        self._sought = sought
        self._start = start
        self.searched = searched

    def _advance(self) -> None:
        """The front piece is used up: go on with the next one, if any."""
        self._pos = 0
        more = self._more
        if more is None:
            self._data = b""
            return
        self._data = more.pop(0)
        self._more_size -= len(self._data)
        if not more:
            self._more = None

    def _append(self, data: bytes) -> None:
        grown = self._data
        assert type(grown) is bytearray
        try:
            grown += data
        except BufferError:
            # a match or a view of it exists: a bytearray cannot grow then
            self._data = bytearray(b"").join((grown, data))

    def _fold(self) -> bytes | bytearray:
        """Make one object of all pieces; there are some."""
        more = self._more
        assert more is not None
        self._more = None
        self._more_size = 0
        if type(self._data) is bytes:
            rest = memoryview(self._data)[self._pos :]
            self._data = bytearray().join((rest, *more))
            self._pos = 0
        else:
            for piece in more:
                self._append(piece)
        return self._data

    def _take_across(self, size: int) -> bytes:
        """Take more than the front piece holds: the only copy its bytes ever see."""
        more = self._more
        assert more is not None
        have = len(self._data) - self._pos
        parts: list[bytes | bytearray | memoryview] = [memoryview(self._data)[self._pos :]]
        used = 0
        rest: bytes | bytearray = b""
        for piece in more:
            used += 1
            need = size - have
            if len(piece) > need:
                parts.append(memoryview(piece)[:need])
                rest = piece[need:]
                break
            parts.append(piece)
            have += len(piece)
            if have == size:
                break
        taken = b"".join(parts)
        left = more[used:]
        if not rest and left:
            rest = left.pop(0)
        self._data = rest
        self._pos = 0
        self._more = left or None
        self._more_size = sum(map(len, left))
        return taken


def _end_of(match: Any) -> int:
    end: int = match.end()
    return end


ReadBuffer.__module__ = "ae_handle"
