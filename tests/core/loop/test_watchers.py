"""Watchers as objects, bad input for every public function, and the traps of descriptors.

Long because each watcher function has its list of arguments to refuse, one beside the other.
"""

from __future__ import annotations

import contextvars
import gc
import os
import signal
import socket
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import ae_core as ae
from ae_core import strict
from ae_core._backends._multiplexers import MULTIPLEXERS
from ae_core.testing import Trace, leak_check, virtual_time

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        yield left, right


@pytest.fixture
def lax() -> Iterator[None]:
    """Turn strict mode off, for what it would refuse."""
    strict.disable()
    yield
    strict.enable()


def settle(turns: int = 3) -> None:
    for _ in range(turns):
        ae.sleep(0).recv()


MAKERS: dict[str, Callable[[Any, Any], ae.Watcher]] = {
    "io": lambda sock, callback: ae.io(sock, "r", callback),
    "timer": lambda sock, callback: ae.timer(60, callback),
    "signal": lambda sock, callback: ae.signal("TERM", callback),
    "idle": lambda sock, callback: ae.idle(callback),
    "any child": lambda sock, callback: ae.child(0, callback),
}


@pytest.fixture(
    params=[
        pytest.param(
            kind,
            marks=pytest.mark.skipif(
                kind == "any child" and not hasattr(os, "waitid"), reason="needs waitid()"
            ),
        )
        for kind in MAKERS
    ]
)
def make(request: pytest.FixtureRequest, pair: Pair) -> Callable[[Any], ae.Watcher]:
    """Make a watcher of each kind."""
    maker = MAKERS[request.param]
    return lambda callback: maker(pair[1], callback)


def nothing(*args: object) -> None:
    return None


# ---------------------------------------------------------------------- the object


def test_every_kind_can_be_cancelled_again_and_again(make: Callable[[Any], ae.Watcher]) -> None:
    watcher = make(nothing)
    assert watcher.active
    assert watcher.callback is nothing
    watcher.cancel()
    watcher.cancel()
    assert not watcher.active
    assert watcher.callback is None


def test_every_kind_ends_with_its_last_reference(make: Callable[[Any], ae.Watcher]) -> None:
    # CORE-01
    class Callback:
        def __call__(self, *args: object) -> None:
            return None

    gc.disable()
    try:
        callback = Callback()
        gone = weakref.ref(callback)
        watcher = make(callback)
        del callback
        assert gone() is not None
        kind = watcher.kind
        del watcher
        if kind == "child":
            settle(1)  # a first look is under way
        assert gone() is None
    finally:
        gc.enable()
    with pytest.raises(ae.Deadlock):
        ae.CondVar[None]().recv()


def test_every_kind_is_a_context_manager(make: Callable[[Any], ae.Watcher]) -> None:
    with make(nothing) as watcher:
        assert watcher.active
    assert not watcher.active
    with pytest.raises(KeyError), make(nothing) as watcher:
        raise KeyError
    assert not watcher.active


def test_every_kind_can_be_weakly_referenced_and_has_no_dict(
    make: Callable[[Any], ae.Watcher],
) -> None:
    watcher = make(nothing)
    assert weakref.ref(watcher)() is watcher
    assert not hasattr(watcher, "__dict__")


def test_every_kind_describes_itself(make: Callable[[Any], ae.Watcher]) -> None:
    watcher = make(nothing)
    assert watcher.kind in ("io", "timer", "signal", "idle", "child")
    text = repr(watcher)
    assert watcher.kind in text
    assert "nothing active" in text
    watcher.cancel()
    assert "inactive" in repr(watcher)


def test_watchers_are_equal_to_themselves_only(pair: Pair) -> None:
    one = ae.timer(60, nothing)
    two = ae.timer(60, nothing)
    three = ae.io(pair[0], "r", nothing)
    four = ae.io(pair[0], "r", nothing)
    assert len({one, two, three, four}) == 4
    assert one == one
    assert one != two
    assert one != 3
    assert three != four


