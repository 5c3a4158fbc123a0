"""Host names: a generated matrix, judged twice.

Every pair of a certificate and a name goes through a real handshake, and through the verifier of
``cryptography``, which shares no code with ours.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from ae_handle import TlsError
from ae_tls import Context, certificate_name
from ae_tls._verify import SCHEMES, ascii_host, ip_of, mismatch, subject_of
from ae_tls.testing import CertificateAuthority, pump

HOST = "www.example.org"
Refusal = Callable[..., TlsError]

PRESENTED = (
    "www.example.org",
    "WWW.EXAMPLE.ORG",
    "example.org",
    "sub.example.org",
    "a.example.org",
    "*.example.org",
    "*.EXAMPLE.org",
    "*.sub.example.org",
    "*.a.b.c.d.example.org",
    "*.org",
    "*.co.uk",
    "*.localhost",
    "*",
    "*.",
    "w*.example.org",
    "*w.example.org",
    "w*w.example.org",
    "www.*.org",
    "www.example.*",
    "*.*.example.org",
    "a.*.example.org",
    "**.example.org",
    "xn--bcher-kva.example",
    "*.xn--bcher-kva.example",
    "xn--*.example.org",
    "www.example.org.",
    "*.example.org.",
    ".example.org",
    "example..org",
    " www.example.org",
    "www.example.org ",
    "www.example.org\0.evil.example",
    "www.example.org\n",
    "127.0.0.1",
    "10.0.0.1",
    "::1",
    "2001:db8::1",
    "1.2.3.4.example.org",
    "localhost",
    "_sip.example.org",
    "a_b.example.org",
    "-a.example.org",
    f"{'a' * 63}.example.org",
    f"{'a' * 64}.example.org",
    "https://www.example.org/",
    "",
)
WANTED = (
    "www.example.org",
    "WWW.example.ORG",
    "www.example.org.",
    "example.org",
    "sub.example.org",
    "a.sub.example.org",
    "a.b.example.org",
    "x.a.b.c.d.example.org",
    "org",
    "w.example.org",
    "ww.example.org",
    "wxw.example.org",
    "xn--bcher-kva.example",
    "www.xn--bcher-kva.example",
    "xn--abc.example.org",
    "example.co.uk",
    "evil.example",
    "a.localhost",
    "localhost",
    "127.0.0.1",
    "10.0.0.1",
    "10.0.0.2",
    "::1",
    "0:0:0:0:0:0:0:1",
    "2001:db8::1",
    "2001:db8::2",
    f"{'a' * 63}.example.org",
)
# Where we are stricter than cryptography on purpose: a wildcard needs two labels below it, as
# upstream's manual promises (its code does not).
STRICTER = {("*.org", "example.org"), ("*.localhost", "a.localhost")}


def accepts(client: Context, server: Context, name: str) -> bool:
    """Whether a real handshake gets through; a refusal must be about the name."""
    a = client.new_session("connect", name)
    b = server.new_session("accept", None)
    b.write(b"secret")
    try:
        pump(a, b)
    except TlsError as error:
        if error.reason == "alert":
            with pytest.raises(TlsError) as caught:
                a.feed(b"")
            error = caught.value
        assert error.reason == "wrong-name", error  # noqa: PT017
        assert a.read() == b""
        return False
    assert a.read() == b"secret"
    return True


def second_opinion(ca: CertificateAuthority, certificate: x509.Certificate, name: str) -> bool:
    subject: Any
    try:
        subject = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        subject = x509.DNSName(name.rstrip("."))
    try:
        verifier = PolicyBuilder().store(Store([ca.cert])).build_server_verifier(subject)
        verifier.verify(certificate, [])
    except VerificationError:
        return False
    return True


@pytest.mark.parametrize("presented", PRESENTED, ids=repr)
def test_names_agree_with_a_second_opinion(
    ca: CertificateAuthority,
    presented: str,
    tally: Counter[str],
    record_property: Callable[[str, object], None],
) -> None:
    leaf = ca.issue(presented)
    client = Context(ca_cert=ca.cert, session_cache=False)
    server = Context(cert=leaf.chain, key=leaf.key)
    for wanted in WANTED:
        ours = accepts(client, server, wanted)
        theirs = second_opinion(ca, leaf.cert, wanted)
        assert ours == (theirs and (presented, wanted) not in STRICTER), wanted
        tally["names, agreed with cryptography's verifier"] += 1
        tally["names, accepted of these"] += ours
    record_property("cases", len(WANTED))


@pytest.mark.parametrize(
    ("presented", "wanted", "expected"),
    [
        # Names that cryptography's verifier cannot be asked about.
        (["_sip.example.org"], "_sip.example.org", True),
        (["*.example.org"], "a_b.example.org", True),
        # A label's own form is no matter (RFC 9525 6.3).
        (["*.example.org"], "a-.example.org", True),
        (["*.example.org"], "-a.example.org", True),
        (["*.a-.example.org"], "www.a-.example.org", True),
        (["a-.example.org"], "a-.example.org", True),
        (["a-.example.org"], "a.example.org", False),
        (["*.example.org"], "-.example.org", True),
        (["example.org"], "a_b.example.org", False),
        (["xn--bcher-kva.example"], "bücher.example", True),
        (["xn--bcher-kva.example"], "BÜCHER.example", True),
        (["*.example.org"], "bücher.example.org", True),
        (["xn--strae-oqa.example"], "straße.example", True),
        (["strasse.example"], "straße.example", False),
        (["fass.example"], "faß.example", False),
        (["fe80::1"], "fe80::1%eth0", True),
        (["fe80::1"], "[fe80::1]", True),
        (["127.0.0.1"], "127.0.0.1.", False),
        # Several names: one good one is enough, whatever stands beside it.
        (["a.example", "b.example", "127.0.0.1"], "b.example", True),
        (["a.example", "b.example", "127.0.0.1"], "127.0.0.1", True),
        (["a.example", "b.example", "127.0.0.1"], "c.example", False),
        (["*.org", "w*.x.org", "", "www.example.org"], "www.example.org", True),
        (["*.org", "w*.x.org", "", "*.example.org"], "www.example.org", True),
    ],
)
def test_more_names(
    ca: CertificateAuthority,
    presented: list[str],
    wanted: str,
    expected: bool,
    tally: Counter[str],
) -> None:
    leaf = ca.issue(*presented)
    if ascii_host(wanted) is None and ip_of(wanted) is None:
        assert mismatch(leaf.cert, wanted, "dns") == f"{wanted!r} is not a host name"
        assert expected is False
    else:
        client = Context(ca_cert=ca.cert)
        server = Context(cert=leaf.chain, key=leaf.key)
        assert accepts(client, server, wanted) is expected
    tally["names, further"] += 1


def test_the_common_name_is_never_looked_at(ca: CertificateAuthority, refusal: Refusal) -> None:
    client = Context(ca_cert=ca.cert)
    for names in ((), ("other.example",)):
        leaf = ca.issue(*names, common_name=HOST)
        error = refusal(client, Context(cert=leaf.chain, key=leaf.key))
        assert error.reason == "wrong-name"
    assert "'other.example'" in str(error)


def test_an_ip_address_matches_no_dns_name(ca: CertificateAuthority, refusal: Refusal) -> None:
    leaf = ca.issue(x509.DNSName("127.0.0.1"), x509.DNSName(HOST))
    client, server = Context(ca_cert=ca.cert), Context(cert=leaf.chain, key=leaf.key)
    assert refusal(client, server, "127.0.0.1").reason == "wrong-name"


def test_other_kinds_of_names_match_nothing(ca: CertificateAuthority, refusal: Refusal) -> None:
    leaf = ca.issue(
        x509.UniformResourceIdentifier(f"https://{HOST}:443/"),
        x509.RFC822Name(f"postmaster@{HOST}"),
        x509.DirectoryName(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])),
    )
    client, server = Context(ca_cert=ca.cert), Context(cert=leaf.chain, key=leaf.key)
    error = refusal(client, server)
    assert (error.reason, "no such name" in str(error)) == ("wrong-name", True)


def test_a_network_is_no_address(ca: CertificateAuthority, refusal: Refusal) -> None:
    network = x509.IPAddress(ipaddress.ip_network("127.0.0.0/8"))
    leaf = ca.issue(network)
    client, server = Context(ca_cert=ca.cert), Context(cert=leaf.chain, key=leaf.key)
    assert refusal(client, server, "127.0.0.1").reason == "wrong-name"


def srv(text: str, tag: int = 0x16) -> x509.OtherName:
    """Make an SRV-ID: an IA5String in an otherName (RFC 4985 2)."""
    value = text.encode()
    return x509.OtherName(
        x509.ObjectIdentifier("1.3.6.1.5.5.7.8.7"), bytes([tag, len(value)]) + value
    )


@pytest.mark.parametrize(
    ("presented", "scheme", "expected"),
    [
        (srv("_xmpp-client.example.org"), "xmpp", True),
        (srv("_XMPP-Client.Example.Org"), "xmpp", True),
        (srv("_xmpp-client.example.org"), "_xmpp-client", True),
        (srv("_xmpp-client.example.org"), "xmpp-server", False),
        (srv("_xmpp-client.example.org"), "dns", False),
        (srv("_xmpp-client.example.org"), "imap", False),
        (srv("_xmpp-client.example.net"), "xmpp", False),
        (srv("_xmpp-client.*.org"), "xmpp", False),
        (srv("xmpp-client.example.org"), "xmpp", False),
        (srv("_xmpp-client"), "xmpp", False),
        (srv(""), "xmpp", False),
        (srv("_xmpp-client.example.org", tag=0x04), "xmpp", False),
        (srv("_imap.example.org"), "imap", True),
        (srv("_imaps.example.org"), "imaps", True),
        (srv("_pop3.example.org"), "pop3", True),
        (srv("_ldap.example.org"), "ldap", True),
        (srv("_sip.example.org"), "_sip", True),
        (x509.DNSName("example.org"), "xmpp", True),
        (x509.DNSName("example.org"), "smtp", True),
        (x509.DNSName("*.example.org"), "xmpp", False),
    ],
)
def test_service_names(
    ca: CertificateAuthority, presented: Any, scheme: str, expected: bool, tally: Counter[str]
) -> None:
    leaf = ca.issue(presented)
    client = Context(ca_cert=ca.cert, verify_name=scheme)
    assert accepts(client, Context(cert=leaf.chain, key=leaf.key), "example.org") is expected
    tally["names, service names"] += 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_checks_host_names(
    ca: CertificateAuthority, server: Context, refusal: Refusal, scheme: str
) -> None:
    client = Context(ca_cert=ca.cert, verify_name=scheme)
    assert accepts(client, server, HOST)
    assert refusal(client, server, "other.example").reason == "wrong-name"


def test_a_certificate_with_broken_extensions_is_refused(ca: CertificateAuthority) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    certificate = ca.issue("www.example.org").cert
    der = certificate.public_bytes(Encoding.DER)
    broken = x509.load_der_x509_certificate(der.replace(b"www.example.org", b"www.ex\xffmple.org"))
    found = mismatch(broken, HOST, "dns")
    assert found is not None
    assert "cannot be read" in found
    assert subject_of(broken) == "no subject"


def test_a_certificate_is_named_on_one_line(ca: CertificateAuthority) -> None:
    assert certificate_name(ca.issue(HOST).cert) == "www.example.org (issued by CN=test CA)"
    assert certificate_name(ca.cert) == "CN=test CA (issued by CN=test CA)"


@pytest.mark.parametrize("names", [(), ("a\x1b[2J.example",)])
def test_name_of_a_certificate_is_one_line_that_no_terminal_obeys(names: tuple[str, ...]) -> None:
    ca = CertificateAuthority("CA \x1b[2J\n\u202e")
    leaf = ca.issue(*names, common_name=None if names else "x\x1b[2J\n\u202ey")
    text = certificate_name(leaf.cert)
    assert text.isprintable()
    assert text.endswith(" (issued by CN=CA \\x1b[2J\\n\\u202e)")
    assert "\\x1b[2J" in subject_of(leaf.cert)


def test_a_long_list_of_names_is_shortened(ca: CertificateAuthority, refusal: Refusal) -> None:
    leaf = ca.issue(*(f"host{n}.example" for n in range(50)))
    error = refusal(Context(ca_cert=ca.cert), Context(cert=leaf.chain, key=leaf.key))
    assert str(error).endswith("'host7.example' and 42 more")


def test_a_name_outside_ascii_needs_idna(monkeypatch: pytest.MonkeyPatch) -> None:
    ascii_host.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "idna", None)
    assert ascii_host("bücher.example") is None
    ascii_host.cache_clear()
    monkeypatch.undo()
    assert ascii_host("bücher.example") == "xn--bcher-kva.example"
    assert ascii_host("\u2488.example") is None
    assert ascii_host("a\ud800.example") is None


def test_names_of_any_length() -> None:
    longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    assert len(longest) == 253
    assert ascii_host(longest) == longest
    assert ascii_host(longest + ".") == longest
    assert ascii_host("e" + longest) is None
