"""The floors: what nothing but the system calls costs.

py-floor      select.epoll, one callback per line, no other abstraction
py-floor-raw  the same without framing (recv, send)
c-floor       native/floor.c
"""

import heapq
import select
import socket
import types

from wire import (
    BLOB,
    HOST,
    UNIT,
    cert,
    dns_parse,
    dns_query,
    dns_socket,
    listener,
    nodelay,
    now,
    ready,
    redis_batch,
    resp_parse,
    server_ctx,
)

from . import _loopbench

IN, OUT = select.EPOLLIN, select.EPOLLOUT


class Conn:
    __slots__ = ("line", "n", "out", "recv", "rest", "send", "sock")


def _serve(on_data, on_writable=None):
    def role(opt):
        if "tls" in opt:
            return _serve_ssl(opt, on_data, on_writable)
        ls = listener()
        lfd = ls.fileno()
        ep = select.epoll()
        ep.register(lfd, IN)
        ready(ls.getsockname()[1])
        conns = {}
        mask = IN | OUT if on_writable else IN
        poll = ep.poll
        while True:
            for fd, ev in poll():
                if fd == lfd:
                    try:
                        while True:
                            s, _ = ls.accept()
                            s.setblocking(False)
                            nodelay(s)
                            c = conns[s.fileno()] = Conn()
                            c.sock, c.recv, c.send, c.rest, c.n = s, s.recv, s.send, b"", 0
                            ep.register(s.fileno(), mask)
                    except BlockingIOError:
                        pass
                    continue
                c = conns[fd]
                try:
                    if ev & OUT and on_writable:
                        on_writable(c)
                        continue
                    data = c.recv(65536)
                    if data:
                        on_data(c, data)
                        continue
                except BlockingIOError:
                    continue
                except OSError:
                    pass
                del conns[fd]
                c.sock.close()

    return role


def _serve_ssl(opt, on_data, on_writable):
    """SSLSocket straight on the descriptor, the shortest way through the ssl module."""
    import ssl

    ctx = server_ctx(opt)
    ls = listener()
    lfd = ls.fileno()
    ep = select.epoll()
    ep.register(lfd, IN)
    ready(ls.getsockname()[1])
    conns = {}
    mask = IN | OUT if on_writable else IN
    want = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
    while True:
        for fd, ev in ep.poll():
            if fd == lfd:
                try:
                    while True:
                        s, _ = ls.accept()
                        s.setblocking(False)
                        nodelay(s)
                        s = ctx.wrap_socket(s, server_side=True, do_handshake_on_connect=False)
                        c = conns[s.fileno()] = Conn()
                        c.sock, c.recv, c.send, c.rest, c.n = s, s.recv, s.send, b"", 0
                        c.out = False
                        ep.register(s.fileno(), IN)
                except BlockingIOError:
                    pass
                continue
            c = conns[fd]
            try:
                if not c.out:
                    c.sock.do_handshake()
                    c.out = True
                    ep.modify(fd, mask)
                if ev & OUT and on_writable:
                    while True:
                        on_writable(c)
                data = c.recv(65536)
                while data:
                    on_data(c, data)
                    data = c.recv(65536)
            except want:
                continue
            except OSError:
                pass
            del conns[fd]
            c.sock.close()


def _serve_pyopenssl(bio):
    """pyOpenSSL: on the descriptor, or over memory BIOs as a layered transport must."""

    def make(on_data, on_writable=None):
        def role(opt):
            from OpenSSL import SSL

            ctx = SSL.Context(SSL.TLS_METHOD)
            ctx.set_min_proto_version(SSL.TLS1_3_VERSION)
            certfile, keyfile = cert(opt)
            ctx.use_certificate_chain_file(certfile)
            ctx.use_privatekey_file(keyfile)
            ls = listener()
            lfd = ls.fileno()
            ep = select.epoll()
            ep.register(lfd, IN)
            ready(ls.getsockname()[1])
            conns = {}
            mask = IN | OUT if on_writable else IN
            WantRead, WantWrite = SSL.WantReadError, SSL.WantWriteError

            def flush(c, s, k):
                try:
                    while True:
                        c.out += k.bio_read(65536)
                except WantRead:
                    pass
                if c.out:
                    n = s.send(c.out)
                    c.out = c.out[n:]

            def wrapped_send(c, s, k):
                def send(data):
                    if c.out:
                        flush(c, s, k)
                        if c.out:
                            raise BlockingIOError
                    n = k.send(data)
                    flush(c, s, k)
                    return n

                return send

            while True:
                for fd, ev in ep.poll():
                    if fd == lfd:
                        try:
                            while True:
                                s, _ = ls.accept()
                                s.setblocking(False)
                                nodelay(s)
                                k = SSL.Connection(ctx, None if bio else s)
                                k.set_accept_state()
                                c = conns[s.fileno()] = Conn()
                                c.sock, c.recv, c.rest, c.n, c.out = (s, k), k.recv, b"", 0, b""
                                c.line = False
                                c.send = wrapped_send(c, s, k) if bio else k.send
                                ep.register(s.fileno(), IN)
                        except BlockingIOError:
                            pass
                        continue
                    c = conns[fd]
                    s, k = c.sock
                    try:
                        if bio and ev & IN:
                            raw = s.recv(65536)
                            if not raw:
                                raise OSError
                            k.bio_write(raw)
                        if not c.line:
                            try:
                                k.do_handshake()
                                c.line = True
                                ep.modify(fd, mask)
                            finally:
                                if bio:
                                    flush(c, s, k)
                        if ev & OUT and on_writable:
                            while True:
                                on_writable(c)
                        data = c.recv(65536)
                        while data:
                            on_data(c, data)
                            data = c.recv(65536)
                    except (WantRead, WantWrite, BlockingIOError):
                        continue
                    except (OSError, SSL.Error):
                        pass
                    del conns[fd]
                    s.close()

        return role

    return make