def test_none_of_them_can_be_entered_when_its_loop_has_ended(
    make: Callable[[Any], ae.Watcher],
) -> None:
    from ae_core.testing import release

    watcher = make(nothing)
    release()
    assert not watcher.active
    watcher.cancel()
    with pytest.raises(ae.WrongLoop, match="loop that has ended"):
        watcher.__enter__()


def test_dropping_in_the_expression_that_made_it_is_pointed_at(pair: Pair) -> None:
    with pytest.warns(strict.StrictWarning, match="dropped"):
        ae.timer(60, nothing)


def test_what_a_callback_sets_is_not_seen_by_the_next(pair: Pair, trace: Trace) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    watchers: list[ae.Watcher] = []

    def callback() -> None:
        trace(variable.get())
        variable.set("left over")

    def make() -> None:
        watchers.extend(ae.timer(0, callback) for _ in range(2))
        watchers.extend(ae.timer(0, callback, interval=0.0001) for _ in range(2))
        watchers.extend(ae.io(sock, "w", callback) for sock in pair)
        ae.postpone(callback)
        ae.postpone(callback)

    contextvars.Context().run(make)  # nothing is set there
    trace.run_until(30)
    watchers.clear()
    assert set(trace) == {"none"}


# ---------------------------------------------------------------------- weak


class Peer:
    def __init__(self, trace: Trace, sock: socket.socket) -> None:
        self.trace = trace
        self.watcher = ae.io(sock, "r", ae.weak(self.on_read))

    def on_read(self) -> None:
        self.trace("read")


def test_a_weak_callback_lets_its_object_go_with_the_watcher(pair: Pair, trace: Trace) -> None:
    pair[0].send(b"x")
    gc.disable()
    try:
        peer = Peer(trace, pair[1])
        trace.run_until(1)
        gone = weakref.ref(peer)
        del peer
        assert gone() is None
    finally:
        gc.enable()
    trace.clear()
    settle()
    assert trace == []


def test_a_weak_callback_passes_its_arguments_on() -> None:
    class Thing:
        def method(self, *args: int) -> tuple[int, ...]:
            return args

    thing = Thing()
    callback = ae.weak(thing.method)
    assert callback(1, 2) == (1, 2)
    assert "method" in repr(callback)
    del thing
    assert callback(1, 2) is None


@pytest.mark.parametrize("bad", [nothing, print, 3, None, lambda: None])
def test_only_bound_methods_can_be_weak(bad: Any) -> None:
    with pytest.raises(TypeError, match="bound method"):
        ae.weak(bad)


# ---------------------------------------------------------------------- bad input


def on_socket(direction: Any) -> ae.Watcher:
    with socket.socket() as sock:
        return ae.io(sock, direction, nothing)


class Odd:
    """What one gets by mistake."""

    def fileno(self) -> str:
        return "seven"


CLOSED = 10_000

