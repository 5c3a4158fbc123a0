"""The queue of read requests: the reader of each item, and the callback that gets it."""

from __future__ import annotations

__all__ = ("END", "PendingRead", "PendingRequest", "ReadQueue", "at_eof")

from abc import abstractmethod
from collections import deque
from enum import Enum

from .._buffers.read_buffer import NEED_MORE
from .._errors import BadMessage
from .._typing import ABC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

# Theory of operation
# -------------------
# Nearly every handle has no request or one, so the front one sits in two slots, and a deque (620
# bytes) is made only for a second one. A server that pushes its next request from the callback of
# the last never needs it.


class _End(Enum):
    END = "end"


#: What an iterator is given when the stream has ended between items.
END: Final = _End.END


class PendingRequest(ABC):
    """The callback of a request that a coroutine awaits: it can also be given an error.

    Attributes:
        accepts_end: Whether ``END`` is an answer, and not an error.
    """

    __slots__ = ()

    accepts_end = False

    @abstractmethod
    def __call__(self, owner: Any, value: Any, /) -> None:
        """Deliver the item."""

    @abstractmethod
    def throw(self, error: BaseException) -> None:
        """Deliver *error*: there will be no item."""


class PendingRead(PendingRequest):
    """A request for an item whose bytes can go back to the buffer if it is not taken."""

    __slots__ = ()

    @abstractmethod
    def consumed(self, front: Any, size: int) -> Any:
        """Note where the item began, and its size.

        Returns a weak reference that dies when the item is taken; it refers to a method of this.
        """

    @abstractmethod
    def data(self) -> bytes:
        """Return the bytes of the item."""


class ReadQueue:
    """Requests in order: a reader, and the callback for what it reads.

    Attributes:
        reader: The front request's reader, None if there is no request.
        callback: Its callback.
        more: The requests behind it.
    """

    __slots__ = ("callback", "more", "reader")

    reader: Any
    callback: Any
    more: deque[tuple[Any, Any]] | None

    def __init__(self) -> None:
        self.reader = None
        self.callback = None
        self.more = None

    def __len__(self) -> int:
        if self.reader is None:
            return 0
        return 1 + (len(self.more) if self.more else 0)

    def push(self, reader: Any, callback: Any) -> None:
        """Add a request behind all others."""
        if self.reader is None:
            self.reader = reader
            self.callback = callback
        elif self.more is None:
            self.more = deque(((reader, callback),))
        else:
            self.more.append((reader, callback))

    def unshift(self, reader: Any, callback: Any) -> None:
        """Add a request before all others."""
        if self.reader is not None:
            if self.more is None:
                self.more = deque()
            self.more.appendleft((self.reader, self.callback))
        self.reader = reader
        self.callback = callback

    def advance(self) -> Any:
        """Remove the front request and return its callback."""
        callback = self.callback
        if self.more:
            self.reader, self.callback = self.more.popleft()
        else:
            self.reader = self.callback = None
        return callback

    def remove(self, callback: Any) -> bool:
        """Remove the request with this very *callback*; return whether there was one."""
        if self.callback is callback:
            self.advance()
            return True
        if self.more is not None:
            for entry in self.more:
                if entry[1] is callback:
                    self.more.remove(entry)
                    return True
        return False

    def remove_pending(self) -> list[PendingRequest]:
        """Remove the requests of coroutines and return them, in order."""
        entries = [] if self.reader is None else [(self.reader, self.callback), *(self.more or ())]
        self.reader = self.callback = self.more = None
        pending = []
        for reader, callback in entries:
            if isinstance(callback, PendingRequest):
                pending.append(callback)
            else:
                self.push(reader, callback)
        return pending

    def clear(self) -> list[PendingRequest]:
        """Remove everything and return the requests of coroutines, in order."""
        callback, more = self.callback, self.more
        self.reader = self.callback = self.more = None
        pending = [callback] if isinstance(callback, PendingRequest) else []
        if more:
            pending += [entry for _, entry in more if isinstance(entry, PendingRequest)]
        return pending


def at_eof(reader: Any, buf: Any) -> Any:
    """Return what the end of the stream makes complete, or END."""
    finish = getattr(reader, "at_eof", None)
    if finish is None:
        return END
    try:
        value = finish(buf)
    except BadMessage:
        return END
    return END if value is NEED_MORE else value
