"""tcp_connect against real sockets on the loopback.

Long because each outcome stands by itself: a list of short cases over the same few fixtures.
"""

from __future__ import annotations

import errno
import gc
import os
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import ae_core as ae
from ae_socket import (
    AddressInfo,
    ConnectFailed,
    ResolveFailed,
    Server,
    set_resolver,
    tcp_connect,
    tcp_server,
)
from ae_socket.testing import ScriptedResolver, refused_address, silent_address


class Peer:
    """A server that keeps what it accepts."""

    def __init__(self, host: str | None = "127.0.0.1", service: str | int = 0) -> None:
        self.accepted: list[socket.socket] = []
        self.server: Server = tcp_server(host, service, self.on_accept)
        self.host, self.port = self.server.address

    def on_accept(self, sock: socket.socket, host: str, port: str | int) -> None:
        self.accepted.append(sock)

    def close(self) -> None:
        self.server.cancel()
        for sock in self.accepted:
            sock.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


def descriptors() -> int:
    ae.sleep(0).recv()  # the first one opens what the loop keeps
    return len(os.listdir("/proc/self/fd"))


def failure(condvar: ae.CondVar[socket.socket]) -> ConnectFailed:
    with pytest.raises(ConnectFailed) as caught:
        condvar.recv()
    return caught.value


def info(host: str, port: int) -> AddressInfo:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return AddressInfo(family, socket.SOCK_STREAM, 0, (host, port))


# ---------------------------------------------------------------------- success


def test_callback_gets_a_non_blocking_socket_after_the_call_returned(peer: Peer) -> None:
    story: list[object] = []

    def on_connect(sock: socket.socket, host: str, port: int | str, retry: object) -> None:
        story.append((sock, host, port, callable(retry)))

    condvar = tcp_connect(peer.host, peer.port, on_connect)
    story.append("returned")
    assert not condvar.ready
    sock = condvar.recv()
    assert story == ["returned", (sock, "127.0.0.1", peer.port, True)]
    assert sock.gettimeout() == 0
    assert sock.getpeername() == ("127.0.0.1", peer.port)
    sock.close()


def test_condvar_alone_is_enough(peer: Peer) -> None:
    with tcp_connect("127.1", str(peer.port)).recv() as sock:
        assert sock.getpeername()[1] == peer.port


def test_connecting_can_be_awaited(peer: Peer) -> None:
    async def main() -> int:
        sock = await tcp_connect(peer.host, peer.port)
        with sock:
            return int(sock.getpeername()[1])

    assert ae.run(main()) == peer.port


def test_forgotten_connect_goes_on(peer: Peer) -> None:
    done: ae.CondVar[socket.socket] = ae.CondVar()
    tcp_connect(peer.host, peer.port, lambda sock, *_: done.send(sock))
    gc.collect()
    done.recv().close()


def test_ipv6_peer() -> None:
    peer = Peer("::1")
    story: list[object] = []
    with tcp_connect(
        "::1", peer.port, lambda sock, host, port, retry: story.append((host, port))
    ).recv():
        assert story == [("::1", peer.port)]
    peer.close()


def test_v4_mapped_text_connects_by_ipv4(peer: Peer) -> None:
    with tcp_connect("::ffff:127.0.0.1", peer.port).recv() as sock:
        assert sock.family is socket.AF_INET


@pytest.mark.linux
@pytest.mark.unix_sockets
@pytest.mark.parametrize("abstract", [False, True])
def test_unix_peer_is_shown_as_its_path(tmp_path: Path, abstract: bool) -> None:
    path = f"\0ae-socket-{os.getpid()}" if abstract else str(tmp_path / "s")
    peer = Peer("unix/", path)
    story: list[object] = []
    with tcp_connect(
        "unix/", path, lambda sock, host, port, retry: story.append((host, port))
    ).recv():
        assert story == [("unix/", path)]
    peer.close()