BAD: list[tuple[str, Callable[[], object], type[Exception], str]] = [
    ("io without a callback", lambda: ae.io(0, "r", None), TypeError, "callable"),  # type: ignore[arg-type]
    ("io of a text", lambda: ae.io("0", "r", nothing), TypeError, "'0'"),  # type: ignore[arg-type]
    ("io of None", lambda: ae.io(None, "r", nothing), TypeError, "None"),  # type: ignore[arg-type]
    ("io of a float", lambda: ae.io(0.5, "r", nothing), TypeError, "0.5"),  # type: ignore[arg-type]
    ("io of half a file", lambda: ae.io(Odd(), "r", nothing), TypeError, "'seven'"),  # type: ignore[arg-type]
    ("io of a bool", lambda: ae.io(True, "r", nothing), TypeError, "True"),
    ("io of -1", lambda: ae.io(-1, "r", nothing), ValueError, "-1"),
    ("io of a closed socket", lambda: ae.io(closed(), "r", nothing), ValueError, "open desc"),
    ("io in no direction", lambda: on_socket("x"), ValueError, "'x'"),
    ("io in both directions", lambda: on_socket("rw"), ValueError, "'rw'"),
    ("io, direction by number", lambda: on_socket(1), ValueError, "1"),
    ("timer without a callback", lambda: ae.timer(0, None), TypeError, "callable"),  # type: ignore[arg-type]
    ("timer of a text", lambda: ae.timer("1", nothing), TypeError, "'1'"),  # type: ignore[arg-type]
    ("timer of nan", lambda: ae.timer(float("nan"), nothing), ValueError, "nan"),
    ("interval of a text", lambda: ae.timer(1, nothing, interval="1"), TypeError, "'1'"),  # type: ignore[arg-type]
    ("interval below zero", lambda: ae.timer(1, nothing, interval=-1), ValueError, "-1"),
    ("signal without a callback", lambda: ae.signal("TERM", None), TypeError, "callable"),  # type: ignore[arg-type]
    ("signal unknown", lambda: ae.signal("NOSUCH", nothing), ValueError, "'NOSUCH'"),
    ("signal with SIG", lambda: ae.signal("SIGTERM", nothing), ValueError, "expected 'TERM'"),
    ("signal in lower case", lambda: ae.signal("term", nothing), ValueError, "'term'"),
    ("signal 0", lambda: ae.signal(0, nothing), ValueError, "0"),
    ("signal 1000", lambda: ae.signal(1000, nothing), ValueError, "1000"),
    ("signal of None", lambda: ae.signal(None, nothing), TypeError, "None"),  # type: ignore[arg-type]
    ("signal of a bool", lambda: ae.signal(True, nothing), TypeError, "True"),
    ("child without a callback", lambda: ae.child(0, None), TypeError, "callable"),  # type: ignore[arg-type]
    ("child of a text", lambda: ae.child("1", nothing), TypeError, "'1'"),  # type: ignore[arg-type]
    ("child of a bool", lambda: ae.child(True, nothing), TypeError, "True"),
    ("child below zero", lambda: ae.child(-1, nothing), ValueError, "-1"),
    ("child, none", lambda: ae.child(2**22 + 1, nothing), ChildProcessError, "no child"),
    ("idle without a callback", lambda: ae.idle(None), TypeError, "callable"),  # type: ignore[arg-type]
    ("postpone nothing", lambda: ae.postpone(None), TypeError, "None"),  # type: ignore[arg-type, func-returns-value]
    ("call_threadsafe nothing", lambda: ae.call_threadsafe(3), TypeError, "3"),  # type: ignore[arg-type, func-returns-value]
    ("threadsafe, nothing", lambda: ae.detect().call_threadsafe(3), TypeError, "3"),  # type: ignore[arg-type, func-returns-value]
    ("post_detect nothing", lambda: ae.post_detect(3), TypeError, "3"),  # type: ignore[arg-type]
    ("use without a name", lambda: ae.use(3), TypeError, "3"),  # type: ignore[arg-type, func-returns-value]
    ("use of an unknown", lambda: ae.use("nosuch"), ValueError, "'nosuch'"),  # type: ignore[func-returns-value]
]
if os.name == "posix":  # Windows has none of either kind
    BAD += [
        ("signal that cannot be caught", lambda: ae.signal("KILL", nothing), OSError, ""),
        ("child of others", lambda: ae.child(os.getppid(), nothing), ChildProcessError, "no child"),
    ]


def closed() -> socket.socket:
    sock = socket.socket()
    sock.close()
    return sock


@pytest.mark.parametrize("mode", ["strict", "lax"])
@pytest.mark.parametrize(
    ("call", "kind", "text"), [entry[1:] for entry in BAD], ids=[entry[0] for entry in BAD]
)
def test_bad_input_is_refused_at_once_and_leaves_nothing(
    call: Callable[[], object],
    kind: type[Exception],
    text: str,
    mode: str,
    request: pytest.FixtureRequest,
) -> None:
    if mode == "lax":
        request.getfixturevalue("lax")
    before = [signal.getsignal(number) for number in signal.valid_signals()]
    with leak_check():
        with pytest.raises(kind) as caught:
            call()
        assert text in str(caught.value)
        settle(1)
    assert [signal.getsignal(number) for number in signal.valid_signals()] == before
    with pytest.raises(ae.Deadlock):
        ae.CondVar[None]().recv()


def test_a_closed_descriptor_is_refused_in_strict_mode() -> None:
    with pytest.raises(ValueError, match="10000"):
        ae.io(CLOSED, "r", nothing)


