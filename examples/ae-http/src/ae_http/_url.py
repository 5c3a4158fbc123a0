"""URLs: where a request goes, and what its first line says.

Sans-I/O. A URL that cannot be sent as it is meant is refused, never guessed at. A Location is
read as browsers read it, for that is what servers try theirs with.
"""

from __future__ import annotations

__all__ = ("Target", "basic_credentials", "join", "parse_proxy_url", "parse_url")

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from ae_socket import format_ipv4, format_ipv6, host_to_ascii, parse_ipv4, parse_ipv6

from ._errors import InvalidRequest

_PORTS: Final = {"http": 80, "https": 443}
_PROXY_PORTS: Final = {**_PORTS, "socks5": 1080, "socks5h": 1080}
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#.*)?")
# Control characters, blanks, halves of surrogate pairs; a backslash, which some take for a slash
_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f-\x9f\\\ud800-\udfff]")
_ZONE: Final = re.compile(r"[A-Za-z0-9._~-]+")
# RFC 3986 3.2.1, and what RFC 7617 takes as UTF-8 besides; "%" stands before two digits
_USERINFO: Final = re.compile(
    r"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2}|[^\x00-\x7f])*+", re.ASCII
)
_AUTHORITY_OF: Final = re.compile(r"(?<=//)[^/?#]*@")
# what stays as it is in a path or query (RFC 3986 3.3, 3.4); "%" because it is encoded already
_SAFE: Final = "!$%&'()*+,/:;=?@[]~"
# WHATWG URL: a dot may be written as its escape
_HERE: Final = frozenset({".", "%2e"})
_UP: Final = frozenset({"..", ".%2e", "%2e.", "%2e%2e"})


class Target(NamedTuple):
    """A URL, taken apart.

    Attributes:
        url: The whole, without user information and fragment; the host in its usual form.
        scheme: ``http`` or ``https``; of a proxy ``socks5`` or ``socks5h``, too.
        host: The host, in the one form that is resolved, sent and verified: an address as it is
            usually written, without brackets; a name in ASCII and lower case.
        port: The port.
        authority: The value of ``Host``: the port only if it is not the scheme's.
        path: The path and query, as sent.
        credentials: The value of ``Authorization`` that the user information stands for.
        origin: Scheme, host and port (RFC 9110 4.3.1). A final dot makes no other host.
    """

    url: str
    scheme: str
    host: str
    port: int
    authority: str
    path: str
    credentials: str | None
    origin: tuple[str, str, int]


@lru_cache(maxsize=1024)
def parse_url(url: str) -> Target:
    """Take *url* apart.

    Raises:
        InvalidRequest: If it is no absolute http or https URL. A password is not in the message.
    """
    return _parse(url, _PORTS, "an http or https URL")


@lru_cache(maxsize=64)
def parse_proxy_url(url: str) -> Target:
    """Take the URL of a proxy apart; raises what :func:`parse_url` does."""
    return _parse(url, _PROXY_PORTS, "an http, https, socks5 or socks5h URL")


def _parse(url: str, ports: dict[str, int], what: str) -> Target:
    if not isinstance(url, str):
        raise TypeError(f"expected a URL as a str, got {url!r}")
    if found := _FORBIDDEN.search(url):
        raise InvalidRequest(f"expected a URL without {found[0]!r}, got {_shown(url)}")
    match = _URL.fullmatch(url)
    if match is None or match[1].lower() not in ports:
        raise InvalidRequest(f"expected {what}, got {_shown(url)}")
    scheme = match[1].lower()
    userinfo, _, location = match[2].rpartition("@")
    if not _USERINFO.fullmatch(userinfo):
        raise InvalidRequest(f"expected user:password before the @, got {_shown(url)}")
    host, name, digits = _host_and_port(location, url)
    port = ports[scheme]
    if digits:
        port = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 6 else 0
        if not 0 < port < 65536:
            raise InvalidRequest(f"expected a port from 1 to 65535, got {_shown(url)}")
    authority = name if port == ports[scheme] else f"{name}:{port}"
    path = quote(match[3] or "/", safe=_SAFE)
    if match[4]:
        path += "?" + quote(match[4], safe=_SAFE)
    return Target(
        f"{scheme}://{authority}{path}",
        scheme,
        host,
        port,
        authority,
        path,
        basic_credentials(userinfo) if userinfo else None,
        (scheme, host.removesuffix("."), port),
    )


