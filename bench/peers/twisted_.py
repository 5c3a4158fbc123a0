"""Twisted: LineReceiver and plain Protocol on the epoll reactor; twisted.names."""

import types

from wire import BACKLOG, BLOB, HOST, UNIT, cert, now, ready

from . import _loopbench


def _reactor():
    import sys

    if "twisted.internet.reactor" not in sys.modules:
        from twisted.internet import epollreactor

        epollreactor.install()
    from twisted.internet import reactor

    return reactor


def _server(make):
    def role(opt):
        reactor = _reactor()
        from twisted.internet import protocol

        f = protocol.ServerFactory()
        f.noisy = False
        f.protocol = make()
        if "tls" in opt:
            from OpenSSL import SSL
            from twisted.internet import ssl

            c, k = cert(opt)
            cf = ssl.DefaultOpenSSLContextFactory(k, c, sslmethod=SSL.TLS_METHOD)
            p = reactor.listenSSL(0, f, cf, backlog=BACKLOG, interface=HOST)
        else:
            p = reactor.listenTCP(0, f, backlog=BACKLOG, interface=HOST)
        ready(p.getHost().port)
        reactor.run()

    return role


def echo():
    from twisted.protocols.basic import LineReceiver

    class P(LineReceiver):
        delimiter = b"\n"

        def connectionMade(self):
            self.transport.setTcpNoDelay(True)

        def lineReceived(self, line):
            self.transport.write(line + b"\n")

    return P


def sink():
    from twisted.internet.protocol import Protocol

    class P(Protocol):
        n = 0

        def dataReceived(self, data):
            self.n += len(data)
            while self.n >= UNIT:
                self.n -= UNIT
                self.transport.write(b".")

    return P


def source():
    from twisted.internet.interfaces import IPullProducer
    from twisted.internet.protocol import Protocol
    from zope.interface import implementer

    @implementer(IPullProducer)
    class P(Protocol):
        def connectionMade(self):
            self.transport.registerProducer(self, False)

        def resumeProducing(self):
            self.transport.write(BLOB)

        def stopProducing(self):
            pass

    return P


def _adapter():
    reactor = _reactor()

    class R:
        __slots__ = ("doRead", "fd")

        def __init__(self, fd, cb):
            self.fd, self.doRead = fd, cb

        def fileno(self):
            return self.fd

        def connectionLost(self, reason):
            pass

        def logPrefix(self):
            return ""

    started = False

    def reader(fd, cb):
        r = R(fd, cb)
        reactor.addReader(r)
        return r

    def run():
        nonlocal started
        if not started:
            started = True
            reactor.startRunning(installSignalHandlers=False)
        a.going = True
        while a.going:
            reactor.runUntilCurrent()
            if a.going:
                reactor.doIteration(reactor.timeout())

    def stop():
        a.going = False

    a = types.SimpleNamespace(
        later=reactor.callLater,
        cancel=lambda h: h.cancel(),
        reader=reader,
        unreader=reactor.removeReader,
        run=run,
        stop=stop,
        once=lambda: (reactor.runUntilCurrent(), reactor.doIteration(0)),
    )
    return a


def dns(opt):
    reactor = _reactor()
    from twisted.internet.defer import inlineCallbacks
    from twisted.names import client

    res = client.Resolver(servers=[(HOST, int(opt["port"]))])
    width, secs = int(opt["outstanding"]), float(opt["seconds"])
    out = {}
    n = serial = 0
    live = width
    t0 = now()

    @inlineCallbacks
    def worker():
        nonlocal n, serial, live
        while now() - t0 < secs:
            serial += 1
            ans, _, _ = yield res.lookupAddress(f"q{serial}.bench.test")
            assert ans[0].payload.dottedQuad() == "127.0.0.9"
            n += 1
        live -= 1
        if not live:
            out["queries"] = (n / (now() - t0), "1/s")
            reactor.stop()

    for _ in range(width):
        worker().addErrback(lambda f: f.printTraceback())
    reactor.run()
    return out


PEERS = {
    "twisted": dict(
        needs=["twisted"],
        module="twisted.internet.reactor",
        echo=_server(echo),
        sink=_server(sink),
        source=_server(source),
        dns=dns,
        **_loopbench.roles(_adapter),
    )
}
