"""From addresses to names, and back again to make sure."""

from __future__ import annotations

__all__ = ("reverse_lookup", "reverse_name", "reverse_verify")

from typing import Final, Protocol

import ae_core as ae
from ae_socket import parse_address

from ._errors import ResolveError
from ._lookup import in_next_turn

_COMPATIBLE: Final = bytes(12)


class Queries(Protocol):
    """What the lookups of addresses use of a resolver."""

    def a(self, name: str) -> ae.CondVar[list[str]]: ...
    def aaaa(self, name: str) -> ae.CondVar[list[str]]: ...
    def ptr(self, name: str) -> ae.CondVar[list[str]]: ...


def reverse_name(ip: str) -> str | None:
    """Return the name whose PTR records name the owner of *ip*; ``None`` if it is no address.

    Addresses that only wrap an IPv4 address (RFC 4291, 2.5.5) are taken for that one.
    """
    packed = _packed(ip)
    if packed is None:
        return None
    if len(packed) == 4:
        return ".".join(str(octet) for octet in reversed(packed)) + ".in-addr.arpa."
    return ".".join(reversed(packed.hex())) + ".ip6.arpa."


def reverse_lookup(queries: Queries, ip: str) -> ae.CondVar[list[str]]:
    """Implement ``Resolver.reverse_lookup``."""
    name = reverse_name(ip)
    return in_next_turn(_send_nothing) if name is None else queries.ptr(name)


def reverse_verify(queries: Queries, ip: str) -> ae.CondVar[list[str]]:
    """Implement ``Resolver.reverse_verify``."""
    packed = _packed(ip)
    if packed is None:
        return in_next_turn(_send_nothing)
    found = reverse_lookup(queries, ip)
    pending: list[ae.CondVar[list[str]]] = [found]

    def cancel() -> None:
        for condvar in pending:
            condvar.cancel()

    result: ae.CondVar[list[str]] = ae.CondVar(cancel=cancel)

    def on_names(found: ae.CondVar[list[str]]) -> None:
        if result.ready:
            return
        try:
            names = list(dict.fromkeys(found.recv()))
        except ResolveError as error:
            result.throw(error.with_traceback(None))
            return
        lookup = queries.a if len(packed) == 4 else queries.aaaa
        # A PTR names a host completely: the search list has no part in it.
        forward = [lookup(name if name.endswith(".") else f"{name}.") for name in names]
        pending[:] = forward
        left = len(forward)

        def on_addresses(_: object) -> None:
            nonlocal left
            left -= 1
            if left == 0 and not result.ready:
                _deliver_verified(result, packed, dict(zip(names, forward, strict=True)))

        for lookup_of_name in forward:
            lookup_of_name.on_ready(on_addresses)
        if not forward:
            result.send([])

    found.on_ready(on_names)
    return result


def _deliver_verified(
    result: ae.CondVar[list[str]], packed: bytes, found: dict[str, ae.CondVar[list[str]]]
) -> None:
    """Send the names whose addresses include *packed*; throw if a lookup failed and none does."""
    verified = []
    first_error: ResolveError | None = None
    for name, addresses in found.items():
        try:
            texts = addresses.recv()
        except ResolveError as error:
            first_error = first_error or error.with_traceback(None)
            continue
        if any(_packed(text) == packed for text in texts):
            verified.append(name)
    if first_error is not None and not verified:
        result.throw(first_error)
    else:
        result.send(verified)


def _packed(ip: str) -> bytes | None:
    if not isinstance(ip, str):
        raise TypeError(f"expected an address as str, got {ip!r}")
    packed = parse_address(ip.partition("%")[0])
    if packed is None or len(packed) not in (4, 16):
        return None
    # A mapped address (::ffff:192.0.2.1) is four bytes already. ::1 and :: look like "compatible"
    # ones (::192.0.2.1), but are not.
    if packed.startswith(_COMPATIBLE) and packed[12:] not in (bytes(4), b"\0\0\0\1"):
        return packed[12:]
    return packed


def _send_nothing(condvar: ae.CondVar[list[str]]) -> None:
    condvar.send([])
