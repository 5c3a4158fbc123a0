"""The debug shell's doors: who may come in, who is thrown out (DEBUG-10, DEBUG-15, DEBUG-16)."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import re
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
from ae_core import debug
from ae_core.debug import _environment, _shell

pytestmark = pytest.mark.usefixtures("fresh_logs")
unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs UNIX sockets")


def nothing() -> None:
    """A callback."""


# Clients that mean harm


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"\xff\xfe\n", "refused: a line must be UTF-8 text\r\n"),
        (b"\0\n", "refused: a line must not contain control characters\r\n"),
        (bytes(range(256)) * 10, None),
        (b"x" * (1 << 20), "refused: line longer than 65536 bytes\r\n"),
        (b"x" * (1 << 20) + b"\nprint(1)\n", "refused: line longer than 65536 bytes\r\n"),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\nraise SystemExit",
            "refused: this is no web server\r\n",
        ),
        (b"POST /x HTTP/1.1\r\n\r\nimport os\r\n", "refused: this is no web server\r\n"),
        (b"Host: localhost\r\n", "refused: this is no web server\r\n"),
    ],
    ids=["not-utf8", "nul", "octets", "megabyte", "megabyte-line", "get", "post", "host"],
)
def test_garbage_is_refused_and_the_loop_unharmed(
    data: bytes, answer: str | None, address: Any, greet: Any
) -> None:
    async def main() -> None:
        with debug.shell(*address) as shell:
            client = await greet(shell.address)
            with contextlib.suppress(OSError):
                await client.say(data)
                client.sock.shutdown(socket.SHUT_WR)
            got = await client.rest()
            if answer is not None:
                assert got == answer
            client.close()
            other = await greet(shell.address)
            assert await other.ask("1 + 1") == "2\r\n"
            other.close()
            while shell._listener.connections:
                await ae.sleep(0.001)

    ae.run(main())


def test_reset_connection_is_forgotten(address: Any, greet: Any) -> None:
    async def main() -> None:
        with debug.shell("127.0.0.1", 0) as shell:
            client = await greet(shell.address)
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await client.say(b"'x' * 1000000\n")
            client.close()
            while shell._listener.connections:
                await ae.sleep(0.001)

    ae.run(main())


def test_refused_client_that_stays_is_closed_in_the_end(
    address: Any, monkeypatch: pytest.MonkeyPatch, greet: Any
) -> None:
    monkeypatch.setattr(_shell, "LINGER", 0.01)

    async def main() -> None:
        with debug.shell(*address) as shell:
            client = await greet(shell.address)
            await client.say(b"Host: x\n")
            while shell._listener.connections:
                await ae.sleep(0.001)
            client.close()

    ae.run(main())


def test_number_of_clients_is_bounded(
    address: Any, monkeypatch: pytest.MonkeyPatch, greet: Any, connect: Any
) -> None:
    monkeypatch.setattr(_shell, "MOST_CLIENTS", 2)

    async def main() -> None:
        with debug.shell(*address) as shell:
            kept = [await greet(shell.address) for _ in range(2)]
            third = connect(shell.address)
            assert await third.rest() == "refused: too many clients\r\n"
            third.close()
            kept.pop().close()
            while len(shell._listener.connections) > 1:
                await ae.sleep(0.001)
            fourth = await greet(shell.address)
            for client in (*kept, fourth):
                client.close()

    ae.run(main())


# Addresses


@pytest.fixture
def ask_one(greet: Any) -> Callable[[Any, str], str]:
    """Ask a shell that is there one line."""

    def ask(address: Any, line: str) -> str:
        async def main() -> str:
            client = await greet(address)
            answer: str = await client.ask(line)
            client.close()
            return answer

        return ae.run(main())

    return ask


@unix
def test_unix_socket_is_for_its_owner_alone(address: Any) -> None:
    before = os.umask(0)
    try:
        shell = debug.shell(*address)
    finally:
        os.umask(before)
    status = os.lstat(address[1])
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert shell.address == address
    assert repr(shell) == f"<Shell unix/:{address[1]}>"
    shell.cancel()
    shell.cancel()
    assert not os.path.lexists(address[1])


@unix
def test_forgetting_the_shell_ends_it(address: Any, connect: Any) -> None:
    shell = debug.shell(*address)
    client = connect(shell.address)
    ae.run(client.greeted())
    del shell
    gc.collect()
    assert not os.path.lexists(address[1])
    assert ae.run(client.rest()) == ""
    client.close()


@unix
def test_stale_socket_is_replaced_and_a_live_one_is_not(address: Any, ask_one: Any) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(address[1])
    with debug.shell(*address):
        with pytest.raises(OSError) as caught:
            debug.shell(*address)
        assert caught.value.errno == errno.EADDRINUSE
        assert ask_one(address, "1") == "1\r\n"
    assert not os.path.lexists(address[1])


@unix
@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_other_files_are_left_alone(kind: str, address: Any, tmp_path: Path) -> None:
    path = Path(address[1])
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError) as caught:
        debug.shell(*address)
    assert caught.value.errno == errno.EEXIST
    assert path.is_dir() or path.is_symlink() or path.read_text() == "precious"


@unix
def test_file_that_took_the_place_of_the_socket_is_not_removed(address: Any) -> None:
    with debug.shell(*address):
        os.unlink(address[1])
        Path(address[1]).write_text("other")
    assert Path(address[1]).read_text() == "other"


@unix
def test_forked_child_leaves_the_socket_alone(address: Any, python: Any) -> None:
    done = python(
        "import os, sys, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "from ae_core import debug\n"
        f"shell = debug.shell('unix/', {address[1]!r})\n"
        "if (pid := os.fork()) == 0:\n"
        "    shell.cancel(); sys.exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        f"print(os.path.exists({address[1]!r}))\n"
    )
    assert done.stdout == "True\n", done.stderr
    assert not os.path.lexists(address[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1"])
def test_loopback_address(host: str, ask_one: Any) -> None:
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("needs IPv6")
    if host == "127.1.2.3" and sys.platform != "linux":
        pytest.skip("needs a whole loopback network")
    with debug.shell(host, 0) as shell:
        where, port = shell.address
        assert where == ("127.0.0.1" if host == "localhost" else host)
        assert isinstance(port, int)
        assert port > 0
        assert ask_one(shell.address, "6*7") == "42\r\n"
    with pytest.raises(OSError):
        socket.create_connection(shell.address)


@pytest.mark.parametrize(
    ("host", "service", "text"),
    [
        ("0.0.0.0", 0, "expected a loopback address, got '0.0.0.0'"),
        ("::", 0, "expected a loopback address, got '::'"),
        ("192.0.2.1", 0, "a debug shell is not offered to other machines"),
        ("8.8.8.8", 1, "expected a loopback address"),
        ("::ffff:127.0.0.1", 0, "expected a loopback address"),
        ("example.org", 1, "expected \"unix/\" or a loopback address, got 'example.org'"),
        ("", 1, "got ''"),
        (None, 1, "got None"),
        ("unix/", "relative", "expected an absolute path for a UNIX socket, got 'relative'"),
        ("unix/", "", "got ''"),
        ("unix/", 1, "got 1"),
        ("127.0.0.1", 65536, "expected a port number, got 65536"),
        ("127.0.0.1", -1, "expected a port number, got -1"),
        ("127.0.0.1", "http", "expected a port number, got 'http'"),
        ("127.0.0.1", True, "expected a port number, got True"),
        ("127.0.0.1", None, "expected a port number, got None"),
        ("127.0.0.1", "/path", "expected a port number, got '/path'"),
    ],
)
def test_other_addresses_are_refused_with_the_reason(host: Any, service: Any, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        debug.shell(host, service)


def test_port_in_use_is_an_error_that_leaves_nothing_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError) as caught:
        debug.shell("127.0.0.1", taken.getsockname()[1])
    assert caught.value.errno == errno.EADDRINUSE


# AE_DEBUG_SHELL


@unix
def test_environment_opens_a_shell_at_detection(tmp_path: Path, python: Any) -> None:
    done = python(
        "import ae_core as ae, os, socket\n"
        f"path = '{tmp_path}/shell-' + str(os.getpid())\n"
        "assert not os.path.exists(path)\n"
        "ae.detect()\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(path)\n"
        "w = ae.io(s, 'r', cv := ae.CondVar())\n"
        "cv.recv()\n"
        "print(s.recv(1000))\n",
        AE_DEBUG_SHELL=f"{tmp_path}/shell-$$",
    )
    assert "Welcome, unix/:" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "value",
    ["nonsense", "relative/path", "127.0.0.1", "127.0.0.1:http", "::1:80", ":80", "x:", "[::1]"],
)
def test_malformed_value_is_named_and_the_program_goes_on(
    value: str, python: Any, unstamped: Any
) -> None:
    done = python("import ae_core as ae; ae.detect(); print('alive')", AE_DEBUG_SHELL=value)
    assert done.stdout == "alive\n"
    assert unstamped(done.stderr) == (
        f"warn  ae_core: AE_DEBUG_SHELL ({value}): not understood: {value!r} at position 1\n"
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("0.0.0.0:0", "not offered to other machines"),
        ("example.org:1", 'expected "unix/" or a loopback address'),
        ("127.0.0.1:99999", "expected a port number"),
        pytest.param("/nosuch/directory/shell", "No such file or directory", marks=unix),
    ],
)
def test_address_that_cannot_be_served_is_refused_with_the_reason(
    value: str, reason: str, python: Any, unstamped: Any
) -> None:
    done = python("import ae_core as ae; ae.detect(); print('alive')", AE_DEBUG_SHELL=value)
    assert done.stdout == "alive\n"
    text = unstamped(done.stderr)
    assert text.startswith(f"error ae_core.debug: AE_DEBUG_SHELL ({value}): no shell: ")
    assert reason in text


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/a/b", ("unix/", "/a/b")),
        ("/a/$$", ("unix/", f"/a/{os.getpid()}")),
        ("unix/:/a:b", None),
        ("unix/:/a", ("unix/", "/a")),
        ("localhost:1", ("localhost", "1")),
        ("127.0.0.1:0", ("127.0.0.1", "0")),
        ("[::1]:80", ("::1", "80")),
        ("[::1]:٣", None),
    ],
)
def test_parsing_addresses(text: str, address: tuple[str, str] | None) -> None:
    if address is None:
        with pytest.raises(ValueError, match="expected /path or host:port"):
            _environment.parse_shell_address(text)
    else:
        assert _environment.parse_shell_address(text) == address


def test_loop_without_other_watchers_is_kept_alive_by_the_shell(address: Any) -> None:
    """Somebody may yet connect and end the wait, so it is no deadlock."""
    with debug.shell(*address):
        with pytest.raises(TimeoutError):
            ae.CondVar[None]().recv(0.01)
