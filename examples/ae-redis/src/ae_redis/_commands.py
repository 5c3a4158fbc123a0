"""The commands that most programs use, as methods; every other one is ``command("NAME", ...)``.

Sans-I/O: the names and the order of arguments of Redis, nothing else. What is answered is what
the server says, not reshaped.
"""

from __future__ import annotations

__all__ = ("Commands",)

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._encode import Argument

R = TypeVar("R")


class Commands(ABC, Generic[R]):
    """What a client and a pipeline have in common. What a command returns is theirs."""

    __slots__ = ()

    @abstractmethod
    def command(self, name: str | bytes, *arguments: Argument, timeout: Any = ...) -> R:
        """Send a command, or have it sent with the others of the pipeline."""

    # ------------------------------------------------------------------ connection and server

    def ping(self, *message: Argument) -> R:
        """``PING [message]``."""
        return self.command("PING", *message)

    def echo(self, message: Argument) -> R:
        """``ECHO message``."""
        return self.command("ECHO", message)

    def info(self, *sections: str) -> R:
        """``INFO [section ...]``."""
        return self.command("INFO", *sections)

    def dbsize(self) -> R:
        """``DBSIZE``."""
        return self.command("DBSIZE")

    def flushdb(self) -> R:
        """``FLUSHDB``."""
        return self.command("FLUSHDB")

    # ------------------------------------------------------------------ keys

    def delete(self, *keys: Argument) -> R:
        """``DEL key [key ...]``: how many there were."""
        return self.command("DEL", *keys)

    def exists(self, *keys: Argument) -> R:
        """``EXISTS key [key ...]``: how many there are."""
        return self.command("EXISTS", *keys)

    def expire(self, key: Argument, seconds: int) -> R:
        """``EXPIRE key seconds``."""
        return self.command("EXPIRE", key, seconds)

    def ttl(self, key: Argument) -> R:
        """``TTL key``: seconds; -1 for ever, -2 no such key."""
        return self.command("TTL", key)

    def persist(self, key: Argument) -> R:
        """``PERSIST key``."""
        return self.command("PERSIST", key)

    def rename(self, key: Argument, new: Argument) -> R:
        """``RENAME key newkey``."""
        return self.command("RENAME", key, new)

    def type(self, key: Argument) -> R:
        """``TYPE key``."""
        return self.command("TYPE", key)

    def scan(
        self, cursor: Argument = 0, *, match: Argument | None = None, count: int | None = None
    ) -> R:
        """``SCAN cursor [MATCH pattern] [COUNT count]``: ``[next cursor, keys]``."""
        words: list[Argument] = [cursor]
        if match is not None:
            words += ["MATCH", match]
        if count is not None:
            words += ["COUNT", count]
        return self.command("SCAN", *words)

    # ------------------------------------------------------------------ strings

    def get(self, key: Argument) -> R:
        """``GET key``: bytes, or None."""
        return self.command("GET", key)

    def set(
        self,
        key: Argument,
        value: Argument,
        *,
        ex: int | None = None,
        px: int | None = None,
        nx: bool = False,
        xx: bool = False,
        get: bool = False,
        keepttl: bool = False,
    ) -> R:
        """``SET key value``: ``b"OK"``, or None if *nx* or *xx* forbade it.

        Args:
            key, value: What is set to what.
            ex, px: In how many seconds, milliseconds it expires.
            nx, xx: Only if the key is not there; only if it is.
            get: Return what it was before.
            keepttl: Let it expire when it would have.
        """
        if not (ex or px or nx or xx or get or keepttl):
            if ex is None and px is None:
                return self.command("SET", key, value)
            raise ValueError("expected a time to live above 0, got 0")
        words: list[Argument] = [key, value]
        for word, number in (("EX", ex), ("PX", px)):
            if number is not None:
                words += [word, number]
        given = (("NX", nx), ("XX", xx), ("GET", get), ("KEEPTTL", keepttl))
        words += [word for word, on in given if on]
        return self.command("SET", *words)

    def getdel(self, key: Argument) -> R:
        """``GETDEL key``."""
        return self.command("GETDEL", key)

    def append(self, key: Argument, value: Argument) -> R:
        """``APPEND key value``: the new length."""
        return self.command("APPEND", key, value)

    def strlen(self, key: Argument) -> R:
        """``STRLEN key``."""
        return self.command("STRLEN", key)

    def incr(self, key: Argument) -> R:
        """``INCR key``: the new value."""
        return self.command("INCR", key)

    def incrby(self, key: Argument, amount: int) -> R:
        """``INCRBY key amount``."""
        return self.command("INCRBY", key, amount)

    def decr(self, key: Argument) -> R:
        """``DECR key``."""
        return self.command("DECR", key)

    def mget(self, *keys: Argument) -> R:
        """``MGET key [key ...]``: a list."""
        return self.command("MGET", *keys)

    def mset(self, values: Mapping[Any, Argument]) -> R:
        """``MSET key value [key value ...]``."""
        return self.command("MSET", *_flat(values))

    # ------------------------------------------------------------------ hashes

    def hset(self, key: Argument, values: Mapping[Any, Argument]) -> R:
        """``HSET key field value [field value ...]``: how many fields are new."""
        return self.command("HSET", key, *_flat(values))

    def hget(self, key: Argument, field: Argument) -> R:
        """``HGET key field``."""
        return self.command("HGET", key, field)

    def hmget(self, key: Argument, *fields: Argument) -> R:
        """``HMGET key field [field ...]``."""
        return self.command("HMGET", key, *fields)

    def hgetall(self, key: Argument) -> R:
        """``HGETALL key``: a dict; in RESP2 a list of fields and values in turn."""
        return self.command("HGETALL", key)

    def hdel(self, key: Argument, *fields: Argument) -> R:
        """``HDEL key field [field ...]``."""
        return self.command("HDEL", key, *fields)

    def hincrby(self, key: Argument, field: Argument, amount: int) -> R:
        """``HINCRBY key field amount``."""
        return self.command("HINCRBY", key, field, amount)

    # ------------------------------------------------------------------ lists

    def lpush(self, key: Argument, *values: Argument) -> R:
        """``LPUSH key value [value ...]``: the new length."""
        return self.command("LPUSH", key, *values)

    def rpush(self, key: Argument, *values: Argument) -> R:
        """``RPUSH key value [value ...]``."""
        return self.command("RPUSH", key, *values)

    def lpop(self, key: Argument) -> R:
        """``LPOP key``."""
        return self.command("LPOP", key)

    def rpop(self, key: Argument) -> R:
        """``RPOP key``."""
        return self.command("RPOP", key)

    def lrange(self, key: Argument, start: int = 0, stop: int = -1) -> R:
        """``LRANGE key start stop``: a list, *stop* included."""
        return self.command("LRANGE", key, start, stop)

    def llen(self, key: Argument) -> R:
        """``LLEN key``."""
        return self.command("LLEN", key)

    # ------------------------------------------------------------------ sets

    def sadd(self, key: Argument, *members: Argument) -> R:
        """``SADD key member [member ...]``: how many are new."""
        return self.command("SADD", key, *members)

    def srem(self, key: Argument, *members: Argument) -> R:
        """``SREM key member [member ...]``."""
        return self.command("SREM", key, *members)

    def smembers(self, key: Argument) -> R:
        """``SMEMBERS key``: a set; in RESP2 a list."""
        return self.command("SMEMBERS", key)

    def sismember(self, key: Argument, member: Argument) -> R:
        """``SISMEMBER key member``: 1 or 0."""
        return self.command("SISMEMBER", key, member)

    def scard(self, key: Argument) -> R:
        """``SCARD key``."""
        return self.command("SCARD", key)

    # ------------------------------------------------------------------ sorted sets

    def zadd(self, key: Argument, scores: Mapping[Any, float]) -> R:
        """``ZADD key score member [score member ...]``, from ``{member: score}``."""
        pairs = [word for member, score in scores.items() for word in (score, member)]
        return self.command("ZADD", key, *pairs)

    def zrem(self, key: Argument, *members: Argument) -> R:
        """``ZREM key member [member ...]``."""
        return self.command("ZREM", key, *members)

    def zscore(self, key: Argument, member: Argument) -> R:
        """``ZSCORE key member``: a float; in RESP2 bytes."""
        return self.command("ZSCORE", key, member)

    def zrange(self, key: Argument, start: int = 0, stop: int = -1, *words: Argument) -> R:
        """``ZRANGE key start stop [WITHSCORES ...]``."""
        return self.command("ZRANGE", key, start, stop, *words)

    # ------------------------------------------------------------------ messages and scripts

    def publish(self, channel: Argument, message: Argument) -> R:
        """``PUBLISH channel message``: how many subscribers got it."""
        return self.command("PUBLISH", channel, message)

    def eval(
        self,
        script: str,
        keys: tuple[Argument, ...] | list[Argument] = (),
        arguments: tuple[Argument, ...] | list[Argument] = (),
    ) -> R:
        """``EVAL script numkeys [key ...] [argument ...]``."""
        return self.command("EVAL", script, len(keys), *keys, *arguments)


def _flat(values: Mapping[Any, Argument]) -> list[Any]:
    if not values:
        raise ValueError("expected at least one pair, got none")
    return [word for pair in values.items() for word in pair]
