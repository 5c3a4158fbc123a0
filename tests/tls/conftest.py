"""What the TLS tests share: one throw-away CA, and pairs of sessions joined in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from ae_tls import Context, Session
from ae_tls.testing import CertificateAuthority, Leaf, pump

Pair = tuple[Session, Session]
HOST = "www.example.org"

_TALLY: Counter[str] = Counter()


@pytest.fixture
def tally() -> Counter[str]:
    """Count what a matrix went through; the counts are printed at the end of the run."""
    return _TALLY


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for name, count in sorted(_TALLY.items()):
        terminalreporter.write_line(f"tls: {name}: {count} cases")


@pytest.fixture(scope="session")
def ca() -> CertificateAuthority:
    return CertificateAuthority("test CA")


@pytest.fixture(scope="session")
def leaf(ca: CertificateAuthority) -> Leaf:
    return ca.issue(HOST, "127.0.0.1", "::1")


@pytest.fixture
def server(leaf: Leaf) -> Context:
    return Context(cert=leaf.chain, key=leaf.key)


@pytest.fixture
def client(ca: CertificateAuthority) -> Context:
    return Context(ca_cert=ca.cert)


@pytest.fixture
def join() -> Callable[..., Pair]:
    """Make two sessions and let them shake hands; errors come out of it."""

    def make(client: Any, server: Any, name: str | None = HOST) -> Pair:
        a = client.new_session("connect", name)
        b = server.new_session("accept", None)
        pump(a, b)
        return a, b

    return make


@pytest.fixture
def refusal() -> Callable[..., Any]:
    """Let two sessions shake hands, and return the error of the one that must refuse.

    Also checks what every refusal must keep: nothing reaches the user on the refusing side, the
    other side learns of it by an alert, and neither believes in the connection.
    """
    from ae_handle import TlsError

    def check(client: Any, server: Any, name: str | None = HOST, by: str = "connect") -> TlsError:
        a = client.new_session("connect", name)
        b = server.new_session("accept", None)
        a.write(b"secret of the client")
        b.write(b"secret of the server")
        refusing, other = (a, b) if by == "connect" else (b, a)
        with pytest.raises(TlsError) as caught:
            pump(refusing, other)
        error = caught.value
        if error.reason == "alert":
            pytest.fail(f"{by} did not refuse, it was refused: {error}")
        assert refusing.state == "closed"
        assert refusing.read() == b""
        assert refusing.drain() == b""
        assert other.state == "closed"
        return error

    return check
