"""Which descriptors there are, and which a loop can take.

On Windows sockets are handles, which nothing in ``os`` takes, and loops wait for nothing else.
"""

from __future__ import annotations

__all__ = ("check_open", "check_select", "check_waitable")

import errno
import os
import select
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

FD_SETSIZE: Final = 1024

if sys.platform == "win32":
    import socket

    def check_open(fd: int) -> None:
        """Raise OSError, EBADF, if *fd* is no open socket."""
        try:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd)
        except OSError:
            raise OSError(errno.EBADF, f"{os.strerror(errno.EBADF)}: no open socket") from None
        sock.detach()

else:
    check_open = os.fstat


def check_select(fd: int, who: str) -> None:
    """Raise OSError, EMFILE, if the select() of the loop *who* cannot take *fd*."""
    if fd >= FD_SETSIZE and sys.platform != "win32":  # which counts sockets instead
        raise OSError(
            errno.EMFILE, f"{who} cannot wait for descriptor {fd}, its limit is {FD_SETSIZE - 1}"
        )


def check_waitable(fd: int) -> None:
    """Raise PermissionError if *fd* is of a kind that is always ready, and nothing to wait for.

    Regular files, directories, disks, and those character devices for which their driver has no
    answer, /dev/null being one: what epoll refuses. For loops that would not say so themselves.
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISBLK(mode):
        raise PermissionError(errno.EPERM, f"descriptor {fd} is a file that is always ready")
    if stat.S_ISCHR(mode) and hasattr(select, "epoll"):
        try:
            with select.epoll() as probe:
                probe.register(fd, 0)
        except PermissionError:
            raise
        except OSError:
            return  # no descriptor left to check with: the loop finds out
