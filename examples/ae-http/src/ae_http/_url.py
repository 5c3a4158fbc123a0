"""URLs: where a request goes, and what its first line says.

Sans-I/O. A URL that cannot be sent as it is meant is refused, never guessed at.
"""

from __future__ import annotations

__all__ = ("Target", "basic_credentials", "join", "parse_url")

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes, urljoin, urlsplit

from ._errors import InvalidRequest

_PORTS: Final = {"http": 80, "https": 443}
# urlsplit() silently drops some of these, and a blank ends the request line
_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f\\]")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\]")
# what stays as it is in a path or query (RFC 3986 3.3, 3.4); "%" because it is encoded already
_SAFE: Final = "!$%&'()*+,/:;=?@[]~"


class Target(NamedTuple):
    """A URL, taken apart.

    Attributes:
        url: The whole, as given, without user information and fragment.
        scheme: ``http`` or ``https``.
        host: The host for connecting: no brackets, IDNA-encoded, lower case.
        port: The port.
        authority: The value of ``Host``: the port only if it is not the scheme's.
        path: The path and query, as sent.
        credentials: The value of ``Authorization`` that the user information stands for.
    """

    url: str
    scheme: str
    host: str
    port: int
    authority: str
    path: str
    credentials: str | None

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port (RFC 9110 4.3.1)."""
        return self.scheme, self.host, self.port


@lru_cache(maxsize=1024)
def parse_url(url: str) -> Target:
    """Take *url* apart.

    Raises:
        InvalidRequest: If it is no absolute http or https URL.
    """
    if not isinstance(url, str):
        raise TypeError(f"expected a URL as a str, got {url!r}")
    if found := _FORBIDDEN.search(url):
        raise InvalidRequest(f"expected a URL without {found[0]!r}, got {url!r}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidRequest(f"expected a URL, got {url!r}: {error}") from None
    if parts.scheme not in _PORTS:
        raise InvalidRequest(f"expected an http or https URL, got {url!r}")
    if port == 0:
        raise InvalidRequest(f"expected a port from 1 to 65535, got {url!r}")
    userinfo, _, location = parts.netloc.rpartition("@")
    if location.startswith("["):
        name = location[: location.find("]") + 1]
    else:
        name = location.partition(":")[0]
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise InvalidRequest(f"expected a host name, got {name!r}: {error}") from None
    if not _HOST.fullmatch(name):
        raise InvalidRequest(f"expected a URL with a host, got {url!r}")
    name = name.lower()
    path = quote(parts.path or "/", safe=_SAFE)
    if parts.query:
        path += "?" + quote(parts.query, safe=_SAFE)
    authority = name
    if port is None or port == _PORTS[parts.scheme]:
        port = _PORTS[parts.scheme]
    else:
        authority = f"{name}:{port}"
    host = name
    if name.startswith("["):
        host = name[1:-1].replace("%25", "%")
        # RFC 6874: a zone has no meaning outside this machine
        authority = re.sub(r"%[^\]]*", "", authority)
    return Target(
        f"{parts.scheme}://{authority}{path}",
        parts.scheme,
        host,
        port,
        authority,
        path,
        basic_credentials(userinfo) if userinfo else None,
    )


def join(base: str, reference: str) -> str:
    """Return what *reference*, relative to *base*, means (RFC 3986 5)."""
    # blanks and non-ASCII in Location are frequent, and unambiguous
    cleaned = quote(reference.strip(" \t"), safe=_SAFE + "#")
    return urljoin(base, cleaned)


def basic_credentials(userinfo: str) -> str:
    """Return the value of ``Authorization`` for ``user:password`` as it stands in a URL."""
    from binascii import b2a_base64

    name, _, password = userinfo.partition(":")
    pair = unquote_to_bytes(name) + b":" + unquote_to_bytes(password)
    return "Basic " + b2a_base64(pair, newline=False).decode("ascii")
