"""Cookies: a jar of ``http.cookiejar`` is asked before each request and told of each response.

Which cookie belongs to which host and path, for how long, and whom to refuse, is the jar's policy.
"""

from __future__ import annotations

__all__ = ("cookies_for", "take_cookies")

from typing import TYPE_CHECKING, Any

from ._headers import encode_fields

if TYPE_CHECKING:
    from http.cookiejar import CookieJar

    from ._headers import Headers
    from ._url import Target


class _Request:
    """What a jar wants to know of a request (the interface of ``urllib.request.Request``)."""

    # A redirect is what the user asked for, as in a browser's window: no third party
    unverifiable = False

    def __init__(self, target: Target) -> None:
        self._url = target.url
        self.host = target.authority
        self.origin_req_host = target.host
        self.type = target.scheme
        self.added: list[tuple[str, str]] = []

    def get_full_url(self) -> str:
        return self._url

    def has_header(self, name: str) -> bool:
        return False

    def add_unredirected_header(self, name: str, value: str) -> None:
        self.added.append((name, value))


class _Response:
    """What a jar wants to know of a response."""

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def info(self) -> _Response:
        return self

    def get_all(self, name: str, default: list[str]) -> list[str]:
        return self._headers.get_all(name) or default


def cookies_for(jar: CookieJar, target: Target) -> list[tuple[str, str]]:
    """Return the fields that *jar* has for a request to *target*.

    Raises:
        InvalidRequest: If a cookie, which the program has put there, cannot be sent.
    """
    request: Any = _Request(target)
    jar.add_cookie_header(request)
    return encode_fields(request.added)


def take_cookies(jar: CookieJar, target: Target, headers: Headers) -> None:
    """Put what the response of *target* sets into *jar*."""
    if "set-cookie" in headers or "set-cookie2" in headers:
        request: Any = _Request(target)
        response: Any = _Response(headers)
        jar.extract_cookies(response, request)
