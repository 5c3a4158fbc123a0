"""For authors of libraries: operations that no watcher stands for, and errors of their users."""

from __future__ import annotations

__all__ = ("pending", "report_error")

from ._detection.current import current_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._loop.state import LoopState


class Pending:
    """An operation in progress that no watcher stands for; as returned by :func:`pending`."""

    __slots__ = ("__weakref__", "_core", "_owner")

    _core: LoopState | None
    _owner: object

    def cancel(self) -> None:
        """The operation is over. Idempotent; in the thread that began it."""
        core, self._core = self._core, None
        self._owner = None
        if core is not None:
            core.operations.discard(self)
            if core.backend.ends_by_itself:
                core.backend.hold(-1)


def pending(owner: object = None) -> Pending:
    """Tell this thread's loop that an operation is in progress, until the result's ``cancel()``.

    For libraries whose work is done by another thread, and for those whose own condition
    variables wait for it: while it lasts, a blocking ``recv()`` is no :class:`Deadlock`.

    Args:
        owner: What the operation needs, its own object, say. The loop keeps it alive.

    **Lifetime**: the loop keeps it, not the caller.
    """
    core = current_loop()
    mark = Pending()
    mark._core = core
    mark._owner = owner
    core.operations.add(mark)
    if core.backend.ends_by_itself:
        core.backend.hold(1)
    return mark


def report_error(error: BaseException) -> None:
    """Do with *error*, which a user's callback raised, what a watcher does with it.

    For libraries that call functions of their users: the error goes to ``exception_hook``, with
    None for the watcher, and what the hook itself raises is logged. ``KeyboardInterrupt`` and
    ``SystemExit`` leave ``recv()`` or ``run()`` instead, from the next turn. So the library's own
    state is never torn, whatever is raised.

    **When**: the hook runs inside this call.

    Raises:
        TypeError: If *error* is not an exception instance.
    """
    if not isinstance(error, BaseException):
        raise TypeError(f"expected an exception instance, got {error!r}")
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        current_loop().postpone(_Raise(error))
        return
    try:
        from ._loop.exception_hook import report
    except ImportError:
        return  # the interpreter is going down, and the hook has gone

    try:
        report(error, None, None)
    except BaseException as second:
        current_loop().postpone(_Raise(second))  # one of the two, from the hook


class _Raise:
    """Raises an error where the core catches it: in a callback of its own."""

    __slots__ = ("_error",)

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __call__(self) -> None:
        raise self._error
