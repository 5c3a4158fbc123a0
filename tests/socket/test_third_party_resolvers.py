"""A resolver of somebody else's may answer anything: each lookup and connect has one outcome."""

from __future__ import annotations

import gc
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import ae_core as ae
from ae_core.abc import Backend
from ae_core.testing import virtual_time
from ae_socket import AddressInfo, ConnectFailed, resolve, tcp_connect
from ae_socket.testing import ScriptedResolver, SrvRecord

RECV = 30


class Says:
    """Answers whatever it was given, by way of a condvar unless *bare*."""

    def __init__(self, answer: Any, *, bare: bool = False) -> None:
        self.answer = answer
        self.bare = bare

    def getaddrinfo(self, host: str, service: object, **_: object) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        if self.bare:
            return self.answer
        found: ae.CondVar[Any] = ae.CondVar()
        ae.postpone(lambda: None if found.ready else found.send(self.answer))
        return found


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def info(*sockaddr: Any, family: Any = socket.AF_INET, kind: Any = 1, protocol: Any = 6) -> Any:
    return AddressInfo(family, kind, protocol, sockaddr)


def with_sockaddr(sockaddr: Any) -> Any:
    return AddressInfo(socket.AF_INET, 1, 6, sockaddr)


IPV6 = socket.AF_INET6
NONSENSE: list[Any] = [
    None, 5, "127.0.0.1", b"x", (), ("127.0.0.1", 80), object(), [1, 2, 3, 4],
    info("127.0.0.1", "80"), info("127.0.0.1", 80.0), info("127.0.0.1", True), info("127.0.0.1"),
    info("127.0.0.1", 70000), info("127.0.0.1", -1), info("127.0.0.1", 80, 0), info(b"x", 80),
    info(None, 80), info("localhost", 80), info("::1", 80), info("1.2.3.4\0", 80), info("", 80),
    info("127.0.0.1", 80, family=IPV6), info("::1", 80, "x", 0, family=IPV6),
    info("::1", 80, 0, -1, family=IPV6), info("::1", 80, 0, 0, 0, family=IPV6),
    info("127.0.0.1", 80, family="x"), info("127.0.0.1", 80, family=99), info([], 80),
    info("127.0.0.1", 80, kind="stream"), info("127.0.0.1", 80, protocol=None),
    with_sockaddr("127.0.0.1"), with_sockaddr(None), with_sockaddr(["127.0.0.1", 80]),
]  # fmt: skip
# What looks like an address, but no socket takes it.
STRANGE: list[Any] = [
    info("127.0.0.1", 9, kind=99), info("127.0.0.1", 9, protocol=17),
    info("127.0.0.1", 9, kind=1 << 70), info("fe80::1%nosuch", 80, family=IPV6),
]  # fmt: skip


@pytest.mark.parametrize("item", [*NONSENSE, *STRANGE], ids=lambda item: repr(item)[:40])
def test_what_is_no_address_does_not_keep_the_next_one_from_being_tried(
    item: Any, port: int
) -> None:
    good = info("127.0.0.1", port)
    sock = tcp_connect("x.test", port, resolver=Says([item, good])).recv(RECV)
    assert sock.getpeername() == ("127.0.0.1", port)
    sock.close()


@pytest.mark.parametrize("item", NONSENSE, ids=lambda item: repr(item)[:40])
def test_nothing_but_nonsense_is_a_failure_that_shows_it(item: Any) -> None:
    with pytest.raises(ConnectFailed, match="no address") as caught:
        tcp_connect("x.test", 80, resolver=Says([item])).recv(RECV)
    assert "expected" in str(caught.value)


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("answer", [None, 5, object(), SimpleNamespace(ready=True)], ids=repr)
def test_an_answer_that_is_no_list_ends_everything_that_asked(
    backend: Backend, answer: Any, bare: bool
) -> None:
    async def main() -> None:
        resolver = Says(answer, bare=bare)
        found = tcp_connect("x.test", 80, resolver=resolver)
        assert not found.ready
        with pytest.raises(TypeError):
            await found
        with pytest.raises(TypeError):
            await tcp_connect("x.test", "http=80", resolver=resolver, timeout=RECV)

    ae.run(main())


@pytest.mark.parametrize("error", [OSError("no"), RuntimeError("no"), TypeError("no")], ids=repr)
def test_a_resolver_that_raises_ends_the_connect(error: Exception) -> None:
    with pytest.raises((ConnectFailed, type(error)), match="no"):
        tcp_connect("x.test", 80, resolver=Says(error)).recv(RECV)


def test_a_resolver_that_never_answers_costs_the_time_out_and_is_cancelled() -> None:
    resolver = ScriptedResolver({"x.test": None})
    with pytest.raises(ConnectFailed):
        tcp_connect("x.test", 80, resolver=resolver, timeout=0.02).recv(RECV)
    assert resolver.pending[0].cancelled


@pytest.mark.parametrize(
    "records",
    [
        None, 5, [None], [SimpleNamespace(target=None, port=1)], [SimpleNamespace(target="a")],
        [SimpleNamespace(target="a", port=None)], [SimpleNamespace(target="a", port=70000)],
        [SimpleNamespace(target="a..b", port=1)],
    ],
    ids=repr,
)  # fmt: skip
def test_service_records_that_are_none_end_the_lookup(records: Any) -> None:
    resolver = ScriptedResolver({"x.test": ["127.0.0.1"]}, services={})

    def srv(*_: object) -> ae.CondVar[Any]:
        found: ae.CondVar[Any] = ae.CondVar()
        ae.postpone(lambda: found.send(records))
        return found

    resolver.srv = srv
    with pytest.raises((TypeError, ValueError, AttributeError)):
        tcp_connect("x.test", "http=80", resolver=resolver).recv(RECV)
    resolver.srv = lambda *_: records
    with pytest.raises(TypeError, match="expected a CondVar"):
        tcp_connect("x.test", "http=80", resolver=resolver).recv(RECV)


def test_a_service_on_localhost_asks_no_resolver_for_it() -> None:
    services = {"_odd._tcp.x.test": [SrvRecord(0, 0, 9, "localhost."), SrvRecord(1, 0, 9, "::1")]}
    resolver = ScriptedResolver({}, services)
    with pytest.raises(ConnectFailed):
        tcp_connect("x.test", "odd=1", resolver=resolver).recv(RECV)
    assert [question[1] for question in resolver.questions] == ["SRV"]


@pytest.mark.parametrize("resolver", [5, "dns", object(), print], ids=repr)
def test_what_is_no_resolver_is_refused_at_once(resolver: Any) -> None:
    with pytest.raises(TypeError, match="expected a resolver or None, got "):
        tcp_connect("x.test", 80, resolver=resolver)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("service", [80, "http=80"])
@pytest.mark.parametrize("call", [tcp_connect, resolve])
def test_an_interrupt_out_of_a_resolver_leaves_nothing_that_goes_on(
    call: Any, service: Any, kind: type[BaseException]
) -> None:
    resolver: Any = Says(kind())
    if service != 80:
        resolver.srv = lambda *_: resolver.getaddrinfo("x.test", 80)
    options = {"timeout": 60} if call is tcp_connect else {}
    gc.disable()
    try:
        with virtual_time() as clock:
            with pytest.raises(kind):
                call("x.test", service, resolver=resolver, **options)
            with pytest.raises(ae.Deadlock):
                ae.CondVar[None]().recv()
            assert clock.elapsed == 0  # a timer would have been waited for
    finally:
        gc.enable()
