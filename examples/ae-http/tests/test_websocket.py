"""WebSocket, against the package ``websockets`` in a thread, and servers that misbehave."""

from __future__ import annotations

import gc
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import sha1
from typing import Any

import pytest

import ae_core as ae
import ae_http
from ae_handle import Chunk, Handle
from ae_http import Client, InvalidRequest, WebSocketClosed, WebSocketRefused

sync_server = pytest.importorskip("websockets.sync.server", reason="websockets is not installed")

Run = Callable[[Any], Any]


class Peer:
    """A server of the ``websockets`` package; *talk* is called with each connection."""

    def __init__(self, talk: Callable[[Any], None], **options: Any) -> None:
        self.ends: list[Any] = []

        def handler(connection: Any) -> None:
            try:
                talk(connection)
            except Exception as error:
                self.ends.append(error)
            else:
                self.ends.append(None)

        self._server = sync_server.serve(handler, "127.0.0.1", 0, **options)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        scheme = "wss" if "ssl" in options else "ws"
        self.url = f"{scheme}://127.0.0.1:{self._server.socket.getsockname()[1]}/x"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()


def echo(connection: Any) -> None:
    for message in connection:
        connection.send(message)


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    """Return a function that starts a server, an echo by default."""
    peers = []

    def start(talk: Callable[[Any], None] = echo, **options: Any) -> Peer:
        peers.append(Peer(talk, **options))
        return peers[-1]

    yield start
    for each in peers:
        each.close()


def test_messages_go_both_ways(backend: ae.abc.Backend, peer: Any, run: Run) -> None:
    url = peer().url
    sent: list[str | bytes] = ["hello", b"", "", "ü" * 1000, bytes(range(256)) * 1000]

    async def main() -> None:
        async with Client() as client, await client.websocket(url) as socket:
            assert socket.response.status == 101
            assert socket.subprotocol is None
            for message in sent:
                await socket.send(message)
            assert [await socket.receive() for _ in sent] == sent
            assert await socket.ping() > 0
            assert "open" in repr(socket)
        assert socket.is_closed
        assert socket.close_code == 1000

    run(main())


def test_a_blocking_program_and_callbacks(peer: Any) -> None:
    got = []
    with Client() as client, client.websocket(peer().url).recv() as socket:
        socket.send("one").recv()
        assert socket.receive().recv() == "one"
        message = socket.receive()
        message.on_ready(lambda message: got.append(message.recv()))
        socket.send(bytearray(b"two"))
        assert socket.ping().recv() > 0  # which may be answered before the message is
        message.recv()
        assert got == [b"two"]


def test_iteration_ends_with_a_goodbye_of_the_server(
    backend: ae.abc.Backend, peer: Any, run: Run
) -> None:
    def talk(connection: Any) -> None:
        for number in range(3):
            connection.send(str(number))
        connection.close(1001, "that was all")

    url = peer(talk).url

    async def main() -> list[Any]:
        async with Client() as client, await client.websocket(url) as socket:
            got = [message async for message in socket]
            assert socket.close_code == 1001
            with pytest.raises(WebSocketClosed, match="that was all") as caught:
                await socket.receive()
            assert (caught.value.code, caught.value.reason) == (1001, "that was all")
            with pytest.raises(WebSocketClosed):
                await socket.send("more")
            with pytest.raises(WebSocketClosed):
                await socket.ping()
            return got

    assert run(main()) == ["0", "1", "2"]


@pytest.mark.parametrize("code", [1011, 4000])
def test_iteration_raises_if_the_server_has_a_reason(peer: Any, code: int) -> None:
    url = peer(lambda connection: connection.close(code, "oh")).url
    with Client() as client, client.websocket(url).recv() as socket:
        with pytest.raises(WebSocketClosed, match="oh") as caught:
            list(socket)
        assert caught.value.code == code


def test_the_server_is_told_why(peer: Any, until: Any) -> None:
    server = peer()
    with Client() as client:
        socket = client.websocket(server.url).recv()
        socket.close(4000, "enough").recv()
        socket.close().recv()
        until(lambda: len(server.ends) == 1)
        with pytest.raises(RuntimeError, match="for a test"):
            with client.websocket(server.url).recv():
                raise RuntimeError("for a test")
        until(lambda: len(server.ends) == 2)
        client.websocket(server.url).recv().cancel()
        until(lambda: len(server.ends) == 3)
    assert [end if end is None else (end.rcvd.code, end.rcvd.reason) for end in server.ends] == [
        (4000, "enough"),
        (1011, ""),
        None,  # going away is a good reason
    ]


def test_forgotten_it_is_closed(peer: Any, until: Any) -> None:
    server = peer()
    with Client() as client:
        socket = client.websocket(server.url).recv()
        socket.send("x").recv()
        del socket
        until(lambda: len(server.ends) == 1)


