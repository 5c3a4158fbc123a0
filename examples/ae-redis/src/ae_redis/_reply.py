"""What waits for replies: the condition variable of a command, and of a pipeline.

Sans-I/O but for ``CondVar``; a link gives the replies, in order, to the front of its queue.
"""

from __future__ import annotations

__all__ = ("Batch", "Reply", "Transacted", "Watching")

from itertools import islice
from typing import TYPE_CHECKING, Any

from ae_core import CondVar

from ._errors import ReplyError, TransactionAborted

if TYPE_CHECKING:
    from collections.abc import Iterator


class Reply(CondVar[Any]):
    """The reply to one command.

    ``cancel()`` of a command that was not sent yet takes it back; of one that was sent, its
    reply is read and dropped when it comes, so that the others get theirs; but if the server may
    wait before it answers, the connection is given up, or it would act later in vain.

    Attributes:
        patience: The timeout of this command, if it has one of its own; 0 is none at all.
        may_block: Whether the server may wait before it answers.
    """

    __slots__ = ("channel",)

    patience: float | None = None
    may_block: bool = False
    channel: Any  # whose queue it is in

    def cancel(self) -> None:
        """See :meth:`ae_core.CondVar.cancel`."""
        if not self.ready:
            self.channel.look = True
            if self.may_block:
                self.channel.give_up(self)
        super().cancel()


class Patient(Reply):
    """The reply to a command that may block, or has a timeout of its own."""

    may_block = True

    __slots__ = ("patience",)


class Watching(Reply):
    """The reply to WATCH, and so the mark of a transaction that depends on it.

    Attributes:
        link: The connection on which the keys are watched, once the command was sent.
    """

    __slots__ = ("link",)

    def __init__(self) -> None:
        super().__init__()
        self.link: object = None

    def holds(self, link: object) -> bool:
        """Whether the keys are watched on *link*, as far as is known."""
        return self.link is link and not self.cancelled and self.error is None


class Batch(Reply):
    """The replies to a pipeline: one condition variable for all of them.

    Args:
        want: How many there will be.
        return_errors: Whether error replies are results like others.
        patience: See :class:`Reply`.
        may_block: One of the commands may; and it may be one if the timeout is not the client's.
    """

    __slots__ = ("_results", "_return_errors", "_want", "may_block", "patience", "watching")

    def __init__(
        self,
        want: int,
        *,
        return_errors: bool,
        patience: float | None = None,
        may_block: bool = False,
    ) -> None:
        super().__init__()
        self.may_block = may_block or patience is not None
        self._want = want
        self._return_errors = return_errors
        self._results: list[Any] = []
        self.patience = patience
        self.watching: Watching | None = None

    def may_leave_on(self, link: object) -> bool:
        """Whether it may be sent on *link*: it does not depend on a watch on another one."""
        return self.watching is None or self.watching.holds(link)

    def take(self, value: Any, values: Iterator[Any]) -> bool:
        """Take *value*, and of *values* as many as belong here; return whether that is all."""
        results = self._results
        results.append(value)
        missing = self._want - len(results)
        if missing:
            results.extend(islice(values, missing))
            if len(results) < self._want:
                return False
        self._results = []
        self._finish(results)
        return True

    def _finish(self, results: list[Any]) -> None:
        self._deliver(results)

    def _deliver(self, results: list[Any]) -> None:
        if not self._return_errors:
            for value in results:
                if value.__class__ is ReplyError:
                    self.throw(value)
                    return
        self.send(results)


class Transacted(Batch):
    """The replies to MULTI, the commands, and EXEC; the result is what EXEC answers."""

    __slots__ = ()

    def _finish(self, results: list[Any]) -> None:
        executed = results.pop()
        if executed is None:
            self.throw(TransactionAborted("a watched key has changed, nothing was executed"))
        elif isinstance(executed, ReplyError):
            # EXECABORT only says that one was refused: tell which
            refused = (value for value in results if isinstance(value, ReplyError))
            self.throw(next(refused, executed))
        else:
            self._deliver(executed)
