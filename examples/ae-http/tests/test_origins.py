"""Who gets to see what proves who we are, and the fields of a client beside those of a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ae_http import Client, InvalidRequest, RedirectRefused

SECRETS = {"Authorization": "Bearer secret", "cookie": "sid=1"}
Seen = list[tuple[str, str]]


@pytest.fixture
def origins(serve: Any, reply: Any) -> Callable[..., tuple[Any, Any, Seen]]:
    """Return a function that starts two servers, and says what each request has shown.

    ``/away`` of the first redirects to the second, whose ``/back`` redirects to
    the first, ``/within`` to itself.
    """

    def start(status: str = "302 Found", **contexts: Any) -> tuple[Any, Any, Seen]:
        seen: Seen = []

        def answer(me: str, handle: Any, head: bytes) -> None:
            lines = head.decode("latin-1").split("\r\n")
            path = lines[0].split(" ")[1]
            secrets = sorted(
                line.partition(": ")[2]
                for line in lines
                if line.lower().startswith(("authorization:", "cookie:", "host: zz"))
            )
            seen.append((me + path, " ".join(secrets)))
            there = {"/away": other.url + "/back", "/back": own.url + "/end", "/within": "/end"}
            where = there.get(path)
            if where is None:
                handle.push_write(reply(b"ok"))
            else:
                handle.push_write(reply(b"", f"Location: {where}", status=status))

        own = serve(lambda handle, head: answer("own", handle, head))
        other = serve(lambda handle, head: answer("other", handle, head))
        return own, other, seen

    return start


BEARER = "Bearer secret sid=1"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_credentials_of_a_client_go_to_the_origin_that_was_asked(
    method: str, status: int, origins: Any
) -> None:
    own, _, seen = origins(f"{status} Moved")
    with Client(headers={**SECRETS, "Host": "zz", "X": "y"}) as client:
        client.request(method, own.url + "/away").recv()
        client.request(method, own.url + "/within").recv()
    assert seen == [
        ("own/away", BEARER + " zz"),
        ("other/back", ""),
        ("own/end", BEARER + " zz"),
        ("own/within", BEARER + " zz"),
        ("own/end", BEARER + " zz"),
    ]


def test_credentials_of_a_request_do_not_come_back(origins: Any) -> None:
    own, _, seen = origins()
    with Client() as client:
        client.get(own.url + "/away", headers=SECRETS).recv()
        client.get(own.url + "/within", headers=SECRETS).recv()
        client.get(own.url.replace("//", "//u:p@") + "/away").recv()
        client.get(own.url.replace("//", "//u:p@") + "/within").recv()
    assert seen == [
        ("own/away", BEARER), ("other/back", ""), ("own/end", ""),
        ("own/within", BEARER), ("own/end", BEARER),
        ("own/away", "Basic dTpw"), ("other/back", ""), ("own/end", ""),
        ("own/within", "Basic dTpw"), ("own/end", "Basic dTpw"),
    ]  # fmt: skip


def test_credentials_of_a_request_take_the_place_of_the_clients_and_are_not_mixed(
    origins: Any,
) -> None:
    own, _, seen = origins()
    with Client(headers=SECRETS) as client:
        client.get(own.url + "/away", headers={"AUTHORIZATION": "mine"}).recv()
        client.get(own.url.replace("//", "//u:p@") + "/away").recv()
    assert seen == [
        ("own/away", "mine sid=1"), ("other/back", ""), ("own/end", BEARER),
        ("own/away", "Basic dTpw sid=1"), ("other/back", ""), ("own/end", BEARER),
    ]  # fmt: skip


def test_a_stream_keeps_credentials_to_itself_as_well(origins: Any, run: Any) -> None:
    own, _, seen = origins()

    async def main() -> None:
        async with Client(headers=SECRETS) as client:
            async with await client.stream("GET", own.url + "/away") as stream:
                assert await stream.read_all() == b"ok"

    run(main())
    assert seen == [("own/away", BEARER), ("other/back", ""), ("own/end", BEARER)]


@pytest.mark.parametrize(
    ("host", "same"),
    [("127.0.0.1", True), ("127.1", True), ("0x7f.0.0.1", True), ("localhost", False)],
)
def test_it_is_the_host_that_counts_and_not_its_spelling(
    host: str, same: bool, serve: Any, reply: Any
) -> None:
    def answer(handle: Any, head: bytes) -> None:
        if head.startswith(b"GET /a"):
            where = f"Location: hTTP:\\\\{host}:{server.port}/b"
            handle.push_write(reply(b"", where, status="302 Found"))
        else:
            handle.push_write(reply(b""))

    server = serve(answer)
    with Client(headers=SECRETS) as client:
        client.get(server.url + "/a").recv()
    assert [b"Bearer" in head for head in server.requests] == [True, same]


def test_a_final_dot_makes_no_other_origin(serve: Any, reply: Any) -> None:
    where = "Location: http://localhost.:{port}/b"

    def answer(handle: Any, head: bytes) -> None:
        redirect = reply(b"", where.format(port=server.port), status="302 Found")
        handle.push_write(redirect if b" /a " in head else reply(b""))

    server = serve(answer)
    with Client(headers=SECRETS) as client:
        client.get(f"http://localhost:{server.port}/a").recv()
    assert [b"Bearer" in head for head in server.requests] == [True, True]


def test_a_redirect_between_http_and_https_is_another_origin(
    serve: Any, reply: Any, server_context: Any, trusting: Any
) -> None:
    clear = serve(reply(b"ok"))
    where = f"Location: {clear.url}/"
    secure = serve(reply(b"", where, status="301 Moved"), server_context)
    with Client(headers=SECRETS, tls_context=trusting) as client:
        assert client.get(secure.url + "/", headers={"Cookie": "mine"}).recv().body == b"ok"
    assert b"Bearer" in secure.requests[0]
    assert b"Bearer" not in clear.requests[0]
    assert b"mine" not in clear.requests[0]


def test_a_redirect_to_several_locations_is_refused(serve: Any, reply: Any) -> None:
    server = serve(reply(b"", "Location: /a", "Location: http://b/", status="302 Found"))
    with Client() as client, pytest.raises(RedirectRefused, match="several locations"):
        client.get(server.url + "/").recv()


# ---------------------------------------------------------------------- fields of a client


@pytest.mark.parametrize(
    "fields",
    [
        {"Content-Length": "5"}, {"content-length": "x"}, {"Transfer-Encoding": "chunked"},
        {"Connection": "close"}, {"Upgrade": "websocket"}, {"TE": "trailers"}, {"Trailer": "X"},
        {"Expect": "100-continue"}, {"Keep-Alive": "x"}, {"Proxy-Authorization": "x"},
        {"Proxy-Connection": "x"}, {"X\r\nY": "z"}, {"X": "y\r\nZ: a"}, {"X": "\0"}, {"": "x"},
        [("Host", "a"), ("host", "b")], [("Authorization", "a"), ("AUTHORIZATION", "a")],
    ],
)  # fmt: skip
def test_fields_that_no_request_may_have_are_refused_when_the_client_is_made(fields: Any) -> None:
    with pytest.raises(InvalidRequest):
        Client(headers=fields)


@pytest.mark.parametrize("name", ["Host", "Authorization", "Content-Length"])
def test_a_request_has_one_of_these(name: str) -> None:
    with Client() as client, pytest.raises(InvalidRequest, match=f"expected one {name}"):
        client.post("http://a/", b"x", headers=[(name, "1"), (name, "1")])


def test_fields_of_a_request_replace_those_of_the_client(serve: Any, reply: Any) -> None:
    server = serve(reply(b""))
    fields = [("Host", "a"), ("X-One", "1"), ("x-one", "2"), ("Y", "3"), ("User-Agent", "me")]
    with Client(headers=fields) as client:
        client.get(server.url, headers={"X-ONE": "mine", "HOST": "b", "user-agent": "you"}).recv()
        client.get(server.url).recv()
        client.post(server.url, b"hello").recv()
    heads = [sorted(head.decode().split("\r\n")[1:]) for head in server.requests]
    common = ["Accept-Encoding: gzip, deflate", "Accept: */*"]
    assert heads[0][:6] == [*common, "HOST: b", "X-ONE: mine", "Y: 3", "user-agent: you"]
    assert heads[1] == [*common, "Host: a", "User-Agent: me", "X-One: 1", "Y: 3", "x-one: 2"]
    assert heads[2] == sorted([*heads[1], "Content-Length: 5"])


def test_an_upgrade_keeps_to_the_same_rules(serve: Any, reply: Any, run: Any) -> None:
    server = serve(reply(b""))

    async def main() -> None:
        async with Client(headers=SECRETS) as client:
            await client.upgrade(server.url.replace("//", "//u:p@"), "websocket")

    run(main())
    assert server.requests[0].count(b"Authorization") == 1
    assert b"Authorization: Basic dTpw" in server.requests[0]
