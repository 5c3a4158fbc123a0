"""WebSocket messages (RFC 6455): bytes of the server in, messages out, and what is to be answered.

Sans-I/O. The frames are wsproto's; here they become whole messages, of a bounded size.
"""

from __future__ import annotations

__all__ = ("Closing", "Messages", "Pong", "accept_value")

from base64 import b64encode
from hashlib import sha1
from typing import Any, Final, NamedTuple, TypeAlias

from wsproto import events
from wsproto.connection import CLIENT, Connection, ConnectionState

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TOO_BIG: Final = 1009
_OPEN: Final = frozenset({ConnectionState.OPEN})
_MAY_CLOSE: Final = frozenset({ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING})
_CLOSED_BY_PEER: Final = frozenset({ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED})


class Pong(NamedTuple):
    """The answer to a ping of ours."""

    payload: bytes


class Closing(NamedTuple):
    """Nothing more will come.

    Attributes:
        code: Why; 1005 if the server said nothing.
        reason: The text behind it.
        failed: The server broke the protocol or a limit: the code is ours.
    """

    code: int
    reason: str
    failed: bool


Event: TypeAlias = "str | bytes | Pong | Closing"


def accept_value(key: str) -> str:
    """Return what a server that speaks WebSocket answers to *key* (RFC 6455 4.2.2)."""
    return b64encode(sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


class Messages:
    """The client's end of a WebSocket connection, behind the handshake.

    After :meth:`close`, and after a :class:`Closing`, there is nothing more to be sent.

    Args:
        most: How many bytes, or characters, a message may have.

    Attributes:
        answers: What is to be sent because of what was received. The caller clears it.
    """

    __slots__ = ("_connection", "_most", "_pieces", "_size", "answers", "ended")

    def __init__(self, most: int) -> None:
        self._connection = Connection(CLIENT)
        self._most = most
        self._pieces: list[Any] = []
        self._size = 0
        self.ended: bool = False
        self.answers: bytes = b""

    def feed(self, data: bytes) -> list[Event]:
        """Return what *data* brings; nothing follows a :class:`Closing`."""
        found: list[Event] = []
        if self.ended:
            return found
        self._connection.receive_data(data)
        for event in self._connection.events():
            if isinstance(event, events.Message):
                self._add(event, found)
            elif isinstance(event, events.Ping):
                if self._connection.state in _OPEN:  # else we have said goodbye
                    # the latest one is enough (RFC 6455 5.5.3): no more goes out than comes in
                    self.answers = self._connection.send(event.response())
            elif isinstance(event, events.Pong):
                found.append(Pong(bytes(event.payload)))
            elif isinstance(event, events.CloseConnection):
                # wsproto reports a mistake of the server so as well, but nothing has changed then
                failed = self._connection.state not in _CLOSED_BY_PEER
                self._end(Closing(int(event.code), event.reason or "", failed), found)
            if found and isinstance(found[-1], Closing):
                break
        return found

    def _add(self, event: Any, found: list[Event]) -> None:
        if event.data:
            self._pieces.append(event.data)
            self._size += len(event.data)
            if self._size > self._most:
                reason = f"a message of more than {self._most}"
                self._end(Closing(_TOO_BIG, reason, True), found)
                return
        if event.message_finished:
            empty: Any = "" if isinstance(event, events.TextMessage) else b""
            found.append(empty.join(self._pieces))
            self._pieces.clear()
            self._size = 0

    def _end(self, closing: Closing, found: list[Event]) -> None:
        self.ended = True
        self._pieces.clear()
        found.append(closing)
        if self._connection.state in _MAY_CLOSE:
            self.answers += self.close(closing.code, closing.reason if closing.failed else "")

    def message(self, data: str | bytes | bytearray | memoryview) -> bytes:
        """Return a message to be sent."""
        event: Any = events.TextMessage if isinstance(data, str) else events.BytesMessage
        return self._connection.send(event(data=data))

    def ping(self, payload: bytes) -> bytes:
        """Return a ping to be sent."""
        return self._connection.send(events.Ping(payload))

    def close(self, code: int, reason: str) -> bytes:
        """Return what tells the server that nothing more is sent."""
        return self._connection.send(events.CloseConnection(code, reason))
