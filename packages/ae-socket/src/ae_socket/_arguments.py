"""What arguments may be: each check names the value and what was expected.

Sans-I/O: imports nothing from ``ae_core``.
"""

from __future__ import annotations

__all__ = (
    "check_callback",
    "check_count",
    "check_packed",
    "check_resolver",
    "check_service",
    "check_target",
    "check_text",
    "split_address",
)


def check_text(what: str, value: object) -> None:
    """Refuse *value* unless it is a ``str``."""
    if not isinstance(value, str):
        raise TypeError(f"expected {what} as str, got {value!r}")


def check_target(host: object, service: object) -> None:
    """Refuse what is neither a host nor a service by its type."""
    check_text("a host", host)
    check_service(service)


def check_service(service: object) -> None:
    """Refuse *service* unless it is a ``str`` or an ``int``."""
    if isinstance(service, bool) or not isinstance(service, str | int):
        raise TypeError(f"expected a service as str or int, got {service!r}")


def check_callback(name: str, callback: object) -> None:
    """Refuse *callback* unless it is ``None`` or can be called."""
    if callback is not None and not callable(callback):
        raise TypeError(f"expected {name} to be callable or None, got {callback!r}")


def check_resolver(resolver: object) -> None:
    """Refuse *resolver* unless it is ``None`` or has the method of a resolver."""
    if resolver is not None and not callable(getattr(resolver, "getaddrinfo", None)):
        raise TypeError(f"expected a resolver or None, got {resolver!r}")


def check_packed(packed: object) -> None:
    """Refuse *packed* unless it is ``bytes``: a text of four letters is no address."""
    if not isinstance(packed, bytes | bytearray):
        raise TypeError(f"expected a packed address as bytes, got {packed!r}")


def check_count(name: str, value: object, least: int) -> None:
    """Refuse *value* unless it is an ``int`` of at least *least*."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected {name} as int, got {value!r}")
    if value < least:
        raise ValueError(f"expected {name} of at least {least}, got {value!r}")


def split_address(name: str, address: object) -> tuple[str, str | int]:
    """Return host and service of *address*, which is an address or a pair of both.

    Raises:
        TypeError: If it is neither.
    """
    if isinstance(address, str):
        return address, 0
    if not isinstance(address, tuple) or len(address) != 2:
        raise TypeError(f"expected {name} as str or (address, port), got {address!r}")
    host, service = address
    if not isinstance(host, str) or isinstance(service, bool) or not isinstance(service, str | int):
        raise TypeError(f"expected {name} as str or (address, port), got {address!r}")
    return host, service
