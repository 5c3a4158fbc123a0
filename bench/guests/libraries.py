"""Runs libraries written for asyncio inside other loops, against real servers.

    python bench/guests/libraries.py [--hosts tk,qt,glib,twisted,gevent,loop]

Each host gets a process of its own, in which the program's main loop is the host's own
(``mainloop``, ``exec``, ``reactor.run`` ...) and all libraries are used at once, beside a handle
of ours on the same loop. redis-server and PostgreSQL are started on free ports.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HOSTS = ("tk", "qt", "glib", "twisted", "gevent", "libev", "loop")

# ---------------------------------------------------------------------- servers


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    give_up = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.05)


@contextmanager
def redis_server() -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(port)
        yield port
    finally:
        process.terminate()
        process.wait()


def postgres_programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        raise FileNotFoundError("PostgreSQL's server is not installed")
    return found[-1].parent


@contextmanager
def postgres_server(place: Path) -> Iterator[int]:
    """Start PostgreSQL in *place*, as the user nobody where we are root: it refuses root."""
    programs = postgres_programs()
    data = place / "postgres"
    data.mkdir()
    who: dict[str, Any] = {}
    if os.getuid() == 0:
        shutil.chown(data, "nobody", "nogroup")
        place.chmod(0o755)
        who = {"user": "nobody", "group": "nogroup", "extra_groups": []}
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **who}
    initdb = [programs / "initdb", "-D", data, "-A", "trust", "-U", "tester", "--no-sync"]
    subprocess.run(initdb, check=True, cwd=data, **quiet)
    port = free_port()
    command = [programs / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", data]
    process = subprocess.Popen(command, cwd=data, **quiet)
    try:
        wait_for(port)
        yield port
    finally:
        process.terminate()
        process.wait()


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    import trustme

    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


# ---------------------------------------------------------------------- what is done inside


async def use_aiohttp(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, **_: Any) -> None:
    import aiohttp
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=(await request.text()).upper())

    async def hang(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    app = web.Application()
    app.router.add_post("/", answer)
    app.router.add_get("/hang", hang)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    plain, secure = free_port(), free_port()
    await web.TCPSite(runner, "127.0.0.1", plain).start()
    await web.TCPSite(runner, "127.0.0.1", secure, ssl_context=server_tls).start()
    async with aiohttp.ClientSession() as session:
        for url in (f"http://127.0.0.1:{plain}", f"https://localhost:{secure}"):
            for n in range(10):
                async with session.post(url, data=f"text {n}", ssl=client_tls) as response:
                    assert await response.text() == f"TEXT {n}"
        try:
            async with asyncio.timeout(0.05):
                await session.get(f"http://127.0.0.1:{plain}/hang")
        except TimeoutError:
            pass
        else:
            raise AssertionError("the request was not cancelled")
    await use_httpx(plain, secure, client_tls)
    await runner.cleanup()


async def use_httpx(plain: int, secure: int, client_tls: ssl.SSLContext) -> None:
    import httpx

    async with httpx.AsyncClient(verify=client_tls) as client:
        for url in (f"http://127.0.0.1:{plain}", f"https://localhost:{secure}"):
            answers = await asyncio.gather(*(client.post(url, content=b"x") for _ in range(10)))
            assert [answer.text for answer in answers] == ["X"] * 10
        try:
            await client.get(f"http://127.0.0.1:{plain}/hang", timeout=0.05)
        except httpx.ReadTimeout:
            return
        raise AssertionError("the request did not time out")


async def use_redis(redis_port: int, **_: Any) -> None:
    import redis.asyncio

    async with redis.asyncio.Redis(port=redis_port) as client:
        await client.set("key", "value")
        assert await client.get("key") == b"value"
        async with client.pipeline() as pipeline:
            for n in range(50):
                pipeline.rpush("list", n)
            assert await pipeline.execute() == list(range(1, 51))
        try:
            async with asyncio.timeout(0.05):
                await client.blpop("nothing", 30)
        except TimeoutError:
            pass
        assert await client.llen("list") == 50
        await client.delete("list")


async def use_asyncpg(postgres_port: int, **_: Any) -> None:
    import asyncpg

    pool = await asyncpg.create_pool(
        host="127.0.0.1",
        port=postgres_port,
        user="tester",
        database="postgres",
        min_size=1,
        max_size=4,
    )
    async with pool:
        rows = await asyncio.gather(*(pool.fetchval("SELECT $1::int * 2", n) for n in range(20)))
        assert rows == [2 * n for n in range(20)]
        try:
            async with asyncio.timeout(0.1):
                await pool.fetchval("SELECT pg_sleep(60)")
        except TimeoutError:
            pass
        assert await pool.fetchval("SELECT 1") == 1


async def use_websockets(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, **_: Any) -> None:
    import websockets

    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    async with websockets.serve(echo, "127.0.0.1", 0, ssl=server_tls) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with websockets.connect(f"wss://localhost:{port}", ssl=client_tls) as connection:
            for n in range(20):
                await connection.send(f"message {n}")
                assert await connection.recv() == f"message {n}"


async def use_trio_httpx(url: str, client_tls: ssl.SSLContext) -> None:
    import httpx

    async with httpx.AsyncClient(verify=client_tls) as client:
        assert (await client.post(url, content=b"trio")).text == "TRIO"


async def everything(known: dict[str, Any]) -> None:
    """Use all libraries at once, and a handle of ours beside them."""
    import ae_core as ae
    import ae_guests
    import ae_socket
    from ae_handle import Handle

    handles: list[Handle] = []

    def accepted(sock: socket.socket, host: str, port: int | str) -> None:
        handle = Handle(sock, on_error=lambda handle, error: handle.destroy())
        handle.on_eof = Handle.destroy
        handle.read_each("line", lambda handle, line: handle.push_write(line.upper() + b"\n"))
        handles.append(handle)

    async def ours() -> None:
        with ae_socket.tcp_server("127.0.0.1", 0, accepted) as server:
            async with Handle(connect=server.address) as handle:
                for n in range(100):
                    handle.push_write(b"line %d\n" % n)
                    assert await handle.push_read("line") == b"LINE %d" % n
                    await asyncio.sleep(0)

    async def trio_beside() -> None:
        from aiohttp import web

        async def answer(request: web.Request) -> web.Response:
            return web.Response(text=(await request.text()).upper())

        app = web.Application()
        app.router.add_post("/", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "localhost", port, ssl_context=known["server_tls"]).start()
        await ae_guests.start_trio(use_trio_httpx, f"https://localhost:{port}", known["client_tls"])
        await runner.cleanup()

    ticks: list[float] = []
    heart = ae.timer(0.005, lambda: ticks.append(ae.time()), interval=0.005)
    uses: tuple[Callable[..., Coroutine[Any, Any, None]], ...]
    uses = (use_aiohttp, use_redis, use_asyncpg, use_websockets)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for use in uses:
            group.create_task(use(**known))
        group.create_task(ours())
        group.create_task(trio_beside())
    heart.cancel()
    assert len(ticks) > 5, "the host stood still"
    for handle in handles:
        handle.destroy()


# ---------------------------------------------------------------------- the hosts


def run_inside(host: str, known: dict[str, Any]) -> None:
    """Run the host's own main loop until everything has been done in it."""
    import ae_core as ae
    import ae_guests

    outcome: list[BaseException | None] = []

    def start(leave: Callable[[], object]) -> None:
        ae.use(host)
        operation = ae_guests.start_asyncio(everything(known))

        def ended(operation: ae.CondVar[None]) -> None:
            outcome.append(operation.error)
            leave()

        operation.on_ready(ended)

    if host == "tk":
        import tkinter

        root = tkinter.Tk()
        root.after(10, lambda: start(lambda: root.after(50, root.destroy)))
        root.mainloop()
    elif host == "qt":
        from PyQt6.QtCore import QCoreApplication, QTimer

        app = QCoreApplication([])
        QTimer.singleShot(10, lambda: start(lambda: QTimer.singleShot(50, app.quit)))
        app.exec()
    elif host == "glib":
        from gi.repository import GLib

        loop = GLib.MainLoop()
        GLib.idle_add(lambda: start(lambda: GLib.timeout_add(50, loop.quit)))
        loop.run()
    elif host == "twisted":
        from twisted.internet import reactor

        reactor.callLater(0.01, start, lambda: reactor.callLater(0.05, reactor.stop))
        reactor.run()
    elif host == "gevent":
        import gevent
        import gevent.event

        done = gevent.event.Event()
        start(done.set)
        done.wait()
        gevent.sleep(0.05)
    else:
        done = ae.CondVar()
        start(done.send)
        done.recv()
        ae.sleep(0.05).recv()
    if outcome[0] is not None:
        raise outcome[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", default=",".join(HOSTS))
    parser.add_argument("--inside", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        host, redis_port, postgres_port = options.inside
        server_tls, client_tls = contexts()
        known = {
            "redis_port": int(redis_port),
            "postgres_port": int(postgres_port),
            "server_tls": server_tls,
            "client_tls": client_tls,
        }
        run_inside(host, known)
        return 0
    failed = 0
    with tempfile.TemporaryDirectory() as place, redis_server() as redis_port:
        with postgres_server(Path(place)) as postgres_port:
            for host in options.hosts.split(","):
                started = time.monotonic()
                ports = [str(redis_port), str(postgres_port)]
                done = subprocess.run(
                    [sys.executable, "-W", "error", __file__, "--inside", host, *ports],
                    check=False,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=120,
                    env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
                )
                verdict = "ok" if done.returncode == 0 and not done.stdout else "FAILED"
                print(f"{host:8} {verdict:6} {time.monotonic() - started:.1f} s")
                if verdict != "ok":
                    failed += 1
                    print(done.stdout)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
