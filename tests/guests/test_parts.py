"""What host and guest see of each other, and the parts of asyncio that a program leans on."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
import ae_guests
from ae_guests import start_asyncio

Run = Callable[[Any], Any]


@pytest.fixture(autouse=True)
def _all_end(request: pytest.FixtureRequest) -> Iterator[None]:
    wait = request.getfixturevalue("until_closed") if "host" in request.fixturenames else int
    yield
    wait()


def running() -> object:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


# ---------------------------------------------------------------------- host and guest


def test_inside_everything_says_asyncio_and_outside_the_host(host: Any, run: Run) -> None:
    sniffio = pytest.importorskip("sniffio")

    def look() -> tuple[bool, str | None, bool]:
        try:
            library = sniffio.current_async_library()
        except sniffio.AsyncLibraryNotFoundError:
            library = None
        return running() is not None, library, ae.cancelled_class() is asyncio.CancelledError

    async def main() -> tuple[Any, Any]:
        outside: ae.CondVar[Any] = ae.CondVar()
        with ae.timer(0.0, lambda: outside.send(look())):
            await outside
        return look(), outside.recv()

    inside, outside = run(main())
    assert inside == (True, "asyncio", True)
    assert outside == (False, None, False)


def test_a_limit_of_ours_is_kept_in_the_guest(host: Any, run: Run) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with ae.timeout(0.01):
                await asyncio.sleep(60)
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]

    run(main())


def test_blocking_in_a_callback_of_the_host_is_refused(host: Any) -> None:
    """``run_until_complete`` would stop the loop that is waiting."""
    errors: list[BaseException] = []
    done: ae.CondVar[None] = ae.CondVar()

    def callback() -> None:
        loop = ae_guests.new_event_loop()
        coroutine = asyncio.sleep(0)
        try:
            loop.run_until_complete(coroutine)
        except RuntimeError as error:
            errors.append(error)
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
                task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine.close()
            loop.close()
            done.send()

    with ae.timer(0.0, callback):
        done.recv()
    assert [type(error) for error in errors] == [ae.RecursiveWait]


def test_a_blocking_wait_inside_the_guest_is_refused(host: Any, run: Run) -> None:
    async def main() -> None:
        with pytest.raises((ae.BlockingNotAllowed, ae.RecursiveWait)):
            ae.CondVar().recv()

    run(main())


def test_two_turns_of_a_flood_have_a_turn_of_the_host_between_them(
    host: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fairness by counting: however slow the machine, the host's timers come in between."""
    from ae_guests import _loop

    monkeypatch.setattr(_loop, "LONGEST_SERVICE", 0.0)
    seen: list[str] = []
    kept: list[ae.Watcher] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def flood() -> None:
            seen.append("guest")
            if seen.count("host") < 5:
                loop.call_soon(flood)

        def tick() -> None:
            seen.append("host")
            kept[:] = [ae.timer(0.0, tick)]

        kept.append(ae.timer(0.0, tick))
        for _ in range(10):
            flood()
        while seen.count("host") < 5:
            await asyncio.sleep(0)
        kept.clear()

    run(main())
    longest = max(len(part.split()) for part in " ".join(seen).split("host"))
    assert longest <= 4 * _loop.CALLS_PER_LOOK


