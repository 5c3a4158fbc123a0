"""Commands that are collected first and sent together: pipelines and transactions.

Sans-I/O but for the condition variable: the channel sends.
"""

from __future__ import annotations

__all__ = ("Pipeline", "Transaction")

from sys import float_info
from typing import TYPE_CHECKING, Any, Final, Literal

import ae_core as ae

from ._commands import Commands
from ._encode import Argument, encode, encode_command
from ._reply import Batch, Transacted

if TYPE_CHECKING:
    from typing import Self

    from ._channel import Channel

_MULTI: Final = encode("MULTI")
_EXEC: Final = encode("EXEC")


class Pipeline(Commands["Pipeline"]):
    """Commands that are sent in one piece, and answered by one condition variable.

    Made by :meth:`Redis.pipeline`. Commands return the pipeline itself, so they can be chained::

        first, second = await redis.pipeline().get("a").get("b").execute()

    All commands of a client are pipelined anyway. This is for when their results belong
    together, and the fastest way to send many.
    """

    __slots__ = ("_channel", "_client", "_commands", "_may_block")

    def __init__(self, client: object, channel: Channel) -> None:
        self._client = client  # it is not dropped as long as something may be executed on it
        self._channel = channel
        self._commands: list[bytes] = []
        self._may_block = False

    def __len__(self) -> int:
        """Return how many commands are collected."""
        return len(self._commands)

    def command(self, name: str | bytes, *arguments: Argument, timeout: Any = None) -> Self:
        """Add a command.

        Raises:
            TypeError, ValueError: As :meth:`Redis.command`; also for *timeout*, which belongs
                to :meth:`execute`.
        """
        if timeout is not None:
            raise TypeError("expected the timeout at execute(), got one for a single command")
        encoded = encode_command(name, arguments)
        self._commands.append(encoded)
        if encoded.__class__ is not bytes:
            self._may_block = True
        return self

    def execute(
        self, *, return_errors: bool = False, timeout: float | Literal["default"] | None = "default"
    ) -> ae.CondVar[list[Any]]:
        """Send what was collected; the pipeline is empty afterwards.

        Args:
            return_errors: Leave error replies among the results instead of raising the first.
                The other commands are executed in any case.
            timeout: As :meth:`Redis.command`.

        Returns:
            A condition variable for the list of replies. ``cancel()`` takes it back if it was
            not sent yet; see :meth:`Redis.command` for what it does if it was.

        Raises:
            TypeError, ValueError: If *timeout* is none.
        """
        commands, self._commands = self._commands, []
        batch = self._batch(len(commands), return_errors, patience(timeout))
        if not commands:
            batch.channel = self._channel
            ae.postpone(lambda: batch.send([]))
        else:
            self._submit(self._wrapped(commands), batch)
        return batch

    def _wrapped(self, commands: list[bytes]) -> list[bytes]:
        return commands

    def _batch(self, count: int, return_errors: bool, patience: float | None) -> Batch:
        may_block, self._may_block = self._may_block, False
        return Batch(count, return_errors=return_errors, patience=patience, may_block=may_block)

    def _submit(self, commands: list[bytes], batch: Batch) -> None:
        data = b"".join(commands)
        if batch.patience is None and batch.watching is None:
            self._channel.submit(data, batch)
        else:
            self._channel.submit_special(data, batch)


class Transaction(Pipeline):
    """Commands that the server executes together, or not at all, nothing in between.

    Made by :meth:`Redis.transaction`, used like a pipeline. If a key that was watched before has
    changed, the result is :class:`TransactionAborted`. It is that also if the connection was
    lost since: what was watched on it is watched no more.
    """

    __slots__ = ()

    def _wrapped(self, commands: list[bytes]) -> list[bytes]:
        return [_MULTI, *commands, _EXEC]

    def _batch(self, count: int, return_errors: bool, patience: float | None) -> Batch:
        batch = Transacted(count + 2, return_errors=return_errors, patience=patience)
        batch.watching = self._channel.unwatch()
        return batch


def patience(timeout: float | Literal["default"] | None) -> float | None:
    """Return what a reply keeps of a *timeout*: None is the client's own, 0 none at all.

    Raises:
        TypeError, ValueError: If it is no timeout.
    """
    if timeout == "default":
        return None
    if timeout is None:
        return 0.0
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"expected a timeout in seconds or None, got {timeout!r}")
    if not 0 < timeout <= float_info.max:  # an int may be above it
        raise ValueError(f"expected a timeout above 0 s, or None, got {timeout!r}")
    return float(timeout)
