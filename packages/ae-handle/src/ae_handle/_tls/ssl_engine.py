"""The standard library's TLS engine behind the seam: ``ssl.SSLContext`` as a ``TlsContext``.

Sans-I/O: memory BIOs. ``ssl`` is imported when the first adapter is made, never before.
"""

from __future__ import annotations

__all__ = ("SslContext", "SslSession", "is_ssl_context")

import sys

from ae_socket import host_to_ascii, parse_address

from .._errors import TlsError
from .verify_reasons import VERIFY_REASONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from types import ModuleType
    from typing import Any, Final

    from ..abc import ChannelBinding, TlsRole, TlsState

# What a record can carry. The engine returns no more than one at a time, and makes room first.
_RECORD: Final = 16384
_SLICE: Final = 65536


def is_ssl_context(context: object) -> bool:
    """Return whether *context* is an ``ssl.SSLContext``, without importing ``ssl`` to ask."""
    ssl = sys.modules.get("ssl")
    return ssl is not None and isinstance(context, ssl.SSLContext)


class SslContext:
    """An ``ssl.SSLContext`` behind the seam.

    Args:
        context: Used as it is: its verification mode and host name check are the program's.
    """

    __slots__ = ("_ssl", "context")

    def __init__(self, context: ssl.SSLContext) -> None:
        import ssl

        self.context = context
        self._ssl = ssl

    def new_session(self, role: TlsRole, peer_name: str | None, /) -> SslSession:
        """Make a session for one connection; see :class:`ae_handle.abc.TlsContext`."""
        ssl = self._ssl
        name: str | None = None
        if role == "connect":
            checks = self.context.check_hostname
            if checks and not peer_name:
                raise TlsError(
                    "the peer's name is to be verified, but there is none: pass peer_name=",
                    reason="no-name",
                )
            try:
                name = _reference(peer_name) if peer_name else None
            except ValueError as error:
                if checks:
                    raise TlsError(
                        f"no certificate can name {peer_name!r}: it is not a host name ({error})",
                        reason="wrong-name",
                    ) from error
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = role == "accept"
        try:
            engine = self.context.wrap_bio(incoming, outgoing, server, name)
        except (ssl.SSLError, ValueError) as error:
            raise _translated(error) from error
        return SslSession(ssl, engine, incoming, outgoing)


