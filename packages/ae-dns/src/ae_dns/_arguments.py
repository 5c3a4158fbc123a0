"""What arguments may be: each check names the value and what was expected."""

from __future__ import annotations

__all__ = (
    "check_count",
    "check_iterable",
    "check_servers",
    "check_suffixes",
    "check_text",
    "check_timeouts",
    "class_number",
    "make_cache",
    "type_number",
)

from collections.abc import Iterable
from sys import float_info
from typing import Final

from ._cache import Cache
from ._config import Server, parse_server, parse_suffix

_ANY: Final = 255
_CLASSES: Final = {"IN": 1, "CH": 3, "HS": 4, "ANY": 255}


def type_number(rdtype: object) -> int:
    """Return the number of a record type given as text or number."""
    if isinstance(rdtype, int) and not isinstance(rdtype, bool):
        if not 0 < rdtype < 65536:
            raise ValueError(f"expected a record type between 1 and 65535, got {rdtype!r}")
        return int(rdtype)
    if not isinstance(rdtype, str):
        raise TypeError(f"expected a record type as str or int, got {rdtype!r}")
    if rdtype == "*":
        return _ANY
    import dns.exception
    import dns.rdatatype

    try:
        return int(dns.rdatatype.from_text(rdtype))
    except (dns.exception.DNSException, ValueError):
        raise ValueError(f"unknown record type {rdtype!r}") from None


def class_number(rdclass: object) -> int:
    """Return the number of a class given as text or number."""
    if isinstance(rdclass, int) and not isinstance(rdclass, bool):
        if not 0 < rdclass < 65536:
            raise ValueError(f"expected a class between 1 and 65535, got {rdclass!r}")
        return int(rdclass)
    if not isinstance(rdclass, str):
        raise TypeError(f"expected a class as str or int, got {rdclass!r}")
    try:
        return _CLASSES[rdclass.upper()]
    except KeyError:
        raise ValueError(f'expected class "IN", "CH" or "HS", got {rdclass!r}') from None


def check_text(what: str, value: object) -> None:
    """Refuse *value* unless it is a ``str``."""
    if not isinstance(value, str):
        raise TypeError(f"expected {what} as str, got {value!r}")


def check_iterable(what: str, value: object) -> None:
    """Refuse *value* unless it can be iterated over; a text would be a list of its letters."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError(f"expected a sequence of {what}, got {value!r}")


def check_servers(servers: Iterable[str]) -> tuple[Server, ...]:
    """Parse the addresses of name servers; at least one, each once."""
    check_iterable("name servers", servers)
    parsed = tuple(dict.fromkeys(parse_server(server) for server in servers))
    if not parsed:
        raise ValueError("expected at least one name server, got none")
    return parsed


def check_suffixes(suffixes: Iterable[str]) -> tuple[str, ...]:
    """Return suffixes for a search list in ASCII, each once."""
    check_iterable("suffixes", suffixes)
    checked = []
    for suffix in suffixes:
        check_text("a suffix", suffix)
        checked.append(parse_suffix(suffix))
    return tuple(dict.fromkeys(checked))


def check_timeouts(timeouts: Iterable[float]) -> tuple[float, ...]:
    """Return timeouts as floats; at least one, all above zero."""
    check_iterable("seconds", timeouts)
    checked = []
    for seconds in timeouts:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise TypeError(f"expected timeouts in seconds, got {seconds!r}")
        if not 0 < seconds <= float_info.max:  # an int may be above it
            raise ValueError(f"expected timeouts above 0 seconds, got {seconds!r}")
        checked.append(float(seconds))
    if not checked:
        raise ValueError("expected at least one timeout, got none")
    return tuple(checked)


def check_count(what: str, value: object, least: int) -> int:
    """Return *value* if it is an ``int`` of at least *least*."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected {what} as int, got {value!r}")
    if value < least:
        raise ValueError(f"expected {what} of at least {least}, got {value!r}")
    return value


def make_cache(cache: bool | int | Cache | None) -> Cache | None:
    """Return the cache that an argument stands for, or ``None``."""
    if cache is None or cache is False:
        return None
    if cache is True:
        return Cache()
    if isinstance(cache, int):
        return Cache(cache)
    if isinstance(cache, Cache):
        return cache
    raise TypeError(f"expected cache as bool, int or Cache, got {cache!r}")
