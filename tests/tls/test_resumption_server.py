"""A server resumes a session only where all that was decided would be decided again.

The clients are Python's own, which offer any session to anybody: the sessions of ours would not
leave the name they were made with.
"""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ae_handle import TlsError
from ae_tls import Context, Session
from ae_tls.testing import CertificateAuthority, Leaf

OPEN = "open.example.org"
MEMBERS = "members.example.org"

VERSIONS = pytest.mark.parametrize("version", ["1.2", "1.2 without tickets", "1.3"])


class Guest:
    """A client of the standard library in memory."""

    def __init__(self, ca: CertificateAuthority, version: str, card: Leaf | None = None) -> None:
        self.context = ssl.create_default_context(cadata=ca.pem)
        if version.startswith("1.2"):
            self.context.maximum_version = ssl.TLSVersion.TLSv1_2
        else:
            self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        if version.endswith("tickets"):
            self.context.options |= ssl.OP_NO_TICKET
        self.context.check_hostname = False
        self._card = card

    def show(self, folder: Path, card: Leaf) -> None:
        path = folder / "card.pem"
        path.write_text(card.key_pem + card.cert_pem)
        self.context.load_cert_chain(path)

    def visit(
        self, server: Context, name: str | None, session: ssl.SSLSession | None = None
    ) -> Visit:
        return Visit(self.context, server, name, session)


class Visit:
    """One connection, carried on until both sides have said hello."""

    def __init__(
        self,
        context: ssl.SSLContext,
        server: Context,
        name: str | None,
        session: ssl.SSLSession | None,
    ) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = context.wrap_bio(incoming, outgoing, False, name, session)
        self.server: Session = server.new_session("accept", None)
        self.refused = ""  # the reason of the server
        self.alert = ""  # what the client says of it
        self.server.write(b"welcome")
        text = b""
        for _ in range(10):
            try:
                self.client.do_handshake()
                text += self.client.read(100)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                self.alert = str(error.reason)
                break
            if text:
                break
            try:
                self.server.feed(outgoing.read())
            except TlsError as error:
                self.refused = error.reason
            incoming.write(self.server.drain())
        self.text = text
        self.resumed = bool(text) and bool(self.client.session_reused)
        self.session = self.client.session if text else None
        if text:  # the session of a connection that is dropped is not used again
            self.server.shutdown()
            incoming.write(self.server.drain())
            self.client.unwrap()
            self.server.feed(outgoing.read())


Serve = Callable[..., Context]


@pytest.fixture
def serve(ca: CertificateAuthority) -> Serve:
    """Make a context with a certificate for any of the names."""
    leaf = ca.issue("*.example.org")

    def make(**options: Any) -> Context:
        return Context(cert=leaf.chain, key=leaf.key, **options)

    return make


@pytest.fixture
def card(ca: CertificateAuthority) -> Leaf:
    return ca.issue(common_name="member 7", purposes=["client"])


# From one context to another ----------------------------------------------------------------


@VERSIONS
def test_a_client_without_certificate_does_not_enter_with_the_session_of_another_name(
    ca: CertificateAuthority, serve: Serve, version: str
) -> None:
    members = serve(ca_cert=ca.cert, verify_require_client_cert=True)
    front = serve(server_names={MEMBERS: members})
    guest = Guest(ca, version)
    first = guest.visit(front, OPEN)
    assert first.text == b"welcome"
    for name in (MEMBERS, MEMBERS.upper()):
        second = guest.visit(front, name, first.session)
        assert (second.text, second.refused) == (b"", "no-certificate")
        assert second.server.server_name == name
        assert second.server.certificate is None
    assert guest.visit(front, OPEN, first.session).resumed


@VERSIONS
@pytest.mark.parametrize("way", ["in", "out", "aside"])
def test_a_session_is_never_resumed_at_another_context(
    ca: CertificateAuthority, serve: Serve, card: Leaf, tmp_path: Path, version: str, way: str
) -> None:
    """Whatever the certificate: it was shown to, and accepted by, somebody else."""
    rules: Any = {"ca_cert": ca.cert, "verify_require_client_cert": True}
    front = serve(server_names={MEMBERS: serve(**rules), "other.example.org": serve(**rules)})
    guest = Guest(ca, version)
    guest.show(tmp_path, card)
    names = {"in": (OPEN, MEMBERS), "out": (MEMBERS, OPEN), "aside": (MEMBERS, "other.example.org")}
    first, then = names[way]
    visit = guest.visit(front, first)
    assert visit.text == b"welcome"
    there = guest.visit(front, then, visit.session)
    assert (there.text, there.resumed) == (b"welcome", False)
    shown = there.server.certificate
    assert shown == (None if then == OPEN else card.cert)
    back = guest.visit(front, first, visit.session)
    assert (back.text, back.resumed) == (b"welcome", True)
    assert back.server.server_name == first