def test_who_waits_need_not_hold_it(peer: Any, until: Any) -> None:
    got: list[ae.CondVar[Any]] = []

    def talk(connection: Any) -> None:
        connection.ping().wait()
        connection.send("late")

    with Client() as client:
        client.websocket(peer(talk).url).recv().receive().on_ready(got.append)
        gc.collect()
        until(lambda: len(got) == 1)
    assert got[0].recv() == "late"


def test_a_cancelled_receive_loses_nothing(backend: ae.abc.Backend, peer: Any, run: Run) -> None:
    url = peer().url
    waiting: Any = None

    async def main() -> None:
        nonlocal waiting
        async with Client() as client, await client.websocket(url) as socket:
            with pytest.raises(TimeoutError):
                async with ae.timeout(0.01):
                    await socket.receive()
            await socket.send("a")
            await socket.ping()  # the echo is here
            waiting = ae.spawn(receive(socket))
            with pytest.raises(BaseException):  # noqa: B017 - the loop's own class
                await waiting
            assert await socket.receive() == "a"

    async def receive(socket: ae_http.WebSocket) -> Any:
        message = socket.receive()  # which is there in the next turn
        ae.postpone(waiting.cancel)  # before we have taken it
        return await message

    run(main())


def test_a_server_is_read_no_faster_than_messages_are_taken(peer: Any, until: Any) -> None:
    sent = 0
    seen: list[int] = []

    def talk(connection: Any) -> None:
        nonlocal sent
        while sent < 400:  # 40 MB, more than any system keeps for us
            connection.send(bytes(100_000))
            sent += 1

    with Client() as client:
        socket = client.websocket(peer(talk).url, ping_interval=0.01).recv()
        first = socket.receive().recv()

        def stands_still() -> bool:
            seen.append(sent)
            return len(seen) > 50 and seen[-50] == sent

        until(stands_still)
        assert 0 < sent < 350
        sizes = [len(first), *(len(message) for message in socket)]
        assert sizes == [100_000] * 400


def test_sending_waits_for_the_server(peer: Any) -> None:
    reads = threading.Event()

    def talk(connection: Any) -> None:
        assert reads.wait(30)
        for _ in connection:
            continue

    with Client() as client, client.websocket(peer(talk, max_size=None).url).recv() as socket:
        # the server's library reads ahead, but for some messages only
        sending = [socket.send(bytes(500_000)) for _ in range(64)]
        with pytest.raises(TimeoutError):
            sending[-1].recv(timeout=0.05)
        reads.set()
        sending[-1].recv()
        socket.cancel()


def test_subprotocols_headers_and_tls(
    peer: Any, pem: Any, trusting: Any, backend: ae.abc.Backend, run: Run
) -> None:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = peer(
        lambda connection: connection.send(connection.request.headers["X-Token"]),
        ssl=context,
        subprotocols=["b", "a"],
    )

    async def main() -> None:
        async with Client(tls_context=trusting) as client:
            opened = client.websocket(server.url, subprotocols=["a", "b"], headers={"X-Token": "7"})
            async with await opened as socket:
                assert socket.subprotocol == "b"
                assert await socket.receive() == "7"

    run(main())


def test_through_nginx(peer: Any, nginx: Any) -> None:
    port = peer().url.rpartition(":")[2].partition("/")[0]
    with Client() as client:
        with client.websocket(f"{nginx.url}/websocket/{port}").recv() as socket:
            socket.send("hello").recv()
            assert socket.receive().recv() == "hello"


# ---------------------------------------------------------------------- servers that misbehave


def accepting(then: bytes, *fields: str, accept: str | None = None) -> Callable[..., None]:
    """Return a handler that accepts a WebSocket, and sends *then* in the same segment."""

    def handler(handle: Handle, head: bytes) -> None:
        key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        digest = sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        lines = [
            "HTTP/1.1 101 Switching Protocols",
            *(fields or ("Upgrade: websocket", "Connection: Upgrade")),
            f"Sec-WebSocket-Accept: {accept or b64encode(digest).decode()}",
        ]
        handle.read_each(lambda buffer: buffer.take() or None, lambda handle, data: None)
        handle.push_write("\r\n".join([*lines, "", ""]).encode() + then)

    return handler


def test_what_comes_in_one_segment_with_the_handshake_is_there(serve: Any) -> None:
    server = serve(accepting(b"\x81\x02hi\x88\x02\x03\xe8"))
    with Client() as client, client.websocket(server.url).recv() as socket:
        assert list(socket) == ["hi"]
        assert socket.close_code == 1000


