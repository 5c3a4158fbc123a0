"""Subscriptions that a server refuses, for the moment or for good, wholly or in part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import Trace
from ae_handle import Handle
from ae_redis import Message, Redis, RedisError, ReplyError, Subscription
from ae_redis.testing import FakeServer

Make = Callable[..., Redis]
Subscribe = Callable[..., Subscription]

ways = pytest.mark.parametrize("protocol", [2, 3])


def until(condition: Callable[[], object]) -> None:
    while not condition():
        ae.sleep(0.001).recv()


class Scripted:
    """A server that confirms what it is told to, and publishes when a test wants it."""

    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake
        fake.answer = self.answer

    def answer(self, client: Handle, words: list[bytes]) -> bytes | None:
        if words[0] == b"PING":
            return b"+PONG\r\n"
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


PASSING = [
    b"-LOADING Redis is loading the dataset in memory",
    b"-BUSY Redis is busy running a script",
    b"-MASTERDOWN Link with MASTER is down",
    b"-TRYAGAIN Multiple keys request during rehashing of slot",
    b"-CLUSTERDOWN The cluster is down",
    b"-ERR max number of clients reached",
    b"-ERR max number of clients + cluster connections reached",
]


class Refusing(Scripted):
    """Says no to one verb, so many times, from the *first* connection on."""

    def __init__(self, fake: FakeServer, verb: str, error: bytes, first: int, times: int) -> None:
        super().__init__(fake)
        fake.greets = False
        self.refusals = dict.fromkeys(range(first, first + times), error)
        self.verb = verb.encode()

    def answer(self, client: Handle, words: list[bytes]) -> bytes | None:
        error = self.refusals.get(self.fake.accepted)
        if words[0] == self.verb and error is not None:
            return error + b"\r\n"
        if words[0] == b"HELLO":
            return b"%1\r\n+server\r\n+fake\r\n"
        if words[0] in (b"SELECT", b"AUTH", b"CLIENT"):
            return b"+OK\r\n"
        return super().answer(client, words)


VERBS = [("HELLO", None), ("SELECT", None), ("SUBSCRIBE", None), ("AUTH", 2), ("PING", 2)]


@pytest.mark.parametrize("error", PASSING)
@pytest.mark.parametrize(("verb", "protocol"), VERBS)
def test_a_subscription_outlives_a_refusal_that_passes(
    verb: str, protocol: Any, error: bytes, fake: FakeServer, subscribe: Subscribe, trace: Trace
) -> None:
    server = Refusing(fake, verb, error, 2, 3)
    given = {"timeout": 60, "db": 1, "protocol": protocol, "attempts": 2, "max_delay": 0.01}
    if verb == "AUTH":
        given["password"] = "x"
    subscription = subscribe(given, on_reconnect=lambda subscription: trace("again"))
    subscription.confirmed().recv()
    fake.kick()
    until(lambda: subscription.reconnects)
    subscription.confirmed().recv()
    server.publish(b"there")
    assert subscription.next().recv().data == b"there"
    assert (fake.accepted, subscription.reconnects, trace) == (5, 1, ["again"])


@pytest.mark.parametrize(("verb", "protocol"), VERBS)
def test_the_first_attempts_are_counted(
    verb: str, protocol: Any, fake: FakeServer, subscribe: Subscribe
) -> None:
    for times, attempts in ((2, 3), (3, 3)):
        before = fake.accepted
        Refusing(fake, verb, PASSING[0], before + 1, times)
        given = {"timeout": 60, "db": 1, "protocol": protocol, "max_delay": 0.01}
        if verb == "AUTH":
            given["password"] = "x"
        subscription = subscribe({**given, "attempts": attempts})
        if times < attempts:
            subscription.confirmed().recv()
        else:
            with pytest.raises(ReplyError, match="LOADING") as caught:
                subscription.confirmed().recv()
            assert type(caught.value) is ReplyError
        assert fake.accepted - before == 3
        subscription.cancel()


class Guarded(Scripted):
    """Does not let anybody have some channels."""

    refused: tuple[bytes, ...] = (b"secret",)

    def answer(self, client: Handle, words: list[bytes]) -> bytes | None:
        if words[0] != b"UNSUBSCRIBE" and any(word in self.refused for word in words[1:]):
            return b"-NOPERM this user has no permissions to access one of the channels\r\n"
        return super().answer(client, words)


def test_a_channel_that_is_refused_ends_only_itself(fake: FakeServer, subscribe: Subscribe) -> None:
    server = Guarded(fake)
    subscription = subscribe()
    confirmed = subscription.confirmed()
    added = subscription.add("b")
    refused = subscription.add("secret")
    with pytest.raises(ReplyError, match="NOPERM"):
        refused.recv()
    confirmed.recv()
    added.recv()
    subscription.confirmed().recv()
    server.publish(b"1")
    assert subscription.next().recv().data == b"1"
    server.publish(b"2", channel=b"b")
    assert subscription.next().recv().data == b"2"
    with pytest.raises(ReplyError, match="NOPERM"):
        subscription.add("c", "secret", "d").recv()
    subscription.confirmed().recv()
    server.publish(b"3", channel=b"c")
    assert subscription.next().recv().data == b"3"
    assert fake.accepted == 1
    fake.kick()
    until(lambda: subscription.reconnects)
    subscription.confirmed().recv()
    assert not any("secret" in command for command in fake.commands[-2:])


def test_one_of_several_is_found_that_is_refused(fake: FakeServer) -> None:
    server = Guarded(fake)
    with Redis(fake.url).subscribe("x", "secret", "y", patterns=["p*"]) as subscription:
        with pytest.raises(ReplyError, match="NOPERM"):
            subscription.confirmed().recv()
        subscription.confirmed().recv()
        server.publish(b"1", channel=b"y")
        assert subscription.next().recv().data == b"1"


@pytest.mark.parametrize("told", [True, False])
def test_a_channel_that_is_refused_later_is_told_where_nobody_waits(
    told: bool, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Guarded(fake)
    server.refused = ()
    errors: list[BaseException] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: errors.append(error))
    on_error = (lambda subscription, error: errors.append(error)) if told else None
    messages: list[Message] = []
    with Redis(fake.url).subscribe(
        "a", "b", on_message=lambda _, message: messages.append(message), on_error=on_error
    ) as subscription:
        subscription.confirmed().recv()
        server.refused = (b"a",)
        fake.kick()
        until(lambda: errors)
        assert [str(error)[:6] for error in errors] == ["NOPERM"]
        subscription.confirmed().recv()
        server.publish(b"1", channel=b"b")
        until(lambda: messages)


def test_all_channels_refused_is_the_end(fake: FakeServer) -> None:
    server = Guarded(fake)
    server.refused = (b"a", b"b", b"p")
    with Redis(fake.url).subscribe("a", "b", patterns=["p"]) as subscription:
        waiting: list[ae.CondVar[Any]] = [subscription.next(), subscription.confirmed()]
        for condvar in waiting:
            with pytest.raises(ReplyError, match="NOPERM"):
                condvar.recv()
        with pytest.raises(ReplyError, match="NOPERM"):
            subscription.next().recv()
    assert fake.accepted == 1


@ways
def test_a_real_server_refuses_a_channel(make: Make, protocol: Any) -> None:
    admin = make()
    rules = ("on", ">pw", "+@all", "~*", "resetchannels", "&open*")
    admin.command("ACL", "SETUSER", "limited", *rules).recv()
    redis = make(username="limited", password="pw", protocol=protocol)
    with redis.subscribe("open1") as subscription:
        subscription.confirmed().recv()
        with pytest.raises(ReplyError, match="NOPERM"):
            subscription.add("closed", "open2").recv()
        with pytest.raises(ReplyError, match="NOPERM"):
            subscription.add(patterns=["*"]).recv()
        subscription.confirmed().recv()
        for channel in ("closed", "open1", "open2"):
            admin.publish(channel, channel).recv()
        assert [subscription.next().recv().data for _ in range(2)] == [b"open1", b"open2"]
        subscription.remove("open1")
        subscription.confirmed().recv()
    admin.command("ACL", "DELUSER", "limited").recv()


@ways
def test_a_real_server_with_too_many_clients(make: Make, protocol: Any) -> None:
    admin = make()
    subscription = make(protocol=protocol, max_delay=0.05).subscribe("news")
    subscription.confirmed().recv()
    before = admin.command("CONFIG", "GET", "maxclients").recv()
    admin.command("CONFIG", "SET", "maxclients", 1).recv()
    stats = admin.info("stats").recv()
    admin.command("CLIENT", "KILL", "TYPE", "pubsub").recv()

    def rejected(text: bytes) -> int:
        return int(text.partition(b"rejected_connections:")[2].split()[0])

    while rejected(admin.info("stats").recv()) < rejected(stats) + 4:
        ae.sleep(0.01).recv()
    command = make(attempts=2, max_delay=0.01).ping()
    with pytest.raises(RedisError) as caught:  # plain commands count attempts, and then fail
        command.recv()
    assert not caught.value.maybe_executed
    waiting = make(attempts=1000, max_delay=0.02).ping()
    limit = before[b"maxclients"] if isinstance(before, dict) else before[1]
    admin.command("CONFIG", "SET", "maxclients", limit).recv()
    assert waiting.recv() == b"PONG"
    until(lambda: subscription.reconnects)
    subscription.confirmed().recv()
    admin.publish("news", "x").recv()
    assert subscription.next().recv().data == b"x"
    subscription.cancel()
