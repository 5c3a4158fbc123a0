"""Demands on descriptors: which watchers are called, how often, and which not any more."""

from __future__ import annotations

__all__ = ()

import os
import socket
import struct
import tempfile
from typing import TYPE_CHECKING

from ... import _api as ae
from ..._async.condvar import CondVar
from ..._detection.current import detect
from .scene import Scene, case, expect, expect_equal, send_once

if TYPE_CHECKING:
    from ..._loop.watchers import Watcher


@case("io")
async def a_descriptor_without_data_is_not_readable(scene: Scene) -> None:
    _, right = scene.pair()
    with ae.io(right, "r", scene.trace.recorder("readable")):
        await scene.pause(0.02)
    expect_equal(scene.trace, [])


@case("io")
async def data_makes_readable(scene: Scene) -> None:
    left, right = scene.pair()
    with ae.io(right, "r", lambda: scene.trace(right.recv(10))):
        left.send(b"ping")
        scene.trace("written")
        await scene.wait_until(2)
        left.send(b"pong")
        await scene.wait_until(3)
    expect_equal(scene.trace, ["written", b"ping", b"pong"])


@case("io")
async def readiness_is_reported_again_until_it_is_used_up(scene: Scene) -> None:
    left, right = scene.pair()
    left.send(b"x")
    with ae.io(right, "r", scene.trace.recorder("readable")):
        await scene.wait_until(3)


@case("io")
async def a_connection_that_was_reset_is_readable_until_the_error_is_read(scene: Scene) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        left = socket.create_connection(server.getsockname())
        right, _ = server.accept()
    left.setblocking(False)
    # a zero time to linger: close() resets the connection
    linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
    right.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    right.send(b"data")
    right.close()

    def readable() -> None:
        try:
            scene.trace(left.recv(1))
        except ConnectionResetError:
            scene.trace("reset")

    with left, ae.io(left, "r", readable):
        await scene.wait_until(5)
    expect_equal(scene.trace[:5], [b"d", b"a", b"t", b"a", "reset"])


@case("io")
async def one_shot_write_watchers_play_ping_pong(scene: Scene) -> None:
    # A07.2
    left, right = scene.pair()
    trace = scene.trace
    done: CondVar[None] = CondVar()
    watchers: dict[str, Watcher] = {}

    def write(sock: socket.socket, name: str, data: bytes) -> None:
        del watchers[name]
        trace(f"{name} writes")
        sock.send(data)

    def right_reads() -> None:
        trace("right reads", right.recv(1))
        watchers["right"] = ae.io(right, "w", lambda: write(right, "right", b"1"))

    def left_reads() -> None:
        trace("left reads", left.recv(1))
        done.send()

    watchers["left"] = ae.io(left, "w", lambda: write(left, "left", b"0"))
    with ae.io(right, "r", right_reads), ae.io(left, "r", left_reads):
        await scene.wait(done)
    expect_equal(
        trace,
        ["left writes", ("right reads", b"0"), "right writes", ("left reads", b"1")],
    )


@case("io")
async def both_directions_of_one_descriptor_are_watched(scene: Scene) -> None:
    left, right = scene.pair()
    left.send(b"x")
    seen: set[str] = set()
    done: CondVar[None] = CondVar()

    def ready(direction: str) -> None:
        seen.add(direction)
        if len(seen) == 2:
            done.send()

    with ae.io(right, "r", lambda: ready("r")), ae.io(right, "w", lambda: ready("w")):
        await scene.wait(done)


@case("io")
async def ending_one_direction_leaves_the_other(scene: Scene) -> None:
    for ended, stays in (("r", "w"), ("w", "r")):
        left, right = scene.pair()
        left.send(b"x")
        scene.trace.clear()
        first = ae.io(right, ended, scene.trace.recorder(ended))  # type: ignore[arg-type]
        second = ae.io(right, stays, scene.trace.recorder(stays))  # type: ignore[arg-type]
        await scene.wait_until(2)
        first.cancel()
        scene.trace.clear()
        await scene.wait_until(3)
        second.cancel()
        expect_equal(set(scene.trace), {stays})


