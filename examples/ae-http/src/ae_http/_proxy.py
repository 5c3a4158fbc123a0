"""Proxies: which one to use, and what to say to it (RFC 9110 9.3.6, RFC 9112 3.2).

Sans-I/O. http goes through a proxy with the whole URL in the request line; https through a tunnel
that CONNECT opens, in which TLS is spoken with the server itself.
"""

from __future__ import annotations

__all__ = ("ProxyChoice", "choose_proxy", "environment_proxy", "tunnel_request")

import os
import sys
from collections.abc import Callable
from typing import TypeAlias

from ._errors import InvalidRequest
from ._message import encode_head
from ._url import Target, parse_url

ProxyChoice: TypeAlias = "str | Callable[[str], str | None] | None"


def choose_proxy(choice: ProxyChoice, target: Target) -> Target | None:
    """Return the proxy for *target*, if there is one.

    Args:
        choice: Its URL, or a callable that is given the URL of the request; None for none.

    Raises:
        InvalidRequest: If it is not the URL of an http or https proxy.
    """
    if callable(choice):
        choice = choice(target.url)
    if not choice:
        return None
    try:
        return parse_url(choice)
    except InvalidRequest as error:
        raise InvalidRequest(f"expected the URL of a proxy: {error}") from None


def environment_proxy(url: str) -> str | None:
    """Return the proxy for *url* that the environment names; for ``Client(proxy=...)``.

    ``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy``, in lower or upper case, but
    not ``HTTP_PROXY``: in a CGI program that is a header field of the request, which its sender
    chooses. ``no_proxy`` has host names, which stand for all names below them as well, with a
    port or without; ``*`` is everything.
    """
    if sys.flags.ignore_environment:
        return None
    target = parse_url(url)
    for entry in _variable("no_proxy").replace(",", " ").split():
        name, _, port = entry.lower().rpartition(":") if entry.count(":") == 1 else (entry, "", "")
        name = name.lower().lstrip("*").lstrip(".")
        if port and port != str(target.port):
            continue
        if not name or target.host == name or target.host.endswith("." + name):
            return None
    chosen = _variable(f"{target.scheme}_proxy") or _variable("all_proxy")
    if not chosen:
        return None
    return chosen if "://" in chosen else f"http://{chosen}"


def _variable(name: str) -> str:
    value = os.environ.get(name, "")
    if not value and name != "http_proxy":
        value = os.environ.get(name.upper(), "")
    return value.strip()


def tunnel_request(target: Target, proxy: Target, user_agent: str) -> bytes:
    """Return the request that has *proxy* open a tunnel to *target*."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    authority = f"{host}:{target.port}"
    fields = [("Host", authority), ("User-Agent", user_agent)]
    if proxy.credentials is not None:
        fields.append(("Proxy-Authorization", proxy.credentials))
    return encode_head("CONNECT", authority, fields)
