"""Where a server is and how to speak to it: the settings of a client, and URLs for them.

Sans-I/O.
"""

from __future__ import annotations

__all__ = ("Settings", "make_settings")

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from ._registration import Identity
from ._sts import StsStore

_PORTS: Final = {"irc": 6667, "ircs": 6697}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client knows about its server; the meanings are those of :class:`ae_irc.Client`."""

    host: str
    port: int
    secure: bool
    identity: Identity
    channels: Mapping[str, str | None]
    tls_context: Any = field(repr=False)
    burst: float
    rate: float | None
    ping_interval: float
    connect_timeout: float
    attempts: int | None
    max_delay: float
    max_unread: int
    sts: StsStore
    ctcp_replies: Mapping[str, str]

    @property
    def where(self) -> str:
        """The server, for people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def split_url(url: str) -> tuple[str, str, int, list[str]]:
    """Return scheme, host, port and channels of ``irc[s]://host[:port][/channel,...]``.

    Raises:
        ValueError: It is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"expected irc://host or ircs://host, got {url!r}")
    if "@" in parts.netloc or parts.query:
        raise ValueError(f"expected nick and password as arguments, not in the URL: {url!r}")
    try:
        port = parts.port
    except ValueError:
        raise ValueError(f"expected a port up to 65535, got {url!r}") from None
    path = parts.path.removeprefix("/") + (f"#{parts.fragment}" if parts.fragment else "")
    channels = [unquote(name) for name in path.split(",") if name]
    named = [name if name[0] in "#&+!" else f"#{name}" for name in channels]
    return parts.scheme, parts.hostname, port or _PORTS[parts.scheme], named


def check_number(name: str, value: Any, *, none: bool = False, least: float = 0.0) -> None:
    """Refuse what is no number above *least*."""
    if value is None and none:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected {name} as a number, got {value!r}")
    if not least < value < float("inf"):
        raise ValueError(f"expected {name} above {least:g}, got {value!r}")


def make_settings(
    url: str, identity: Identity, channels: Mapping[str, str | None], **rest: Any
) -> Settings:
    """Return settings, checked.

    Raises:
        TypeError, ValueError: If one of them cannot be.
    """
    scheme, host, port, named = split_url(url)
    for name in ("ping_interval", "connect_timeout", "max_delay"):
        check_number(name, rest[name])
    check_number("burst", rest["burst"], least=0.999)
    check_number("rate", rest["rate"], none=True)
    check_number("attempts", rest["attempts"], none=True)
    check_number("max_unread", rest["max_unread"])
    for channel in (*named, *channels):
        check_channel(channel)
    wanted = {**dict.fromkeys(named), **channels}
    return Settings(host, port, scheme == "ircs", identity, wanted, **rest)


def check_channel(name: str) -> None:
    """Refuse what cannot be the name of one channel."""
    if not isinstance(name, str):
        raise TypeError(f"expected the name of a channel, got {name!r}")
    if len(name) < 2 or set(name) & set(" ,\a\0\r\n") or name[0] == ":":
        raise ValueError(f"expected the name of one channel, got {name!r}")
