"""What is process-wide is given back when the loop ends that it was taken for."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from importlib.util import find_spec

import pytest

import ae_core as ae

if not hasattr(os, "fork"):
    pytest.skip("POSIX only", allow_module_level=True)

PROGRAM = """\
    import asyncio, os, signal, sys, threading, time
    import ae_core as ae

    def run(main):
        if HOST == "trio":
            import trio
            return trio.run(main)
        if HOST == "uvloop":
            import uvloop
            return uvloop.run(main())
        if HOST == "open and closed":
            loop = asyncio.new_event_loop()
            try:
                return loop.run_until_complete(main())
            finally:
                loop.close()
        return asyncio.run(main())

    HOST = os.environ["HOST"]
    before = signal.getsignal(signal.SIGCHLD)

    async def serve():
        global kept
        kept = [ae.signal(each, print) for each in ("TERM", "INT", "USR1")]
        kept.append(ae.child(0, print))
        await ae.sleep(0.01)

    for _ in range(2):
        run(serve)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGCHLD) == before
        assert signal.set_wakeup_fd(-1) == -1
        assert not any(each.active for each in kept)

    async def work():
        threading.Timer(0.01, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            print("cancelled", flush=True)
            raise

    if HOST != "trio":
        try:
            asyncio.run(work())
        except KeyboardInterrupt:
            print("KeyboardInterrupt", flush=True)
    signal.raise_signal(signal.SIGTERM)
    print("survived")
"""


@pytest.mark.parametrize("host", ["asyncio", "open and closed", "uvloop", "trio"])
def test_ctrl_c_and_sigterm_are_as_before_after_the_loop(
    script: Callable[..., str], host: str
) -> None:
    if host in ("uvloop", "trio") and find_spec(host) is None:
        pytest.skip(f"needs {host}")
    said = script(PROGRAM, status=-signal.SIGTERM, HOST=host)
    assert said == ("" if host == "trio" else "cancelled\nKeyboardInterrupt\n")


def test_a_handler_of_ours_that_somebody_puts_back_later_does_what_it_had_replaced(
    script: Callable[..., str],
) -> None:
    said = script(
        """
        import signal
        import ae_core as ae

        seen = []
        signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
        for number in (signal.SIGUSR1, signal.SIGTERM):
            with ae.signal(number, print):
                ours = signal.getsignal(number)
            signal.signal(number, ours)
        signal.raise_signal(signal.SIGUSR1)
        assert seen == [signal.SIGUSR1]
        signal.raise_signal(signal.SIGTERM)
        print("survived")
        """,
        status=-signal.SIGTERM,
    )
    assert said == ""


def test_a_watcher_that_was_made_in_a_wait_gives_back_what_is_there_after_the_wait() -> None:
    before = signal.getsignal(signal.SIGINT)
    made: list[ae.Watcher] = []
    done = ae.CondVar[None]()

    def make() -> None:
        made.append(ae.signal("INT", print))
        done.send()

    with ae.timer(0, make):
        done.recv()
    assert signal.getsignal(signal.SIGINT) != before
    made.pop().cancel()
    assert signal.getsignal(signal.SIGINT) is before
