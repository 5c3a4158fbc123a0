"""``python -m ae_socket``, as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from ae_socket.testing import refused_address, silent_address

COMMAND = [sys.executable, "-W", "error", "-m", "ae_socket"]


def run(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [*COMMAND, *words], input=stdin, capture_output=True, timeout=60, check=False
    )
    done.stderr = done.stderr.replace(b"\r\n", b"\n")
    return done


def listen(*words: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start a listening command; returns it and what it says it listens on."""
    child = subprocess.Popen(
        [*COMMAND, "--listen", "--verbose", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    line = lines(child.stderr).readline().decode().rstrip()
    match = re.fullmatch(r"listening on (\S+)", line)
    assert match, line
    return child, match[1]


def lines(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def finish(child: subprocess.Popen[bytes], data: bytes = b"") -> tuple[int, bytes]:
    out, _ = child.communicate(data, timeout=60)
    return child.returncode, out


@pytest.mark.unix_sockets
@pytest.mark.parametrize("how", ["two words", "one word", "path", "unix/"])
def test_two_of_them_talk_to_each_other(how: str, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    if how in ("two words", "one word"):
        server, address = listen("127.0.0.1", "0")
        words = address.rsplit(":", 1) if how == "two words" else [address]
    else:
        server, address = listen(path)
        assert address == f"unix/:{path}"
        words = [path] if how == "path" else ["unix/", path]
    big = os.urandom(3_000_000)
    (tmp_path / "big").write_bytes(big)
    with open(tmp_path / "big", "rb") as file:
        client = subprocess.Popen([*COMMAND, *words], stdin=file, stdout=subprocess.PIPE)
    # The server's input ends first, and its end of the connection; the client goes on.
    assert finish(server, b"welcome\n") == (0, big)
    assert finish(client) == (0, b"welcome\n")
    assert not os.path.exists(path)


def test_listening_without_a_host() -> None:
    child, address = listen("0")
    assert address.startswith("0.0.0.0:")
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as sock:
        sock.sendall(b"hello")
    assert finish(child) == (0, b"hello")


def test_connecting_says_where() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        child = subprocess.Popen(
            [*COMMAND, "-v", "localhost", str(port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"bye")
        out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (0, b"bye")
    assert err.decode().splitlines() == [f"connected to 127.0.0.1:{port}"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("output", "status", "text"),
    [("full", 74, b"ae_socket: standard output: No space left on device\n"), ("pipe", 141, b"")],
)
def test_output_that_cannot_be_written_ends_it(output: str, status: int, text: bytes) -> None:
    if output == "full":
        writer = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, writer = os.pipe()
        os.close(reader)
    with socket.create_server(("127.0.0.1", 0)) as server:
        child = subprocess.Popen(
            [*COMMAND, "127.0.0.1", str(server.getsockname()[1])],
            stdin=subprocess.PIPE, stdout=writer, stderr=subprocess.PIPE,
        )  # fmt: skip
        os.close(writer)
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"bye")
            assert peer.recv(1) == b""
        _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (status, text)


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")
def test_closed_standard_output_never_becomes_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        child = subprocess.Popen(
            ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, *map(str, server.getsockname())],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"bye")
            assert peer.recv(10) == b""  # what it received is not sent back
        _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (74, b"ae_socket: standard output: Bad file descriptor\n")


@pytest.mark.unix_sockets
@pytest.mark.skipif(sys.platform != "linux", reason="needs names of any octets")
def test_name_of_a_peer_is_shown_with_escapes(tmp_path: Path) -> None:
    child, _ = listen(str(tmp_path / "s"))
    with socket.socket(socket.AF_UNIX) as peer:
        peer.bind(f"{tmp_path}/\x1b[2J\n\u202e")
        peer.connect(str(tmp_path / "s"))
        line = lines(child.stderr).readline().decode()
    assert line == f"connection from unix/:{tmp_path}/\\x1b[2J\\n\\u202e\n"
    finish(child)


def test_failures_are_one_line_and_status_one() -> None:
    with refused_address() as (host, port):
        refused = run(host, str(port))
    assert refused.returncode == 1
    assert re.fullmatch(rb"ae_socket: .*refused\n", refused.stderr)
    for words, text in [
        (["127.0.0.1", "no-such-service"], b"unknown service"),
        (["/no/such/socket"], b"No such file" if hasattr(socket, "AF_UNIX") else b"no UNIX"),
        (["--listen", "localhost", "0"], b"expected an IP address"),
        (["no-such-host.invalid", "80"], b"cannot resolve"),
    ]:
        done = run(*words)
        assert (done.returncode, done.stdout) == (1, b"")
        assert text in done.stderr
        assert done.stderr.count(b"\n") == 1
    assert run("lonely").returncode == 2
    assert run("--help").returncode == 0


@pytest.mark.linux
def test_time_out_ends_the_attempt() -> None:
    with silent_address() as (host, port):
        done = run("--timeout", "0.1", host, str(port))
    assert done.returncode == 124
    assert b"timed out" in done.stderr.lower()


@pytest.mark.linux
def test_reset_connection_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        child = subprocess.Popen(
            [*COMMAND, *map(str, server.getsockname())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        peer, _ = server.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert b"reset" in err


@pytest.mark.linux
def test_interrupt_ends_it_quietly() -> None:
    child, _ = listen("127.0.0.1", "0")
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (130, b"")
