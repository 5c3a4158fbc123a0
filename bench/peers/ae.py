"""The project itself: ae-core watchers, ae-handle servers and clients, ae-dns.

`ae` runs on the built-in loop; `ae-asyncio`, `ae-uvloop`
and `ae-libev` are the same code hosted elsewhere.  `ae-tls-ssl` is `ae` with the
standard library's engine behind the same seam.
"""

import types

from wire import BLOB, HOST, REDIS_VALUE, UNIT, cert, now, ready, server_ctx

from . import _loopbench


def _use(kind):
    import ae_core as ae

    if kind == "uvloop":
        import uvloop

        ae.use("asyncio", loop_factory=uvloop.new_event_loop)
    elif kind:
        ae.use(kind)
    return ae


def _tls(opt, engine):
    if "tls" not in opt:
        return {}
    if engine == "ssl":
        return {"tls": "accept", "tls_context": server_ctx(opt)}
    import ae_tls

    crt, key = cert(opt)
    return {"tls": "accept", "tls_context": ae_tls.Context(cert_file=crt, key_file=key)}


def _server(setup, kind=None, engine=None):
    def role(opt):
        ae = _use(kind)
        from ae_handle import Handle
        from ae_socket import tcp_server

        kw, live = _tls(opt, engine), set()

        def accept(sock, host, port):
            h = Handle(sock, on_error=gone, on_eof=gone, no_delay=True, **kw)
            live.add(h)
            setup(h)

        def gone(h, *error):
            live.discard(h)
            h.destroy()

        server = tcp_server(HOST, 0, accept, backlog=1024)
        ready(server.address[1])
        ae.run()

    return role


def echo(h):
    def line(h, data):
        h.push_write(data + b"\n")
        h.push_read("line", line)

    h.push_read("line", line)


def echo_each(h):
    h.read_each("line", lambda h, data: h.push_write(data + b"\n"))


def sink(h):
    n = 0

    def read(h):
        nonlocal n
        n += len(h.read_buffer)
        h.read_buffer.clear()
        while n >= UNIT:
            n -= UNIT
            h.push_write(b".")

    h.max_read_buffer = None
    h.on_read = read


def source(h):
    h.on_read = lambda h: h.read_buffer.clear()
    h.on_drain = lambda h: h.push_write(BLOB)


def redis(kind=None):
    def role(opt):
        ae = _use(kind)
        from ae_handle import Chunk, Handle

        depth, secs = int(opt["depth"]), float(opt["seconds"])
        done = ae.CondVar()
        h = Handle(connect=(HOST, int(opt["port"])), on_error=lambda h, e: done.throw(e))
        keys = [b"key:%d" % i for i in range(depth // 2)]
        left = ops = 0
        t0 = now()

        def reply(h, data):
            t = data[:1]
            if t == b"$":
                h.unshift_read(Chunk(int(data[1:]) + 2), bulk)
            elif t in b"+:":
                one(data[1:])
            else:
                done.throw(ValueError(data))

        def bulk(h, data):
            one(data[:-2])

        def one(value):
            nonlocal left, ops
            left -= 1
            if not left:
                ops += depth
                if now() - t0 < secs:
                    batch()
                else:
                    done.send(ops / (now() - t0))

        def batch():
            nonlocal left
            left = depth
            for k in keys:
                h.push_write(
                    b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$32\r\n%s\r\n" % (len(k), k, REDIS_VALUE)
                )
                h.push_read("line", reply)
                h.push_write(b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(k), k))
                h.push_read("line", reply)

        batch()
        return {"ops": (done.recv(), "1/s")}

    return role


def dns(kind=None):
    def role(opt):
        ae = _use(kind)
        import ae_dns

        width, secs = int(opt["outstanding"]), float(opt["seconds"])
        r = ae_dns.Resolver(
            servers=["{}:{}".format(HOST, opt["port"])], search=[], max_outstanding=width
        )
        done = ae.CondVar()
        n = serial = running = 0
        t0 = now()

        def ask():
            nonlocal serial
            serial += 1
            r.a(f"q{serial}.bench.test.").on_ready(got)

        def got(cv):
            nonlocal n, running
            if cv.recv() != ["127.0.0.9"]:
                done.throw(ValueError(cv.recv()))
            n += 1
            if now() - t0 < secs:
                ask()
            else:
                running -= 1
                if not running:
                    done.send(n / (now() - t0))

        running = width
        for _ in range(width):
            ask()
        return {"queries": (done.recv(), "1/s")}

    return role


def _adapter(kind=None):
    def make():
        ae = _use(kind)
        stop = None

        def run():
            nonlocal stop
            stop = ae.CondVar()
            stop.recv()

        def once():
            cv = ae.CondVar()
            ae.postpone(cv)
            cv.recv()

        return types.SimpleNamespace(
            later=ae.timer,
            cancel=lambda w: w.cancel(),
            reader=lambda fd, cb: ae.io(fd, "r", cb),
            unreader=lambda w: w.cancel(),
            run=run,
            stop=lambda: stop.send(),  # noqa: PLW0108 (run makes a new one each time)
            once=once,
        )

    return make


def _peer(kind=None, **more):
    return dict(
        needs=["ae_core", "ae_socket", "ae_handle"],
        module="ae_core",
        echo=_server(echo, kind),
        sink=_server(sink, kind),
        source=_server(source, kind),
        redis=redis(kind),
        dns=dns(kind),
        **_loopbench.roles(_adapter(kind)),
        **more,
    )


PEERS = {
    "ae": _peer(),
    "ae-each": {"needs": ["ae_handle"], "no_tls": True, "echo": _server(echo_each)},
    "ae-asyncio": _peer("asyncio"),
    "ae-uvloop": dict(_peer("uvloop"), needs=["ae_core", "uvloop"]),
    "ae-libev": dict(_peer("libev"), needs=["ae_core", "gevent"]),
    "ae-tls-ssl": {
        "needs": ["ae_core", "ae_handle"],
        "tls_only": True,
        "echo": _server(echo, None, "ssl"),
        "sink": _server(sink, None, "ssl"),
        "source": _server(source, None, "ssl"),
    },
    "ae-all-imports": {
        "needs": ["ae_tls"],
        "module": "ae_core, ae_socket, ae_dns, ae_handle, ae_tls",
    },
}
