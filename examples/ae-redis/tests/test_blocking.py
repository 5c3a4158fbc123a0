"""Commands for which the server may wait: cancelled or timed out, they take nothing afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_core.abc import Backend
from ae_core.testing import Trace
from ae_redis import ClientClosed, ConnectionLost, Redis, ReplyTimedOut
from ae_redis._encode import encode_command, may_block
from ae_redis.testing import FakeServer

Make = Callable[..., Redis]

BLOCKING: dict[str, tuple[Any, ...]] = {
    "BLPOP": ("BLPOP", "jobs", 0),
    "BRPOP": ("brpop", b"jobs", b"0"),
    "BLMOVE": ("BLMOVE", "jobs", "other", "LEFT", "RIGHT", 0),
    "BRPOPLPUSH": ("BRPOPLPUSH", "jobs", "other", 0),
    "BLMPOP": (b"BlmPop", 0, 1, "jobs", "LEFT"),
    "XREAD": ("XREAD", "BLOCK", 0, "STREAMS", "stream", "$"),
    "BZPOPMIN": ("BZPOPMIN", "scores", 0),
    "BZPOPMAX": ("BZPOPMAX", "scores", 0),
    "WAIT": ("WAIT", 3, 0),
}


async def blocked(other: Redis) -> None:
    """Wait until the server says that somebody blocks."""
    while b"blocked_clients:1" not in await other.info("clients"):
        await ae.sleep(0.001)


async def offer(redis: Redis) -> list[int]:
    """Put a job everywhere where it could be taken, and return how many are there."""
    await redis.rpush("jobs", "job")
    await redis.zadd("scores", {"job": 1})
    await redis.command("XADD", "stream", "*", "job", 1)
    return [await redis.llen("jobs"), await redis.command("ZCARD", "scores")]


@pytest.mark.parametrize("timeout", ["default", None, 50.0])
@pytest.mark.parametrize("name", BLOCKING)
def test_a_cancelled_command_takes_nothing_afterwards(name: str, timeout: Any, make: Make) -> None:
    async def main() -> None:
        redis, other = make(timeout=60), make()
        mine = await redis.command("CLIENT", "ID")
        waiting = redis.command(*BLOCKING[name], timeout=timeout)
        await blocked(other)
        waiting.cancel()
        assert waiting.cancelled
        assert await redis.command("CLIENT", "ID") != mine
        assert await offer(other) == [1, 1]

    ae.run(main())


@pytest.mark.parametrize("timeout", ["default", None, 50.0])
def test_a_cancelled_pipeline_takes_nothing_afterwards(timeout: Any, make: Make) -> None:
    async def main() -> None:
        redis, other = make(timeout=60), make()
        waiting = redis.pipeline().incr("n").command("BLPOP", "jobs", 0).execute(timeout=timeout)
        await blocked(other)
        waiting.cancel()
        assert await redis.get("n") == b"1"
        assert await offer(other) == [1, 1]

    ae.run(main())


def test_a_command_that_has_timed_out_takes_nothing_afterwards(make: Make) -> None:
    async def main() -> None:
        redis, other = make(), make()
        with pytest.raises(ReplyTimedOut):
            await redis.command("BLPOP", "jobs", 0, timeout=0.05)
        with pytest.raises(ReplyTimedOut):
            await redis.pipeline().command("BLPOP", "jobs", 0).execute(timeout=0.05)
        assert await redis.ping() == b"PONG"
        while b"blocked_clients:0" not in await other.info("clients"):
            await ae.sleep(0.001)
        assert await offer(other) == [1, 1]

    ae.run(main())


def test_a_cancelled_command_on_every_backend(backend: Backend, make: Make) -> None:
    async def main() -> None:
        redis, other = make(timeout=60), make()
        waiting = redis.command("BLPOP", "jobs", 0, timeout=None)
        behind = redis.get("key")
        await blocked(other)
        waiting.cancel()
        after = redis.set("key", "value")
        assert await after == b"OK"
        with pytest.raises(ConnectionLost) as caught:
            await behind
        assert caught.value.maybe_executed
        assert await offer(other) == [1, 1]
        redis.close()
        other.close()

    ae.run(main())


# ---------------------------------------------------------------------- a scripted server


def until(condition: Callable[[], object]) -> None:
    while not condition():
        ae.sleep(0.001).recv()


@pytest.fixture
def silent(fake: FakeServer) -> FakeServer:
    """A server that does not answer BLPOP, nor what comes behind it."""

    def answer(client: Any, words: list[bytes]) -> bytes | None:
        if words[0] == b"BLPOP":
            stuck.add(client)
        return None if client in stuck else b"+OK\r\n"

    stuck: set[Any] = set()
    fake.answer = answer
    return fake


def test_what_was_sent_besides_is_lost_and_what_was_not_is_sent(
    silent: FakeServer, client: Make, trace: Trace
) -> None:
    redis = client()
    redis.get("before").recv()
    waiting = redis.command("BLPOP", "a", 0, timeout=None)
    sent = [redis.get("behind"), redis.pipeline().get("c").get("d").execute()]
    until(lambda: "GET d" in silent.commands)
    unsent = redis.get("unsent")
    for reply in sent:
        reply.on_ready(lambda reply: trace("lost"))
    waiting.cancel()
    trace("cancelled")
    later = redis.get("later")
    assert unsent.recv() == later.recv() == b"OK"
    assert trace == ["cancelled", "lost", "lost"]  # not inside the call
    for reply in sent:
        assert isinstance(reply.error, ConnectionLost)
        assert reply.error.maybe_executed
        assert "was cancelled" in str(reply.error)
    assert silent.accepted == 2
    assert silent.commands.count("GET behind") == 1
    assert silent.commands[-2:] == ["GET unsent", "GET later"]


def test_what_is_cancelled_before_it_is_sent_disturbs_nobody(
    silent: FakeServer, client: Make
) -> None:
    redis = client()
    redis.ping().recv()
    waiting = redis.command("BLPOP", "a", 0, timeout=None)
    behind = redis.get("b")
    waiting.cancel()
    assert behind.recv() == b"OK"
    assert silent.accepted == 1
    assert not any(command.startswith("BLPOP") for command in silent.commands)


def test_what_does_not_block_is_only_not_listened_to(fake: FakeServer, client: Make) -> None:
    fake.answer = lambda client, words: b"+OK\r\n" * 4 if words[-1] == b"d" else None
    redis = client()
    replies = [
        redis.get("a"),
        redis.command("XREAD", "STREAMS", "s", "0"),
        redis.pipeline().get("b").execute(),
    ]
    until(lambda: "GET b" in fake.commands)
    for reply in replies:
        reply.cancel()
    assert redis.get("d").recv() == b"OK"
    assert fake.accepted == 1


def test_giving_up_again_and_again_needs_no_pause(silent: FakeServer, client: Make) -> None:
    redis = client(max_delay=60.0)
    for number in range(1, 20):
        waiting = redis.command("BLPOP", "a", 0, timeout=None)
        until(lambda number=number: len(silent.commands) == 2 * number)  # type: ignore[misc]
        waiting.cancel()
    assert redis.get("b").recv() == b"OK"
    assert silent.accepted == 20


def test_a_client_may_be_closed_in_the_same_turn(silent: FakeServer, client: Make) -> None:
    redis = client()
    waiting = redis.command("BLPOP", "a", 0, timeout=None)
    behind = redis.get("b")
    until(lambda: "GET b" in silent.commands)
    waiting.cancel()
    redis.close()
    with pytest.raises(ClientClosed) as caught:
        behind.recv()
    assert caught.value.maybe_executed


def test_replies_that_have_arrived_are_given_out(fake: FakeServer, client: Make) -> None:
    fake.answer = lambda client, words: (
        None
        if words[0] == b"GET"
        else b"+1\r\n+2\r\n+3\r\n"
        if words[0] == b"BLPOP"
        else b"+OK\r\n"
    )
    redis = client()
    redis.ping().recv()
    first = redis.get("a")
    second = redis.get("b")
    waiting = redis.command("BLPOP", "c", 0, timeout=None)
    first.on_ready(lambda _: waiting.cancel())
    assert (first.recv(), second.recv()) == (b"1", b"2")
    assert waiting.cancelled
    assert redis.ping().recv() == b"OK"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        *((command, True) for command in BLOCKING.values()),
        (("XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "BLOCK", 0, "STREAMS", "s", ">"), True),
        (("xread", b"block", 0, "STREAMS", "s", "$"), True),
        (("XREAD", "STREAMS", "s", "0"), False),
        (("GET", "BLPOP"), False),
        (("LPOP", "a"), False),
        (("EVAL", "return 1", 0), False),
    ],
)
def test_which_commands_may_block(command: Any, expected: bool) -> None:
    name, *arguments = command
    encode_command(name, tuple(arguments))
    assert may_block(name, tuple(arguments)) is expected
