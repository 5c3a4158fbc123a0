"""Tornado: IOStream servers; its IOLoop's timers and handlers (an asyncio loop beneath)."""

import types

from wire import BLOB, UNIT, listener, ready, server_ctx

from . import _loopbench


def _server(handle):
    def role(opt):
        import asyncio

        from tornado.iostream import StreamClosedError
        from tornado.tcpserver import TCPServer

        class S(TCPServer):
            async def handle_stream(self, stream, address):
                stream.set_nodelay(True)
                try:
                    await handle(stream)
                except StreamClosedError:
                    pass

        async def main():
            s = S(ssl_options=server_ctx(opt))
            sock = listener()
            s.add_socket(sock)
            ready(sock.getsockname()[1])
            await asyncio.Event().wait()

        asyncio.run(main())

    return role


async def echo(stream):
    while True:
        await stream.write(await stream.read_until(b"\n"))


async def sink(stream):
    n = 0
    while True:
        n += len(await stream.read_bytes(65536, partial=True))
        while n >= UNIT:
            n -= UNIT
            stream.write(b".")


async def source(stream):
    while True:
        await stream.write(BLOB)


def _adapter():
    import asyncio

    from tornado.ioloop import IOLoop

    asyncio.set_event_loop(asyncio.SelectorEventLoop())
    loop = IOLoop.current()

    def reader(fd, cb):
        loop.add_handler(fd, lambda fd, ev: cb(), IOLoop.READ)
        return fd

    def once():
        loop.add_callback(loop.stop)
        loop.start()

    return types.SimpleNamespace(
        later=loop.call_later,
        cancel=loop.remove_timeout,
        reader=reader,
        unreader=loop.remove_handler,
        run=loop.start,
        stop=loop.stop,
        once=once,
    )


PEERS = {
    "tornado": dict(
        needs=["tornado"],
        module="tornado.iostream",
        echo=_server(echo),
        sink=_server(sink),
        source=_server(source),
        **_loopbench.roles(_adapter),
    )
}
