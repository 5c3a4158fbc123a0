"""The contracts of this package: readers, frames, coders, and the TLS seam.

Protocols, no behaviour, and the words for refused certificates. A third-party frame type or TLS
engine needs nothing from this package but these; it need not inherit from them.
"""

from __future__ import annotations

__all__ = (
    "VERIFY_REASONS",
    "ChannelBinding",
    "Coder",
    "Frame",
    "Reader",
    "Stream",
    "TlsContext",
    "TlsDetails",
    "TlsRole",
    "TlsSession",
    "TlsState",
)

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar

from ._tls.verify_reasons import VERIFY_REASONS as VERIFY_REASONS

if TYPE_CHECKING:
    from ._buffers.read_buffer import NeedMore, ReadBuffer

_T_co = TypeVar("_T_co", covariant=True)

#: Which side of TLS a session is: the client (``connect``) or the server (``accept``).
TlsRole: TypeAlias = Literal["connect", "accept"]
#: What a SASL mechanism may be bound to (RFC 5929, RFC 9266).
ChannelBinding: TypeAlias = Literal["tls-exporter", "tls-unique", "tls-server-end-point"]
#: How far a TLS session is.
TlsState: TypeAlias = Literal["handshake", "established", "closing", "closed"]


class Stream(Protocol):
    """Anything a handle can read and write: it has a descriptor and can be closed."""

    def fileno(self) -> int:
        """Return the descriptor."""
        ...

    def close(self) -> None:
        """Close the descriptor."""
        ...


class Reader(Protocol[_T_co]):
    """Take one item off the front of a buffer. Any callable of this shape will do.

    Returns ``NEED_MORE`` and consumes nothing while the item is incomplete. Refuses by raising
    :class:`ae_handle.BadMessage`, again without consuming. ``False`` and ``None`` are values.
    It is asked once when it comes to the front and again whenever bytes arrive.

    Perl: the callback of a raw ``push_read``
    """

    def __call__(self, buf: ReadBuffer, /) -> _T_co | NeedMore:
        """Return the item, or ``NEED_MORE``."""
        ...


class Frame(Reader[_T_co], Protocol[_T_co]):
    """A reader that can also be written: ``handle.push_write(frame, value)``.

    Immutable: one object may serve many handles, its scan state lives in the buffer.
    """

    def encode(self, value: Any, /) -> bytes:
        """Return the bytes that read back as *value*.

        Raises:
            TypeError: If *value* has a type this frame cannot carry.
            ValueError: If *value* does not fit the format.
        """
        ...


class Coder(Protocol):
    """What ``json=`` and ``cbor=`` take: the two functions of a serialiser."""

    def loads(self, data: bytes, /) -> Any:
        """Decode one whole document, or raise."""
        ...

    def dumps(self, value: Any, /) -> bytes | str:
        """Encode *value* as one document; text is sent as UTF-8."""
        ...


# Theory of operation of the TLS seam
# -----------------------------------
# A session is a byte machine without a descriptor, so the same engine serves sockets, pipes
# and TLS inside TLS. The handle drives it in one pattern, after every event:
#
#     session.feed(ciphertext)          # b"" = the TCP stream ended
#     while data := session.read(): ... # plaintext
#     out = session.drain()             # whatever must go to the peer now
#     session.state                     # has the handshake ended? has the peer closed?
#
# Nothing calls "do_handshake": a session makes progress inside feed, read, write and drain.
# The first drain() of a "connect" session yields its first flight.


class TlsSession(Protocol):
    """One TLS connection as a byte machine.

    Every method may raise :class:`ae_handle.TlsError`, whose ``reason`` names the failed
    check. After an error :meth:`drain` still yields the alert for the peer, and does not raise.

    A session may also have an attribute ``unused_data``: bytes that were fed but lie behind
    the peer's close_notify, and so are plaintext of what follows TLS. Reading the
    attribute leaves them there. A session without it cannot hand them back; it is then fed
    records as TLS has them, one by one, once the handle has asked for the end.

    And it may have ``read_pieces()``, which returns all decrypted data together, as a list of
    pieces that need not be joined; it raises as :meth:`read` does.

    And it may say ``copies_input = True``: :meth:`feed` takes a :class:`memoryview` as well, and
    keeps nothing of it when it returns. A large transfer is then read in larger parts.
    """

    @property
    def state(self) -> TlsState:
        """Say where the connection stands.

        ``handshake`` until this side may send and has checked the peer; ``established``;
        ``closing`` when one of the two close_notify alerts was sent or received;
        ``closed`` when both were, or after an error.
        """
        ...

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's certificate as DER, or None if it has sent none (yet)."""
        ...

    def feed(self, data: bytes, /) -> None:
        """Take ciphertext from the peer; ``b""`` means that the stream has ended."""
        ...

    def read(self) -> bytes:
        """Return decrypted data, in pieces of any size; ``b""`` if there is none now."""
        ...

    def write(self, data: bytes, /) -> None:
        """Encrypt *data*, of any size; it is kept until the handshake is done."""
        ...

    def drain(self) -> bytes:
        """Return all ciphertext that is to be sent; ``b""`` if there is none now."""
        ...

    def shutdown(self) -> None:
        """Send close_notify: nothing is written after it. Repeating it is harmless."""
        ...


class TlsDetails(TlsSession, Protocol):
    """What a session tells about its connection: :attr:`ae_handle.Handle.tls`.

    The sessions of :class:`ssl.SSLContext` and ``ae_tls`` have all of it (the latter more, see
    :class:`ae_tls.Session`); those of other engines should.
    """

    @property
    def version(self) -> str | None:
        """The protocol version, ``"TLSv1.3"`` for example; None before it is agreed on."""
        ...

    @property
    def cipher(self) -> str | None:
        """The cipher suite by OpenSSL's name; None before it is agreed on."""
        ...

    @property
    def alpn(self) -> str | None:
        """The application protocol both sides agreed on, or None."""
        ...

    def channel_binding(self, kind: ChannelBinding, /) -> bytes | None:
        """Return the channel binding data of SASL mechanisms, or None if this kind has none here.

        ``tls-unique`` is not defined for TLS 1.3, ``tls-exporter`` is for TLS 1.3 only. The module
        ``ssl`` offers no ``tls-exporter``, and ``tls-server-end-point`` to the client only, where
        the certificate is signed with RSA (PKCS 1) or ECDSA.

        Raises:
            ValueError: If *kind* is none of the three.

        Source: RFC 5929 3 and 4, RFC 9266 2
        """
        ...


class TlsContext(Protocol):
    """Settings shared by many connections: trust, certificates, versions."""

    def new_session(self, role: TlsRole, peer_name: str | None, /) -> TlsSession:
        """Make a session for one connection.

        Args:
            role: ``"connect"`` for the client's part, ``"accept"`` for the server's.
            peer_name: The name the peer must prove, for ``"connect"``; also sent as SNI.

        Raises:
            TlsError: If *peer_name* is missing although the peer is to be verified.
        """
        ...


for _name in ("Coder", "Frame", "Reader", "Stream", "TlsContext", "TlsDetails", "TlsSession"):
    globals()[_name].__module__ = "ae_handle.abc"
