"""One connection, from the attempt to make it until its end.

A connection is never made anew: another one takes another object.
"""

from __future__ import annotations

__all__ = ("Connection", "Owner")

from typing import TYPE_CHECKING, Any, Final, Protocol

import ae_core as ae
from ae_handle import Handle, HandleError, TlsError

from ._errors import CannotConnect, ConnectionLost, IrcError, PingTimedOut, Refused
from ._message import BadLine, Message, encode, parse, readable
from ._registration import Registration, StsUpgrade

if TYPE_CHECKING:
    from ._settings import Settings

# The longest line there can be: 8191 bytes of tags and 512 others (IRCv3), and what a server
# with a LINELEN of its own may add. Half a line must be able to wait behind whole ones.
_MAX_BUFFER: Final = 1 << 17
#: A server that asks and asks, and reads none of the answers, loses the connection at so many
#: bytes: far more than a client has to say at a time that sends as fast as it likes.
_MAX_UNSENT: Final = 1 << 24
#: For so many seconds a password that would go as plaintext waits for the server's capabilities.
_PATIENCE: Final = 5.0
_SECRET: Final = {"PASS", "AUTHENTICATE", "OPER"}
#: The end of the message of the day, or that there is none: all of the greeting has come.
_GREETED: Final = {"376", "422"}
_NEGOTIATED: Final = {"CAP", "AUTHENTICATE"}
_LINES: Final = ae.logger("trace", "ae_irc.lines")


class Owner(Protocol):
    """Who makes a connection, and is told what happens to it. Nothing is told inside a call."""

    def connection_made(self, connection: Connection) -> None:
        """The peer is there; TLS is established, if wanted."""

    def connection_read(self, connection: Connection, message: Message) -> None:
        """A line has come."""

    def connection_up(self, connection: Connection) -> None:
        """The greeting is over: the line before was the last of it."""

    def connection_down(self, connection: Connection, error: IrcError) -> None:
        """It has ended."""

    def connection_strict(self, connection: Connection, port: int) -> None:
        """It has ended, because the server wants TLS, at *port*."""


