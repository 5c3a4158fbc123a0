"""Which connection serves whom: keep-alive, eviction, slots, pipelining, cancellation."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import ae_core as ae
import ae_http
from ae_core.testing import virtual_time
from ae_handle import Handle
from ae_handle.testing import memory_pair
from ae_http import Client, ConnectionLost

Until = Callable[[Callable[[], bool]], None]


def paths(server: Any) -> list[str]:
    return [head.split()[1].decode() for head in server.requests]


# ---------------------------------------------------------------------- the cache


class Memory:
    """A connector whose servers answer in memory, so that time can be virtual."""

    def __init__(self, answer: bytes, delay: float = 0.0) -> None:
        self.answer = answer
        self.delay = delay
        self.timers: list[ae.Watcher] = []
        self.servers: list[Handle] = []

    def __call__(self, host: str, port: int) -> ae.CondVar[Any]:
        ours, theirs = memory_pair()
        server = Handle(
            theirs, on_eof=lambda handle: handle.destroy(), on_error=lambda handle, error: None
        )
        from ae_handle import Line

        server.read_each(Line(b"\r\n\r\n"), self._asked)
        self.servers.append(server)
        done: ae.CondVar[Any] = ae.CondVar()
        done.send(ours)
        return done

    def _asked(self, handle: Handle, head: bytes) -> None:
        self.timers.append(ae.timer(self.delay, lambda: handle.push_write(self.answer)))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [((), 15.0), (("Keep-Alive: timeout=5, max=9",), 4.0), (("Keep-Alive: timeout=x",), 15.0)],
)
def test_idle_connection_is_closed_when_it_was_idle_for_long(
    unbound: None, reply: Any, fields: tuple[str, ...], expected: float
) -> None:
    with virtual_time() as clock:
        connector = Memory(reply(b"x", *fields))
        client = Client(connector=connector)
        client.get("http://a/").recv()
        ae.sleep(3).recv()
        client.get("http://a/").recv()
        assert len(connector.servers) == 1
        ae.sleep(expected - 0.5).recv()
        assert client.idle == 1
        ae.sleep(1.0).recv()
        assert client.idle == 0
        ae.sleep(0).recv()
        assert connector.servers[0].is_destroyed
        assert clock is not None
        client.close()


def test_only_so_many_idle_connections_are_kept_the_oldest_goes_first(
    unbound: None, reply: Any
) -> None:
    with virtual_time():
        connector = Memory(reply(b"x"))
        with Client(connector=connector, max_idle=2) as client:
            for host in "abc":
                client.get(f"http://{host}/").recv()
                ae.sleep(1).recv()
            assert client.idle == 2
            client.get("http://b/").recv()
            client.get("http://c/").recv()
            assert len(connector.servers) == 3
            client.get("http://a/").recv()
            assert len(connector.servers) == 4


def test_closed_client_closes_everything(serve: Any, reply: Any, until: Until) -> None:
    server = serve(reply(b"x"))
    silent = serve(lambda handle, head: None)
    client = Client(max_connections=1)
    client.get(server.url).recv()
    under_way = client.get(silent.url)
    waiting = client.get(silent.url)
    until(lambda: bool(silent.requests))
    client.close()
    client.close()
    for each in (under_way, waiting):
        with pytest.raises(ae_http.ClientClosed):
            each.recv()
    with pytest.raises(ae_http.ClientClosed):
        client.get(server.url)
    until(lambda: server.alive == 0 and silent.alive == 0)
    assert len(silent.requests) == 1


def test_forgotten_client_lets_its_requests_end_and_closes_then(
    serve: Any, reply: Any, until: Until
) -> None:
    held: list[Handle] = []

    def answer(handle: Handle, head: bytes) -> None:
        if b"/slow" in head:
            held.append(handle)
        else:
            handle.push_write(reply(b"x"))

    server = serve(answer)
    client = Client()
    client.get(server.url).recv()
    slow = client.get(server.url + "/slow")
    also = client.get(server.url + "/slow")
    until(lambda: len(held) == 2)
    del client
    gc.collect()
    assert not slow.ready
    for handle in held:
        handle.push_write(reply(b"late"))
    assert slow.recv().body == also.recv().body == b"late"
    until(lambda: server.alive == 0)


def test_forgotten_request_goes_on(serve: Any, reply: Any, until: Until) -> None:
    server = serve(reply(b"x"))
    seen: list[bytes] = []
    ae_http.get(server.url).on_ready(lambda asked: seen.append(asked.recv().body))
    gc.collect()
    until(lambda: bool(seen))
    assert seen == [b"x"]
    assert b"Connection: close" in server.requests[0]


def test_client_belongs_to_its_thread() -> None:
    import threading

    client = Client()
    caught: list[BaseException] = []

    def other() -> None:
        try:
            client.get("http://127.0.0.1:1/")
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert "thread" in str(caught[0])
    client.close()


def test_client_survives_its_loop(unbound: None, serve: Any, reply: Any) -> None:
    import asyncio

    client = Client()
    seen = []

    async def main() -> None:
        server = serve(reply(b"x"))
        server.start()
        seen.append((await client.get(server.url)).body)
        assert client.idle == 1
        server.close()

    asyncio.run(main())
    asyncio.run(main())
    assert seen == [b"x", b"x"]
    client.close()


def test_idle_time_is_no_part_of_the_read_time_out(unbound: None, reply: Any) -> None:
    with virtual_time():
        connector = Memory(reply(b"x"), delay=5)
        with Client(connector=connector, read_timeout=10, idle_timeout=60) as client:
            for _ in range(3):
                assert client.get("http://a/").recv().body == b"x"
                ae.sleep(8).recv()
            assert len(connector.servers) == 1
            with pytest.raises(ae_http.RequestTimedOut):
                client.get("http://a/", read_timeout=3).recv()
            assert client.get("http://a/").recv().body == b"x"


# ---------------------------------------------------------------------- slots and pipelining


def test_waiting_requests_are_served_in_order(serve: Any, reply: Any) -> None:
    server = serve(reply(b"x"))
    order: list[int] = []

    def note(number: int, asked: object) -> None:
        order.append(number)

    with Client(max_connections=1) as client:
        asked = []
        for number in range(5):
            one = client.get(f"{server.url}/{number}")
            one.on_ready(partial(note, number))
            asked.append(one)
        asked[2].cancel()
        for one in (*asked[:2], *asked[3:]):
            one.recv()
    assert order == [2, 0, 1, 3, 4]
    assert paths(server) == ["/0", "/1", "/3", "/4"]
    assert len(server.handles) == 1


def test_time_out_while_waiting_for_a_connection(serve: Any) -> None:
    server = serve(lambda handle, head: None)
    with Client(max_connections=1) as client:
        first = client.get(server.url)
        with pytest.raises(ae_http.RequestTimedOut) as caught:
            client.get(server.url, timeout=0.02).recv()
        assert caught.value.phase == "wait"
        first.cancel()


def test_failed_connection_gives_its_slot_to_the_next(serve: Any, reply: Any) -> None:
    server = serve(reply(b"x"))
    port = server.port
    with Client(max_connections=1) as client:
        server.close()
        asked = [client.get(f"http://127.0.0.1:{port}/") for _ in range(3)]
        for one in asked:
            with pytest.raises(ae_http.ConnectionFailed):
                one.recv()


def collect(server_answer: bytes, count: int) -> Callable[[Handle, bytes], None]:
    """Return a handler that answers when *count* requests are there."""
    waiting: list[bytes] = []

    def answer(handle: Handle, head: bytes) -> None:
        waiting.append(head)
        if b"/first" in head:
            waiting.clear()
            handle.push_write(server_answer)
        elif len(waiting) == count:
            for _ in range(count):
                handle.push_write(server_answer)
            waiting.clear()

    return answer


def test_pipelining_sends_without_waiting(serve: Any, reply: Any) -> None:
    server = serve(collect(reply(b"x"), 4))
    with Client(max_connections=1, pipeline=4) as client:
        client.get(server.url + "/first").recv()
        asked = [client.get(f"{server.url}/{number}") for number in range(8)]
        assert [one.recv().body for one in asked] == [b"x"] * 8
    assert len(server.handles) == 1
    assert paths(server) == ["/first", *(f"/{number}" for number in range(8))]


def test_pipelining_is_for_harmless_requests_and_known_servers(
    serve: Any, reply: Any, until: Until
) -> None:
    server = serve(reply(b"x"))
    with Client(max_connections=1, pipeline=10) as client:
        asked = [client.get(server.url + "/new"), client.get(server.url + "/waits")]
        until(lambda: len(server.requests) >= 1)
        asked += [client.post(server.url + "/post"), client.get(server.url + "/behind")]
        for one in asked:
            one.recv()
    assert paths(server) == ["/new", "/waits", "/post", "/behind"]


def test_pipelined_requests_are_asked_again_when_the_server_closes(serve: Any, reply: Any) -> None:
    def answer(handle: Handle, head: bytes) -> None:
        close = len(server.requests) % 3 == 0
        handle.push_write(reply(b"x", *(["Connection: close"] if close else [])))
        if close:
            handle.push_shutdown()
            handle.read_each("line", lambda handle, line: None)

    server = serve(answer)
    with Client(max_connections=1, pipeline=5) as client:
        client.get(server.url).recv()
        asked = [client.get(f"{server.url}/{number}") for number in range(10)]
        assert [one.recv().body for one in asked] == [b"x"] * 10
    assert len(server.handles) >= 3


def test_cancelled_request_in_a_pipeline_harms_no_other(serve: Any, reply: Any) -> None:
    server = serve(collect(reply(b"x"), 3))
    with Client(max_connections=1, pipeline=3) as client:
        client.get(server.url + "/first").recv()
        asked = [client.get(f"{server.url}/{number}") for number in range(3)]
        asked[0].cancel()
        assert asked[1].recv().body == asked[2].recv().body == b"x"
        assert client.idle == 1
    assert len(server.handles) == 1


def test_cancelled_request_in_a_pipeline_with_a_long_body_ends_the_connection(
    serve: Any, reply: Any, until: Until
) -> None:
    server = serve(collect(reply(bytes(200_000)), 2))
    with Client(max_connections=1, pipeline=2) as client:
        client.get(server.url + "/first").recv()
        asked = [client.get(f"{server.url}/{number}") for number in range(2)]
        asked[0].cancel()
        until(lambda: len(server.requests) == 4)
        asked[1].cancel()
    assert paths(server) == ["/first", "/0", "/1", "/1"]


def test_time_out_in_a_pipeline_asks_the_others_again(serve: Any, reply: Any) -> None:
    def answer(handle: Handle, head: bytes) -> None:
        if b"/stuck" not in head and handle not in stuck:
            handle.push_write(reply(b"x"))
        else:
            stuck.append(handle)

    stuck: list[Handle] = []
    server = serve(answer)
    with Client(max_connections=1, pipeline=2, read_timeout=0.5) as client:
        client.get(server.url + "/first").recv()
        bad, good = client.get(server.url + "/stuck"), client.get(server.url + "/good")
        with pytest.raises(ae_http.RequestTimedOut):
            bad.recv()
        assert good.recv().body == b"x"


# ---------------------------------------------------------------------- stale connections


def stale_server(serve: Any, reply: Any) -> Any:
    """A server that closes, at the second request on a connection, without an answer."""
    seen: list[Handle] = []

    def answer(handle: Handle, head: bytes) -> None:
        if handle in seen:
            handle.destroy()
        else:
            seen.append(handle)
            handle.push_write(reply(b"x"))

    return serve(answer)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_stale_connection_is_replaced_where_that_is_safe(
    serve: Any, reply: Any, method: str
) -> None:
    def answer(handle: Handle, head: bytes) -> None:
        if handle in seen:
            handle.destroy()
            return
        seen.append(handle)
        handle.push_write(b"HTTP/1.1 204 No Content\r\n\r\n")

    seen: list[Handle] = []
    server = serve(answer)
    with Client() as client:
        client.get(server.url).recv()
        assert client.request(method, server.url + "/x").recv().status == 204
    assert paths(server) == ["/", "/x", "/x"]
    assert len(server.handles) == 2


@pytest.mark.parametrize("method", ["POST", "PATCH", "BREW"])
def test_stale_connection_is_an_error_where_it_is_not(serve: Any, reply: Any, method: str) -> None:
    server = stale_server(serve, reply)
    with Client() as client:
        client.get(server.url).recv()
        with pytest.raises(ConnectionLost):
            client.request(method, server.url + "/x", body=b"").recv()
    assert paths(server) == ["/", "/x"]


def test_upload_is_not_repeated(serve: Any, reply: Any) -> None:
    server = stale_server(serve, reply)
    with Client() as client:
        client.get(server.url).recv()
        with pytest.raises(ConnectionLost):
            client.request("PUT", server.url, body=iter([b"a"])).recv()


def test_connection_lost_in_the_response_is_not_repeated(serve: Any, reply: Any) -> None:
    def answer(handle: Handle, head: bytes) -> None:
        if len(server.requests) == 1:
            handle.push_write(reply(b"x"))
        else:
            handle.push_write(b"HTTP/1.1 2")
            handle.push_shutdown()

    server = serve(answer)
    with Client() as client:
        client.get(server.url).recv()
        with pytest.raises(ConnectionLost, match="in the head"):
            client.get(server.url).recv()
    assert len(server.requests) == 2


def test_server_that_always_closes_is_given_up(serve: Any, reply: Any) -> None:
    def answer(handle: Handle, head: bytes) -> None:
        if len(server.requests) == 1:
            handle.push_write(reply(b"x"))
        else:
            handle.destroy()

    server = serve(answer)
    with Client() as client:
        client.get(server.url).recv()
        with pytest.raises(ConnectionLost):
            client.get(server.url).recv()
    assert len(server.requests) == 3


def test_request_that_always_ends_the_connection_is_given_up(serve: Any, reply: Any) -> None:
    def answer(handle: Handle, head: bytes) -> None:
        if b" /bad " in head:
            handle.destroy()
        else:
            handle.push_write(reply(b"x"))

    server = serve(answer)
    with Client(max_connections=1) as client:
        client.get(server.url).recv()
        bad = client.get(server.url + "/bad")

        def again(each: Any) -> None:
            if not bad.ready:
                client.get(server.url).on_ready(again)

        # there is always another one that comes first on the next connection
        for _ in range(2):
            client.get(server.url).on_ready(again)
        with pytest.raises(ConnectionLost):
            bad.recv(timeout=30)
    assert 2 <= paths(server).count("/bad") <= 4


def test_connection_that_the_server_closes_while_idle_is_forgotten(
    serve: Any, reply: Any, until: Until
) -> None:
    server = serve(reply(b"x"))
    with Client() as client:
        client.get(server.url).recv()
        server.handles[0].destroy()
        until(lambda: client.idle == 0)
        assert client.post(server.url, b"").recv().body == b"x"


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: x, Close\r\n\r\nx",
    ],
)
def test_connection_that_the_server_will_close_is_not_kept(serve: Any, wire: bytes) -> None:
    server = serve(wire)
    with Client() as client:
        assert client.get(server.url).recv().body == b"x"
        assert client.idle == 0


# ---------------------------------------------------------------------- cancellation


def test_cancel_in_every_phase_leaves_nothing(serve: Any, reply: Any, until: Until) -> None:
    def answer(handle: Handle, head: bytes) -> None:
        if b"/half" in head:
            handle.push_write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")

    server = serve(answer)
    with Client() as client:
        at_once = client.get(server.url)
        at_once.cancel()
        assert at_once.cancelled
        sent = client.get(server.url + "/sent")
        until(lambda: "/sent" in paths(server))
        sent.cancel()
        heads: list[int] = []
        half = client.get(server.url + "/half", on_head=lambda head: heads.append(head.status))
        until(lambda: bool(heads))
        half.cancel()
        until(lambda: server.alive == 0)
        assert client.idle == 0


def test_cancel_inside_a_callback(serve: Any, reply: Any, until: Until) -> None:
    server = serve(reply(b"x" * 100_000))
    with Client() as client:
        pieces: list[bytes] = []

        def got(piece: bytes) -> None:
            pieces.append(piece)
            asked.cancel()

        asked = client.get(server.url, on_data=got)
        with pytest.raises(ae.CancelledError):
            asked.recv()
        until(lambda: server.alive == 0)
        assert len(pieces) == 1
        headless = client.get(server.url, on_head=lambda head: headless.cancel())
        with pytest.raises(ae.CancelledError):
            headless.recv()


def test_request_from_the_callback_of_the_last_one(serve: Any, reply: Any) -> None:
    server = serve(reply(b"x"))
    done: ae.CondVar[None] = ae.CondVar()
    with Client() as client:

        def again(asked: Any) -> None:
            assert asked.recv().body == b"x"
            if len(server.requests) < 20:
                client.get(server.url).on_ready(again)
            else:
                done.send()

        client.get(server.url).on_ready(again)
        done.recv()
    assert len(server.handles) == 1


def test_forgotten_stream_closes_its_connection(serve: Any, until: Until) -> None:
    server = serve(
        lambda handle, head: handle.push_write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
    )
    with Client() as client:
        stream = client.stream("GET", server.url).recv()
        assert server.alive == 1
        del stream
        until(lambda: server.alive == 0)


def test_cancelled_read_of_a_stream_loses_nothing(serve: Any) -> None:
    server = serve(
        lambda handle, head: handle.push_write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
    )
    with Client() as client:
        stream = client.stream("GET", server.url).recv()
        first = stream.read()
        with pytest.raises(RuntimeError, match="not there yet"):
            stream.read()
        first.cancel()
        server.handles[0].push_write(b"abcd")
        assert stream.read_all().recv() == b"abcd"
        assert client.idle == 1


def test_slow_consumer_slows_the_server(serve: Any) -> None:
    total = 8 << 20

    def answer(handle: Handle, head: bytes) -> None:
        handle.push_write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        handle.push_write(bytes(total))

    server = serve(answer)
    with Client(read_timeout=0.4) as client:
        stream = client.stream("GET", server.url).recv()
        size = len(stream.read().recv())
        ae.sleep(1.0).recv()  # longer than read_timeout: it is us who are slow
        unsent = server.handles[0].statistics()
        assert unsent.unsent > 0
        size += len(stream.read_all().recv())
        assert size == total
        assert client.idle == 1
