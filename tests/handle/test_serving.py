"""Servers whose clients are handles: limits, errors, and how clients and server end.

Long because the demands on a server, in every way in which it and its clients can end, are here.
"""

from __future__ import annotations

import gc
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import ae_core as ae
from ae_core.abc import Backend
from ae_handle import Handle, HandleError, Served, TlsError, UnexpectedEOF, serve
from ae_handle.testing import end_lingering, ssl_context

Main = Callable[[], Coroutine[Any, Any, None]]
HERE = ("127.0.0.1", 0)


def run(main: Main) -> None:
    """Run *main* to its end, within reason."""

    async def bounded() -> None:
        task = ae.spawn(main())
        with ae.timer(60, task.cancel):
            await task
        end_lingering()

    ae.run(bounded())


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await ae.sleep(0.001)


async def echo(handle: Handle) -> None:
    async for line in handle.each("line"):
        handle.push_write(line + b"\n")


def reverse(handle: Handle) -> None:
    handle.read_each("line", lambda handle, line: handle.push_write(line[::-1] + b"\n"))


def connect(served: Served, **options: Any) -> Handle:
    return Handle(connect=served.address, linger=0, **options)


async def ask(handle: Handle, text: bytes) -> bytes:
    handle.push_write(text + b"\n")
    return await handle.push_read("line")


async def hears_the_end(handle: Handle) -> None:
    with pytest.raises(HandleError):
        await handle.push_read("line")


# ---------------------------------------------------------------------- handlers


def test_a_coroutine_serves_a_client_and_its_end_closes_the_handle(backend: Backend) -> None:
    async def greet(handle: Handle) -> None:
        name = await handle.push_read("line")
        handle.push_write(b"hello " + name + b"\n" + b"x" * 1_000_000 + b"\n")

    async def main() -> None:
        with serve(*HERE, greet) as served:
            client = connect(served)
            assert await ask(client, b"you") == b"hello you"
            assert len(await client.push_read("line")) == 1_000_000  # flushed, and lingered for
            with pytest.raises(UnexpectedEOF):
                await client.push_read("line")
            await until(lambda: not served.clients)
            client.destroy()

    run(main)


def test_a_function_serves_by_callbacks_and_nobody_has_to_hold_the_handle(
    backend: Backend,
) -> None:
    async def main() -> None:
        with serve(*HERE, reverse) as served:
            clients = [connect(served) for _ in range(20)]
            for client in clients:
                assert await ask(client, b"stressed") == b"desserts"
            gc.collect()
            assert len(served.clients) == 20
            assert all(isinstance(handle, Handle) for handle in served.clients)
            for client in clients:
                client.destroy()
            await until(lambda: not served.clients)

    run(main)


def test_the_call_decides_not_the_kind_of_function(backend: Backend) -> None:
    done: list[str] = []

    class Service:
        async def converse(self, handle: Handle) -> None:
            await handle.push_read("line")
            done.append("coroutine")

        def __call__(self, handle: Handle) -> object:
            return self.converse(handle)

    async def main() -> None:
        with serve(*HERE, Service()) as served, connect(served) as client:
            client.push_write(b"a\n")
            await hears_the_end(client)
        with (
            serve(*HERE, lambda handle: handle.push_read("line")) as served,
            connect(served) as client,
        ):
            client.push_write(b"a\n")  # a condition variable is waited for like a coroutine
            await hears_the_end(client)
            done.append("condition variable")

    run(main)
    assert done == ["coroutine", "condition variable"]


def test_with_callbacks_of_its_own_a_handler_decides_when_a_client_ends(backend: Backend) -> None:
    told: list[str] = []

    def half_open(handle: Handle) -> None:
        def over(handle: Handle) -> None:
            told.append("eof")
            handle.push_write(b"late\n")
            handle.destroy()

        handle.on_eof = over
        handle.watch_eof = True
        handle.on_error = lambda handle, error: told.append("error")

    async def main() -> None:
        with serve(*HERE, half_open) as served:
            client = connect(served)
            client.push_shutdown()
            assert await client.push_read("line") == b"late"
            client.destroy()
            await until(lambda: not served.clients)

    run(main)
    assert told == ["eof"]


