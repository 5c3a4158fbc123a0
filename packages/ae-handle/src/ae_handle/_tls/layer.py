"""The TLS layer of a handle: one session between its queues and its stream.

Has no stream and no callbacks; ``_tls_connection`` drives it.
"""

from __future__ import annotations

__all__ = ("ANSWER", "NOT_STOPPING", "STOP_SENT", "STOP_WANTED", "TlsLayer")


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from .._buffers.write_queue import WriteQueue
    from ..abc import TlsRole, TlsSession

# How long a close_notify of ours may go unanswered, in seconds.
ANSWER: Final = 10.0


# `TlsLayer.stopping`
NOT_STOPPING: Final = 0
STOP_WANTED: Final = 1  # when the handshake is done
STOP_SENT: Final = 2  # our close_notify is sent, or queued


class TlsLayer:
    """One session on one handle.

    Attributes:
        session: The session, of whatever engine.
        role: ``"connect"`` or ``"accept"``.
        reported: Whether on_tls_started was called, or would have been.
        over: Whether the session has ended or failed: it is not used any more.
        sent_close: Whether our close_notify is sent, or queued.
        stopping: ``NOT_STOPPING``, ``STOP_WANTED`` or ``STOP_SENT``.
        kept: How many bytes the session was given before it could encrypt them.
        partial_record: An incomplete record, while records are fed one by one.
        since: When the handshake began.
        timer: Limits the handshake, or the wait for the peer's close_notify; None for no limit.
        until: When that has to be over.
        recv_into: Reads a lot in one call; None if the stream or the session cannot.
        streaming: Whether the last read came back full.
    """

    __slots__ = (
        "_read_pieces",
        "kept",
        "over",
        "partial_record",
        "recv_into",
        "reported",
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
        self._read_pieces: Callable[[], list[bytes]] | None = getattr(session, "read_pieces", None)
        self.role = role
        self.reported = False
        self.over = False
        self.sent_close = False
        self.stopping = NOT_STOPPING
        self.kept = 0
        self.partial_record = b""
        self.recv_into: Callable[[memoryview, int], int] | None = None
        self.streaming = False
        self.timer: Any = None
        self.since = 0.0
        self.until: float | None = None

    def begin(self, now: float, recv_into: Callable[[memoryview, int], int] | None) -> None:
        """Note that the handshake begins *now*, on a stream that has *recv_into*."""
        self.since = now
        if getattr(self.session, "copies_input", False):
            self.recv_into = recv_into

    def limit_handshake(self, seconds: float | None) -> None:
        """Have the handshake be over *seconds* after it began; None or 0 for no limit.

        Ends the timer; the caller sets another one.
        """
        self.timer = None
        self.until = self.since + seconds if seconds else None

    def set_timer(self, timer: Any) -> None:
        """Keep *timer*, which ends when nothing refers to it; None ends it."""
        self.timer = timer

    def report(self) -> None:
        """Note that the program was told how the handshake went."""
        self.reported = True
        self.timer = self.until = None

    def fail(self) -> None:
        """Note that the session can send nothing more but its alert."""
        self.over = True
        self.stopping = NOT_STOPPING

    def want_stop(self) -> None:
        """Note that TLS is to be stopped when the handshake is done."""
        self.stopping = STOP_WANTED

    def end(self) -> None:
        """Note that the session has ended, and plaintext goes on."""
        self.timer = None
        self.over = True
        self.stopping = STOP_SENT

    def abandon(self) -> None:
        """Note that the peer does not answer."""
        self.over = True

    def hold(self, data: bytes) -> None:
        """Keep *data*, which was read before TLS began, for the session."""
        self.partial_record = data

    def take_held(self) -> bytes:
        """Return what was kept for the session."""
        data, self.partial_record = self.partial_record, b""
        return data

    def read_full(self, full: bool) -> None:
        """Note whether a read came back *full*: then the next one takes more."""
        self.streaming = full and self.recv_into is not None

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
        if self.over:
            out.drop_pieces()
        sends = bool(
            out.pieces and not self.stopping and self.reported and session.state != "handshake"
        )
        if sends:
            session.write(out.next())
        block = session.drain()
        if block and out.overhead is sends:
            out.mark_block(overhead=not sends)
        return block

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
        """Close our side, to go on in plaintext when the peer has closed its own."""
        self.stopping = STOP_SENT
        self.until = now + ANSWER
        self.close(out)

    def feed(self, data: Any, plain: list[bytes]) -> bytes:
        """Decrypt *data*; return what lies behind the peer's close_notify, if we wait for that."""
        if self.stopping == STOP_SENT:
            return self._feed_records(self.partial_record + data, plain)
        self.session.feed(data)
        if self._read_pieces is not None:
            # `read_all`, written out: 500 instructions of 60,000 for a request and its answer
            while pieces := self._read_pieces():
                plain += pieces
        else:
            self.read_all(plain)
        return b""

    def read_all(self, plain: list[bytes]) -> None:
        """Move everything decrypted to *plain*; raise what ended it, after that."""
        if self._read_pieces is not None:
            while pieces := self._read_pieces():
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
                self.partial_record = b""
                return self.unused + data
        self.partial_record = data
        return b""

    @property
    def unused(self) -> bytes:
        """What was fed and lies behind the peer's close_notify, if the session keeps it."""
        data: bytes = getattr(self.session, "unused_data", b"")
        return data