@VERSIONS
@pytest.mark.parametrize("name", [None, "unknown.example.org", "members.example.org.evil.example"])
def test_a_name_nobody_has_is_served_by_the_default_context(
    ca: CertificateAuthority, serve: Serve, version: str, name: str | None
) -> None:
    members = serve(ca_cert=ca.cert, verify_require_client_cert=True)
    front = serve(server_names={MEMBERS: members})
    guest = Guest(ca, version)
    first = guest.visit(front, name)
    assert (first.text, first.server.server_name) == (b"welcome", name)
    assert guest.visit(front, name, first.session).resumed
    assert guest.visit(front, MEMBERS, first.session).refused == "no-certificate"


@VERSIONS
@pytest.mark.parametrize("key", [MEMBERS, "Members.EXAMPLE.org.", "*.Example.Org."])
@pytest.mark.parametrize("asked", [MEMBERS, "MEMBERS.example.ORG", f"{MEMBERS}."])
def test_a_name_is_found_however_it_is_spelt(
    ca: CertificateAuthority, serve: Serve, version: str, key: str, asked: str
) -> None:
    members = serve(ca_cert=ca.cert, verify_require_client_cert=True)
    front = serve(server_names={key: members})
    guest = Guest(ca, version)
    session = guest.visit(front, "org").session
    visit = guest.visit(front, asked, session)
    assert (visit.refused, visit.server.server_name) == ("no-certificate", asked)
    assert guest.visit(front, f"x.{MEMBERS}").text
    asked_for: list[str | None] = []
    guest.visit(serve(server_names=asked_for.append), asked)
    assert asked_for == [MEMBERS]


@VERSIONS
def test_two_contexts_made_alike_do_not_share_sessions(
    ca: CertificateAuthority, serve: Serve, version: str
) -> None:
    guest = Guest(ca, version)
    one, other = serve(), serve()
    session = guest.visit(one, OPEN).session
    assert not guest.visit(other, OPEN, session).resumed
    assert guest.visit(one, OPEN, session).resumed


@VERSIONS
def test_a_function_chooses_for_each_connection_anew(
    ca: CertificateAuthority, serve: Serve, version: str
) -> None:
    """So it does for a session it was asked about before."""
    members = serve(ca_cert=ca.cert, verify_require_client_cert=True)
    asked: list[str | None] = []
    closed = False

    def choose(name: str | None) -> Context | None:
        asked.append(name)
        return members if closed else None

    front = serve(server_names=choose)
    guest = Guest(ca, version)
    session = guest.visit(front, OPEN).session
    assert guest.visit(front, OPEN, session).resumed
    closed = True
    assert guest.visit(front, OPEN, session).refused == "no-certificate"
    assert guest.visit(front, None, session).refused == "no-certificate"
    assert asked == [OPEN, OPEN, OPEN, None]


# Every setting of the chosen context counts --------------------------------------------------


def test_the_versions_of_the_named_context_count(ca: CertificateAuthority, serve: Serve) -> None:
    front = serve(server_names={MEMBERS: serve(min_version="1.3")})
    assert Guest(ca, "1.2").visit(front, OPEN).server.version == "TLSv1.2"
    visit = Guest(ca, "1.2").visit(front, MEMBERS)
    assert (visit.refused, visit.alert) == ("protocol", "TLSV1_ALERT_PROTOCOL_VERSION")
    front = serve(min_version="1.3", server_names={MEMBERS: serve(max_version="1.2")})
    guest = Guest(ca, "1.2")
    assert guest.visit(front, MEMBERS).server.version == "TLSv1.2"
    assert guest.visit(front, OPEN).refused == "protocol"