# ---------------------------------------------------------------------- mistakes and misfortunes


def test_an_exception_of_a_handler_ends_its_client_and_harms_nobody(
    backend: Backend, hooked: list[str]
) -> None:
    async def fragile(handle: Handle) -> None:
        async for line in handle.each("line"):
            handle.push_write(b"%d\n" % int(line))

    async def main() -> None:
        with serve(*HERE, fragile) as served:
            good, bad = connect(served), connect(served)
            assert await ask(good, b"1") == b"1"
            bad.push_write(b"one\n")
            await hears_the_end(bad)
            await until(lambda: len(served.clients) == 1)
            assert await ask(good, b"2") == b"2"
            good.destroy()
            await until(lambda: not served.clients)

    run(main)
    (error,) = hooked
    assert "invalid literal" in error


def test_a_function_that_raises_ends_its_client_and_the_server_lives(
    backend: Backend, hooked: list[str]
) -> None:
    def broken(handle: Handle) -> None:
        raise LookupError("broken")

    async def main() -> None:
        with serve(*HERE, broken) as served:
            for _ in range(3):
                with connect(served) as client:
                    await hears_the_end(client)
            await until(lambda: not served.clients)

    run(main)
    assert hooked == ["LookupError('broken')"] * 3


def test_a_client_that_can_have_no_handle_is_closed_and_the_server_lives(
    backend: Backend, hooked: list[str]
) -> None:
    class Wavering:
        """A context whose second session fails: the first is of the check at the call."""

        made = 0

        def new_session(self, role: str, peer_name: str | None) -> Any:
            self.made += 1
            if self.made == 2:
                raise TlsError("no session for this", reason="internal")
            return ssl_context(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)).new_session("accept", None)

    async def main() -> None:
        context = Wavering()
        served = serve(*HERE, echo, tls_context=context)
        await hears_the_end(connect(served))
        assert served.clients == ()
        waiting = connect(served)
        await waiting.drained()
        await until(lambda: served.clients)
        assert context.made == 3
        waiting.destroy()
        served.cancel()

    run(main)
    (error,) = hooked
    assert "no session for this" in error


def test_a_client_that_hangs_up_is_no_fault_of_the_handler(
    backend: Backend, hooked: list[str]
) -> None:
    async def stubborn(handle: Handle) -> None:
        while True:
            await handle.push_read("line")

    def callbacks(handle: Handle) -> None:
        handle.read_each("line", lambda handle, line: None)

    def idle(handle: Handle) -> None:
        pass

    async def main() -> None:
        for handler in (stubborn, callbacks, idle):
            with serve(*HERE, handler) as served:
                for _ in range(3):
                    with connect(served) as client:
                        client.push_write(b"half a li")
                        await until(lambda: served.clients)
                    await until(lambda: not served.clients)

    run(main)
    assert hooked == []


def test_a_failure_of_another_handle_is_reported(backend: Backend, hooked: list[str]) -> None:
    async def relays(handle: Handle) -> None:
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))  # nobody listens there
            other = Handle(connect=reserved.getsockname())
            await other.push_read("line")

    async def main() -> None:
        with serve(*HERE, relays) as served, connect(served) as client:
            await hears_the_end(client)

    run(main)
    (error,) = hooked
    assert "refused" in error


def test_an_idle_client_is_ended_when_a_time_out_was_given(
    backend: Backend, hooked: list[str]
) -> None:
    async def main() -> None:
        for handler in (echo, lambda handle: None):
            with serve(*HERE, handler, timeout=0.02) as served, connect(served) as client:
                await hears_the_end(client)
                await until(lambda: not served.clients)

    run(main)
    assert hooked == []


