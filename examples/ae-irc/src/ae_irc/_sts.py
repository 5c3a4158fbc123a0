"""Strict transport security: which hosts are to be spoken to within TLS only.

Sans-I/O but for the file, if one is given. Source: IRCv3 "strict transport security".
"""

from __future__ import annotations

__all__ = ("StsStore", "parse_sts")

import json
import os
import re
import time
from collections.abc import Callable
from typing import Final

_NUMBER: Final = re.compile(r"[0-9]{1,12}")


def parse_sts(value: str) -> dict[str, int]:
    """Return the numbers in the value of the capability: ``port`` and ``duration``.

    What is no number is left out.

    Example:
        >>> parse_sts("port=6697,duration=86400,preload")
        {'port': 6697, 'duration': 86400}
    """
    pairs = (word.partition("=") for word in value.split(","))
    found = {name: int(number) for name, _, number in pairs if _NUMBER.fullmatch(number)}
    if not 0 < found.get("port", 1) < 65536:
        del found["port"]
    return {name: found[name] for name in ("port", "duration") if name in found}


class StsStore:
    """The policies of hosts, for as long as each of them holds.

    Args:
        path: A file to keep them in; written at each change, by replacing it. None keeps them in
            memory.
        clock: Tells the time, in seconds since 1970.

    Raises:
        OSError: If the file is there and cannot be read.
        ValueError: If it holds something else.
    """

    __slots__ = ("_clock", "_path", "_policies")

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = None if path is None else os.fspath(path)
        self._clock = clock
        self._policies: dict[str, dict[str, float]] = {}
        if self._path is not None and os.path.exists(self._path):
            with open(self._path, encoding="utf-8") as file:
                text = file.read()
            try:
                found = {
                    str(host): {name: float(each[name]) for name in ("port", "until", "duration")}
                    for host, each in json.loads(text).items()
                }
            except (AttributeError, KeyError, TypeError, ValueError):
                raise ValueError(f"expected policies in {self._path!r}") from None
            now = clock()
            self._policies = {host: each for host, each in found.items() if each["until"] > now}

    def port(self, host: str) -> int | None:
        """Return the port for *host* within TLS, which is a must; None if there is no policy."""
        policy = self._policies.get(host.lower())
        if policy is None or policy["until"] <= self._clock():
            return None  # what has run out may be renewed by a connection that still lasts
        return int(policy["port"])

    def remember(self, host: str, port: int, duration: int) -> None:
        """Take what *host* says within TLS; a *duration* of 0 seconds forgets it."""
        if duration > 0:
            until = self._clock() + duration
            self._policies[host.lower()] = {"port": port, "until": until, "duration": duration}
        elif self._policies.pop(host.lower(), None) is None:
            return
        self._save()

    def renew(self, host: str) -> None:
        """A connection to *host* ends: its policy holds for its whole duration from now on."""
        policy = self._policies.get(host.lower())
        if policy is not None:
            policy["until"] = self._clock() + policy["duration"]
            self._save()

    def _save(self) -> None:
        if self._path is not None:
            with open(f"{self._path}.new", "w", encoding="utf-8") as file:
                json.dump(self._policies, file)
            os.replace(f"{self._path}.new", self._path)
