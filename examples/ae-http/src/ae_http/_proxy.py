"""Proxies: which one to use, and how (RFC 9110 9.3.6, RFC 9112 3.2, RFC 1928).

Sans-I/O. http goes through an HTTP proxy with the whole URL in the request line; https, and all
that goes through a SOCKS proxy, through a tunnel, in which TLS is spoken with the server itself.
What opens a tunnel is a connector of ae_socket.
"""

from __future__ import annotations

__all__ = ("ProxyChoice", "choose_proxy", "environment_proxy", "is_tunnel", "tunnel_connector")

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from ae_socket import host_to_ascii, http_connect, parse_ipv4, parse_ipv6, socks5

from ._errors import InvalidRequest
from ._url import Target, parse_proxy_url, parse_url

if TYPE_CHECKING:
    from ae_socket import ProxyConnector

ProxyChoice: TypeAlias = "str | Callable[[str], str | None] | None"


def choose_proxy(choice: ProxyChoice, target: Target) -> Target | None:
    """Return the proxy for *target*, if there is one.

    Args:
        choice: Its URL, or a callable that is given the URL of the request; None for none.

    Raises:
        InvalidRequest: If it is not the URL of a proxy of HTTP or SOCKS 5.
    """
    if callable(choice):
        choice = choice(target.url)
    if not choice:
        return None
    try:
        proxy = parse_proxy_url(choice)
        tunnel_connector(proxy, "")
    except ValueError as error:  # InvalidRequest is one
        raise InvalidRequest(f"expected the URL of a proxy: {error}") from None
    return proxy


def is_tunnel(proxy: Target, target: Target, *, switching: bool) -> bool:
    """Return whether *proxy* connects us to *target*, instead of asking in our place.

    Args:
        switching: Another protocol than HTTP is to be spoken.
    """
    return switching or target.scheme == "https" or proxy.scheme not in ("http", "https")


def tunnel_connector(proxy: Target, user_agent: str) -> ProxyConnector:
    """Return what opens a tunnel through *proxy*.

    Raises:
        ValueError: If its user and password cannot be said to it.
    """
    address = (proxy.host, proxy.port)
    given = proxy.credentials
    if proxy.scheme in ("http", "https"):
        fields = [("User-Agent", user_agent)]
        if given is not None:
            fields.append(("Proxy-Authorization", given))
        return http_connect(address, headers=fields)
    if given is None:
        return socks5(address)
    from binascii import a2b_base64

    try:
        user, _, password = a2b_base64(given.partition(" ")[2]).decode().partition(":")
    except UnicodeDecodeError:
        raise ValueError("expected a user and password in UTF-8") from None
    return socks5(address, user=user, password=password)


def environment_proxy(url: str) -> str | None:
    """Return the proxy for *url* that the environment names; for ``Client(proxy=...)``.

    ``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy``, in lower or upper case, but
    not ``HTTP_PROXY``: in a CGI program that is a header field of the request, which its sender
    chooses. What they name is an ``http``, ``https``, ``socks5`` or ``socks5h`` URL, or
    ``host:port`` of an HTTP proxy.

    ``no_proxy`` lists, between commas or blanks, what is asked without a proxy:

    - ``example.com`` or ``.example.com`` or ``*.example.com``: the host, and all hosts below it.
      Case and a final dot make no difference, ``bücher.example`` is ``xn--bcher-kva.example``;
    - ``192.0.2.1``, ``2001:db8::1`` or ``[2001:db8::1]``: that address, however it is written;
    - ``10.0.0.0/8``, ``2001:db8::/32``: the addresses of that network, where the URL has one;
    - each of these but networks with ``:8080`` behind it, IPv6 addresses in brackets then: that
      port only;
    - ``*``: everything.

    Anything else stands for nothing.
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
    if "/" in entry:
        return _in_network(target.host, entry)
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


def _in_network(host: str, network: str) -> bool:
    import ipaddress  # for the few who write such

    packed = _address(host.removesuffix("."))
    try:
        return packed is not None and ipaddress.ip_address(packed) in ipaddress.ip_network(
            network, strict=False
        )
    except ValueError:
        return False


def _address(text: str) -> bytes | None:
    """Return the bytes of an IP address; a zone, which only this machine knows, is left out."""
    return parse_ipv4(text) or parse_ipv6(text.partition("%")[0])


def _variable(name: str) -> str:
    value = os.environ.get(name, "")
    if not value and name != "http_proxy":
        value = os.environ.get(name.upper(), "")
    return value.strip()