def test_a_client_that_does_not_read_is_dropped_at_the_limit(
    backend: Backend, hooked: list[str]
) -> None:
    def talker(handle: Handle) -> None:
        assert handle.max_write_buffer == 4 << 20
        assert handle.handshake_timeout == 60
        handle.max_write_buffer = 100_000
        handle.push_write(bytes(8_000_000))
        served_ones.append(handle)

    served_ones: list[Handle] = []

    async def main() -> None:
        with serve(*HERE, talker) as served, socket.create_connection(served.address):
            await until(lambda: served_ones and not served.clients)

    run(main)
    assert hooked == []


# ---------------------------------------------------------------------- how many


def test_accepting_pauses_while_there_are_as_many_clients_as_may_be(backend: Backend) -> None:
    async def main() -> None:
        with serve(*HERE, echo, max_clients=3) as served:
            clients = [connect(served) for _ in range(5)]
            for client in clients[:3]:
                assert await ask(client, b"in") == b"in"
            waiting = [ae.spawn(ask(client, b"waiting")) for client in clients[3:]]
            await ae.sleep(0.02)
            assert len(served.clients) == 3
            assert not any(each.ready for each in waiting)
            clients[0].destroy()
            assert await waiting[0] == b"waiting"
            await ae.sleep(0.02)
            assert not waiting[1].ready
            clients[1].destroy()
            assert await waiting[1] == b"waiting"
            for client in clients:
                client.destroy()
            await until(lambda: not served.clients)

    run(main)


def test_a_client_counts_until_its_coroutine_has_ended_too(backend: Backend) -> None:
    going_on: list[ae.CondVar[None]] = []

    async def slow_to_leave(handle: Handle) -> None:
        going_on.append(ae.CondVar())
        handle.push_write(b"hello\n")
        handle.destroy()
        await going_on[-1]

    async def main() -> None:
        with serve(*HERE, slow_to_leave, max_clients=1) as served:
            first, second = connect(served), connect(served)
            assert await first.push_read("line") == b"hello"
            hello = second.push_read("line")
            await ae.sleep(0.02)
            assert not hello.ready
            going_on[0].send()
            assert await hello == b"hello"
            going_on[1].send()
            first.destroy()
            second.destroy()
            await until(lambda: not served.clients)

    run(main)


# ---------------------------------------------------------------------- the end


def test_close_lets_the_handlers_finish(backend: Backend) -> None:
    async def one_answer(handle: Handle) -> None:
        handle.push_write(await handle.push_read("line") + b"!\n")

    async def main() -> None:
        served = serve(*HERE, one_answer)
        client = connect(served)
        await client.drained()
        await until(lambda: served.clients)
        closing = served.close()
        with pytest.raises(HandleError):
            await Handle(connect=served.address).push_read("line")  # nobody listens any more
        assert not closing.ready
        assert await ask(client, b"late") == b"late!"
        await closing
        assert served.clients == ()
        client.destroy()

    run(main)


def test_close_ends_those_who_have_not_finished_after_the_grace(backend: Backend) -> None:
    ended: list[str] = []

    async def forever(handle: Handle) -> None:
        try:
            while True:
                await ae.CondVar[None]()
        finally:
            ended.append("cleaned up")

    async def main() -> None:
        served = serve(*HERE, forever)
        client = connect(served)
        await until(lambda: served.clients)
        start = ae.time()
        await served.close(grace=0.05)
        assert ae.time() - start >= 0.05
        assert ended == ["cleaned up"]
        await hears_the_end(client)

    run(main)


def test_close_without_clients_is_done_and_never_inside_the_call(backend: Backend) -> None:
    async def main() -> None:
        served = serve(*HERE, echo)
        closing = served.close()
        assert not closing.ready
        await closing
        await served.close(0)

    run(main)


def test_cancelling_the_close_ends_the_rest_at_once(backend: Backend) -> None:
    async def main() -> None:
        served = serve(*HERE, echo)
        client = connect(served)
        assert await ask(client, b"a") == b"a"
        closing = served.close(grace=None)
        await ae.sleep(0.01)
        closing.cancel()
        await hears_the_end(client)
        await until(lambda: not served.clients)

    run(main)


