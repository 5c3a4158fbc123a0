"""Arguments of the wrong type are refused at the call: what was expected, and what was given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import ae_dns
from ae_dns import Cache, Resolver

X: Any = object()


def asker() -> Resolver:
    return Resolver(servers=["127.0.0.1:9"])


WRONG: list[Callable[[], object]] = [
    *(lambda name=name: getattr(asker(), name)(X) for name in ("a", "aaaa", "mx", "ns", "txt")),
    *(lambda name=name: getattr(asker(), name)(X) for name in ("ptr", "any_", "reverse_lookup")),
    lambda: asker().reverse_verify(X),
    lambda: asker().srv(X, "tcp", "x.test"),
    lambda: asker().srv("http", X, "x.test"),
    lambda: asker().srv("http", "tcp", X),
    lambda: asker().resolve(X, "A"),
    lambda: asker().resolve("x.test", X),
    lambda: asker().resolve("x.test", "A", search=X),
    lambda: asker().resolve("x.test", "A", search=[X]),
    lambda: asker().resolve("x.test", "A", search="x"),
    lambda: asker().resolve("x.test", "A", accept=X),
    lambda: asker().resolve("x.test", "A", accept="A"),
    lambda: asker().resolve("x.test", "A", accept=[X]),
    lambda: asker().resolve("x.test", "A", rdclass=X),
    lambda: asker().getaddrinfo(X, 80),
    lambda: asker().getaddrinfo("x.test", X),
    lambda: Resolver(servers=X),
    lambda: Resolver(servers=[X]),
    lambda: Resolver(servers="127.0.0.1"),
    lambda: Resolver(search=X),
    lambda: Resolver(search=[X]),
    lambda: Resolver(timeouts=X),
    lambda: Resolver(ndots=X),
    lambda: Resolver(max_outstanding=X),
    lambda: Resolver(cache=X),
    lambda: Cache(X),
    lambda: Cache(max_octets=X),
    lambda: ae_dns.idn_to_ascii(X),
    lambda: ae_dns.idn_to_unicode(X),
    lambda: ae_dns.set_resolver(X),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_every_function_looks_at_its_arguments_in_the_call(number: int) -> None:
    with pytest.raises(TypeError, match=r"expected .*, got "):
        WRONG[number]()
