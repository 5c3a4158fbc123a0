"""The CA matrix: everything that is wrong with a chain, and the reason it is refused for."""

from __future__ import annotations

import datetime as dt
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from ae_handle import TlsError
from ae_handle.abc import VERIFY_REASONS
from ae_handle.testing import ssl_context
from ae_tls import Context, Session
from ae_tls._errors import _VERIFY_TEXTS, REASONS, from_openssl, from_verify_code
from ae_tls._ocsp import judge
from ae_tls.testing import CertificateAuthority, Leaf

HOST = "www.example.org"
NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
Join = Callable[..., tuple[Session, Session]]
Refusal = Callable[..., TlsError]
Case = tuple[CertificateAuthority, Leaf]


def unknown_ca() -> Case:
    return CertificateAuthority(), CertificateAuthority("another").issue(HOST)


def unknown_ca_of_the_same_name() -> Case:
    return CertificateAuthority("same"), CertificateAuthority("same").issue(HOST)


def unknown_ca_that_was_sent() -> Case:
    other = CertificateAuthority("another")
    leaf = other.issue(HOST)
    return CertificateAuthority(), Leaf(leaf.cert, leaf.key, (other.cert,))


def missing_intermediate() -> Case:
    root = CertificateAuthority()
    leaf = root.intermediate().issue(HOST)
    return root, Leaf(leaf.cert, leaf.key)


def self_signed() -> Case:
    alone = CertificateAuthority(HOST)
    return CertificateAuthority(), Leaf(alone.cert, alone.key)


def expired() -> Case:
    ca = CertificateAuthority()
    return ca, ca.issue(HOST, not_before=NOW - 3 * DAY, not_after=NOW - DAY)


def expired_ca() -> Case:
    ca = CertificateAuthority(not_before=NOW - 3 * DAY, not_after=NOW - DAY)
    return ca, ca.issue(HOST)


def expired_intermediate() -> Case:
    root = CertificateAuthority()
    middle = root.intermediate(not_before=NOW - 3 * DAY, not_after=NOW - DAY)
    return root, middle.issue(HOST)


def not_yet_valid() -> Case:
    ca = CertificateAuthority()
    return ca, ca.issue(HOST, not_before=NOW + DAY, not_after=NOW + 3 * DAY)


def not_yet_valid_ca() -> Case:
    ca = CertificateAuthority(not_before=NOW + DAY)
    return ca, ca.issue(HOST)


def client_certificate_as_server() -> Case:
    ca = CertificateAuthority()
    return ca, ca.issue(HOST, purposes=["client"])


def mail_certificate_as_server() -> Case:
    ca = CertificateAuthority()
    return ca, ca.issue(HOST, purposes=["email"])


def issuer_is_no_ca() -> Case:
    root = CertificateAuthority()
    return root, root.intermediate("no CA", is_ca=False).issue(HOST)


def issuer_is_a_leaf() -> Case:
    root = CertificateAuthority()
    leaf = root.issue("evil.example", common_name="evil")
    forger = CertificateAuthority("evil")
    forger.key = leaf.key
    forged = forger.issue(HOST)
    return root, Leaf(forged.cert, forged.key, (leaf.cert,))


def path_too_long() -> Case:
    root = CertificateAuthority(path_length=0)
    return root, root.intermediate().issue(HOST)


def path_too_long_below() -> Case:
    root = CertificateAuthority()
    middle = root.intermediate("a", path_length=0)
    return root, middle.intermediate("b").issue(HOST)


def outside_name_constraints() -> Case:
    ca = CertificateAuthority(constraints=["example.net"])
    return ca, ca.issue(HOST)


def weak_hash() -> Case:
    ca = CertificateAuthority(key_type="rsa")
    return ca, ca.issue(HOST, weak_hash=True)


def weak_hash_of_intermediate() -> Case:
    root = CertificateAuthority(key_type="rsa")
    return root, root.intermediate(weak_hash=True).issue(HOST)


