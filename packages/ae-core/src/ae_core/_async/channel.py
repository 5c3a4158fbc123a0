"""``Channel`` and ``Semaphore``: handing items over, and letting only so many in, in one thread."""

from __future__ import annotations

__all__ = ("Channel", "ChannelClosed", "Semaphore")

from .._base.errors import AEError
from .condvar import CondVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import OrderedDict, deque
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Generic, TypeVar

    T = TypeVar("T")
else:
    from _collections import OrderedDict, deque

    from .condvar import Generic

    T = "T"


class ChannelClosed(AEError):
    """``put`` into a :class:`Channel` that is closed, or ``get`` from one that is also empty."""


class _Waiter(CondVar[T]):
    """An operation that stands in a queue until it is served.

    The queue is an ordered dictionary, in which one that is cancelled is not searched for.
    """

    __slots__ = ("_of", "_queue", "_what")

    _of: object
    _queue: OrderedDict[_Waiter[T], Any]
    _what: str

    def _end_operation(self) -> None:
        self._untaken = None
        self._queue.pop(self, None)

    def _name(self) -> str:
        return f"{self._what} {self._of!r}"


def _waiter(
    what: str,
    of: object,
    queue: OrderedDict[_Waiter[T], Any],
    untaken: Callable[[T], object] | None = None,
) -> _Waiter[T]:
    """Return an operation that is cancelled by taking it out of *queue*, if it is there."""
    waiter: _Waiter[T] = _Waiter()
    waiter._be_operation(None, untaken)
    waiter._what = what
    waiter._of = of
    waiter._queue = queue
    return waiter


class Channel(Generic[T]):
    """A queue of items between callbacks, coroutines and ``recv()`` of one thread.

    Args:
        maxsize: How many items it holds; beyond that :meth:`put` is pending until there is room.
            None is no limit.

    First-in first-out, also among waiters. ``async for item in channel`` ends when it is
    closed and empty.

    Raises:
        TypeError, ValueError: *maxsize* is no number above zero.
    """

    __slots__ = ("_closed", "_getters", "_items", "_maxsize", "_putters")

    def __init__(self, maxsize: int | None = None) -> None:
        if maxsize is not None:
            if not isinstance(maxsize, int) or isinstance(maxsize, bool):
                raise TypeError(f"expected a number of items or None, got {maxsize!r}")
            if maxsize < 1:
                raise ValueError(f"expected room for 1 item or more, got {maxsize!r}")
        self._maxsize = maxsize
        self._items: deque[T] = deque()
        self._getters: OrderedDict[_Waiter[T], None] = OrderedDict()
        self._putters: OrderedDict[_Waiter[None], T] = OrderedDict()
        self._closed = False

    def __len__(self) -> int:
        """Return how many items lie in it."""
        return len(self._items)

    def put(self, item: T) -> CondVar[None]:
        """Put *item* in, now; the result is ready when there is room for it.

        It need not be awaited. Cancelling it while there is no room takes the item back.

        Raises:
            RuntimeError: In another thread.

        The result raises :class:`ChannelClosed` if the channel is closed, also while it waits.
        """
        done = _waiter("put into", self, self._putters)
        if self._closed:
            done.throw(ChannelClosed("the channel is closed"))
        elif self._maxsize is None or len(self._items) < self._maxsize:
            self._items.append(item)
            done.send()
            self._serve()
        else:
            self._putters[done] = item
            self._serve()
        return done

    def get(self) -> CondVar[T]:
        """Take the next item out, as soon as there is one.

        An awaiter that is cancelled takes none: an item that was on its way is in front again.

        The result raises :class:`ChannelClosed` when the channel is closed and empty.
        """
        item = _waiter("get from", self, self._getters, self._put_back)
        self._getters[item] = None
        self._serve()
        return item

    def close(self) -> None:
        """End it: what is in it is delivered, all else raises :class:`ChannelClosed`.

        Idempotent.
        """
        if self._closed:
            return
        self._closed = True
        while self._putters:
            done, _ = self._putters.popitem(last=False)
            done.throw(ChannelClosed("the channel is closed"))
            done._seen()  # a put need not be awaited
        self._serve()

    def _serve(self) -> None:
        """Hand items to the waiters, and answer pending ``put``."""
        while self._getters and self._items:
            getter, _ = self._getters.popitem(last=False)
            getter.send(self._next())
        if self._closed and not self._items:
            while self._getters:
                getter, _ = self._getters.popitem(last=False)
                getter.throw(ChannelClosed("the channel is closed"))

    def _next(self) -> T:
        item = self._items.popleft()
        if self._putters:
            done, waiting = self._putters.popitem(last=False)
            self._items.append(waiting)
            done.send()
        return item

    def _put_back(self, item: T) -> None:
        self._items.appendleft(item)
        self._serve()

    def __aiter__(self) -> Channel[T]:
        return self

    async def __anext__(self) -> T:
        try:
            return await self.get()
        except ChannelClosed:
            raise StopAsyncIteration from None

    def __repr__(self) -> str:
        room = "" if self._maxsize is None else f" of {self._maxsize}"
        state = ", closed" if self._closed else ""
        return f"<Channel, {len(self._items)}{room} items{state}>"


class Semaphore:
    """Lets at most *value* holders in at a time; the others wait, first-in first-out.

    ``async with semaphore:`` holds one permit for the block.

    Raises:
        TypeError, ValueError: *value* is no number above zero.
    """

    __slots__ = ("_free", "_limit", "_waiting")

    def __init__(self, value: int = 1) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"expected a number of permits, got {value!r}")
        if value < 1:
            raise ValueError(f"expected 1 permit or more, got {value!r}")
        self._limit = self._free = value
        self._waiting: OrderedDict[_Waiter[None], None] = OrderedDict()

    def acquire(self) -> CondVar[None]:
        """Take a permit, as soon as there is one.

        An awaiter that is cancelled holds none: one that was on its way to it goes to the next.
        """
        permit = _waiter("acquire of", self, self._waiting, self._give_back)
        if self._free and not self._waiting:
            self._free -= 1
            permit.send()
        else:
            self._waiting[permit] = None
        return permit

    def release(self) -> None:
        """Give a permit back; the longest waiter gets it.

        Raises:
            ValueError: All permits are free.
        """
        if self._waiting:
            permit, _ = self._waiting.popitem(last=False)
            permit.send()
        elif self._free == self._limit:
            raise ValueError("released more often than acquired")
        else:
            self._free += 1

    def _give_back(self, _: None) -> None:
        self.release()

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Semaphore, {self._free} of {self._limit} free, {len(self._waiting)} waiting>"


for _public in (Channel, ChannelClosed, Semaphore):
    _public.__module__ = "ae_core"
del _public
