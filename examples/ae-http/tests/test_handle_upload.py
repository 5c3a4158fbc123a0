"""A request whose body is what comes on a handle; connectors on the way."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
import ae_http
from ae_handle import Handle
from ae_http import Client
from ae_socket import http_connect

Run = Callable[[Any], Any]


def test_what_comes_on_a_handle_is_sent_on(
    backend: ae.abc.Backend, serve: Any, reply: Any, run: Run
) -> None:
    server = serve(reply(b"thanks"))
    octets = bytes(range(256)) * 4000

    async def main() -> None:
        ours, theirs = socket.socketpair()
        producer, source = Handle(ours), Handle(theirs)
        producer.push_write(octets)
        producer.push_shutdown()
        async with Client() as client:
            assert (await client.post(server.url, source)).body == b"thanks"
        producer.destroy()
        source.destroy()

    run(main())
    assert server.bodies == [octets]


def test_a_handle_is_read_no_faster_than_the_server_reads(serve: Any, until: Any) -> None:
    server = serve(lambda handle, head: handle.stop_read(), raw=True)
    ours, theirs = socket.socketpair()
    producer, source = Handle(ours, max_write_buffer=None), Handle(theirs)
    producer.push_write(bytes(64 << 20))
    seen: list[int] = []

    def stands_still() -> bool:
        seen.append(producer.statistics().unsent)
        return len(seen) > 50 and seen[-50] == seen[-1]

    with Client() as client:
        asked = client.post(server.url, source, headers={"Content-Length": str(64 << 20)})
        until(stands_still)
        assert seen[-1] > 32 << 20
        asked.cancel()
        for _ in range(5):  # the task that sends has to come to its end
            ae.sleep(0).recv()
    for handle in (producer, source):
        handle.linger = 0
        handle.destroy()


def test_a_handle_that_breaks_is_an_upload_that_failed(serve: Any) -> None:
    server = serve(lambda handle, head: None, raw=True)
    ours, theirs = socket.socketpair()
    source = Handle(theirs)
    ours.close()
    source.destroy()
    with Client() as client, pytest.raises(ae_http.UploadFailed):
        client.post(server.url, source).recv()


def test_a_connector_of_ae_socket_leads_through_a_proxy(
    backend: ae.abc.Backend, serve: Any, reply: Any, run: Run
) -> None:
    def proxy(handle: Handle, head: bytes) -> None:
        asked.append(head.partition(b"\r\n")[0])
        if head.startswith(b"CONNECT"):
            handle.push_write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            handle.push_write(reply(b"through"))

    asked: list[bytes] = []
    server = serve(proxy)

    async def main() -> None:
        connector = http_connect(("127.0.0.1", server.port))
        async with Client(connector=connector) as client:
            assert (await client.get("http://inside.example/x")).body == b"through"

    run(main())
    assert asked == [b"CONNECT inside.example:80 HTTP/1.1", b"GET /x HTTP/1.1"]
