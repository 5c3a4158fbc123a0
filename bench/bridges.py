"""The bridges beside what they stand in for: httpx on our connections, a handle as an anyio stream.

    python bench/bridges.py [--rounds 7] [--requests 300]

Both sides of a pair take turns, round after round, in asyncio and in trio. Printed is the median of
the ratios within a round: how many times as long (and as much processor time) ours takes. Needs
httpx, trio, and nginx for the former pair.
"""

from __future__ import annotations

import argparse
import importlib.util
import socketserver
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx

from ae_core.testing import binding
from ae_handle import Handle
from ae_handle.anyio import HandleStream
from ae_handle.httpcore import httpx_transport

Work = Callable[[int], Awaitable[tuple[float, float]]]
MESSAGE = b"x" * 100
PIECE = b"x" * 65536
PIECES = 256
CONNECTIONS = 10
HTTP_BENCH = Path(__file__).resolve().parents[1] / "examples" / "ae-http" / "bench.py"


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.request.sendall(data)


def serve() -> None:
    """Give back what comes in; in a process of its own, or it would compete for Python's lock."""
    socketserver.ThreadingTCPServer.daemon_threads = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


async def _timed(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    began, used = time.perf_counter(), time.process_time()
    await work()
    return time.perf_counter() - began, time.process_time() - used


def requests(url: str, ours: bool) -> Work:
    """Return the work of *count* GETs on ten connections that are kept."""

    async def work(count: int) -> tuple[float, float]:
        limits = httpx.Limits(max_connections=CONNECTIONS)
        transport = httpx_transport(limits=limits) if ours else None
        async with httpx.AsyncClient(transport=transport, limits=limits) as client:

            async def some(share: int) -> None:
                for _ in range(share):
                    assert len((await client.get(url)).content) == 1024

            async def all_of_them() -> None:
                async with anyio.create_task_group() as group:
                    for _ in range(CONNECTIONS):
                        group.start_soon(some, count // CONNECTIONS)

            await client.get(url)
            return await _timed(all_of_them)

    return work


async def _connect(address: tuple[str, int], ours: bool) -> Any:
    if ours:
        return HandleStream(Handle(connect=address, no_delay=True))
    return await anyio.connect_tcp(*address)


def round_trips(address: tuple[str, int], ours: bool) -> Work:
    """Return the work of *count* small messages and their echoes."""

    async def work(count: int) -> tuple[float, float]:
        async with await _connect(address, ours) as stream:

            async def talk() -> None:
                for _ in range(count):
                    await stream.send(MESSAGE)
                    await stream.receive()

            return await _timed(talk)

    return work


def bulk(address: tuple[str, int], ours: bool) -> Work:
    """Return the work of 16 MiB and their echo."""

    async def work(count: int) -> tuple[float, float]:
        async with await _connect(address, ours) as stream:

            async def send() -> None:
                for _ in range(PIECES):
                    await stream.send(PIECE)

            async def both() -> None:
                left = PIECES * len(PIECE)
                async with anyio.create_task_group() as group:
                    group.start_soon(send)
                    while left:
                        left -= len(await stream.receive())

            return await _timed(both)

    return work


def compare(name: str, loop: str, plain: Work, ours: Work, count: int, rounds: int) -> None:
    """Let both take turns in one loop, and print the ratios."""
    ratios: list[tuple[float, float]] = []

    async def main() -> None:
        for each in range(-1, rounds):  # the first is for nothing
            pair = (plain, ours) if each % 2 else (ours, plain)
            took = {work: await work(count) for work in pair}
            if each >= 0:
                ratios.append((took[ours][0] / took[plain][0], took[ours][1] / took[plain][1]))

    with binding():
        anyio.run(main, backend=loop)
    walls, cpus = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(f"{name:22}{loop:10}{walls:6.2f} x time{cpus:8.2f} x processor", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
    spec = importlib.util.spec_from_file_location("http_bench", HTTP_BENCH)
    assert spec is not None
    assert spec.loader is not None
    http_bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(http_bench)
    with (
        tempfile.TemporaryDirectory() as top,
        subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE) as echo,
    ):
        assert echo.stdout is not None
        address = ("127.0.0.1", int(echo.stdout.readline()))
        nginx, url = http_bench.start_nginx(Path(top))
        try:
            for loop in ("asyncio", "trio"):
                for name, make, where, count in (
                    ("httpx, GETs of 1 KiB", requests, url, options.requests),
                    ("anyio, round trips", round_trips, address, 2000),
                    ("anyio, 16 MiB", bulk, address, 1),
                ):
                    compare(
                        name, loop, make(where, False), make(where, True), count, options.rounds
                    )
        finally:
            nginx.terminate()
            nginx.wait()
            echo.kill()


if __name__ == "__main__":
    main()