@pytest.mark.usefixtures("lax")
def test_a_closed_descriptor_is_refused_by_the_call_or_reported_once(
    monkeypatch: pytest.MonkeyPatch, trace: Trace
) -> None:
    errors: list[Any] = []
    monkeypatch.setattr(
        ae, "exception_hook", lambda error, watcher: errors.append((error, watcher))
    )
    watcher = None
    try:
        watcher = ae.io(CLOSED, "r", trace.recorder("called"))
    except (ValueError, OSError) as error:
        errors.append((error, watcher))
    settle()
    assert len(errors) == 1
    assert errors[0][1] == watcher
    assert watcher is None or not watcher.active
    assert trace == []


def test_all_signals_can_be_named_in_three_ways() -> None:
    for which in ("TERM", signal.SIGTERM, int(signal.SIGTERM)):
        with ae.signal(which, nothing) as watcher:
            assert "TERM" in repr(watcher)


# ---------------------------------------------------------------------- descriptors


@contextmanager
def occupied(number: int) -> Iterator[socket.socket]:
    """Make the free descriptor *number* one of a pair of sockets; yield the other."""
    left, right = socket.socketpair()
    if left.fileno() == number:
        left, right = right, left
    with left, right:
        if right.fileno() != number:
            os.dup2(right.fileno(), number)
        try:
            yield left
        finally:
            if right.fileno() != number:
                os.close(number)


multiplexers = pytest.mark.parametrize("multiplexer", MULTIPLEXERS)
chosen_numbers = pytest.mark.skipif(os.name == "nt", reason="nobody chooses a socket's number")
regular_files = pytest.mark.skipif(os.name == "nt", reason="only sockets can be waited for")