def test_a_close_goes_on_when_the_server_is_forgotten(backend: Backend) -> None:
    def quiet(handle: Handle) -> None:
        handle.read_each("line", lambda handle, line: handle.push_write(line + b"\n"))

    async def main() -> None:
        served = serve(*HERE, quiet)
        client = connect(served)
        assert await ask(client, b"a") == b"a"
        closing = served.close(grace=None)
        del served
        gc.collect()
        assert await ask(client, b"b") == b"b"
        client.destroy()
        await closing

    run(main)


@pytest.mark.parametrize("handler", [echo, reverse])
def test_dropping_the_server_ends_everything_at_once(
    backend: Backend, handler: Callable[[Handle], object]
) -> None:
    async def main() -> None:
        served = serve(*HERE, handler)
        address = served.address
        client = connect(served)
        assert await ask(client, b"a") == b"a"
        del served
        await hears_the_end(client)
        with pytest.raises(HandleError):
            await Handle(connect=address).push_read("line")

    run(main)


def test_async_with_waits_for_the_handlers_unless_an_exception_passes(backend: Backend) -> None:
    finished: list[str] = []

    async def main() -> None:
        go_on: ae.CondVar[None] = ae.CondVar()

        async def slow(handle: Handle) -> None:
            await go_on
            finished.append("finished")

        async with serve(*HERE, slow) as served:
            client = connect(served)
            await until(lambda: served.clients)
            timer = ae.timer(0.02, go_on.send)
        assert served.clients == ()
        client.destroy()
        timer.cancel()
        go_on = ae.CondVar()
        with pytest.raises(LookupError):
            async with serve(*HERE, slow) as served:
                client = connect(served)
                await until(lambda: served.clients)
                raise LookupError
        assert served.clients == ()
        client.destroy()

    run(main)
    assert finished == ["finished"]


def test_a_handler_may_close_its_server(backend: Backend) -> None:
    async def main() -> None:
        for by_coroutine in (False, True):
            for end in (Served.cancel, lambda served: served.close(0)):

                async def waits(handle: Handle) -> None:
                    await ae.CondVar[None]()

                def last_one(handle: Handle) -> object:
                    end(served)  # noqa: B023
                    return waits(handle) if by_coroutine else None  # noqa: B023

                served = serve(*HERE, last_one)
                client = connect(served)
                await hears_the_end(client)
                await served.close(grace=None)
                assert served.clients == ()

    run(main)


def test_a_server_dropped_in_another_thread_ends_in_its_own(until: Callable[..., None]) -> None:
    kept = [serve(*HERE, echo)]
    client = connect(kept[0])
    until(lambda: kept[0].clients)
    read = client.push_read("line")
    dropper = threading.Thread(target=kept.clear)
    dropper.start()
    dropper.join()
    with pytest.raises(HandleError):
        read.recv(timeout=30)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_server_that_outlives_its_loop_is_dropped_quietly(
    unbound: None, hooked: list[str], elsewhere: bool
) -> None:
    asyncio = pytest.importorskip("asyncio")
    kept: list[Any] = []

    async def main() -> None:
        kept.append(serve(*HERE, echo))
        kept.append(connect(kept[0]))
        assert await ask(kept[1], b"a") == b"a"

    asyncio.run(main())
    if elsewhere:
        dropper = threading.Thread(target=kept.clear)
        dropper.start()
        dropper.join()
    kept.clear()
    gc.collect()
    assert hooked == []


# ---------------------------------------------------------------------- sockets, TLS, arguments


def test_tls_from_the_start_with_either_engine(
    backend: Backend, contexts: Callable[[str], tuple[Any, Any]], engine: str
) -> None:
    client_context, server_context = contexts(engine)
    stages: list[str] = []

    async def secure_echo(handle: Handle) -> None:
        assert handle.tls is not None
        stages.append(handle.tls.state)
        await echo(handle)

    async def main() -> None:
        with serve(*HERE, secure_echo, tls_context=server_context) as served:
            client = connect(
                served, tls="connect", tls_context=client_context, peer_name="peer.test"
            )
            assert await ask(client, b"secret") == b"secret"
            client.destroy()
            await until(lambda: not served.clients)

    run(main)
    assert stages == ["handshake"]  # the handler may still change what is to be negotiated


