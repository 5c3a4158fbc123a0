"""Commands, pipelines and transactions of one client, against a scripted server."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import Trace
from ae_handle import Handle
from ae_redis import (
    ClientClosed,
    ConnectionLost,
    Push,
    Redis,
    ReplyError,
    ReplyTimedOut,
    TransactionAborted,
)
from ae_redis.testing import FakeServer

Make = Callable[..., Redis]


def numbered(client: Handle, words: list[bytes]) -> bytes:
    """Answer each command with its last word."""
    return b"$%d\r\n%b\r\n" % (len(words[-1]), words[-1])


def test_a_reply_never_comes_inside_the_call(fake: FakeServer, client: Make, trace: Trace) -> None:
    redis = client()
    for _ in range(2):
        reply = redis.ping()
        reply.on_ready(lambda reply: trace("replied"))
        trace("returned")
        reply.recv()
    assert trace == ["returned", "replied"] * 2


def test_commands_of_one_turn_leave_in_one_piece(fake: FakeServer, client: Make) -> None:
    pieces: list[int] = []
    redis = client()
    redis.ping().recv()
    (peer,) = fake.clients
    read = peer.on_read
    assert read is not None

    def count(handle: Handle) -> None:
        pieces.append(len(handle.read_buffer))
        read(handle)

    peer.on_read = count
    replies = [redis.get(str(number)) for number in range(100)]
    assert fake.commands[-1] == "PING"
    assert [reply.recv() for reply in replies] == [b"OK"] * 100
    assert len(pieces) == 1


def test_what_callbacks_send_leaves_in_one_piece_as_well(fake: FakeServer, client: Make) -> None:
    redis = client()
    done = ae.CondVar[None]()
    second: list[ae.CondVar[Any]] = []
    for number in range(10):
        redis.get(f"a{number}").on_ready(lambda reply: second.append(redis.get("b")))
    redis.get("last").on_ready(lambda reply: second[-1].on_ready(lambda reply: done.send()))
    done.recv()
    assert fake.commands[1:] == [*(f"GET a{n}" for n in range(10)), "GET last", *["GET b"] * 10]


def test_replies_come_in_order_whatever_their_kind(fake: FakeServer, client: Make) -> None:
    fake.answer = lambda client, words: {
        b"1": b":1\r\n",
        b"2": b"-ERR two\r\n",
        b"3": b"*2\r\n:3\r\n$2\r\n\r\n\r\n",
        b"4": b"_\r\n",
    }[words[1]]
    redis = client()
    one, two, three, four = (redis.get(number) for number in (1, 2, 3, 4))
    assert four.recv() is None
    assert three.recv() == [3, b"\r\n"]
    assert one.recv() == 1
    with pytest.raises(ReplyError, match="ERR two"):
        two.recv()


def test_await_and_recv_and_callbacks_give_the_same(fake: FakeServer, client: Make) -> None:
    redis = client()
    called: list[bytes] = []
    redis.get("a").on_ready(lambda reply: called.append(reply.recv()))

    async def main() -> bytes:
        value: bytes = await redis.get("b")
        return value

    assert redis.get("c").recv() == ae.run(main()) == b"OK" == called[0]


def test_an_exception_in_a_callback_disturbs_nobody(
    fake: FakeServer, client: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[str] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: raised.append(str(error)))
    redis = client()
    redis.get("a").on_ready(lambda reply: int("missing"))
    assert redis.get("b").recv() == b"OK"
    (text,) = raised
    assert "'missing'" in text


# ---------------------------------------------------------------------- cancelling


def test_a_command_cancelled_before_it_was_sent_is_not_sent(fake: FakeServer, client: Make) -> None:
    redis = client()
    replies = [redis.get(number) for number in range(4)]
    replies[1].cancel()
    replies[2].cancel()
    assert replies[3].recv() == b"OK"
    assert fake.commands[1:] == ["GET 0", "GET 3"]
    with pytest.raises(ae.CancelledError):
        replies[1].recv()


def test_a_command_cancelled_after_it_was_sent_does_not_disturb_the_others(
    fake: FakeServer, client: Make
) -> None:
    held: list[bytes] = []

    fake.answer = lambda client, words: held.append(numbered(client, words))
    redis = client()
    replies = [redis.get(number) for number in range(3)]
    redis.command("WAIT", 0, 0)
    pipeline = redis.pipeline().get("p").get("q").execute()
    while len(held) < 6:
        ae.sleep(0.001).recv()
    replies[1].cancel()
    pipeline.cancel()
    (peer,) = fake.clients
    peer.push_write(b"".join(held))
    assert [replies[0].recv(), replies[2].recv()] == [b"0", b"2"]
    fake.answer = numbered
    assert redis.get("after").recv() == b"after"
    assert replies[1].cancelled


def test_giving_up_the_wait_is_not_cancelling(fake: FakeServer, client: Make) -> None:
    fake.answer = lambda client, words: None
    redis = client()
    reply = redis.get("a")
    with pytest.raises(TimeoutError):
        reply.recv(timeout=0.01)
    assert not reply.ready
    while len(fake.commands) < 2:
        ae.sleep(0.001).recv()
    (peer,) = fake.clients
    peer.push_write(b"+late\r\n")
    assert reply.recv() == b"late"


# ---------------------------------------------------------------------- pipelines


def test_a_pipeline_is_one_answer_to_many_commands(fake: FakeServer, client: Make) -> None:
    fake.answer = numbered
    redis = client()
    before = redis.get("before")
    pipeline = redis.pipeline()
    assert pipeline.get("a").set("k", "b").command("ECHO", "c") is pipeline
    results = pipeline.execute()
    after = redis.get("after")
    assert results.recv() == [b"a", b"b", b"c"]
    assert [before.recv(), after.recv()] == [b"before", b"after"]
    assert len(pipeline) == 0


def test_the_first_error_of_a_pipeline_is_raised_and_all_were_executed(
    fake: FakeServer, client: Make
) -> None:
    fake.answer = lambda client, words: b"-ERR %b\r\n" % words[1] if words[1] > b"a" else b"+OK\r\n"
    redis = client()
    pipeline = redis.pipeline().get("a").get("b").get("c").get("a")
    with pytest.raises(ReplyError, match="ERR b"):
        pipeline.execute().recv()
    assert len(fake.commands) == 5
    results = pipeline.get("a").get("c").execute(return_errors=True)
    assert results.recv() == [b"OK", ReplyError("ERR c")]


def test_a_pipeline_cancelled_in_time_is_not_sent(fake: FakeServer, client: Make) -> None:
    redis = client()
    pipeline = redis.pipeline().get("a").get("b").execute()
    pipeline.cancel()
    redis.ping().recv()
    assert fake.commands[1:] == ["PING"]


def test_an_empty_pipeline_is_answered_in_the_next_turn(fake: FakeServer, client: Make) -> None:
    redis = client()
    results = redis.pipeline().execute()
    assert not results.ready
    assert results.recv() == []
    cancelled = redis.pipeline().execute()
    cancelled.cancel()
    assert cancelled.cancelled
    assert fake.accepted == 0


def test_a_long_pipeline_whose_replies_come_in_pieces(fake: FakeServer, client: Make) -> None:
    fake.answer = numbered
    redis = client()
    pipeline = redis.pipeline()
    for number in range(20_000):
        pipeline.get(number)
    assert pipeline.execute().recv() == [b"%d" % number for number in range(20_000)]


def test_a_single_command_of_a_pipeline_has_no_time_out(client: Make) -> None:
    with pytest.raises(TypeError, match="expected the timeout at execute"):
        client().pipeline().command("GET", "a", timeout=1)


# ---------------------------------------------------------------------- transactions


def transacting(executed: bytes) -> Callable[[Handle, list[bytes]], bytes]:
    return lambda client, words: {b"MULTI": b"+OK\r\n", b"EXEC": executed}.get(
        words[0], b"+QUEUED\r\n"
    )


def test_a_transaction_gives_what_was_executed(fake: FakeServer, client: Make) -> None:
    fake.answer = transacting(b"*2\r\n:1\r\n:2\r\n")
    assert client().transaction().incr("a").incr("a").execute().recv() == [1, 2]
    assert fake.commands[1:] == ["MULTI", "INCR a", "INCR a", "EXEC"]


def test_a_transaction_that_was_aborted_says_so(fake: FakeServer, client: Make) -> None:
    fake.answer = transacting(b"_\r\n")
    with pytest.raises(TransactionAborted, match="changed"):
        client().transaction().incr("a").execute().recv()


def test_an_error_inside_a_transaction(fake: FakeServer, client: Make) -> None:
    fake.answer = transacting(b"*2\r\n:1\r\n-ERR two\r\n")
    redis = client()
    with pytest.raises(ReplyError, match="ERR two"):
        redis.transaction().incr("a").incr("b").execute().recv()
    results = redis.transaction().incr("a").incr("b").execute(return_errors=True)
    assert results.recv() == [1, ReplyError("ERR two")]


def test_a_command_that_is_not_even_queued_is_named(fake: FakeServer, client: Make) -> None:
    fake.answer = lambda client, words: {
        b"MULTI": b"+OK\r\n",
        b"NOSUCH": b"-ERR unknown command 'NOSUCH'\r\n",
        b"EXEC": b"-EXECABORT Transaction discarded\r\n",
    }.get(words[0], b"+QUEUED\r\n")
    with pytest.raises(ReplyError, match="unknown command"):
        client().transaction().incr("a").command("NOSUCH").execute().recv()


def test_a_transaction_does_not_happen_if_the_watching_connection_is_gone(
    fake: FakeServer, client: Make
) -> None:
    redis = client()
    redis.watch("a").recv()
    fake.kick()
    while redis.connected:
        ae.sleep(0.001).recv()
    with pytest.raises(TransactionAborted, match="gone"):
        redis.transaction().incr("a").execute().recv()
    assert "MULTI" not in fake.commands
    fake.answer = transacting(b"*1\r\n:1\r\n")
    assert redis.transaction().incr("a").execute().recv() == [1]  # nothing is watched any more


def test_who_is_told_of_an_aborted_transaction_may_queue_and_close(
    fake: FakeServer, client: Make, trace: Trace
) -> None:
    redis = client()
    redis.watch("a").recv()
    fake.kick()
    while redis.connected:
        ae.sleep(0.001).recv()
    aborted = redis.transaction().incr("a").execute()
    behind = redis.get("behind")

    def told(reply: ae.CondVar[Any]) -> None:
        assert isinstance(reply.error, TransactionAborted)
        redis.get("later").on_ready(lambda reply: trace(type(reply.error).__name__))
        behind.on_ready(close)

    def close(reply: ae.CondVar[Any]) -> None:
        trace("behind")
        redis.close()

    aborted.on_ready(told)
    trace.run_until(2)
    assert trace == ["behind", "ClientClosed"]
    assert "GET behind" in fake.commands


def test_a_transaction_does_not_happen_if_watching_failed(fake: FakeServer, client: Make) -> None:
    fake.answer = lambda client, words: b"-NOPERM no\r\n"
    redis = client()
    with pytest.raises(ReplyError, match="NOPERM"):
        redis.watch("a").recv()
    with pytest.raises(TransactionAborted):
        redis.transaction().incr("a").execute().recv()


def test_unwatch_frees_the_next_transaction(fake: FakeServer, client: Make) -> None:
    fake.answer = transacting(b"*1\r\n:1\r\n")
    redis = client()
    redis.watch("a", "b").recv()
    redis.unwatch().recv()
    fake.kick()
    while redis.connected:
        ae.sleep(0.001).recv()
    assert redis.transaction().incr("a").execute().recv() == [1]
    assert "WATCH a b" in fake.commands
    assert "UNWATCH" in fake.commands


def test_watching_nothing_is_refused(client: Make) -> None:
    with pytest.raises(ValueError, match="expected at least one key"):
        client().watch()


# ---------------------------------------------------------------------- time-outs


def test_a_command_may_have_a_time_out_of_its_own(fake: FakeServer, client: Make) -> None:
    redis = client()
    redis.ping().recv()
    fake.answer = lambda client, words: None
    blocked = redis.command("BLPOP", "a", 0, timeout=0.05)
    behind = redis.get("b")
    with pytest.raises(ReplyTimedOut, match=r"within 0.05 s") as caught:
        blocked.recv()
    assert caught.value.maybe_executed
    with pytest.raises(ReplyTimedOut):
        behind.recv()
    fake.answer = lambda client, words: b"+OK\r\n"
    assert redis.ping().recv() == b"OK"
    assert fake.accepted == 2


def test_a_blocking_command_may_wait_longer_than_the_others(fake: FakeServer, client: Make) -> None:
    redis = client(timeout=0.05)
    redis.ping().recv()
    fake.answer = lambda client, words: None
    blocked = [
        redis.command("BLPOP", "a", 0, timeout=None),
        redis.pipeline().command("BLPOP", "b", 0).execute(timeout=None),
    ]
    ae.sleep(0.2).recv()
    (peer,) = fake.clients
    peer.push_write(b"+done\r\n+done\r\n")
    assert [reply.recv() for reply in blocked] == [b"done", [b"done"]]
    with pytest.raises(ReplyTimedOut):
        redis.get("c").recv()


@pytest.mark.parametrize(
    ("timeout", "kind"), [(0, ValueError), (-1, ValueError), ("1", TypeError), (True, TypeError)]
)
def test_what_is_no_time_out_is_refused(timeout: Any, kind: type[Exception], client: Make) -> None:
    with pytest.raises(kind, match="expected a timeout"):
        client().command("GET", "a", timeout=timeout)
    with pytest.raises(kind, match="expected a timeout"):
        client().pipeline().get("a").execute(timeout=timeout)


# ---------------------------------------------------------------------- the end


def test_close_ends_what_waits_and_what_comes_later(fake: FakeServer, client: Make) -> None:
    fake.answer = lambda client, words: None
    redis = client()
    sent = redis.get("a")
    while len(fake.commands) < 2:
        ae.sleep(0.001).recv()
    queued = redis.get("b")
    redis.close()
    redis.close()
    assert not sent.ready
    later = redis.get("c")
    for reply, maybe in ((sent, True), (queued, False), (later, False)):
        with pytest.raises(ClientClosed) as caught:
            reply.recv()
        assert caught.value.maybe_executed is maybe
    assert redis.pending == 0


def test_close_inside_a_callback_calls_no_other(
    fake: FakeServer, client: Make, trace: Trace
) -> None:
    redis = client()

    def close(reply: ae.CondVar[Any]) -> None:
        trace("closed")
        redis.close()

    redis.get("a").on_ready(close)
    second = redis.get("b")
    with pytest.raises(ClientClosed):
        second.recv()
    assert trace == ["closed"]


def test_a_client_that_is_dropped_finishes_what_it_was_asked(
    fake: FakeServer, client: Make
) -> None:
    fake.answer = numbered
    assert Redis(fake.url).get("a").recv() == b"a"
    reply = Redis(fake.url).pipeline().get("b").execute()
    gc.collect()
    assert reply.recv() == [b"b"]
    while fake.clients:  # and then it closes the connection
        ae.sleep(0.001).recv()


def test_an_idle_client_that_is_dropped_closes_its_connection(fake: FakeServer) -> None:
    redis = Redis(fake.url)
    redis.ping().recv()
    assert len(fake.clients) == 1
    del redis
    gc.collect()
    while fake.clients:
        ae.sleep(0.001).recv()


def test_a_client_as_context_manager_is_closed(fake: FakeServer) -> None:
    with Redis(fake.url) as redis:
        redis.ping().recv()
        assert redis.connected
    assert not redis.connected


def test_the_state_of_a_client_is_visible(fake: FakeServer, client: Make) -> None:
    redis = client()
    assert (redis.connected, redis.protocol, redis.pending) == (False, 0, 0)
    reply = redis.get("a")
    assert redis.pending == 1
    reply.recv()
    assert (redis.connected, redis.protocol, redis.pending) == (True, 3, 0)
    assert repr(redis) == f"<Redis 127.0.0.1:{fake.port} connected, 0 pending>"


def test_strings_are_decoded_on_request(fake: FakeServer, client: Make) -> None:
    fake.answer = lambda client, words: b"%1\r\n$2\r\n\xc3\xa4\r\n*2\r\n+\xff\r\n~1\r\n:1\r\n"
    assert client(encoding="utf-8").get("a").recv() == {"ä": ["\udcff", {1}]}


def test_what_the_server_says_unasked_goes_to_on_push(fake: FakeServer, trace: Trace) -> None:
    fake.answer = lambda client, words: b">2\r\n+invalidate\r\n*1\r\n+a\r\n+OK\r\n>1\r\n+b\r\n"
    with Redis(fake.url, on_push=lambda push: trace(repr(push))) as redis:
        assert redis.pipeline().get("x").get("y").execute().recv() == [b"OK", b"OK"]
        assert redis.get("z").recv() == b"OK"
    assert trace[:3] == ["[b'invalidate', [b'a']]", "[b'b']", "[b'invalidate', [b'a']]"]


def test_pushes_are_decoded_as_well(fake: FakeServer) -> None:
    told = ae.CondVar[Any]()
    fake.answer = lambda client, words: b">2\r\n+a\r\n*1\r\n+\xc3\xa4\r\n"
    with Redis(fake.url, encoding="utf-8", on_push=told) as redis:
        reply = redis.ping()
        assert told.recv() == ["a", ["ä"]]
        assert isinstance(told.recv(), Push)
        reply.cancel()


def test_large_values_go_out_whole(fake: FakeServer, client: Make) -> None:
    sizes: list[list[int]] = []

    def answer(client: Handle, words: list[bytes]) -> bytes:
        sizes.append([len(word) for word in words])
        return b"+OK\r\n"

    fake.answer = answer
    redis = client()
    replies = [redis.set("a", "x"), redis.set("b", b"y" * 300_000), redis.set("c", "z")]
    replies += [redis.set("d", b"y" * 100_000), redis.set("e", b"y" * 70_000)]
    assert [reply.recv() for reply in replies] == [b"OK"] * 5
    assert sizes == [[3, 1, size] for size in (1, 300_000, 1, 100_000, 70_000)]


# ---------------------------------------------------------------------- loops and threads


def test_a_client_goes_on_in_the_next_loop_of_its_thread(unbound: None, make: Make) -> None:
    redis = make()
    left: list[ae.CondVar[Any]] = []

    async def first() -> Any:
        left.append(redis.command("BLPOP", "nothing", 0))
        return await redis.clone().ping()

    async def second() -> Any:
        return await redis.ping()

    assert asyncio.run(first()) == asyncio.run(second()) == b"PONG"
    with pytest.raises(ConnectionLost, match="the loop of the connection has ended"):
        left[0].recv()
    asyncio.run(second())


def test_another_thread_is_refused(fake: FakeServer, client: Make) -> None:
    redis = client()
    redis.ping().recv()
    errors: list[BaseException] = []

    def elsewhere() -> None:
        for attempt in (redis.ping, redis.pipeline().ping().execute):
            try:
                attempt()
            except RuntimeError as error:
                errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert ["another thread" in str(error) for error in errors] == [True, True]
    assert redis.ping().recv() == b"OK"


def test_a_client_collected_in_another_thread_closes_its_connection(fake: FakeServer) -> None:
    box: list[Any] = [Redis(fake.url), Redis(fake.url).subscribe("a"), Redis(fake.url)]
    box[0].ping().recv()
    while fake.accepted < 2:
        ae.sleep(0.001).recv()
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join()
    while fake.clients:
        ae.sleep(0.001).recv()