@pytest.mark.usefixtures("unbound")
@multiplexers
class TestDescriptorTraps:
    """design.md 10 and api.md: what a kernel remembers of descriptors that are gone."""

    @pytest.fixture(autouse=True)
    def _use(self, multiplexer: str) -> None:
        ae.use("loop", multiplexer=multiplexer)
        assert ae.detect().statistics()["multiplexer"] == multiplexer

    @pytest.fixture(params=[1, 2], ids=["new", "known"])
    def calls(self, request: pytest.FixtureRequest) -> int:
        """Say after how many calls a watcher ends: epoll's set has it from the second turn on."""
        number: int = request.param
        return number

    def turns_in(self, seconds: float) -> int:
        """Count the loop's turns while nothing ought to happen."""
        backend = ae.detect()
        turns = 0
        original = backend._turn  # type: ignore[attr-defined]

        def counted(block: bool) -> None:
            nonlocal turns
            turns += 1
            original(block)

        backend._turn = counted  # type: ignore[attr-defined]
        try:
            ae.sleep(seconds).recv()
        finally:
            del backend._turn  # type: ignore[attr-defined]
        return turns

    def test_cancel_then_close_with_a_duplicate_alive(
        self, pair: Pair, trace: Trace, calls: int
    ) -> None:
        pair[0].send(b"x")
        twin = pair[1].dup()
        watcher = ae.io(pair[1], "r", trace.recorder("old"))
        trace.run_until(calls)
        mux = ae.detect()._mux  # type: ignore[attr-defined]
        watcher.cancel()
        pair[1].close()
        trace.clear()
        assert self.turns_in(0.02) < 5
        # it was deleted by cancel(), when that was still possible
        assert ae.detect()._mux is mux  # type: ignore[attr-defined]
        twin.close()
        assert trace == []

    def test_close_then_cancel_with_a_duplicate_alive(
        self, pair: Pair, trace: Trace, calls: int
    ) -> None:
        pair[0].send(b"x")
        twin = pair[1].dup()
        watcher = ae.io(pair[1], "r", trace.recorder("old"))
        trace.run_until(calls)
        pair[1].close()
        watcher.cancel()
        trace.clear()
        # the kernel reports it for ever: the set has to be built anew, once
        assert self.turns_in(0.02) < 10
        assert trace == []
        with ae.io(twin, "r", trace.recorder("twin")):
            trace.run_until(2)
        twin.close()

    @chosen_numbers
    def test_the_same_number_for_another_file_in_the_same_turn(
        self, pair: Pair, trace: Trace, calls: int
    ) -> None:
        pair[0].send(b"x")
        old = ae.io(pair[1], "r", trace.recorder("old"))
        trace.run_until(calls)
        number = pair[1].fileno()
        old.cancel()
        pair[1].close()
        with occupied(number):
            with ae.io(number, "w", trace.recorder("new")):
                trace.clear()
                trace.run_until(2)
                assert set(trace) == {"new"}
            with ae.io(number, "r", trace.recorder("readable")):
                trace.clear()
                assert self.turns_in(0.01) < 5
                assert trace == []

    @chosen_numbers
    def test_closed_and_opened_again_under_its_watcher(
        self, pair: Pair, trace: Trace, calls: int
    ) -> None:
        # a mistake, but a loop has to live through it
        watcher = ae.io(pair[1], "r", trace.recorder("called"))
        settle(calls)
        left, right = socket.socketpair()
        with left, right:
            os.dup2(right.fileno(), pair[1].fileno())
            watcher.cancel()
            with ae.io(pair[1], "r", trace.recorder("new")):
                settle(1)
                left.send(b"x")
                trace.run_until(1)
                assert trace[0] == "new"

    @chosen_numbers
    def test_a_direction_that_the_old_file_is_ready_for(self, pair: Pair, trace: Trace) -> None:
        # closed before its watchers were cancelled, and a duplicate keeps it in the kernel's set
        number = pair[1].fileno()
        with ae.io(number, "r", nothing), ae.io(number, "w", trace.recorder("old")):
            trace.run_until(2)
            twin = pair[1].dup()
            pair[1].close()
        with twin, occupied(number) as far, ae.io(number, "r", trace.recorder("new")):
            trace.clear()
            assert self.turns_in(0.02) < 10
            assert trace == []
            far.send(b"x")
            trace.run_until(1)

    @chosen_numbers
    def test_closed_and_back_from_a_duplicate(self, pair: Pair, trace: Trace, calls: int) -> None:
        number = pair[1].fileno()
        pair[0].send(b"x")
        watcher = ae.io(number, "r", trace.recorder("old"))
        trace.run_until(calls)
        twin = pair[1].dup()
        pair[1].close()
        watcher.cancel()
        with twin:
            os.dup2(twin.fileno(), number)
            try:
                with ae.io(number, "r", trace.recorder("new")):
                    trace.clear()
                    trace.run_until(3)
                    assert set(trace) == {"new"}
                trace.clear()
                assert self.turns_in(0.02) < 5
                assert trace == []
            finally:
                os.close(number)

    def test_watching_one_direction_and_then_the_other(
        self, pair: Pair, trace: Trace, calls: int
    ) -> None:
        pair[0].send(b"x")
        reader = ae.io(pair[1], "r", trace.recorder("r"))
        trace.run_until(calls)
        writer = ae.io(pair[1], "w", trace.recorder("w"))
        reader.cancel()
        trace.clear()
        trace.run_until(2)
        assert set(trace) == {"w"}
        reader = ae.io(pair[1], "r", trace.recorder("r"))
        writer.cancel()
        trace.clear()
        trace.run_until(2)
        assert set(trace) == {"r"}
        reader.cancel()
        assert self.turns_in(0.01) < 5

    def test_in_a_callback_the_watchers_of_others_change_hands(
        self, pair: Pair, trace: Trace
    ) -> None:
        other = socket.socketpair()
        with other[0], other[1]:
            pair[0].send(b"x")
            other[0].send(b"x")
            watchers: dict[int, ae.Watcher] = {}

            def ready(me: int, sock: socket.socket) -> None:
                trace(me)
                watchers.clear()
                watchers[2] = ae.io(sock, "r", trace.recorder("later"))

            watchers[0] = ae.io(pair[1], "r", lambda: ready(0, other[1]))
            watchers[1] = ae.io(other[1], "r", lambda: ready(1, pair[1]))
            trace.run_until(3)
            assert trace[0] in (0, 1)
            assert trace[1:] == ["later", "later"]
            watchers.clear()

    @regular_files
    @pytest.mark.usefixtures("lax")
    def test_a_regular_file_is_always_ready(self, trace: Trace) -> None:
        with tempfile.TemporaryFile() as file:
            with ae.io(file, "r", trace.recorder("r")), ae.io(file, "w", trace.recorder("w")):
                with ae.io(file, "r", trace.recorder("again")):
                    trace.run_until(9)
                    assert set(trace) == {"r", "w", "again"}
                trace.clear()
                trace.run_until(6)
                assert set(trace) == {"r", "w"}
            trace.clear()
            settle()
            assert trace == []
        assert self.turns_in(0.01) < 5

    @regular_files
    @pytest.mark.usefixtures("lax")
    def test_a_number_that_was_a_regular_file_can_be_a_socket(
        self, pair: Pair, trace: Trace, calls: int
    ) -> None:
        with tempfile.TemporaryFile() as regular:
            file = os.dup(regular.fileno())
        try:
            with ae.io(file, "r", trace.recorder("file")):
                trace.run_until(calls)
            os.dup2(pair[1].fileno(), file)
            trace.clear()
            with ae.io(file, "r", trace.recorder("socket")):
                assert self.turns_in(0.01) < 5
                assert trace == []
                pair[0].send(b"x")
                trace.run_until(1)
        finally:
            os.close(file)

    def test_a_thousand_descriptors(self, trace: Trace) -> None:
        pairs = [socket.socketpair() for _ in range(100)]
        settle(1)
        before = ae.detect().statistics()["descriptors"]
        try:
            watchers = [
                ae.io(sock, direction, trace.recorder(direction))
                for pair in pairs
                for sock in pair
                for direction in ("r", "w")
            ]
            trace.run_until(200)
            assert set(trace) == {"w"}
            watchers.clear()
            assert ae.detect().statistics()["descriptors"] == before
        finally:
            for pair in pairs:
                for sock in pair:
                    sock.close()


