"""Where operations were made: noted while strict mode or wrapping is on, for their errors."""

from __future__ import annotations

__all__ = ("note_sites",)

from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from .._base.describe import caller
from . import condvar

if TYPE_CHECKING:
    from .condvar import CondVar

_SITES: Final[WeakKeyDictionary[CondVar[Any], str]] = WeakKeyDictionary()
_reasons: set[str] = set()


def note_sites(reason: str, on: bool) -> None:
    """Note, or for this *reason* no more, by which line each operation is made from now on."""
    if on:
        _reasons.add(reason)
    else:
        _reasons.discard(reason)
    condvar.note_site = _note if _reasons else None
    condvar.site_of = _SITES.get


def _note(operation: CondVar[Any]) -> None:
    frame = caller()
    _SITES[operation] = f"{frame.f_code.co_filename}:{frame.f_lineno}"