@case("io")
async def several_watchers_of_one_event_are_all_called(scene: Scene) -> None:
    # A09.1, A09.2, A09.4
    left, right = scene.pair()
    for direction in ("w", "r"):
        done: CondVar[None] = CondVar()
        calls = {1: 0, 2: 0}

        def ready(number: int, calls: dict[int, int] = calls, done: CondVar[None] = done) -> None:
            calls[number] += 1
            if all(calls.values()) and not done.ready:
                done.send()

        one = ae.io(right, direction, lambda ready=ready: ready(1))  # type: ignore[misc]
        two = ae.io(right, direction, lambda ready=ready: ready(2))  # type: ignore[misc]
        if direction == "r":
            await scene.pause(0.01)
            expect_equal(calls, {1: 0, 2: 0}, "without data")
            left.send(b"x")
        await scene.wait(done)
        if direction == "r":
            right.recv(1)
            await scene.pause(0.002)  # a loop may have looked before
            before = dict(calls)
            await scene.pause(0.01)
            expect_equal(calls, before, "after the data was read")
        one.cancel()
        two.cancel()


@case("io")
async def any_of_several_watchers_may_end_first(scene: Scene) -> None:
    for ends in range(3):
        left, right = scene.pair()
        left.send(b"x")
        watchers = [ae.io(right, "r", scene.trace.recorder(number)) for number in range(3)]
        watchers[ends].cancel()
        scene.trace.clear()
        await scene.wait_until(4)
        expect_equal(set(scene.trace), {0, 1, 2} - {ends}, f"after the end of number {ends}")
        for watcher in watchers:
            watcher.cancel()
        scene.trace.clear()
        await scene.turns(3)
        expect_equal(scene.trace, [], "after the end of all")


@case("io")
async def a_watcher_made_in_a_callback_for_the_same_descriptor_is_called(scene: Scene) -> None:
    left, right = scene.pair()
    left.send(b"x")
    second: list[Watcher] = []

    def first() -> None:
        if not second:
            second.append(ae.io(right, "r", scene.trace.recorder("second")))

    with ae.io(right, "r", first):
        await scene.wait_until(1)
    scene.trace.clear()
    await scene.wait_until(1)  # the first has ended, the second goes on
    second.clear()


@case("io")
async def the_end_of_the_peer_makes_readable(scene: Scene) -> None:
    left, right = scene.pair()
    with ae.io(right, "r", lambda: scene.trace(right.recv(1))):
        left.close()
        await scene.wait_until(1)
    expect_equal(scene.trace[0], b"")


@case("io", "posix")
async def a_broken_pipe_makes_writable(scene: Scene) -> None:
    fd, writer = os.pipe()
    scene.stack.callback(os.close, writer)
    reader = scene.stack.enter_context(open(fd, "rb"))  # noqa: SIM115
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 65536)
    except BlockingIOError:
        pass  # it is full, so not writable
    with ae.io(writer, "w", scene.trace.recorder("writable")):
        await scene.pause(0.01)
        expect_equal(scene.trace, [], "while it is full")
        reader.close()
        await scene.wait_until(1)


@case("io", "posix")
async def the_end_of_a_pipe_makes_readable(scene: Scene) -> None:
    reader, writer = os.pipe()
    scene.stack.callback(os.close, reader)
    with ae.io(reader, "r", lambda: scene.trace(os.read(reader, 1))):
        os.close(writer)
        await scene.wait_until(1)
    expect_equal(scene.trace[0], b"")


@case("io")
async def of_two_ready_watchers_the_first_may_cancel_the_second(scene: Scene) -> None:
    # B15: whichever comes first
    pairs = [scene.pair(), scene.pair()]
    for left, _ in pairs:
        left.send(b"x")
    watchers: list[Watcher] = []

    def ready(number: int) -> None:
        scene.trace(number)
        for watcher in watchers:
            watcher.cancel()

    watchers += [ae.io(pairs[n][1], "r", lambda n=n: ready(n)) for n in (0, 1)]  # type: ignore[misc]
    await scene.wait_until(1)
    await scene.turns(3)
    expect_equal(len(scene.trace), 1, "calls, after the first has cancelled both")


@case("io")
async def of_two_watchers_of_one_event_the_first_may_cancel_the_second(scene: Scene) -> None:
    left, right = scene.pair()
    left.send(b"x")
    watchers: list[Watcher] = []

    def ready(number: int) -> None:
        scene.trace(number)
        for watcher in watchers:
            watcher.cancel()

    watchers += [ae.io(right, "r", lambda n=n: ready(n)) for n in (0, 1, 2)]  # type: ignore[misc]
    await scene.wait_until(1)
    await scene.turns(3)
    expect_equal(len(scene.trace), 1, "calls, after the first has cancelled all")


