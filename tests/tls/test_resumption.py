"""Sessions are resumed, and nothing is forgotten by it."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ae_handle import TlsError
from ae_tls import Context, Session, VerifyInfo
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


def test_with_a_verify_callback_nothing_is_resumed(
    ca: CertificateAuthority, server: Context, join: Join
) -> None:
    """It may accept what we would refuse, a wrong name here; and it wants to see the chain."""
    seen: list[tuple[int, str]] = []

    def pin(info: VerifyInfo) -> bool:
        seen.append((info.depth, info.reason))
        return True

    client = Context(ca_cert=ca.cert, verify_callback=pin)
    for _ in range(2):
        a, b = join(client, server, "other.example")
        assert a.resumed is False
        finish(a, b)
        assert not client.can_resume("other.example")
    assert seen == [(1, ""), (0, "wrong-name")] * 2
    lax = Context(verify=False, verify_callback=pin)  # nothing is verified, so it is not asked
    for expected in (False, True):
        a, b = join(lax, server)
        assert a.resumed is expected
        finish(a, b)
    assert len(seen) == 4


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[dt.timedelta], None]:
    """Let the time of the day be later, for what is resumed; OpenSSL does not notice."""

    def move(by: dt.timedelta) -> None:
        now = SimpleNamespace(time=lambda: time.time() + by.total_seconds())
        monkeypatch.setattr("ae_tls._resumption.time", now)

    return move


VERSIONS = pytest.mark.parametrize("version", ["1.2", "1.3"])


@VERSIONS
@pytest.mark.parametrize("what", ["leaf", "middle", "root"])
def test_a_chain_that_has_expired_since_is_shown_again(
    join: Join, later: Callable[[dt.timedelta], None], version: Any, what: str
) -> None:
    soon = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(hours=2)
    end = {what: {"not_after": soon}}
    root = CertificateAuthority("root", **end.get("root", {}))
    middle = root.intermediate("middle", **end.get("middle", {}))
    leaf = middle.issue(HOST, **end.get("leaf", {}))
    client = Context(ca_cert=root.cert)
    server = Context(cert=leaf.chain, key=leaf.key, max_version=version)
    for hours, expected in ((0, False), (1, True), (3, False)):
        later(dt.timedelta(hours=hours))
        assert client.can_resume(HOST) is expected
        a, b = join(client, server)
        assert a.resumed is expected
        assert a.chain == [leaf.cert, middle.cert, root.cert]
        finish(a, b)


@VERSIONS
def test_a_session_is_not_kept_alive_for_ever_by_resuming_it(
    ca: CertificateAuthority,
    leaf: Leaf,
    join: Join,
    later: Callable[[dt.timedelta], None],
    version: Any,
) -> None:
    client = Context(ca_cert=ca.cert)
    server = Context(cert=leaf.chain, key=leaf.key, max_version=version)
    for hours, expected in ((0, False), (10, True), (20, True), (30, False)):
        later(dt.timedelta(hours=hours))
        a, b = join(client, server)
        assert a.resumed is expected
        finish(a, b)


@VERSIONS
def test_a_server_revoked_since_is_not_resumed(
    ca: CertificateAuthority, leaf: Leaf, join: Join, refusal: Refusal, version: Any
) -> None:
    stores: list[Any] = []
    older = dt.datetime.now(dt.UTC) - dt.timedelta(hours=2)
    client = Context(
        ca_cert=[ca.cert, ca.crl(last_update=older)],
        check_crl=True,
        prepare=lambda native: stores.append(native.get_cert_store()),
    )
    server = Context(cert=leaf.chain, key=leaf.key, max_version=version)
    for expected in (False, True):
        a, b = join(client, server)
        assert a.resumed is expected
        finish(a, b)
    stores[0].add_crl(ca.crl(leaf, last_update=older + dt.timedelta(hours=1)))
    assert not client.can_resume(HOST)
    assert refusal(client, server).reason == "revoked"


def test_with_a_stapled_response_a_session_is_resumed_as_long_as_that_is_good(
    ca: CertificateAuthority, leaf: Leaf, join: Join
) -> None:
    client = Context(ca_cert=ca.cert, ocsp="require")
    staple = ca.ocsp_response(leaf)
    server = Context(cert=leaf.chain, key=leaf.key, ocsp=staple)
    for expected in (False, True):
        a, b = join(client, server)
        assert a.resumed is expected
        finish(a, b)
    assert client._sessions is not None
    proof = client._sessions._by_name[HOST][0][2]
    assert proof is not None
    assert proof.staple == staple
    week = dt.timedelta(days=7)
    now = dt.datetime.now(dt.UTC)
    proof.staple = ca.ocsp_response(leaf, this_update=now - 2 * week, next_update=now - week)
    assert not client.can_resume(HOST)
    a, _ = join(client, server)
    assert (a.resumed, a.ocsp_response) == (False, staple)


@VERSIONS
def test_the_same_host_spelt_otherwise_is_resumed(
    ca: CertificateAuthority, leaf: Leaf, join: Join, version: Any
) -> None:
    client = Context(ca_cert=ca.cert)
    server = Context(cert=leaf.chain, key=leaf.key, max_version=version)
    finish(*join(client, server))
    assert client.can_resume("WWW.Example.ORG.")
    a, _ = join(client, server, "WWW.Example.ORG.")
    assert a.resumed


@VERSIONS
def test_a_session_is_offered_only_by_the_context_it_was_made_in(
    ca: CertificateAuthority, leaf: Leaf, join: Join, refusal: Refusal, version: Any
) -> None:
    """Whatever the others demand: nothing, another CA, CRLs, a staple, another version."""
    server = Context(cert=leaf.chain, key=leaf.key, max_version=version)
    lax = Context(verify=False)
    finish(*join(lax, server))
    assert lax.can_resume(HOST)
    stranger = CertificateAuthority("stranger").cert
    for options, reason in (
        ({"ca_cert": ca.cert, "ocsp": "require"}, "revocation-unknown"),
        ({"ca_cert": stranger}, "untrusted"),
        ({"ca_cert": ca.cert, "check_crl": True}, "revocation-unknown"),
        ({"ca_cert": [ca.cert, ca.crl(leaf)], "check_crl": True}, "revoked"),
        ({"ca_cert": ca.cert, "verify_callback": lambda info: info.depth > 0}, "refused"),
    ):
        strict = Context(**options)  # type: ignore[arg-type]
        assert not strict.can_resume(HOST)
        assert refusal(strict, server).reason == reason
    assert refusal(Context(ca_cert=ca.cert), server, "other.example.org").reason == "wrong-name"
    a, _ = join(Context(ca_cert=ca.cert), server)
    assert a.resumed is False


@VERSIONS
def test_the_sessions_of_a_connection_that_failed_are_forgotten(
    ca: CertificateAuthority, leaf: Leaf, join: Join, version: Any
) -> None:
    """RFC 5246 7.2.2: and another connection to that name offers none of them, either."""
    client = Context(ca_cert=ca.cert)
    server = Context(cert=leaf.chain, key=leaf.key, max_version=version)
    finish(*join(client, server))
    a, b = join(client, server)
    assert a.resumed
    b.write(b"data")
    forged = bytearray(b.drain())
    forged[-1] ^= 1
    with pytest.raises(TlsError):
        a.feed(bytes(forged))
    assert not client.can_resume(HOST)
    assert join(client, server)[0].resumed is False


@VERSIONS
def test_a_server_that_refuses_to_resume_is_not_offered_that_again(
    ca: CertificateAuthority, leaf: Leaf, join: Join, version: Any
) -> None:
    client = Context(ca_cert=ca.cert)
    finish(*join(client, Context(cert=leaf.chain, key=leaf.key, max_version=version)))
    a = client.new_session("connect", HOST)
    a.drain()
    with pytest.raises(TlsError):
        a.feed(b"\x15\x03\x03\x00\x02\x02\x28")
    assert not client.can_resume(HOST)


@VERSIONS
@pytest.mark.parametrize("gone", ["both", "client", "server"])
def test_can_resume_tells_the_truth_about_connections_that_were_dropped(
    ca: CertificateAuthority, leaf: Leaf, join: Join, version: Any, gone: str
) -> None:
    """OpenSSL spoils a session whose connection goes away without close_notify, if it is let."""
    client = Context(ca_cert=ca.cert)
    server = Context(cert=leaf.chain, key=leaf.key, max_version=version)
    said, done, kept = [], [], []
    for _ in range(5):
        said.append(client.can_resume(HOST))
        a, b = join(client, server)
        done.append(a.resumed)
        if gone == "client":
            kept.append(b)
        elif gone == "server":
            kept.append(a)
        del a, b
    assert said == done == [False, True, True, True, True]


def test_a_server_without_certificate_is_refused_though_a_session_was_offered(
    ca: CertificateAuthority, leaf: Leaf, join: Join, refusal: Refusal
) -> None:
    """By a cipher without authentication, which somebody has asked for."""
    anonymous: Any = {"cipher_list": "ECDHE+AESGCM:AECDH:@SECLEVEL=0", "max_version": "1.2"}
    client = Context(ca_cert=ca.cert, **anonymous)
    finish(*join(client, Context(cert=leaf.chain, key=leaf.key)))
    assert client.can_resume(HOST)
    nobody: Any = {**anonymous, "cipher_list": "AECDH:@SECLEVEL=0"}
    server = Context(cert=leaf.chain, key=leaf.key, **nobody)
    with pytest.raises(TlsError) as caught:
        join(client, server)
    assert caught.value.reason == "no-certificate"
    assert not client.can_resume(HOST)
    lax = Context(verify=False, **anonymous)
    assert join(lax, server)[0].certificate is None
    members = Context(
        cert=leaf.chain, key=leaf.key, ca_cert=ca.cert, verify_require_client_cert=True, **nobody
    )
    assert refusal(lax, members, by="accept").reason == "protocol"  # OpenSSL does not even begin


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

    def holds(proof: object) -> bool:
        return True

    assert store.take("host0", holds) is None
    taken = [store.take("host999", holds) for _ in range(5)]
    assert taken == [(session, None)] * 4 + [None]
    store.put("a", session, "TLSv1.2")
    store.put("a", session, "TLSv1.2")
    assert store.take("a", holds) == store.take("a", holds) == (session, None)


def test_the_memory_of_clients_is_bounded(ca: CertificateAuthority) -> None:
    from ae_tls._resumption import Proof, ProofStore

    store = ProofStore()
    proofs = [Proof((ca.issue(f"host{number}").cert,)) for number in range(1030)]
    for proof in proofs:
        store.put(proof)
    assert store.get(proofs[5].chain[0]) is None
    assert store.get(proofs[6].chain[0]) is proofs[6]
