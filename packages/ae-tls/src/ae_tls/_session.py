"""The byte machine: one TLS connection between two memory buffers, without a descriptor.

Sans-I/O: ciphertext and plaintext are passed in and out by the owner of the transport
(``ae_handle`` in real life, another session in the tests). Knows OpenSSL, no event loop.
"""

from __future__ import annotations

__all__ = ("Session",)

from typing import TYPE_CHECKING, Final

from ae_handle import TlsError

from ._details import Details
from ._errors import from_openssl
from ._hello import HelloReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from OpenSSL import SSL

    from ae_handle.abc import TlsRole, TlsState

    from ._resumption import SessionStore
    from ._server import Server
    from ._verification import Verification

# Theory of operation
# -------------------
# OpenSSL reads from one memory BIO and writes to another. Two things are done around it.
#
# 1. It is fed record by record. The length of a TLS record is not encrypted, so we know when
#    the BIO holds one whole record, and call SSL_read exactly once for it. This has two effects:
#    * bytes behind a close_notify stay ours. OpenSSL would swallow them, and after
#      `stop_tls` they are the plaintext of the next protocol (`unused_data`).
#    * SSL_read is never called without data. "Want read" is an exception in pyOpenSSL and
#      costs 1.7 us, which counts at one small line per call. It is only raised for records
#      that carry no data (session tickets, key updates), and tells us about those for free.
#    Nothing is copied for it: whole feeds and memoryview slices go to the BIO directly.
#    Large records of data that are alike go there together (12 % of a large transfer), and are
#    then read one by one as always: a close_notify is not large. If the peer pads it to look
#    alike (RFC 8446 5.4), then what came together with it are TLS records, too, to be ignored
#    behind a closure alert (6.1); bytes that are none are kept, as everywhere.
#
# 2. What is written is encrypted when it is fetched (`drain`): all that was written in one
#    turn becomes one batch of full records. Large data is passed through in slices, because
#    a memory BIO keeps the size of the largest batch it ever held.
#
# Errors are told late: plaintext that was decrypted before the bad record is handed out
# first, by `read`, and the error follows.
#
# A server waits with the first records until the ClientHello is complete. Then the name in it
# chooses the context, the connection of that context gets the records, and its answer is looked
# at before it leaves: if it resumes a session that does not hold any more, all of it is thrown
# away, and a connection that resumes nothing gets the same records.

_HEADER: Final = 5
_CHANGE_CIPHER_SPEC: Final = 20
_MAX_RECORD: Final = 16384 + 2048
_LARGE: Final = 4096  # more than any close_notify that is not padded on purpose
_DATA: Final = b"\x17\x03\x03"  # application data of TLS 1.2 and 1.3
_SLICE: Final = 65536
# A record grows by 22 bytes in TLS 1.3, by 85 at worst in TLS 1.2 with CBC.
_OVERHEAD: Final = 96
_BOTH_SHUT: Final = 3  # OpenSSL's SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN
_HANDSHAKE_READ: Final = 16384
# Fatal alerts, not encrypted.
_INTERNAL_ERROR: Final = b"\x15\x03\x03\x00\x02\x02\x50"
_PROTOCOL_VERSION: Final = b"\x15\x03\x01\x00\x02\x02\x46"
_ACCESS_DENIED: Final = b"\x15\x03\x03\x00\x02\x02\x31"


