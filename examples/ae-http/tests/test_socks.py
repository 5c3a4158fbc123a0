"""Through a SOCKS proxy: requests, TLS and other protocols, logging in, being refused."""

from __future__ import annotations

from typing import Any

import pytest

import ae_core as ae
import ae_http
from ae_handle import Chunk, Handle, HandleError, relay, serve
from ae_http import Client, environment_proxy


class SocksProxy:
    """A SOCKS 5 proxy, for which each name is the loopback's.

    Attributes:
        asked: The names and addresses it was asked for.
        logins: Who has logged in.
    """

    def __init__(self, *, login: bool = False, reply: int = 0) -> None:
        self.asked: list[tuple[str, int]] = []
        self.logins: list[tuple[bytes, bytes]] = []
        self._login = login
        self._reply = reply
        self._server = serve("127.0.0.1", 0, self._serve)
        self.authority = "{}:{}".format(*self._server.address)

    async def end(self) -> None:
        """Wait until nobody is served any more."""
        self._server.cancel()
        while self._server.clients:
            await ae.sleep(0.001)

    async def _serve(self, handle: Handle) -> None:
        _, count = await handle.push_read(Chunk(2))
        methods = await handle.push_read(Chunk(count))
        method = 2 if self._login else 0
        handle.push_write(bytes((5, method if method in methods else 255)))
        if self._login:
            user = await handle.push_read(Chunk((await handle.push_read(Chunk(2)))[1]))
            password = await handle.push_read(Chunk((await handle.push_read(Chunk(1)))[0]))
            self.logins.append((user, password))
            handle.push_write(b"\1\0" if password == b"p:w" else b"\1\1")
        kind = (await handle.push_read(Chunk(4)))[3]
        if kind == 3:
            size = (await handle.push_read(Chunk(1)))[0]
            name = (await handle.push_read(Chunk(size))).decode()
        else:
            name = str((await handle.push_read(Chunk({1: 4, 4: 16}[kind]))).hex())
        port = int.from_bytes(await handle.push_read(Chunk(2)), "big")
        self.asked.append((name, port))
        target = None
        if not self._reply:
            target = Handle(connect=("127.0.0.1", port))
            await target.drained()
        handle.push_write(bytes((5, self._reply, 0, 1, 0, 0, 0, 0, 0, 0)))
        await handle.drained()
        if target is not None:
            try:
                await relay(handle, target)
            except HandleError:
                return  # one side has closed, which a client may do


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_requests_go_through_and_the_proxy_resolves_the_name(
    backend: ae.abc.Backend,
    serve: Any,
    reply: Any,
    run: Any,
    trusting: Any,
    server_context: Any,
    scheme: str,
    secure: bool,
) -> None:
    server = serve(reply(b"hello"), server_context if secure else None)

    async def main() -> None:
        proxy = SocksProxy()
        url = server.url.replace("127.0.0.1", "localhost")
        async with Client(proxy=f"{scheme}://{proxy.authority}", tls_context=trusting) as client:
            for path in ("/a", "/b"):
                assert (await client.get(url + path)).body == b"hello"
            assert client.idle == 1
        assert proxy.asked == [("localhost", server.port)]  # one connection, and the name itself
        await proxy.end()

    run(main())
    assert [head.split()[1] for head in server.requests] == [b"/a", b"/b"]
    assert b"\r\nHost: localhost:%d\r\n" % server.port in server.requests[0]


def test_hosts_behind_a_socks_proxy_share_no_connection(serve: Any, reply: Any) -> None:
    server = serve(reply(b"x"))
    proxy = SocksProxy()
    with Client(proxy=f"socks5://{proxy.authority}") as client:
        for name in ("a.test", "b.test", "a.test"):
            client.get(f"http://{name}:{server.port}/").recv()
    assert [name for name, _ in proxy.asked] == ["a.test", "b.test"]
    ae.spawn(proxy.end()).recv()


def test_user_and_password_are_those_of_the_url(serve: Any, reply: Any) -> None:
    server = serve(reply(b"x"))
    proxy = SocksProxy(login=True)
    with Client(proxy=f"socks5://m%C3%A9:p%3Aw@{proxy.authority}") as client:
        client.get(f"http://a.test:{server.port}/").recv()
        assert proxy.logins == [("mé".encode(), b"p:w")]
        with pytest.raises(ae_http.ProxyRefused, match="user or password is wrong") as caught:
            client.get("http://a.test/", proxy=f"socks5://me:wrong@{proxy.authority}").recv()
    assert (caught.value.status, caught.value.phase) == (None, "proxy")
    assert b"p:w" not in server.requests[0]
    assert b"Proxy-Authorization" not in server.requests[0]
    ae.spawn(proxy.end()).recv()