def _host_and_port(location: str, url: str) -> tuple[str, str, str]:
    """Return the host, the same as ``Host`` has it, and the digits of the port.

    Raises:
        InvalidRequest: If that is not what there is.
    """
    if location.startswith("["):
        inside, bracket, rest = location[1:].partition("]")
        text, percent, zone = inside.partition("%25")
        packed = parse_ipv6(text) if ":" in text else None
        good_zone = not percent or _ZONE.fullmatch(zone)
        if packed is None or not good_zone or not bracket or rest[:1] not in ("", ":"):
            raise InvalidRequest(f"expected an IPv6 address in brackets, got {_shown(url)}")
        address = format_ipv6(packed)
        # RFC 6874: a zone has no meaning outside this machine
        return f"{address}%{zone}" if zone else address, f"[{address}]", rest[1:]
    text, _, digits = location.partition(":")
    try:
        name = host_to_ascii(text).lower()
    except ValueError as error:
        raise InvalidRequest(f"expected a URL with a host, got {_shown(url)}: {error}") from None
    packed = parse_ipv4(name)
    if packed is not None:
        name = format_ipv4(packed)
    return name, name, digits


def _shown(url: str) -> str:
    """Return *url* for people."""
    hidden = _AUTHORITY_OF.sub("...@", url, count=1)
    return repr(hidden) if len(hidden) < 200 else f"{hidden[:200]!r}..."


def join(base: str, location: str) -> str:
    """Return the URL that *location* means (RFC 3986 5, and the URL standard of the WHATWG).

    Args:
        base: The URL that was asked for.
        location: A Location, its bytes as Latin-1: UTF-8 if they can be that.

    Raises:
        InvalidRequest: If it is for another scheme, or has user information: a server must not
            choose as which user the client logs in.
    """
    text = _as_text(location).strip(" ").replace("\t", "")
    match = _URL.fullmatch(base)
    assert match is not None
    scheme, authority, path, query = match.groups("")
    reference, fragment_mark, fragment = text.partition("#")
    head, mark, tail = reference.partition("?")
    head = head.replace("\\", "/")
    named = _SCHEME.match(head)
    if named is not None:
        head = head[named.end() :]
        if named[1].lower() not in _PORTS:
            raise InvalidRequest(f"expected an http or https URL, got {_shown(text)}")
        if named[1].lower() != scheme:
            scheme = named[1].lower()
            head = "//" + head  # whatever the number of slashes
    if head.startswith("//"):
        authority, slash, head = head.lstrip("/").partition("/")
        if "@" in authority:
            raise InvalidRequest(f"expected a URL without a user, got {_shown(text)}")
        path = slash + head
    elif head.startswith("/"):
        path = head
    elif head:
        path = path.rpartition("/")[0] + "/" + head
    elif not mark:
        mark, tail = query and "?", query
    path = _without_dots(path) + mark + tail + fragment_mark + fragment
    return f"{scheme}://{authority}{quote(path, safe=_SAFE + '#')}"


def _as_text(location: str) -> str:
    """Return the text of which *location* has the bytes."""
    try:
        return location.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return "".join(c if c < "\x80" else f"%{ord(c):02X}" for c in location)
    except UnicodeEncodeError:
        return location  # it was text


def _without_dots(path: str) -> str:
    """Return *path* without segments that mean "here" and "up" (RFC 3986 5.2.4)."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment.lower() in _UP:
            del kept[-1:]
        elif segment.lower() not in _HERE:
            kept.append(segment)
    if segments and segments[-1].lower() in _UP | _HERE:
        kept.append("")
    return "".join(f"/{segment}" for segment in kept)


def basic_credentials(userinfo: str) -> str:
    """Return the value of ``Authorization`` for ``user:password`` as it stands in a URL.

    Raises:
        InvalidRequest: If it has a control character, or the user a colon, which RFC 7617 has no
            way to say.
    """
    from binascii import b2a_base64

    name, _, password = userinfo.partition(":")
    user = unquote_to_bytes(name)
    pair = user + b":" + unquote_to_bytes(password)
    if b":" in user or any(octet < 32 or octet == 127 for octet in pair):
        raise InvalidRequest("expected a user without a colon, and no control characters")
    return "Basic " + b2a_base64(pair, newline=False).decode("ascii")
