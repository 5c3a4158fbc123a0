"""What happens rarely, and must be right all the same."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
import ae_http
from ae_core.testing import binding
from ae_handle import Handle, TlsError
from ae_handle.testing import ScriptedPeer
from ae_http import BadResponse, Client, ConnectionFailed, Headers, InvalidRequest

Until = Callable[[Callable[[], bool]], None]
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"


def connector_of(peer: ScriptedPeer) -> Callable[[str, int], ae.CondVar[Any]]:
    def connector(host: str, port: int) -> ae.CondVar[Any]:
        done: ae.CondVar[Any] = ae.CondVar()
        done.send(peer.stream)
        return done

    return connector


# ---------------------------------------------------------------------- loops that end


def test_idle_connections_of_a_loop_that_has_ended_are_closed(serve: Any, reply: Any) -> None:
    with Client() as client:
        with binding("loop"):
            server = serve(reply(b"x"))
            client.get(server.url).recv()
            assert client.idle == 1
            server.close()
        other = serve(reply(b"y"))
        assert client.get(other.url).recv().body == b"y"
        assert client.idle == 1


def test_request_of_a_loop_that_has_ended_fails_when_the_next_one_is_made(
    serve: Any, reply: Any
) -> None:
    with Client() as client:
        with binding("loop"):
            asked = client.get(serve(lambda handle, head: None).url)
            ae.sleep(0).recv()
        server = serve(reply(b"y"))
        assert client.get(server.url).recv().body == b"y"
        with pytest.raises(ae_http.HttpError, match="loop of this request has ended"):
            asked.recv()


# ---------------------------------------------------------------------- requests


def test_many_documents(serve: Any, reply: Any) -> None:
    server = serve(lambda handle, head: handle.push_write(reply(head.split()[1])))
    with Client() as client:
        for number in range(600):
            assert client.get(f"{server.url}/{number % 300}").recv().text == f"/{number % 300}"


def test_head_function(serve: Any) -> None:
    server = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    response = ae_http.head(server.url).recv()
    assert (response.headers["content-length"], response.body) == ("5", b"")
    assert repr(response) == f"<Response 200 OK {server.url}/>"


def test_headers_object_and_defaults_of_the_client(serve: Any, reply: Any) -> None:
    server = serve(reply(b""))
    fields = Headers({"X": "client", "User-Agent": "me", "Accept-Encoding": "gzip;q=0"})
    with Client(headers=fields) as client:
        client.get(server.url).recv()
        client.get(server.url, headers=Headers([("x", "request"), ("Y", "1"), ("Y", "2")])).recv()
    plain, other = (head.decode().split("\r\n")[2:] for head in server.requests)
    assert plain == ["Accept: */*", "X: client", "User-Agent: me", "Accept-Encoding: gzip;q=0"]
    assert other[-3:] == ["x: request", "Y: 1", "Y: 2"]
    assert "X: client" not in other


def test_arguments_that_are_no_text() -> None:
    with Client() as client:
        with pytest.raises(TypeError, match="URL as a str"):
            client.get(b"http://a/")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="method as a str"):
            client.request(b"GET", "http://a/")  # type: ignore[arg-type]
        with pytest.raises((TypeError, InvalidRequest)):
            client.get(["http://a/"])  # type: ignore[arg-type]


def test_a_time_out_that_no_float_can_hold_is_refused() -> None:
    for name in ("timeout", "read_timeout", "connect_timeout", "idle_timeout"):
        options: dict[str, Any] = {name: 10**400}
        with pytest.raises(ValueError, match=f"expected {name} of more than 0 seconds"):
            Client(**options)


def test_total_time_out_tells_the_phase() -> None:
    pending: list[ae.CondVar[Any]] = []

    def connector(host: str, port: int) -> ae.CondVar[Any]:
        pending.append(ae.CondVar())
        return pending[-1]

    with Client(connector=connector, timeout=0.02) as client:
        with pytest.raises(ae_http.RequestTimedOut) as caught:
            client.get("http://a/").recv()
        assert caught.value.phase == "connect"
    assert pending[0].cancelled


# ---------------------------------------------------------------------- uploads


def test_upload_from_a_file(serve: Any, reply: Any, tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    (tmp_path / "file").write_bytes(data)
    server = serve(reply(b"ok"))
    with Client() as client, open(tmp_path / "file", "rb") as file:
        client.post(server.url, file).recv()
        fields = {"Content-Length": str(len(data))}
        client.post(server.url, io.BytesIO(data), headers=fields).recv()
        assert client.idle == 1
    assert server.bodies == [data, data]
    assert b"chunked" in server.requests[0]
    assert b"chunked" not in server.requests[1]


def test_upload_of_other_bytes(serve: Any, reply: Any) -> None:
    server = serve(reply(b"ok"))
    wide = memoryview(bytearray(8)).cast("I")
    with Client() as client:
        client.post(server.url, [bytearray(b"a"), memoryview(b"b"), wide]).recv()
    assert server.bodies == [b"ab" + bytes(8)]


def test_upload_whose_source_is_cancelled(serve: Any, reply: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"
        raise ae.CancelledError("somebody else's")

    server = serve(reply(b"ok"))
    with Client() as client, pytest.raises(ae_http.UploadFailed, match="was cancelled"):
        client.post(server.url, pieces()).recv()


def test_upload_whose_source_fails_when_it_is_closed(serve: Any, reply: Any) -> None:
    def pieces() -> Iterator[bytes]:
        try:
            yield b"too much"
        finally:
            raise ValueError("while closing")

    server = serve(reply(b"ok"))
    with Client() as client, pytest.raises(ae_http.UploadFailed, match="while closing"):
        client.post(server.url, pieces(), headers={"Content-Length": "1"}).recv()


def test_cancelled_upload_closes_its_source(serve: Any, until: Until) -> None:
    seen: list[str] = []

    async def pieces() -> AsyncIterator[bytes]:
        try:
            while True:
                seen.append("piece")
                yield bytes(100_000)
        finally:
            seen.append("closed")

    server = serve(lambda handle, head: None, raw=True)
    with Client() as client:
        asked = client.post(server.url, pieces(), headers={"Content-Length": str(1 << 40)})
        until(lambda: len(seen) > 2)
        asked.cancel()
        until(lambda: seen[-1] == "closed")
        until(lambda: server.alive == 0)


def test_connection_that_breaks_in_an_upload(serve: Any, until: Until) -> None:
    closed: list[str] = []

    def pieces() -> Iterator[bytes]:
        try:
            while True:
                yield bytes(100_000)
        finally:
            closed.append("closed")

    server = serve(lambda handle, head: handle.destroy(), raw=True)
    with Client() as client:
        fields = {"Content-Length": str(1 << 40)}
        with pytest.raises(ae_http.ConnectionLost):
            client.post(server.url, pieces(), headers=fields).recv()
        until(lambda: bool(closed))


# ---------------------------------------------------------------------- bodies


@pytest.mark.parametrize("packed", [b"not packed", gzip.compress(b"hello" * 1000)[:-9]])
def test_damaged_body_for_a_callback_and_a_stream(
    serve: Any, reply: Any, until: Until, packed: bytes
) -> None:
    server = serve(reply(packed, "Content-Encoding: gzip"))
    with Client() as client:
        with pytest.raises(BadResponse, match="gzip"):
            client.get(server.url, on_data=lambda piece: None).recv()
        stream = client.stream("GET", server.url).recv()
        with pytest.raises(BadResponse, match="gzip"):
            stream.read_all().recv()


def test_end_of_a_stream_that_comes_late(serve: Any) -> None:
    server = serve(CHUNKED + b"\r\n1\r\nx\r\n")
    with Client() as client:
        stream = client.stream("GET", server.url).recv()
        assert stream.trailers is None
        assert stream.read().recv() == b"x"
        last = stream.read()
        ae.sleep(0.01).recv()
        assert not last.ready
        server.handles[0].push_write(b"0\r\nA: b\r\n\r\n")
        assert last.recv() == b""
        assert dict(stream.trailers or {}) == {"a": "b"}
        stream.cancel()
        assert client.idle == 1


def test_cancelled_stream(serve: Any, until: Until) -> None:
    server = serve(CHUNKED + b"\r\n1\r\nx\r\n")
    with Client() as client:
        stream = client.stream("GET", server.url).recv()
        assert stream.read().recv() == b"x"
        waiting = stream.read()
        stream.cancel()
        stream.cancel()
        with pytest.raises(ae.CancelledError):
            waiting.recv()
        with pytest.raises(ae_http.HttpError, match="was cancelled"):
            stream.read().recv()
        until(lambda: server.alive == 0)


def test_packed_stream_octet_by_octet(serve: Any) -> None:
    packed = gzip.compress(b"hello")

    def answer(handle: Handle, head: bytes) -> None:
        handle.push_write(CHUNKED + b"Content-Encoding: gzip\r\n\r\n")
        for octet in packed:
            handle.push_write(b"1\r\n%c\r\n" % octet)
        handle.push_write(b"0\r\n\r\n")

    server = serve(answer)
    with Client() as client, client.stream("GET", server.url).recv() as stream:
        assert b"".join(stream) == b"hello"


def test_raw_deflate_that_ends_with_a_full_piece() -> None:
    import zlib

    from ae_http._coding import Decoder, decode_all

    for size in (65535, 65536, 65537, 131072):
        for data in (bytes(size), bytes(range(256)) * (size // 256)):
            packed = zlib.compress(data, wbits=-15)
            assert decode_all(Decoder("deflate"), packed, None) == data


# ---------------------------------------------------------------------- idle connections


def test_server_that_says_less_is_believed_also_if_another_is_kept_longer(
    unbound: None, serve: Any, reply: Any, until: Until
) -> None:
    with binding("loop"):
        long = serve(reply(b"x"))
        short = serve(reply(b"x", "Keep-Alive: timeout=1"))
        with Client() as client:
            client.get(long.url).recv()
            client.get(short.url).recv()
            until(lambda: client.idle == 1)
            client.get(long.url).recv()
            assert len(long.handles) == 1
        long.close()
        short.close()


# ---------------------------------------------------------------------- connections


def test_interim_response_of_a_proxy_is_skipped(serve: Any, reply: Any) -> None:
    peer = ScriptedPeer()
    peer.expect(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nUser-Agent: x\r\n\r\n")
    peer.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\n\r\n")
    fields = {"User-Agent": "x"}
    with Client(connector=connector_of(peer), proxy="http://p", headers=fields) as client:
        with pytest.raises(ae_http.ProxyRefused, match="403 No"):
            client.get("https://a/").recv()
    peer.done.recv()


def test_proxy_that_breaks_the_connection() -> None:
    peer = ScriptedPeer()
    peer.expect(b"CONNECT").reset()
    with Client(connector=connector_of(peer), proxy="http://p") as client:
        with pytest.raises(ConnectionFailed) as caught:
            client.get("https://a/").recv()
        assert caught.value.phase == "proxy"


def test_no_tls_engine() -> None:
    class NoEngine:
        def new_session(self, role: str, peer_name: str | None) -> Any:
            raise TlsError("there is none", reason="unavailable")

    with Client(connector=connector_of(ScriptedPeer()), tls_context=NoEngine()) as client:
        with pytest.raises(ae_http.TlsFailed, match="there is none") as caught:
            client.get("https://a/").recv()
        assert caught.value.reason == "unavailable"
        assert isinstance(caught.value.__cause__, TlsError)


def test_environment_that_is_to_be_ignored() -> None:
    code = "import ae_http; print(ae_http.environment_proxy('http://a/'))"
    for flag, expected in ((), "http://p:1"), (("-E",), "None"):
        done = subprocess.run(
            [sys.executable, *flag, "-c", code],
            env={"http_proxy": "http://p:1", "PYTHONPATH": ":".join(sys.path)},
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode and flag:
            pytest.skip("the packages are not installed")
        assert done.stdout.strip() == expected, done.stderr
