"""The read side alone: bytes in, an owner that records out; no stream, no loop, no clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ae_handle import BadMessage, BufferLimitExceeded, Chunk, HandleError, NetString, UnexpectedEOF
from ae_handle._phases import BROKEN, GUARDED, IDLE, TOLD
from ae_handle._protocol.read_queue import END, PendingRequest
from ae_handle._protocol.read_side import ReadSide
from ae_handle._protocol.registry import LINE


class Recorder:
    """An owner that records what it is told."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.errors: list[HandleError] = []
        self.raised: list[BaseException] = []

    def _fail(self, error: HandleError) -> None:
        self.errors.append(error)

    def _callback_failed(self, error: BaseException) -> None:
        self.raised.append(error)

    def see(self, owner: object, item: object = "called") -> None:
        assert owner is self
        self.seen.append(item)


class Pending(PendingRequest):
    """What a coroutine waits for."""

    def __init__(self, *, accepts_end: bool = False) -> None:
        self.accepts_end = accepts_end  # type: ignore[misc]
        self.outcome: list[object] = []

    def __call__(self, owner: object, value: object, /) -> None:
        self.outcome.append(value)

    def throw(self, error: BaseException) -> None:
        self.outcome.append(error)


@pytest.fixture
def owner() -> Recorder:
    return Recorder()


def test_queued_requests_get_their_items_in_order(owner: Recorder) -> None:
    side = ReadSide()
    side.add(LINE, owner.see)
    side.add(Chunk(3), owner.see)
    side.add(LINE, owner.see)
    side.feed(b"one\r\nabctwo\nrest")
    side.dispatch(owner)
    assert owner.seen == [b"one", b"abc", b"two"]
    assert bytes(side.buffer) == b"rest"
    assert side.dispatching == IDLE
    assert not side.has_reader()


def test_a_request_made_by_a_callback_is_served_behind_it(owner: Recorder) -> None:
    side = ReadSide()

    def line(o: object, item: bytes) -> None:
        owner.see(o, item)
        side.add(Chunk(int(item)), owner.see, front=True)

    side.add(LINE, line)
    side.add(LINE, owner.see)
    side.feed(b"2\nxyend\n")
    side.dispatch(owner)
    assert owner.seen == [b"2", b"xy", b"end"]


@pytest.mark.parametrize("cut", range(1, 9))
def test_standing_readers_get_lines_however_they_are_cut(owner: Recorder, cut: int) -> None:
    side = ReadSide()
    side.set_standing_reader(LINE, owner.see)
    data = b"a\nbb\r\n\nc"
    for part in (data[:cut], data[cut:]):
        side.feed(part)
        side.dispatch(owner)
    assert owner.seen == [b"a", b"bb", b""]
    assert bytes(side.buffer) == b"c"


def test_lines_that_were_split_off_are_put_back_when_the_buffer_is_wanted(owner: Recorder) -> None:
    side = ReadSide()
    states = []

    def line(o: object, item: bytes) -> None:
        owner.see(o, item)
        states.append(side.dispatching)
        if item == b"2":
            side.reveal_buffer()
            assert side.buffer.take(2) == b"3\n"

    side.set_standing_reader(LINE, line)
    assert not side.dispatch_lines(owner, b"1\n2\n3\n4\nrest")
    side.dispatch(owner)
    assert owner.seen == [b"1", b"2", b"4"]
    assert states[0] == GUARDED
    assert bytes(side.buffer) == b"rest"


def test_many_queued_lines_are_split_off_together(owner: Recorder) -> None:
    side = ReadSide()
    lines = [b"%d" % i * 20 for i in range(60)]
    for _ in lines:
        side.add(LINE, owner.see)
    side.add(Chunk(4), owner.see)
    side.feed(b"\n".join([*lines, b"tailmore\n"]))
    side.dispatch(owner)
    assert owner.seen == [*lines, b"tail"]
    assert bytes(side.buffer) == b"more\n"