class Connection:
    """A connection to a server.

    Args:
        settings: Where, and as whom.
        owner: Who is told.
        port: At which port.
        secure: Within TLS.

    Attributes:
        up: Whether the greeting is over, and the connection has not ended.
        ended: Whether it has ended.
        is_paused: Whether it is not read.
        registration: The greeting.
    """

    def __init__(self, settings: Settings, owner: Owner, *, port: int, secure: bool) -> None:
        self._settings = settings
        self._owner = owner
        self.port = port
        self.secure = secure
        self.up = self.ended = False
        self._is_traced = _LINES.enabled  # asked once: it costs as much as a line
        self.registration = Registration(settings.identity, secure=secure)
        self._asked = False  # for a sign of life
        self.is_paused = False
        self._said = ""  # in ERROR
        self._handle: Handle | None = None
        self._deadline: ae.Watcher | None = None
        self._patience: ae.Watcher | None = None
        try:
            handle = Handle(
                connect=(settings.host, port),
                on_connect=self._connected,
                on_tls_started=self._secured,
                on_error=self._failed,
                on_eof=self._eof,
                on_read_timeout=self._quiet,
                max_read_buffer=_MAX_BUFFER,
                max_write_buffer=_MAX_UNSENT,
                no_delay=True,
                keepalive=True,
                linger=5.0,
                tls="connect" if secure else None,
                tls_context=settings.tls_context,
            )
        except (HandleError, TypeError, ValueError) as error:  # no TLS engine, or no such context
            failure = error.with_traceback(None)
            ae.postpone(lambda: self._unusable(failure))
            return
        self._deadline = ae.timer(settings.connect_timeout, self._too_late)
        self._handle = handle
        handle.read_each("line", self._line)
        self._say(self.registration.start())

    def send(self, line: bytes) -> None:
        """Send an encoded line."""
        if self._handle is not None:
            if self._is_traced:
                _LINES("> %s", _shown(line))
            self._handle.push_write(line)

    def _say(self, lines: list[tuple[str, ...]]) -> None:
        for words in lines:
            self.send(encode(*words))

    def pause(self) -> None:
        """Read nothing more until :meth:`go_on`."""
        self.is_paused = True
        if self._handle is not None:
            self._handle.stop_read()

    def go_on(self) -> None:
        """Read again."""
        self.is_paused = self._asked = False
        if self._handle is not None:
            self._handle.start_read()

    # ------------------------------------------------------------------ input

    def _connected(self, handle: Handle, host: str, port: Any, retry: Any) -> None:
        if not self.secure:
            if self.registration.is_held:
                self._patience = ae.timer(_PATIENCE, lambda: self._say(self.registration.release()))
            self._owner.connection_made(self)

    def _secured(self, handle: Handle, error: HandleError | None) -> None:
        if error is None:
            self._owner.connection_made(self)
        else:
            self._failed(handle, error)

    def _line(self, handle: Handle, line: bytes) -> None:
        if self.ended or not line:
            return
        self._asked = False
        if self._is_traced:
            _LINES("< %s", _shown(line))
        try:
            message = parse(line)
        except BadLine:
            return
        command = message.command
        if command == "PING":
            try:
                self.send(encode("PONG", *message.params[-1:]))
            except ValueError:  # what the server says cannot be said back: it has NUL or CR
                self.send(encode("PONG"))
            return
        if command == "PONG":
            return
        if command == "ERROR":
            self._said = readable(message.param(-1))
        if self.up and command not in _NEGOTIATED:
            self._owner.connection_read(self, message)
            return
        try:
            lines = self.registration.handle(message)
        except StsUpgrade as upgrade:
            self.close(at_once=True)
            self._owner.connection_strict(self, upgrade.port)
            return
        except IrcError as error:
            self.end(error)
            return
        self._say(lines)
        self._owner.connection_read(self, message)
        if command in _GREETED and self.registration.welcome and not self.up and not self.ended:
            self.up = True
            self._deadline = None
            handle.read_timeout = self._settings.ping_interval
            self._owner.connection_up(self)

    def _quiet(self, handle: Handle) -> None:
        """Nothing has come for a while."""
        if self.is_paused:
            return
        if self._asked:
            seconds = self._settings.ping_interval
            self.end(PingTimedOut(f"no sign of life from {self._where} within {seconds:g} s"))
        else:
            self._asked = True
            self.send(encode("PING", "alive"))

    # ------------------------------------------------------------------ the end

    @property
    def _where(self) -> str:
        return self._settings.where

    def end(self, error: IrcError) -> None:
        """End the connection because of *error*; the owner is told, inside this call."""
        if not self.ended:
            self.close(at_once=True)
            self._owner.connection_down(self, error)

    def close(self, *, at_once: bool = False) -> None:
        """End the connection without a callback. What is unsent is still sent, unless *at_once*."""
        self.ended = True
        self.up = False
        self._deadline = self._patience = None
        handle, self._handle = self._handle, None
        if handle is not None:
            if at_once:
                handle.linger = 0
            handle.destroy()

    def _unusable(self, error: Exception) -> None:
        failure = Refused(f"cannot connect to {self._where}: {error}")
        failure.__cause__ = error
        self.end(failure)

    def _failed(self, handle: Handle, error: HandleError) -> None:
        number = error.errno or 0
        failure: IrcError
        if self.up:
            text = self._said or str(error)
            failure = ConnectionLost(f"the connection to {self._where} broke: {text}", errno=number)
        else:
            kind = Refused if isinstance(error, TlsError) else CannotConnect
            failure = kind(f"cannot connect to {self._where}: {error}", errno=number)
        failure.__cause__ = error
        self.end(failure)

    def _eof(self, handle: Handle) -> None:
        if self.up:
            text = self._said or f"{self._where} closed the connection"
            self.end(ConnectionLost(text))
        else:
            self.end(CannotConnect(f"{self._where} closed the connection instead of greeting"))

    def _too_late(self) -> None:
        seconds = self._settings.connect_timeout
        self.end(CannotConnect(f"no greeting from {self._where} within {seconds:g} s"))


def _shown(line: bytes) -> str:
    """Return a line for a log, without what is secret."""
    text = line.decode("utf-8", "backslashreplace").rstrip("\r\n")
    command = text.partition(" ")[0]
    return f"{command} ..." if command in _SECRET else text
