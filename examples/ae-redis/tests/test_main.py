"""The command line."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_redis import Redis, ReplyError
from ae_redis.__main__ import show
from ae_redis.testing import FakeServer

Make = Callable[..., Redis]


def run(url: str, *arguments: str, status: int = 0, stdin: bytes = b"") -> bytes:
    """Run the program; return its standard output, or what it complains about."""
    command = [sys.executable, "-W", "error", "-m", "ae_redis", "-u", url, *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=60)
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


@pytest.fixture
def url(make: Make, redis_server: Any) -> str:
    return f"{redis_server.url}/7"


def test_a_command_and_its_reply(url: str) -> None:
    assert run(url, "SET", "key", "a b") == b"OK\n"
    assert run(url, "GET", "key") == b"a b\n"
    assert run(url, "GET", "none") == b"(nil)\n"
    assert run(url, "LPUSH", "list", "-1", "--x") == b"2\n"
    assert run(url, "LRANGE", "list", "0", "-1") == b"1) --x\n2) -1\n"


def test_commands_from_standard_input_are_one_pipeline(url: str) -> None:
    wrong = b"SET k 'a b' # comment\n\nGET k\nLPUSH k x\n"
    command = [sys.executable, "-m", "ae_redis", "-u", url]
    done = subprocess.run(command, input=wrong, capture_output=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stdout.startswith(b"OK\na b\n(error) WRONGTYPE")
    assert run(url, stdin=b"INCR n\nINCR n\n") == b"1\n2\n"


def test_errors_are_one_line_and_a_status(url: str) -> None:
    run(url, "SET", "k", "v")
    assert run(url, "LPUSH", "k", "v", status=1).startswith(b"(error) WRONGTYPE")
    assert b"got 'http'" in run("http://x", "PING", status=2)
    assert b"use clone" in run(url, "SELECT", "1", status=2)
    refused = run("redis://127.0.0.1:1", "PING", status=2)
    assert refused.startswith(b"ae_redis: cannot connect to 127.0.0.1:1")
    assert refused.count(b"\n") == 1


def test_a_private_authority(secure_server: Any) -> None:
    url = f"rediss://:s3cret%3A%40%2F%25@127.0.0.1:{secure_server.port}"
    assert run(url, "--ca-file", secure_server.ca_file, "PING") == b"PONG\n"
    assert b"cannot connect" in run(url, "PING", status=2)


class Terminal(io.TextIOWrapper):
    """Standard output that says it is one."""

    def isatty(self) -> bool:
        return True


def test_strings_are_escaped_for_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = [b"a\x1b[2J\r\nb\x9b", {"k\x1b": ReplyError("ERR \x1b[2J\u202e")}]
    assert b"a\x1b[2J\r\nb\x9b" in show(reply)
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", Terminal(raw, encoding="utf-8"))
    shown = show(reply).decode()
    assert shown == "1) a\\x1b[2J\\r\\nb\\x9b\n2) k\\x1b => (error) ERR \\x1b[2J\\u202e\n"


def test_error_of_a_server_is_escaped_anywhere() -> None:
    with FakeServer(lambda client, words: "-ERR \x1b[2J\x9b\u202e\r\n".encode()) as server:
        command = [sys.executable, "-m", "ae_redis", "-u", server.url, "PING"]
        done = ae.run_cmd(command, stderr=(errors := bytearray()))
        assert os.waitstatus_to_exitcode(done.recv()) == 1
    assert errors.decode() == "(error) ERR \\x1b[2J\\x9b\\u202e\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_no_reply(url: str) -> None:
    command = [sys.executable, "-W", "error", "-m", "ae_redis", "-u", url, "PING"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (
        74,
        b"ae_redis: standard output: No space left on device\n",
    )


def test_messages_until_interrupted(url: str, make: Make) -> None:
    command = [sys.executable, "-m", "ae_redis", "-u", url, "PSUBSCRIBE", "news.*"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        redis = make()
        while not redis.publish("news.x", "hello").recv():
            pass
        assert process.stdout is not None
        assert process.stdout.readline() == b"news.x: hello\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130


def test_help() -> None:
    environment = {**os.environ, "COLUMNS": "80"}
    command = [sys.executable, "-m", "ae_redis", "--help"]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0
    assert b"redis://" in done.stdout


def test_every_reply_can_be_shown() -> None:
    reply = [1, [b"a", {b"k": [None, True]}], set(), 1.5]
    expected = b"1) 1\n2) 1) a\n   2) k => 1) (nil)\n         2) True\n3) (empty)\n4) 1.5\n"
    assert show(reply) == expected