@pytest.mark.unix_sockets
def test_full_backlog_of_a_unix_socket_is_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        with tcp_connect("unix/", path).recv():
            second = tcp_connect("unix/", path)
            with pytest.raises(TimeoutError):
                second.recv(timeout=0.05)
            first, _ = listener.accept()
            with first, second.recv() as sock:
                assert sock.getpeername() == path


# ---------------------------------------------------------------------- failure


@pytest.mark.unix_sockets
def test_failures_come_through_the_condvar_after_the_call(tmp_path: Path) -> None:
    called: list[object] = []
    with refused_address() as (host, port):
        cases: list[tuple[tuple[str, str | int], int]] = [
            ((host, port), errno.ECONNREFUSED),
            (("unix/", str(tmp_path / "missing")), errno.ENOENT),
            (("unix/", "relative"), errno.ENXIO),
            (("no.such.test", 80), errno.ENXIO),
            (("unix/", "/" + 200 * "x"), errno.ENXIO),
        ]
        for arguments, code in cases:
            resolver = ScriptedResolver()
            condvar = tcp_connect(*arguments, lambda *a: called.append(a), resolver=resolver)
            assert not condvar.ready
            error = failure(condvar)
            assert error.errno == code
            assert isinstance(error, OSError)
            assert isinstance(error, ae.AEError)
    assert not called


def test_error_names_every_target_and_keeps_every_error() -> None:
    with refused_address() as (host, port), refused_address("::1") as (host6, port6):
        resolver = ScriptedResolver({"two.test": [(host6, port6), (host, port)]})
        error = failure(tcp_connect("two.test", 80, resolver=resolver))
    assert [one.errno for one in error.errors] == [errno.ECONNREFUSED] * 2
    assert [one.filename for one in error.errors] == [f"[::1]:{port6}", f"127.0.0.1:{port}"]
    for text in ("two.test:80", f"[::1]:{port6}", f"127.0.0.1:{port}", "connection refused"):
        assert text in str(error).lower()
    assert all(isinstance(one, ConnectionRefusedError) for one in error.errors)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.errno, len(copy.errors)) == (str(error), error.errno, 2)


def test_resolver_error_is_kept() -> None:
    reason = ResolveFailed("the name server is on fire")
    error = failure(tcp_connect("x.test", 80, resolver=ScriptedResolver({"x.test": reason})))
    assert error.errors == (reason,)
    assert "on fire" in str(error)


def test_no_address_is_an_error_without_errors() -> None:
    error = failure(tcp_connect("x.test", 80, resolver=ScriptedResolver({"x.test": []})))
    assert (error.errno, error.errors) == (errno.ENXIO, ())


@pytest.mark.parametrize(
    ("host", "service"),
    [
        ("127.0.0.1", "no-such-service"),
        ("127.0.0.1", 65536),
        ("127.0.0.1", -1),
        ("127.0.0.1", ""),
        ("a\0b", 80),
        ("", 80),
        ("unix/", "/a\0b"),
    ],
)
def test_bad_text_is_a_value_error_through_the_condvar(host: str, service: str | int) -> None:
    condvar = tcp_connect(host, service)
    with pytest.raises(ValueError, match=r"expected|unknown"):
        condvar.recv()


def test_wrong_types_are_refused_at_once() -> None:
    for arguments in ((None, 80), (b"x", 80), ("x", None), ("x", 80.0)):
        with pytest.raises(TypeError, match="expected a"):
            tcp_connect(*arguments)
    for local in ("no-address", ("127.0.0.1", 65536), ("x.org", 1)):
        with pytest.raises(ValueError, match="expected a local address"):
            tcp_connect("127.0.0.1", 80, local_address=local)


def test_connection_to_itself_counts_as_refused() -> None:
    with refused_address() as (_, port):
        pass
    # Bound to the very port it connects to, TCP's simultaneous open would succeed.
    error = failure(tcp_connect("127.0.0.1", port, local_address=("127.0.0.1", port)))
    assert error.errno == errno.ECONNREFUSED


