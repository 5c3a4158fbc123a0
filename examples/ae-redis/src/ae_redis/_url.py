"""Where a server is and how to speak to it: the settings of a client, and URLs for them.

Sans-I/O.
"""

from __future__ import annotations

__all__ = ("Settings", "parse_url")

import re
from codecs import lookup
from dataclasses import dataclass, field, fields
from sys import float_info
from typing import Any, Final, Literal

from ae_socket import host_to_ascii

from ._resp import MAX_LINE, MAX_REPLY

# What may stand behind the question mark of a URL.
_QUERY: Final = ("client_name", "connect_timeout", "db", "protocol", "timeout")
_SCHEMES: Final = ("redis", "rediss", "unix")
_PORT: Final = 6379
_LOCATION: Final = re.compile(r"(?:\[[^\[\]@]*\]|[^\[\]:@]*)(?::[0-9]*)?")


@dataclass(frozen=True, slots=True)
class Settings:
    """What one client knows about its server; the meanings are those of :class:`Redis`."""

    host: str = "localhost"
    port: int | str = _PORT
    tls: bool = False
    tls_context: Any = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0
    protocol: Literal[2, 3] | None = None
    client_name: str | None = None
    encoding: str | None = None
    timeout: float | None = 10.0
    connect_timeout: float | None = 5.0
    attempts: int = 5
    max_delay: float = 5.0
    max_reply: int = MAX_REPLY
    keepalive: bool = True

    def __post_init__(self) -> None:
        if self.protocol not in (None, 2, 3):
            raise ValueError(f"expected protocol 2, 3 or None, got {self.protocol!r}")
        _check(self.db, "db", int, 0)
        _check(self.attempts, "attempts", int, 1)
        _check(self.max_reply, "max_reply", int, MAX_LINE)
        _check(self.max_delay, "max_delay", float, 0)
        for name in ("timeout", "connect_timeout"):
            value = getattr(self, name)
            if value is not None:
                _check(value, name, float, 0)
                if not value:
                    raise ValueError(f"expected a {name} above 0, or None, got {value!r}")
        for name in ("username", "password", "client_name", "encoding"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise TypeError(f"expected {name} to be text or None, got {value!r}")
        if self.username is not None and self.password is None:
            raise ValueError(f"expected a password for the user {self.username!r}")
        if self.encoding is not None:
            try:  # now rather than at the first reply
                lookup(self.encoding)
            except LookupError:
                raise ValueError(f"expected a text encoding, got {self.encoding!r}") from None

    @property
    def where(self) -> str:
        """The server's address, for people."""
        if self.host == "unix/":
            return f"unix:{self.port}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _check(value: Any, name: str, kind: type, least: float) -> None:
    is_number = isinstance(value, (int, float) if kind is float else int)
    if isinstance(value, bool) or not is_number:
        raise TypeError(f"expected {name} to be {kind.__name__}, got {value!r}")
    if not least <= value <= float_info.max:  # an int may be above it
        raise ValueError(f"expected {name} to be {least} or more, got {value!r}")


def parse_url(url: str, **options: Any) -> Settings:
    """Return the settings that a URL and options describe; options win.

    ``redis://[[user]:password@]host[:port][/db]``, ``rediss://`` for TLS,
    ``unix://[[user]:password@]/path[?db=1]``; and behind a question mark ``db``, ``protocol``,
    ``timeout``, ``connect_timeout`` and ``client_name``.

    Raises:
        TypeError, ValueError: If it is no such URL, or there is no such option. A password is
            never part of the message.

    Example:
        >>> parse_url("redis://localhost:7000/2").where
        'localhost:7000'
    """
    from urllib.parse import parse_qsl, unquote, urlsplit

    if not isinstance(url, str):
        raise TypeError(f"expected a URL, got {url!r}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"expected a URL with a host and a port: {error}") from None
    if parts.scheme not in _SCHEMES or parts.fragment:
        raise ValueError(f"expected redis://, rediss:// or unix://, got {parts.scheme or ''!r}")
    found: dict[str, Any] = {"tls": parts.scheme == "rediss"}
    if parts.username:
        found["username"] = unquote(parts.username)
    if parts.password is not None:
        found["password"] = unquote(parts.password)
    if parts.scheme == "unix":
        if parts.hostname or not parts.path.startswith("/"):
            raise ValueError("expected unix:// and an absolute path")
        found["host"] = "unix/"
        found["port"] = unquote(parts.path)
    else:
        userinfo, _, location = parts.netloc.rpartition("@")
        if "@" in userinfo or not _LOCATION.fullmatch(location):
            raise ValueError("expected a URL with a host and a port, as host:port or [::1]:port")
        if parts.hostname:
            found["host"] = unquote(parts.hostname)
            host_to_ascii(found["host"])  # to see whether it is one
        if port is not None:
            found["port"] = port
        if parts.path not in ("", "/"):
            found["db"] = _number("db", unquote(parts.path[1:]), int)
    for name, value in parse_qsl(parts.query, keep_blank_values=True, strict_parsing=False):
        if name not in _QUERY:
            raise ValueError(f"expected one of {', '.join(_QUERY)} in the URL, got {name!r}")
        if name in ("db", "protocol"):
            found[name] = _number(name, value, int)
        elif name == "client_name":
            found[name] = value
        else:
            found[name] = None if value in ("", "none") else _number(name, value, float)
    known = {each.name for each in fields(Settings)}
    for name in options:
        if name not in known:
            raise TypeError(f"there is no option {name!r}")
    return Settings(**{**found, **options})


def _number(name: str, text: str, kind: type[int] | type[float]) -> int | float:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"expected a number for {name} in the URL, got {text!r}") from None
