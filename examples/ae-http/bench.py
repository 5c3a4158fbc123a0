"""Keep-alive GETs of 1 KiB from a local nginx: ae-http beside httpx and aiohttp.

    python examples/ae-http/bench.py [--requests 1000] [--connections 10] [--rounds 7] [--readme]

Starts nginx on a free port, lets the clients take turns, round after round, and prints requests
per second and processor time per request of each (median of the rounds), and the median of the
ratios to ae-http within a round. A client that is not installed is left out. ``--readme`` writes
the table into the README.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import ae_core as ae
from ae_core.testing import binding
from ae_http import Client

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
from turns import put_into_readme

SIZE = 1024
CONFIG = """
daemon off; worker_processes 1; pid {top}/pid; error_log {top}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off; keepalive_requests 1000000;
    client_body_temp_path {top}/1; proxy_temp_path {top}/2; fastcgi_temp_path {top}/3;
    uwsgi_temp_path {top}/4; scgi_temp_path {top}/5;
    server {{ listen 127.0.0.1:{port}; root {top}/root; }}
}}
"""

Fetch = Callable[[], Awaitable[int]]
Peer = Callable[[str, int, int], tuple[float, float]]


async def _measured(fetch: Fetch, requests: int, connections: int) -> tuple[float, float]:
    """Return wall-clock and processor seconds for the requests, by so many workers."""

    async def worker(count: int) -> None:
        for _ in range(count):
            if await fetch() != SIZE:
                raise RuntimeError("a response of another size")

    await _together(worker, [1] * connections)  # every connection is there
    share, more = divmod(requests, connections)
    counts = [share + (number < more) for number in range(connections)]
    wall, cpu = time.perf_counter(), time.process_time()
    await _together(worker, counts)
    return time.perf_counter() - wall, time.process_time() - cpu


async def _together(worker: Callable[[int], Awaitable[None]], counts: list[int]) -> None:
    async def run(count: int) -> None:
        await worker(count)

    for task in [ae.spawn(run(count)) for count in counts]:
        await task


async def _ours(url: str, requests: int, connections: int) -> tuple[float, float]:
    async with Client(max_connections=connections) as client:

        async def fetch() -> int:
            return len((await client.get(url)).body)

        return await _measured(fetch, requests, connections)


def ours_loop(url: str, requests: int, connections: int) -> tuple[float, float]:
    """ae-http on the built-in loop."""
    with binding("loop"):
        return ae.run(_ours(url, requests, connections))


def ours_asyncio(url: str, requests: int, connections: int) -> tuple[float, float]:
    """ae-http in an asyncio program."""
    with binding():
        return asyncio.run(_ours(url, requests, connections))


def aiohttp(url: str, requests: int, connections: int) -> tuple[float, float]:
    """aiohttp, with its parser in C."""
    import aiohttp

    async def main() -> tuple[float, float]:
        connector = aiohttp.TCPConnector(limit=connections)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def fetch() -> int:
                async with session.get(url) as response:
                    return len(await response.read())

            return await _measured(fetch, requests, connections)

    with binding():
        return asyncio.run(main())


def httpx(url: str, requests: int, connections: int) -> tuple[float, float]:
    """httpx, its asynchronous client."""
    import httpx

    async def main() -> tuple[float, float]:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        async with httpx.AsyncClient(limits=limits) as client:

            async def fetch() -> int:
                return len((await client.get(url)).content)

            return await _measured(fetch, requests, connections)

    with binding():
        return asyncio.run(main())


PEERS: dict[str, tuple[str, Peer]] = {
    "ae-http": ("ae_http", ours_loop),
    "ae-http, asyncio": ("ae_http", ours_asyncio),
    "aiohttp": ("aiohttp", aiohttp),
    "httpx": ("httpx", httpx),
}


def start_nginx(top: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Return a running nginx and the URL of a document of 1 KiB."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        sys.exit("bench.py: nginx is not installed")
    top.chmod(0o755)
    (top / "root").mkdir()
    (top / "root" / "1k").write_bytes(b"x" * SIZE)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    (top / "nginx.conf").write_text(CONFIG.format(top=top, port=port))
    command = [program, "-c", str(top / "nginx.conf"), "-e", str(top / "error.log")]
    process = subprocess.Popen(command)
    while process.poll() is None:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return process, f"http://127.0.0.1:{port}/1k"
        time.sleep(0.02)
    sys.exit(f"bench.py: nginx has ended: {(top / 'error.log').read_text()}")


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description="Keep-alive GETs of 1 KiB from a local nginx.")
    parser.add_argument("--requests", type=int, default=1000, help="per client and round")
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--readme", action="store_true", help="write the table into the README")
    options = parser.parse_args()
    peers = {name: peer for name, (module, peer) in PEERS.items() if find_spec(module)}
    walls: dict[str, list[float]] = {name: [] for name in peers}
    cpus: dict[str, list[float]] = {name: [] for name in peers}
    with tempfile.TemporaryDirectory() as directory:
        process, url = start_nginx(Path(directory))
        try:
            for number in range(options.rounds + 1):
                names = list(peers)
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    wall, cpu = peers[name](url, options.requests, options.connections)
                    if number:  # the first round warms up
                        walls[name].append(wall / options.requests)
                        cpus[name].append(cpu / options.requests)
        finally:
            process.terminate()
            process.wait()
    text = table(walls, cpus)
    print(text)
    if options.readme:
        put_into_readme(text, __file__)


def table(walls: dict[str, list[float]], cpus: dict[str, list[float]]) -> str:
    """Return the table of the seconds for a request, by the clock and of the processor."""
    ours = "ae-http"
    rows = [
        "| | requests/s | us of the processor for one | ae-http is | on the processor |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in walls:
        version = metadata.version(PEERS[name][0].replace("_", "-"))
        rate = statistics.median(1 / wall for wall in walls[name])
        cpu = statistics.median(cpus[name]) * 1e6
        faster = statistics.median(a / b for a, b in zip(walls[name], walls[ours], strict=True))
        less = statistics.median(a / b for a, b in zip(cpus[name], cpus[ours], strict=True))
        label = f"{name} {version}"
        rows.append(f"| {label} | {rate:,.0f} | {cpu:.0f} | {faster:.2f} x | {less:.2f} x |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
