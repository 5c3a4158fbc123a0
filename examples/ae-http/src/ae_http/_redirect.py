"""Redirects: whether a response is one, and what to ask for then (RFC 9110 15.4).

Sans-I/O.
"""

from __future__ import annotations

__all__ = ("follow", "is_redirect", "public")

from typing import TYPE_CHECKING, Final

from ._errors import InvalidRequest, RedirectRefused
from ._url import Target, join, parse_url

if TYPE_CHECKING:
    from ._headers import Headers

_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
# What proves who we are is for one origin only; what describes a body goes with the body.
# "host" is for the first one, too, if the caller has set it.
_OF_ORIGIN: Final = frozenset({"authorization", "cookie", "cookie2", "host", "proxy-authorization"})
_OF_THE_BODY: Final = frozenset(
    {"content-encoding", "content-language", "content-length", "content-location", "content-type"}
)


def is_redirect(status: int, headers: Headers) -> bool:
    """Whether a response says where else to ask."""
    return status in _STATUSES and "location" in headers


def follow(
    status: int, location: str, method: str, target: Target, fields: list[tuple[str, str]]
) -> tuple[str, Target, list[tuple[str, str]], bool]:
    """Return what to ask for after a redirect.

    Args:
        status: The status of the redirect.
        location: Its Location, perhaps relative.
        method, target, fields: The request that was redirected.

    Returns:
        The method, the target and the header fields of the next request, and whether it has the
        body of the first one.

    Raises:
        RedirectRefused: If the location is not one that we can go to.
    """
    try:
        next_target = parse_url(join(target.url, location))
    except (InvalidRequest, ValueError) as error:
        raise RedirectRefused(f"a redirect to {location[:200]!r}: {error}", phase="done") from None
    at = next_target.scheme, next_target.authority
    if at == (target.scheme, target.authority):  # where a zone is not shown
        next_target = next_target._replace(host=target.host, origin=target.origin)
    # 303 says so; for 301 and 302 it is what all clients do with POST (RFC 9110 15.4.2)
    to_get = (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST")
    gone: frozenset[str] = _OF_THE_BODY if to_get else frozenset()
    if next_target.origin != target.origin:
        gone |= _OF_ORIGIN
    kept = [pair for pair in fields if pair[0].lower() not in gone]
    return "GET" if to_get else method, next_target, kept, not to_get


def public(fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return those of a client's own *fields* that every host may see."""
    return [pair for pair in fields if pair[0].lower() not in _OF_ORIGIN]
