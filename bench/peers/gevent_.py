"""gevent: blocking-style sockets in greenlets, and its raw libev watchers."""

import types

from wire import BLOB, UNIT, listener, nodelay, now, pairs, per, ready, server_ctx

from . import _loopbench


def _server(handle):
    def role(opt):
        from gevent.server import StreamServer

        kw = {}
        if "tls" in opt:
            from gevent import ssl

            kw["ssl_context"] = server_ctx(opt, ssl)
        sock = listener()

        def safe(s, addr):
            nodelay(s)
            try:
                handle(s)
            except OSError:
                pass

        from gevent import socket as gsocket

        g = gsocket.socket(fileno=sock.detach())
        srv = StreamServer(g, safe, **kw)
        srv.max_accept = 100
        ready(g.getsockname()[1])
        srv.serve_forever()

    return role


def echo(s):
    rest = b""
    recv, sendall = s.recv, s.sendall
    while True:
        data = recv(65536)
        if not data:
            return
        lines = (rest + data).split(b"\n")
        rest = lines.pop()
        for line in lines:
            sendall(line + b"\n")


def sink(s):
    n = 0
    while True:
        data = s.recv(65536)
        if not data:
            return
        n += len(data)
        while n >= UNIT:
            n -= UNIT
            s.sendall(b".")


def source(s):
    while True:
        s.sendall(BLOB)


def pingpong(opt):
    import gevent
    from gevent import socket as gsocket

    n, secs = int(opt.get("pairs", 100)), float(opt.get("seconds", 0.5))
    count = 0

    def task(sock):
        nonlocal count
        s = gsocket.socket(sock.family, sock.type, 0, fileno=sock.detach())
        recv, send = s.recv, s.send
        while True:
            send(recv(1))
            count += 1

    for a, b in pairs(n, 0):
        a.send(b"x")
        gevent.spawn(task, a)
        gevent.spawn(task, b)
    gevent.sleep(0.05)
    c0, t0 = count, now()
    gevent.sleep(secs)
    return {"event": per(now() - t0, count - c0)}


def _adapter():
    import gevent.core

    loop = gevent.core.loop(default=False)

    def later(d, cb):
        t = loop.timer(d)
        t.start(cb)
        return t

    def cancel(t):
        t.stop()

    def reader(fd, cb):
        w = loop.io(fd, 1)
        w.start(cb)
        return w

    def unreader(w):
        w.stop()
        w.close()

    return types.SimpleNamespace(
        later=later,
        cancel=cancel,
        reader=reader,
        unreader=unreader,
        run=loop.run,
        stop=loop.break_,
        once=lambda: loop.run(nowait=True),
    )


def ev_echo(opt):
    """Line echo straight on libev io watchers."""
    import gevent.core

    loop = gevent.core.loop(default=False)
    ls = listener()
    ready(ls.getsockname()[1])
    io = loop.io

    def conn(s):
        recv, send = s.recv, s.send
        rest = b""
        w = io(s.fileno(), 1)

        def line(x):
            return x + b"\n"

        def cb():
            nonlocal rest
            try:
                data = recv(65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                w.stop()
                w.close()
                s.close()
                return
            lines = (rest + data).split(b"\n")
            rest = lines.pop()
            send(b"".join([line(x) for x in lines]))

        w.start(cb)

    def accept():
        try:
            while True:
                s, _ = ls.accept()
                s.setblocking(False)
                nodelay(s)
                conn(s)
        except BlockingIOError:
            pass

    w = io(ls.fileno(), 1)
    w.start(accept)
    loop.run()


PEERS = {
    "gevent": {
        "needs": ["gevent"],
        "module": "gevent.socket",
        "echo": _server(echo),
        "sink": _server(sink),
        "source": _server(source),
        "pingpong": pingpong,
    },
    "gevent-libev": dict(needs=["gevent"], no_tls=True, echo=ev_echo, **_loopbench.roles(_adapter)),
}
