"""Row 17: slow peers cost the honest ones nothing.

A server of lines with a read time-out in a process of its own. First a hundred honest clients alone
ask again and again, then beside 2,000 that say one byte a while and never end a line. The 99th
percentile of the honest ones' answers, unloaded and loaded, and when the slow ones are shown out.

Clients of both kinds begin at times of their own: all at once they would wait for each other, in
the client as well as in the server, and that would be measured. The honest ones are measured while
all the slow ones are there.
"""

from __future__ import annotations

import contextlib
import heapq
import multiprocessing
import os
import random
import resource
import select
import socket
import time
from multiprocessing.connection import Connection

from tools.scorecard.finding import Finding, Length, main

#: Seconds that a client has for a line, and that are between two bytes of a slow one.
LIMIT = 8.0
DRIP = 1.25
#: Seconds within which all the slow ones come, and seconds between two questions of an honest one.
COMING = 2.0
PAUSE = 0.1


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


def dribble(port: int, slow: int, seed: int, pipe: Connection) -> None:
    """Be so many slow clients, in a process; tell when they are there, and their ends.

    Plain sockets and nothing else: what the clients cost must not be what the honest ones wait for.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (20_000, 20_000))
    roll = random.Random(seed)
    begun = time.monotonic()
    due: list[tuple[float, int]] = [(begun + roll.uniform(0, COMING), -n) for n in range(slow)]
    heapq.heapify(due)
    open_: dict[int, tuple[socket.socket, float]] = {}
    ended: list[float] = []
    told = False
    with select.epoll() as ends:
        while len(ended) < slow:
            now = time.monotonic()
            if not told and now > begun + COMING + 0.5:
                told = True
                pipe.send(None)
            while due and due[0][0] <= now:
                at, number = heapq.heappop(due)
                if number <= 0:  # has still to come
                    sock = socket.create_connection(("127.0.0.1", port))
                    number = sock.fileno()
                    open_[number] = (sock, time.monotonic())
                    ends.register(number, select.EPOLLIN)
                if number in open_:
                    with contextlib.suppress(OSError):  # that is an end, and seen as one below
                        open_[number][0].send(b"x", socket.MSG_DONTWAIT)
                    heapq.heappush(due, (at + DRIP, number))
            for fd, _ in ends.poll(0.01):
                sock, since = open_.pop(fd)
                ended.append(time.monotonic() - since)
                ends.unregister(fd)
                sock.close()
    pipe.send(ended)


def p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def processor_seconds(pid: int | None) -> float:
    """Return what the process has had of the processors so far."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(length: Length, seed: int = 17) -> Finding:
    import ae_core as ae
    from ae_handle import Handle

    slow, honest = (200, 20) if length == "gate" else (2000, 100)
    seconds = LIMIT - COMING - 1.0
    resource.setrlimit(resource.RLIMIT_NOFILE, (20_000, 20_000))
    ae.use("loop")
    roll = random.Random(seed)
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    server = spawn.Process(target=serve, args=(there,))
    server.start()
    there.close()
    port = here.recv()

    async def ask(until: float, times: list[float]) -> None:
        await ae.sleep(roll.uniform(0, PAUSE))
        h = Handle(connect=("127.0.0.1", port))
        while time.monotonic() < until:
            begun = time.monotonic()
            h.push_write(b"hello\n")
            assert await h.push_read("line") == b"hello"
            times.append(time.monotonic() - begun)
            await ae.sleep(PAUSE)
        h.destroy()

    async def honest_for(times: list[float]) -> None:
        until = time.monotonic() + seconds
        tasks = [ae.spawn(ask(until, times)) for _ in range(honest)]
        for task in tasks:
            await task

    def ask_them() -> tuple[float, float]:
        """Return the 99th percentile of the answers, and the server's seconds meanwhile."""
        times: list[float] = []
        before = processor_seconds(server.pid)
        ae.run(honest_for(times))
        return p99(times), processor_seconds(server.pid) - before

    results, others = spawn.Pipe()
    dribbling = spawn.Process(target=dribble, args=(port, slow, seed, others))
    try:
        alone, alone_busy = ask_them()
        dribbling.start()
        results.recv()
        beside, beside_busy = ask_them()
        ended: list[float] = results.recv()
        dribbling.join()
    finally:
        server.terminate()
        server.join()
    each = (beside_busy - alone_busy) / (slow / DRIP * seconds)
    ratio = beside / alone
    figure = (
        f"{honest} honest, {slow} slow: p99 {1000 * alone:.1f} ms alone, "
        f"{1000 * beside:.1f} ms beside them ({ratio:.2f} x); a byte of a slow one costs the "
        f"server {1e6 * each:.0f} us of processor; {len(ended)} shown out after "
        f"{min(ended):.2f} to {max(ended):.2f} s (limit {LIMIT})"
    )
    on_time = len(ended) == slow and min(ended) >= LIMIT * 0.9 and max(ended) <= LIMIT * 1.1
    return Finding(figure, ratio <= 2 and on_time, seed=seed)


if __name__ == "__main__":
    main(measure)
