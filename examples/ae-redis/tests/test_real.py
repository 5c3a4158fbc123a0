"""Against a real redis-server, on every backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ae_core as ae
from ae_core.abc import Backend
from ae_handle.testing import lingering
from ae_redis import (
    AuthenticationFailed,
    CannotConnect,
    Redis,
    ReplyError,
    ReplyTimedOut,
    TransactionAborted,
)

Make = Callable[..., Redis]

ways = pytest.mark.parametrize("protocol", [2, 3])


# ---------------------------------------------------------------------- on every backend


def test_the_main_paths(backend: Backend, redis_server: Any, make: Make) -> None:
    async def main() -> None:
        redis = make()
        assert await redis.set("key", b"\r\n\0\xff") == b"OK"
        assert await redis.get("key") == b"\r\n\0\xff"
        replies = [redis.incr("n") for _ in range(100)]
        assert [await reply for reply in replies] == list(range(1, 101))
        results = await redis.pipeline().rpush("l", 1, 2).lrange("l").get("none").execute()
        assert results == [2, [b"1", b"2"], None]
        assert await redis.transaction().incr("n").incr("n").execute() == [101, 102]
        with pytest.raises(ReplyError, match="WRONGTYPE"):
            await redis.get("l")
        cancelled = redis.incr("n")
        cancelled.cancel()
        assert await redis.get("n") == b"102"
        redis.close()

    ae.run(main())


def test_messages_on_every_backend(backend: Backend, make: Make) -> None:
    async def main() -> list[Any]:
        redis = make()
        with redis.subscribe("news") as subscription:
            await subscription.confirmed()
            for number in range(3):
                assert await redis.publish("news", number) == 1
            got = [(await subscription.next()).data for _ in range(3)]
        redis.close()
        return got

    assert ae.run(main()) == [b"0", b"1", b"2"]


def test_a_lost_connection_on_every_backend(backend: Backend, make: Make) -> None:
    async def main() -> None:
        redis, other = make(), make()
        mine = await redis.command("CLIENT", "ID")
        blocked = redis.command("BLPOP", "nothing", 0, timeout=None)
        while b"blpop" not in await other.command("CLIENT", "LIST", "ID", mine):
            await ae.sleep(0.001)
        await other.command("CLIENT", "KILL", "ID", mine)
        with pytest.raises(OSError, match=r"closed the connection|broke") as caught:
            await blocked
        assert caught.value.maybe_executed  # type: ignore[attr-defined]
        assert await redis.ping() == b"PONG"
        with pytest.raises(ReplyTimedOut):
            await redis.command("BLPOP", "nothing", 0, timeout=0.02)
        redis.close()
        other.close()

    ae.run(main())


@pytest.mark.blocking
def test_all_styles_at_once(backend: Backend, make: Make) -> None:
    redis = make()
    called: list[bytes] = []
    redis.set("a", 1).recv()
    redis.get("a").on_ready(lambda reply: called.append(reply.recv()))

    async def task() -> bytes:
        value: bytes = await redis.get("a")
        return value

    spawned = ae.spawn(task())
    assert redis.get("a").recv() == b"1"
    assert spawned.recv() == b"1"
    assert called == [b"1"]
    redis.close()


def test_tls_and_a_password_on_every_backend(backend: Backend, secure_server: Any) -> None:
    import ae_tls

    async def main() -> None:
        context = ae_tls.Context(ca_file=secure_server.ca_file)
        url = f"rediss://127.0.0.1:{secure_server.port}"
        with Redis(url, tls_context=context, password=secure_server.password) as redis:
            assert await redis.set("a", b"x" * 300_000) == b"OK"
            assert await redis.get("a") == b"x" * 300_000
        while lingering():  # TLS takes its leave
            await ae.sleep(0.001)

    ae.run(main())


# ---------------------------------------------------------------------- protocols and transports


@ways
def test_all_sorts_of_replies(make: Make, protocol: Any) -> None:
    redis = make(protocol=protocol)
    redis.hset("h", {"f": 1, "g": b"\r\n"}).recv()
    redis.sadd("s", "a", "b").recv()
    redis.zadd("z", {"m": 1.5}).recv()
    assert redis.protocol == protocol
    got = redis.hgetall("h").recv(), redis.smembers("s").recv(), redis.zscore("z", "m").recv()
    if protocol == 3:
        assert got == ({b"f": b"1", b"g": b"\r\n"}, {b"a", b"b"}, 1.5)
    else:
        assert (got[0], sorted(got[1]), got[2]) == (
            [b"f", b"1", b"g", b"\r\n"],
            [b"a", b"b"],
            b"1.5",
        )
    assert redis.get("none").recv() is None
    assert redis.eval("return {1, {'a', false}}").recv() == [1, [b"a", None]]
    assert redis.eval("return KEYS[1] .. ARGV[1]", ["k"], ["v"]).recv() == b"kv"
    assert redis.command("DEBUG", "SLEEP", 0).error is None


def test_resp3_types_of_a_real_server(make: Make) -> None:
    redis = make()

    def debug(kind: str) -> Any:
        return redis.command("DEBUG", "PROTOCOL", kind).recv()

    assert debug("string") == b"Hello World"
    assert debug("integer") == 12345
    assert debug("double") == 3.141
    assert debug("null") is None
    assert debug("array") == [0, 1, 2]
    assert debug("set") == {0, 1, 2}
    assert debug("map") == {0: False, 1: True, 2: False}
    assert debug("bignum") == 1234567999999999999999999999999999999
    assert debug("true") is True
    assert debug("false") is False
    assert debug("verbatim") == b"This is a verbatim\nstring"
    assert debug("attrib") == b"Some real reply following the attribute"


@ways
def test_what_the_methods_do(make: Make, protocol: Any) -> None:
    redis = make(protocol=protocol)
    steps: list[tuple[Any, Any]] = [
        (redis.echo("x"), b"x"),
        (redis.ping("y"), b"y"),
        (redis.flushdb(), b"OK"),
        (redis.set("k", "v", nx=True, ex=100), b"OK"),
        (redis.set("k", "w", nx=True), None),
        (redis.set("k", "w", xx=True, get=True, keepttl=True), b"v"),
        (redis.set("p", "v", px=100_000), b"OK"),
        (redis.ttl("k"), 100),
        (redis.persist("k"), 1),
        (redis.expire("k", 50), 1),
        (redis.type("k"), b"string"),
        (redis.append("k", "x"), 2),
        (redis.strlen("k"), 2),
        (redis.rename("k", "k2"), b"OK"),
        (redis.exists("k", "k2", "p"), 2),
        (redis.getdel("k2"), b"wx"),
        (redis.delete("k2", "p"), 1),
        (redis.incrby("n", 5), 5),
        (redis.decr("n"), 4),
        (redis.mset({"a": 1, "b": 2.5}), b"OK"),
        (redis.mget("a", "b", "c"), [b"1", b"2.5", None]),
        (redis.dbsize(), 3),
        (redis.hset("h", {"f": 1}), 1),
        (redis.hget("h", "f"), b"1"),
        (redis.hincrby("h", "f", 2), 3),
        (redis.hmget("h", "f", "g"), [b"3", None]),
        (redis.hdel("h", "f"), 1),
        (redis.lpush("l", "b", "a"), 2),
        (redis.rpush("l", "c"), 3),
        (redis.llen("l"), 3),
        (redis.lpop("l"), b"a"),
        (redis.rpop("l"), b"c"),
        (redis.sadd("s", "a", "b"), 2),
        (redis.sismember("s", "a"), 1),
        (redis.srem("s", "a"), 1),
        (redis.scard("s"), 1),
        (redis.zadd("z", {"m": 1, "o": 2}), 2),
        (redis.zrange("z", 0, 0), [b"m"]),
        (redis.zrem("z", "m"), 1),
        (redis.scan(match="z*", count=1000), [b"0", [b"z"]]),
    ]
    assert [reply.recv() for reply, _ in steps] == [expected for _, expected in steps]
    assert b"redis_version" in redis.info("server").recv()


def test_a_time_to_live_of_nothing_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="time to live"):
        make().set("k", "v", ex=0)
    with pytest.raises(ValueError, match="at least one pair"):
        make().mset({})


def test_a_unix_socket(make: Make, redis_server: Any) -> None:
    redis = make(redis_server.unix_url)
    assert redis.set("a", "b").recv() == b"OK"
    assert redis_server.path in repr(redis)


def test_a_database_of_ones_own(make: Make) -> None:
    redis = make()
    redis.set("a", "seven").recv()
    with redis.clone(db=8) as other:
        assert other.get("a").recv() is None
    assert redis.get("a").recv() == b"seven"


def test_large_values_both_ways(make: Make) -> None:
    redis = make()
    value = bytes(range(256)) * 40_000  # 10 MB, of all octets
    stored, before = redis.set("big", value), redis.set("small", 1)
    got, behind = redis.get("big"), redis.get("small")
    assert [stored.recv(), before.recv(), behind.recv()] == [b"OK", b"OK", b"1"]
    assert got.recv() == value
    assert redis.mget("big", "small").recv() == [value, b"1"]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(st.binary(min_size=1, max_size=30), st.binary(max_size=3000), min_size=1))
def test_any_octets_come_back(make: Make, values: dict[bytes, bytes]) -> None:
    redis = make()
    redis.mset(values)
    assert redis.mget(*values).recv() == list(values.values())


def test_a_reply_larger_than_allowed(make: Make) -> None:
    redis = make(max_reply=100_000)
    redis.set("big", b"x" * 100_001).recv()
    with pytest.raises(OSError, match="max_reply is 100000"):
        redis.get("big").recv()
    assert redis.strlen("big").recv() == 100_001


def test_ten_thousand_commands_at_once(make: Make) -> None:
    redis = make()
    replies = [redis.incr("n") for _ in range(10_000)]
    assert replies[-1].recv() == 10_000
    assert all(reply.ready for reply in replies)


# ---------------------------------------------------------------------- transactions


@ways
def test_watching(make: Make, protocol: Any) -> None:
    redis, other = make(protocol=protocol), make()
    redis.set("balance", 10).recv()
    redis.watch("balance").recv()
    balance = int(redis.get("balance").recv())
    other.set("balance", 99).recv()
    with pytest.raises(TransactionAborted, match="has changed"):
        redis.transaction().set("balance", balance - 1).execute().recv()
    assert redis.transaction().decr("balance").execute().recv() == [98]


def test_a_transaction_with_mistakes(make: Make) -> None:
    redis = make()
    redis.set("text", "x").recv()
    with pytest.raises(ReplyError, match="not an integer"):
        redis.transaction().incr("n").incr("text").execute().recv()
    assert redis.get("n").recv() == b"1"  # the server executes what it can
    with pytest.raises(ReplyError, match="wrong number of arguments"):
        redis.transaction().incr("n").command("GET").execute().recv()
    assert redis.get("n").recv() == b"1"


# ---------------------------------------------------------------------- who is allowed


def test_a_wrong_password_is_a_typed_error(secure_server: Any) -> None:
    url = f"unix://{secure_server.path}"
    for options, why in (({"password": "wrong"}, "WRONGPASS"), ({}, "NOAUTH")):
        for protocol in (2, 3):
            with Redis(url, protocol=protocol, **options) as redis:  # type: ignore[arg-type]
                with pytest.raises(AuthenticationFailed, match=why):
                    redis.get("a").recv()


def test_a_password_in_the_url(secure_server: Any) -> None:
    for user in ("", "default"):
        url = f"unix://{user}:s3cret%3A%40%2F%25@{secure_server.path}?db=3"
        with Redis(url) as redis:
            assert redis.ping().recv() == b"PONG"
        with Redis(url, protocol=2) as redis:
            assert redis.ping().recv() == b"PONG"


def test_a_certificate_that_is_not_trusted(secure_server: Any) -> None:
    with Redis(f"rediss://127.0.0.1:{secure_server.port}", password="x") as redis:
        with pytest.raises(CannotConnect, match=r"self-signed|trusted") as got:
            redis.get("a").recv()
        assert type(got.value.__cause__).__name__ == "TlsError"


def test_the_ssl_module_serves_as_well(secure_server: Any) -> None:
    import ssl

    context = ssl.create_default_context(cafile=secure_server.ca_file)
    url = f"rediss://127.0.0.1:{secure_server.port}"
    with Redis(url, tls_context=context, password=secure_server.password) as redis:
        assert redis.ping().recv() == b"PONG"
    while lingering():
        ae.sleep(0.001).recv()


def test_clear_text_to_a_tls_port_is_an_error(secure_server: Any) -> None:
    with Redis(f"redis://127.0.0.1:{secure_server.port}", attempts=2, max_delay=0.01) as redis:
        with pytest.raises(CannotConnect):
            redis.get("a").recv()


# ---------------------------------------------------------------------- client tracking


def test_client_tracking_tells_of_changes(redis_server: Any, make: Make) -> None:
    told = ae.CondVar[list[Any]]()
    other = make()
    with Redis(redis_server.url, db=7, on_push=told) as redis:
        redis.command("CLIENT", "TRACKING", "ON").recv()
        redis.get("watched").recv()
        other.set("watched", 1).recv()
        assert told.recv() == [b"invalidate", [b"watched"]]