def _line(line):
    return line + b"\n"


def on_echo(c, data):
    lines = (c.rest + data).split(b"\n")
    c.rest = lines.pop()
    c.send(b"".join([_line(x) for x in lines]))


def on_echo_raw(c, data):
    c.send(data)


def on_sink(c, data):
    c.n += len(data)
    while c.n >= UNIT:
        c.n -= UNIT
        c.send(b".")


def on_source(c):
    c.send(BLOB)


def _adapter():
    """epoll, a dict and a heap: the least a Python loop can be."""
    ep = select.epoll()
    cbs, heap, seq = {}, [], 0
    running = False
    push, pop = heapq.heappush, heapq.heappop

    def later(delay, cb):
        nonlocal seq
        seq += 1
        t = [now() + delay, seq, cb]
        push(heap, t)
        return t

    def cancel(t):
        t[2] = None

    def reader(fd, cb):
        cbs[fd] = cb
        ep.register(fd, IN)
        return fd

    def unreader(fd):
        ep.unregister(fd)
        del cbs[fd]

    def turn(block):
        while heap and heap[0][2] is None:
            pop(heap)
        wait = -1 if block else 0
        if heap and block:
            wait = max(0, heap[0][0] - now())
        for fd, _ in ep.poll(wait, max(len(cbs), 1)):
            cbs[fd]()
        if heap:
            t = now()
            while heap and heap[0][0] <= t:
                cb = pop(heap)[2]
                if cb:
                    cb()

    def run():
        nonlocal running
        running = True
        while running:
            turn(True)

    def stop():
        nonlocal running
        running = False

    def once():
        heap[:] = [t for t in heap if t[2]]
        turn(False)

    return types.SimpleNamespace(
        later=later, cancel=cancel, reader=reader, unreader=unreader, run=run, stop=stop, once=once
    )


def redis(opt):
    depth, secs = int(opt["depth"]), float(opt["seconds"])
    s = socket.create_connection((HOST, int(opt["port"])))
    nodelay(s)

    def execute(cmds):
        s.send(b"".join(cmds))
        got, rest = [], b""
        while len(got) < len(cmds):
            rest = resp_parse(rest + s.recv(65536), got)
        return got

    execute(redis_batch(depth))
    n, t0 = 0, now()
    while now() - t0 < secs:
        execute(redis_batch(depth))
        n += depth
    return {"ops": (n / (now() - t0), "1/s")}


def redis_hiredis(opt):
    import hiredis

    depth, secs = int(opt["depth"]), float(opt["seconds"])
    s = socket.create_connection((HOST, int(opt["port"])))
    nodelay(s)
    r = hiredis.Reader()

    def execute(cmds):
        s.send(b"".join(cmds))
        got = []
        while len(got) < len(cmds):
            r.feed(s.recv(65536))
            while True:
                x = r.gets()
                if x is False:
                    break
                got.append(x)
        return got

    execute(redis_batch(depth))
    n, t0 = 0, now()
    while now() - t0 < secs:
        execute(redis_batch(depth))
        n += depth
    return {"ops": (n / (now() - t0), "1/s")}


def dns(opt):
    width, secs = int(opt["outstanding"]), float(opt["seconds"])
    s = dns_socket(int(opt["port"]))
    ep = select.epoll()
    ep.register(s, IN)
    waiting, serial, n = {}, 0, 0
    recv, send = s.recv, s.send

    def ask():
        nonlocal serial
        serial += 1
        waiting[serial & 65535] = done
        send(dns_query(serial & 65535, serial))

    def done(got):
        nonlocal n
        assert got == ["127.0.0.9"], got
        n += 1
        ask()

    t0 = now()
    for _ in range(width):
        ask()
    while now() - t0 < secs:
        if not ep.poll(1):
            raise SystemExit("lost queries")
        try:
            while True:
                qid, got = dns_parse(recv(4096))
                waiting.pop(qid)(got)
        except BlockingIOError:
            pass
    return {"queries": (n / (now() - t0), "1/s")}


_C = "{bench}/build/floor"
_fd, _bio = _serve_pyopenssl(False), _serve_pyopenssl(True)
PEERS = {
    "py-floor": dict(
        echo=_serve(on_echo),
        sink=_serve(on_sink),
        source=_serve(None, on_source),
        redis=redis,
        dns=dns,
        **_loopbench.roles(_adapter),
    ),
    "py-floor-raw": {"no_tls": True, "echo": _serve(on_echo_raw)},
    "py-floor-hiredis": {"needs": ["hiredis"], "redis": redis_hiredis},
    "c-floor": {
        "echo": [_C, "echo"],
        "sink": [_C, "sink"],
        "source": [_C, "source"],
        "pingpong": [_C, "pingpong"],
    },
    "pyopenssl-floor-fd": {
        "needs": ["OpenSSL"],
        "tls_only": True,
        "echo": _fd(on_echo),
        "sink": _fd(on_sink),
        "source": _fd(None, on_source),
    },
    "pyopenssl-floor-bio": {
        "needs": ["OpenSSL"],
        "tls_only": True,
        "echo": _bio(on_echo),
        "sink": _bio(on_sink),
        "source": _bio(None, on_source),
    },
}