def weak_key() -> Case:
    ca = CertificateAuthority()
    return ca, ca.issue(HOST, key_type="rsa1024")


def weak_ca_key() -> Case:
    ca = CertificateAuthority(key_type="rsa1024")
    return ca, ca.issue(HOST)


def unknown_critical_extension() -> Case:
    ca = CertificateAuthority()
    return ca, ca.issue(HOST, critical_unknown=True)


def forged_signature() -> Case:
    ca = CertificateAuthority()
    impostor = CertificateAuthority()
    leaf = impostor.issue(HOST)
    return ca, leaf


def no_name() -> Case:
    ca = CertificateAuthority()
    return ca, ca.issue(common_name=HOST)


MATRIX: list[tuple[Callable[[], Case], str]] = [
    (unknown_ca, "untrusted"),
    (unknown_ca_of_the_same_name, "untrusted"),
    (unknown_ca_that_was_sent, "untrusted"),
    (missing_intermediate, "untrusted"),
    (self_signed, "self-signed"),
    (expired, "expired"),
    (expired_ca, "expired"),
    (expired_intermediate, "expired"),
    (not_yet_valid, "not-yet-valid"),
    (not_yet_valid_ca, "not-yet-valid"),
    (client_certificate_as_server, "wrong-purpose"),
    (mail_certificate_as_server, "wrong-purpose"),
    (issuer_is_no_ca, "untrusted"),
    (issuer_is_a_leaf, "untrusted"),
    (path_too_long, "untrusted"),
    (path_too_long_below, "untrusted"),
    (outside_name_constraints, "untrusted"),
    (weak_hash, "weak"),
    (weak_hash_of_intermediate, "weak"),
    (weak_key, "weak"),
    (weak_ca_key, "weak"),
    (unknown_critical_extension, "untrusted"),
    (forged_signature, "untrusted"),
    (no_name, "wrong-name"),
]


@pytest.mark.parametrize("engine", ["openssl", "ssl"])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize(("case", "reason"), MATRIX, ids=[case.__name__ for case, _ in MATRIX])
def test_a_bad_chain_is_refused_for_its_reason(
    refusal: Refusal,
    case: Callable[[], Case],
    reason: str,
    version: Any,
    engine: str,
    tally: Counter[str],
) -> None:
    ca, leaf = case()
    # The server's side must not mind its own weak key.
    server = Context(
        cert=leaf.chain,
        key=leaf.key,
        max_version=version,
        cipher_list="DEFAULT:@SECLEVEL=0",
    )
    client: Any = Context(ca_cert=ca.cert)
    if engine == "ssl":
        if case is no_name:
            return  # Python's ssl falls back on the common name by default; that is its user's
        native = ssl.create_default_context(cadata=ca.pem)
        native.set_ciphers("DEFAULT:@SECLEVEL=2")
        client = ssl_context(native)
    error = refusal(client, server)
    assert error.reason == reason
    assert "certificate" in str(error) or reason == "weak"
    tally[f"CA matrix, {engine}"] += 1


def test_what_is_good_about_these_chains_is_accepted(join: Join) -> None:
    """The matrix refuses for the faults, not for the way the certificates are made."""
    root = CertificateAuthority(path_length=2, constraints=["example.org"])
    leaf = root.intermediate("a", path_length=1).intermediate("b", path_length=0).issue(HOST)
    a, _ = join(Context(ca_cert=root.cert), Context(cert=leaf.chain, key=leaf.key))
    assert len(a.chain) == 4


# Revocation lists ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root() -> CertificateAuthority:
    return CertificateAuthority("root")


@pytest.fixture(scope="module")
def middle(root: CertificateAuthority) -> CertificateAuthority:
    return root.intermediate("middle")


