"""Measures guest loops beside plain asyncio and beside other asyncio loops inside GUIs.

    python bench/guests/measure.py [--rounds 5] [--kinds asyncio,guest-tk,qasync,...]

Every figure is processor time divided by that of plain asyncio right before, the median of the
rounds; each kind runs in a process of its own, the kinds interleaved, which repeats a scenario for
a second, three times at least (the first sockets of a process may cost five times as much as later
ones), and gives the least. The last columns are for a loop that has nothing to do: wake-ups
(voluntary context switches) in ten seconds, and how late, at worst, a 10 ms timer of the host was
during a flood of ``call_soon``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

GUESTS = tuple(
    f"guest-{host}" for host in ("loop", "glib", "qt", "tk", "twisted", "gevent", "libev")
)
PEERS = (
    "qasync",
    "PySide6.QtAsyncio",
    "async-tkinter-loop",
    "asyncio-gevent",
    "gi.events",
    "aioguest-tk",
)
IDLE_SECONDS = 10.0
ENOUGH_SECONDS = 1.0  # of repetitions in one process
ENOUGH_TIMES = 3

# ---------------------------------------------------------------------- scenarios


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Pinger(asyncio.Protocol):
    def __init__(self, times: int, done: asyncio.Future[None]) -> None:
        self.times = times
        self.done = done

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(b"x" * 64)

    def data_received(self, data: bytes) -> None:
        self.times -= 1
        if self.times:
            self.transport.write(data)
        else:
            self.transport.close()
            self.done.set_result(None)


async def pingpong(connections: int = 1, times: int = 10_000) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    ends = [loop.create_future() for _ in range(connections)]
    for end in ends:
        await loop.create_connection(lambda end=end: Pinger(times, end), *address)
    await asyncio.gather(*ends)
    server.close()


async def echo() -> None:
    await pingpong(connections=100, times=100)


async def call_soon(times: int = 100_000) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = times

    def call() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(call)
        else:
            done.set_result(None)

    loop.call_soon(call)
    await done


async def connect(times: int = 1000) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    for _ in range(times):
        transport, _ = await loop.create_connection(asyncio.Protocol, *address)
        transport.close()
    server.close()


async def timers(times: int = 10_000) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = times

    def call() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    for n in range(times):
        loop.call_later(60, call).cancel()
        loop.call_later(n / 50_000, call)
    await done


async def threads(times: int = 10_000) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = times

    def call() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    def other() -> None:
        for _ in range(times):
            loop.call_soon_threadsafe(call)

    thread = threading.Thread(target=other)
    thread.start()
    await done
    thread.join()


SCENARIOS = (pingpong, echo, call_soon, connect, timers, threads)


async def lateness() -> float:
    """Return by how much, at worst, a 10 ms timer was late while ``call_soon`` was flooded."""
    import ae_core as ae

    loop = asyncio.get_running_loop()
    stop = False
    late: list[float] = []

    def flood() -> None:
        if not stop:
            loop.call_soon(flood)

    for _ in range(100):
        flood()
    for _ in range(20):
        due = time.monotonic() + 0.01
        fired: ae.CondVar[float] = ae.CondVar()
        timer = ae.timer(0.01, lambda fired=fired: fired.send(time.monotonic()))
        late.append(await fired - due)
        timer.cancel()
    stop = True
    return max(late)


async def idle() -> int:
    """Return how often the process was woken in ten seconds in which nothing happens."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    await asyncio.sleep(IDLE_SECONDS)
    # one for the end of the sleep itself
    return max(0, resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before - 1)


# ---------------------------------------------------------------------- the kinds


