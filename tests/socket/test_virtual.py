"""tcp_connect on a scripted network and virtual time: the schedule as the user sees it."""

from __future__ import annotations

import contextlib
import errno
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ae_core as ae
from ae_socket import ConnectFailed, tcp_connect
from ae_socket.testing import ScriptedResolver


def connect(network: Any, script: dict[str, str], **options: Any) -> ae.CondVar[Any]:
    network.script.update(script)
    return tcp_connect("x.test", 80, resolver=ScriptedResolver({"x.test": list(script)}), **options)


def failure(condvar: ae.CondVar[Any]) -> ConnectFailed:
    with pytest.raises(ConnectFailed) as caught:
        condvar.recv()
    return caught.value


def test_dead_ipv6_costs_a_quarter_of_a_second(network: Any) -> None:
    connect(network, {"2001:db8::1": "silent", "10.0.0.1": "ok 0.02"}).recv().close()
    assert network.story == [
        "0.000 start 2001:db8::1",
        "0.250 start 10.0.0.1",
        "0.270 ok 10.0.0.1",
        "0.270 close 2001:db8::1",
        "0.270 close 10.0.0.1",
    ]


def test_unreachable_ipv6_costs_nothing(network: Any) -> None:
    script = {"2001:db8::1": f"code {errno.ENETUNREACH}", "10.0.0.1": "ok 0.02"}
    connect(network, script).recv().close()
    assert network.story[:3] == [
        "0.000 start 2001:db8::1",
        "0.000 close 2001:db8::1",
        "0.000 start 10.0.0.1",
    ]


def test_refusal_starts_the_next_at_once(network: Any) -> None:
    connect(network, {"2001:db8::1": "refused 0.1", "10.0.0.1": "ok 0.02"}).recv().close()
    assert "0.100 start 10.0.0.1" in network.story


def test_slow_first_answer_wins_if_it_is_first(network: Any) -> None:
    connect(network, {"2001:db8::1": "ok 0.3", "10.0.0.1": "ok 0.2"}).recv().close()
    assert network.story == [
        "0.000 start 2001:db8::1",
        "0.250 start 10.0.0.1",
        "0.300 ok 2001:db8::1",
        "0.300 close 10.0.0.1",
        "0.300 close 2001:db8::1",
    ]


def test_many_dead_targets_are_started_one_after_the_other(network: Any) -> None:
    script = {f"2001:db8::{n}": "silent" for n in range(1, 4)} | {"10.0.0.1": "ok 0"}
    connect(network, script).recv().close()
    assert [line for line in network.story if "start" in line] == [
        "0.000 start 2001:db8::1",
        "0.250 start 10.0.0.1",
    ]


def test_time_out_of_an_attempt_starts_the_next(network: Any) -> None:
    script = {"10.0.0.1": "silent", "10.0.0.2": "silent"}
    error = failure(connect(network, script, on_prepare=lambda sock: 0.1))
    assert network.story == [
        "0.000 start 10.0.0.1",
        "0.100 close 10.0.0.1",
        "0.100 start 10.0.0.2",
        "0.200 close 10.0.0.2",
    ]
    assert [one.errno for one in error.errors] == [errno.ETIMEDOUT] * 2


def test_errors_stand_in_the_order_of_the_attempts(network: Any) -> None:
    script = {"10.0.0.1": "refused 0.9", "10.0.0.2": "refused 0.1", "10.0.0.3": "refused 0.1"}
    error = failure(connect(network, script))
    assert [one.filename for one in error.errors] == ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]
    assert network.story[-1] == "0.900 close 10.0.0.1"


def test_time_out_of_everything_ends_on_time(network: Any) -> None:
    script = {f"10.0.0.{n}": "silent" for n in range(1, 9)}
    error = failure(connect(network, script, timeout=1.0))
    assert network.clock.elapsed == 1.0
    assert [one.filename for one in error.errors] == [f"10.0.0.{n}:80" for n in range(1, 5)]
    assert error.errno == errno.ETIMEDOUT


def test_nothing_is_left_in_the_loop_when_it_is_over(network: Any) -> None:
    connect(network, {"10.0.0.1": "ok 0.1", "10.0.0.2": "silent"}, timeout=60).recv().close()
    with pytest.raises(ae.Deadlock):
        ae.CondVar().recv()
    assert network.clock.elapsed == pytest.approx(0.1)


def test_writability_without_a_peer_or_an_error_is_waited_out(network: Any) -> None:
    network.script["10.0.0.1"] = "silent"
    condvar = tcp_connect("10.0.0.1", 80)
    network.clock.advance(0.1)
    [sock] = network.open
    sock.descriptor.writable = True  # spurious: neither connected nor failed
    watcher = ae.timer(0.1, lambda: setattr(sock.descriptor, "writable", False))
    network.clock.advance(0)
    assert not condvar.ready
    watcher.cancel()
    sock.succeed()
    condvar.recv().close()


