"""``python -m ae_handle``: what it says, and with which status it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ae_socket.testing import refused_address, silent_address

Start = Callable[..., subprocess.Popen[str]]


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
        each.kill()
        each.communicate()


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
    for words in (["a", "b", "c"], ["--listen", "0"], ["x:1", "--echo"], ["nonsense"]):
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