def runner(kind: str) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Return what runs a coroutine in a loop of this kind."""
    if kind == "asyncio":
        return asyncio.Runner().run
    if kind.startswith("guest-"):
        import ae_core as ae
        import ae_guests

        host = kind.removeprefix("guest-")
        if host == "tk":
            import tkinter

            globals()["root"] = tkinter.Tk()
        ae.use(host)
        return asyncio.Runner(loop_factory=ae_guests.new_event_loop).run
    if kind == "qasync":
        import qasync
        from PyQt6.QtCore import QCoreApplication

        globals()["app"] = app = QCoreApplication([])
        loop = qasync.QEventLoop(app)
        asyncio.set_event_loop(loop)
        return loop.run_until_complete  # type: ignore[no-any-return]
    if kind == "PySide6.QtAsyncio":
        from PySide6 import QtAsyncio
        from PySide6.QtCore import QCoreApplication

        globals()["app"] = QCoreApplication([])
        box: list[Any] = []

        def run_qt(coroutine: Coroutine[Any, Any, Any]) -> Any:
            async def main() -> None:
                box.append(await coroutine)

            QtAsyncio.run(main(), keep_running=False, quit_qapp=True)
            return box[0]

        return run_qt
    if kind == "async-tkinter-loop":
        import tkinter

        from async_tkinter_loop import main_loop

        root = tkinter.Tk()

        def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
            async def both() -> Any:
                screen = asyncio.ensure_future(main_loop(root))
                try:
                    return await coroutine
                finally:
                    screen.cancel()

            return asyncio.run(both())

        return run
    if kind == "asyncio-gevent":
        import gevent.monkey

        gevent.monkey.patch_all()
        import asyncio_gevent

        loop = asyncio_gevent.EventLoop()
        asyncio.set_event_loop(loop)
        return loop.run_until_complete  # type: ignore[no-any-return]
    if kind == "gi.events":
        from gi.events import GLibEventLoopPolicy

        asyncio.set_event_loop_policy(GLibEventLoopPolicy())
        loop = asyncio.get_event_loop_policy().get_event_loop()
        return loop.run_until_complete  # type: ignore[no-any-return]
    if kind == "aioguest-tk":
        import tkinter

        import aioguest

        def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
            root = tkinter.Tk()
            box: list[Any] = []

            def done(outcome: Any) -> None:
                box.append(outcome.unwrap())
                root.destroy()

            async def main() -> Any:
                return await coroutine

            aioguest.start_guest_run(
                main(),
                run_sync_soon_threadsafe=root.after_idle,
                done_callback=done,
            )
            root.mainloop()
            return box[0]

        return run
    raise ValueError(f"unknown kind {kind!r}")


def child(kind: str, what: str) -> None:
    run = runner(kind)
    scenario: Callable[[], Awaitable[Any]] = globals()[what]

    async def timed() -> float:
        least = float("inf")
        begun = time.monotonic()
        times = 0
        while times < ENOUGH_TIMES or time.monotonic() - begun < ENOUGH_SECONDS:
            times += 1
            started = time.process_time()
            value = await scenario()
            if value is not None:
                return value
            least = min(least, time.process_time() - started)
        return least

    print(json.dumps(run(timed())))
    sys.stdout.flush()
    os._exit(0)


def measure(kind: str, what: str) -> float | None:
    try:
        done = subprocess.run(
            [sys.executable, __file__, "--child", kind, what],
            check=False,
            capture_output=True,
            text=True,
            timeout=90,
            env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        )
        return float(json.loads(done.stdout.splitlines()[-1]))
    except (subprocess.TimeoutExpired, IndexError, ValueError):
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", default=",".join(("asyncio", *GUESTS, *PEERS)))
    scenarios = ",".join(scenario.__name__ for scenario in SCENARIOS)
    parser.add_argument("--scenarios", default=scenarios)
    parser.add_argument("--no-idle", action="store_true", help="leave out the last two columns")
    options = parser.parse_args()
    if options.child:
        child(*options.child)
    kinds = options.kinds.split(",")
    names = options.scenarios.split(",")
    ratios: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.rounds):
        for name in names:
            for kind in kinds:
                base = measure("asyncio", name)  # right before: the machine changes its mind
                took = measure(kind, name)
                if took is not None and base is not None:
                    ratios.setdefault((kind, name), []).append(took / base)
    print(f"| {'loop':20} | " + " | ".join(f"{name:>9}" for name in names), end=" | ")
    print("wake-ups in 10 s | lateness, ms |")
    print("|---|" + "---:|" * (len(names) + 2))
    for kind in kinds:
        cells = []
        for name in names:
            values = ratios.get((kind, name))
            cells.append(f"{statistics.median(values):9.2f}" if values else "        -")
        if options.no_idle:
            print(f"| {kind:20} | " + " | ".join(cells) + " |", flush=True)
            continue
        woken = measure(kind, "idle")
        cells.append("-" if woken is None else f"{woken:.0f}")
        late = None
        if kind.startswith("guest-"):
            tries = [measure(kind, "lateness") for _ in range(3)]
            late = min((value for value in tries if value is not None), default=None)
        cells.append("" if late is None else f"{1000 * late:.1f}")
        print(f"| {kind:20} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
