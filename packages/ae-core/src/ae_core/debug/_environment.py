"""The debugging aids that the environment asks for, started at the first detection.

This is imported only if one of the variables is set. Nothing here raises: a
value that is not understood is reported once, and the program goes on.
"""

from __future__ import annotations

__all__ = ("VARIABLES", "parse_shell_address", "start")

import os
from typing import TYPE_CHECKING

from .. import logs
from .._base import environ
from .._base.log import log

if TYPE_CHECKING:
    from . import Shell

VARIABLES = ("AE_STRICT", "AE_VERBOSE", "AE_LOG", "AE_DEBUG_WRAP", "AE_DEBUG_SHELL")

_shells: list[Shell] = []


def start() -> None:
    """Do what ``AE_STRICT``, ``AE_DEBUG_WRAP`` and ``AE_DEBUG_SHELL`` say.

    ``AE_VERBOSE`` and ``AE_LOG`` were dealt with by importing ``logs``, so that a mistake in them
    is reported even if nothing is ever logged.
    """
    if environ.get("AE_STRICT", "").strip() not in ("", "0"):
        from .. import strict

        strict.enable()
    level = environ.get("AE_DEBUG_WRAP", "").strip()
    if level in ("1", "2"):
        from .. import debug

        debug.wrap(int(level))
    elif level not in ("", "0"):
        logs._complain(f"AE_DEBUG_WRAP ({level}): not understood: {level!r} at position 1")
    address = environ.get("AE_DEBUG_SHELL", "").strip()
    if address:
        _start_shell(address)


def _start_shell(text: str) -> None:
    try:
        host, service = parse_shell_address(text)
    except ValueError:
        logs._complain(f"AE_DEBUG_SHELL ({text}): not understood: {text!r} at position 1")
        return
    from .. import debug

    try:
        _shells.append(debug.shell(host, service))
    except (OSError, ValueError) as error:
        log("error", "AE_DEBUG_SHELL (%s): no shell: %s", text, error, context="ae_core.debug")


def parse_shell_address(text: str) -> tuple[str, str]:
    """Split the value of ``AE_DEBUG_SHELL`` into what ``debug.shell`` wants.

    Raises:
        ValueError: If it is neither an absolute path nor ``host:port``.

    Example:
        >>> parse_shell_address("/run/user/0/debug")
        ('unix/', '/run/user/0/debug')
        >>> parse_shell_address("[::1]:4000")
        ('::1', '4000')
    """
    text = text.replace("$$", str(os.getpid()))
    if text.startswith("/"):
        return "unix/", text
    host, colon, port = text.rpartition(":")
    if host == "unix/" and port.startswith("/"):
        return host, port
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""  # an IPv6 address needs its brackets
    if not colon or not host or not port.isascii() or not port.isdigit():
        raise ValueError(f"expected /path or host:port, got {text!r}")
    return host, port
