"""The child's side of starting a program: redirect, change directory, prepare, execute.

Runs in two places: as a script of its own (``spawn.py`` starts a bare interpreter with it), and
right after ``fork`` when there is an ``on_prepare``. It therefore imports nothing of ae_core, and
never returns: whatever goes wrong is an exit status.
"""

from __future__ import annotations

__all__ = ("DUP2_FAILED", "DUP_FAILED", "EXEC_FAILED", "OPEN_FAILED", "SpawnPlan", "become")

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, NoReturn

# Theory of operation
# -------------------
# A redirection is "the program's number T is our descriptor S". Done one after the other, 3 = 4
# and 4 = 3 would make both the same file; so every S that is also the T of another is first
# duplicated to a free number. That leaves no dup2 of a descriptor onto itself either, which
# would keep its close-on-exec flag and close it for the program.
#
# The order is AnyEvent's: open, move away, dup2, close the others, on_prepare, exec. File names
# are therefore relative to the directory of the caller, not to `cwd`.

EXEC_FAILED: Final = 126
OPEN_FAILED: Final = 125
DUP_FAILED: Final = 124
DUP2_FAILED: Final = 123  # or on_prepare


class SpawnPlan:
    """What the child has to do; made of plain objects, so that ``marshal`` can carry it."""

    __slots__ = (
        "argv",
        "close_all",
        "cwd",
        "env",
        "failure",
        "moves",
        "new_group",
        "opens",
        "passing",
    )

    def __init__(
        self,
        argv: list[bytes],
        env: dict[bytes, bytes],
        cwd: bytes | None = None,
        opens: list[tuple[int, bytes, int]] | None = None,
        moves: list[tuple[int, int]] | None = None,
        close_all: bool = False,
        new_group: bool = False,
    ) -> None:
        self.argv = argv
        self.env = env
        self.cwd = cwd
        self.opens = opens or []  # (number, file name, flags)
        self.moves = moves or []  # (number, our descriptor)
        self.close_all = close_all
        self.passing: list[int] = []  # came across an exec for us; not for the program
        self.failure = 0  # exit status that the parent found out about already
        self.new_group = new_group

    def fail(self, status: int) -> None:
        """End with *status*, of which the parent knows, instead of becoming the program."""
        self.failure = status

    def dump(self) -> tuple[Any, ...]:
        return (
            *(self.argv, self.env, self.cwd, self.opens, self.moves, self.close_all),
            *(self.passing, self.failure, self.new_group),
        )

    @classmethod
    def load(cls, fields: tuple[Any, ...]) -> SpawnPlan:
        plan = cls(*fields[:6])
        plan.passing, plan.failure, plan.new_group = fields[6:]
        return plan


def become(plan: SpawnPlan, on_prepare: Callable[[], object] | None = None) -> NoReturn:
    """Turn this process into the program of *plan*, or end it with the status of the failure."""
    status = EXEC_FAILED
    try:
        status = _prepare(plan, on_prepare)
        if not status:
            status = EXEC_FAILED
            os.execvpe(plan.argv[0], plan.argv, plan.env)
    finally:
        os._exit(status)


def _prepare(plan: SpawnPlan, on_prepare: Callable[[], object] | None) -> int:
    moves = list(plan.moves)
    for number, path, flags in plan.opens:
        try:
            moves.append((number, os.open(path, flags, 0o666)))
        except OSError:
            return OPEN_FAILED
    if plan.failure:
        return plan.failure
    numbers = {number for number, _ in moves}
    try:
        moves = [(number, _move_away(fd, numbers)) for number, fd in moves]
    except OSError:
        return DUP_FAILED
    try:
        for number, fd in moves:
            os.dup2(fd, number)
    except (OSError, OverflowError):
        return DUP2_FAILED
    if plan.close_all:
        _close_all_except(numbers | {0, 1, 2})
    else:
        for fd in plan.passing:
            os.set_inheritable(fd, False)
    for ignored in ("SIGPIPE", "SIGXFSZ"):  # by every Python; exec would hand that down
        if hasattr(signal, ignored):
            signal.signal(getattr(signal, ignored), signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if plan.new_group:
        os.setpgid(0, 0)
    if on_prepare is not None:
        try:
            on_prepare()
        except BaseException:
            import traceback

            os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
            return DUP2_FAILED
    if plan.cwd is not None:
        os.chdir(plan.cwd)
    return 0


def _move_away(fd: int, numbers: set[int]) -> int:
    # What is left behind on the way lies on the numbers, so dup2 closes it.
    while fd in numbers:
        fd = os.dup(fd)
    return fd


def _close_all_except(numbers: set[int]) -> None:
    try:
        unwanted = {int(name) for name in os.listdir("/dev/fd")} - numbers
    except (OSError, ValueError):
        unwanted = set(range(os.sysconf("SC_OPEN_MAX"))) - numbers
    for fd in unwanted:
        try:
            os.close(fd)
        except OSError:  # not open; or the directory we have just read
            continue


def main() -> NoReturn:
    """Read a plan from the descriptor that the first argument names, and follow it."""
    import marshal

    try:
        fd = int(sys.argv[1])
        with os.fdopen(fd, "rb") as file:
            plan = SpawnPlan.load(marshal.load(file))
    except BaseException:
        os._exit(EXEC_FAILED)
    become(plan)


if __name__ == "__main__":  # pragma: no cover (with -I -S no measurement begins)
    main()
