"""The debug shell's listener and its connections. What a line does is in ``_commands``.

``ae_core`` knows no ``ae_socket``, so the shell has a small listener of its own. Its watchers
are neither wrapped nor checked by strict mode: looking must not change what is seen.
"""

from __future__ import annotations

__all__ = ("Shell", "shell")

import atexit
import contextlib
import errno
import os
import socket
import stat
import weakref
from typing import TYPE_CHECKING, Any, Final

from .. import _api, _layers, logs
from .._base.escape import visible
from .._base.log import log
from .._base.thread_identity import get_ident
from .._detection.current import current_loop
from .._loop.watchers import Cancellable
from ._commands import Interpreter
from ._lines import LONGEST_LINE, binary, refusal

if TYPE_CHECKING:
    from .._loop.watchers import Watcher

# Theory of operation
# -------------------
# Every client can run code in this process. So: a UNIX socket that only its owner may open
# (connecting is refused before listen(), so the mode is right before any client can connect), or a
# loopback address, and nothing else. Other protocols, a browser's above all, are refused at their
# first line (`_lines`).
#
# Output is queued and sent as fast as the client reads. A client that does not read is not read
# from either, and loses log messages, so the queue is bounded.

MOST_OUTPUT: Final = 1 << 20
MOST_CLIENTS: Final = 16
LINGER: Final = 5.0  # seconds for a refused client to read why
PAUSE: Final = 1.0  # seconds without accepting after an error: no more descriptors, mostly


def shell(host: str, service: str | int) -> Shell:
    """Open a shell into this program, served by this thread's loop.

    Each line a client sends is a command (``help`` lists them), a Python expression, whose value
    is shown, or a statement. All clients share one namespace. Control characters in what is shown
    are escapes.

    A connection ends at the first line that is not UTF-8, has control characters (but TAB, and a
    CR at its end), looks like HTTP or TLS, or is longer than 64 KiB. Neither that line nor
    anything behind it is run; the lines in front of it have been. What has no line feed behind it
    is never run.

    Args:
        host: ``"unix/"``, or a loopback address: ``"127.0.0.1"``, ``"::1"``, ``"localhost"``.
        service: The absolute path of a UNIX socket, made with mode 0600, or a port; 0 takes a
            free one.

    Returns:
        The shell.

    **Lifetime**: dropping or cancelling it ends the shell and its connections.

    Raises:
        ValueError: If the address is neither; a shell is not offered to other machines.
        OSError: If it cannot be listened on. A stale UNIX socket, on which nothing listens, is
            replaced; any other file is left alone.

    Every user who can connect can do in this process what its owner can: on a UNIX socket its
    owner, on a port every user of the machine.

    Perl: ``AnyEvent::Debug::shell``
    """
    listener = _listen_unix(service) if host == "unix/" else _listen_tcp(host, service)
    made = Shell()
    made._listener = listener
    listener.start()
    return made


class Shell(Cancellable):
    """A debug shell that waits for clients; made by :func:`shell`."""

    __slots__ = ("__weakref__", "_listener")

    _listener: _Listener

    @property
    def address(self) -> tuple[str, str | int]:
        """Where it listens: ``("unix/", path)`` or ``(host, port)``."""
        return self._listener.address

    def cancel(self) -> None:
        """End the shell and its connections, and remove its UNIX socket. Idempotent."""
        self._listener.close()

    def __repr__(self) -> str:
        host, service = self.address
        return f"<Shell {host}:{service}>"

    def __del__(self) -> None:
        listener = getattr(self, "_listener", None)
        if listener is not None:
            listener.close()


def _listen_unix(path: str | int) -> _Listener:
    if not isinstance(path, str) or not os.path.isabs(path):
        raise ValueError(f"expected an absolute path for a UNIX socket, got {path!r}")
    if not hasattr(socket, "AF_UNIX"):
        raise ValueError("this platform has no UNIX sockets: use 127.0.0.1 and a port")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _remove_stale(path)
            sock.bind(path)
        os.chmod(path, 0o600)
        status = os.lstat(path)
        return _Listener(sock, ("unix/", path), (status.st_dev, status.st_ino))
    except BaseException:
        sock.close()
        raise


