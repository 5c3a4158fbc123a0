"""What the read side is told besides bytes, and what it answers: one method after the other."""

from __future__ import annotations

from typing import Any

import pytest

from ae_handle import NEED_MORE, Chunk, HandleError
from ae_handle._phases import (
    BROKEN,
    BROKEN_TOLD,
    DISPATCHING,
    ENDED,
    GUARDED,
    IDLE,
    NOT_ENDED,
    TOLD,
)
from ae_handle._protocol.read_side import ReadSide
from ae_handle._protocol.registry import LINE


class Recorder:
    """An owner that records what it is told."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.raised: list[BaseException] = []

    def _fail(self, error: HandleError) -> None:
        raise error

    def _callback_failed(self, error: BaseException) -> None:
        self.raised.append(error)

    def see(self, owner: object, item: object = "called") -> None:
        assert owner is self
        self.seen.append(item)


@pytest.fixture
def owner() -> Recorder:
    return Recorder()


@pytest.fixture
def side() -> ReadSide:
    return ReadSide()


# ---------------------------------------------------------------------- how the input ends


def test_an_end_that_was_told_is_told_again_only_if_it_is_set_anew(side: ReadSide) -> None:
    assert side.eof == NOT_ENDED
    side.end_input()
    assert side.eof == ENDED
    side.note_eof_told(TOLD)
    side.end_input()
    assert side.eof == TOLD
    side.set_ended()
    assert side.eof == ENDED


def test_a_broken_input_does_not_end_well(side: ReadSide) -> None:
    side.break_input()
    side.end_input()
    assert side.eof == BROKEN
    side.note_eof_told(BROKEN_TOLD)
    assert side.eof == BROKEN_TOLD


# ---------------------------------------------------------------------- how much is read


def test_a_read_that_came_back_full_doubles_the_next_one_up_to_the_limit() -> None:
    side = ReadSide(read_size=100, max_read_size=300)
    sizes = []
    for size in (99, 100, 200, 300):
        side.grew(size)
        sizes.append(side.read_size)
    assert sizes == [100, 200, 300, 300]
    side.max_read_size = 150
    side.cap_read_size()
    assert side.read_size == 150
    side.max_read_size = 1000
    side.cap_read_size()
    assert side.read_size == 150


def test_the_time_of_the_last_read_is_kept(side: ReadSide) -> None:
    side.touched(7.5)
    assert side.last_at == 7.5


@pytest.mark.parametrize(("limit", "room"), [(None, True), (4, True), (3, True), (2, False)])
def test_there_is_room_up_to_the_limit(limit: int | None, room: bool) -> None:
    side = ReadSide(max_buffer=limit)
    side.feed(b"abc")
    assert side.has_room() is room


@pytest.mark.parametrize("pieces", [[b"only one"], [b"one\ntwo", b"three\n"]])
@pytest.mark.parametrize("reader", ["line", "each line", "none"])
def test_pieces_that_have_arrived_together_are_all_there(
    side: ReadSide, owner: Recorder, pieces: list[bytes], reader: str
) -> None:
    if reader == "line":
        side.add(LINE, owner.see)
    elif reader == "each line":
        side.set_standing_reader(LINE, owner.see)
    side.may_batch = False
    whole = b"".join(pieces)
    side.feed_pieces(pieces)
    assert bytes(side.buffer) == whole
    assert side.may_batch


def test_what_is_discarded_is_not_read(side: ReadSide, owner: Recorder) -> None:
    side.feed(b"a line\n")
    side.buffer.state = "of a reader"
    side.discard_unread()
    assert not side.buffer
    assert side.buffer.state is None
    side.add(LINE, owner.see)
    side.dispatch(owner)
    assert owner.seen == []


# ---------------------------------------------------------------------- who reads


def test_a_request_of_an_iterator_is_queued_behind_the_others(
    side: ReadSide, owner: Recorder, awaited: type[Any]
) -> None:
    request = awaited()
    side.add(Chunk(2), owner.see)
    side.add_next(LINE, request)
    side.feed(b"xyline\n")
    side.dispatch(owner)
    assert owner.seen == [b"xy"]
    assert request.got == b"line"


def test_requests_of_coroutines_are_taken_back_and_the_others_stay(
    side: ReadSide, owner: Recorder, awaited: type[Any]
) -> None:
    first, second = awaited(), awaited()
    side.add(LINE, first)
    side.add(Chunk(4), owner.see)
    side.add(LINE, second)
    side.feed(b"half")
    side.buffer.find(b"\n")
    assert side.withdraw_pending() == [first, second]
    assert side.buffer.searched == 0  # another request is in front
    assert side.withdraw_pending() == []
    side.dispatch(owner)
    assert owner.seen == [b"half"]
    assert first.got is second.got is None


def test_a_search_goes_on_if_no_request_was_taken_back(side: ReadSide, owner: Recorder) -> None:
    side.add(LINE, owner.see)
    side.feed(b"half")
    side.dispatch(owner)
    assert side.withdraw_pending() == []
    assert side.buffer.searched == 4


def test_callbacks_are_forgotten_and_requests_are_not(side: ReadSide, owner: Recorder) -> None:
    side.set_standing_reader(LINE, owner.see)
    side.on_read = side.on_eof = owner.see
    side.add(LINE, owner.see)
    side.forget_callbacks()
    assert side.on_read is side.on_eof is side.each_reader is side.each_callback is None
    assert side.has_reader()
    side.feed(b"asked for\nnot asked for\n")
    side.dispatch(owner)
    assert owner.seen == [b"asked for"]
    assert not side.has_reader()


def test_a_standing_reader_takes_the_place_of_on_read_and_ends(
    side: ReadSide, owner: Recorder
) -> None:
    side.on_read = owner.see
    side.set_standing_reader(Chunk(2), owner.see)
    side.feed(b"abcd")
    side.dispatch(owner)
    side.forget_standing_reader()
    side.feed(b"ef")
    side.dispatch(owner)
    assert owner.seen == [b"ab", b"cd"]
    assert not side.has_reader()


@pytest.mark.parametrize("running", [False, True])
def test_a_pause_guards_a_running_dispatch_until_it_is_resumed(
    side: ReadSide, running: bool
) -> None:
    side.dispatching = DISPATCHING if running else IDLE
    side.pause()
    assert side.paused
    assert side.dispatching == (GUARDED if running else IDLE)
    side.resume()
    assert not side.paused
    assert side.dispatching == (DISPATCHING if running else IDLE)
    side.dispatching = GUARDED
    side.resume()  # it was not paused
    assert side.dispatching == GUARDED


# ---------------------------------------------------------------------- coroutines


def test_the_end_is_told_when_the_last_iterator_has_gone(side: ReadSide) -> None:
    side.iterator_started()
    side.iterator_started()
    side.end_input()
    assert not side.iterator_ended()
    assert side.iterator_ended()
    side.eof = NOT_ENDED
    side.iterator_started()
    assert not side.iterator_ended()


def test_a_coroutine_that_got_an_item_has_some_turns_for_the_next_read(
    side: ReadSide, owner: Recorder, awaited: type[Any]
) -> None:
    request = awaited()
    side.add(Chunk(2), request)
    side.feed(b"abcd")
    assert not side.waits_for_coroutine()
    side.dispatch(owner)
    assert side.waits_for_coroutine()
    turns = 0
    while side.spend_grace():
        turns += 1
    assert turns >= 2
    assert not side.waits_for_coroutine()
    assert not side.spend_grace()
    assert side.grace == 0
    side.iterator_started()
    assert side.waits_for_coroutine()
    side.discard_unread()  # nothing is left that it could read
    assert not side.waits_for_coroutine()


def test_a_delivered_item_may_be_given_back_until_it_is_taken(
    side: ReadSide, awaited: type[Any]
) -> None:
    first, second = awaited(), awaited()
    for request, data in ((first, b"one\n"), (second, b"two\n")):
        side.delivered(request.consumed((data, 0, None), 4))
    assert side.return_item(first) is False  # it waits for the one behind it
    assert not side.buffer
    assert side.return_item(second) is True
    assert bytes(side.buffer) == b"one\ntwo\n"
    assert side.untaken is None
    assert side.return_item(first) is None


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_that_is_all_there_is_answers_the_front_request(
    side: ReadSide, owner: Recorder, end: bytes, awaited: type[Any]
) -> None:
    request = awaited()
    side.add(LINE, request)
    side.add(Chunk(1), owner.see)
    side.may_batch = False
    side.deliver_line(owner, b"text" + end)
    assert request.got == b"text"
    assert side.may_batch
    assert side.dispatching == IDLE
    assert side.return_item(request)
    assert bytes(side.buffer) == b"text" + end
    side.dispatch(owner)
    assert owner.seen == [b"t"]


def test_a_line_that_was_taken_does_not_go_back(
    side: ReadSide, owner: Recorder, awaited: type[Any]
) -> None:
    request = awaited()
    side.add(LINE, request)
    side.deliver_line(owner, b"text\n")
    request.take()
    assert side.return_item(request) is None
    assert not side.buffer


@pytest.mark.parametrize("obstacle", ["nothing", "closed", "dispatching", "reader", "empty"])
def test_what_is_buffered_is_read_now_if_nothing_comes_before_it(
    side: ReadSide, owner: Recorder, obstacle: str
) -> None:
    if obstacle != "empty":
        side.feed(b"abc")
    if obstacle == "closed":
        side.close()
    elif obstacle == "dispatching":
        side.dispatching = DISPATCHING
    elif obstacle == "reader":
        side.add(Chunk(9), owner.see)
    read = side.read_now(Chunk(3))
    assert read == (b"abc" if obstacle == "nothing" else NEED_MORE)


def test_what_is_read_now_is_behind_all_items_that_could_go_back(
    side: ReadSide, awaited: type[Any]
) -> None:
    request = awaited()
    side.delivered(request.consumed((b"item", 0, None), 4))
    side.feed(b"abc")
    side.read_now(Chunk(3))
    assert side.return_item(request) is None


# ---------------------------------------------------------------------- callbacks


def test_a_callback_is_called_as_in_a_dispatch_and_its_error_is_the_owners(
    side: ReadSide, owner: Recorder
) -> None:
    states: list[int] = []
    fault = RuntimeError()

    def callback(o: object, *args: object) -> None:
        states.append(side.dispatching)
        owner.see(o, args)
        raise fault

    side.call(owner, callback, 1, 2)
    assert states == [DISPATCHING]
    assert owner.seen == [(1, 2)]
    assert owner.raised == [fault]
    assert side.dispatching == IDLE


# ---------------------------------------------------------------------- anew


def test_a_side_that_begins_anew_has_nothing_of_the_connection_before(
    side: ReadSide, owner: Recorder, awaited: type[Any]
) -> None:
    request = awaited()
    side.on_read = owner.see
    side.add(LINE, owner.see)
    side.add(LINE, request)
    side.feed(b"half a line")
    side.end_input()
    side.dispatching = DISPATCHING
    side.line_batch = iter([b"split off"])
    assert side.restart() == [request]
    assert not side.buffer
    assert side.eof == NOT_ENDED
    assert side.dispatching == IDLE
    assert side.line_batch is None
    assert len(side.queue) == 0
    assert side.on_read is not None  # callbacks stay
    assert side.restart() == []


@pytest.mark.parametrize("batch", [False, True])
def test_a_side_that_was_closed_puts_lines_back_and_answers_nothing(
    side: ReadSide, owner: Recorder, batch: bool, awaited: type[Any]
) -> None:
    request = awaited()
    side.add(LINE, request)
    side.add(LINE, owner.see)
    side.dispatching = DISPATCHING
    if batch:
        side.line_batch = iter([b"split off"])
    assert side.close() == [request]
    assert side.close() == []
    assert side.closed
    assert side.dispatching == IDLE
    assert bytes(side.buffer) == (b"split off\n" if batch else b"")