def pem(*crls: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return "".join(crl.public_bytes(Encoding.PEM).decode() for crl in crls)


def test_a_revoked_certificate_is_refused(
    root: CertificateAuthority, join: Join, refusal: Refusal, tally: Counter[str], tmp_path: Any
) -> None:
    good, bad = root.issue(HOST), root.issue(HOST)
    crl = root.crl(bad)
    accepted = Context(cert=good.chain, key=good.key)
    revoked = Context(cert=bad.chain, key=bad.key)
    (tmp_path / "ca.pem").write_text(root.pem + pem(crl))
    sources: list[dict[str, Any]] = [
        {"ca_cert": [root.cert, crl]},
        {"ca_cert": root.pem + pem(crl)},
        {"ca_file": tmp_path / "ca.pem"},
    ]
    for source in sources:
        client = Context(check_crl=True, **source)
        join(client, accepted)
        assert refusal(client, revoked).reason == "revoked"
        join(Context(**source), revoked)  # nobody asked
        tally["CA matrix, revocation"] += 2


def test_a_missing_or_stale_crl_is_refused(
    root: CertificateAuthority, refusal: Refusal, tally: Counter[str]
) -> None:
    leaf = root.issue(HOST)
    server = Context(cert=leaf.chain, key=leaf.key)
    stale = root.crl(last_update=NOW - 3 * DAY, next_update=NOW - DAY)
    early = root.crl(last_update=NOW + DAY, next_update=NOW + 2 * DAY)
    foreign = CertificateAuthority("root").crl()
    for crls in ([], [stale], [early], [foreign]):
        error = refusal(Context(ca_cert=[root.cert, *crls], check_crl=True), server)
        assert error.reason == "revocation-unknown"
        tally["CA matrix, revocation"] += 1


def test_a_revoked_intermediate_is_refused_when_the_whole_chain_is_checked(
    root: CertificateAuthority, join: Join, refusal: Refusal
) -> None:
    middle = root.intermediate("middle")
    leaf = middle.issue(HOST)
    server = Context(cert=leaf.chain, key=leaf.key)
    lists = [root.crl(middle), middle.crl()]
    join(Context(ca_cert=[root.cert, *lists], check_crl=True), server)
    client = Context(ca_cert=[root.cert, *lists], check_crl="chain")
    assert refusal(client, server).reason == "revoked"
    join(Context(ca_cert=[root.cert, root.crl(), middle.crl()], check_crl="chain"), server)
    client = Context(ca_cert=[root.cert, middle.crl()], check_crl="chain")
    assert refusal(client, server).reason == "revocation-unknown"


def test_crls_are_found_in_a_hashed_directory(
    root: CertificateAuthority, refusal: Refusal, tmp_path: Any
) -> None:
    from OpenSSL import crypto

    leaf = root.issue(HOST)
    name = crypto.X509.from_cryptography(root.cert).subject_name_hash()
    (tmp_path / f"{name:08x}.0").write_text(root.pem)
    (tmp_path / f"{name:08x}.r0").write_text(pem(root.crl(leaf)))
    client = Context(ca_path=tmp_path, check_crl=True)
    assert refusal(client, Context(cert=leaf.chain, key=leaf.key)).reason == "revoked"


# Stapled OCSP responses ----------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("required", [True, False])
def test_a_good_response_is_accepted_and_can_be_read(
    middle: CertificateAuthority,
    root: CertificateAuthority,
    join: Join,
    version: Any,
    required: bool,
) -> None:
    leaf = middle.issue(HOST)
    staple = middle.ocsp_response(leaf)
    server = Context(cert=leaf.chain, key=leaf.key, ocsp=staple, max_version=version)
    client = Context(ca_cert=root.cert, ocsp="require" if required else True)
    for resumed in (False, True):
        a, b = join(client, server)
        assert a.resumed is resumed
        if not resumed:
            assert a.ocsp_response == staple
        a.shutdown()
        b.shutdown()
        a.drain()
    a, _ = join(Context(ca_cert=root.cert), server)
    assert a.ocsp_response is None  # nobody asked


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_bad_response_is_refused(
    middle: CertificateAuthority,
    root: CertificateAuthority,
    refusal: Refusal,
    version: Any,
    tally: Counter[str],
) -> None:
    leaf, other = middle.issue(HOST), middle.issue(HOST)
    answer = middle.ocsp_response
    stranger = CertificateAuthority("stranger")
    bad: list[tuple[bytes, str]] = [
        (answer(leaf, "revoked"), "revoked"),
        (answer(leaf, "unknown"), "revocation-unknown"),
        (answer(other), "revocation-unknown"),
        (answer(leaf, this_update=NOW - 3 * DAY, next_update=NOW - DAY), "revocation-unknown"),
        (answer(leaf, this_update=NOW + DAY, next_update=NOW + 2 * DAY), "revocation-unknown"),
        (answer(leaf)[:-3], "revocation-unknown"),
        (b"rubbish", "revocation-unknown"),
        (stranger.ocsp_response(leaf), "revocation-unknown"),
        (answer(leaf, responder=middle.issue(common_name="r")), "revocation-unknown"),
        (
            answer(leaf, responder=stranger.issue(common_name="r", purposes=["ocsp"])),
            "revocation-unknown",
        ),
        (
            answer(
                leaf,
                responder=middle.issue(
                    common_name="r",
                    purposes=["ocsp"],
                    not_before=NOW - 3 * DAY,
                    not_after=NOW - DAY,
                ),
            ),
            "revocation-unknown",
        ),
    ]
    for staple, reason in bad:
        server = Context(cert=leaf.chain, key=leaf.key, ocsp=staple, max_version=version)
        verdict = judge(staple, [leaf.cert, middle.cert, root.cert], required=False)
        assert verdict is not None
        assert verdict.reason == reason
        # OpenSSL's server does not hand out what is about another certificate, hence "require".
        error = refusal(Context(ca_cert=root.cert, ocsp="require"), server)
        assert error.reason == reason, error
        tally["CA matrix, stapled responses"] += 1


def test_a_missing_response_is_refused_only_if_it_is_required(
    middle: CertificateAuthority, root: CertificateAuthority, join: Join, refusal: Refusal
) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import ocsp

    leaf = middle.issue(HOST)
    busy = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
    for staple in (None, b"", lambda: b"", busy.public_bytes(Encoding.DER)):
        server = Context(cert=leaf.chain, key=leaf.key, ocsp=staple)
        join(Context(ca_cert=root.cert, ocsp=True), server)
        error = refusal(Context(ca_cert=root.cert, ocsp="require"), server)
        assert error.reason == "revocation-unknown"


def test_a_response_by_a_certified_responder_is_accepted(
    middle: CertificateAuthority, root: CertificateAuthority, join: Join
) -> None:
    for kind in ("ec", "rsa", "ed25519"):
        responder = middle.issue(common_name="responder", purposes=["ocsp"], key_type=kind)
        leaf = middle.issue(HOST)
        staple = middle.ocsp_response(leaf, responder=responder)
        server = Context(cert=leaf.chain, key=leaf.key, ocsp=[staple].pop)
        join(Context(ca_cert=root.cert, ocsp="require"), server)


def test_a_response_may_name_its_issuer_by_sha1(middle: CertificateAuthority) -> None:
    """Which is what real responders do."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import ocsp

    for issuer in (middle, CertificateAuthority(key_type="rsa")):
        leaf = issuer.issue(HOST)
        for algorithm in (hashes.SHA1(), hashes.SHA256(), hashes.SHA384()):
            response = (
                ocsp.OCSPResponseBuilder()
                .add_response(
                    cert=leaf.cert,
                    issuer=issuer.cert,
                    algorithm=algorithm,
                    cert_status=ocsp.OCSPCertStatus.GOOD,
                    this_update=NOW,
                    next_update=None,
                    revocation_time=None,
                    revocation_reason=None,
                )
                .responder_id(ocsp.OCSPResponderEncoding.HASH, issuer.cert)
                .sign(issuer.key, hashes.SHA256())
                .public_bytes(Encoding.DER)
            )
            chain = [leaf.cert, issuer.cert]
            assert judge(response, chain, required=True) is None
            # without a nextUpdate it is good for a week
            assert judge(response, chain, required=True, now=NOW + 6 * DAY) is None
            stale = judge(response, chain, required=True, now=NOW + 8 * DAY)
            assert stale is not None
            # another CA with the same leaf's number
            namesake = judge(response, [leaf.cert, CertificateAuthority().cert], required=True)
            assert namesake is not None


def test_a_response_about_another_cas_certificate_is_refused(middle: CertificateAuthority) -> None:
    """Signed by the right CA, about the right number, but of another issuer."""
    leaf = middle.issue(HOST)
    other = CertificateAuthority("other")
    other_says = other.ocsp_response(leaf, responder=Leaf(middle.cert, middle.key))
    error = judge(other_says, [leaf.cert, middle.cert], required=False)
    assert error is not None
    assert "another certificate" in str(error)


def test_a_failing_ocsp_function_ends_the_handshake(
    middle: CertificateAuthority, root: CertificateAuthority, refusal: Refusal
) -> None:
    def broken() -> bytes:
        raise LookupError("no response")

    leaf = middle.issue(HOST)
    server = Context(cert=leaf.chain, key=leaf.key, ocsp=broken)
    error = refusal(Context(ca_cert=root.cert, ocsp=True), server, by="accept")
    assert isinstance(error.__cause__, LookupError)


def test_a_response_cannot_be_judged_without_the_issuer(middle: CertificateAuthority) -> None:
    leaf = middle.issue(HOST)
    error = judge(middle.ocsp_response(leaf), [leaf.cert], required=False)
    assert error is not None
    assert error.reason == "revocation-unknown"


def test_nothing_is_asked_of_a_server_that_is_not_verified(
    middle: CertificateAuthority, join: Join
) -> None:
    leaf = middle.issue(HOST)
    staple = middle.ocsp_response(leaf, "revoked")
    server = Context(cert=leaf.chain, key=leaf.key, ocsp=staple)
    a, _ = join(Context(verify=False, ocsp="require"), server)
    assert a.ocsp_response is None


# Reason words --------------------------------------------------------------------------------


def test_every_reason_is_in_the_table() -> None:
    assert set(VERIFY_REASONS.values()) <= REASONS.keys()
    assert VERIFY_REASONS.keys() == _VERIFY_TEXTS.keys()
    assert from_verify_code(9999, 0, "x").reason == "untrusted"
    assert "2 above" in str(from_verify_code(10, 2, "CN=ca"))


@pytest.mark.parametrize(
    ("queue", "reason", "text"),
    [
        ([[("SSL routines", "", "tlsv1 alert unknown ca")]], "alert", "the peer refused: unknown"),
        ([[("SSL routines", "", "ssl/tls alert bad certificate")]], "alert", "bad certificate"),
        ([[("SSL routines", "", "peer did not return a certificate")]], "no-certificate", "peer"),
        ([[("SSL routines", "", "certificate verify failed")]], "untrusted", "certificate"),
        ([[("SSL routines", "", "dh key too small")]], "weak", "dh key too small"),
        ([[("SSL routines", "", "")]], "protocol", "ssl routines"),
        ([[]], "protocol", "protocol error"),
        ([], "protocol", "protocol error"),
        ([-1, "Unexpected EOF"], "truncated", "unexpected eof"),
    ],
)
def test_openssl_errors_are_translated(queue: Any, reason: str, text: str) -> None:
    error = from_openssl(queue)
    assert error.reason == reason
    assert text in str(error)
    assert reason in REASONS
