"""One TLS session on one handle.

Knows the seam (``abc``), and neither streams nor callbacks; what drives it is in ``_tls``.
"""

from __future__ import annotations

__all__ = ("ANSWER", "Tls")

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._buffers.write_queue import WriteQueue
    from ..abc import TlsRole, TlsSession

# How long a close_notify of ours may go unanswered, in seconds.
ANSWER: Final = 10.0


class Tls:
    """One session on one handle.

    Attributes:
        announced: Whether on_tls_started was called, or would have been.
        over: Whether the session has ended or failed: it is not used any more.
        sent_close: Whether our close_notify is out, or queued.
        stopping: 1 if ``stop`` waits for the handshake, 2 when our close_notify is out.
        kept: How many octets the session was given before it could encrypt them.
        held: An incomplete record, while we feed record by record.
        until: When the handshake, or the wait for the peer's close_notify, has to be over.
        recv_into: How to read much at once, if there may be much.
        streaming: Whether the last read came back full.
    """

    __slots__ = (
        "announced",
        "held",
        "kept",
        "over",
        "read_pieces",
        "recv_into",
        "role",
        "sent_close",
        "session",
        "since",
        "stopping",
        "streaming",
        "timer",
        "until",
    )

    def __init__(self, session: TlsSession, role: TlsRole) -> None:
        self.session = session
        # what an engine may offer besides: everything decrypted, in the pieces it came in
        self.read_pieces: Callable[[], list[bytes]] | None = getattr(session, "read_pieces", None)
        self.role = role
        self.announced = False
        self.over = False
        self.sent_close = False
        self.stopping = 0
        self.kept = 0
        self.held = b""
        self.recv_into: Callable[[memoryview, int], int] | None = None
        self.streaming = False
        self.timer: Any = None
        self.since = 0.0  # when the handshake began
        self.until: float | None = None

    @property
    def in_handshake(self) -> bool:
        """Whether the peer is not known yet, so that nothing may be sent to it."""
        return not self.over and self.session.state == "handshake"

    def next_block(self, out: WriteQueue) -> bytes:
        """Return the next ciphertext to be sent, encrypting what waits in *out*.

        Raises:
            TlsError: If the session does.
        """
        session = self.session
        out.overhead = True
        if self.over:
            out.drop_pieces()
        elif out.pieces and not self.stopping and self.announced and session.state != "handshake":
            out.overhead = False
            session.write(out.next())
        return session.drain()

    def encrypt_rest(self, out: WriteQueue) -> None:
        """Give everything that waits in *out* to the session, which encrypts it when it can."""
        while out.pieces:
            self.keep(out.next())

    def keep(self, data: bytes) -> None:
        """Give *data* to the session."""
        self.kept += len(data)
        self.session.write(data)

    def close(self, out: WriteQueue) -> None:
        """Put close_notify, and what the session was given before it, behind the block."""
        self.session.shutdown()
        self.sent_close = True
        out.append_block(self.session.drain(), overhead=not self.kept)
        self.kept = 0

    def begin_stop(self, out: WriteQueue, now: float) -> None:
        """Close our side, to go on in clear when the peer has closed its own."""
        self.stopping = 2
        self.until = now + ANSWER
        self.close(out)

    def feed(self, data: Any, plain: list[bytes]) -> bytes:
        """Decrypt *data*; return what lies behind the peer's close_notify, if we wait for that."""
        if self.stopping == 2:
            return self._feed_records(self.held + data, plain)
        self.session.feed(data)
        self.read_all(plain)
        return b""

    def read_all(self, plain: list[bytes]) -> None:
        """Move everything decrypted to *plain*; raise what ended it, after that."""
        if self.read_pieces is not None:
            while pieces := self.read_pieces():
                plain += pieces
        else:
            while data := self.session.read():
                plain.append(data)

    def _feed_records(self, data: bytes, plain: list[bytes]) -> bytes:
        """Feed one record at a time until the peer's close_notify."""
        session = self.session
        if getattr(session, "unused_data", None) is not None:
            session.feed(data)
            self.read_all(plain)
            return self.unused if session.state == "closed" else b""
        while len(data) >= 5:
            size = 5 + int.from_bytes(data[3:5], "big")
            if len(data) < size:
                break
            record, data = data[:size], data[size:]
            session.feed(record)
            self.read_all(plain)
            if session.state == "closed":
                self.held = b""
                return self.unused + data
        self.held = data
        return b""

    @property
    def unused(self) -> bytes:
        """What was fed and lies behind the peer's close_notify, if the session keeps it."""
        data: bytes = getattr(self.session, "unused_data", b"")
        return data
