"""asyncio with its own selector loop, with uvloop and with rloop."""

import asyncio
import types

from wire import (
    BACKLOG,
    BLOB,
    HOST,
    UNIT,
    dns_parse,
    dns_query,
    dns_socket,
    listener,
    now,
    ready,
    redis_batch,
    resp_parse,
    server_ctx,
)

from . import _loopbench


def _new_loop(kind):
    if kind == "uvloop":
        import uvloop

        loop = uvloop.new_event_loop()
    elif kind == "rloop":
        import rloop

        loop = rloop.new_event_loop()
    else:
        loop = asyncio.SelectorEventLoop()
    asyncio.set_event_loop(loop)
    return loop


# ---------------------------------------------------------------- servers, protocol style
class Echo(asyncio.Protocol):
    """One callback and one write per line."""

    def connection_made(self, transport):
        self.write = transport.write
        self.rest = b""

    def line(self, line):
        self.write(line + b"\n")

    def data_received(self, data):
        lines = (self.rest + data).split(b"\n")
        self.rest = lines.pop()
        line = self.line
        for x in lines:
            line(x)


class EchoBatch(asyncio.Protocol):
    """One callback per line, one write per read."""

    def connection_made(self, transport):
        self.write = transport.write
        self.rest = b""

    def line(self, line):
        return line + b"\n"

    def data_received(self, data):
        lines = (self.rest + data).split(b"\n")
        self.rest = lines.pop()
        line = self.line
        self.write(b"".join([line(x) for x in lines]))


class Sink(asyncio.Protocol):
    n = 0

    def connection_made(self, transport):
        self.write = transport.write

    def data_received(self, data):
        self.n += len(data)
        while self.n >= UNIT:
            self.n -= UNIT
            self.write(b".")


class SinkBuffered(asyncio.BufferedProtocol):
    n = 0

    def connection_made(self, transport):
        self.write = transport.write
        self.buf = memoryview(bytearray(65536))

    def get_buffer(self, hint):
        return self.buf

    def buffer_updated(self, n):
        self.n += n
        while self.n >= UNIT:
            self.n -= UNIT
            self.write(b".")


class Source(asyncio.Protocol):
    def connection_made(self, transport):
        self.tr = transport
        self.loop = asyncio.get_event_loop()
        self.paused = self.gone = False
        self.pump()

    def pump(self):
        write = self.tr.write
        for _ in range(16):  # let other callbacks in now and then
            if self.paused or self.gone:
                return
            write(BLOB)
        self.loop.call_soon(self.pump)

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        self.pump()

    def connection_lost(self, exc):
        self.gone = True


def _protocol_server(kind, proto):
    def role(opt):
        loop = _new_loop(kind)
        sock = listener()
        port = sock.getsockname()[1]
        loop.run_until_complete(
            loop.create_server(proto, sock=sock, backlog=BACKLOG, ssl=server_ctx(opt))
        )
        ready(port)
        loop.run_forever()

    return role


# ---------------------------------------------------------------- servers, streams style
async def s_echo(reader, writer):
    try:
        while True:
            line = await reader.readline()
            if not line:
                break
            writer.write(line)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


async def s_sink(reader, writer):
    n = 0
    while True:
        data = await reader.read(65536)
        if not data:
            break
        n += len(data)
        while n >= UNIT:
            n -= UNIT
            writer.write(b".")
    writer.close()


async def s_source(reader, writer):
    try:
        while not writer.is_closing():
            for _ in range(16):
                writer.write(BLOB)
                await writer.drain()
            await asyncio.sleep(0)  # over a lost TLS peer drain() never waits, nor fails
    except ConnectionError:
        writer.close()


def _stream_server(kind, handler):
    def role(opt):
        loop = _new_loop(kind)
        sock = listener()
        port = sock.getsockname()[1]
        loop.run_until_complete(
            asyncio.start_server(handler, sock=sock, backlog=BACKLOG, ssl=server_ctx(opt))
        )
        ready(port)
        loop.run_forever()

    return role


