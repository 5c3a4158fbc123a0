"""Whether a descriptor is open.

On Windows sockets are handles, which nothing in ``os`` takes, and loops wait for nothing else.
"""

from __future__ import annotations

__all__ = ("check_open",)

import os
import sys

if sys.platform == "win32":
    import errno
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
