"""Any order of writing, carrying, reading and closing gives the same data: a property."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ae_handle import TlsError
from ae_tls import Context
from ae_tls.testing import CertificateAuthority

HOST = "www.example.org"

# One step: who acts (0 or 1), what, and how much.
STEPS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["write", "write", "carry", "carry", "carry", "drain", "shutdown"]),
        st.sampled_from([1, 3, 5, 6, 21, 22, 100, 1000, 5000, 16_384, 16_385, 40_000]),
    ),
    max_size=60,
)


class Half:
    """One session, the octets on their way to it, and what it sent and got."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.wire = b""
        self.sent = b""
        self.got = b""
        self.closed = False

    def act(self, what: str, amount: int, peer: Half) -> None:
        if what == "write" and not self.closed:
            data = bytes((len(self.sent) + i) % 251 for i in range(amount))
            self.session.write(data)
            self.sent += data
        elif what == "shutdown":
            self.session.shutdown()
            self.closed = True
        elif what == "drain":
            peer.wire += self.session.drain()
        elif what == "carry":
            part, self.wire = self.wire[:amount], self.wire[amount:]
            if part:
                self.session.feed(part)
                while piece := self.session.read():
                    self.got += piece
            peer.wire += self.session.drain()


@pytest.fixture(scope="module")
def contexts() -> dict[str, tuple[Context, Context]]:
    ca = CertificateAuthority()
    leaf = ca.issue(HOST)
    limits: Any = ("1.2", "1.3")
    return {
        limit: (
            Context(ca_cert=ca.cert, max_version=limit),
            Context(cert=leaf.chain, key=leaf.key),
        )
        for limit in limits
    }


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, version=st.sampled_from(["1.2", "1.3"]), tail=st.booleans())
def test_any_schedule_delivers_everything_in_order(
    contexts: dict[str, tuple[Context, Context]],
    steps: list[tuple[int, str, int]],
    version: str,
    tail: bool,
) -> None:
    client, server = contexts[version]
    halves = [Half(client.new_session("connect", HOST)), Half(server.new_session("accept", None))]
    a, b = halves
    for who, what, amount in steps:
        halves[who].act(what, amount, halves[1 - who])
    for _ in range(60):
        for half, peer in ((a, b), (b, a)):
            half.act("drain", 0, peer)
            half.act("carry", 1 << 20, peer)
    assert (a.got, b.got) == (b.sent, a.sent)
    for half, peer in ((a, b), (b, a)):
        if not half.closed:
            half.act("shutdown", 0, peer)
    a.act("drain", 0, b)
    b.act("drain", 0, a)
    for half in (a, b):
        if tail:
            half.wire += b"clear text"
        half.act("carry", 1 << 20, Half(None))
        assert half.session.state == "closed"
        assert half.session.unused_data == (b"clear text" if tail else b"")
        half.session.feed(b"")
        with pytest.raises(TlsError):
            half.session.write(b"x")
