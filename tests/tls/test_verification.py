"""Who is the peer? Name checks, callbacks and client certificates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ae_handle import TlsError
from ae_tls import Context, Session, VerifyInfo
from ae_tls.testing import CertificateAuthority, Leaf

HOST = "www.example.org"
Join = Callable[..., tuple[Session, Session]]
Refusal = Callable[..., TlsError]


# Verification --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, ""])
def test_a_name_is_needed_where_it_is_checked(client: Context, name: str | None) -> None:
    with pytest.raises(TlsError, match="peer_name") as caught:
        client.new_session("connect", name)
    assert caught.value.reason == "no-name"


@pytest.mark.parametrize("name", ["unix/", "a b", "*.example.org", "x" * 64, "1.2.3", "a..b", "."])
def test_a_name_no_certificate_can_have_is_refused_at_once(client: Context, name: str) -> None:
    with pytest.raises(TlsError, match="not a host name") as caught:
        client.new_session("connect", name)
    assert caught.value.reason == "wrong-name"


def test_verify_off_turns_everything_off(server: Context, join: Join) -> None:
    calls: list[VerifyInfo] = []
    client = Context(verify=False, verify_callback=calls.append)
    for name in (None, "", "other.example", "unix/", HOST):
        a, _ = join(client, server, name)
        assert a.certificate is not None
    assert calls == []


def test_name_check_may_be_left_out(
    ca: CertificateAuthority, server: Context, join: Join, refusal: Refusal
) -> None:
    for none in (None, "none"):
        join(Context(ca_cert=ca.cert, verify_name=none), server, "other.example")
        join(Context(ca_cert=ca.cert, verify_name=none), server, None)
    other = CertificateAuthority("other")
    assert refusal(Context(ca_cert=other.cert, verify_name=None), server).reason == "untrusted"


def test_name_check_by_a_function(
    ca: CertificateAuthority, leaf: Leaf, server: Context, join: Join, refusal: Refusal
) -> None:
    asked = []

    def check(certificate: Any, name: str) -> bool:
        asked.append((certificate, name))
        return name == "friend"

    client = Context(ca_cert=ca.cert, verify_name=check)
    join(client, server, "friend")
    assert refusal(client, server, "stranger").reason == "refused"
    assert asked == [(leaf.cert, "friend"), (leaf.cert, "stranger")]

    def broken(certificate: Any, name: str) -> bool:
        raise LookupError("no table")

    error = refusal(Context(ca_cert=ca.cert, verify_name=broken), server)
    assert error.reason == "refused"
    assert isinstance(error.__cause__, LookupError)


def test_verify_callback_sees_every_certificate_and_has_the_last_word(
    server: Context, ca: CertificateAuthority, leaf: Leaf, join: Join, refusal: Refusal
) -> None:
    seen: list[VerifyInfo] = []

    def approve(info: VerifyInfo) -> bool:
        seen.append(info)
        return True

    join(Context(ca_cert=ca.cert, verify_callback=approve), server)
    assert [(i.depth, i.certificate, i.ok, i.reason) for i in seen] == [
        (1, ca.cert, True, ""),
        (0, leaf.cert, True, ""),
    ]
    assert {(i.role, i.peer_name) for i in seen} == {("connect", HOST)}
    assert repr(seen[1]) == "<VerifyInfo depth=0 'www.example.org' ok>"

    seen.clear()
    join(Context(ca_cert=ca.cert, verify_callback=approve), server, "other.example")
    assert [(i.depth, i.ok, i.reason) for i in seen] == [
        (1, True, ""),
        (0, False, "wrong-name"),
    ]
    assert "other.example" in seen[1].message
    assert "wrong-name" in repr(seen[1])

    stranger = CertificateAuthority("stranger")
    join(Context(ca_cert=stranger.cert, verify_callback=approve), server)

    client = Context(ca_cert=ca.cert, verify_callback=lambda info: info.depth != 0)
    error = refusal(client, server)
    assert (error.reason, "www.example.org" in str(error)) == ("refused", True)

    client = Context(ca_cert=ca.cert, verify_callback=lambda info: info.ok)
    join(client, server)
    assert refusal(client, server, "other.example").reason == "wrong-name"


def test_a_verify_callback_that_raises_says_no(
    server: Context, ca: CertificateAuthority, refusal: Refusal
) -> None:
    def broken(info: VerifyInfo) -> bool:
        raise LookupError("no table")

    error = refusal(Context(ca_cert=ca.cert, verify_callback=broken), server)
    assert error.reason == "refused"
    assert isinstance(error.__cause__, LookupError)


# Client certificates -------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_client_certificates(
    ca: CertificateAuthority, leaf: Leaf, join: Join, refusal: Refusal, version: Any
) -> None:
    mine = ca.issue(common_name="someone", purposes=["client"])
    server = Context(
        cert=leaf.chain,
        key=leaf.key,
        ca_cert=ca.cert,
        verify_require_client_cert=True,
        max_version=version,
    )
    _, b = join(Context(ca_cert=ca.cert, cert=mine.chain, key=mine.key), server)
    assert b.certificate == mine.cert
    assert b.chain == [mine.cert, ca.cert]
    assert b.peer_name is None

    error = refusal(Context(ca_cert=ca.cert), server, by="accept")
    assert error.reason == "no-certificate"
    stranger = CertificateAuthority("stranger").issue(common_name="x", purposes=["client"])
    client = Context(ca_cert=ca.cert, cert=stranger.chain, key=stranger.key)
    assert refusal(client, server, by="accept").reason == "untrusted"
    wrong = ca.issue(common_name="x", purposes=["server"])
    client = Context(ca_cert=ca.cert, cert=wrong.chain, key=wrong.key)
    assert refusal(client, server, by="accept").reason == "wrong-purpose"


def test_a_client_certificate_may_be_asked_for_without_being_required(
    ca: CertificateAuthority, leaf: Leaf, client: Context, join: Join, refusal: Refusal
) -> None:
    server = Context(cert=leaf.chain, key=leaf.key, ca_cert=ca.cert, verify=True)
    _, b = join(client, server)
    assert b.certificate is None
    mine = ca.issue(common_name="someone")
    _, b = join(Context(ca_cert=ca.cert, cert=mine.chain, key=mine.key), server)
    assert b.certificate == mine.cert
    stranger = CertificateAuthority("stranger").issue(common_name="x")
    client = Context(ca_cert=ca.cert, cert=stranger.chain, key=stranger.key)
    assert refusal(client, server, by="accept").reason == "untrusted"


def test_a_server_may_check_client_names_by_a_function(
    ca: CertificateAuthority, leaf: Leaf, join: Join, refusal: Refusal
) -> None:
    server = Context(
        cert=leaf.chain,
        key=leaf.key,
        ca_cert=ca.cert,
        verify_require_client_cert=True,
        verify_name=lambda cert, name: "CN=friend" in cert.subject.rfc4514_string(),
    )
    for name in ("friend", "stranger"):
        mine = ca.issue(common_name=name)
        client = Context(ca_cert=ca.cert, cert=mine.chain, key=mine.key)
        if name == "friend":
            join(client, server)
        else:
            assert refusal(client, server, by="accept").reason == "refused"


def test_a_server_needs_a_certificate(client: Context) -> None:
    with pytest.raises(TlsError, match="cert_file or cert") as caught:
        client.new_session("accept", None)
    assert caught.value.reason == "no-certificate"


def test_a_role_is_connect_or_accept(client: Context) -> None:
    wrong: Any = "server"
    with pytest.raises(ValueError, match="expected 'connect' or 'accept', got 'server'"):
        client.new_session(wrong, None)
