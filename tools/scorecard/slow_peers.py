"""Row 17: slow peers cost the honest ones nothing.

A server of lines with a read time-out in a process of its own. First a hundred honest clients alone
ask again and again, then beside 2,000 that say one octet a while and never end a line. The 99th
percentile of the honest ones' answers, unloaded and loaded, and when the slow ones are shown out.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from multiprocessing.connection import Connection

from tools.scorecard.finding import Finding, Length, main

#: Seconds that a client has for a line.
LIMIT = 5.0


def serve(pipe: Connection) -> None:
    import ae_core as ae
    from ae_handle import Handle, HandleError
    from ae_socket import tcp_server

    resource.setrlimit(resource.RLIMIT_NOFILE, (20_000, 20_000))
    ae.use("loop")

    async def talk(h: Handle) -> None:
        try:
            while True:
                async with ae.timeout(LIMIT):
                    line = await h.push_read("line")
                h.push_write(line + b"\n")
        except (HandleError, TimeoutError):
            h.destroy()

    tasks = set()

    def accept(sock: object, *_: object) -> None:
        task = ae.spawn(talk(Handle(sock)))
        tasks.add(task)
        task.on_ready(tasks.discard)

    server = tcp_server("127.0.0.1", 0, accept, backlog=4096)
    pipe.send(server.address[1])
    ae.CondVar().recv()


def dribble(port: int, slow: int, pipe: Connection) -> None:
    """Be so many slow clients, in a process; tell when they are there, and their ends."""
    import ae_core as ae
    from ae_handle import Handle, HandleError

    resource.setrlimit(resource.RLIMIT_NOFILE, (20_000, 20_000))
    ae.use("loop")
    ended: list[float] = []

    async def drip() -> None:
        h = Handle(connect=("127.0.0.1", port))
        begun = time.monotonic()
        closed = h.push_read("line")
        try:
            while not closed.ready:
                h.push_write(b"x")
                await ae.sleep(LIMIT / 4)
            await closed
        except HandleError:
            pass
        ended.append(time.monotonic() - begun)
        h.destroy()

    async def all_of_them() -> None:
        drips = [ae.spawn(drip()) for _ in range(slow)]
        await ae.sleep(0.5)
        pipe.send(None)
        for each in drips:
            await each

    ae.run(all_of_them())
    pipe.send(ended)


def p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def measure(length: Length) -> Finding:
    import ae_core as ae
    from ae_handle import Handle

    slow, honest, seconds = (200, 20, 2.0) if length == "gate" else (2000, 100, 4.0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (20_000, 20_000))
    ae.use("loop")
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there,))
    process.start()
    there.close()
    port = here.recv()

    async def ask(until: float, times: list[float]) -> None:
        h = Handle(connect=("127.0.0.1", port))
        while time.monotonic() < until:
            await ae.sleep(0.1)
            begun = time.monotonic()
            h.push_write(b"hello\n")
            assert await h.push_read("line") == b"hello"
            times.append(time.monotonic() - begun)
        h.destroy()

    async def honest_for(times: list[float]) -> None:
        until = time.monotonic() + seconds
        tasks = [ae.spawn(ask(until, times)) for _ in range(honest)]
        for task in tasks:
            await task

    alone: list[float] = []
    beside: list[float] = []
    spawn = multiprocessing.get_context("spawn")
    results, others = spawn.Pipe()
    dribbling = spawn.Process(target=dribble, args=(port, slow, others))
    try:
        ae.run(honest_for(alone))
        dribbling.start()
        results.recv()
        ae.run(honest_for(beside))
        ended: list[float] = results.recv()
        dribbling.join()
    finally:
        process.terminate()
        process.join()
    ratio = p99(beside) / p99(alone)
    figure = (
        f"{honest} honest, {slow} slow: p99 {1000 * p99(alone):.1f} ms alone, "
        f"{1000 * p99(beside):.1f} ms beside them ({ratio:.2f} x); {len(ended)} shown out after "
        f"{min(ended):.2f} to {max(ended):.2f} s (limit {LIMIT})"
    )
    # the slow ones notice their end with their next octet, at most LIMIT / 4 later
    on_time = len(ended) == slow and min(ended) >= LIMIT and max(ended) <= LIMIT * 1.1 + LIMIT / 4
    return Finding(figure, ratio <= 2 and on_time)


if __name__ == "__main__":
    main(measure)