def test_error_that_was_consumed_elsewhere_is_still_a_failure(network: Any) -> None:
    network.script["10.0.0.1"] = "silent"
    condvar = tcp_connect("10.0.0.1", 80)
    network.clock.advance(0)
    [sock] = network.open

    def recv(size: int) -> bytes:
        raise OSError(errno.ENOTCONN, "not connected")

    sock.recv = recv
    sock.descriptor.writable = True
    assert failure(condvar).errno == errno.ENOTCONN


def test_end_of_file_without_a_peer_is_a_failure(network: Any) -> None:
    network.script["10.0.0.1"] = "silent"
    condvar = tcp_connect("10.0.0.1", 80)
    network.clock.advance(0)
    [sock] = network.open
    sock.recv = lambda size: b""
    sock.descriptor.writable = True
    assert failure(condvar).errno == errno.ENOTCONN


def test_address_that_the_system_cannot_take_is_a_failure_of_its_attempt(network: Any) -> None:
    network.script["10.0.0.1"] = "silent"

    def connect_ex(address: object) -> int:
        raise OverflowError("getsockaddrarg: port must be 0-65535.")

    def on_prepare(sock: Any) -> None:
        sock.connect_ex = connect_ex

    error = failure(tcp_connect("10.0.0.1", 80, on_prepare=on_prepare))
    assert error.errno == errno.EINVAL
    assert "0-65535" in str(error)


def test_outcome_of_on_prepare_ends_everything(network: Any) -> None:
    def on_prepare(sock: Any) -> None:
        if network.clock.elapsed:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        script = {f"10.0.0.{n}": "silent" for n in range(1, 5)}
        connect(network, script, on_prepare=on_prepare).recv()
    with pytest.raises(ae.Deadlock):
        ae.CondVar().recv()
    assert network.clock.elapsed == 0.25


def test_interrupt_in_on_prepare_ends_the_operation_and_goes_on(network: Any) -> None:
    network.script["10.0.0.1"] = "silent"

    def on_prepare(sock: Any) -> None:
        raise KeyboardInterrupt

    condvar = tcp_connect("10.0.0.1", 80, on_prepare=on_prepare)
    with pytest.raises(KeyboardInterrupt):
        condvar.recv()
    assert condvar.ready
    with pytest.raises(KeyboardInterrupt):
        condvar.recv()


def test_lookup_that_somebody_else_cancels_cancels_the_connect(network: Any) -> None:
    resolver = ScriptedResolver({"x.test": None})
    condvar = tcp_connect("x.test", 80, resolver=resolver)
    resolver.pending[0].cancel()
    with pytest.raises(ae.CancelledError):
        condvar.recv()


# ---------------------------------------------------------------------- whatever happens

outcomes = st.one_of(
    st.just("silent"),
    st.sampled_from([errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAGAIN]).map("code {}".format),
    st.builds(
        "{} {}".format,
        st.sampled_from(["ok", "refused"]),
        st.sampled_from([0, 0.1, 0.25, 0.3, 0.5, 3]),
    ),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    script=st.lists(outcomes, max_size=6),
    timeout=st.sampled_from([0.0, 0.1, 0.25, 0.6, 10.0]),
    attempt=st.sampled_from([None, 0.05, 0.25, 0.4]),
    retries=st.integers(0, 3),
    late=st.booleans(),
    cancel=st.one_of(st.none(), st.sampled_from([0.0, 0.1, 0.25, 0.3, 1.0])),
)
def test_every_operation_has_one_outcome_and_leaves_one_socket_at_most(
    networks: Any,
    script: list[str],
    timeout: float,
    attempt: float | None,
    retries: int,
    late: bool,
    cancel: float | None,
) -> None:
    with networks() as network:
        # Odd ones IPv6, so that there is something to interleave.
        hosts = [f"2001:db8::{n}" if n % 2 else f"10.0.0.{n}" for n in range(len(script))]
        network.script.update(zip(hosts, script, strict=True))
        given_up = retries
        connected: list[Any] = []
        again: list[ae.CondVar[Any]] = []

        def on_connect(sock: Any, host: str, port: int, retry: Any) -> None:
            nonlocal given_up
            connected.append(sock)
            if given_up:
                given_up -= 1
                if late:
                    ae.postpone(lambda: again.append(retry()))
                else:
                    retry()

        condvar = tcp_connect(
            "x.test",
            80,
            on_connect,
            on_prepare=lambda sock: attempt,
            timeout=timeout,
            resolver=ScriptedResolver({"x.test": hosts}),
        )
        results: list[ae.CondVar[Any]] = []
        condvar.on_ready(results.append)
        watcher = ae.timer(cancel, condvar.cancel) if cancel is not None else None
        network.clock.advance(100)  # nothing can take longer than the time-outs, retries and all
        assert results == [condvar]
        everything = [condvar, *again]
        assert all(one.ready for one in everything)
        # Each but the last was given up, and the last one's socket is all that is open.
        winners = []
        for one in everything:
            if one.cancelled:
                continue
            with contextlib.suppress(ConnectFailed):
                winners.append(one.recv())
        if watcher is not None:
            watcher.cancel()
        still_open = {sock for sock in connected if sock.fileno() != -1}
        assert network.open == still_open
        assert len(still_open) <= 1
        if not late:
            assert still_open == set(winners) or condvar.cancelled
        for sock in still_open:
            sock.close()