@case("io")
async def a_reader_may_cancel_the_writer_of_its_descriptor(scene: Scene) -> None:
    left, right = scene.pair()
    left.send(b"x")
    watchers: dict[str, Watcher] = {}

    def ready(direction: str, other: str) -> None:
        scene.trace(direction)
        watchers[other].cancel()
        watchers[direction].cancel()

    watchers["r"] = ae.io(right, "r", lambda: ready("r", "w"))
    watchers["w"] = ae.io(right, "w", lambda: ready("w", "r"))
    await scene.wait_until(1)
    await scene.turns(3)
    expect_equal(len(scene.trace), 1, "calls, after the first has cancelled both")


@case("io")
async def a_watcher_may_end_in_its_own_callback(scene: Scene) -> None:
    left, right = scene.pair()
    left.send(b"x")
    holder: list[Watcher] = []

    def cancels() -> None:
        scene.trace("cancels")
        holder[0].cancel()

    def drops() -> None:
        scene.trace("drops")
        holder.clear()

    for callback in (cancels, drops):
        holder.append(ae.io(right, "r", callback))
        await scene.wait_until(len(scene.trace) + 1)
        await scene.turns(3)
        holder.clear()
    expect_equal(scene.trace, ["cancels", "drops"])


@case("io")
async def a_dropped_watcher_is_not_called(scene: Scene) -> None:
    left, right = scene.pair()
    left.send(b"x")
    watcher = ae.io(right, "r", scene.trace.recorder("readable"))
    await scene.wait_until(1)
    del watcher
    scene.trace.clear()
    await scene.turns(3)
    expect_equal(scene.trace, [])


@case("io")
async def a_watcher_that_never_saw_the_loop_may_end(scene: Scene) -> None:
    left, right = scene.pair()
    left.send(b"x")
    ae.io(right, "w", scene.trace.recorder("writable")).cancel()
    reader = ae.io(right, "r", scene.trace.recorder("readable"))
    reader.cancel()
    with ae.io(right, "r", scene.trace.recorder("again")):
        await scene.wait_until(1)
    expect_equal(set(scene.trace), {"again"})


@case("io", "posix")
async def a_reused_number_belongs_to_its_new_watcher_alone(scene: Scene) -> None:
    for seen_by_the_loop in (False, True):
        old_peer, old = scene.pair()
        old_peer.send(b"x")
        watcher = ae.io(old, "r", scene.trace.recorder("old"))
        if seen_by_the_loop:
            await scene.wait_until(1)
        number = old.fileno()
        watcher.cancel()
        old.close()
        scene.trace.clear()
        peer, number = scene.reopen(number)
        with ae.io(number, "r", scene.trace.recorder("new")):
            await scene.turns(3)
            expect_equal(scene.trace, [], "before there is data")
            peer.send(b"x")
            await scene.wait_until(2)
        expect_equal(set(scene.trace), {"new"})
        peer.close()


@case("io", "posix")
async def a_duplicate_that_lives_on_is_not_reported(scene: Scene) -> None:
    """What a kernel keeps of a closed descriptor must neither call a watcher nor spin the loop."""
    left, right = scene.pair()
    left.send(b"x")
    number = right.fileno()
    twin = os.dup(number)
    scene.stack.callback(os.close, twin)
    # in order: cancelled, then closed, while a duplicate is alive
    watcher = ae.io(right, "r", scene.trace.recorder("old"))
    await scene.wait_until(1)
    watcher.cancel()
    right.close()
    scene.trace.clear()
    await scene.turns(3)
    expect_equal(scene.trace, [])
    # the number again, for a file without data
    _, number = scene.reopen(number)
    with ae.io(number, "r", scene.trace.recorder("new")):
        await scene.turns(3)
    expect_equal(scene.trace, [])
    with ae.io(twin, "r", scene.trace.recorder("twin")):
        await scene.wait_until(1)