def test_an_error_of_a_callback_loses_no_other_item(owner: Recorder) -> None:
    side = ReadSide()
    fault = RuntimeError("a fault of the program")

    def line(o: object, item: bytes) -> None:
        owner.see(o, item)
        if item == b"2":
            raise fault

    side.set_standing_reader(LINE, line)
    side.feed(b"1\n2\n3\n")
    side.dispatch(owner)
    assert owner.seen == [b"1", b"2", b"3"]
    assert owner.raised == [fault]


def test_on_read_is_asked_as_long_as_it_consumes(owner: Recorder) -> None:
    side = ReadSide()

    def on_read(o: object) -> None:
        owner.see(o, bytes(side.buffer))
        if len(side.buffer) > 2:
            side.buffer.take(2)

    side.on_read = on_read
    assert not side.dispatch_raw(owner, b"abcdef")
    assert owner.seen == [b"abcdef", b"cdef", b"ef"]


def test_on_read_that_takes_everything_needs_nothing_else(owner: Recorder) -> None:
    side = ReadSide(lambda o: owner.see(o, side.buffer.take()))
    assert side.dispatch_raw(owner, b"abc")
    assert owner.seen == [b"abc"]
    assert side.dispatching == IDLE


@pytest.mark.parametrize("way", ["standing reader", "on_read", "raw"])
def test_a_callback_in_which_as_much_arrives_as_it_reads_is_called_again(
    owner: Recorder, way: str
) -> None:
    """A loop inside a callback reads on while it runs."""
    side = ReadSide()
    arriving = [b"ghi"]

    def item(o: object, data: bytes) -> None:
        owner.see(o, data)
        if arriving:
            side.feed(arriving.pop())

    if way == "standing reader":
        side.set_standing_reader(Chunk(3), item)
    else:
        side.on_read = lambda o: item(o, side.buffer.take(3))
    if way == "raw":
        side.dispatch_raw(owner, b"abcdef")
    else:
        side.feed(b"abcdef")
        side.dispatch(owner)
    assert owner.seen == [b"abc", b"def", b"ghi"]
    assert not side.buffer