@pytest.mark.parametrize(
    ("fields", "accept", "text"),
    [
        ((), "x", "another request"),
        (("Upgrade: other", "Connection: upgrade"), None, "another protocol"),
        (("Upgrade: websocket",), None, "Connection"),
        (
            ("Upgrade: websocket", "Connection: upgrade", "Sec-WebSocket-Protocol: x"),
            None,
            "not offered",
        ),
        (
            ("Upgrade: websocket", "Connection: upgrade", "Sec-WebSocket-Extensions: x"),
            None,
            "extensions",
        ),
    ],
)
def test_a_handshake_that_is_none_is_refused(
    serve: Any, until: Any, fields: tuple[str, ...], accept: str | None, text: str
) -> None:
    server = serve(accepting(b"", *fields, accept=accept))
    with Client() as client:
        with pytest.raises(ae_http.BadResponse, match=text):
            client.websocket(server.url).recv()
        until(lambda: server.alive == 0)


@pytest.mark.parametrize("status", ["200 OK", "403 Forbidden", "302 Found"])
def test_another_answer_is_there_to_be_read(serve: Any, reply: Any, status: str) -> None:
    server = serve(reply(b"no", "Location: /elsewhere", status=status))
    with Client() as client, pytest.raises(WebSocketRefused) as caught:
        client.websocket(server.url).recv()
    assert caught.value.response.body == b"no"


def test_a_message_that_is_too_big_is_the_end(serve: Any) -> None:
    server = serve(accepting(b"\x82\x7e\x03\xe9" + bytes(1001)))
    with Client() as client, client.websocket(server.url, max_message=1000).recv() as socket:
        with pytest.raises(WebSocketClosed) as caught:
            socket.receive().recv()
        assert caught.value.code == 1009


def test_a_connection_that_breaks_is_no_good_end(
    backend: ae.abc.Backend, serve: Any, run: Run
) -> None:
    def handler(handle: Handle, head: bytes) -> None:
        accepting(b"\x81\x02hi")(handle, head)
        handle.destroy()

    server = serve(handler)

    async def main() -> None:
        async with Client() as client, await client.websocket(server.url) as socket:
            assert await anext(socket) == "hi"
            with pytest.raises(WebSocketClosed) as caught:
                await anext(socket)
            assert caught.value.code == socket.close_code == 1006

    run(main())


def test_a_server_that_answers_no_ping_is_lost(serve: Any) -> None:
    server = serve(accepting(b""))
    with Client() as client:
        socket = client.websocket(server.url, ping_interval=0.02).recv()
        with pytest.raises(WebSocketClosed, match="ping") as caught:
            socket.receive().recv(timeout=30)
        assert caught.value.code == 1006


def test_a_server_that_answers_pings_is_not(serve: Any, until: Any) -> None:
    pings = 0

    def handler(handle: Handle, head: bytes) -> None:
        accepting(b"")(handle, head)
        handle.read_each(Chunk(6), pong)

    def pong(handle: Handle, frame: bytes) -> None:
        nonlocal pings
        assert frame[:2] == b"\x89\x80"
        pings += 1
        handle.push_write(b"\x8a\x00")

    server = serve(handler)
    with Client() as client:
        socket = client.websocket(server.url, ping_interval=0.02).recv()
        until(lambda: pings == 5)
        assert not socket.is_closed
        socket.cancel()


def test_a_server_that_says_no_goodbye_is_not_waited_for(serve: Any, until: Any) -> None:
    server = serve(accepting(b""))
    with Client() as client:
        socket = client.websocket(server.url, close_timeout=0.02).recv()
        socket.close().recv(timeout=30)
        assert socket.close_code == 1006


def test_a_handshake_that_is_cancelled_or_takes_too_long(serve: Any, until: Any) -> None:
    server = serve(lambda handle, head: None)
    with Client() as client:
        asked = client.websocket(server.url)
        until(lambda: len(server.requests) == 1)
        asked.cancel()
        until(lambda: server.alive == 0)
        with pytest.raises(ae_http.RequestTimedOut):
            client.websocket(server.url, timeout=0.02).recv()


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("ftp://a/", {}),
        ("", {}),
        ("ws:///x", {}),
        ("ws://a/", {"headers": {"Sec-WebSocket-Key": "x"}}),
        ("ws://a/", {"subprotocols": ["a b"]}),
        ("ws://a/", {"subprotocols": [""]}),
    ],
)
def test_what_cannot_be_asked_is_refused_at_once(url: str, options: dict[str, Any]) -> None:
    with Client() as client, pytest.raises(InvalidRequest):
        client.websocket(url, **options)


@pytest.mark.parametrize(("code", "reason"), [(999, ""), (1005, ""), (1006, ""), (1000, "ü" * 62)])
def test_a_goodbye_that_cannot_be_said_is_refused(peer: Any, code: int, reason: str) -> None:
    with Client() as client, client.websocket(peer().url).recv() as socket:
        with pytest.raises(ValueError, match="expected a"):
            socket.close(code, reason)
        for message in (None, 5, ["x"]):
            with pytest.raises(TypeError):
                socket.send(message)  # type: ignore[arg-type]
