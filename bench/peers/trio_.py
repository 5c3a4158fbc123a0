"""trio and anyio (on asyncio): one task per connection, framing by hand."""

from wire import BLOB, UNIT, delays, listener, now, pairs, per, ready, server_ctx


def _trio_server(handle):
    def role(opt):
        import trio

        ctx = server_ctx(opt)

        async def safe(stream):
            if ctx:
                stream = trio.SSLStream(stream, ctx, server_side=True)
            try:
                await handle(stream)
            except trio.BrokenResourceError:
                pass
            await trio.aclose_forcefully(stream)

        async def main():
            sock = listener()
            ls = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
            ready(sock.getsockname()[1])
            await trio.serve_listeners(safe, [ls])

        trio.run(main)

    return role


def _echo(recv, send):
    async def echo(stream):
        rest = b""
        rx, tx = getattr(stream, recv), getattr(stream, send)
        while True:
            data = await rx(65536)
            if not data:
                return
            lines = (rest + data).split(b"\n")
            rest = lines.pop()
            for line in lines:
                await tx(line + b"\n")

    return echo


def _sink(recv, send):
    async def sink(stream):
        n = 0
        rx, tx = getattr(stream, recv), getattr(stream, send)
        while True:
            data = await rx(65536)
            if not data:
                return
            n += len(data)
            while n >= UNIT:
                n -= UNIT
                await tx(b".")

    return sink


def _source(recv, send):
    async def source(stream):
        tx = getattr(stream, send)
        while True:
            await tx(BLOB)

    return source


def _anyio_server(handle):
    def role(opt):
        import anyio
        from anyio.abc import SocketAttribute
        from anyio.streams.tls import TLSListener

        ctx = server_ctx(opt)

        async def safe(stream):
            try:
                async with stream:
                    await handle(stream)
            except (
                anyio.BrokenResourceError,
                anyio.EndOfStream,
                anyio.ClosedResourceError,
                OSError,
            ):
                pass

        async def main():
            ls = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0, backlog=1024)
            ready(ls.extra(SocketAttribute.local_port))
            if ctx:
                ls = TLSListener(ls, ctx)
            await ls.serve(safe)

        anyio.run(main)

    return role


def trio_timers(opt):
    """A deadline as trio has it: a cancel scope entered and left; a sleep(0) task."""
    import trio

    n, m = int(opt.get("cancel", 200000)), int(opt.get("fire", 100000))
    ds = delays(n)
    out = {}

    async def main():
        base = trio.current_time()
        t0 = now()
        for d in ds:
            with trio.CancelScope(deadline=base + d):
                pass
        out["create+cancel"] = per(now() - t0, n)
        t0 = now()
        async with trio.open_nursery() as nur:
            for _ in range(m):
                nur.start_soon(trio.sleep, 0)
        out["create+fire"] = per(now() - t0, m)

    trio.run(main)
    return out


def trio_pingpong(opt):
    import trio

    n, secs = int(opt.get("pairs", 100)), float(opt.get("seconds", 0.5))
    count = 0

    async def task(sock):
        nonlocal count
        s = trio.socket.from_stdlib_socket(sock)
        recv, send = s.recv, s.send
        while True:
            await send(await recv(1))
            count += 1

    async def main():
        async with trio.open_nursery() as nur:
            for a, b in pairs(n, 0):
                a.send(b"x")
                nur.start_soon(task, a)
                nur.start_soon(task, b)
            await trio.sleep(0.05)
            c0, t0 = count, now()
            await trio.sleep(secs)
            out["event"] = per(now() - t0, count - c0)
            nur.cancel_scope.cancel()

    out = {}
    trio.run(main)
    return out


_T, _A = ("receive_some", "send_all"), ("receive", "send")
PEERS = {
    "trio": {
        "needs": ["trio"],
        "module": "trio",
        "echo": _trio_server(_echo(*_T)),
        "sink": _trio_server(_sink(*_T)),
        "source": _trio_server(_source(*_T)),
        "timers": trio_timers,
        "pingpong": trio_pingpong,
    },
    "anyio": {
        "needs": ["anyio"],
        "module": "anyio",
        "echo": _anyio_server(_echo(*_A)),
        "sink": _anyio_server(_sink(*_A)),
        "source": _anyio_server(_source(*_A)),
    },
}
