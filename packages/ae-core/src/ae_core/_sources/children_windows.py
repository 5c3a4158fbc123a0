"""The end of a process on Windows, where a handle tells it instead of ``waitpid``.

A handle of a process tells how it ended, any number of times. So no code can take a status from
other code, and there are no zombies; but it cannot be told whose child it was either.
"""

from __future__ import annotations

__all__ = ("ProcessHandle",)

import _winapi  # type: ignore[import-not-found,unused-ignore]  # what subprocess stands on

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# winnt.h; enough to learn the exit code, and granted where more is not
_PROCESS_QUERY_LIMITED_INFORMATION = 0x1000

_api: Any = _winapi  # the type checkers know its functions on Windows only


class ProcessHandle:
    """Keeps what is known of a process after its end.

    Raises:
        ChildProcessError: There is no such process, or it is not for us to look at.
    """

    __slots__ = ("_close", "_handle")

    def __init__(self, pid: int) -> None:
        rights = _api.SYNCHRONIZE | _PROCESS_QUERY_LIMITED_INFORMATION
        try:
            self._handle = _api.OpenProcess(rights, False, pid)
        except (OSError, OverflowError):
            raise ChildProcessError(
                f"process {pid} is no child of this process, or its end is long past"
            ) from None
        self._close = _api.CloseHandle  # still there when the interpreter ends

    def wait(self) -> None:
        """Block this thread until the process has ended."""
        _api.WaitForSingleObject(self._handle, _api.INFINITE)

    def status(self) -> int:
        """Return how it ended as a raw wait status: the exit code times 256."""
        code: int = _api.GetExitCodeProcess(self._handle)
        return code << 8

    def __del__(self) -> None:
        if hasattr(self, "_close"):
            self._close(self._handle)
