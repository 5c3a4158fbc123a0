"""What there is to know about a TLS connection beside its data.

Sans-I/O: OpenSSL is asked when a property is read, and never before.
"""

from __future__ import annotations

__all__ = ("Details",)

from typing import TYPE_CHECKING, Literal

from ae_handle import TlsError

from ._errors import from_openssl

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from OpenSSL import SSL

    from ae_handle.abc import TlsRole, TlsState

    from ._verification import Verification


class Details:
    """The half of :class:`Session` that answers questions; the other half moves bytes."""

    __slots__ = ()

    if TYPE_CHECKING:
        state: TlsState
        role: TlsRole
        _conn: SSL.Connection
        _error: type[SSL.Error]
        _verification: Verification
        _resumable: bool
        _we_finished_last: bool

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's certificate as DER, or None if it has sent none (yet)."""
        certificate = self.certificate
        if certificate is None:
            return None
        from cryptography.hazmat.primitives.serialization import Encoding

        return certificate.public_bytes(Encoding.DER)

    @property
    def certificate(self) -> Certificate | None:
        """The peer's certificate as a ``cryptography`` object, or None."""
        return self._conn.get_peer_certificate(as_cryptography=True)

    @property
    def chain(self) -> list[Certificate]:
        """The chain that was verified, the peer's certificate first.

        Of a resumed session the one that was verified when it was made, as far as it is known.
        What the peer sent if it was not verified; empty if it sent nothing.
        """
        proof = self._verification.proof
        if proof is not None and (
            self._verification.proved or self.role == "accept" or self.resumed
        ):
            return list(proof.chain)
        found = self._conn.get_peer_cert_chain(as_cryptography=True) or []
        if self.role == "accept":  # OpenSSL keeps a client's own certificate apart
            certificate = self.certificate
            return [] if certificate is None else [certificate, *found]
        return found

    @property
    def version(self) -> str | None:
        """The protocol version, ``"TLSv1.3"`` for example; None before it is agreed on."""
        return None if self.cipher is None else self._conn.get_protocol_version_name()

    @property
    def cipher(self) -> str | None:
        """The cipher suite by OpenSSL's name; None before it is agreed on."""
        return self._conn.get_cipher_name()

    @property
    def cipher_bits(self) -> int | None:
        """The strength of the cipher in bits; None before it is agreed on."""
        return self._conn.get_cipher_bits()

    @property
    def group(self) -> str | None:
        """The key exchange group, ``"x25519"`` for example; None if not known."""
        if self.state == "handshake":
            return None
        return self._conn.get_group_name()

    @property
    def alpn(self) -> str | None:
        """The application protocol both sides agreed on, or None."""
        chosen = self._conn.get_alpn_proto_negotiated()
        return chosen.decode("ascii", "backslashreplace") if chosen else None

    @property
    def server_name(self) -> str | None:
        """The server name (SNI) the client sent, as it was sent, or None."""
        return self._verification.server_name

    @property
    def resumed(self) -> bool:
        """True if an earlier session was resumed, so that no certificate was exchanged.

        Only the ``connect`` side can tell; the other always says False.
        """
        return (
            self.role == "connect"
            and self.state != "handshake"
            and self._resumable
            and self._conn.get_verified_chain(as_cryptography=True) is None
        )

    @property
    def ocsp_response(self) -> bytes | None:
        """The OCSP response the server stapled (DER), if ``ocsp`` asked for it."""
        return self._verification.staple

    def export(self, label: str, length: int, context: bytes | None = None) -> bytes:
        """Derive key material that only the two ends of this connection can know.

        Raises:
            TlsError: Before the handshake has ended.
            ValueError: If *length* is not positive.

        Source: RFC 5705, RFC 8446 7.5
        """
        if length <= 0:
            raise ValueError(f"length must be positive, got {length!r}")
        if self.state == "handshake":
            raise TlsError("no key material before the handshake has ended")
        try:
            return self._conn.export_keying_material(label.encode("ascii"), length, context)
        except self._error as error:
            raise from_openssl(error.args) from error

    def channel_binding(
        self, kind: Literal["tls-exporter", "tls-unique", "tls-server-end-point"], /
    ) -> bytes | None:
        """Return the channel binding data of SASL mechanisms, or None if this kind has none here.

        ``tls-unique`` is not defined for TLS 1.3, ``tls-exporter`` is refused below it
        because it needs the extended master secret, which OpenSSL does not let us see.

        Raises:
            ValueError: If *kind* is none of the three.

        Source: RFC 5929 3 and 4, RFC 9266 2
        """
        if kind not in ("tls-exporter", "tls-unique", "tls-server-end-point"):
            raise ValueError(
                f"expected 'tls-exporter', 'tls-unique' or 'tls-server-end-point', got {kind!r}"
            )
        if self.state == "handshake":
            return None
        modern = self.version == "TLSv1.3"
        if kind == "tls-exporter":
            return self.export("EXPORTER-Channel-Binding", 32, b"") if modern else None
        if kind == "tls-unique":
            if modern:
                return None
            # The first Finished of the handshake: the client's, but the server's if resumed.
            conn = self._conn
            return conn.get_peer_finished() if self._we_finished_last else conn.get_finished()
        return self._end_point()

    def _end_point(self) -> bytes | None:
        from cryptography.hazmat.primitives import hashes

        if self.role == "connect":
            certificate = self.certificate
        else:
            certificate = self._conn.get_certificate(as_cryptography=True)
        algorithm = None if certificate is None else certificate.signature_hash_algorithm
        if certificate is None or algorithm is None:
            return None  # Ed25519 hashes inside: RFC 5929 4.1 leaves the result undefined
        if algorithm.name in ("md5", "sha1"):
            algorithm = hashes.SHA256()
        return certificate.fingerprint(algorithm)
