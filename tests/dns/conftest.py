"""A scripted name server and a resolver that asks it, for every test that wants them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import ae_dns
from ae_dns.testing import NameServer

ZONE = """
www.demo.test.      60 IN A     192.0.2.80
www.demo.test.      60 IN A     192.0.2.81
www.demo.test.      60 IN AAAA  2001:db8::80
six.demo.test.      60 IN AAAA  2001:db8::6
alias.demo.test.    60 IN CNAME www.demo.test.
demo.test.         300 IN NS    ns2.demo.test.
demo.test.         300 IN NS    ns1.demo.test.
demo.test.         300 IN MX    20 slow.demo.test.
demo.test.         300 IN MX    5 Fast.demo.test.
demo.test.         300 IN TXT   "one," "two"
demo.test.         300 IN TXT   "caf\\195\\169"
_xmpp-client._tcp.demo.test. 60 IN SRV 10 0 5222 late.demo.test.
_xmpp-client._tcp.demo.test. 60 IN SRV 1 0 5223 www.demo.test.
_gone._tcp.demo.test.        60 IN SRV 0 0 0 .
80.2.0.192.in-addr.arpa.     60 IN PTR www.demo.test.
80.2.0.192.in-addr.arpa.     60 IN PTR liar.demo.test.
"""


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer(ZONE) as server:
        yield server


@pytest.fixture
def resolver(server: NameServer) -> ae_dns.Resolver:
    return ae_dns.Resolver(servers=[server.endpoint])


@pytest.fixture(autouse=True)
def _own_shared_resolver() -> Iterator[None]:
    import ae_socket

    yield
    ae_dns.set_resolver(None)
    ae_socket.set_resolver(None)
