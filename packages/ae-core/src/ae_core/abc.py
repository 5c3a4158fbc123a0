"""For authors of backends and packages.

The class of an adapter, guests, a loop's end, the environment, threads under gevent, and what ends
by ``cancel()``.
"""

from __future__ import annotations

__all__ = (
    "Backend",
    "Cancellable",
    "ThreadLocal",
    "ThreadLock",
    "add_guest",
    "aside",
    "at_loop_end",
    "environment",
    "make_thread",
    "original",
)

from ._base import environ
from ._base.thread_identity import ThreadLocal as ThreadLocal
from ._base.thread_identity import ThreadLock as ThreadLock
from ._base.thread_identity import make_thread as make_thread
from ._base.thread_identity import original as original
from ._detection.current import add_guest as add_guest
from ._detection.loop_end import aside as aside
from ._detection.loop_end import at_loop_end as at_loop_end
from ._loop.backend import Backend as Backend
from ._loop.watchers import Cancellable as Cancellable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import overload


if TYPE_CHECKING:

    @overload
    def environment(name: str, default: str = "") -> str: ...
    @overload
    def environment(name: str, default: None) -> str | None: ...


def environment(name: str, default: str | None = "") -> str | None:
    """Return the environment variable *name*, or *default* if it is not set.

    A package reads its ``AE_*`` variables by this function, when it uses them and not when it is
    imported. An interpreter that ignores its environment (``python -E``, ``-I``) ignores these
    variables, too: the function returns *default* then.

    Perl: ``$ENV{PERL_ANYEVENT_...}``, which tainting deletes
    """
    return environ.get(name, default)


for _thing in (
    *(Backend, Cancellable, ThreadLocal, ThreadLock),
    *(add_guest, aside, at_loop_end, make_thread, original),
):
    _thing.__module__ = __name__