def test_the_ciphers_of_the_named_context_count(ca: CertificateAuthority, serve: Serve) -> None:
    one, other = "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"
    front = serve(ciphersuites=one, server_names={MEMBERS: serve(ciphersuites=other)})
    guest = Guest(ca, "1.3")
    found = [guest.visit(front, name).client.cipher() for name in (OPEN, MEMBERS)]
    assert [cipher and cipher[0] for cipher in found] == [one, other]


@VERSIONS
def test_the_session_cache_of_the_named_context_counts(
    ca: CertificateAuthority, serve: Serve, version: str
) -> None:
    for off in (OPEN, MEMBERS):
        front = serve(
            session_cache=off != OPEN,
            server_names={MEMBERS: serve(session_cache=off != MEMBERS)},
        )
        guest = Guest(ca, version)
        for name in (OPEN, MEMBERS):
            session = guest.visit(front, name).session
            assert guest.visit(front, name, session).resumed is (name != off)


def test_key_log_and_staple_of_the_named_context_count(
    ca: CertificateAuthority, serve: Serve, tmp_path: Path
) -> None:
    leaf = ca.issue(MEMBERS)
    path = tmp_path / "keys.log"
    members = Context(cert=leaf.chain, key=leaf.key, key_log_file=path, ocsp=ca.ocsp_response(leaf))
    front = serve(server_names={MEMBERS: members})
    assert Guest(ca, "1.3").visit(front, OPEN).text == b"welcome"
    assert path.read_text() == ""
    assert Guest(ca, "1.3").visit(front, MEMBERS).text == b"welcome"
    assert "SERVER_TRAFFIC_SECRET_0" in path.read_text()
    client = Context(ca_cert=ca.cert, ocsp="require").new_session("connect", MEMBERS)
    server = front.new_session("accept", None)
    server.feed(client.drain())
    client.feed(server.drain())
    assert client.state == "established"


def test_the_trust_and_the_crls_of_the_named_context_count(
    ca: CertificateAuthority, serve: Serve, card: Leaf, tmp_path: Path
) -> None:
    require: Any = {"verify_require_client_cert": True}
    front = serve(
        ca_cert=ca.cert,
        **require,
        server_names={
            "a.example.org": serve(ca_cert=CertificateAuthority().cert, **require),
            "b.example.org": serve(ca_cert=[ca.cert, ca.crl(card)], check_crl=True, **require),
        },
    )
    guest = Guest(ca, "1.3")
    guest.show(tmp_path, card)
    session = guest.visit(front, OPEN).session
    assert guest.visit(front, "a.example.org", session).refused == "untrusted"
    assert guest.visit(front, "b.example.org", session).refused == "revoked"


# At one context ------------------------------------------------------------------------------


@VERSIONS
def test_a_session_is_resumed_under_its_own_name(
    ca: CertificateAuthority, serve: Serve, version: str
) -> None:
    """Up to TLS 1.2 a session belongs to a name (RFC 6066 3), in 1.3 it does not."""
    server = serve()
    guest = Guest(ca, version)
    session = guest.visit(server, OPEN).session
    for name, same in ((OPEN, True), (OPEN.upper(), True), (MEMBERS, False), (None, False)):
        visit = guest.visit(server, name, session)
        assert visit.text == b"welcome"
        assert visit.resumed is (same or version == "1.3")
        assert visit.server.server_name == name
    nameless = guest.visit(server, None).session
    assert guest.visit(server, None, nameless).resumed
    assert guest.visit(server, OPEN, nameless).resumed is (version == "1.3")


@VERSIONS
def test_a_client_with_a_certificate_is_resumed_with_it(
    ca: CertificateAuthority, serve: Serve, card: Leaf, tmp_path: Path, version: str
) -> None:
    server = serve(ca_cert=ca.cert, verify_require_client_cert=True)
    guest = Guest(ca, version)
    guest.show(tmp_path, card)
    session = None
    for expected in (False, True, True):
        visit = guest.visit(server, OPEN, session)
        assert visit.resumed is expected
        assert visit.server.certificate == card.cert
        session = visit.session