class Session(Details):
    """One TLS connection as a byte machine: see :class:`ae_handle.abc.TlsSession`.

    Made by :meth:`ae_tls.Context.new_session`. It never sends or receives anything. The only
    callbacks are the functions given to the context, and they run inside :meth:`feed`.

    Attributes:
        state: ``"handshake"``, ``"established"``, ``"closing"`` (one close_notify was sent or
            received) or ``"closed"`` (both were, or an error).
        role: ``"connect"`` or ``"accept"``.
        peer_name: The name the peer had to prove.
        unused_data: Bytes that were fed behind the peer's close_notify.

    Perl: the SSL object behind ``$handle->{tls}``
    """

    __slots__ = (
        "__weakref__",
        "_aligned",
        "_batch",
        "_bio_read",
        "_bio_write",
        "_close_later",
        "_conn",
        "_error",
        "_failed",
        "_head",
        "_held",
        "_hello",
        "_keep_session",
        "_name",
        "_need",
        "_no_data",
        "_opening",
        "_output_pending",
        "_peer_closed",
        "_pending_error",
        "_plain",
        "_record",
        "_recv",
        "_resumable",
        "_sendall",
        "_sent_close",
        "_server",
        "_sessions",
        "_started",
        "_verification",
        "_we_finished_last",
        "_write_closed",
        "_zero_return",
        "peer_name",
        "role",
        "state",
        "unused_data",
    )

    state: TlsState
    role: TlsRole
    peer_name: str | None
    unused_data: bytes

    copies_input = True  #: Of what ``feed`` is given nothing is kept.

    def __init__(
        self,
        conn: SSL.Connection,
        verification: Verification,
        *,
        server: Server | None = None,
        sessions: SessionStore | None = None,
        name: str = "",
        resumable: bool = False,
    ) -> None:
        from OpenSSL import SSL

        self.state = "handshake"
        self._use(conn, verification)
        self._server = server  # whose certificate we show
        self._hello = None if server is None else HelloReader()
        self._opening = b""  # the records of the ClientHello, until it is answered
        self._sessions = sessions
        self._name = name  # what sessions are kept under
        self._keep_session: Callable[[str, SSL.Session, str], None] | None = None
        if sessions is not None:
            put = sessions.put

            def keep(name: str, session: SSL.Session, version: str) -> None:
                put(name, session, version, verification.proof)

            self._keep_session = keep
        self._resumable = resumable
        self._no_data = SSL.WantReadError
        self._zero_return = SSL.ZeroReturnError
        self._error = SSL.Error
        self.role = verification.role
        self.peer_name = verification.peer_name
        self.unused_data = b""
        self._batch: list[bytes] = []  # plaintext that was written and is not encrypted yet
        self._plain: list[bytes] = []  # plaintext that was decrypted and is not read yet
        self._head = b""  # the first bytes of a record whose length is not known yet
        self._need = 0  # bytes missing from the record in the BIO
        self._record = 0  # its size
        self._output_pending = False  # the BIO may hold something to send
        self._held = b""  # bytes to send before those in the BIO
        self._we_finished_last = False
        self._started = False
        self._aligned = False  # established, and all records so far were whole
        self._write_closed = False  # nothing may be written any more
        self._close_later = False
        self._sent_close = False
        self._peer_closed = False
        self._failed = False  # by an error
        self._pending_error: TlsError | None = None

    def __del__(self) -> None:
        if self.state == "established" or self.state == "closing":
            # Else OpenSSL spoils the session, which may well be resumed (RFC 4346 7.2.1).
            self._conn.set_shutdown(_BOTH_SHUT)

    def __repr__(self) -> str:
        name = f" {self.peer_name!r}" if self.peer_name else ""
        return f"<{type(self).__name__} {self.role}{name} {self.state}>"

    # The seam -----------------------------------------------------------------------------

    def feed(self, data: bytes, /) -> None:
        """Take ciphertext from the peer; ``b""`` means that the stream has ended.

        Raises:
            TlsError: The handshake failed, the peer broke the protocol, or the stream ended
                without a close_notify (``reason`` ``truncated``). If decrypted data is
                waiting, :meth:`read` gives that first and raises the error afterwards.
        """
        size = len(data)
        if self._aligned and size > _HEADER and ((data[3] << 8) | data[4]) + _HEADER == size:
            # The common case, written out: one whole record of an established connection.
            self._bio_write(data)
            try:
                self._plain.append(self._recv(size))
                return
            except self._error as error:
                self._no_plaintext(error)
        elif self._failed:
            pass
        elif self._peer_closed:
            self.unused_data += data
        elif data:
            if self._hello is None:
                self._feed_records(data)
            elif self._hello.feed(data):
                self._answer(self._hello)
            self._aligned = (
                self.state == "established" or (self.state == "closing" and not self._peer_closed)
            ) and not (self._need or self._head)
        else:
            self._end_of_stream()
        self._raise_pending()

    def read(self) -> bytes:
        """Return all decrypted data; ``b""`` if there is none now.

        Raises:
            TlsError: What ended the connection, once, after the data before it.
        """
        plain = self._plain
        if plain:
            if len(plain) == 1:
                return plain.pop()
            self._plain = []
            return b"".join(plain)
        if self._pending_error is not None:
            self._raise_pending()
        return b""

    def read_pieces(self) -> list[bytes]:
        """Return what :meth:`read` would, one piece for each record; empty if there is none.

        For those who can use pieces: to join them is one more copy, 10 % of a large transfer.

        Raises:
            TlsError: As :meth:`read` does.
        """
        plain = self._plain
        if plain:
            self._plain = []
        elif self._pending_error is not None:
            self._raise_pending()
        return plain

    def write(self, data: bytes, /) -> None:
        """Take plaintext; it is encrypted by :meth:`drain`, once the handshake is done.

        Raises:
            TlsError: After :meth:`shutdown` (``reason`` ``closed``) or after an error.
        """
        if self._write_closed:
            raise TlsError("protocol is shutdown", reason="closed")
        if data:
            self._batch.append(data if type(data) is bytes else bytes(data))

    def drain(self) -> bytes:
        """Return all ciphertext that is to be sent; ``b""`` if there is none now.

        The first call of a ``connect`` session gives its first flight. After an error it
        gives the alert for the peer.
        """
        batch = self._batch
        if batch and self.state != "handshake":
            if len(batch) == 1:
                data = batch.pop()
            else:
                data = b"".join(batch)
                batch.clear()
            out = self._encrypt(data)
        elif self._output_pending:
            self._output_pending = False
            out = self._fetch(_HANDSHAKE_READ)
        elif self._started:
            return b""
        else:
            self._started = True
            if self.role == "accept":
                return b""
            self._shake_hands()
            self._raise_pending()
            return self.drain()
        if self._held:
            out = self._held + out
            self._held = b""
        return out

    def shutdown(self) -> None:
        """Send close_notify behind everything written so far; repeating it is harmless.

        During the handshake it is remembered and done when the handshake has ended.
        """
        if self._sent_close or self._failed:
            return
        self._write_closed = True
        if self.state == "handshake":
            self._close_later = True
            return
        self._close()

    # Inside -------------------------------------------------------------------------------

    def _use(self, conn: SSL.Connection, verification: Verification) -> None:
        self._conn = conn
        self._verification = verification
        self._recv = conn.recv
        self._sendall = conn.sendall
        self._bio_read = conn.bio_read
        self._bio_write = conn.bio_write

    def _answer(self, hello: HelloReader) -> None:
        """Let the right context answer the ClientHello, and go on with what is behind it."""
        self._hello = None
        if hello.readable:
            assert self._server is not None
            name = None if hello.name is None else hello.name.decode("ascii", "backslashreplace")
            try:
                chosen = self._server.choose(name)
                if chosen is not self._server:
                    self._server = chosen
                    self._use(*chosen.begin(self.peer_name))
            except TlsError as error:
                self._abandon(error, _INTERNAL_ERROR)
                return
            self._verification.server_name = name
            self._opening = hello.wire
            self._bio_write(hello.wire)
            self._shake_hands()
            self._opening = b""
            if hello.rest and not self._failed:
                self._feed_records(hello.rest)
        else:
            self._feed_records(hello.wire)

    def _check_answer(self) -> None:
        """See whether the answer to a ClientHello may leave, and answer again if not."""
        server, verification = self._server, self._verification
        if server is None:
            return
        error = server.objection(self._conn, verification)
        if error is None:
            return
        hello, self._opening = self._opening, b""
        if not hello:  # the second one, or the second try
            self._abandon(error, _ACCESS_DENIED)
            return
        self._use(*server.begin_again(self._conn, self.peer_name))
        self._verification.server_name = verification.server_name
        self._bio_write(hello)
        self._shake_hands()

    def _feed_records(self, data: bytes) -> None:
        """Feed *data* to OpenSSL one record at a time, whatever its borders are."""
        bio_write = self._bio_write
        recv = self._recv
        plain = self._plain
        view = memoryview(data)
        need = self._need
        self._need = 0
        kind = 0
        at = 0
        end = len(data)
        while at < end:
            if not need:
                head = self._head
                if head or end - at < _HEADER:
                    more = view[at : at + _HEADER - len(head)]
                    head += more
                    at += len(more)
                    if len(head) < _HEADER:
                        self._head = head
                        return
                    self._head = b""
                    kind, major, length = head[0], head[1], (head[3] << 8) | head[4]
                else:
                    kind, major, length = data[at], data[at + 1], (data[at + 3] << 8) | data[at + 4]
                if not 20 <= kind <= 23 or major != 3 or length > _MAX_RECORD:
                    self._garbage(head + view[at:])
                    return
                self._record = length + _HEADER
                need = self._record - len(head)
                if head:
                    bio_write(head)
            stop = at + need
            if stop > end:
                if at < end:
                    bio_write(view[at:])
                self._need = stop - end
                return
            record = self._record
            count = 1
            shaking = self.state == "handshake"
            if record >= _LARGE and not shaking:
                header = _DATA + (record - _HEADER).to_bytes(2, "big")
                most = min(end, at + _SLICE) - record
                while stop <= most and data[stop : stop + _HEADER] == header:
                    stop += record
                    count += 1
            if at < stop:
                bio_write(view[at:stop])
                at = stop
            need = 0
            if shaking and kind == _CHANGE_CIPHER_SPEC and at < end:
                continue  # never the end of a flight: spare OpenSSL the "need more"
            while count:
                count -= 1
                try:
                    if not shaking:
                        plain.append(recv(record))
                        continue
                    self._shake_hands()
                except self._error as error:
                    self._no_plaintext(error)
                if self._failed:
                    return
                if self._peer_closed:
                    self.unused_data += view[at:]
                    return

    def _garbage(self, data: bytes) -> None:
        """Let OpenSSL say what is wrong with bytes that are no TLS record."""
        shaking = self.state == "handshake"
        self._bio_write(data)
        if shaking:
            self._shake_hands()
        else:
            try:
                self._recv(_SLICE)
            except self._error as error:
                self._no_plaintext(error)
        if not self._failed:
            self._fail(TlsError("not a TLS record", reason="protocol"))
        if shaking and self._server is not None and data[0] & 0x80 and data[2] == 1:
            # A ClientHello in the form of SSL 2. OpenSSL ends without an alert, but a client that
            # sends it understands one of TLS (RFC 8446 D.5).
            self._held = self._fetch(_HANDSHAKE_READ) or _PROTOCOL_VERSION

    def _no_plaintext(self, error: SSL.Error) -> None:
        """Handle a record that was no data."""
        if isinstance(error, self._no_data):
            # A ticket, or a key update, which may want an answer.
            self._output_pending = True
            self._store()
        elif isinstance(error, self._zero_return):
            self._peer_closed = True
            self._aligned = False
            self.state = "closed" if self._sent_close else "closing"
        else:
            self._fail(from_openssl(error.args))

    def _shake_hands(self) -> None:
        verification = self._verification
        self._started = self._output_pending = True
        try:
            self._conn.do_handshake()
        except self._no_data:
            if verification.error is not None:
                self._abandon(verification.error, _INTERNAL_ERROR)
            else:
                self._check_answer()
            return
        except self._error as error:
            self._fail(verification.error or from_openssl(error.args))
            return
        refused = verification.judge_end(self._conn)
        if refused is not None:
            self._conn.shutdown()  # OpenSSL makes no fatal alert of ours any more
            self._fail(refused)
            return
        if self._server is not None:
            self._server.remember(verification)
        if self._conn.get_protocol_version() < 0x304:
            # Up to TLS 1.2 the side that still has something to send sends the last Finished.
            self._held = self._fetch(_HANDSHAKE_READ)
            self._we_finished_last = bool(self._held)
            self._store()
        self.state = "established"
        if self._close_later:
            self._close_later = False
            self._close()

    def _store(self) -> None:
        """Offer the session for resumption; in TLS 1.3 each ticket makes another one."""
        if self._keep_session is None:
            return
        session = self._conn.get_session()
        if session is not None:
            self._keep_session(self._name, session, self._conn.get_protocol_version_name())

    def _encrypt(self, data: bytes) -> bytes:
        size = len(data)
        self._output_pending = False
        try:
            if size <= _SLICE:
                self._sendall(data)
                room = size + (size // 16384 + 1) * _OVERHEAD
                out = self._bio_read(room)
                return out if len(out) < room else out + self._fetch(_HANDSHAKE_READ)
            pieces = []
            view = memoryview(data)
            for at in range(0, size, _SLICE):
                self._sendall(view[at : at + _SLICE])
                pieces.append(self._fetch(_SLICE + 5 * _OVERHEAD))
            return b"".join(pieces)
        except self._error as error:
            self._fail(from_openssl(error.args))
            self._raise_pending()
            return b""

    def _fetch(self, size: int) -> bytes:
        """Take everything out of OpenSSL's output; *size* is a good guess how much it is."""
        try:
            out = self._bio_read(size)
        except self._no_data:
            return b""
        if len(out) < size:
            return out
        pieces = [out]
        while len(out) == size:
            try:
                out = self._bio_read(size)
            except self._no_data:
                break
            pieces.append(out)
        return b"".join(pieces)

    def _close(self) -> None:
        held = b""
        if self._batch:
            held = b"".join(self._batch)
            self._batch = []
        try:
            if held:
                self._sendall(held)
            self._conn.shutdown()
        except self._error as error:
            self._fail(from_openssl(error.args))
            return
        self._output_pending = True
        self._sent_close = True
        self.state = "closed" if self._peer_closed else "closing"

    def _end_of_stream(self) -> None:
        if self.state == "handshake":
            text = "the peer closed the connection during the TLS handshake"
        else:
            text = "the peer closed the connection without a TLS close_notify"
            # TLS 1.1 and later may resume a session that was cut off (RFC 4346 7.2.1).
            self._conn.set_shutdown(_BOTH_SHUT)
            self._sessions = None
        self._fail(TlsError(text, reason="truncated"))

    def _abandon(self, error: TlsError, alert: bytes) -> None:
        """Fail before an answer has left: what OpenSSL prepared is thrown away."""
        self._fetch(_HANDSHAKE_READ)
        self._held = alert
        self._fail(error)

    def _fail(self, error: TlsError) -> None:
        if self._sessions is not None:
            # RFC 5246 7.2.2; and OpenSSL has spoilt the newest one.
            self._sessions.forget(self._name)
        self._failed = self._started = True
        self._pending_error = error
        self.state = "closed"
        self._aligned = False
        self._write_closed = True
        self._batch.clear()
        self._output_pending = True

    def _raise_pending(self) -> None:
        """Raise what ended the connection, once, when all data before it has been read."""
        error = self._pending_error
        if error is not None and not self._plain:
            # No reference is kept: the traceback refers to this session, which would be a cycle.
            self._pending_error = self._verification.error = None
            try:
                raise error
            finally:
                del error