def test_thousands_of_targets_that_fail_at_once_do_not_recurse() -> None:
    # A scope that is no interface: connect() itself fails.
    hopeless = AddressInfo(socket.AF_INET6, socket.SOCK_STREAM, 0, ("fe80::1", 80, 0, 4_000_000))
    targets = [hopeless._replace(sockaddr=("fe80::1", port, 0, 4_000_000)) for port in range(3000)]
    error = failure(tcp_connect("x.test", 80, resolver=ScriptedResolver({"x.test": targets})))
    assert len(error.errors) == 3000


@pytest.mark.linux
def test_ten_thousand_failed_connects_leave_nothing_open() -> None:
    with refused_address() as (host, port):
        before = descriptors()
        failures = 0
        for _ in range(100):
            pending = [tcp_connect(host, port) for _ in range(100)]
            for condvar in pending:
                failures += failure(condvar).errno == errno.ECONNREFUSED
        assert failures == 10_000
        assert descriptors() == before


def test_finished_operations_are_freed_without_the_garbage_collector(peer: Peer) -> None:
    def alive() -> int:
        return sum(type(one).__name__ in ("_Connect", "_Attempt") for one in gc.get_objects())

    gc.disable()
    gc.freeze()  # what other tests have left does not count
    try:
        with refused_address() as (host, port):
            for _ in range(3):
                failure(tcp_connect(host, port))
                failure(tcp_connect("x.test", port, resolver=ScriptedResolver()))
                tcp_connect(peer.host, peer.port).recv().close()
                tcp_connect(peer.host, peer.port, lambda *_: None).recv().close()
                tcp_connect(host, port).cancel()
                tcp_connect(host, port, timeout=60).cancel()
        ae.sleep(0).recv()
        assert alive() == 0
    finally:
        gc.unfreeze()
        gc.enable()


# ---------------------------------------------------------------------- on_prepare, time-outs


