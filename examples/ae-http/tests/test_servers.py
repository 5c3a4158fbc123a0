"""Servers as people run them: nginx, and Python's own, with and without TLS."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import pytest

import ae_core as ae
import ae_http
from ae_http import Client


@pytest.fixture(params=["plain", "tls"])
def url(request: pytest.FixtureRequest, nginx: Any) -> str:
    """One of the two addresses of nginx."""
    address: str = nginx.url if request.param == "plain" else nginx.tls_url
    return address


def test_nginx_on_every_backend(
    backend: ae.abc.Backend, nginx: Any, run: Any, trusting: Any
) -> None:
    async def main() -> None:
        async with Client(tls_context=trusting, max_connections=2) as client:
            for address in (nginx.url, nginx.tls_url):
                asked = [client.get(address + "/hello.txt") for _ in range(8)]
                for each in asked:
                    assert (await each).body == b"hello\n"
            async with await client.stream("GET", nginx.url + "/big.bin") as stream:
                size = 0
                async for piece in stream:
                    size += len(piece)
                assert size == (nginx.root / "big.bin").stat().st_size

    run(main())


def test_nginx_closes_after_three_requests_and_nobody_notices(nginx: Any) -> None:
    with Client() as client:
        for _ in range(10):
            assert client.get(nginx.url + "/hello.txt").recv().text == "hello\n"


def test_nginx_packs_what_can_be_packed(url: str, nginx: Any, trusting: Any) -> None:
    expected = (nginx.root / "long.txt").read_bytes()
    with Client(tls_context=trusting) as client:
        response = client.get(url + "/long.txt").recv()
        assert response.headers["content-encoding"] == "gzip"
        assert response.headers["transfer-encoding"] == "chunked"
        assert response.body == expected
        with client.stream("GET", url + "/long.txt").recv() as stream:
            assert b"".join(stream) == expected
        raw = client.get(url + "/long.txt", decode=False).recv()
        assert len(raw.body) < len(expected) / 10
        plain = client.get(url + "/long.txt", headers={"Accept-Encoding": "identity"}).recv()
        assert "content-encoding" not in plain.headers
        assert plain.body == expected


def test_large_document(url: str, nginx: Any, trusting: Any) -> None:
    expected = hashlib.sha256((nginx.root / "big.bin").read_bytes()).digest()
    with Client(tls_context=trusting) as client:
        response = client.get(url + "/big.bin").recv()
        assert hashlib.sha256(response.body).digest() == expected
        digest = hashlib.sha256()
        client.get(url + "/big.bin", on_data=digest.update).recv()
        assert digest.digest() == expected
        assert client.idle == 1


def test_methods_and_statuses(url: str, trusting: Any) -> None:
    with Client(tls_context=trusting) as client:
        head = client.head(url + "/big.bin").recv()
        assert head.headers["content-length"] == "3072000"
        assert head.body == b""
        empty = client.get(url + "/empty").recv()
        assert (empty.status, empty.body) == (204, b"")
        assert client.get(url + "/nothing").recv().status == 404
        assert client.request("DELETE", url + "/hello.txt").recv().status == 405
        fields = {"Range": "bytes=1-3"}
        part = client.get(url + "/hello.txt", headers=fields).recv()
        assert (part.status, part.body) == (206, b"ell")
        etag = client.get(url + "/hello.txt").recv().headers["etag"]
        same = client.get(url + "/hello.txt", headers={"If-None-Match": etag}).recv()
        assert (same.status, same.body) == (304, b"")
        with pytest.raises(ae_http.StatusError) as caught:
            client.get(url + "/nothing").recv().raise_for_status()
        assert caught.value.response.status == 404


def test_bodies_of_all_kinds_arrive(url: str, trusting: Any) -> None:
    with Client(tls_context=trusting) as client:
        # $content_length is what nginx has understood of the framing
        sent = client.post(url + "/method", b"abc").recv()
        assert sent.text.split() == ["POST", "3"]
        sent = client.post(url + "/method", iter([b"abc", bytes(100_000)])).recv()
        assert sent.text.split()[:1] + sent.text.split()[-1:] == ["POST", "chunked"]
        sent = client.request("PUT", url + "/method", body=bytes(300_000)).recv()
        assert sent.text.split() == ["PUT", "300000"]


def test_redirects_of_a_real_server(nginx: Any, trusting: Any) -> None:
    with Client(tls_context=trusting) as client:
        response = client.get(nginx.url + "/moved").recv()
        assert (response.status, response.url) == (200, nginx.url + "/hello.txt")
        with pytest.raises(ae_http.RedirectRefused):
            client.get(nginx.url + "/loop").recv()
        response = client.get(nginx.url + "/secure").recv()
        assert (response.text, response.url) == ("hello\n", nginx.tls_url + "/hello.txt")


def test_pipelining_with_a_real_server(nginx: Any) -> None:
    with Client(max_connections=1, pipeline=10) as client:
        asked = [client.get(nginx.url + "/hello.txt") for _ in range(25)]
        assert [each.recv().body for each in asked] == [b"hello\n"] * 25


def test_request_that_is_no_http_for_the_server(nginx: Any) -> None:
    plain_to_tls = nginx.tls_url.replace("https:", "http:")
    tls_to_plain = nginx.url.replace("http:", "https:")
    with Client() as client:
        assert client.get(plain_to_tls + "/").recv().status == 400
        with pytest.raises(ae_http.TlsFailed):
            client.get(tls_to_plain + "/").recv()


def test_untrusted_server_gets_no_request(nginx: Any) -> None:
    with Client() as client:
        with pytest.raises(ae_http.TlsFailed) as caught:
            client.get(nginx.tls_url + "/hello.txt").recv()
        assert caught.value.reason == "untrusted"


def test_context_of_the_standard_library(nginx: Any, authority: Any) -> None:
    import ssl

    context = ssl.create_default_context(cadata=authority.pem)
    with Client(tls_context=context) as client:
        assert client.get(nginx.tls_url + "/hello.txt").recv().body == b"hello\n"


def test_python_server(python_server: str, trusting: Any) -> None:
    with Client(tls_context=trusting) as client:
        assert client.get(python_server + "/hello.txt").recv().body == b"hello\n"
        assert client.head(python_server + "/hello.txt").recv().headers["content-length"] == "6"
        response = client.get(python_server + "/directory").recv()
        assert response.history[0].status == 301
        assert "Directory listing" in response.text
        body = bytes(itertools.islice(itertools.cycle(range(251)), 500_000))
        assert client.post(python_server, body).recv().body == body
        assert client.get(python_server + "/nothing").recv().status == 404
