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

from ae_socket import host_to_ascii, parse_ipv4, parse_ipv6

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
    chooses.

    ``no_proxy`` lists, between commas or blanks, what is asked without a proxy:

    - ``example.com`` or ``.example.com`` or ``*.example.com``: the host, and all hosts below it.
      Case and a final dot make no difference, ``bücher.example`` is ``xn--bcher-kva.example``;
    - ``192.0.2.1``, ``2001:db8::1`` or ``[2001:db8::1]``: that address, however it is written;
    - each of these with ``:8080`` behind it, IPv6 addresses in brackets then: that port only;
    - ``*``: everything.

    Ranges of addresses (``10.0.0.0/8``), and anything else, stand for nothing.
    """
    if sys.flags.ignore_environment:
        return None
    target = parse_url(url)
    if any(_covers(entry, target) for entry in _variable("no_proxy").replace(",", " ").split()):
        return None
    chosen = _variable(f"{target.scheme}_proxy") or _variable("all_proxy")
    if not chosen:
        return None
    return chosen if "://" in chosen else f"http://{chosen}"


def _covers(entry: str, target: Target) -> bool:
    """Whether an entry of ``no_proxy`` stands for *target*."""
    if entry == "*":
        return True
    name, port = entry, ""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        if rest[:1] not in ("", ":") or ":" not in name:
            return False
        port = rest[1:]
    elif entry.count(":") == 1:
        name, _, port = entry.partition(":")
    if port and not (port.isascii() and port.isdigit() and int(port[:6]) == target.port):
        return False
    host = target.host.removesuffix(".")
    address = _address(host)
    if address is not None:
        return _address(name) == address
    try:
        name = host_to_ascii(name.removeprefix("*").lstrip(".")).lower().removesuffix(".")
    except ValueError:
        return False
    return host == name or host.endswith("." + name)


def _address(text: str) -> bytes | None:
    """Return the octets of an IP address; a zone, which only this machine knows, is left out."""
    return parse_ipv4(text) or parse_ipv6(text.partition("%")[0])


def _variable(name: str) -> str:
    value = os.environ.get(name, "")
    if not value and name != "http_proxy":
        value = os.environ.get(name.upper(), "")
    return value.strip()


def tunnel_request(target: Target, proxy: Target, user_agent: str) -> bytes:
    """Return the request that has *proxy* open a tunnel to *target*."""
    host = target.host.partition("%")[0]  # a zone has no meaning to the proxy
    authority = f"[{host}]:{target.port}" if ":" in host else f"{host}:{target.port}"
    fields = [("Host", authority), ("User-Agent", user_agent)]
    if proxy.credentials is not None:
        fields.append(("Proxy-Authorization", proxy.credentials))
    return encode_head("CONNECT", authority, fields)