class SslSession:
    """One connection of an :class:`SslContext`."""

    __slots__ = (
        "_ended",
        "_engine",
        "_incoming",
        "_late_error",
        "_outgoing",
        "_peer_closed",
        "_pieces",
        "_readable",
        "_shut",
        "_ssl",
        "_started",
        "_unsent",
        "state",
    )

    # Theory of operation
    # -------------------
    # "Want read" is an exception of `ssl` that costs 4 us, in the handshake 15. So the engine is
    # read only if it can have something: `_readable` is set when bytes were fed, and cleared when
    # it has taken them all, or has raised that. Only bytes that are fed, and our first
    # flight, advance a handshake.

    state: TlsState

    copies_input = True

    def __init__(
        self,
        ssl: ModuleType,
        engine: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
    ) -> None:
        self._ssl: Any = ssl
        self._engine = engine
        self._incoming = incoming
        self._outgoing = outgoing
        self._unsent: list[bytes] = []  # plaintext pushed before the handshake was done
        self._started = engine.server_side  # our first flight is made, or will be an answer
        self._readable = False
        self._pieces: list[bytes] = []  # decrypted, not read yet
        self._late_error: TlsError | None = None  # raised when what came before it was read
        self._ended = False  # the stream under it
        self._shut = False  # shutdown() was called
        self._peer_closed = False
        self.state = "handshake"

    @property
    def engine(self) -> ssl.SSLObject:
        """The ``ssl.SSLObject``: cipher, protocol version, ALPN."""
        return self._engine

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's certificate as DER, or None."""
        try:
            return self._engine.getpeercert(binary_form=True)
        except ValueError:  # the handshake is not done
            return None

    @property
    def version(self) -> str | None:
        """The protocol version, ``"TLSv1.3"`` for example; None before it is agreed on."""
        return None if self.cipher is None else self._engine.version()

    @property
    def cipher(self) -> str | None:
        """The cipher suite by OpenSSL's name; None before it is agreed on."""
        cipher = self._engine.cipher()
        return None if cipher is None else cipher[0]

    @property
    def alpn(self) -> str | None:
        """The application protocol both sides agreed on, or None."""
        return self._engine.selected_alpn_protocol()

    def channel_binding(self, kind: ChannelBinding, /) -> bytes | None:
        """Return the channel binding data of SASL mechanisms; see ``TlsDetails``.

        The module ``ssl`` has neither ``tls-exporter`` nor a server's own certificate.
        """
        if kind not in ("tls-exporter", "tls-unique", "tls-server-end-point"):
            raise ValueError(
                f"expected 'tls-exporter', 'tls-unique' or 'tls-server-end-point', got {kind!r}"
            )
        if self.state == "handshake":
            return None
        if kind == "tls-unique":
            modern = self.version == "TLSv1.3"  # where it is not defined
            return None if modern else self._engine.get_channel_binding(kind)
        if kind == "tls-exporter" or self._engine.server_side:
            return None
        certificate = self.peer_certificate
        name = None if certificate is None else _signature_hash(certificate)
        if certificate is None or name is None:
            return None
        from hashlib import new  # 2 ms

        return new(name, certificate).digest()

    @property
    def unused_data(self) -> bytes:
        """Bytes that were fed and lie behind the peer's close_notify."""
        if not self._peer_closed:
            return b""
        data = self._incoming.read()
        self._incoming.write(data)
        return data

    def feed(self, data: bytes | memoryview, /) -> None:
        """Take ciphertext; ``b""`` means that the stream has ended."""
        self._readable = True
        if len(data) > _SLICE:
            # decrypted immediately: a memory BIO keeps the size of the largest input it ever held
            view = memoryview(data)
            for at in range(0, len(view), _SLICE):
                self._incoming.write(view[at : at + _SLICE])
                if self.state == "handshake":
                    self._handshake()
                self._decrypt()
            return
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
            self._ended = True
            if self.state == "handshake":
                self._started = True
                self.state = "closed"
                raise TlsError(
                    "the connection was closed during the TLS handshake", reason="truncated"
                )
        if self.state == "handshake":
            self._handshake()

    def read(self) -> bytes:
        """Return all decrypted data, ``b""`` if there is none now."""
        return b"".join(self.read_pieces())

    def read_pieces(self) -> list[bytes]:
        """Return all decrypted data, a piece for each record."""
        if self._readable:
            self._decrypt()
        pieces = self._pieces
        if pieces:
            self._pieces = []
        elif self._late_error is not None:
            error, self._late_error = self._late_error, None
            try:
                raise error
            finally:
                del error
        return pieces

    def write(self, data: bytes, /) -> None:
        """Encrypt *data*; it is kept until the handshake is done."""
        if self._shut or self.state == "closed":
            raise TlsError("write after the end of the TLS connection", reason="closed")
        if self.state == "handshake":
            self._unsent.append(data)
        elif data:
            self._encrypt(data)

    def drain(self) -> bytes:
        """Return all ciphertext that is to be sent."""
        if not self._started:
            self._handshake()
        return self._outgoing.read()

    def shutdown(self) -> None:
        """Send close_notify."""
        if self._shut or self.state in ("handshake", "closed"):
            return
        self._shut = True
        try:
            self._engine.unwrap()
        except self._ssl.SSLError:
            # want-read: ours is sent, the peer's has not arrived; or data of the peer is still
            # unread. read() handles both.
            self.state = "closed" if self._peer_closed else "closing"
        else:
            self._peer_closed = True
            self.state = "closed"

    def _decrypt(self) -> None:
        """Take everything out of the engine; what ended the connection is told behind it."""
        if self._peer_closed or self.state in ("handshake", "closed"):
            return
        ssl = self._ssl
        self._readable = False
        try:
            while data := self._engine.read(_RECORD):
                self._pieces.append(data)
                if not self._incoming.pending and not self._ended:
                    return
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except ssl.SSLZeroReturnError:
            pass
        except ssl.SSLError as error:
            self.state = "closed"
            if isinstance(error, ssl.SSLEOFError):
                text = "the connection was closed without close_notify"
                self._late_error = TlsError(text, reason="truncated")
            else:
                self._late_error = _translated(error)
            self._late_error.__cause__ = error.with_traceback(None)
            return
        self._peer_closed = True
        self.state = "closed" if self._shut else "closing"

    def _handshake(self) -> None:
        self._started = True
        ssl = self._ssl
        try:
            self._engine.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except (ssl.SSLError, ValueError) as error:
            self.state = "closed"
            raise _translated(error) from error
        self.state = "established"
        self._readable = bool(self._incoming.pending)
        pieces, self._unsent = self._unsent, []
        if pieces:
            self._encrypt(b"".join(pieces))

    def _encrypt(self, data: bytes) -> None:
        try:
            self._engine.write(data)  # a memory BIO takes any amount
        except self._ssl.SSLError as error:
            self.state = "closed"
            raise _translated(error) from error