@pytest.mark.parametrize(("code", "text"), [(5, "connection refused"), (4, "host unreachable")])
def test_the_refusal_says_why(code: int, text: str) -> None:
    proxy = SocksProxy(reply=code)
    with Client(proxy=f"socks5h://{proxy.authority}") as client:
        with pytest.raises(ae_http.ProxyRefused, match=text) as caught:
            client.get("http://a.test/").recv()
    assert "a.test:80" in str(caught.value)
    assert caught.value.status is None
    ae.spawn(proxy.end()).recv()


def test_what_is_no_socks_proxy_is_said_to_be_none() -> None:
    async def answer(handle: Handle) -> None:
        handle.push_write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with serve("127.0.0.1", 0, answer) as server:
        host, port = server.address
        with Client(proxy=f"socks5://{host}:{port}") as client:
            with pytest.raises(ae_http.ProxyRefused, match="not SOCKS 5"):
                client.get("http://a.test/").recv()


def test_a_redirect_goes_through_the_proxy_again(serve: Any, reply: Any) -> None:
    def answer(handle: Handle, head: bytes) -> None:
        if b"Host: a.test" in head:
            place = f"Location: http://b.test:{server.port}/x"
            handle.push_write(reply(b"", place, status="302 x"))
        else:
            handle.push_write(reply(b"there"))

    server = serve(answer)
    proxy = SocksProxy()
    with Client(proxy=f"socks5://{proxy.authority}") as client:
        assert client.get(f"http://a.test:{server.port}/").recv().body == b"there"
    assert [name for name, _ in proxy.asked] == ["a.test", "b.test"]
    assert server.requests[1].startswith(b"GET /x HTTP/1.1\r\n")  # not the whole URL
    ae.spawn(proxy.end()).recv()


def test_another_protocol_through_the_proxy(serve: Any) -> None:
    server = serve(b"HTTP/1.1 101 ok\r\nUpgrade: x\r\n\r\n")
    proxy = SocksProxy()
    with Client(proxy=f"socks5://{proxy.authority}") as client:
        response, handle = client.upgrade(f"http://a.test:{server.port}/", "x").recv()
    assert response.status == 101
    assert handle is not None
    handle.destroy()
    ae.spawn(proxy.end()).recv()


def test_addresses_go_to_the_proxy_as_addresses(serve: Any, reply: Any) -> None:
    server = serve(reply(b"x"))
    proxy = SocksProxy()
    with Client(proxy=f"socks5://{proxy.authority}") as client:
        client.get(server.url).recv()
        client.get(f"http://[fe80::1%25lo]:{server.port}/").recv()
    zoneless = "fe80" + "0" * 27 + "1"
    assert proxy.asked == [("7f000001", server.port), (zoneless, server.port)]
    ae.spawn(proxy.end()).recv()


@pytest.mark.parametrize("name", ["all_proxy", "ALL_PROXY"])
def test_the_environment_may_name_one(
    serve: Any, reply: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    server = serve(reply(b"x"))
    proxy = SocksProxy()
    monkeypatch.setenv(name, f"socks5h://{proxy.authority}")
    monkeypatch.setenv("no_proxy", "127.0.0.0/8")
    with Client(proxy=environment_proxy) as client:
        assert client.get(f"http://a.test:{server.port}/").recv().body == b"x"
        assert client.get(server.url).recv().body == b"x"
    assert proxy.asked == [("a.test", server.port)]
    ae.spawn(proxy.end()).recv()


@pytest.mark.parametrize(
    "url",
    [
        "socks4://127.0.0.1",
        "socks4a://127.0.0.1",
        "socks://127.0.0.1",
        "socks5:127.0.0.1",
        "socks5://me@127.0.0.1",
        "socks5://me:@127.0.0.1",
        "socks5://:secret@127.0.0.1",
        f"socks5://me:{'secret' * 50}@127.0.0.1",
        "socks5://me:secret%ff@127.0.0.1",
        "socks5://127.0.0.1:0",
    ],
)
def test_what_is_no_such_proxy_is_refused_at_once_without_its_password(url: str) -> None:
    with Client(proxy=url) as client:
        with pytest.raises(ae_http.InvalidRequest, match="URL of a proxy") as caught:
            client.get("http://a.test/")
    assert "secret" not in str(caught.value)
    with Client() as client, pytest.raises(ae_http.InvalidRequest, match="http or https URL"):
        client.get("socks5://127.0.0.1/")
