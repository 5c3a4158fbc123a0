"""The debug shell when the system, a client, or the program itself pulls the rug away."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
from ae_core import debug
from ae_core.debug import _shell

pytestmark = pytest.mark.usefixtures("fresh_logs")
unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs UNIX sockets")
posix = pytest.mark.skipif(os.name != "posix", reason="needs poll() and descriptors")


class Faulty:
    """A socket whose methods raise the given errors first, one at each call."""

    def __init__(self, sock: socket.socket, **errors: list[OSError]) -> None:
        self.sock = sock
        self.errors = errors

    def __getattr__(self, name: str) -> Any:
        if self.errors.get(name):
            raise self.errors[name].pop(0)
        return getattr(self.sock, name)


def the_connection(shell: Any) -> Any:
    (connection,) = shell._listener.connections
    return connection


async def gone(shell: Any) -> None:
    """Wait until the shell has no connection."""
    while shell._listener.connections:
        await ae.sleep(0.001)


def test_no_descriptors_left_is_a_pause_not_the_end(
    address: Any, monkeypatch: pytest.MonkeyPatch, shown: Callable[[], str], greet: Any
) -> None:
    monkeypatch.setattr(_shell, "PAUSE", 0.01)

    async def main() -> None:
        with debug.shell(*address) as shell:
            full = OSError(errno.EMFILE, "Too many open files")
            sock: Any = Faulty(shell._listener.sock, accept=[full, full])
            shell._listener.sock = sock
            client = await greet(shell.address)
            client.close()

    ae.run(main())
    assert shown().count("no connection accepted: [Errno 24] Too many open files") == 2


@pytest.mark.parametrize("error", [BlockingIOError(), InterruptedError(), ConnectionAbortedError()])
def test_client_that_is_gone_before_it_is_accepted_is_nothing(
    error: OSError, address: Any, greet: Any, shown: Callable[[], str]
) -> None:
    async def main() -> None:
        with debug.shell(*address) as shell:
            sock: Any = Faulty(shell._listener.sock, accept=[error])
            shell._listener.sock = sock
            client = await greet(shell.address)
            assert await client.ask("1 + 1") == "2\r\n"
            assert sock.errors == {"accept": []}
            client.close()
            await gone(shell)

    ae.run(main())
    assert shown() == ""


@pytest.mark.parametrize("error", [BlockingIOError(), InterruptedError()])
def test_readiness_that_was_none_is_waited_for_again(
    error: OSError, address: Any, greet: Any
) -> None:
    async def main() -> None:
        with debug.shell(*address) as shell:
            client = await greet(shell.address)
            connection = the_connection(shell)
            connection._sock = Faulty(connection._sock, recv=[error])
            assert await client.ask("1 + 1") == "2\r\n"
            assert connection._sock.errors == {"recv": []}
            client.close()
            await gone(shell)

    ae.run(main())


def test_idle_client_that_resets_its_connection_is_forgotten(greet: Any) -> None:
    async def main() -> None:
        with debug.shell("127.0.0.1", 0) as shell:
            client = await greet(shell.address)
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
            await gone(shell)

    ae.run(main())


def test_client_that_is_gone_when_its_connection_is_ended_is_forgotten(
    address: Any, greet: Any
) -> None:
    async def main() -> None:
        with debug.shell(*address) as shell:
            client = await greet(shell.address)
            connection = the_connection(shell)
            error = OSError(errno.ENOTCONN, "gone")
            connection._sock = Faulty(connection._sock, shutdown=[error])
            client.sock.shutdown(socket.SHUT_WR)
            await gone(shell)
            client.close()

    ae.run(main())


def test_long_answer_arrives_whole_though_the_client_reads_bit_by_bit(
    address: Any, greet: Any
) -> None:
    async def main() -> None:
        with debug.shell(*address) as shell:
            client = await greet(shell.address)
            connection = the_connection(shell)
            connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 15)
            assert await client.ask("'x' * 1_000_000") == "x" * 1_000_000 + "\r\n"
            client.close()

    ae.run(main())


def test_line_that_ends_the_shell_is_the_last(address: Any, greet: Any) -> None:
    async def main() -> None:
        ran: list[int] = []
        shell = debug.shell(*address)
        client = await greet(shell.address)
        shell._listener.namespace.update(end=shell.cancel, ran=ran)
        await client.say(b"ran.append(1)\nend()\nran.append(2)\n")
        await client.rest()
        assert ran == [1]
        client.close()

    ae.run(main())


def test_message_of_a_thread_that_comes_after_the_end_is_dropped(address: Any, greet: Any) -> None:
    async def main() -> None:
        with debug.shell(*address) as shell:
            client = await greet(shell.address)
            await client.ask("v")
            thread = threading.Thread(target=ae.log, args=("error", "from afar"))
            thread.start()
            thread.join()
        await ae.sleep(0.001)
        assert "from afar" not in await client.rest()
        client.close()

    ae.run(main())


# What the program closes behind our back


@pytest.fixture
def polling() -> None:
    """A loop that is told of descriptors that were closed while they are watched."""
    ae.use("loop", multiplexer="poll")


@posix
@pytest.mark.usefixtures("unbound", "polling")
def test_listener_that_the_program_has_closed_ends_the_shell(
    address: Any, greet: Any, shown: Callable[[], str]
) -> None:
    async def main() -> None:
        shell = debug.shell(*address)
        client = await greet(shell.address)
        os.close(shell._listener.sock.fileno())
        assert await client.rest() == ""
        assert not os.path.exists(address[1])
        client.close()
        shell.cancel()

    ae.run(main())
    assert "error ae_core.debug: debug shell: ended: [Errno 9] Bad file descriptor" in shown()


@posix
@pytest.mark.usefixtures("unbound", "polling")
def test_connection_that_the_program_has_closed_is_lost_alone(
    address: Any, greet: Any, shown: Callable[[], str]
) -> None:
    async def main() -> None:
        with debug.shell(*address) as shell:
            client = await greet(shell.address)
            connection = the_connection(shell)
            os.close(connection._sock.fileno())
            await gone(shell)
            assert await client.rest() == ""
            client.close()
            other = await greet(shell.address)
            assert await other.ask("1 + 1") == "2\r\n"
            other.close()

    ae.run(main())
    assert "debug shell: a client is lost: [Errno 9] Bad file descriptor" in shown()


@unix
def test_socket_that_cannot_be_removed_is_reported(
    tmp_path: Path, shown: Callable[[], str]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    shell = debug.shell("unix/", str(folder / "shell"))
    folder.rename(tmp_path / "elsewhere")
    folder.write_text("a file in the folder's place")
    shell.cancel()
    assert shown() == (
        f"error ae_core.debug: debug shell: {folder}/shell not removed: "
        f"[Errno {errno.ENOTDIR}] Not a directory: '{folder}/shell'\n"
    )


def test_path_without_unix_sockets_is_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(socket, "AF_UNIX", raising=False)
    with pytest.raises(ValueError, match=r"no UNIX sockets: use 127\.0\.0\.1 and a port"):
        debug.shell("unix/", "/some/path")


# One loop after the other


@pytest.mark.usefixtures("unbound")
def test_clients_follow_to_the_next_loop_with_what_they_have_yet_to_read(
    address: Any, greet: Any
) -> None:
    shell = debug.shell(*address)

    async def begin() -> Any:
        client = await greet(shell.address)
        await client.say(b"'x' * 1_000_000\n")
        connection = the_connection(shell)
        while not connection._output:
            await ae.sleep(0.001)
        return client

    async def go_on(client: Any) -> None:
        assert await client.until("> ") == "x" * 1_000_000 + "\r\n> "
        assert await client.ask("ae.backend()") == "asyncio\r\n"
        assert await client.ask("v") == "verbose logging is now enabled.\r\n"
        thread = threading.Thread(target=ae.log, args=("error", "from afar"))
        thread.start()
        assert "from afar" in await client.until("> ")
        thread.join()
        client.close()
        await gone(shell)

    client = ae.run(begin())
    asyncio.run(go_on(client))
    shell.cancel()


@pytest.mark.usefixtures("unbound")
@pytest.mark.parametrize("stays", [False, True])
def test_refused_client_is_closed_on_the_next_loop_also_if_it_stays(
    stays: bool, address: Any, monkeypatch: pytest.MonkeyPatch, greet: Any
) -> None:
    shell = debug.shell(*address)

    async def begin() -> Any:
        client = await greet(shell.address)
        await client.say(b"Host: x\n")
        assert "refused" in await client.until("server\r\n")
        return client

    async def go_on(client: Any) -> None:
        if not stays:
            client.close()
        await gone(shell)
        client.close()

    client = ae.run(begin())
    monkeypatch.setattr(_shell, "LINGER", 0.01 if stays else 60)
    asyncio.run(go_on(client))
    shell.cancel()
