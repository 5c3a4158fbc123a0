"""One running lookup: connects a ``Resolution`` with its condvar and its engine."""

from __future__ import annotations

__all__ = (
    "Lookup",
    "deliver_addresses",
    "deliver_answer",
    "deliver_srv",
    "deliver_texts",
    "impossible",
    "in_next_turn",
)

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import ae_core as ae

from ._answers import Answer, Srv, make_address, name_text, order_srv, texts
from ._errors import NoData, NoSuchName, ResolveError
from ._resolution import Exchange, Reply, Resolution
from ._wire_fast import decode_name

if TYPE_CHECKING:
    from ._engine import Engine

Deliver = Callable[["Lookup"], None]


class Lookup(Resolution):
    """A resolution whose outcome goes to a condvar.

    Args:
        names: Candidate names.
        rdtype: The type to ask for.
        rdclass: The class to ask for.
        accept: Types that are answers; ``None`` accepts all.
        ask: Called with the lookup when there is a question to ask.
        engine: Of the loop that the lookup was made on.
        deliver: Sends the outcome to :attr:`condvar`.
    """

    __slots__ = ("_accept", "_ask", "_deliver", "condvar", "engine", "exchange", "wants_addresses")

    def __init__(
        self,
        names: Sequence[bytes],
        rdtype: int,
        rdclass: int,
        accept: Collection[int] | None,
        ask: Callable[[Lookup], None],
        engine: Engine,
        deliver: Deliver,
    ) -> None:
        Resolution.__init__(self, names, rdtype, rdclass)
        self._accept = accept
        self._ask = ask
        self._deliver = deliver
        self.engine: Engine = engine
        self.wants_addresses: bool = deliver is deliver_addresses
        self.exchange: Exchange | None = None
        self.condvar: ae.CondVar[Any] = ae.CondVar(
            cancel=self._on_cancel, describe=partial(_description, self.question)
        )

    def exchange_over(self, exchange: Exchange) -> None:
        """Take the reply, or why there is none; then ask the next question or deliver."""
        self.exchange = None
        if self.condvar.ready:
            return  # cancelled by what another waiter of the same exchange called
        reply = exchange.reply
        if reply is not None:
            self._go_on(partial(self._take, reply, 0))
        elif (reason := exchange.end_reason()) is not None:
            self._go_on(partial(self.give_up, reason))
        else:
            self._go_on(partial(self.fail, exchange.rcode))

    def cached(self, reply: Reply, age: int) -> None:
        """Take a reply from the cache, in the next turn."""
        ae.postpone(partial(self._on_cached, reply, age))

    def _on_cached(self, reply: Reply, age: int) -> None:
        if not self.condvar.ready:
            self._go_on(partial(self._take, reply, age))

    def _go_on(self, step: Callable[[], bool]) -> None:
        """Run *step*, then ask the next question or deliver; an error in it ends the lookup."""
        try:
            if step():
                self._deliver(self)
            else:
                self._ask(self)
        except Exception as error:
            if self.condvar.ready:
                raise
            self.give_up(f"the reply cannot be read ({str(error) or type(error).__name__})")
            self.error().__cause__ = error
            self._deliver(self)

    def _take(self, reply: Reply, age: int) -> bool:
        reading = reply.read_addresses() if self.wants_addresses else reply.read(self._accept)
        if age:
            reading = reading._replace(ttl=max(0, reading.ttl - age))
        return self.take(reading, reply)

    def _on_cancel(self) -> None:
        if self.exchange is not None:
            self.engine.leave(self.exchange, self)
            self.exchange = None


def _description(question: bytes) -> str:
    import dns.rdatatype

    rdtype = dns.rdatatype.to_text(dns.rdatatype.RdataType.make(question[-4] << 8 | question[-3]))
    return f"lookup of {decode_name(question[:-4])} {rdtype}"


def deliver_addresses(lookup: Lookup) -> None:
    """Send the address texts, ``[]`` if there are none, or throw why that is not known."""
    reading = lookup.reading
    if reading is None:
        _deliver_nothing(lookup)
    else:
        lookup.condvar.send(list(reading.values))


def _deliver_nothing(lookup: Lookup) -> None:
    """Send ``[]`` if the answer is that there is none; throw the error of any other failure."""
    error = lookup.error()
    if isinstance(error, NoSuchName | NoData):
        lookup.condvar.send([])
    else:
        lookup.condvar.throw(error)


def deliver_answer(lookup: Lookup) -> None:
    """Send an ``Answer``, or throw why there is none."""
    if lookup.reading is None or lookup.reply is None:
        lookup.condvar.throw(lookup.error())
    else:
        lookup.condvar.send(Answer(lookup.reading, lookup.reply, lookup.rdtype, lookup.ttl))


def deliver_texts(kind: str) -> Deliver:
    """Return what sends the texts that the convenience function *kind* promises."""

    def deliver(lookup: Lookup) -> None:
        if lookup.reading is None:
            _deliver_nothing(lookup)
        else:
            lookup.condvar.send(texts(kind, _rdatas(lookup)))

    return deliver


def deliver_srv(lookup: Lookup) -> None:
    """Send service records in the order to try them."""
    if lookup.reading is None:
        _deliver_nothing(lookup)
        return
    records = [
        Srv(rdata.priority, rdata.weight, rdata.port, name_text(rdata.target))
        for rdata in _rdatas(lookup)
    ]
    lookup.condvar.send(order_srv(records))


def _rdatas(lookup: Lookup) -> list[Any]:
    reading, reply = lookup.reading, lookup.reply
    assert reading is not None, "the lookup has an answer"
    assert reply is not None, "that stands in a reply"
    return [
        make_address(reply, value) if isinstance(value, int) else value for value in reading.values
    ]


def impossible(error: ValueError) -> ae.CondVar[Any]:
    """Return a condvar that is thrown why a name cannot be asked for, in the next turn."""
    return in_next_turn(lambda condvar: condvar.throw(ResolveError(str(error))))


def in_next_turn(deliver: Callable[[ae.CondVar[Any]], None]) -> ae.CondVar[Any]:
    """Return a condvar that *deliver* makes ready in the next turn, unless it is cancelled."""
    condvar: ae.CondVar[Any] = ae.CondVar(cancel=lambda: None)

    def settle() -> None:
        if not condvar.ready:
            deliver(condvar)

    ae.postpone(settle)
    return condvar