@pytest.mark.skipif("select" not in MULTIPLEXERS, reason="needs select()")
@pytest.mark.usefixtures("unbound", "lax")
def test_select_refuses_what_it_cannot_wait_for(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, trace: Trace
) -> None:
    errors: list[Any] = []
    monkeypatch.setattr(
        ae, "exception_hook", lambda error, watcher: errors.append((error, watcher))
    )
    ae.use("loop", multiplexer="select")
    resource = pytest.importorskip("resource")  # on Windows select() counts sockets
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft <= 1100:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1200, hard), hard))
    high = os.dup2(pair[1].fileno(), 1100)
    try:
        watcher = ae.io(high, "r", trace.recorder("called"))
        settle()
        assert [str(error) for error, _ in errors] == [
            "[Errno 24] select cannot wait for descriptor 1100, its limit is 1023"
        ]
        assert not watcher.active
    finally:
        os.close(high)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_descriptors_without_the_garbage_collector_leave_nothing(pair: Pair) -> None:
    # reliability 29
    settle(1)
    before = ae.detect().statistics()
    gc.disable()
    try:
        for direction in ("r", "w") * 1000:
            watcher = ae.io(pair[1], direction, lambda: None)
        del watcher
        settle(1)
        assert ae.detect().statistics() == before
    finally:
        gc.enable()


# ---------------------------------------------------------------------- idle, emulated


def test_emulated_idle_uses_half_of_the_time_at_most(
    monkeypatch: pytest.MonkeyPatch, trace: Trace
) -> None:
    # CORE-52: first after 0.05 s, then a pause as long as the callback took, 0.0001 to 5 s
    from ae_core.testing import VirtualBackend

    monkeypatch.setattr(VirtualBackend, "strict_idle", False)
    with virtual_time() as clock:

        def idle() -> None:
            trace(round(clock.elapsed, 6))
            clock.pass_time((0.0, 0.25, 20.0, 0.0)[len(trace) - 1])

        with ae.idle(idle):
            trace.run_until(4)
        assert trace == [0.05, 0.0501, 0.0501 + 0.25 + 0.25, 0.5501 + 20.0 + 5.0]
