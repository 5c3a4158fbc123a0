"""Sessions are resumed, and nothing is forgotten by it."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from ae_handle import TlsError
from ae_tls import Context, Session, VerifyInfo
from ae_tls._facts import Facts
from ae_tls.testing import CertificateAuthority, Leaf, pump

HOST = "www.example.org"
Join = Callable[..., tuple[Session, Session]]
Refusal = Callable[..., TlsError]


def finish(a: Session, b: Session) -> None:
    """Close both sides properly, so that their session may be resumed."""
    a.shutdown()
    b.shutdown()
    pump(a, b)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_sessions_are_resumed(
    ca: CertificateAuthority, leaf: Leaf, join: Join, version: Any
) -> None:
    client = Context(ca_cert=ca.cert)
    server = Context(cert=leaf.chain, key=leaf.key, max_version=version)
    resumed = []
    assert not client.can_resume(HOST)
    for _ in range(4):
        a, b = join(client, server)
        a.write(b"data")
        pump(a, b)
        assert b.read() == b"data"
        assert a.certificate == leaf.cert
        resumed.append(a.resumed)
        finish(a, b)
    assert resumed == [False, True, True, True]
    assert client.can_resume(HOST)
    assert not client.can_resume("127.0.0.1")
    a, b = join(client, server, "127.0.0.1")
    assert a.resumed is False  # another name is another peer


def test_two_connections_at_once_are_both_resumed(
    client: Context, server: Context, join: Join
) -> None:
    finish(*join(client, server))
    first = join(client, server)
    second = join(client, server)
    assert first[0].resumed
    assert second[0].resumed


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_session_that_was_cut_off_is_resumed(
    ca: CertificateAuthority, leaf: Leaf, join: Join, version: Any
) -> None:
    client = Context(ca_cert=ca.cert)
    server = Context(cert=leaf.chain, key=leaf.key, max_version=version)
    for expected in (False, True, True, True):
        a, b = join(client, server)
        assert a.resumed is expected
        with contextlib.suppress(TlsError):
            a.feed(b"")
        del a, b


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("off", ["client", "server"])
def test_resumption_can_be_turned_off(
    ca: CertificateAuthority, leaf: Leaf, join: Join, version: Any, off: str
) -> None:
    client = Context(ca_cert=ca.cert, session_cache=off != "client")
    server = Context(
        cert=leaf.chain, key=leaf.key, max_version=version, session_cache=off != "server"
    )
    for _ in range(2):
        a, b = join(client, server)
        assert a.resumed is False
        finish(a, b)


def test_a_resumed_session_is_checked_again(
    ca: CertificateAuthority, leaf: Leaf, server: Context, join: Join
) -> None:
    """What a function said once it need not say again."""
    answers = [True, True, False]
    client = Context(ca_cert=ca.cert, verify_name=lambda cert, name: answers.pop(0))
    for expected in (False, True):
        a, b = join(client, server)
        assert a.resumed is expected
        finish(a, b)
    with pytest.raises(TlsError) as caught:
        join(client, server)
    assert caught.value.reason == "refused"
    assert answers == []


def test_verify_callback_is_asked_again_about_a_resumed_session(
    ca: CertificateAuthority, server: Context, join: Join
) -> None:
    """It may have accepted what we would refuse: a wrong name, here."""
    seen: list[tuple[int, str]] = []

    def pin(info: VerifyInfo) -> bool:
        seen.append((info.depth, info.reason))
        return True

    client = Context(ca_cert=ca.cert, verify_callback=pin)
    for expected in (False, True):
        a, b = join(client, server, "other.example")
        assert a.resumed is expected
        finish(a, b)
    assert seen == [(1, ""), (0, "wrong-name"), (0, "wrong-name")]


def test_a_certificate_that_expired_meanwhile_is_not_resumed(
    client: Context, server: Context, leaf: Leaf
) -> None:
    expired = CertificateAuthority().issue(
        HOST,
        not_before=dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        not_after=dt.datetime(2021, 1, 1, tzinfo=dt.UTC),
    )
    for certificate, reason in ((expired.cert, "expired"), (leaf.cert, None), (None, "no-certif")):
        facts = Facts("connect", HOST, True, "dns", None)
        error = facts.judge_resumed(certificate)
        assert (None if error is None else error.reason[:9]) == reason
    assert Facts("accept", None, True, None, None).judge_resumed(None) is None


def test_a_server_checks_the_client_of_a_resumed_session_again(
    ca: CertificateAuthority, leaf: Leaf, join: Join
) -> None:
    answers = [True, True, False]
    mine = ca.issue(common_name="me")
    client = Context(ca_cert=ca.cert, cert=mine.chain, key=mine.key)
    server = Context(
        cert=leaf.chain,
        key=leaf.key,
        ca_cert=ca.cert,
        verify_require_client_cert=True,
        verify_name=lambda certificate, name: answers.pop(0),
    )
    for expected in (False, True):
        a, b = join(client, server)
        assert a.resumed is expected
        finish(a, b)
    with pytest.raises(TlsError) as caught:
        join(client, server)
    assert caught.value.reason == "refused"


def test_a_server_that_forgot_the_session_gets_a_full_handshake(
    client: Context, leaf: Leaf, server: Context, join: Join
) -> None:
    finish(*join(client, server))
    a, _ = join(client, Context(cert=leaf.chain, key=leaf.key))
    assert a.resumed is False


def test_a_session_with_a_client_certificate_is_resumed(
    ca: CertificateAuthority, leaf: Leaf, join: Join
) -> None:
    mine = ca.issue(common_name="me")
    client = Context(ca_cert=ca.cert, cert=mine.chain, key=mine.key)
    server = Context(
        cert=leaf.chain, key=leaf.key, ca_cert=ca.cert, verify_require_client_cert=True
    )
    for expected in (False, True):
        a, b = join(client, server)
        assert a.resumed is expected
        assert b.certificate == mine.cert
        finish(a, b)


def test_the_store_of_sessions_is_bounded(client: Context, server: Context, join: Join) -> None:
    from ae_tls._resumption import SessionStore

    a, _ = join(client, server)
    session = a._conn.get_session()
    assert session is not None
    store = SessionStore()
    for number in range(1000):
        for _ in range(10):
            store.put(f"host{number}", session, "TLSv1.3")
    assert store.take("host0") is None
    taken = [store.take("host999") for _ in range(5)]
    assert taken == [session] * 4 + [None]
    store.put("a", session, "TLSv1.2")
    store.put("a", session, "TLSv1.2")
    assert store.take("a") is store.take("a") is session