# ---------------------------------------------------------------- in-process
def _adapter(kind):
    def make():
        loop = _new_loop(kind)
        add, rem = loop.add_reader, loop.remove_reader

        def reader(fd, cb):
            add(fd, cb)
            return fd

        def once():
            loop.call_soon(loop.stop)
            loop.run_forever()

        return types.SimpleNamespace(
            later=loop.call_later,
            cancel=lambda h: h.cancel(),
            reader=reader,
            unreader=rem,
            run=loop.run_forever,
            stop=loop.stop,
            once=once,
        )

    return make


# ---------------------------------------------------------------- clients
def _redis_raw(kind):
    """Future per batch, replies handed out one by one: what a lean client would do."""

    class Client(asyncio.Protocol):
        def connection_made(self, transport):
            self.tr, self.rest, self.want, self.got = transport, b"", 0, []

        def data_received(self, data):
            self.rest = resp_parse(self.rest + data if self.rest else data, self.got)
            if len(self.got) >= self.want:
                got, self.got = self.got, []
                self.fut.set_result(got)

        def execute(self, cmds):
            self.want = len(cmds)
            self.fut = loop.create_future()
            self.tr.write(b"".join(cmds))
            return self.fut

    def role(opt):
        nonlocal loop
        loop = _new_loop(kind)
        depth, secs = int(opt["depth"]), float(opt["seconds"])

        async def main():
            _, c = await loop.create_connection(Client, HOST, int(opt["port"]))
            await c.execute(redis_batch(depth))
            n, t0 = 0, now()
            while now() - t0 < secs:
                r = await c.execute(redis_batch(depth))
                assert len(r) == depth
                n += depth
            return n / (now() - t0)

        return {"ops": (loop.run_until_complete(main()), "1/s")}

    loop = None
    return role


def _dns_raw(kind):
    """One datagram endpoint, a hand codec and a future per query: the lean resolver."""

    def role(opt):
        loop = _new_loop(kind)
        width, secs = int(opt["outstanding"]), float(opt["seconds"])
        waiting = {}

        class P(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                qid, got = dns_parse(data)
                waiting.pop(qid).set_result(got)

        async def main():
            to = {"sock": dns_socket(int(opt["port"]))}
            if kind == "rloop":  # takes no connected socket
                to = {"remote_addr": (HOST, int(opt["port"]))}
            tr, _ = await loop.create_datagram_endpoint(P, **to)
            serial = n = 0
            t0 = now()

            async def worker():
                nonlocal serial, n
                while now() - t0 < secs:
                    serial += 1
                    qid = serial & 65535
                    fut = waiting[qid] = loop.create_future()
                    tr.sendto(dns_query(qid, serial))
                    got = await asyncio.wait_for(fut, 5)
                    assert got == ["127.0.0.9"], got
                    n += 1

            await asyncio.gather(*[worker() for _ in range(width)])
            return n / (now() - t0)

        return {"queries": (loop.run_until_complete(main()), "1/s")}

    return role


PEERS = {}  # rloop has no TLS of its own yet
for _kind, _mod in (("asyncio", "asyncio"), ("uvloop", "uvloop"), ("rloop", "rloop")):
    PEERS[_kind + "-proto"] = dict(
        needs=[_mod],
        module=_mod,
        no_tls=_kind == "rloop",
        echo=_protocol_server(_kind, Echo),
        sink=_protocol_server(_kind, Sink),
        source=_protocol_server(_kind, Source),
        redis=_redis_raw(_kind),
        dns=_dns_raw(_kind),
        **_loopbench.roles(_adapter(_kind)),
    )
    PEERS[_kind + "-proto-batch"] = {
        "needs": [_mod],
        "no_tls": True,
        "echo": _protocol_server(_kind, EchoBatch),
    }
    PEERS[_kind + "-buffered"] = {
        "needs": [_mod],
        "no_tls": _kind == "rloop",
        "sink": _protocol_server(_kind, SinkBuffered),
    }
    if _kind != "rloop":
        PEERS[_kind + "-streams"] = {
            "needs": [_mod],
            "echo": _stream_server(_kind, s_echo),
            "sink": _stream_server(_kind, s_sink),
            "source": _stream_server(_kind, s_source),
        }