# The hash function of RFC 5929 4.1 for each algorithm that certificates are signed with: OIDs as
# DER, of PKCS 1 and of ECDSA. MD5 and SHA-1 are replaced by SHA-256. Not RSASSA-PSS, whose hash is
# a parameter, and Ed25519, for which it is not defined.
_RSA: Final = bytes.fromhex("2a864886f70d0101")
_ECDSA: Final = bytes.fromhex("2a8648ce3d04")
_SIGNATURE_HASHES: Final = {
    _RSA + b"\x04": "sha256",
    _RSA + b"\x05": "sha256",
    _RSA + b"\x0b": "sha256",
    _RSA + b"\x0c": "sha384",
    _RSA + b"\x0d": "sha512",
    _ECDSA + b"\x01": "sha256",
    _ECDSA + b"\x03\x02": "sha256",
    _ECDSA + b"\x03\x03": "sha384",
    _ECDSA + b"\x03\x04": "sha512",
}


def _signature_hash(certificate: bytes) -> str | None:
    """Return the name of the hash function that *certificate*, as DER, is bound by, if known."""
    body, _ = _content(certificate, 0)  # Certificate ::= SEQUENCE
    _, algorithm = _content(certificate, body)  # behind tbsCertificate
    oid, _ = _content(certificate, algorithm)  # AlgorithmIdentifier ::= SEQUENCE
    start, end = _content(certificate, oid)
    return _SIGNATURE_HASHES.get(certificate[start:end])


def _content(data: bytes, at: int) -> tuple[int, int]:
    """Return where the content of the DER element at *at* begins and ends."""
    size = data[at + 1]
    at += 2
    if size & 0x80:
        count = size & 0x7F
        size = int.from_bytes(data[at : at + count], "big")
        at += count
    return at, at + size


def _reference(peer_name: str) -> str:
    """Return the host as it is sent in SNI and compared with certificates.

    The same for every engine: a name without its final dot, an address without its scope.

    Raises:
        ValueError: It is no host; or a short form of an address, which no certificate has.
    """
    from ipaddress import ip_address

    host = host_to_ascii(peer_name)
    text = host.partition("%")[0]
    if parse_address(text) is None:
        return host.removesuffix(".").lower()
    return str(ip_address(text))


def _translated(error: Exception) -> TlsError:
    """Return *error* of ``ssl`` as ours."""
    code = getattr(error, "verify_code", None)
    if code is not None:
        message = getattr(error, "verify_message", "") or "the certificate is not acceptable"
        return TlsError(
            f"the peer's certificate is refused: {message}",
            reason=VERIFY_REASONS.get(code, "untrusted"),
        )
    name: Any = getattr(error, "reason", None)
    if not isinstance(name, str):
        return TlsError(str(error), reason="protocol")
    text = name.lower().replace("_", " ")
    if "ALERT" in name:
        return TlsError(f"the peer refused: {text}", reason="alert")
    if name == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return TlsError(text, reason="no-certificate")
    return TlsError(text, reason="protocol")
