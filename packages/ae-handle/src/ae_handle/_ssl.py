"""The standard library's TLS engine behind the seam: ``ssl.SSLContext`` as a ``TlsContext``.

Sans-I/O: memory BIOs. ``ssl`` is imported when the first adapter is made, never before.
"""

from __future__ import annotations

__all__ = ("SslContext", "SslSession", "is_ssl_context")

import sys
from typing import TYPE_CHECKING, Any, Final

from ._errors import TlsError

if TYPE_CHECKING:
    import ssl

    from .abc import TlsRole, TlsState

# The certificate checks of OpenSSL (X509_V_ERR_*) as words for programs. The same words as
# ae_tls's, so that a handler does not depend on the engine.
_REASONS: Final = {
    **dict.fromkeys((9, 13), "not-yet-valid"),
    **dict.fromkeys((10, 14), "expired"),
    18: "self-signed",
    **dict.fromkeys(
        (2, 4, 6, 7, 19, 20, 21, 22, 24, 25, 27, 28, 32, 34, 37, 47, 48, 79), "untrusted"
    ),
    23: "revoked",
    **dict.fromkeys((26, 39), "wrong-purpose"),
    **dict.fromkeys((62, 64), "wrong-name"),
    **dict.fromkeys((66, 67, 68), "weak"),
    **dict.fromkeys((3, 5, 8, 11, 12, 15, 16, 33, 35, 36, 44), "revocation-unknown"),
}

# OpenSSL lets a record carry 16 KiB; more per read() means fewer calls.
_READ: Final = 1 << 16


def is_ssl_context(context: object) -> bool:
    """Return whether *context* is an ``ssl.SSLContext``, without importing ``ssl`` to ask."""
    ssl = sys.modules.get("ssl")
    return ssl is not None and isinstance(context, ssl.SSLContext)


class SslContext:
    """An ``ssl.SSLContext`` behind the seam.

    Args:
        context: Used as it is: its verification mode and host name check are the program's.
    """

    __slots__ = ("context",)

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context

    def new_session(self, role: TlsRole, peer_name: str | None, /) -> SslSession:
        """Make a session for one connection; see :class:`ae_handle.abc.TlsContext`."""
        import ssl

        name = peer_name or None
        if role == "connect" and name is None and self.context.check_hostname:
            raise TlsError(
                "the peer's name is to be verified, but there is none: pass peer_name=",
                reason="no-name",
            )
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            engine = self.context.wrap_bio(
                incoming,
                outgoing,
                server_side=role == "accept",
                server_hostname=name if role == "connect" else None,
            )
        except (ssl.SSLError, ValueError) as error:
            raise _translated(error) from error
        return SslSession(engine, incoming, outgoing)


class SslSession:
    """One connection of an :class:`SslContext`."""

    __slots__ = ("_engine", "_incoming", "_outgoing", "_peer_closed", "_shut", "_unsent", "state")

    state: TlsState

    def __init__(
        self, engine: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO
    ) -> None:
        self._engine = engine
        self._incoming = incoming
        self._outgoing = outgoing
        self._unsent: list[bytes] = []  # plaintext pushed before the handshake was done
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
    def unused_data(self) -> bytes:
        """Octets that were fed and lie behind the peer's close_notify."""
        if not self._peer_closed:
            return b""
        data = self._incoming.read()
        self._incoming.write(data)
        return data

    def feed(self, data: bytes, /) -> None:
        """Take ciphertext; ``b""`` means that the stream has ended."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
            if self.state == "handshake":
                self.state = "closed"
                raise TlsError(
                    "the connection was closed during the TLS handshake", reason="truncated"
                )
        if self.state == "handshake":
            self._handshake()

    def read(self) -> bytes:
        """Return decrypted data, ``b""`` if there is none now."""
        if self.state == "handshake":
            self._handshake()
        if self._peer_closed or self.state in ("handshake", "closed"):
            return b""
        import ssl

        try:
            data = self._engine.read(_READ)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return b""
        except ssl.SSLZeroReturnError:
            data = b""
        except ssl.SSLEOFError as error:
            self.state = "closed"
            raise TlsError(
                "the connection was closed without close_notify", reason="truncated"
            ) from error
        except ssl.SSLError as error:
            self.state = "closed"
            raise _translated(error) from error
        if not data:  # close_notify
            self._peer_closed = True
            self.state = "closed" if self._shut else "closing"
        return data

    def write(self, data: bytes, /) -> None:
        """Encrypt *data*; it is kept until the handshake is done."""
        if self._shut or self.state == "closed":
            raise TlsError("write after the end of the TLS connection", reason="closed")
        self._unsent.append(data)
        if self.state == "handshake":
            self._handshake()
        else:
            self._encrypt()

    def drain(self) -> bytes:
        """Return all ciphertext that is to be sent."""
        if self.state == "handshake" and not self._outgoing.pending:
            self._handshake()
        return self._outgoing.read()

    def shutdown(self) -> None:
        """Send close_notify."""
        if self._shut or self.state in ("handshake", "closed"):
            return
        self._shut = True
        import ssl

        try:
            self._engine.unwrap()
        except ssl.SSLError:
            # want-read: ours is on its way, the peer's not here; or the peer's data still waits
            # to be read. Both are read()'s business.
            self.state = "closed" if self._peer_closed else "closing"
        else:
            self._peer_closed = True
            self.state = "closed"

    def _handshake(self) -> None:
        import ssl

        try:
            self._engine.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except (ssl.SSLError, ValueError) as error:
            self.state = "closed"
            raise _translated(error) from error
        self.state = "established"
        self._encrypt()

    def _encrypt(self) -> None:
        import ssl

        pieces, self._unsent = self._unsent, []
        for data in pieces:
            if not data:
                continue
            try:
                self._engine.write(data)  # a memory BIO takes any amount
            except ssl.SSLError as error:
                self.state = "closed"
                raise _translated(error) from error


def _translated(error: Exception) -> TlsError:
    """Return *error* of ``ssl`` as ours."""
    code = getattr(error, "verify_code", None)
    if code is not None:
        message = getattr(error, "verify_message", "") or "the certificate is not acceptable"
        return TlsError(
            f"the peer's certificate is refused: {message}",
            reason=_REASONS.get(code, "untrusted"),
        )
    name: Any = getattr(error, "reason", None)
    if not isinstance(name, str):
        return TlsError(str(error), reason="protocol")
    text = name.lower().replace("_", " ")
    if "ALERT" in name:
        return TlsError(f"the peer refused: {text}", reason="alert")
    if name == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return TlsError(text, reason="no-certificate")
    if name == "UNEXPECTED_EOF_WHILE_READING":
        return TlsError("the connection was closed without close_notify", reason="truncated")
    return TlsError(text, reason="protocol")
