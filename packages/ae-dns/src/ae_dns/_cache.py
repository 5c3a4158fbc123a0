"""Replies that are still valid: bounded in number and bytes, least recently used out first.

Sans-I/O: the time comes as an argument. A reply answers exactly the question that it was
a reply to, so nothing a server volunteers about other names is ever believed (RFC 2181).
"""

from __future__ import annotations

__all__ = ("Cache",)

from collections import OrderedDict
from typing import Final

from ae_core.abc import ThreadLock

from ._resolution import Reply

# RFC 1035 and 2181 allow TTLs of 68 years; no operator intends them. RFC 2308, 5 has one
# to three hours for the longest negative answer.
_LONGEST: Final = 7 * 86400
_LONGEST_NEGATIVE: Final = 3 * 3600
# What an entry costs besides the bytes of its reply: key, objects, links.
_OVERHEAD: Final = 1000


class Cache:
    """A bounded store of replies by question.

    Args:
        max_entries: How many replies it holds at most.
        max_octets: How much memory they may take, roughly.

    Positive replies stay for the least TTL of their records, at most a week; negative ones
    as their SOA says (RFC 2308), at most three hours, and not at all without one. A TTL of 0 is
    not stored. Several resolvers, in several threads, may share a cache.

    Attributes:
        hits: How many questions it could answer.
        misses: How many it could not.
        generation: How many times it was emptied.

    Raises:
        TypeError, ValueError: If a bound is no number, or not positive.
    """

    def __init__(self, max_entries: int = 4096, *, max_octets: int = 16 << 20) -> None:
        for name, bound in (("max_entries", max_entries), ("max_octets", max_octets)):
            if isinstance(bound, bool) or not isinstance(bound, int):
                raise TypeError(f"expected {name} as int, got {bound!r}")
            if bound < 1:
                raise ValueError(f"expected {name} of at least 1, got {bound!r}")
        self._max_entries = max_entries
        self._max_octets = max_octets
        self._entries: OrderedDict[bytes, tuple[float, float, Reply]] = OrderedDict()
        self._octets = 0
        self._lock = ThreadLock()
        self.hits: int = 0
        self.misses: int = 0
        self.generation: int = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<Cache {len(self)} entries, {self.hits} hits, {self.misses} misses>"

    def clear(self) -> None:
        """Drop all replies, and store none to a question that is pending."""
        with self._lock:
            self._entries.clear()
            self._octets = 0
            self.generation += 1

    def get(self, question: bytes, now: float) -> tuple[Reply, int] | None:
        """Return the valid reply to *question* and its age in whole seconds, if there is one."""
        with self._lock:
            entry = self._entries.get(question)
            if entry is None:
                self.misses += 1
                return None
            stored, expires, reply = entry
            if expires <= now:
                self._remove(question)
                self.misses += 1
                return None
            self._entries.move_to_end(question)
            self.hits += 1
            return reply, int(now - stored)

    def put(self, reply: Reply, now: float, generation: int | None = None) -> None:
        """Store *reply*, unless it is not to be stored.

        Args:
            reply: The reply.
            now: The time.
            generation: What ``generation`` was when the question was asked: an answer to a question
                from before the last :meth:`clear` is not stored.
        """
        lifetime, is_negative = reply.lifetime()
        lifetime = min(lifetime, _LONGEST_NEGATIVE if is_negative else _LONGEST)
        if lifetime <= 0:
            return
        with self._lock:
            if generation is not None and generation != self.generation:
                return
            if reply.question in self._entries:
                self._remove(reply.question)
            self._entries[reply.question] = (now, now + lifetime, reply)
            self._octets += len(reply.wire) + _OVERHEAD
            while len(self._entries) > self._max_entries or self._octets > self._max_octets:
                self._remove(next(iter(self._entries)))

    def _remove(self, question: bytes) -> None:
        _stored, _expires, reply = self._entries.pop(question)
        self._octets -= len(reply.wire) + _OVERHEAD
