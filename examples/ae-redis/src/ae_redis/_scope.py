"""What the things that a program holds have in common: they end with a block, or when forgotten."""

from __future__ import annotations

__all__ = ("Scope", "let_go")

from _thread import get_ident
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from ae_core.abc import Backend


class Scope(ABC):
    """Something that is ended by leaving its ``with`` block."""

    __slots__ = ()

    @abstractmethod
    def _end(self) -> None:
        """End it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()


def let_go(thread: int | None, loop: Backend | None, end: Callable[[], None]) -> None:
    """Call *end* in its own *thread*: for finalizers, which run in any."""
    if thread in (None, get_ident()):
        end()
    elif loop is not None:
        try:
            loop.call_threadsafe(end)
        except RuntimeError:
            return  # the loop has ended, and everything with it