@VERSIONS
def test_a_client_below_an_intermediate_ca_is_resumed(
    ca: CertificateAuthority, serve: Serve, tmp_path: Path, version: str
) -> None:
    """A ticket does not carry its chain; the server knows it, or has it shown again."""
    card = ca.intermediate("middle").issue(common_name="member 8", purposes=["client"])
    server = serve(ca_cert=[ca.cert, ca.crl()], verify_require_client_cert=True, check_crl=True)
    guest = Guest(ca, version)
    guest.show(tmp_path, card)
    middle = card.issuers[0]
    refused = guest.visit(server, OPEN)
    assert refused.refused == "revocation-unknown"  # of the CA in the middle there is no CRL
    server = serve(ca_cert=ca.cert, verify_require_client_cert=True)
    first = guest.visit(server, OPEN)
    again = guest.visit(server, OPEN, first.session)
    assert again.resumed
    assert again.server.chain == [card.cert, middle, ca.cert]
    server._server._clients._by_certificate.clear()  # as if another process had given it
    visit = guest.visit(server, OPEN, again.session)
    assert (visit.text, visit.resumed, visit.refused) == (b"welcome", False, "")
    assert visit.server.chain == [card.cert, middle, ca.cert]


@VERSIONS
def test_a_function_that_checks_names_is_asked_about_each_resumed_client(
    ca: CertificateAuthority, serve: Serve, card: Leaf, tmp_path: Path, version: str
) -> None:
    welcome = True
    server = serve(
        ca_cert=ca.cert,
        verify_require_client_cert=True,
        verify_name=lambda certificate, name: welcome,
    )
    guest = Guest(ca, version)
    guest.show(tmp_path, card)
    session = guest.visit(server, OPEN).session
    assert guest.visit(server, OPEN, session).resumed
    welcome = False
    assert guest.visit(server, OPEN, session).refused == "refused"


@VERSIONS
def test_with_a_verify_callback_nothing_is_resumed(
    ca: CertificateAuthority, serve: Serve, card: Leaf, tmp_path: Path, version: str
) -> None:
    """It wants to see the whole chain each time."""
    depths: list[int] = []
    server = serve(
        ca_cert=ca.cert,
        verify_require_client_cert=True,
        verify_callback=lambda info: depths.append(info.depth) is None,
    )
    guest = Guest(ca, version)
    guest.show(tmp_path, card)
    session = guest.visit(server, OPEN).session
    visit = guest.visit(server, OPEN, session)
    assert (visit.text, visit.resumed) == (b"welcome", False)
    assert depths == [1, 0, 1, 0]
    lax = serve(verify_callback=lambda info: False)  # never asked: nobody is verified
    session = guest.visit(lax, OPEN).session
    assert guest.visit(lax, OPEN, session).resumed


@VERSIONS
@pytest.mark.parametrize("source", ["store", "directory"])
def test_a_client_revoked_since_is_not_resumed(
    ca: CertificateAuthority,
    serve: Serve,
    card: Leaf,
    tmp_path: Path,
    version: str,
    source: str,
) -> None:
    from OpenSSL import crypto

    def pem(thing: Any) -> bytes:
        encoded: bytes = thing.public_bytes(Encoding.PEM)
        return encoded

    stores: list[Any] = []
    options: Any = {"verify_require_client_cert": True, "check_crl": True}
    older = dt.datetime.now(dt.UTC) - dt.timedelta(hours=2)
    name = f"{crypto.X509.from_cryptography(ca.cert).subject_name_hash():08x}"
    if source == "store":
        server = serve(
            ca_cert=[ca.cert, ca.crl(last_update=older)],
            prepare=lambda native: stores.append(native.get_cert_store()),
            **options,
        )
    else:
        (tmp_path / f"{name}.0").write_bytes(pem(ca.cert))
        (tmp_path / f"{name}.r0").write_bytes(pem(ca.crl(last_update=older)))
        server = serve(ca_path=tmp_path, **options)
    guest = Guest(ca, version)
    guest.show(tmp_path, card)
    session = guest.visit(server, OPEN).session
    assert guest.visit(server, OPEN, session).resumed
    newer = ca.crl(card, last_update=dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))
    if source == "directory":
        (tmp_path / f"{name}.r1").write_bytes(pem(newer))
        assert guest.visit(server, OPEN, session).refused == "revoked"
        return
    stores[0].add_crl(newer)
    assert len(stores) == 1
    assert guest.visit(server, OPEN, session).refused == "revoked"