def _remove_stale(path: str) -> None:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise FileExistsError(errno.EEXIST, "not a socket, so it is left alone", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        code = probe.connect_ex(path)
    if code != errno.ECONNREFUSED:
        raise OSError(errno.EADDRINUSE, "another process listens there", path)
    os.unlink(path)


def _listen_tcp(host: str, service: str | int) -> _Listener:
    import ipaddress

    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise ValueError(f'expected "unix/" or a loopback address, got {host!r}') from None
    # Not by is_loopback alone: to newer Pythons ::ffff:127.0.0.1 is one, too.
    if not address.is_loopback or (address.version == 6 and str(address) != "::1"):
        raise ValueError(
            f"expected a loopback address, got {host!r}: every client can run code here, "
            "so a debug shell is not offered to other machines"
        )
    try:
        port = int(service)
    except (TypeError, ValueError):
        port = -1
    if isinstance(service, bool) or not 0 <= port <= 0xFFFF:
        raise ValueError(f"expected a port number, got {service!r}")
    sock = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((str(address), port))
        port = sock.getsockname()[1]
    except BaseException:
        sock.close()
        raise
    log(
        "warn",
        "debug shell on port %d: every user of this machine can run code in this process",
        port,
        context="ae_core.debug",
    )
    return _Listener(sock, (str(address), port), None)


_listeners: weakref.WeakSet[_Listener] = weakref.WeakSet()


class _Listener:
    """The listening socket; lives until it is closed, by the Shell or at exit."""

    def __init__(
        self,
        sock: socket.socket,
        address: tuple[str, str | int],
        identity: tuple[int, int] | None,
    ) -> None:
        self.sock = sock
        self.address = address
        self._identity = identity
        self._pid = os.getpid()
        self._watcher: Watcher | None = None
        self.connections: set[_Connection] = set()
        self.namespace: dict[str, Any] = {}

    #: No loop is kept for it: it follows to the next one.
    is_service = True

    def move(self) -> None:
        """Listen on the loop that serves the thread now."""
        if self.sock.fileno() >= 0:
            self._watch()

    def start(self) -> None:
        self.sock.setblocking(False)
        self.sock.listen(5)
        self._watch()
        if not _listeners:
            atexit.register(_close_all)
        _listeners.add(self)

    def _watch(self) -> None:
        self._watcher = _layers.without(
            _api.io, self.sock, "r", self._accept, on_refused=self._cannot_watch
        )

    def _cannot_watch(self, error: OSError) -> None:
        log("error", "debug shell: ended: %s", error, context="ae_core.debug")
        self.close()

    def _accept(self) -> None:
        try:
            sock, peer = self.sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            return
        except OSError as error:
            log("error", "debug shell: no connection accepted: %s", error, context="ae_core.debug")
            self._watcher = _layers.without(_api.timer, PAUSE, self._watch)
            return
        sock.setblocking(False)
        host, service = self.address if self.address[0] == "unix/" else peer[:2]
        self.connections.add(_Connection(sock, f"{host}:{service}", self))

    def close(self) -> None:
        if self.sock.fileno() < 0:
            return
        # Dropped, not cancelled: the Shell may be collected in any thread.
        self._watcher = None
        _close(self.sock)
        for connection in list(self.connections):
            connection.close()
        if self._identity is not None and self._pid == os.getpid():
            path = str(self.address[1])
            try:
                status = os.lstat(path)
                if (status.st_dev, status.st_ino) == self._identity:
                    os.unlink(path)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    log("error", "debug shell: %s not removed: %s", path, error,
                        context="ae_core.debug")  # fmt: skip


def _close(sock: socket.socket) -> None:
    """Close a socket, whose descriptor the program may have closed before."""
    with contextlib.suppress(OSError):
        sock.close()


def _close_all() -> None:
    for listener in list(_listeners):
        listener.close()


class _Connection:
    """One client."""

    def __init__(self, sock: socket.socket, peer: str, listener: _Listener) -> None:
        self._sock = sock
        self._listener = listener
        self._core = current_loop()
        self._thread = get_ident()
        self._input = bytearray()
        self._output = bytearray()
        self._looked_at = 0  # bytes of the unfinished line
        self._ending = False  # no line is run any more; close when the output is sent
        self._reader: Watcher | None = None
        self._writer: Watcher | None = None
        self._timer: Watcher | None = None
        self._log: logs.Context | None = None
        self._lost = 0
        self._at_prompt = False
        self._interpreter = Interpreter(listener.namespace, self._verbosity)
        if len(listener.connections) >= MOST_CLIENTS:
            self._refuse("too many clients")
            return
        self._read_on()
        self._write(f"Welcome, {peer}, use 'help' for more info!\n")
        self._prompt()

    #: As the listener.
    is_service = True

    def move(self) -> None:
        """Go on on the loop that serves the thread now."""
        self._core = current_loop()
        self._writer = None
        if self._sock.fileno() >= 0:
            if self._ending:
                self._linger()
            if self._reader is not None:
                self._read_on()
            self._flush()

    def close(self) -> None:
        self._reader = self._writer = self._timer = None
        if self._log is not None:
            logs.COLLECT.detach(self._log)
            self._log = None
        self._ending = True
        self._listener.connections.discard(self)
        _close(self._sock)

    # Input

    def _read_on(self) -> None:
        self._reader = _layers.without(
            _api.io, self._sock, "r", self._readable, on_refused=self._cannot_watch
        )

    def _cannot_watch(self, error: OSError) -> None:
        log("error", "debug shell: a client is lost: %s", error, context="ae_core.debug")
        self.close()

    def _readable(self) -> None:
        try:
            data = self._sock.recv(LONGEST_LINE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        if self._ending:
            if not data:
                self.close()
            return  # what a refused client goes on to say is dropped
        self._input += data
        self._run_lines()
        if not data and not self._ending:
            self._end()

    def _run_lines(self) -> None:
        """Run what lines there are, unless the client has yet to read what it got."""
        while not self._ending and len(self._output) < MOST_OUTPUT:
            end = self._input.find(b"\n")
            if end > LONGEST_LINE or (end < 0 and len(self._input) > LONGEST_LINE):
                self._refuse(f"line longer than {LONGEST_LINE} bytes")
                return
            if end < 0:
                reason = binary(self._input, self._looked_at)
                self._looked_at = len(self._input)
                if reason is not None:
                    self._refuse_line(reason)
                return
            line = bytes(self._input[:end])
            del self._input[: end + 1]
            self._looked_at = 0
            reason = refusal(line)
            if reason is not None:
                self._refuse_line(reason)
                return
            self._run(line.decode())
        if len(self._output) >= MOST_OUTPUT:
            self._reader = None

    def _run(self, line: str) -> None:
        self._at_prompt = False
        self._write(self._interpreter.run(line, MOST_OUTPUT))
        self._prompt()

    def _prompt(self) -> None:
        self._write("> ")
        self._at_prompt = True

    def _refuse_line(self, reason: str) -> None:
        log("warn", "debug shell: a client is refused: %s", reason, context="ae_core.debug")
        self._refuse(reason)

    def _refuse(self, reason: str) -> None:
        self._write(f"refused: {reason}\n")
        self._end()

    def _end(self) -> None:
        """Send what is left to be sent, then close; what comes in meanwhile is dropped."""
        self._ending = True
        self._input.clear()
        self._reader = None
        self._linger()
        self._flush()

    def _linger(self) -> None:
        self._timer = _layers.without(_api.timer, LINGER, self.close)

    # Output

    def _write(self, text: str) -> None:
        # Escaped, because values and messages contain what peers of this program chose.
        self._output += visible(text).replace("\n", "\r\n").encode()
        self._flush()

    def _flush(self) -> None:
        if self._sock.fileno() < 0:
            return
        try:
            while self._output:
                del self._output[: self._sock.send(self._output)]
        except (BlockingIOError, InterruptedError):
            if self._writer is None:
                self._writer = _layers.without(
                    _api.io, self._sock, "w", self._writable, on_refused=self._cannot_watch
                )
            return
        except OSError:
            self.close()
            return
        self._writer = None
        if self._ending and self._reader is None:
            # Closing with input unread would reset the connection, and the client might lose
            # what we said last. So: until it closes, too, or LINGER is over.
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                self.close()
                return
            self._read_on()

    def _writable(self) -> None:
        self._flush()
        if self._output or self._sock.fileno() < 0:
            return
        if self._lost:
            lost, self._lost = self._lost, 0
            self._interject(f"({lost} log messages lost)\n")
        if not self._ending and self._reader is None:
            self._read_on()
            self._run_lines()

    # Log messages

    def _verbosity(self, level: int | str | None) -> bool:
        """Show messages up to *level*; None: all if there were none, else none."""
        if level is None:
            level = 0 if self._log is not None else 9
        context = logs.Context(level=level, log_callback=self._message)
        if self._log is not None:
            logs.COLLECT.detach(self._log)
            self._log = None
        if context._mask:
            self._log = context
            logs.COLLECT.attach(context)
        return self._log is not None

    def _message(self, text: str) -> None:
        if get_ident() != self._thread:
            self._core.call_threadsafe(lambda: self._message(text))
        elif self._sock.fileno() >= 0 and not self._ending:
            if len(self._output) >= MOST_OUTPUT:
                self._lost += 1
            else:
                self._interject(text)

    def _interject(self, text: str) -> None:
        """Write lines where a prompt may stand already; then it is repeated behind them."""
        if self._at_prompt:
            self._write(f"\n{text}> ")
        else:
            self._write(text)
