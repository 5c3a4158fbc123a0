"""``python -m ae_handle``: what it says, and with which status it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ae_core as ae
from ae_handle import Handle, serve
from ae_handle.__main__ import _arguments
from ae_socket import format_host_port
from ae_socket.testing import refused_address, silent_address

Start = Callable[..., subprocess.Popen[str]]
TWO_PROXIES = ["x:1", "--socks", "a:1", "--http-proxy", "b:1"]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def run(*words: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        program = [sys.executable, "-W", "error", "-m", "ae_handle", *words]
        running.append(subprocess.Popen(program, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        return running[-1]

    yield run
    for each in running:
        each.terminate()  # a server ends of itself then
        each.communicate(timeout=60)


@pytest.fixture
def listen(start: Start) -> Callable[..., tuple[str, subprocess.Popen[str]]]:
    def run(*words: str) -> tuple[str, subprocess.Popen[str]]:
        program = start("--listen", "127.0.0.1:0", *words)
        assert program.stderr is not None
        return program.stderr.readline().split()[-1], program

    return run


Listen = Callable[..., tuple[str, subprocess.Popen[str]]]


def test_what_is_typed_goes_out_and_what_comes_back_is_shown(start: Start, listen: Listen) -> None:
    address, server = listen("--echo")
    text = "hello\n" * 50_000
    assert start(address).communicate(text, timeout=60) == (text, "")
    assert start(*address.split(":")).communicate("a", timeout=60) == ("a", "")
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0


def test_a_relay_passes_clients_on_through_tls(
    start: Start, listen: Listen, certificates: Any
) -> None:
    tls = ("--cert", certificates.cert, "--key", certificates.key)
    secure, _ = listen("--echo", *tls)
    trust = ("--tls", "--name", "peer.test", "--ca-file", certificates.ca)
    front, _ = listen("--relay", secure, *trust)
    for words in ((secure, *trust), (front,), (secure, "--tls", "--insecure")):
        assert start(*words).communicate("secret\n", timeout=60) == ("secret\n", "")
    program = start(secure, "--tls")
    out, err = program.communicate("secret\n", timeout=60)
    assert (out, program.returncode) == ("", 1)
    assert err.startswith("ae_handle: ")
    assert len(err.splitlines()) == 1


def test_each_line_and_the_end_as_json(start: Start, listen: Listen) -> None:
    address, _ = listen("--echo")
    program = start(address, "--json")
    out, err = program.communicate("one\ntwo\n", timeout=60)
    assert (program.returncode, err) == (0, "")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"event": "connected", "address": address, "tls": False},
        {"event": "line", "text": "one"},
        {"event": "line", "text": "two"},
        {"event": "end"},
    ]


def test_refusals_time_outs_and_wrong_commands_have_a_status_each(start: Start) -> None:
    with refused_address() as (host, port):
        program = start(host, str(port), "--json")
        out, err = program.communicate("", timeout=60)
        assert program.returncode == 1
        assert "refused" in json.loads(out)["error"]
        assert "refused" in err
    with silent_address() as (host, port):
        program = start(host, str(port), "--timeout", "0.05")
        assert program.communicate("", timeout=60)[0] == ""
        assert program.returncode == 124
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and says nothing
        host, port = server.getsockname()
        program = start(f"{host}:{port}", "--timeout", "0.05")
        assert program.wait(60) == 124
    for words in (["a", "b", "c"], ["--listen", "0"], ["x:1", "--echo"], ["nonsense"], TWO_PROXIES):
        program = start(*words)
        program.communicate(timeout=60)
        assert program.returncode == 2


def test_a_socks_proxy_is_asked(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        address = "{}:{}".format(*proxy.getsockname())
        program = start("target.test:7", "--socks", address)
        sock, _ = proxy.accept()
        with sock:
            assert sock.recv(3) == b"\5\1\0"
            sock.sendall(b"\5\0")
            assert sock.recv(100) == b"\5\1\0\3\x0btarget.test\0\7"
            sock.sendall(b"\5\0\0\1\0\0\0\0\0\0a greeting\n")
        assert program.communicate("", timeout=60)[0] == "a greeting\n"


def secure_pop3(certificates: Any, welcome: bytes = b"+OK go\r\n") -> Callable[[Handle], Any]:
    """Return a handler that speaks POP3 until STLS, and echoes what it hears in TLS."""

    async def handler(handle: Handle) -> None:
        handle.push_write(b"+OK hello\r\n")
        assert await handle.push_read("line") == b"STLS"
        handle.push_write(welcome)
        if not welcome.startswith(b"+OK"):
            await handle.drained()
            return
        handle.start_tls("accept", certificates.server())
        async for line in handle.each("line"):
            handle.push_write(line + b"\n")

    return handler


def test_an_http_proxy_is_asked(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        address = "{}:{}".format(*proxy.getsockname())
        program = start("target.test:7", "--http-proxy", address)
        sock, _ = proxy.accept()
        with sock:
            asked = b""
            while not asked.endswith(b"\r\n\r\n"):
                asked += sock.recv(100)
            assert asked.startswith(b"CONNECT target.test:7 HTTP/1.1\r\n")
            sock.sendall(b"HTTP/1.1 200 OK\r\n\r\na greeting\n")
        assert program.communicate("", timeout=60)[0] == "a greeting\n"


def test_a_path_is_the_address_of_a_unix_socket() -> None:
    assert _arguments(["/run/some.socket"]).target == ("unix/", "/run/some.socket")


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_has_gone_ends_the_program_as_a_broken_pipe(start: Start, lines: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = start("{}:{}".format(*server.getsockname()))
        assert program.stdout is not None
        program.stdout.close()
        program.stdout = None
        sock, _ = server.accept()
        with sock:
            with contextlib.suppress(OSError):  # it may have ended before all of it
                sock.sendall(b"nobody reads this\n" * lines)
                sock.shutdown(socket.SHUT_WR)
            err = program.communicate("", timeout=60)[1]
    assert program.returncode == 141  # as a shell says for SIGPIPE
    assert "BrokenPipeError" not in err


def test_output_that_nobody_reads_ends_the_function_as_well(script: Callable[..., str]) -> None:
    """Without the guard that the command line has around it."""
    program = """
        import os, socket, sys
        from ae_handle.__main__ import main

        with socket.create_server(("127.0.0.1", 0)) as server:
            client = socket.create_connection(server.getsockname())
            host, port = server.getsockname()
            read, write = os.pipe()
            os.close(read)
            os.dup2(write, 1)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            import threading

            def serve():
                server.accept()[0].close()
                peer, _ = server.accept()
                peer.sendall(b"nobody reads this")
                peer.close()

            threading.Thread(target=serve).start()
            status = main([host, str(port)])
        sys.stdout = None
        os._exit(status)
        """
    script(program, status=141)


def test_a_program_without_any_input_shows_what_comes() -> None:
    closed = ["sh", "-c", 'exec "$@" <&-', "sh"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = "{}:{}".format(*server.getsockname())
        with subprocess.Popen(
            [*closed, sys.executable, "-W", "error", "-m", "ae_handle", target],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as program:
            sock, _ = server.accept()
            with sock:
                sock.sendall(b"hello\n")
            assert program.communicate(timeout=60) == ("hello\n", "")
    assert program.returncode == 0


def test_a_server_says_as_json_where_it_listens(start: Start) -> None:
    program = start("--listen", "127.0.0.1:0", "--echo", "--json")
    assert program.stdout is not None
    said = json.loads(program.stdout.readline())
    assert said["event"] == "listening"
    host, _, port = said["address"].rpartition(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(b"echo")
        assert sock.recv(100) == b"echo"


def test_tls_begins_after_the_words_of_a_protocol(certificates: Any) -> None:
    trust = ["--starttls", "pop3", "--ca-file", certificates.ca, "--name", "peer.test"]
    command = [sys.executable, "-W", "error", "-m", "ae_handle"]

    async def main() -> None:
        async with serve("127.0.0.1", 0, secure_pop3(certificates)) as served:
            address = format_host_port(*served.address)
            program = ae.run_cmd([*command, address, *trust], stdin=b"secret\n", capture=True)
            await program
            assert (program.stdout, program.stderr) == (b"secret\n", b"")
            program = ae.run_cmd([*command, address, *trust, "--json"], stdin=b"a\n", capture=True)
            await program
            assert program.stdout is not None
            assert json.loads(program.stdout.splitlines()[0])["tls"] is True
            front = ["--listen", "127.0.0.1:0", "--relay", address]
            ours, theirs = socket.socketpair()
            async with Handle(ours) as told:
                relaying = ae.run_cmd([*command, *front, *trust], stderr=theirs)
                theirs.close()
                where = (await told.push_read("line")).split()[-1].decode()
            program = ae.run_cmd([*command, where], stdin=b"secret\n", capture=True)
            await program
            assert (program.stdout, program.stderr) == (b"secret\n", b"")
            os.kill(relaying.pid, signal.SIGTERM)
            assert await relaying == 0

    ae.run(main())


def test_a_server_that_refuses_starttls_hears_nothing_in_clear(certificates: Any) -> None:
    command = [sys.executable, "-W", "error", "-m", "ae_handle", "--starttls", "pop3"]

    async def main() -> None:
        refusing = secure_pop3(certificates, b"-ERR no\r\n")
        async with serve("127.0.0.1", 0, refusing) as served:
            address = format_host_port(*served.address)
            program = ae.run_cmd([*command, address], stdin=b"secret\n", capture=True)
            await program
            assert program.exit_code == 1
            assert program.stderr is not None
            assert b"does not offer STLS" in program.stderr

    ae.run(main())


def test_starttls_knows_the_port_and_is_refused_where_it_has_no_meaning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _arguments(["mail.test", "--starttls", "imap"]).target == ("mail.test", "143")
    assert _arguments(["mail.test:1", "--starttls", "imap"]).target == ("mail.test", "1")
    for words in (
        ["mail.test:1", "--starttls", "telnet"],
        ["mail.test:1", "--starttls", "imap", "--tls"],
        ["--listen", "0", "--echo", "--starttls", "imap"],
    ):
        with pytest.raises(SystemExit) as left:
            _arguments(words)
        assert left.value.code == 2
    assert "--starttls" in capsys.readouterr().err
