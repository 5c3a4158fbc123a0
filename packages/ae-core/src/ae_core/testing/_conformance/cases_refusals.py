"""Demands on descriptors that cannot be watched, are always ready, or are others by now."""

from __future__ import annotations

__all__ = ()

import errno
import os

from ... import _api as ae
from .scene import Scene, case, expect, expect_equal, expect_raises

NEVER_OPEN = 1_000_000


@case("refusal", "posix")
async def a_number_that_no_descriptor_has_is_refused_at_the_call(scene: Scene) -> None:
    for number in (-1, 2**31, 2**63, 10**30):
        for direction in ("r", "w"):
            with expect_raises(ValueError):
                ae.io(number, direction, scene.trace.recorder("called"))
    await scene.turns(2)
    expect_equal(scene.trace, [])


@case("refusal", "lax")
async def what_is_not_open_is_an_error_at_the_call_or_at_the_hook(scene: Scene) -> None:
    try:
        watcher = ae.io(NEVER_OPEN, "r", scene.trace.recorder("called"))
    except OSError as error:
        expect_equal(error.errno, errno.EBADF)
        return
    done = scene.trace.reaches(1)
    for _ in range(100):
        await scene.turns(1)
        await scene.pause(0.001)
        if scene.errors:
            break
    ((found, source),) = scene.errors
    scene.take_errors()
    expect(isinstance(found, OSError) and found.errno == errno.EBADF, f"EBADF, got {found!r}")
    expect_equal(source, watcher, "the watcher that the hook gets")
    expect(not watcher.active, "the watcher has ended")
    expect(not done.ready, "it was never called")
    watcher.cancel()


@case("refusal", "lax")
async def on_refused_gets_the_error_once_in_a_later_turn(scene: Scene) -> None:
    def refused(error: OSError) -> None:
        scene.trace(errno.errorcode[error.errno or 0])

    for direction in ("r", "w"):
        scene.trace.clear()
        watcher = ae.io(NEVER_OPEN, direction, scene.trace.recorder("called"), on_refused=refused)
        scene.trace("made")
        await scene.wait_until(2)
        await scene.turns(3)
        expect_equal(scene.trace, ["made", "EBADF"])
        expect(not watcher.active, "the watcher has ended")
        watcher.cancel()


@case("refusal", "lax")
async def a_watcher_that_is_cancelled_before_is_told_nothing(scene: Scene) -> None:
    watcher = ae.io(NEVER_OPEN, "r", _nothing, on_refused=lambda _: scene.trace("refused"))
    watcher.cancel()
    await scene.turns(3)
    expect_equal(scene.trace, [])
    # nor is the first of two; the second is
    watchers = [
        ae.io(NEVER_OPEN, "r", _nothing, on_refused=lambda _, n=number: scene.trace(n))  # type: ignore[misc]
        for number in (1, 2)
    ]
    watchers[0].cancel()
    await scene.wait_until(1)
    await scene.turns(3)
    expect_equal(scene.trace, [2])


@case("refusal", "posix", "lax")
async def a_file_that_cannot_be_waited_for_is_always_ready(scene: Scene) -> None:
    with open(__file__, "rb") as regular:
        directory = os.open("/", os.O_RDONLY)
        scene.stack.callback(os.close, directory)
        device = os.open("/dev/null", os.O_RDWR)
        scene.stack.callback(os.close, device)
        for fd, direction in (
            (regular.fileno(), "r"),
            (directory, "r"),
            (device, "r"),
            (device, "w"),
        ):
            scene.trace.clear()
            with ae.io(fd, direction, scene.trace.recorder("ready")):  # type: ignore[arg-type]
                await scene.wait_until(3)
            scene.trace.clear()
            await scene.turns(3)
            expect_equal(scene.trace, [], "after the watcher was cancelled")


@case("refusal", "posix", "lax")
async def a_number_watched_again_after_its_socket_was_closed_is_the_new_one(scene: Scene) -> None:
    # code that connects again drops the old watcher only when the new one is made
    for turn in (False, True):
        for old, new in (("r", "r"), ("r", "w"), ("w", "r"), ("w", "w")):
            left, right = scene.pair()
            watcher = ae.io(right, old, _nothing)  # type: ignore[arg-type]
            await scene.pause(0.001)
            number = right.fileno()
            if turn:
                watcher.cancel()
                watcher = ae.io(right, old, _nothing)  # type: ignore[arg-type]
            left.close()
            right.close()
            peer, fd = scene.reopen(number)
            scene.trace.clear()
            watcher = ae.io(fd, new, scene.trace.recorder("ready"))  # type: ignore[arg-type]
            if new == "r":
                await scene.pause(0.005)
                expect_equal(scene.trace, [], f"{old} then {new}: nothing was sent yet")
                peer.send(b"x")
            await scene.wait_until(2)
            watcher.cancel()


def _nothing() -> None:
    return None
