"""resolve(): what is answered without anybody, the seam, and the threaded resolver.

Long because each outcome stands by itself: a list of short cases over the same few fixtures.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
from ae_socket import (
    AddressInfo,
    ResolveFailed,
    ThreadResolver,
    resolve,
    set_resolver,
)
from ae_socket import _getaddrinfo as room
from ae_socket._lookup import AddressLookup
from ae_socket.testing import ScriptedResolver, SrvRecord


@pytest.fixture(autouse=True)
def no_resolver_stays() -> Iterator[None]:
    yield
    set_resolver(None)


def texts(condvar: ae.CondVar[list[AddressInfo]]) -> list[tuple[Any, ...]]:
    return [tuple(info.sockaddr[:2]) for info in condvar.recv()]


class NeverAsked:
    def getaddrinfo(self, host: str, service: object, **_: object) -> ae.CondVar[object]:
        raise AssertionError(f"the resolver was asked for {host!r}")


# ---------------------------------------------------------------------- nobody is asked


@pytest.mark.parametrize(
    ("host", "service", "family", "expected"),
    [
        ("127.0.0.1", 80, 0, [("127.0.0.1", 80)]),
        ("127.1", "80", 4, [("127.0.0.1", 80)]),
        ("0x7f.1", "http", 0, [("127.0.0.1", 80)]),
        ("1.2.3.4", 80, 6, []),
        ("::1", 80, 0, [("::1", 80)]),
        ("::1", 80, 4, []),
        ("::ffff:1.2.3.4", 80, 0, [("1.2.3.4", 80)]),
        ("::ffff:1.2.3.4", 80, 6, []),
        ("localhost", 80, 0, [("127.0.0.1", 80), ("::1", 80)]),
        ("LocalHost.", 80, 0, [("127.0.0.1", 80), ("::1", 80)]),
        ("www.localhost", 80, 0, [("127.0.0.1", 80), ("::1", 80)]),
        ("localhost", 80, 4, [("127.0.0.1", 80)]),
        ("localhost", 80, 6, [("::1", 80)]),
        ("localhost", "no-such=81", 4, [("127.0.0.1", 81)]),
        ("unix/", "relative", 0, []),
        ("unix/", "/path", 4, []),
    ],
)
def test_numbers_and_localhost_are_answered_without_a_resolver(
    host: str, service: str | int, family: int, expected: list[object]
) -> None:
    set_resolver(NeverAsked())  # type: ignore[arg-type]
    condvar = resolve(host, service, family=family)
    assert not condvar.ready
    assert texts(condvar) == expected


@pytest.mark.unix_sockets
def test_answers_fit_the_socket_module() -> None:
    [info] = resolve("127.0.0.1", 80).recv()
    assert info == (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, ("127.0.0.1", 80))
    [info] = resolve("::1", "domain", type="dgram").recv()
    assert info == (socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDP, ("::1", 53, 0, 0))
    [info] = resolve("unix/", "/run/x").recv()
    assert info == (socket.AF_UNIX, socket.SOCK_STREAM, 0, "/run/x")
    [info] = resolve("unix/", "\0x", type="dgram").recv()
    assert info == (socket.AF_UNIX, socket.SOCK_DGRAM, 0, "\0x")


@pytest.mark.linux
def test_scope_becomes_the_scope_id() -> None:
    loopback = socket.if_nametoindex("lo")
    assert resolve("fe80::1%lo", 80).recv()[0].sockaddr == ("fe80::1", 80, 0, loopback)
    assert resolve("fe80::1%7", 80).recv()[0].sockaddr == ("fe80::1", 80, 0, 7)
    for host in ("fe80::1%no-such0", "fe80::1%", "fe80::1%4294967296", "127.0.0.1%lo", "x.org%lo"):
        with pytest.raises(ResolveFailed, match="scope") as caught:
            resolve(host, 80).recv()
        assert caught.value.errno == errno.ENXIO


@pytest.mark.parametrize(
    ("host", "service"),
    [
        ("127.0.0.1", "no-such-service"),
        ("127.0.0.1", "65536"),
        ("x.test", "no-such-service"),
        ("", 80),
        ("a\0b", 80),
        ("unix/", "/a\0b"),
        ("unix/", "\0a\0b"),
    ],
)
def test_bad_texts_are_value_errors_through_the_condvar(host: str, service: str | int) -> None:
    set_resolver(NeverAsked())  # type: ignore[arg-type]
    condvar = resolve(host, service)
    assert not condvar.ready
    with pytest.raises(ValueError):
        condvar.recv()


def test_wrong_arguments_are_refused_at_once() -> None:
    for arguments in ((b"x", 80), (None, 80), ("x", None), ("x", b"80")):
        with pytest.raises(TypeError, match="expected a"):
            resolve(*arguments)
    with pytest.raises(ValueError, match="expected family 0, 4 or 6, got 2"):
        resolve("x", 80, family=2)
    with pytest.raises(ValueError, match="expected type"):
        resolve("x", 80, type="tcp")  # type: ignore[arg-type]


def test_cancelled_answer_stays_cancelled() -> None:
    condvar = resolve("127.0.0.1", 80)
    condvar.cancel()
    ae.sleep(0).recv()
    assert condvar.cancelled


# ---------------------------------------------------------------------- AE_PROTOCOLS


@pytest.mark.environment
def test_protocols_order_and_restrict_families(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = ["10.0.0.1", "::1", "10.0.0.2", "::2"]
    set_resolver(ScriptedResolver({"x.test": addresses}))
    both = [("127.0.0.1", 1), ("::1", 1)]
    monkeypatch.setenv("AE_PROTOCOLS", "ipv6,ipv4")
    assert texts(resolve("localhost", 1)) == both[::-1]
    assert texts(resolve("x.test", 1)) == [("::1", 1), ("::2", 1), ("10.0.0.1", 1), ("10.0.0.2", 1)]
    monkeypatch.setenv("AE_PROTOCOLS", "ipv4")
    assert texts(resolve("localhost", 1)) == both[:1]
    assert texts(resolve("x.test", 1)) == [("10.0.0.1", 1), ("10.0.0.2", 1)]
    assert texts(resolve("::1", 1)) == []
    assert texts(resolve("x.test", 1, family=6)) == []
    assert texts(resolve("localhost", 1, family=6)) == []
    monkeypatch.delenv("AE_PROTOCOLS")
    assert [host for host, _ in texts(resolve("x.test", 1))] == addresses  # the resolver's order


@pytest.mark.environment
def test_protocols_that_are_not_understood_are_reported_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(ae, "log", lambda level, text, *args: logged.append(text % args))
    monkeypatch.setenv("AE_PROTOCOLS", "ipx, IPv6")
    assert texts(resolve("localhost", 1)) == [("::1", 1)]
    assert texts(resolve("localhost", 1)) == [("::1", 1)]
    assert logged == ["AE_PROTOCOLS (ipx, IPv6): not understood: 'ipx'"]
    monkeypatch.setenv("AE_PROTOCOLS", "ipx")
    assert len(texts(resolve("localhost", 1))) == 2


# ---------------------------------------------------------------------- the seam


def test_resolver_gets_names_and_port_numbers() -> None:
    resolver = ScriptedResolver({"x.test": ["10.0.0.1"], "_a.test.": ["10.0.0.2"]})
    set_resolver(resolver)
    assert texts(resolve("x.test", "https")) == [("10.0.0.1", 443)]
    assert texts(resolve("x.test", "foo=81", family=4)) == [("10.0.0.1", 81)]
    assert texts(resolve("_a.test.", "82")) == [("10.0.0.2", 82)]
    assert resolver.questions == [("x.test", 443, 0), ("x.test", 81, 4), ("_a.test.", 82, 0)]


def test_unknown_name_throws_what_the_resolver_threw() -> None:
    set_resolver(ScriptedResolver())
    with pytest.raises(ResolveFailed, match="no script"):
        resolve("x.test", 80).recv()


def test_answer_that_is_ready_at_once_comes_later_all_the_same() -> None:
    class Cache:
        def getaddrinfo(self, host: str, service: object, **_: object) -> object:
            condvar: ae.CondVar[list[AddressInfo]] = ae.CondVar()
            condvar.send([AddressInfo(socket.AF_INET, socket.SOCK_STREAM, 6, ("10.0.0.1", 80))])
            return condvar

    set_resolver(Cache())  # type: ignore[arg-type]
    condvar = resolve("x.test", 80)
    assert not condvar.ready
    assert texts(condvar) == [("10.0.0.1", 80)]


def test_resolver_that_raises_fails_the_lookup_only() -> None:
    class Broken:
        def getaddrinfo(self, host: str, service: object, **_: object) -> object:
            raise RuntimeError("broken")

    set_resolver(Broken())  # type: ignore[arg-type]
    condvar = resolve("x.test", 80)
    with pytest.raises(RuntimeError, match="broken"):
        condvar.recv()


def test_what_is_no_resolver_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a resolver or None"):
        set_resolver("dns")  # type: ignore[arg-type]


def test_cancelling_a_lookup_cancels_the_resolver_s() -> None:
    resolver = ScriptedResolver({"x.test": None})
    set_resolver(resolver)
    condvar = resolve("x.test", 80)
    condvar.cancel()
    assert resolver.pending[0].cancelled


def test_installed_resolver_is_this_thread_s_own() -> None:
    set_resolver(ScriptedResolver({"localhost.test": ["10.0.0.1"]}))
    other: list[object] = []

    def work() -> None:
        resolver = ScriptedResolver({"localhost.test": ["10.0.0.2"]})
        set_resolver(resolver)
        other.extend(texts(resolve("localhost.test", 80)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert other == [("10.0.0.2", 80)]
    assert texts(resolve("localhost.test", 80)) == [("10.0.0.1", 80)]


@pytest.mark.environment
def test_unknown_resolver_in_the_environment_fails_and_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AE_RESOLVER", "carrier-pigeon")
    with pytest.raises(ValueError, match=r"AE_RESOLVER: expected one of .*got 'carrier-pigeon'"):
        resolve("x.test", 80).recv()
    assert texts(resolve("127.0.0.1", 80)) == [("127.0.0.1", 80)]


@pytest.mark.environment
@pytest.mark.parametrize("shape", ["instance", "factory", "class"])
def test_resolver_of_an_entry_point_is_used(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    resolver = ScriptedResolver({"x.test": ["10.0.0.1"]})

    class Made(ScriptedResolver):
        def __init__(self) -> None:
            super().__init__({"x.test": ["10.0.0.1"]})

    class Point(importlib.metadata.EntryPoint):
        def load(self) -> object:
            return {"instance": resolver, "factory": lambda: resolver, "class": Made}[shape]

    point = Point(name=shape, value="x:y", group="ae_socket.resolvers")
    found = importlib.metadata.EntryPoints((point,))
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: found)
    monkeypatch.setenv("AE_RESOLVER", shape)
    for _ in range(2):
        assert texts(resolve("x.test", 80)) == [("10.0.0.1", 80)]


# ---------------------------------------------------------------------- SRV


def test_srv_records_give_targets_and_ports_in_their_order() -> None:
    resolver = ScriptedResolver(
        {"a.test": ["10.0.0.1", "::1"], "b.test": ["10.0.0.2"]},
        {
            "_xmpp-client._tcp.x.test": [
                SrvRecord(1, 0, 5001, "b.test."),
                SrvRecord(2, 0, 5002, "a.test"),
                SrvRecord(3, 0, 5003, "missing.test"),
                SrvRecord(4, 0, 5004, "10.9.9.9"),
            ]
        },
    )
    set_resolver(resolver)
    assert texts(resolve("x.test", "xmpp-client")) == [
        ("10.0.0.2", 5001),
        ("10.0.0.1", 5002),
        ("::1", 5002),
        ("10.9.9.9", 5004),
    ]
    assert [question[0] for question in resolver.questions] == [
        "_xmpp-client._tcp.x.test",
        "b.test.",
        "a.test.",
        "missing.test.",
    ], "a target is an absolute name: no search list applies to it"


def test_srv_is_asked_only_for_names_of_services_and_hosts() -> None:
    resolver = ScriptedResolver({"x.test": ["10.0.0.1"]}, {})
    set_resolver(resolver)
    resolve("x.test", 80).recv()
    resolve("x.test", "80").recv()
    resolve("127.0.0.1", "http").recv()
    resolve("localhost", "http").recv()
    assert [question[1] for question in resolver.questions] == [80, 80]
    assert texts(resolve("x.test", "domain", type="dgram")) == [("10.0.0.1", 53)]
    assert texts(resolve("x.test", "foo=81")) == [("10.0.0.1", 81)]
    assert resolver.questions[2:] == [
        ("_domain._udp.x.test", "SRV", 0),
        ("x.test", 53, 0),
        ("_foo._tcp.x.test", "SRV", 0),
        ("x.test", 81, 0),
    ]


def test_srv_target_of_a_dot_means_no_such_service() -> None:
    for target in (".", ""):
        resolver = ScriptedResolver(
            {"x.test": ["10.0.0.1"]}, {"_http._tcp.x.test": [SrvRecord(0, 0, 0, target)]}
        )
        set_resolver(resolver)
        assert resolve("x.test", "http").recv() == []
        assert len(resolver.questions) == 1


def test_srv_whose_targets_all_fail_is_a_failure() -> None:
    set_resolver(ScriptedResolver({}, {"_http._tcp.x.test": [SrvRecord(0, 0, 80, "missing.test")]}))
    with pytest.raises(ResolveFailed, match=r"missing\.test"):
        resolve("x.test", "http").recv()


def test_srv_lookup_that_fails_falls_back_to_the_host() -> None:
    class NoServices(ScriptedResolver):
        def srv(self, service: str, protocol: str, domain: str) -> ae.CondVar[list[SrvRecord]]:
            condvar: ae.CondVar[list[SrvRecord]] = ae.CondVar()
            condvar.throw(OSError(errno.ETIMEDOUT, "no answer"))
            return condvar

    set_resolver(NoServices({"x.test": ["10.0.0.1"]}))
    assert texts(resolve("x.test", "http")) == [("10.0.0.1", 80)]


def test_host_in_the_hosts_file_is_not_asked_for_by_srv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent(ScriptedResolver):
        def srv(self, service: str, protocol: str, domain: str) -> ae.CondVar[list[SrvRecord]]:
            raise AssertionError("the name server was asked")

    hosts = tmp_path / "hosts"
    hosts.write_text("10.0.0.9 known.test\n")
    monkeypatch.setenv("AE_HOSTS", str(hosts))
    set_resolver(Silent({"known.test": ["10.0.0.9"]}))
    assert texts(resolve("known.test", "http")) == [("10.0.0.9", 80)]


# ---------------------------------------------------------------------- threads


def our_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if "ae_socket" in one.name]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, ...]]]:
    """Replace the system's getaddrinfo: "slow" waits for the others, "*.test" is 10.0.0.n."""
    calls: list[tuple[Any, ...]] = []
    release = threading.Event()

    def getaddrinfo(host: bytes, port: int, family: int, kind: int) -> list[object]:
        calls.append((host, port, family))
        if host == b"slow.test":
            assert release.wait(30)
        if host.startswith(b"missing"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if host.startswith(b"nodata"):
            raise socket.gaierror(socket.EAI_NODATA, "No address associated with hostname")
        if host == b"fast.test":
            release.set()
        info = (socket.AF_INET, kind, 6, "", ("10.0.0.1", port))
        return [info, info, (socket.AF_INET6, kind, 6, "", ("fe80::1", port, 0, 3))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield calls
    release.set()


def test_system_is_asked_in_a_thread_and_no_thread_is_left(
    system: list[tuple[Any, ...]],
) -> None:
    condvar = resolve("x.test", 80)
    assert not condvar.ready
    assert condvar.recv() == [
        AddressInfo(socket.AF_INET, socket.SOCK_STREAM, 6, ("10.0.0.1", 80)),
        AddressInfo(socket.AF_INET6, socket.SOCK_STREAM, 6, ("fe80::1", 80, 0, 3)),
    ]
    assert our_threads() == []
    assert system == [(b"x.test", 80, socket.AF_UNSPEC)]


def test_slow_lookup_does_not_hold_up_the_others(system: list[tuple[Any, ...]]) -> None:
    order: list[str] = []
    pending = [resolve(name, 80) for name in ("slow.test", "fast.test")]
    pending[0].on_ready(lambda _: order.append("slow"))
    pending[1].on_ready(lambda _: order.append("fast"))
    assert len([condvar.recv() for condvar in pending]) == 2
    assert sorted(order) == ["fast", "slow"]
    assert our_threads() == []


def test_no_more_threads_than_allowed_and_first_come_first_served(
    system: list[tuple[Any, ...]],
) -> None:
    resolver = ThreadResolver(max_threads=2)
    pending = [resolver.getaddrinfo(f"{n}.test", n) for n in range(50)]
    assert len(our_threads()) <= 2
    for condvar in pending:
        condvar.recv()
    assert sorted(port for _, port, _ in system) == list(range(50))
    assert our_threads() == []
    with pytest.raises(ValueError, match="max_threads"):
        ThreadResolver(max_threads=0)


def test_cancelled_lookups_that_wait_are_not_made(system: list[tuple[Any, ...]]) -> None:
    resolver = ThreadResolver(max_threads=1)
    slow = resolver.getaddrinfo("slow.test", 1)
    waiting = resolver.getaddrinfo("waiting.test", 2)
    waiting.cancel()
    other = ThreadResolver().getaddrinfo("fast.test", 3)
    other.recv()
    slow.recv()
    ae.sleep(0.02).recv()
    assert sorted(host for host, _, _ in system) == [b"fast.test", b"slow.test"]
    assert waiting.cancelled
    assert our_threads() == []


def test_missing_names_raise_and_missing_families_are_empty(
    system: list[tuple[Any, ...]],
) -> None:
    with pytest.raises(ResolveFailed, match=r"missing\.test.*not known") as caught:
        resolve("missing.test", 80).recv()
    assert caught.value.errno == errno.ENXIO
    assert isinstance(caught.value.__cause__, socket.gaierror)
    with pytest.raises(ResolveFailed):
        resolve("nodata.test", 80).recv()
    assert resolve("nodata.test", 80, family=6).recv() == []


def test_names_are_encoded(system: list[tuple[Any, ...]]) -> None:
    resolve("bücher.test", 80).recv()
    resolve("_under_score.test", 80).recv()
    assert [host for host, _, _ in system] == [b"xn--bcher-kva.test", b"_under_score.test"]
    for name in ("ü" * 70, "a..ü"):
        with pytest.raises(ValueError, match="expected the name "):
            resolve(name, 80).recv()


def test_forgotten_lookup_goes_on_and_a_pending_one_is_no_deadlock(
    system: list[tuple[Any, ...]],
) -> None:
    done: ae.CondVar[object] = ae.CondVar()
    resolve("x.test", 80).on_ready(done)
    assert done.recv() is not None


@pytest.mark.environment
def test_hosts_file_of_the_environment_comes_first(
    system: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hosts"
    path.write_text("127.9.9.9 test.invalid.  two.invalid\n::1 two.invalid\n")
    monkeypatch.setenv("AE_HOSTS", str(path))
    for _ in range(2):  # upstream once got only the first lookup right
        assert texts(resolve("test.invalid", 80)) == [("127.9.9.9", 80)]
        assert texts(resolve("test.invalid.", 80)) == [("127.9.9.9", 80)]
    assert sorted(texts(resolve("two.invalid", 80))) == [("127.9.9.9", 80), ("::1", 80)]
    assert texts(resolve("two.invalid", 80, family=6)) == [("::1", 80)]
    assert texts(resolve("test.invalid", 80, family=6)) == []
    assert system == []
    resolve("other.test", 80).recv()
    assert len(system) == 1


@pytest.mark.environment
def test_line_of_the_hosts_file_for_an_interface_that_is_gone_is_left_out(
    system: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hosts"
    path.write_text("fe80::1%gone9 two.test\n127.9.9.9 two.test\n")
    monkeypatch.setenv("AE_HOSTS", str(path))
    assert texts(resolve("two.test", 80)) == [("127.9.9.9", 80)]
    assert system == []


def test_thread_that_cannot_be_started_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolver = ThreadResolver(max_threads=1)
    ae.sleep(0).recv()  # some loops have a thread of their own, from the first wait on
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        for _ in range(2):
            with pytest.raises(OSError, match="can't start new thread") as caught:
                resolver.getaddrinfo("x.test", 80).recv()
            assert caught.value.errno == errno.EAGAIN


def test_answer_for_a_loop_that_has_ended_is_dropped(
    system: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(ae, "log", lambda level, text, *args: logged.append(text % args))
    resolver = ThreadResolver(max_threads=1)
    job = room._Job("x.test", 80, 0, "stream")

    class Gone:
        def call_threadsafe(self, callback: object) -> None:
            raise RuntimeError("loop is closed")

    job.backend = Gone()  # type: ignore[assignment]
    resolver._workers = 1
    resolver._work(job, [None])
    assert logged == ["the answer for 'x.test' comes too late: loop is closed"]
    assert resolver._workers == 0
    job.result.cancel()


def test_system_resolver_really_works() -> None:
    # Whatever the machine is called, the system knows "localhost" and no name in .invalid.
    assert ("127.0.0.1", 80) in texts(ThreadResolver().getaddrinfo("localhost", 80))
    with pytest.raises(ResolveFailed):
        ThreadResolver().getaddrinfo("no-such-host.invalid", 80).recv()


FORK = """
import os, threading
from ae_socket import ThreadResolver
resolver = ThreadResolver(max_threads=1)
resolver._lock.acquire()   # as if a worker held it at the moment of the fork
resolver._workers = 1
pid = os.fork()
if pid == 0:
    assert resolver.getaddrinfo("localhost", 80).recv()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
"""


@pytest.mark.linux
def test_forked_child_can_resolve() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


HANGING = """
import socket, time
from ae_socket import resolve
socket.getaddrinfo = lambda *_: time.sleep(3600)
cv = resolve("x.test", 80)
try:
    cv.recv(timeout=0.05)
except TimeoutError:
    print("over")
"""


def test_program_can_end_while_a_lookup_hangs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("over\n", "")


@pytest.mark.environment
def test_environment_is_ignored_when_python_is_told_to() -> None:
    program = "from ae_socket import resolve; print(len(resolve('localhost', 1).recv()))"
    environment = {**os.environ, "AE_PROTOCOLS": "ipv4"}
    counts = [
        subprocess.run(
            [sys.executable, *flags, "-c", program],
            env=environment, capture_output=True, text=True, timeout=60, check=True,
        ).stdout
        for flags in ([], ["-E"])
    ]  # fmt: skip
    assert counts == ["1\n", "2\n"]


def test_threaded_resolver_checks_its_arguments() -> None:
    with pytest.raises(ValueError, match="expected family"):
        ThreadResolver().getaddrinfo("x.test", 80, family=2)
    with pytest.raises(ValueError, match="expected type"):
        ThreadResolver().getaddrinfo("x.test", 80, type="tcp")  # type: ignore[arg-type]


def test_service_lookup_that_goes_wrong_in_an_unknown_way_is_the_outcome() -> None:
    class Odd(ScriptedResolver):
        answer: object = None

        def srv(self, service: str, protocol: str, domain: str) -> ae.CondVar[Any]:
            condvar: ae.CondVar[Any] = ae.CondVar()
            if isinstance(self.answer, Exception):
                condvar.throw(self.answer)
            else:
                condvar.send(self.answer)
            return condvar

        def getaddrinfo(self, host: str, service: str | int, **_: object) -> ae.CondVar[Any]:
            raise ZeroDivisionError

    resolver = Odd()
    set_resolver(resolver)
    resolver.answer = RuntimeError("odd")
    with pytest.raises(RuntimeError, match="odd"):
        resolve("x.test", "http").recv()
    resolver.answer = []
    with pytest.raises(ZeroDivisionError):
        resolve("x.test", "http").recv()


def test_what_raises_after_the_outcome_does_not_take_its_place() -> None:
    lookup = AddressLookup("x.test 80", 0, "stream", ScriptedResolver(), alternate=False)

    def step() -> None:
        lookup.result.send([])
        raise RuntimeError("too late")

    with pytest.raises(RuntimeError, match="too late"):
        lookup._step(step)
    assert lookup.result.recv() == []


def test_addresses_of_a_family_that_nobody_asked_for_are_left_out() -> None:
    class Both(ScriptedResolver):
        def getaddrinfo(self, host: str, service: str | int, **_: object) -> ae.CondVar[Any]:
            found: ae.CondVar[Any] = ae.CondVar()
            found.send(
                [
                    AddressInfo(socket.AF_INET6, socket.SOCK_STREAM, 6, ("2001:db8::1", 80, 0, 0)),
                    AddressInfo(socket.AF_INET, socket.SOCK_STREAM, 6, ("192.0.2.1", 80)),
                ]
            )
            return found

    assert texts(resolve("x.test", 80, family=4, resolver=Both())) == [("192.0.2.1", 80)]
    assert texts(resolve("x.test", 80, family=6, resolver=Both())) == [("2001:db8::1", 80)]


def test_cancelled_lookup_ignores_what_comes_late() -> None:
    class Late(ScriptedResolver):
        def __init__(self) -> None:
            super().__init__()
            self.answers: list[ae.CondVar[Any]] = []

        def later(self) -> ae.CondVar[Any]:
            self.answers.append(Uncancellable())
            return self.answers[-1]

        def srv(self, service: str, protocol: str, domain: str) -> ae.CondVar[Any]:
            return self.later()

        def getaddrinfo(self, host: str, service: str | int, **_: object) -> ae.CondVar[Any]:
            return self.later()

    class Uncancellable(ae.CondVar[Any]):
        def cancel(self) -> None:
            return

    resolver = Late()
    set_resolver(resolver)
    for service in (80, "http"):
        condvar = resolve("x.test", service)
        condvar.cancel()
        resolver.answers.pop().send([])
        assert condvar.cancelled


def test_pickled_failure_keeps_its_text() -> None:
    import pickle

    error = ResolveFailed("no such thing")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.errno) == (str(error), errno.ENXIO)