def test_a_callback_that_takes_large_pieces_while_as_many_arrive_is_called_again(
    owner: Recorder,
) -> None:
    size = 1 << 17
    side = ReadSide()
    arriving = [b"d" * size]

    def read(o: object) -> None:
        owner.see(o, side.buffer.take(size)[:1])
        if arriving:
            side.feed(arriving.pop())

    side.on_read = read
    for letter in (b"a", b"b", b"c"):
        side.feed(letter * size)
    side.dispatch(owner)
    assert owner.seen == [b"a", b"b", b"c", b"d"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_callback_that_only_looks_is_called_once(owner: Recorder, count: int) -> None:
    side = ReadSide()
    side.on_read = lambda o: owner.see(o, side.buffer.peek(len(side.buffer))[:1])
    for _ in range(count):
        side.feed(b"x" * (1 << 17))
    side.dispatch(owner)
    assert owner.seen == [b"x"]


def test_a_refused_item_is_reported_and_stays(owner: Recorder) -> None:
    side = ReadSide()
    side.add(NetString(), owner.see)
    side.feed(b"nonsense")
    side.dispatch(owner)
    (error,) = owner.errors
    assert isinstance(error, BadMessage)
    assert len(side.queue) == 1
    assert bytes(side.buffer) == b"nonsense"


def test_a_refused_item_ends_the_request_of_a_coroutine_only(owner: Recorder) -> None:
    side = ReadSide()
    request = Pending()
    side.add(NetString(), request)
    side.add(LINE, owner.see)
    side.feed(b"nonsense\n")
    side.dispatch(owner)
    assert isinstance(request.outcome[0], BadMessage)
    assert owner.seen == [b"nonsense"]
    assert not owner.errors


def test_a_faulty_reader_is_not_asked_again(owner: Recorder) -> None:
    side = ReadSide()

    def faulty(buf: object) -> None:
        raise ZeroDivisionError

    side.add(faulty, owner.see)
    side.add(LINE, owner.see)
    side.feed(b"x\n")
    side.dispatch(owner)
    assert owner.seen == [b"x"]
    assert isinstance(owner.raised[0], ZeroDivisionError)


def test_a_reader_that_withdraws_its_own_request_stops_no_other(owner: Recorder) -> None:
    side = ReadSide()
    request = Pending()

    def reader(buf: Any) -> Any:
        side.withdraw(request)
        return buf.take(1)

    side.add(reader, request)
    side.add(LINE, owner.see)
    side.feed(b"xrest\n")
    side.dispatch(owner)
    assert request.outcome == []
    assert owner.seen == [b"rest"]


def test_a_closed_side_answers_nothing_and_names_who_waits(owner: Recorder) -> None:
    side = ReadSide()
    request = Pending()

    def closing(buf: Any) -> Any:
        assert side.close() == [request]
        return buf.take(1)

    side.add(closing, owner.see)
    side.add(LINE, request)
    side.feed(b"xline\n")
    side.dispatch(owner)
    assert owner.seen == []
    assert request.outcome == []


@pytest.mark.parametrize(
    ("buffered", "wanted"), [(b"", True), (b"x" * 10, True), (b"x" * 11, False)]
)
def test_without_a_reader_no_more_than_the_limit_is_read_ahead(
    buffered: bytes, wanted: bool
) -> None:
    side = ReadSide(max_buffer=10, watch_eof=True)
    side.feed(buffered)
    assert side.wants_input() is wanted
    assert not side.is_over_limit()
    side.add(Chunk(100), lambda o, item: None)
    assert side.wants_input()
    assert side.is_over_limit() is not wanted
    assert isinstance(side.limit_error(), BufferLimitExceeded)
    side.pause()
    assert not side.wants_input()


class TestTheEnd:
    """What ``finish`` does when the readers have had everything."""

    def ended(self, data: bytes = b"", **options: Any) -> ReadSide:
        side = ReadSide(**options)
        side.feed(data)
        side.end_input()
        return side

    def finish(self, side: ReadSide, owner: Recorder, *, report: bool = True) -> None:
        side.dispatch(owner)
        for _ in range(20):
            if not side.finish(owner, report=report):
                return
            side.dispatch(owner)
        raise AssertionError("it does not end")

    def test_on_eof_is_called_once(self, owner: Recorder) -> None:
        side = self.ended(on_eof=owner.see)
        self.finish(side, owner)
        self.finish(side, owner)
        assert owner.seen == ["called"]
        assert side.eof == TOLD

    def test_a_pending_request_is_an_error(self, owner: Recorder) -> None:
        side = self.ended(b"half")
        side.add(LINE, owner.see)
        self.finish(side, owner)
        assert isinstance(owner.errors[0], UnexpectedEOF)
        assert "4 bytes" in str(owner.errors[0])

    def test_an_iterator_takes_it_for_its_end(self, owner: Recorder) -> None:
        side = self.ended()
        request = Pending(accepts_end=True)
        side.add(LINE, request)
        self.finish(side, owner)
        assert request.outcome == [END]
        assert not owner.errors

    @pytest.mark.parametrize("report", [True, False])
    @pytest.mark.parametrize("watch", [True, False])
    def test_nobody_has_asked(self, owner: Recorder, watch: bool, report: bool) -> None:
        self.finish(self.ended(watch_eof=watch), owner, report=report)
        assert len(owner.errors) == (watch and report)

    def test_a_reader_may_need_the_end_to_know_its_item(self, owner: Recorder) -> None:
        class Rest:
            def __call__(self, buf: Any) -> Any:
                from ae_handle import NEED_MORE

                return NEED_MORE

            def at_eof(self, buf: Any) -> bytes:
                data: bytes = buf.take()
                return data

        side = self.ended(b"all of it", on_eof=owner.see)
        side.add(Rest(), owner.see)
        self.finish(side, owner)
        assert owner.seen == [b"all of it", "called"]

    def test_a_broken_input_is_the_owners_to_report(self) -> None:
        side = ReadSide()
        side.break_input()
        assert side.eof == BROKEN
        assert not side.wants_input()


# ---------------------------------------------------------------------- against a model

ITEMS = st.lists(
    st.one_of(
        st.binary(max_size=12)
        .filter(lambda b: b"\n" not in b and not b.endswith(b"\r"))
        .map(lambda b: ("line", b)),
        st.binary(min_size=1, max_size=30).map(lambda b: ("chunk", b)),
        st.binary(max_size=30).map(lambda b: ("netstring", b)),
    ),
    max_size=40,
)
READERS: dict[str, Callable[[bytes], Any]] = {
    "line": lambda data: LINE,
    "chunk": lambda data: Chunk(len(data)),
    "netstring": lambda data: NetString(),
}
WIRE: dict[str, Callable[[bytes], bytes]] = {
    "line": lambda data: data + b"\n",
    "chunk": lambda data: data,
    "netstring": lambda data: b"%d:%b," % (len(data), data),
}


@settings(max_examples=1000, deadline=None)
@given(items=ITEMS, cuts=st.lists(st.integers(1, 60), max_size=30), seed=st.integers(0, 2**32))
def test_items_arrive_in_order_whoever_asks_and_however_they_are_cut(
    items: list[tuple[str, bytes]], cuts: list[int], seed: int
) -> None:
    """Requests are made ahead, by callbacks, by coroutines, and taken back before they are served.

    ``seed`` decides which.
    """
    choice = random.Random(seed)
    owner = Recorder()
    side = ReadSide()
    asked = 0

    def ask() -> None:
        nonlocal asked
        if asked == len(items):
            return
        kind, data = items[asked]
        asked += 1
        how = choice.randrange(4)
        reader = READERS[kind](data)
        if how == 0:
            withdrawn = Pending()
            side.add(reader, withdrawn)
            side.withdraw(withdrawn)
        if how == 1:
            request = Pending()
            request.outcome = owner.seen
            side.add(reader, request)
            ask()  # its coroutine would not be there in time
            return
        side.add(reader, answer)

    def answer(o: object, item: object) -> None:
        owner.see(o, item)
        if choice.randrange(10) == 0:
            side.reveal_buffer()
        for _ in range(choice.randrange(3)):
            ask()
        if side.queue.reader is None:
            ask()

    for _ in range(choice.randrange(1, 5)):
        ask()
    wire = b"".join(WIRE[kind](data) for kind, data in items)
    pos = 0
    for cut in [*cuts, len(wire) + 1]:
        side.feed(wire[pos : pos + cut])
        pos += cut
        side.dispatch(owner)
        if side.queue.reader is None:
            ask()
            side.dispatch(owner)
    while asked < len(items) or side.queue.reader is not None:
        if side.queue.reader is None:
            ask()
        before = len(owner.seen)
        side.dispatch(owner)
        assert len(owner.seen) > before
    assert owner.seen == [data for _, data in items]
    assert not side.buffer
    assert not owner.errors
    assert not owner.raised


@settings(max_examples=1000, deadline=None)
@given(
    lines=st.lists(st.binary(max_size=8).filter(lambda b: not {10, 13} & {*b}), max_size=40),
    cuts=st.lists(st.integers(1, 40), max_size=20),
    seed=st.integers(0, 2**32),
)
def test_a_standing_reader_gets_every_line_whatever_its_callback_does(
    lines: list[bytes], cuts: list[int], seed: int
) -> None:
    """It looks into the buffer, raises, pauses, asks for single lines, is replaced by itself."""
    choice = random.Random(seed)
    owner = Recorder()
    side = ReadSide()

    def line(o: object, item: bytes) -> None:
        owner.see(o, item)
        what = choice.randrange(12)
        if what == 0:
            side.reveal_buffer()
        elif what == 1:
            side.add(LINE, owner.see, front=bool(choice.randrange(2)))
        elif what == 2:
            side.set_standing_reader(LINE, line)
        elif what == 3:
            side.pause()
            side.resume()
        elif what == 4:
            raise RuntimeError

    side.set_standing_reader(LINE, line)
    wire = b"".join(b"%b%b" % (item, choice.choice((b"\n", b"\r\n"))) for item in lines)
    pos = 0
    for cut in [*cuts, len(wire) + 1]:
        data = wire[pos : pos + cut]
        pos += cut
        if not side.buffer and b"\n" in data and side.queue.reader is None:
            side.allow_batches()
            if side.dispatch_lines(owner, data):
                side.dispatching = IDLE
                if side.queue.reader is None:
                    continue
        else:
            side.feed(data)
        side.dispatch(owner)
    assert owner.seen == lines
    assert not side.buffer
