"""What waits to be sent, and how fast it goes out."""

from __future__ import annotations

__all__ = ("Outbox",)

from collections import deque
from typing import TYPE_CHECKING

import ae_core as ae

from ._bucket import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable


class Outbox:
    """A queue of lines.

    Args:
        burst, rate: Of the token bucket; without a rate everything is sent immediately.
        send: Sends a line.
        emptied: Called when the last one was sent.
    """

    __slots__ = ("_bucket", "_burst", "_emptied", "_lines", "_rate", "_send", "_timer", "is_open")

    def __init__(
        self,
        burst: float,
        rate: float | None,
        send: Callable[[bytes], None],
        emptied: Callable[[], None],
    ) -> None:
        self._burst = burst
        self._rate = rate
        self._send = send
        self._emptied = emptied
        self._lines: deque[tuple[bytes, bool]] = deque()
        self._timer: ae.Watcher | None = None
        self._bucket: TokenBucket | None = None
        self.is_open = False

    def __len__(self) -> int:
        return len(self._lines)

    def put(self, line: bytes, *, lasting: bool = True) -> None:
        """Queue a line; one that is not *lasting* is meant for this connection only."""
        self._lines.append((line, lasting))
        self._schedule()

    def open(self) -> None:
        """There is a connection: begin to send."""
        self.is_open = True
        self._bucket = None if self._rate is None else TokenBucket(self._burst, self._rate)
        self._schedule()

    def close(self) -> None:
        """There is no connection any more."""
        self.is_open = False
        self._timer = None
        self._lines = deque(each for each in self._lines if each[1])

    def clear(self) -> None:
        """Forget everything."""
        self._lines.clear()
        self._timer = None

    def _schedule(self) -> None:
        if self.is_open and self._timer is None and self._lines:
            wait = 0.0 if self._bucket is None else self._bucket.wait(ae.detect().clock())
            self._timer = ae.timer(wait, self._flush)

    def _flush(self) -> None:
        self._timer = None
        now = ae.detect().clock()
        while self.is_open and self._lines and (self._bucket is None or self._bucket.take(now)):
            self._send(self._lines.popleft()[0])
        if not self._lines:
            self._emptied()
        self._schedule()
