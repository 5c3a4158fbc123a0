"""Subscriptions: a real server in both protocols, and a scripted one for what goes wrong."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import Trace
from ae_handle import Handle
from ae_redis import (
    AuthenticationFailed,
    CannotConnect,
    ClientClosed,
    Message,
    ProtocolError,
    Redis,
    RedisError,
    ReplyError,
    Subscription,
)
from ae_redis._subscriber import Subscriber
from ae_redis.testing import FakeServer

Make = Callable[..., Redis]

ways = pytest.mark.parametrize("protocol", [2, 3])


def until(condition: Callable[[], object]) -> None:
    while not condition():
        ae.sleep(0.001).recv()


# ---------------------------------------------------------------------- a real server


@ways
def test_channels_and_patterns(make: Make, protocol: Any) -> None:
    redis = make(protocol=protocol)
    with redis.subscribe("news", "odd\r\n", patterns=["weather.*"]) as subscription:
        subscription.confirmed().recv()
        assert redis.publish("weather.vienna", b"\0sun\r\n").recv() == 1
        assert redis.publish("odd\r\n", "x").recv() == 1
        assert redis.publish("other", "y").recv() == 0
        assert redis.publish("news", "z").recv() == 1
        assert [subscription.next().recv() for _ in range(3)] == [
            Message(b"weather.vienna", b"\0sun\r\n", b"weather.*"),
            Message(b"odd\r\n", b"x"),
            Message(b"news", b"z"),
        ]


@ways
def test_adding_and_removing(make: Make, protocol: Any) -> None:
    redis = make(protocol=protocol)
    with redis.subscribe("a") as subscription:
        subscription.add("b", "a", patterns=["p*"]).recv()
        redis.publish("b", 1).recv()
        assert subscription.next().recv().data == b"1"
        subscription.remove("a", "none", patterns=["p*"])
        subscription.confirmed().recv()
        redis.publish("p1", 2).recv()
        redis.publish("b", 3).recv()
        assert subscription.next().recv().data == b"3"
        until(lambda: redis.publish("a", 4).recv() == 0)


@ways
def test_messages_go_to_a_callback(make: Make, trace: Trace, protocol: Any) -> None:
    redis = make(protocol=protocol)
    done = ae.CondVar[None]()

    def got(subscription: Subscription, message: Message) -> None:
        trace(message.data.decode())
        if message.data == b"2":
            subscription.cancel()
            done.send()

    subscription = redis.subscribe("news", on_message=got)
    subscription.confirmed().recv()
    for number in range(1, 5):
        redis.publish("news", number)
    done.recv()
    until(lambda: not redis.pending)
    assert trace == ["1", "2"]
    with pytest.raises(RuntimeError, match="go to on_message"):
        subscription.next()


def test_messages_are_decoded_on_request(make: Make) -> None:
    redis = make(encoding="utf-8")
    with redis.subscribe("ä", patterns=["ö*"]) as subscription:
        subscription.confirmed().recv()
        redis.publish("ä", "ü").recv()
        redis.publish("ö1", b"\xff").recv()
        assert subscription.next().recv() == Message("ä", "ü")
        assert subscription.next().recv() == Message("ö1", "\udcff", "ö*")


def test_a_loop_over_messages_ends_with_the_subscription(make: Make) -> None:
    redis = make()

    async def main() -> list[bytes]:
        subscription = redis.subscribe("news")
        await subscription.confirmed()
        for number in range(3):
            await redis.publish("news", number)
        got = []
        async for message in subscription:
            got.append(message.data)
            if len(got) == 3:
                ae.postpone(subscription.cancel)
        return got

    assert ae.run(main()) == [b"0", b"1", b"2"]


def test_many_messages_arrive_in_order(make: Make) -> None:
    redis = make()
    with redis.subscribe("news", max_unread=100) as subscription:
        subscription.confirmed().recv()
        pipeline = redis.pipeline()
        for number in range(20_000):
            pipeline.publish("news", number)
        sent = pipeline.execute()
        for number in range(20_000):
            assert subscription.next().recv().data == b"%d" % number
        assert set(sent.recv()) == {1}


def test_a_killed_connection_is_made_again(make: Make, trace: Trace) -> None:
    redis = make()
    subscription = redis.subscribe("news", on_reconnect=lambda subscription: trace("again"))
    subscription.confirmed().recv()
    assert redis.command("CLIENT", "KILL", "TYPE", "pubsub").recv() == 1
    until(lambda: subscription.reconnects)
    subscription.confirmed().recv()
    redis.publish("news", "x").recv()
    assert subscription.next().recv().data == b"x"
    assert trace == ["again"]
    subscription.cancel()


# ---------------------------------------------------------------------- a scripted server


class Scripted:
    """A server that confirms what it is told to, and publishes when a test wants it."""

    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake
        self.alive = True
        fake.answer = self.answer

    def answer(self, client: Handle, words: list[bytes]) -> bytes | None:
        if words[0] == b"PING":
            return b"+PONG\r\n" if self.alive else None
        kind = words[0].lower()
        return b"".join(
            b">3\r\n+%b\r\n$%d\r\n%b\r\n:1\r\n" % (kind, len(name), name) for name in words[1:]
        )

    def publish(self, *data: bytes, channel: bytes = b"a") -> None:
        (client,) = self.fake.clients
        client.push_write(
            b"".join(
                b">3\r\n+message\r\n+%b\r\n$%d\r\n%b\r\n" % (channel, len(each), each)
                for each in data
            )
        )


@pytest.fixture
def scripted(fake: FakeServer) -> Scripted:
    return Scripted(fake)


@pytest.fixture
def subscribe(fake: FakeServer) -> Iterator[Callable[..., Subscription]]:
    made: list[Subscription] = []

    def subscribe(settings: dict[str, Any] | None = None, **options: Any) -> Subscription:
        given: dict[str, Any] = settings or {"timeout": 60}
        redis = Redis(fake.url, **given)
        made.append(redis.subscribe("a", **options))
        return made[-1]

    yield subscribe
    for each in made:
        each.cancel()


Subscribe = Callable[..., Subscription]


def test_nothing_happens_inside_a_call(
    scripted: Scripted, subscribe: Subscribe, trace: Trace
) -> None:
    subscription = subscribe()
    subscription.confirmed().on_ready(lambda _: trace("confirmed"))
    trace("asked")
    subscription.confirmed().recv()
    scripted.publish(b"1", b"2")
    assert subscription.next().recv().data == b"1"
    subscription.next().on_ready(lambda _: trace("next"))
    trace("asked")
    subscription.confirmed().on_ready(lambda _: trace("confirmed"))
    trace("asked")
    trace.run_until(6)
    assert trace == ["asked", "confirmed", "asked", "asked", "next", "confirmed"]


def test_a_server_is_read_no_further_than_somebody_reads(
    scripted: Scripted, subscribe: Subscribe
) -> None:
    subscription = subscribe(max_unread=10)
    subscription.confirmed().recv()
    scripted.publish(*[b"x"] * 10)
    until(lambda: subscription.unread == 10)
    for _ in range(3):
        scripted.publish(b"x" * 50_000)
        ae.sleep(0.005).recv()
    assert subscription.unread == 10
    for _ in range(13):
        subscription.next().recv()
    assert subscription.unread == 0


def test_a_cancelled_request_leaves_the_message_to_the_next(
    scripted: Scripted, subscribe: Subscribe
) -> None:
    subscription = subscribe()
    first, second = subscription.next(), subscription.next()
    first.cancel()
    subscription.confirmed().recv()
    scripted.publish(b"1")
    assert second.recv().data == b"1"


def test_who_is_cancelled_while_waiting_loses_no_message(
    scripted: Scripted, subscribe: Subscribe
) -> None:
    subscription = subscribe()

    async def limited(seconds: float | None) -> Any:
        async with ae.timeout(seconds):
            return (await subscription.next()).data

    async def main() -> list[Any]:
        await subscription.confirmed()
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await limited(0.01)
        scripted.publish(b"1", b"2")
        return [await limited(None), await limited(None)]

    assert ae.run(main()) == [b"1", b"2"]


def test_a_message_that_was_delivered_and_not_taken_goes_to_the_next(
    scripted: Scripted, subscribe: Subscribe, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = subscribe()
    task = ae.spawn(_next(subscription))
    original = Subscriber._serve

    def serve(subscriber: Subscriber) -> None:
        waiting = [*subscriber.readers]
        original(subscriber)
        if any(each.ready for each in waiting):  # and its awaiter does not have it yet
            task.cancel()

    monkeypatch.setattr(Subscriber, "_serve", serve)
    subscription.confirmed().recv()
    scripted.publish(b"1", b"2")
    with pytest.raises(ae.CancelledError):
        task.recv()
    assert [subscription.next().recv().data for _ in range(2)] == [b"1", b"2"]


async def _next(subscription: Subscription) -> Message:
    return await subscription.next()


@pytest.mark.parametrize("what", ["a message", "a confirmation"])
def test_who_waits_no_more_does_not_keep_it_alive(
    scripted: Scripted, fake: FakeServer, what: str
) -> None:
    subscription = Redis(fake.url).subscribe("a")
    subscription.confirmed().recv()
    fake.answer = lambda client, words: b""  # so that no confirmation ends the wait
    waiting: ae.CondVar[Any]
    waiting = subscription.next() if what == "a message" else subscription.add("b")
    ae.sleep(0).recv()
    waiting.cancel()
    del subscription, waiting
    gc.collect()
    until(lambda: not fake.clients)


def test_a_channel_that_is_not_wanted_any_more_is_dropped(
    scripted: Scripted, subscribe: Subscribe
) -> None:
    subscription = subscribe()
    subscription.add("b").recv()
    subscription.remove("a")
    scripted.publish(b"old", channel=b"a")
    scripted.publish(b"new", channel=b"b")
    assert subscription.next().recv().data == b"new"


def test_all_channels_are_wanted_again_after_a_loss(
    scripted: Scripted, subscribe: Subscribe, fake: FakeServer
) -> None:
    subscription = subscribe(patterns=["p*"])
    subscription.add("b").recv()
    fake.kick()
    until(lambda: subscription.reconnects == 1)
    subscription.confirmed().recv()
    assert fake.commands[-3:] == ["HELLO 3", "SUBSCRIBE a b", "PSUBSCRIBE p*"]


def test_what_was_confirmed_on_a_lost_connection_is_not_confirmed(
    scripted: Scripted, subscribe: Subscribe, fake: FakeServer
) -> None:
    subscription = subscribe()
    subscription.confirmed().recv()
    fake.answer = lambda client, words: None
    fake.kick()
    until(lambda: fake.commands.count("SUBSCRIBE a") == 2)
    confirmed = subscription.confirmed()
    ae.sleep(0.02).recv()
    assert not confirmed.ready
    (client,) = fake.clients
    client.push_write(b">3\r\n+subscribe\r\n+a\r\n:1\r\n")
    confirmed.recv()


def test_a_server_that_drops_us_each_time_is_not_stormed(
    fake: FakeServer, subscribe: Subscribe
) -> None:
    fake.answer = lambda client, words: client.destroy()
    subscription = subscribe({"timeout": 60, "max_delay": 1000.0})
    ae.sleep(0.5).recv()
    assert 2 <= subscription.reconnects + 1 <= 6  # 0, 0.025-0.05, 0.05-0.1, 0.1-0.2 s ...


def test_a_silent_server_is_asked_for_a_sign_of_life(
    scripted: Scripted, subscribe: Subscribe, fake: FakeServer
) -> None:
    subscription = subscribe({"timeout": 0.05})
    subscription.confirmed().recv()
    until(lambda: fake.commands.count("PING") == 3)
    assert subscription.reconnects == 0
    scripted.alive = False
    until(lambda: subscription.reconnects == 1)


def test_time_in_which_we_could_not_listen_does_not_count(
    scripted: Scripted, subscribe: Subscribe, fake: FakeServer
) -> None:
    subscription = subscribe({"timeout": 0.05})

    def answer(client: Handle, words: list[bytes]) -> bytes | None:
        if words[0] == b"PING":
            threading.Event().wait(0.12)  # the server is in this process: so are we kept waiting
        return scripted.answer(client, words)

    fake.answer = answer
    until(lambda: fake.commands.count("PING") == 3)
    assert subscription.reconnects == 0


def test_a_refused_subscription_ends_it(fake: FakeServer, subscribe: Subscribe) -> None:
    fake.answer = lambda client, words: b"-NOPERM not yours\r\n"
    subscription = subscribe()
    waiting: list[ae.CondVar[Any]] = [subscription.next(), subscription.confirmed()]
    for condvar in waiting:
        with pytest.raises(ReplyError, match="NOPERM"):
            condvar.recv()
    with pytest.raises(ReplyError, match="NOPERM"):
        subscription.next().recv()
    assert fake.accepted == 1


def test_who_is_not_let_in_is_told(fake: FakeServer, subscribe: Subscribe) -> None:
    fake.greets = False
    fake.answer = lambda client, words: b"-WRONGPASS no\r\n"
    told = ae.CondVar[Any]()
    subscription = subscribe(
        {"password": "x"},
        on_message=lambda subscription, message: None,
        on_error=lambda subscription, error: told.send((subscription, error)),
    )
    who, error = told.recv()
    assert who is subscription
    assert type(error) is AuthenticationFailed


def test_an_exception_in_on_error_is_reported(
    fake: FakeServer, subscribe: Subscribe, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = ae.CondVar[BaseException]()
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: told.send(error))
    fake.answer = lambda client, words: b"-NOPERM no\r\n"

    def fail(subscription: Subscription, error: RedisError) -> None:
        raise LookupError(str(error))

    kept = subscribe(on_error=fail)
    assert repr(told.recv()) == "LookupError('NOPERM no')"
    kept.cancel()


def test_an_error_that_nobody_waits_for_is_reported(
    fake: FakeServer, subscribe: Subscribe, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = ae.CondVar[BaseException]()
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: told.send(error))
    fake.refuses = True
    kept = subscribe(
        {"attempts": 2, "max_delay": 0.01}, on_message=lambda subscription, message: None
    )
    assert isinstance(told.recv(), CannotConnect)
    assert fake.accepted == 2
    kept.cancel()


def test_nonsense_in_the_middle_is_survived(
    scripted: Scripted, subscribe: Subscribe, fake: FakeServer
) -> None:
    subscription = subscribe()
    subscription.confirmed().recv()
    (client,) = fake.clients
    client.push_write(b">1\r\n+x\r\n>2\r\n+message\r\n:1\r\n:5\r\n>3\r\n:1\r\n:2\r\n:3\r\n")
    scripted.publish(b"good")
    assert subscription.next().recv().data == b"good"
    client.push_write(b"nonsense\r\n")
    until(lambda: subscription.reconnects)


def test_an_exception_in_a_callback_does_not_end_it(
    scripted: Scripted, subscribe: Subscribe, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: told.append(str(error)))

    def got(subscription: Subscription, message: Message) -> None:
        raise KeyError(message.data)

    subscription = subscribe(on_message=got)
    subscription.confirmed().recv()
    scripted.publish(b"1", b"2")
    until(lambda: len(told) == 2)
    assert told == ["b'1'", "b'2'"]


def test_cancelling_ends_what_waits(scripted: Scripted, subscribe: Subscribe) -> None:
    subscription = subscribe()
    waiting: list[ae.CondVar[Any]] = [subscription.next(), subscription.confirmed()]
    subscription.cancel()
    subscription.cancel()
    assert not any(condvar.ready for condvar in waiting)
    for condvar in [*waiting, subscription.next(), subscription.confirmed()]:
        with pytest.raises(ClientClosed, match="the subscription has ended"):
            condvar.recv()


def test_a_subscription_that_is_dropped_ends(scripted: Scripted, fake: FakeServer) -> None:
    subscription = Redis(fake.url).subscribe("a")
    subscription.confirmed().recv()
    del subscription
    gc.collect()
    until(lambda: not fake.clients)


def test_somebody_who_waits_keeps_it_alive(scripted: Scripted, fake: FakeServer) -> None:
    waiting = Redis(fake.url).subscribe("a").next()
    gc.collect()
    until(lambda: len(fake.commands) == 2)
    scripted.publish(b"1")
    assert waiting.recv().data == b"1"
    del waiting
    gc.collect()
    until(lambda: not fake.clients)


def test_it_is_a_context_manager(scripted: Scripted, fake: FakeServer) -> None:
    with Redis(fake.url).subscribe("a") as subscription:
        subscription.confirmed().recv()
    until(lambda: not fake.clients)


@pytest.mark.parametrize(
    ("arguments", "options", "kind"),
    [
        ((), {}, ValueError),
        (("a",), {"patterns": "p*"}, TypeError),
        (("a",), {"max_unread": 0}, ValueError),
        (("a",), {"on_message": 1}, TypeError),
        ((None,), {}, TypeError),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: Any, options: Any, kind: type[Exception], fake: FakeServer
) -> None:
    with pytest.raises(kind, match="expected"):
        Redis(fake.url).subscribe(*arguments, **options)
    assert fake.accepted == 0


def test_the_errors_are_one_family() -> None:
    assert issubclass(ProtocolError, RedisError)
    assert issubclass(ClientClosed, ae.AEError)
