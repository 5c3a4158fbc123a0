"""A look at a connection that was idle: has anything arrived that the loop has not seen yet?"""

from __future__ import annotations

__all__ = ("Look",)

import select
import sys
from typing import Any, Final

from ae_handle import Handle

# gevent's poll() would let others run, in the middle of a choice
_monkey: Final = sys.modules.get("gevent.monkey")
_poll: Final[Any] = (
    getattr(select, "poll", None)  # Windows has none
    if _monkey is None
    else _monkey.get_original("select", "poll")
)


class Look:
    """Looks at the descriptor below a handle, and below the handle below that.

    Args:
        handle: That of an open connection.
    """

    __slots__ = ("_fd", "_inner", "_poll")

    def __init__(self, handle: Handle | None) -> None:
        self._inner: list[Handle] = []
        stream: Any = None if handle is None else handle.socket
        while isinstance(stream, Handle):  # TLS to the server inside TLS to a proxy
            self._inner.append(stream)
            stream = stream.socket
        fileno = getattr(stream, "fileno", None)
        self._fd: int = -1 if fileno is None else fileno()
        self._poll: Any = None
        if self._fd >= 0 and _poll is not None:
            self._poll = _poll()
            self._poll.register(self._fd, select.POLLIN)

    def is_quiet(self) -> bool:
        """Return whether there is nothing to read; also where that cannot be known."""
        if any(handle.read_buffer for handle in self._inner):
            return False
        if self._poll is not None:
            return not self._poll.poll(0)
        return self._fd < 0 or not select.select([self._fd], [], [], 0)[0]
