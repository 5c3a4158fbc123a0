"""Handles over TLS over connections to names that ae_dns looked up, on every way to run a loop.

Each scenario is one coroutine; the ``run`` fixture runs it on the built-in loop, on asyncio below a
blocking program, and inside a running asyncio.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_dns.testing import NameServer
from ae_handle import Chunk, Handle, HandleError, TlsError, UnexpectedEOF
from ae_socket import Server, tcp_server
from ae_tls import Context
from ae_tls.testing import CertificateAuthority

NAME = "www.stack.test"
RECORDS = (f"{NAME}. A 127.0.0.1", "other.stack.test. A 127.0.0.1")
Run = Callable[..., Any]
Names = Callable[..., NameServer]


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority()


@pytest.fixture(scope="module")
def trusting(authority: CertificateAuthority) -> Context:
    return Context(ca_cert=authority.cert)


@pytest.fixture(scope="module")
def certified(authority: CertificateAuthority) -> Context:
    leaf = authority.issue(NAME)
    return Context(cert=leaf.chain, key=leaf.key)


class Serving:
    """A server whose connections are handles that live until they end; a context manager."""

    def __init__(self, start: Callable[[Handle], object], **options: Any) -> None:
        self._start = start
        self._options = options
        self._live: set[Handle] = set()
        self.errors: list[HandleError] = []
        self._server: Server = tcp_server("127.0.0.1", 0, self._accepted)
        self.port = int(self._server.address[1])

    def _accepted(self, sock: socket.socket, host: str, port: int) -> None:
        handle = Handle(sock, on_error=self._failed, on_eof=self._ended, linger=5, **self._options)
        self._live.add(handle)
        self._start(handle)

    def _failed(self, handle: Handle, error: HandleError) -> None:
        self.errors.append(error)
        self._ended(handle)

    def _ended(self, handle: Handle) -> None:
        self._live.discard(handle)
        handle.destroy()

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.cancel()
        for handle in tuple(self._live):
            self._ended(handle)


def echo_lines(handle: Handle) -> None:
    handle.read_each("line", lambda handle, line: handle.push_write(line + b"\n"))


async def closed(handle: Handle) -> None:
    """Wait until the peer has closed, so that nothing lingers behind the scenario."""
    with pytest.raises(UnexpectedEOF):
        await handle.push_read(Chunk(1))


def test_a_hundred_pipelined_lines_come_back_in_order_over_tls(
    run: Run, names: Names, certified: Context, trusting: Context
) -> None:
    async def scenario() -> list[bytes]:
        with names(*RECORDS), Serving(echo_lines, tls="accept", tls_context=certified) as server:
            handle = Handle(connect=(NAME, server.port), tls="connect", tls_context=trusting)
            answers = []
            for number in range(100):
                handle.push_write(b"%d\n" % number)
                answers.append(handle.push_read("line"))
            lines = [await answer for answer in answers]
            handle.destroy()
            return lines

    assert run(scenario) == [b"%d" % number for number in range(100)]


def test_a_megabyte_goes_both_ways_over_tls(
    run: Run, names: Names, certified: Context, trusting: Context
) -> None:
    data = bytes(range(256)) * 4096

    def mirror(handle: Handle) -> None:
        handle.push_read(Chunk(len(data)), lambda handle, got: handle.push_write(got))

    async def scenario() -> bytes:
        options = {"tls": "accept", "tls_context": certified, "max_read_buffer": 1 << 22}
        with names(*RECORDS), Serving(mirror, **options) as server:
            handle = Handle(
                connect=(NAME, server.port),
                tls="connect",
                tls_context=trusting,
                max_read_buffer=1 << 22,
            )
            handle.push_write(data)
            answer = await handle.push_read(Chunk(len(data)))
            handle.destroy()
            return answer

    assert hashlib.sha256(run(scenario)).digest() == hashlib.sha256(data).digest()


def test_a_connection_upgrades_to_tls_in_the_middle(
    run: Run, names: Names, certified: Context, trusting: Context
) -> None:
    def talk(handle: Handle) -> None:
        def line(handle: Handle, text: bytes) -> None:
            if text == b"STARTTLS":
                handle.push_write(b"go ahead\n")
                handle.start_tls("accept", certified)
            else:
                handle.push_write(b"%b over %b\n" % (text, b"tls" if handle.tls else b"plain"))

        handle.read_each("line", line)

    async def scenario() -> list[bytes]:
        with names(*RECORDS), Serving(talk) as server:
            handle = Handle(connect=(NAME, server.port))
            lines = []
            handle.push_write(b"one\nSTARTTLS\n")
            lines.append(await handle.push_read("line"))
            lines.append(await handle.push_read("line"))
            handle.start_tls("connect", trusting)
            handle.push_write(b"two\n")
            lines.append(await handle.push_read("line"))
            handle.destroy()
            return lines

    assert run(scenario) == [b"one over plain", b"go ahead", b"two over tls"]


def test_a_wrong_name_is_refused_before_a_byte_of_the_application_is_sent(
    run: Run, names: Names, certified: Context, trusting: Context
) -> None:
    received: list[bytes] = []

    def listen(handle: Handle) -> None:
        handle.read_each("line", lambda handle, line: received.append(line))

    async def scenario() -> tuple[str | None, int]:
        with names(*RECORDS), Serving(listen, tls="accept", tls_context=certified) as server:
            target = ("other.stack.test", server.port)
            handle = Handle(connect=target, tls="connect", tls_context=trusting)
            handle.push_write(b"secret\n")
            with pytest.raises(TlsError) as refused:
                await handle.push_read("line")
            while not server.errors:
                await ae.sleep(0.001)
            return refused.value.reason, len(received)

    assert run(scenario) == ("wrong-name", 0)


def test_an_unknown_authority_is_refused(run: Run, names: Names, certified: Context) -> None:
    stranger = Context(ca_cert=CertificateAuthority().cert)

    async def scenario() -> str | None:
        with names(*RECORDS), Serving(echo_lines, tls="accept", tls_context=certified) as server:
            handle = Handle(connect=(NAME, server.port), tls="connect", tls_context=stranger)
            with pytest.raises(TlsError) as refused:
                await handle.push_read("line")
            while not server.errors:
                await ae.sleep(0.001)
            return refused.value.reason

    assert run(scenario) == "untrusted"


def test_a_close_without_close_notify_is_no_end_of_file(
    run: Run, names: Names, certified: Context, trusting: Context
) -> None:
    def cut(handle: Handle) -> None:
        def asked(handle: Handle, line: bytes) -> None:
            handle.push_write(b"half an ans")
            handle.socket.shutdown(socket.SHUT_WR)

        handle.push_read("line", asked)

    async def scenario() -> type[BaseException]:
        with names(*RECORDS), Serving(cut, tls="accept", tls_context=certified) as server:
            handle = Handle(connect=(NAME, server.port), tls="connect", tls_context=trusting)
            handle.push_write(b"question\n")
            with pytest.raises(HandleError) as cut_off:
                await handle.push_read("line")
            return type(cut_off.value)

    assert run(scenario) is UnexpectedEOF


def test_the_next_address_is_tried_when_the_first_refuses(run: Run, names: Names) -> None:
    records = ("two.stack.test. A 127.0.0.2", "two.stack.test. A 127.0.0.1")

    async def scenario() -> tuple[bytes, tuple[Any, ...]]:
        with names(*records), Serving(echo_lines) as server:
            handle = Handle(connect=("two.stack.test", server.port))
            handle.push_write(b"hello\n")
            line = await handle.push_read("line")
            peer = handle.socket.getpeername()
            handle.destroy()
            return line, peer[:1]

    assert run(scenario) == (b"hello", ("127.0.0.1",))


def test_an_unknown_name_ends_the_handle_with_one_error(run: Run, names: Names) -> None:
    async def scenario() -> list[type[BaseException]]:
        errors: list[BaseException] = []
        with names():
            done: ae.CondVar[None] = ae.CondVar()

            def failed(handle: Handle, error: HandleError) -> None:
                errors.append(error)
                done.send()

            handle = Handle(connect=("nowhere.stack.test", 80), on_error=failed)
            await done
            handle.destroy()
        return [type(error).__mro__[-4] for error in errors]

    assert run(scenario) == [OSError]


def test_a_cancelled_read_leaves_the_stream_in_step(run: Run, names: Names) -> None:
    async def scenario() -> list[bytes]:
        with names(*RECORDS), Serving(echo_lines) as server:
            handle = Handle(connect=(NAME, server.port))
            first, second, third = (handle.push_read("line") for _ in range(3))
            second.cancel()
            handle.push_write(b"one\ntwo\n")
            lines = [await first, await third]
            with pytest.raises(ae.CancelledError):
                await second
            handle.destroy()
            return lines

    assert run(scenario) == [b"one", b"two"]
