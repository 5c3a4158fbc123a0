"""What the public classes are besides their fields: tuples with names, and protocols."""

from __future__ import annotations

import pickle
from typing import Any, Protocol

import pytest

import ae_socket
from ae_socket import AddressInfo, Connector, ProxyStep, Resolver


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            AddressInfo(2, 1, 6, ("127.0.0.1", 80)),
            "AddressInfo(family=2, type=1, protocol=6, sockaddr=('127.0.0.1', 80))",
        ),
        (ProxyStep(b"hello", 2), "ProxyStep(data=b'hello', size=2, is_head=False)"),
    ],
    ids=["AddressInfo", "ProxyStep"],
)
def test_a_tuple_with_names_is_compared_copied_and_shown_as_one(value: Any, text: str) -> None:
    assert repr(value) == text
    assert value == tuple(value)
    assert value[0] == getattr(value, value._fields[0])
    assert type(value)(**value._asdict()) == value
    changed = value._replace(**{value._fields[0]: 0})
    assert type(changed) is type(value)
    assert changed[1:] == value[1:]
    assert pickle.loads(pickle.dumps(value)) == value
    assert type(value).__module__ == "ae_socket"
    with pytest.raises(AttributeError):
        value.other = 1


def test_a_protocol_of_the_program_may_derive_from_ours() -> None:
    class Both(Resolver, Connector, Protocol):
        """Looks up, and connects."""

    class One(Both):
        def getaddrinfo(self, *args: Any, **options: Any) -> Any:
            return "looked up"

        def __call__(self, *args: Any) -> Any:
            return "connected"

    assert One().getaddrinfo() == "looked up"
    assert One()() == "connected"
    for ours in (Resolver, Connector):
        assert ours.__module__ == "ae_socket"
        with pytest.raises(TypeError, match="Protocols cannot be instantiated"):
            ours()


def test_a_name_that_is_not_there_is_an_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="'ae_socket' has no attribute 'Resolvers'"):
        ae_socket.Resolvers  # noqa: B018
