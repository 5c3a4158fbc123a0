"""Proxies, tunnels, TLS through them, other protocols, and redirects between all of these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
import ae_http
from ae_handle import Handle
from ae_http import Client


def tunnel(handle: Handle, head: bytes) -> None:
    """Be a proxy: connect through to where CONNECT says, and copy both ways."""
    host, _, port = head.split()[1].decode().rpartition(":")

    def copy(source: Handle, sink: Handle) -> None:
        source.on_read = lambda source: sink.push_write(source.read_buffer.take())
        source.on_eof = lambda source: sink.destroy()
        source.on_error = lambda source, error: sink.destroy()

    def connected(upstream: Handle, *_: object) -> None:
        handle.push_write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        copy(upstream, handle)
        copy(handle, upstream)

    Handle(
        connect=(host, port),
        on_connect=connected,
        on_connect_error=lambda upstream, error: handle.push_write(
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\nnone"
        ),
    )


def test_http_through_a_proxy_shares_its_connections(serve: Any, reply: Any) -> None:
    proxy = serve(reply(b"from the proxy"))
    with Client(proxy=f"http://user:pass@127.0.0.1:{proxy.port}") as client:
        for url in ("http://a.invalid/x", "http://b.invalid:8080/y?z"):
            assert client.get(url).recv().body == b"from the proxy"
    assert [head.split()[1] for head in proxy.requests] == [
        b"http://a.invalid/x",
        b"http://b.invalid:8080/y?z",
    ]
    assert b"\r\nHost: b.invalid:8080\r\n" in proxy.requests[1]
    assert b"\r\nProxy-Authorization: Basic dXNlcjpwYXNz" in proxy.requests[0]
    assert len(proxy.handles) == 1


@pytest.mark.parametrize("secure_proxy", [False, True], ids=["http-proxy", "https-proxy"])
def test_https_through_a_tunnel(
    backend: ae.abc.Backend,
    serve: Any,
    reply: Any,
    run: Any,
    trusting: Any,
    server_context: Any,
    secure_proxy: bool,
) -> None:
    server = serve(reply(b"secret"), server_context)
    proxy = serve(tunnel, server_context if secure_proxy else None)
    upstreams = server.handles

    async def main() -> None:
        async with Client(tls_context=trusting, proxy=proxy.url) as client:
            for _ in range(3):
                assert (await client.get(server.url)).body == b"secret"
            assert client.idle == 1

    run(main())
    assert len(upstreams) == len(proxy.handles) == len(proxy.requests) == 1
    assert proxy.requests[0].startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1" % server.port)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("wire", "error", "text"),
    [
        (b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n", ae_http.ProxyRefused, "407"),
        (b"HTTP/1.0 500 Oops\r\n\r\nlong text", ae_http.ProxyRefused, "500 Oops"),
        (b"garbage\r\n\r\n", ae_http.ProxyRefused, "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n", ae_http.ProxyRefused, "sent data"),
    ],
)
def test_proxy_that_opens_no_tunnel(
    serve: Any, wire: bytes, error: type[ae_http.HttpError], text: str
) -> None:
    proxy = serve(wire)
    with Client(proxy=proxy.url) as client, pytest.raises(error, match=text) as caught:
        client.get("https://a.invalid/").recv()
    assert caught.value.phase == "proxy"
    assert "a.invalid" in str(caught.value)
    status = wire[9:12]
    assert isinstance(caught.value, ae_http.ProxyRefused)
    assert caught.value.status == (int(status) if status in (b"407", b"500") else None)


def test_proxy_that_closes(serve: Any) -> None:
    proxy = serve(lambda handle, head: handle.destroy())
    with Client(proxy=proxy.url) as client, pytest.raises(ae_http.ConnectionFailed, match="proxy"):
        client.get("https://a.invalid/").recv()


def test_proxy_that_says_nothing(serve: Any) -> None:
    proxy = serve(lambda handle, head: None)
    with Client(proxy=proxy.url, connect_timeout=0.4) as client:
        with pytest.raises(ae_http.RequestTimedOut) as caught:
            client.get("https://a.invalid/").recv()
    assert caught.value.phase == "proxy"


def test_tunnel_checks_the_name_of_the_server_not_the_proxy(
    serve: Any, reply: Any, trusting: Any, server_context: Any
) -> None:
    server = serve(reply(b"secret"), server_context)

    def to_the_wrong_one(handle: Handle, head: bytes) -> None:
        tunnel(handle, b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % server.port)

    proxy = serve(to_the_wrong_one)
    with Client(proxy=proxy.url, tls_context=trusting) as client:
        with pytest.raises(ae_http.TlsFailed) as caught:
            client.get("https://bank.example/").recv()
    assert caught.value.reason == "wrong-name"
    assert server.requests == []


def test_callable_chooses_the_proxy_anew_for_a_redirect(serve: Any, reply: Any) -> None:
    server = serve(reply(b"direct"))
    proxy = serve(reply(b"", f"Location: {server.url}/x", status="302 Found"))
    with Client(proxy=lambda url: proxy.url if "invalid" in url else None) as client:
        response = client.get("http://a.invalid/").recv()
    assert response.body == b"direct"
    assert server.requests[0].startswith(b"GET /x HTTP/1.1")


@pytest.mark.parametrize("chosen", [ZeroDivisionError(), 5, "nonsense", "socks4://x"])
def test_what_cannot_choose_a_proxy_for_a_redirect_fails_the_request(
    serve: Any, reply: Any, chosen: Any
) -> None:
    server = serve(reply(b"", "Location: /x", status="302 x"))

    def choose(url: str) -> Any:
        if not url.endswith("/x"):
            return None
        if isinstance(chosen, Exception):
            raise chosen
        return chosen

    with Client(proxy=choose, timeout=20) as client:
        with pytest.raises(ae_http.RedirectRefused, match="cannot be followed"):
            client.get(server.url).recv()
    assert len(server.requests) == 1


# ---------------------------------------------------------------------- redirects


def test_redirects_have_a_limit(serve: Any, reply: Any) -> None:
    server = serve(reply(b"", "Location: /again", status="302 Found"))
    with Client(max_redirects=3) as client:
        with pytest.raises(ae_http.RedirectRefused, match="more than 3"):
            client.get(server.url).recv()
        assert len(server.requests) == 4
        response = client.get(server.url, max_redirects=0).recv()
        assert (response.status, response.headers["location"]) == (302, "/again")


def test_redirect_keeps_credentials_within_the_origin_only(serve: Any, reply: Any) -> None:
    other = serve(reply(b"other"))

    def answer(handle: Handle, head: bytes) -> None:
        place = "/b" if b" /a " in head else f"{other.url}/c"
        handle.push_write(reply(b"", f"Location: {place}", status="307 x"))

    server = serve(answer)
    fields = {"Authorization": "secret", "Cookie": "c=d", "X": "kept"}
    with Client() as client:
        response = client.post(server.url + "/a", b"body", headers=fields).recv()
    assert response.body == b"other"
    assert all(b"secret" in head and b"c=d" in head for head in server.requests)
    assert b"secret" not in other.requests[0]
    assert b"c=d" not in other.requests[0]
    assert b"X: kept" in other.requests[0]
    assert (other.requests[0].split()[0], other.bodies) == (b"POST", [b"body"])


def test_redirect_with_a_body_that_cannot_be_repeated(serve: Any, reply: Any) -> None:
    server = serve(reply(b"", "Location: /b", status="307 x"))
    with Client() as client, pytest.raises(ae_http.RedirectRefused, match="second time"):
        client.post(server.url + "/a", iter([b"once"])).recv()


def test_redirect_to_nowhere(serve: Any, reply: Any) -> None:
    server = serve(reply(b"", "Location: ftp://a/", status="302 x"))
    with Client() as client, pytest.raises(ae_http.RedirectRefused, match="ftp"):
        client.get(server.url).recv()


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_body_of_a_redirect_is_skipped_if_that_is_cheap(serve: Any, reply: Any, size: int) -> None:
    def answer(handle: Handle, head: bytes) -> None:
        moved = b" /a " in head
        fields = ["Location: /b"] if moved else []
        handle.push_write(reply(bytes(size), *fields, status="302 x" if moved else "200 OK"))

    server = serve(answer)
    with Client() as client:
        assert len(client.get(server.url + "/a").recv().body) == size
    assert len(server.handles) == (1 if size == 10 else 2)


def test_redirect_whose_body_breaks_off_is_followed(serve: Any, reply: Any) -> None:
    def answer(handle: Handle, head: bytes) -> None:
        if b" /a " in head:
            handle.push_write(b"HTTP/1.1 302 x\r\nLocation: /b\r\nContent-Length: 9\r\n\r\nx")
            handle.push_shutdown()
        else:
            handle.push_write(reply(b"there"))

    server = serve(answer)
    with Client() as client:
        assert client.get(server.url + "/a").recv().body == b"there"


# ---------------------------------------------------------------------- other protocols


def test_upgrade_hands_the_connection_over(serve: Any, reply: Any) -> None:
    def answer(handle: Handle, head: bytes) -> None:
        handle.read_each("line", lambda handle, line: handle.push_write(line[::-1] + b"\n"))
        handle.push_write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: reverse\r\n"
            b"Connection: Upgrade\r\n\r\nhi\n"
        )

    server = serve(answer)
    with Client() as client:
        response, handle = client.upgrade(server.url, "reverse").recv()
        assert response.status == 101
        assert b"\r\nConnection: Upgrade\r\nUpgrade: reverse" in server.requests[0]
    # the client is closed: the handle is ours
    assert handle is not None
    assert handle.push_read("line").recv() == b"hi"
    handle.push_write(b"stressed\n")
    assert handle.push_read("line").recv() == b"desserts"
    handle.destroy()


def test_upgrade_that_is_declined(serve: Any, reply: Any) -> None:
    server = serve(reply(b"no", status="426 Upgrade Required"))
    with Client() as client:
        response, handle = client.upgrade(server.url, "websocket").recv()
        assert (response.status, response.body, handle) == (426, b"no", None)
        assert client.idle == 1


@pytest.mark.parametrize("protocol", ["", "a b", "x\r\nY: z", "a/b/c", "a,b"])
def test_upgrade_to_what_is_no_protocol(protocol: str) -> None:
    with Client() as client, pytest.raises(ae_http.InvalidRequest, match="protocol"):
        client.upgrade("http://a/", protocol)


def test_upgrade_through_a_proxy_is_a_tunnel(serve: Any) -> None:
    server = serve(b"HTTP/1.1 101 ok\r\nUpgrade: x\r\n\r\n")
    proxy = serve(tunnel)
    with Client(proxy=proxy.url) as client:
        _, handle = client.upgrade(server.url, "x").recv()
        assert handle is not None
        handle.destroy()
    assert proxy.requests[0].startswith(b"CONNECT ")


def test_connector_makes_the_streams(serve: Any, reply: Any) -> None:
    from ae_socket import tcp_connect

    server = serve(reply(b"x"))
    asked: list[tuple[str, int]] = []

    def connector(host: str, port: int) -> ae.CondVar[Any]:
        asked.append((host, port))
        return tcp_connect("127.0.0.1", server.port)

    with Client(connector=connector) as client:
        assert client.get("http://somewhere.invalid/").recv().body == b"x"
    assert asked == [("somewhere.invalid", 80)]
    with Client(connector=lambda host, port: tcp_connect("127.0.0.1", 1)) as client:
        with pytest.raises(ae_http.ConnectionFailed, match="somewhere"):
            client.get("http://somewhere.invalid/").recv()


def test_connector_that_raises_is_a_failed_connection() -> None:
    def connector(host: str, port: int) -> ae.CondVar[Any]:
        raise ValueError("no such thing")

    with Client(connector=connector) as client:
        asked = client.get("http://somewhere.invalid/")
        assert not asked.ready
        with pytest.raises(ae_http.ConnectionFailed, match="no such thing"):
            asked.recv()
    with Client(connector=lambda host, port: _sent("no stream")) as client:
        with pytest.raises(ae_http.ConnectionFailed):
            client.get("http://somewhere.invalid/").recv()


def _sent(value: Any) -> ae.CondVar[Any]:
    done: ae.CondVar[Any] = ae.CondVar()
    done.send(value)
    return done


def test_request_cancelled_while_the_connector_works() -> None:
    import socket

    pending: list[ae.CondVar[Any]] = []

    def connector(host: str, port: int) -> ae.CondVar[Any]:
        pending.append(ae.CondVar())
        return pending[-1]

    with Client(connector=connector) as client:
        asked = client.get("http://somewhere.invalid/")
        asked.cancel()
        assert pending[0].cancelled
        ours, theirs = socket.socketpair()
        early = client.get("http://somewhere.invalid/")
        pending[1].send(ours)  # ready, but nobody has looked at it yet
        early.cancel()
        ae.sleep(0).recv()
        theirs.setblocking(False)
        with theirs, ours:
            assert theirs.recv(1) == b""


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timeout": 0}, ValueError),
        ({"timeout": "5"}, TypeError),
        ({"timeout": True}, TypeError),
        ({"read_timeout": float("inf")}, ValueError),
        ({"connect_timeout": -1}, ValueError),
        ({"max_connections": 0}, ValueError),
        ({"max_connections": 1.5}, TypeError),
        ({"pipeline": 0}, ValueError),
        ({"max_body": -1}, ValueError),
        ({"max_head": 1}, ValueError),
        ({"headers": {"A": "b\n"}}, ae_http.InvalidRequest),
        ({"no_such": 1}, TypeError),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Client(**options)


def test_bad_requests_are_refused_at_once() -> None:
    with Client() as client:
        calls: list[Callable[[], object]] = [
            lambda: client.get("nonsense"),
            lambda: client.request("GE T", "http://a/"),
            lambda: client.get("http://a/", headers={"A": "b\r\n"}),
            lambda: client.get("http://a/", proxy="socks4://b"),
        ]
        for call in calls:
            with pytest.raises(ae_http.InvalidRequest):
                call()
        with pytest.raises(TypeError):
            client.get("http://a/", on_data="x")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            client.get("http://a/", tiemout=5)  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            client.stream("GET", "http://a/", on_data=print)  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            client.post("http://a/", "text")  # type: ignore[arg-type]