@case("io", "posix", "lax")
async def a_descriptor_closed_before_its_watcher_ended_does_no_lasting_harm(scene: Scene) -> None:
    left, right = scene.pair()
    left.send(b"x")
    twin = os.dup(right.fileno())
    scene.stack.callback(os.close, twin)
    watcher = ae.io(right, "r", scene.trace.recorder("old"))
    await scene.wait_until(1)
    right.close()  # the mistake
    watcher.cancel()
    scene.trace.clear()
    await scene.pause(0.01)
    expect_equal(scene.trace, [], "calls after cancel()")
    with ae.io(twin, "r", scene.trace.recorder("twin")):
        await scene.wait_until(1)
    scene.errors.clear()  # a backend may complain about the mistake


@case("io", "posix", "lax")
async def a_regular_file_is_always_ready(scene: Scene) -> None:
    with tempfile.TemporaryFile() as file:
        for direction in ("r", "w"):
            scene.trace.clear()
            watcher = ae.io(file, direction, scene.trace.recorder(direction))
            expect_equal(scene.trace, [], "inside the call")
            await scene.wait_until(3)
            watcher.cancel()
            scene.trace.clear()
            await scene.turns(3)
            expect_equal(scene.trace, [], "after cancel()")


@case("io", "posix", "lax")
async def a_regular_file_does_not_keep_others_from_running(scene: Scene) -> None:
    left, right = scene.pair()
    with tempfile.TemporaryFile() as file, ae.io(file, "r", lambda: None):
        with ae.io(right, "r", scene.trace.recorder("readable")):
            left.send(b"x")
            await scene.wait_until(1)
        scene.trace.clear()
        with ae.timer(0.001, scene.trace.recorder("timer")):
            await scene.wait_until(1)


@case("io")
async def an_error_in_a_callback_is_reported_and_harms_nobody(scene: Scene) -> None:
    left, right = scene.pair()
    left.send(b"xy")
    trace = scene.trace

    def fails() -> None:
        trace("fails")
        right.recv(1)
        raise ValueError("of a test")

    watcher = ae.io(right, "r", fails)
    await scene.wait_until(2)
    expect_equal([who for _, who in scene.errors], [watcher, watcher], "the watchers named")
    expect_equal(scene.take_errors(), ["ValueError: of a test"] * 2)
    watcher.cancel()


@case("io")
async def an_error_in_one_watcher_does_not_keep_its_peer_from_running(scene: Scene) -> None:
    left, right = scene.pair()
    left.send(b"x")

    def fails() -> None:
        raise ValueError("of a test")

    first = ae.io(right, "r", fails)
    second = ae.io(right, "r", scene.trace.recorder("second"))
    await scene.wait_until(1)
    first.cancel()
    second.cancel()
    expect("ValueError: of a test" in scene.take_errors(), "the error is reported")


@case("io")
async def a_hundred_descriptors_are_told_apart(scene: Scene) -> None:
    pairs = [scene.pair() for _ in range(100)]
    watchers: dict[int, Watcher] = {}

    def ready(number: int) -> None:
        scene.trace((number, pairs[number][1].recv(10)))
        del watchers[number]

    for number in range(100):
        watchers[number] = ae.io(pairs[number][1], "r", lambda number=number: ready(number))  # type: ignore[misc]
    for number in range(100):
        pairs[number][0].send(b"%d" % number)
    await scene.wait_until(100)
    expect_equal(sorted(scene.trace), [(number, b"%d" % number) for number in range(100)])


@case("io")
async def a_chain_of_zero_timers_does_not_starve_it(scene: Scene) -> None:
    # LOOP-04
    left, right = scene.pair()
    left.send(b"x")
    timers: list[Watcher] = []

    def again() -> None:
        scene.trace("timer")
        if not done.ready:
            timers[:] = [ae.timer(0, again)]

    done: CondVar[None] = CondVar()
    timers.append(ae.timer(0, again))
    with ae.io(right, "r", lambda: send_once(done)):
        await scene.wait(done)
    timers.clear()
    most = 100 if detect().prompt_io else 100_000
    expect(len(scene.trace) < most, f"{len(scene.trace)} timers ran before a ready descriptor")


@case("io")
async def an_endless_chain_of_postponed_calls_does_not_starve_it(scene: Scene) -> None:
    left, right = scene.pair()
    done: CondVar[None] = CondVar()

    def again() -> None:
        if not done.ready:
            ae.postpone(again)

    ae.postpone(again)
    left.send(b"x")
    with ae.io(right, "r", lambda: send_once(done)):
        await scene.wait(done)
    await scene.turns(2)
