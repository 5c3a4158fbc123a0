"""The hosts file: names that no name server is asked about.

Reads one file, when it is asked and the file has changed; imports nothing from ``ae_core``.
"""

from __future__ import annotations

__all__ = ("HostsFile", "parse_hosts")

import os
import stat
import sys
import time

from ae_core.abc import environment

from ._addresses import UNIX, parse_address
from ._arguments import check_text
from ._host_names import host_to_ascii

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final


# A file changed so lately may change again without its stamp changing: file systems keep
# times in coarse steps, FAT in steps of two seconds.
_STAMP_GRAIN: Final = 2_000_000_000


def parse_hosts(lines: Iterable[str]) -> dict[str, list[str]]:
    """Read the lines of a hosts file: each name, in lower case, with its addresses in order.

    A comment starts with ``#``; a line without a numeric address in front is skipped. The
    dot at the end of a name is dropped, a name that is not ASCII stands for the one that
    :func:`host_to_ascii` gives; an address may carry a scope.

    Example:
        >>> parse_hosts(["127.0.0.1  Localhost loop # here", "::1 localhost"])
        {'localhost': ['127.0.0.1', '::1'], 'loop': ['127.0.0.1']}
    """
    table: dict[str, list[str]] = {}
    for line in lines:
        address, *names = line.partition("#")[0].split() or [""]
        packed = parse_address(address.partition("%")[0])
        if packed is None or packed == UNIX:
            continue
        for name in names:
            known = table.setdefault(_normal(name), [])
            if address not in known:
                known.append(address)
    return table


def _normal(name: str) -> str:
    try:
        encoded = name if name.isascii() else host_to_ascii(name)
    except ValueError:
        encoded = name  # no lookup accepts such a name, so it is never found
    return encoded.lower().removesuffix(".")


class HostsFile:
    """Addresses by name, from a hosts file that is read again whenever it changes.

    Args:
        path: The file; ``None`` means the one named by ``AE_HOSTS``, else the system's.

    It may be asked from any thread. A file that is missing or cannot be read has no names.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._path = None if path is None else os.fspath(path)
        # One attribute, so that two threads cannot pair one's stamp with the other's table.
        self._read: tuple[object, dict[str, list[str]]] = (None, {})

    def addresses(self, name: str) -> list[str]:
        """Return the texts of *name*'s addresses in the file's order, ``[]`` if it has none."""
        check_text("a name", name)
        path = self._path if self._path is not None else _default_path()
        seen, table = self._read
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                return []  # to open a pipe would block
            # The inode as well: an editor's rename can come within the clock's grain.
            stamp = (path, status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp != seen:
                is_young = abs(time.time_ns() - status.st_mtime_ns) < _STAMP_GRAIN
                with open(path, encoding="utf-8", errors="surrogateescape") as lines:
                    table = parse_hosts(lines)
                self._read = (None if is_young else stamp, table)
        except OSError:
            return []
        return list(table.get(_normal(name), ()))


def _default_path() -> str:
    named = environment("AE_HOSTS")
    if named:
        return named
    if sys.platform == "win32":
        return os.environ.get("SYSTEMROOT", r"C:\Windows") + r"\System32\drivers\etc\hosts"
    return "/etc/hosts"