def test_who_speaks_no_tls_is_refused_and_nobody_is_told(
    backend: Backend, contexts: Callable[[str], tuple[Any, Any]], hooked: list[str]
) -> None:
    async def main() -> None:
        with serve(*HERE, echo, tls_context=contexts("ssl")[1]) as served:
            client = connect(served)
            client.push_write(b"GET / HTTP/1.0\r\n\r\n")
            client.on_read = lambda handle: handle.read_buffer.clear()
            gone: ae.CondVar[None] = ae.CondVar()
            client.on_eof = client.on_error = lambda *_: gone.send()
            await gone
            client.destroy()
            await until(lambda: not served.clients)

    run(main)
    assert hooked == []


def test_a_socket_from_a_parent_or_a_service_manager_is_served(backend: Backend) -> None:
    async def main() -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        with serve(None, None, echo, sock=sock) as served:
            assert served.address == sock.getsockname()
            with connect(served) as client:
                assert await ask(client, b"a") == b"a"

    run(main)


def test_two_servers_share_a_port(backend: Backend) -> None:
    async def main() -> None:
        with serve(*HERE, echo, reuse_port=True) as one:
            with serve(*one.address, echo, reuse_port=True) as two:
                assert one.address == two.address
                clients = [connect(one) for _ in range(32)]
                for client in clients:
                    assert await ask(client, b"a") == b"a"
                assert len(one.clients) + len(two.clients) == 32
                assert len(one.clients) in range(1, 32)
                for client in clients:
                    client.destroy()

    run(main)


def test_a_unix_server(backend: Backend, tmp_path: Any) -> None:
    async def main() -> None:
        with serve("unix/", str(tmp_path / "socket"), echo) as served, connect(served) as client:
            assert await ask(client, b"a") == b"a"

    run(main)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"max_clients": 0}, ValueError, "expected max_clients of 1 or more, got 0"),
        ({"max_clients": "9"}, TypeError, "expected max_clients as int or None, got '9'"),
        ({"timeout": -1}, ValueError, "timeout"),
        ({"max_write_buffer": "1"}, TypeError, "max_write_buffer"),
        ({"tls_context": "server.pem"}, TypeError, "server.pem"),
        ({"backlog": -1}, ValueError, "backlog"),
    ],
)
def test_what_every_client_would_be_refused_for_is_refused_at_the_call(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        serve(*HERE, echo, **options)


@pytest.mark.parametrize("how", ["client", "server"])
def test_who_is_told_of_an_error_of_a_handler_may_end_everything(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    told: list[str] = []

    def stop(error: BaseException, watcher: object) -> None:
        told.append(repr(error))
        if how == "server":
            served.cancel()
        else:
            for client in served.clients:
                client.destroy()

    monkeypatch.setattr(ae, "exception_hook", stop)

    async def fail(handle: Handle) -> None:
        raise LookupError("mine")

    served: Any = None

    async def main() -> None:
        nonlocal served
        served = serve(*HERE, fail, max_clients=1)
        with connect(served) as client:
            await until(lambda: told)
            client.on_error = lambda h, error: None
            await until(lambda: not served.clients)
        served.cancel()

    run(main)
    assert told == ["LookupError('mine')"]


def test_a_handler_and_a_grace_have_to_be_ones() -> None:
    with pytest.raises(TypeError, match="expected handler to be callable, got None"):
        serve(*HERE, None)  # type: ignore[arg-type]
    with serve(*HERE, echo) as served:
        with pytest.raises(ValueError, match="expected grace of 0 or more seconds, got -1"):
            served.close(-1)
        with pytest.raises(TypeError, match="expected grace as seconds or None, got '1'"):
            served.close("1")  # type: ignore[arg-type]
        port = served.address[1]
        assert repr(served) == f"<Served 127.0.0.1:{port} listening, clients: 0>"
    assert repr(served) == f"<Served 127.0.0.1:{port} closed, clients: 0>"