def test_on_prepare_sees_every_socket_before_it_connects(peer: Peer) -> None:
    story: list[object] = []

    def on_prepare(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        story.append(sock.gettimeout())
        with pytest.raises(OSError):
            sock.getpeername()

    with refused_address("::1") as refused:
        resolver = ScriptedResolver({"x.test": [refused, ("127.0.0.1", peer.port)]})
        condvar = tcp_connect("x.test", 80, on_prepare=on_prepare, resolver=resolver)
        assert story == []
        with condvar.recv() as sock:
            assert story == [0.0, 0.0]
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_what_on_prepare_raises_is_the_outcome(peer: Peer) -> None:
    class OwnError(Exception):
        pass

    seen: list[socket.socket] = []

    def on_prepare(sock: socket.socket) -> None:
        seen.append(sock)
        raise OwnError

    with pytest.raises(OwnError):
        tcp_connect(peer.host, peer.port, on_prepare=on_prepare).recv()
    assert [sock.fileno() for sock in seen] == [-1]


@pytest.mark.linux
def test_on_prepare_returns_the_time_out_of_its_attempt(peer: Peer) -> None:
    with silent_address() as silent:
        started = ae.time()
        error = failure(tcp_connect(*silent, on_prepare=lambda sock: 0.1))
        assert ae.time() - started >= 0.1
        assert error.errno == errno.ETIMEDOUT
        assert isinstance(error.errors[0], TimeoutError)

        resolver = ScriptedResolver({"x.test": [silent, ("127.0.0.1", peer.port)]})
        with tcp_connect(
            "x.test", 80, on_prepare=lambda sock: 0.02, resolver=resolver
        ).recv() as sock:
            assert sock.getpeername()[1] == peer.port


def test_on_prepare_that_returns_nonsense_is_an_error(peer: Peer) -> None:
    with pytest.raises(TypeError):
        tcp_connect(peer.host, peer.port, on_prepare=lambda sock: "soon").recv()  # type: ignore[arg-type,return-value]


def test_on_prepare_may_cancel(peer: Peer) -> None:
    seen: list[socket.socket] = []

    def on_prepare(sock: socket.socket) -> None:
        seen.append(sock)
        condvar.cancel()

    condvar = tcp_connect(peer.host, peer.port, on_prepare=on_prepare)
    with pytest.raises(ae.CancelledError):
        condvar.recv()
    assert seen[0].fileno() == -1


@pytest.mark.linux
def test_timeout_bounds_the_whole_operation() -> None:
    with silent_address() as one, silent_address() as two:
        resolver = ScriptedResolver({"x.test": [one, two]})
        before = descriptors()
        started = ae.time()
        error = failure(tcp_connect("x.test", 80, timeout=0.3, resolver=resolver))
        assert ae.time() - started >= 0.3
        assert [reason.errno for reason in error.errors] == [errno.ETIMEDOUT] * 2
        assert error.errno == errno.ETIMEDOUT
        assert descriptors() == before


def test_timeout_includes_the_lookup() -> None:
    resolver = ScriptedResolver({"x.test": None})
    error = failure(tcp_connect("x.test", 80, timeout=0.05, resolver=resolver))
    assert error.errno == errno.ETIMEDOUT
    assert resolver.pending[0].cancelled


@pytest.mark.linux
def test_timeout_keeps_the_errors_that_came_before() -> None:
    with refused_address() as refused, silent_address() as silent:
        resolver = ScriptedResolver({"x.test": [refused, silent]})
        error = failure(tcp_connect("x.test", 80, timeout=0.1, resolver=resolver))
    assert [one.errno for one in error.errors] == [errno.ECONNREFUSED, errno.ETIMEDOUT]


# ---------------------------------------------------------------------- cancelling


@pytest.mark.linux
def test_cancelled_connect_never_calls_back_and_closes_everything(peer: Peer) -> None:
    called: list[object] = []
    before = descriptors()
    at_once = tcp_connect(peer.host, peer.port, lambda *a: called.append(a))
    at_once.cancel()
    with silent_address() as silent:
        before_silent = descriptors()
        running = tcp_connect(*silent, lambda *a: called.append(a))
        with pytest.raises(TimeoutError):
            running.recv(timeout=0.02)
        assert descriptors() > before_silent
        running.cancel()
        assert descriptors() == before_silent
    ae.sleep(0.02).recv()
    assert (called, at_once.cancelled, running.cancelled) == ([], True, True)
    assert descriptors() == before


def test_cancelling_ends_the_lookup() -> None:
    resolver = ScriptedResolver({"x.test": None})
    condvar = tcp_connect("x.test", 80, resolver=resolver)
    condvar.cancel()
    assert resolver.pending[0].cancelled


def test_cancel_inside_on_connect_leaves_the_socket_to_the_callback(peer: Peer) -> None:
    taken: list[socket.socket] = []

    def on_connect(sock: socket.socket, *_: object) -> None:
        taken.append(sock)
        condvar.cancel()

    condvar = tcp_connect(peer.host, peer.port, on_connect)
    with pytest.raises(ae.CancelledError):
        condvar.recv()
    assert taken[0].getpeername()[1] == peer.port
    taken[0].close()


def test_what_on_connect_raises_goes_to_the_hook(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught: list[BaseException] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: caught.append(error))

    def on_connect(*_: object) -> None:
        raise RuntimeError("mine")

    tcp_connect(peer.host, peer.port, on_connect).recv().close()
    assert [str(error) for error in caught] == ["mine"]


# ---------------------------------------------------------------------- several targets


def test_next_target_is_tried_when_one_is_refused(peer: Peer) -> None:
    with refused_address() as refused:
        resolver = ScriptedResolver({"x.test": [refused, refused, ("127.0.0.1", peer.port)]})
        with tcp_connect("x.test", 80, resolver=resolver).recv() as sock:
            assert sock.getpeername()[1] == peer.port


@pytest.mark.linux
def test_silent_target_costs_a_quarter_of_a_second_and_is_closed(peer: Peer) -> None:
    opened: list[socket.socket] = []
    with silent_address("::1") as silent:
        resolver = ScriptedResolver({"x.test": [silent, ("127.0.0.1", peer.port)]})
        started = ae.time()
        with tcp_connect("x.test", 80, on_prepare=opened.append, resolver=resolver).recv() as sock:
            assert ae.time() - started >= 0.24
            assert [one is sock or one.fileno() == -1 for one in opened] == [True, True]
            assert opened[1] is sock


def test_families_alternate(peer: Peer) -> None:
    families: list[int] = []
    with refused_address() as refused, refused_address("::1") as refused6:
        resolver = ScriptedResolver(
            {"x.test": [refused6, (refused6[0], 1), refused, (refused[0], 1)]}
        )
        failure(
            tcp_connect(
                "x.test",
                80,
                on_prepare=lambda sock: families.append(sock.family),
                resolver=resolver,
            )
        )
    assert families == [socket.AF_INET6, socket.AF_INET] * 2


def test_local_address_is_used_and_other_families_are_not_tried(peer: Peer) -> None:
    with tcp_connect(peer.host, peer.port, local_address="127.0.0.9").recv() as sock:
        assert sock.getsockname()[0] == "127.0.0.9"
    error = failure(tcp_connect("::1", peer.port, local_address="127.0.0.1"))
    assert error.errno == errno.EAFNOSUPPORT
    error = failure(tcp_connect(peer.host, peer.port, local_address="192.0.2.77"))
    assert error.errno == errno.EADDRNOTAVAIL


# ---------------------------------------------------------------------- retry()


def test_retry_inside_the_callback_goes_on_with_the_next_target(peer: Peer) -> None:
    second = Peer()
    story: list[object] = []

    def on_connect(sock: socket.socket, host: str, port: int | str, retry: object) -> None:
        story.append(port)
        if port == peer.port:
            assert callable(retry)
            assert retry() is condvar
            assert retry() is condvar  # once is enough
            assert sock.fileno() == -1
            assert not condvar.ready

    resolver = ScriptedResolver({"x.test": [("127.0.0.1", peer.port), ("127.0.0.1", second.port)]})
    condvar = tcp_connect("x.test", 80, on_connect, resolver=resolver)
    with condvar.recv() as sock:
        assert sock.getpeername()[1] == second.port
    assert story == [peer.port, second.port]
    second.close()


def test_retry_without_another_target_fails(peer: Peer) -> None:
    error = failure(tcp_connect(peer.host, peer.port, lambda sock, host, port, retry: retry()))
    assert [one.errno for one in error.errors] == [errno.ECONNABORTED]
    assert "retry()" in str(error)


def test_retry_after_the_condvar_was_sent_calls_back_anew(peer: Peer) -> None:
    second = Peer()
    retries: list[object] = []
    resolver = ScriptedResolver({"x.test": [("127.0.0.1", peer.port), ("127.0.0.1", second.port)]})
    condvar = tcp_connect("x.test", 80, lambda *a: retries.append(a[3]), resolver=resolver)
    first = condvar.recv()
    retry = retries[0]
    assert callable(retry)
    again = retry()
    assert again is not condvar
    assert first.fileno() == -1
    assert len(retries) == 1
    with again.recv() as sock:
        assert sock.getpeername()[1] == second.port
    assert len(retries) == 2
    last = retries[1]
    assert callable(last)
    error = failure(last())
    assert len(error.errors) == 2
    assert condvar.recv() is first  # the old result stays what it was
    second.close()


@pytest.mark.linux
def test_retry_comes_back_to_the_losers_of_the_race(peer: Peer) -> None:
    def on_connect(sock: socket.socket, host: str, port: int | str, retry: object) -> None:
        assert callable(retry)
        retry()

    prepared: list[socket.socket] = []
    with silent_address("::1") as silent:
        resolver = ScriptedResolver({"x.test": [silent, ("127.0.0.1", peer.port)]})
        condvar = tcp_connect(
            "x.test", 80, on_connect, on_prepare=prepared.append, timeout=0.5, resolver=resolver
        )
        error = failure(condvar)
    assert len(prepared) == 3  # silent, ours, silent again
    assert [one.errno for one in error.errors] == [errno.ECONNABORTED, errno.ETIMEDOUT]
    assert all(sock.fileno() == -1 for sock in prepared)


@pytest.mark.linux
def test_late_retry_has_the_time_out_anew(peer: Peer) -> None:
    with silent_address() as silent:
        retries: list[object] = []
        resolver = ScriptedResolver({"x.test": [("127.0.0.1", peer.port), silent]})
        tcp_connect(
            "x.test", 80, lambda *a: retries.append(a[3]), timeout=0.1, resolver=resolver
        ).recv()
        ae.sleep(0.15).recv()
        retry = retries[0]
        assert callable(retry)
        assert failure(retry()).errno == errno.ETIMEDOUT


# ---------------------------------------------------------------------- the resolver seam


def test_resolver_argument_counts_more_than_the_installed_one(peer: Peer) -> None:
    installed, given = ScriptedResolver(), ScriptedResolver({"x.test": ["127.0.0.1"]})
    set_resolver(installed)
    try:
        tcp_connect("x.test", peer.port, resolver=given).recv().close()
        failure(tcp_connect("x.test", peer.port))
        tcp_connect("127.0.0.1", peer.port).recv().close()
    finally:
        set_resolver(None)
    assert [question[:2] for question in given.questions] == [("x.test", peer.port)]
    assert [question[:2] for question in installed.questions] == [("x.test", peer.port)]


def test_on_prepare_that_cancels_and_raises_is_heard_by_the_hook(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught: list[str] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: caught.append(str(error)))

    def on_prepare(sock: socket.socket) -> None:
        condvar.cancel()
        raise RuntimeError("and now?")

    condvar = tcp_connect(peer.host, peer.port, on_prepare=on_prepare)
    with pytest.raises(ae.CancelledError):
        condvar.recv()
    ae.sleep(0).recv()
    assert caught == ["and now?"]


def test_retry_of_a_cancelled_operation_only_closes(peer: Peer) -> None:
    taken: list[socket.socket] = []

    def on_connect(sock: socket.socket, host: str, port: int | str, retry: object) -> None:
        taken.append(sock)
        condvar.cancel()
        assert callable(retry)
        assert retry() is condvar

    condvar = tcp_connect(peer.host, peer.port, on_connect)
    with pytest.raises(ae.CancelledError):
        condvar.recv()
    assert taken[0].fileno() == -1


def test_cancelling_after_retry_tries_nothing_more(peer: Peer) -> None:
    prepared: list[socket.socket] = []

    def on_connect(sock: socket.socket, host: str, port: int | str, retry: object) -> None:
        assert callable(retry)
        retry()
        condvar.cancel()

    target = ("127.0.0.1", peer.port)
    resolver = ScriptedResolver({"x.test": [target, ("127.0.0.2", peer.port)]})
    condvar = tcp_connect("x.test", 80, on_connect, on_prepare=prepared.append, resolver=resolver)
    with pytest.raises(ae.CancelledError):
        condvar.recv()
    ae.sleep(0).recv()
    assert len(prepared) == 1


def test_peer_that_closes_at_once_was_connected(peer: Peer) -> None:
    peer.server.cancel()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)

        def accept() -> None:
            listener.accept()[0].close()

        watcher = ae.io(listener, "r", accept)
        with tcp_connect(*listener.getsockname()).recv() as sock:
            ae.sleep(0.01).recv()
            assert sock.recv(1) == b""
        watcher.cancel()
