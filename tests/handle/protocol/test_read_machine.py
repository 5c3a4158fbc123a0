"""The read side against a model: plain bytes, a list of requests, and a loop over both.

A machine feeds bytes and makes requests in any order. Callbacks do what a program does inside
one: ask for more, look at the buffer, take from it, raise, pause, give up. There is no stream,
no loop and no clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final
from weakref import ref

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ae_handle import NEED_MORE, BadMessage, Chunk, Line, ReadBuffer
from ae_handle._phases import IDLE, NOT_ENDED, TOLD
from ae_handle._protocol.read_queue import END, PendingRead
from ae_handle._protocol.read_side import ReadSide
from ae_handle._protocol.registry import LINE

BAD: Final = b"refused"


def counted(buf: ReadBuffer) -> Any:
    """Read a digit and as many bytes; anything but a digit is refused."""
    if not buf:
        return NEED_MORE
    first = buf.peek(1)
    if not first.isdigit():
        raise BadMessage("expected a digit")
    if len(buf) <= int(first):
        return NEED_MORE
    return buf.take(1 + int(first))[1:]


class Rest:
    """Reads everything up to the end of the stream."""

    def __call__(self, buf: ReadBuffer) -> Any:
        return NEED_MORE

    def at_eof(self, buf: ReadBuffer) -> Any:
        return buf.take() if buf else NEED_MORE


READERS: dict[str, Any] = {
    "line": LINE,
    "other line": Line(),
    "chunk": Chunk(3),
    "counted": counted,
    "rest": Rest(),
}


def parse(kind: str, data: bytes) -> tuple[bytes, int] | None:
    """Return the item at the front of *data* and its size, ``BAD`` if it is refused."""
    if kind.endswith("line"):
        line, end, _ = data.partition(b"\n")
        return (line.removesuffix(b"\r"), len(line) + 1) if end else None
    if kind == "chunk":
        return (data[:3], 3) if len(data) >= 3 else None
    if kind == "counted" and data:
        if not data[:1].isdigit():
            return BAD, 0
        size = 1 + int(data[:1])
        return (data[1:size], size) if len(data) >= size else None
    return None


@dataclass(eq=False)
class Ask(PendingRead):
    """A request: of a callback, which then does something, or of a coroutine."""

    world: Model | Real
    name: int
    kind: str
    does: str = ""
    accepts_end: bool = False
    held: Any = None
    front: Any = None
    size: int = 0

    def __call__(self, owner: object, value: object, /) -> None:
        self.world.seen.append((self.name, value))

    def throw(self, error: BaseException) -> None:
        self.world.seen.append((self.name, type(error).__name__))

    def consumed(self, front: Any, size: int) -> Any:
        self.front, self.size = front, size
        self.held = self.data
        return ref(self.held)

    def data(self) -> bytes:
        return ReadBuffer.since(self.front, self.size)


@dataclass
class Model:
    """What the read side is to do, in the plainest way."""

    data: bytes = b""
    queue: list[Ask] = field(default_factory=list)
    each: Ask | None = None
    on_read: str | None = None
    eof: bool = False
    told: bool = False
    paused: bool = False
    untaken: list[tuple[Ask, bytes]] = field(default_factory=list)
    given: set[int] = field(default_factory=set)
    taken: set[int] = field(default_factory=set)
    seen: list[tuple[object, object]] = field(default_factory=list)
    errors: int = 0
    raised: int = 0
    names: int = 0
    fed: int = 0
    consumed: bool = False

    def ask(self, kind: str, does: str = "", *, pending: bool = False, front: bool = False) -> None:
        self.names += 1
        ask = Ask(self, self.names, kind, "pending" if pending else does, pending and front)
        if front:
            self.queue.insert(0, ask)
        else:
            self.queue.append(ask)

    def consume(self, ask: Ask, size: int) -> None:
        """Note who has read the first *size* bytes."""
        raw, self.data = self.data[:size], self.data[size:]
        if ask.does != "pending":
            self.untaken = []
            return
        for at in range(len(self.untaken) - 1, -1, -1):
            if self.untaken[at][0].name in self.taken:
                del self.untaken[: at + 1]
                break
        self.untaken.append((ask, raw))

    def dispatch(self) -> None:
        while self.queue or self.each or (self.on_read is not None and self.data):
            if self.queue:
                ask = self.queue[0]
                found = parse(ask.kind, self.data)
                if found is None:
                    return
                if found[0] is BAD:
                    if ask.does != "pending":
                        self.errors += 1
                        return
                    self.seen.append((ask.name, "BadMessage"))
                    self.queue.pop(0)
                    continue
                self.queue.pop(0)
                self.deliver(ask, *found)
            elif self.each:
                if not self.data:
                    return
                self.untaken = []
                found = parse(self.each.kind, self.data)
                if found is None:
                    return
                if found[0] is BAD:
                    self.errors += 1
                    return
                self.deliver(self.each, *found)
            else:
                size = len(self.data)
                self.seen.append(("on_read", size))
                self.consumed = False
                self.act(self.on_read or "")
                if self.consumed or len(self.data) != size:
                    continue
                if not self.queue and not self.each:
                    return

    def deliver(self, ask: Ask, item: bytes, size: int) -> None:
        self.consume(ask, size)
        self.seen.append((ask.name, item))
        self.act(ask.does)

    def act(self, does: str) -> None:
        if does in ("push", "unshift"):
            self.ask("line", front=does == "unshift")
        elif does in ("look", "take"):
            self.untaken = []
            self.seen.append((len(self.data), self.data[:40]))
            if does == "take":
                self.data = self.data[2:]
        elif does == "raise":
            self.raised += 1
        elif does == "withdraw":
            self.withdraw()
        elif does in ("pause", "blink"):
            self.paused = does == "pause"
        elif does == "stand":
            self.stand("line", "look")
        elif does == "sit":
            self.each = None
        elif does == "feed" and self.fed < 5:
            self.fed += 1
            self.data += b"fed\n"
        elif does == "exchange" and self.fed < 5:
            self.fed += 1
            self.untaken = []
            self.consumed = bool(self.data)
            self.data = self.data[2:] + b"1\n"[: len(self.data)]

    def withdraw(self) -> None:
        for ask in self.queue:
            if ask.does == "pending":
                self.queue.remove(ask)
                return

    def stand(self, kind: str, does: str) -> None:
        self.names += 1
        self.on_read = None
        self.each = Ask(self, self.names, kind, does)

    def give_back(self, name: int) -> bool | None:
        """Return an item; all at the end of ``untaken`` that were returned go to the front."""
        names = [ask.name for ask, _ in self.untaken]
        if name not in names or self.taken & set(names[names.index(name) :]):
            return None
        self.given.add(name)
        before = len(self.untaken)
        while self.untaken and self.untaken[-1][0].name in self.given:
            self.data = self.untaken.pop()[1] + self.data
        return len(self.untaken) < before

    def finish(self, report: bool, watch: bool, on_eof: bool) -> bool:
        if self.queue:
            ask = self.queue[0]
            if ask.kind == "rest" and self.data:
                self.queue.pop(0)
                self.deliver(ask, self.data, len(self.data))
            elif ask.accepts_end and not self.data:
                self.queue.pop(0)
                self.told = self.told or not on_eof
                self.seen.append((ask.name, END))
            else:
                self.errors += 1
                return False
        elif self.each and self.data:
            if self.each.kind != "rest":
                self.errors += 1
                return False
            self.deliver(self.each, self.data, len(self.data))
        elif self.on_read is not None and self.data:
            self.errors += 1
            return False
        elif self.told:
            return False
        elif on_eof:
            self.told = True
            self.seen.append(("on_eof", None))
        else:
            if self.each or self.on_read is not None or (report and watch):
                self.errors += 1
            return False
        return True


class Real:
    """The read side, with callbacks that do the same."""

    def __init__(self, side: ReadSide) -> None:
        self.side = side
        self.pending: list[Ask] = []
        self.seen: list[tuple[object, object]] = []
        self.errors = self.raised = self.names = self.fed = 0

    def _fail(self, error: BaseException) -> None:
        self.errors += 1

    def _callback_failed(self, error: BaseException) -> None:
        assert type(error) is RuntimeError, error
        self.raised += 1

    def callback(self, does: str) -> Any:
        self.names += 1
        name = self.names

        def call(owner: object, item: object) -> None:
            assert owner is self
            self.seen.append((name, item))
            self.act(does)

        return call

    def ask(self, kind: str, does: str = "", *, pending: bool = False, front: bool = False) -> None:
        if not pending:
            self.side.add(READERS[kind], self.callback(does), front)
            return
        self.names += 1
        ask = Ask(self, self.names, kind, "pending", front)
        self.pending.append(ask)
        self.side.add(Line() if kind == "line" else READERS[kind], ask, front)

    def on_read(self, does: str) -> Any:
        def call(owner: object) -> None:
            self.seen.append(("on_read", len(self.side.buffer)))
            self.act(does)

        return call

    def act(self, does: str) -> None:
        side = self.side
        if does in ("push", "unshift"):
            self.ask("line", front=does == "unshift")
        elif does in ("look", "take"):
            side.reveal_buffer()
            self.seen.append((len(side.buffer), bytes(side.buffer)[:40]))
            if does == "take":
                side.buffer.take(min(2, len(side.buffer)))
        elif does == "raise":
            raise RuntimeError
        elif does == "withdraw":
            self.withdraw()
        elif does in ("pause", "blink"):
            side.pause()
            if does == "blink":
                side.resume()
        elif does == "stand":
            side.set_standing_reader(LINE, self.callback("look"))
        elif does == "sit":
            side.forget_standing_reader()
        elif does == "feed" and self.fed < 5:
            self.fed += 1
            side.put_back_lines()
            side.buffer.feed(b"fed\n")
        elif does == "exchange" and self.fed < 5:
            self.fed += 1
            side.reveal_buffer()
            size = min(2, len(side.buffer))
            side.buffer.take(size)
            side.feed(b"1\n"[:size])

    def withdraw(self) -> None:
        queue = self.side.queue
        waiting = [queue.callback, *(callback for _, callback in queue.more or ())]
        for ask in waiting:
            if isinstance(ask, Ask):
                self.side.withdraw(ask)
                return

    def arrive(self, data: bytes) -> None:
        """Take what was read the shortest way, as the callback of a watcher does."""
        side = self.side
        if not (side.buffer or side.queue.reader or side.untaken):
            if side.each_reader is LINE and b"\n" in data:
                side.allow_batches()
                if side.dispatch_lines(self, data) and not side.buffer:
                    side.dispatching = IDLE
                    return
                side.dispatch(self)
                return
            if side.each_reader is None and side.on_read is not None:
                side.dispatch_raw(self, data)
                return
        side.feed(data)
        side.dispatch(self)


DATA = st.one_of(
    st.lists(
        st.sampled_from([b"\n", b"\r\n", b"1", b"2", b"ab", b"c"]), min_size=1, max_size=9
    ).map(b"".join),
    st.lists(st.sampled_from([b"\n", b"a\r\n", b"3xyz\n", b"l" * 90 + b"\n"]), max_size=40).map(
        lambda parts: b"".join([b"1", *parts])
    ),
    st.integers(1, 2).map(lambda n: b"123" * 1400 * n + b"\n"),
)
KINDS = st.sampled_from(sorted(READERS))
ACTIONS: Final = (
    *("push", "unshift", "look", "take", "raise", "withdraw", "pause", "blink"),
    *("stand", "sit", "feed", "exchange"),
)
DOES = st.sampled_from(["", "", "", "", *ACTIONS])


class ReadMachine(RuleBasedStateMachine):
    """Each rule does one thing to both."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.side = ReadSide(max_buffer=50, watch_eof=True)
        self.real = Real(self.side)

    def goes_on(self) -> bool:
        return not self.model.eof

    @rule(kind=KINDS, does=DOES, front=st.booleans())
    def ask(self, kind: str, does: str, front: bool) -> None:
        for each in (self.model, self.real):
            each.ask(kind, does, front=front)

    @rule(count=st.integers(6, 40), does=DOES, first=DOES)
    def ask_for_many_lines(self, count: int, does: str, first: str) -> None:
        for each in (self.model, self.real):
            each.ask("line", first)
            for _ in range(count):
                each.ask("line")
            each.ask("line", does)

    @rule(kind=KINDS, front=st.booleans())
    def a_coroutine_asks(self, kind: str, front: bool) -> None:
        for each in (self.model, self.real):
            each.ask("other line" if kind == "line" else kind, pending=True, front=front)

    @rule(kind=KINDS, does=DOES)
    def stand(self, kind: str, does: str) -> None:
        self.model.stand(kind, does)
        self.side.set_standing_reader(READERS[kind], self.real.callback(does))

    @precondition(goes_on)
    @rule(does=DOES, lines=st.integers(2, 9))
    def lines_arrive_for_a_standing_reader(self, does: str, lines: int) -> None:
        self.stand("line", does)
        self.arrive(b"standing\n" * lines)

    @rule(does=st.none() | DOES)
    def set_on_read(self, does: str | None) -> None:
        self.model.on_read = does
        self.side.on_read = None if does is None else self.real.on_read(does)

    @rule(does=st.sampled_from([does for does in ACTIONS if does != "raise"]))
    def act(self, does: str) -> None:
        self.model.act(does)
        self.real.act(does)

    @rule()
    def resume(self) -> None:
        self.model.paused = False
        self.side.resume()

    @precondition(goes_on)
    @rule(data=DATA)
    def arrive(self, data: bytes) -> None:
        self.model.data += data
        self.model.dispatch()
        self.real.arrive(data)

    @precondition(goes_on)
    @rule(
        lines=st.lists(st.sampled_from([b"l" * 90, b"x\r", b""]), min_size=20, max_size=60),
        late=st.integers(0, 20),
        does=DOES,
        then=st.none() | KINDS,
    )
    def a_series_of_lines_arrives(
        self, lines: list[bytes], late: int, does: str, then: str | None
    ) -> None:
        """So many that they are split off together; one callback does something in the midst."""
        for each in (self.model, self.real):
            for at in range(20):
                each.ask("line", does if at == late else "")
            if then is not None:
                each.ask(then)
        self.arrive(b"\n".join([*lines, b"l" * 600, b"rest"]))

    @precondition(goes_on)
    @rule(pieces=st.lists(DATA, min_size=1, max_size=3))
    def arrive_in_pieces(self, pieces: list[bytes]) -> None:
        self.model.data += b"".join(pieces)
        self.side.feed_pieces(list(pieces))

    @rule()
    def dispatch(self) -> None:
        self.model.dispatch()
        self.side.dispatch(self.real)

    @rule(kind=KINDS)
    def read_now(self, kind: str) -> None:
        reader = READERS[kind]
        item: Any = NEED_MORE
        model = self.model
        if model.data and not model.queue and model.each is None and model.on_read is None:
            model.untaken = []
            found = parse(kind, model.data)
            if found is not None:
                item = found[0]
                model.data = model.data[found[1] :]
        try:
            assert self.side.read_now(reader) == item
        except BadMessage:
            assert item is BAD

    @rule(choice=st.integers(0, 3), takes=st.booleans())
    def a_coroutine_takes_or_returns_its_item(self, choice: int, takes: bool) -> None:
        held = [ask for ask in self.real.pending if ask.held is not None]
        if not held:
            return
        ask = held[-1 - choice % len(held)]
        self.real.pending.remove(ask)
        if takes:
            self.model.taken.add(ask.name)
            ask.held = None
        else:
            assert self.side.return_item(ask) == self.model.give_back(ask.name)

    @precondition(goes_on)
    @rule(report=st.booleans(), watch=st.booleans(), on_eof=st.booleans())
    def the_input_ends(self, report: bool, watch: bool, on_eof: bool) -> None:
        model, side = self.model, self.side
        model.eof = True
        side.end_input()
        side.watch_eof = watch
        if on_eof:
            side.on_eof = lambda owner: self.real.seen.append(("on_eof", None))
        self.dispatch()
        while model.finish(report, watch, on_eof):
            assert side.finish(self.real, report)
            self.dispatch()
            self.both_are_the_same()
        assert not side.finish(self.real, report)

    @invariant()
    def both_are_the_same(self) -> None:
        model, side, real = self.model, self.side, self.real
        assert real.seen == model.seen
        real.seen.clear()
        model.seen.clear()
        assert bytes(side.buffer) == model.data
        assert bool(side.buffer._data) is bool(model.data)
        assert len(side.queue) == len(model.queue)
        assert (real.errors, real.raised) == (model.errors, model.raised)
        assert side.dispatching == IDLE
        assert side.line_batch is None
        assert side.eof == (TOLD if model.told else model.eof)
        reads = bool(model.queue or model.each or model.on_read is not None)
        full = len(model.data) > 50
        assert side.has_reader() is reads
        assert side.is_over_limit() is (reads and full)
        wants = not model.paused and side.eof == NOT_ENDED and (reads or not full)
        assert side.wants_input() is wants


TestTheReadSide = ReadMachine.TestCase
TestTheReadSide.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