def test_a_long_turn_is_divided_and_its_rest_comes_before_what_is_newer(
    host: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ae_guests import _loop

    monkeypatch.setattr(_loop, "LONGEST_SERVICE", 0.0)
    calls = 2 * _loop.CALLS_PER_LOOK

    async def main() -> list[int | str]:
        loop = asyncio.get_running_loop()
        seen: list[int | str] = []
        loop.call_soon(lambda: kept.append(ae.timer(0.0, lambda: seen.append("host"))))
        for n in range(calls):
            loop.call_soon(seen.append, n)
        loop.call_soon(loop.call_soon, seen.append, "newer")
        while not {"host", "newer"} <= set(seen):
            await asyncio.sleep(0)
        kept.clear()
        return seen

    kept: list[ae.Watcher] = []
    seen = run(main())
    assert seen.index("host") < calls
    assert [each for each in seen if each != "host"] == [*range(calls), "newer"]


def test_a_signal_of_the_hosts_program_and_of_the_guest_are_both_heard(host: Any) -> None:
    heard: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        came = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, came.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        await came.wait()
        heard.append("guest")
        loop.remove_signal_handler(signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
        while heard.count("host") < 2:
            await asyncio.sleep(0.001)

    with ae.signal("USR1", lambda: heard.append("host")):
        start_asyncio(main()).recv()
    assert heard.count("host") == 2
    assert heard.count("guest") == 1


# ---------------------------------------------------------------------- parts of asyncio


def test_debug_mode_names_a_slow_callback(host: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = 0.0
        loop.call_soon(int)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    with caplog.at_level(logging.WARNING, "asyncio"):
        start_asyncio(main(), debug=True).recv()
    assert any("Executing <Handle int()" in record.getMessage() for record in caplog.records)


def test_debug_mode_refuses_a_call_from_another_thread(host: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(RuntimeError, match="Non-thread-safe"):
            await asyncio.to_thread(loop.call_soon, int)

    start_asyncio(main(), debug=True).recv()


def test_debug_mode_tells_where_a_coroutine_was_made(host: Any) -> None:
    async def main() -> int:
        return sys.get_coroutine_origin_tracking_depth()

    outside = sys.get_coroutine_origin_tracking_depth()
    assert start_asyncio(main(), debug=True).recv() > outside
    assert sys.get_coroutine_origin_tracking_depth() == outside


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are of Python 3.12")
def test_an_eager_task_begins_in_the_call_that_makes_it(host: Any, run: Run) -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        seen: list[str] = []

        async def eager() -> None:
            seen.append("begun")
            await asyncio.sleep(0)
            seen.append("ended")

        task = loop.create_task(eager())
        seen.append("made")
        await task
        return seen

    assert run(main()) == ["begun", "made", "ended"]


def test_generators_that_are_left_open_are_closed_in_the_guest(host: Any, run: Run) -> None:
    closed: list[object] = []
    kept: list[Any] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append(running())

    async def main() -> object:
        left = numbers()
        kept.append(left)
        await anext(left)
        dropped = numbers()
        await anext(dropped)
        del dropped
        while not closed:
            await asyncio.sleep(0)
        return running()

    loop = run(main())
    assert closed == [loop, loop]


def test_hooks_of_the_host_for_generators_are_its_own_outside(host: Any, run: Run) -> None:
    before = sys.get_asyncgen_hooks()

    async def main() -> Any:
        seen: ae.CondVar[Any] = ae.CondVar()
        with ae.timer(0.0, lambda: seen.send(sys.get_asyncgen_hooks())):
            return await seen

    assert run(main()) == before


def test_sockets_of_unix_pipes_and_a_late_start_of_tls(host: Any, run: Run, tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_tls)
    client_tls = ssl.create_default_context()
    authority.configure_trust(client_tls)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        await writer.start_tls(server_tls)
        writer.write(b"secret " + await reader.readline())
        await writer.drain()
        writer.close()

    async def main() -> list[bytes]:
        path = str(tmp_path / "s")
        server = await asyncio.start_unix_server(serve, path)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"clear\n")
        lines = [await reader.readline()]
        await writer.start_tls(client_tls, server_hostname="localhost")
        writer.write(b"line\n")
        lines.append(await reader.readline())
        writer.close()
        server.close()

        loop = asyncio.get_running_loop()
        read_end, write_end = os.pipe()
        sink = asyncio.StreamReader()
        reading, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(sink),
            open(read_end, "rb", 0),  # noqa: SIM115
        )
        writing, _ = await loop.connect_write_pipe(
            asyncio.BaseProtocol,
            open(write_end, "wb", 0),  # noqa: SIM115
        )
        writing.write(b"through a pipe")
        writing.close()
        lines.append(await sink.read())
        reading.close()
        return lines

    assert run(main()) == [b"clear\n", b"secret line\n", b"through a pipe"]


def test_an_accepted_socket_and_the_calls_for_sockets(host: Any, run: Run) -> None:
    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            with socket.socket() as client:
                client.setblocking(False)
                accepted = asyncio.ensure_future(loop.sock_accept(listening))
                await loop.sock_connect(client, listening.getsockname())
                server, _ = await accepted
                with server:
                    await loop.sock_sendall(client, b"hello")
                    return await loop.sock_recv(server, 100)

    assert run(main()) == b"hello"
