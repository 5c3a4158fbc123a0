"""In-process scenarios written once against a tiny adapter of a callback loop.

An adapter has:
    later(delay, cb) -> handle      cancel(handle)
    reader(fd, cb) -> handle        unreader(handle)
    run()                           stop()          once()  (one turn, not blocking)
Each is a plain attribute so that a loop's own bound methods can be used as they are.
"""

from wire import delays, hops, now, pairs, per, readable_fds, rss


def timers(a, opt):
    n, m = int(opt.get("cancel", 200000)), int(opt.get("fire", 100000))
    ds = delays(n)
    later, cancel = a.later, a.cancel

    def cb():
        pass

    t0 = now()
    hs = [later(d, cb) for d in ds]
    t1 = now()
    for h in hs:
        cancel(h)
    a.once()
    t2 = now()
    del hs
    left = m

    def fire():
        nonlocal left
        left -= 1
        if not left:
            a.stop()

    t3 = now()
    keep = [later(0, fire) for _ in range(m)]
    a.run()
    t4 = now()
    del keep
    return {
        "create": per(t1 - t0, n),
        "cancel": per(t2 - t1, n),
        "create+cancel": per(t2 - t0, n),
        "create+fire": per(t4 - t3, m),
    }


def watchers(a, opt):
    """AnyEvent's own first benchmark: create, invoke once, destroy; bytes per watcher."""
    n = int(opt.get("n", 10000))
    fds, keep = readable_fds(n)
    reader, unreader = a.reader, a.unreader
    left = n

    def cb():
        nonlocal left
        left -= 1
        if not left:
            a.stop()

    unreader(reader(keep[1].fileno(), cb))
    out = [None] * n
    r0 = rss()
    t0 = now()
    for i, fd in enumerate(fds):
        out[i] = reader(fd, cb)
    t1 = now()
    r1 = rss()
    a.run()
    t2 = now()
    for h in out:
        unreader(h)
    a.once()  # some loops tell the kernel only here
    t3 = now()
    return {
        "create": per(t1 - t0, n, "us"),
        "invoke": per(t2 - t1, n, "us"),
        "destroy": per(t3 - t2, n, "us"),
        "total": per(t3 - t0, n, "us"),
        "bytes": ((r1 - r0) / n, "B"),
    }


def pingpong(a, opt):
    n, secs = int(opt.get("pairs", 100)), float(opt.get("seconds", 0.5))
    count = 0
    limit = 1 << 60

    def make(sock):
        recv, send = sock.recv, sock.send

        def cb():
            nonlocal count
            send(recv(1))
            count += 1
            if count == limit:
                a.stop()

        return cb

    ps = pairs(n, 0)
    watchers = []  # some loops forget what nobody holds
    for s, t in ps:
        watchers.append(a.reader(s.fileno(), make(s)))
        watchers.append(a.reader(t.fileno(), make(t)))
        s.send(b"x")
    limit = 2000
    t0 = now()
    a.run()  # calibrate and warm up
    rate = 2000 / (now() - t0)
    count, limit = 0, max(2000, int(rate * secs))
    t0 = now()
    a.run()
    t1 = now()
    return {"event": per(t1 - t0, count)}


def servers(a, opt):
    """AnyEvent's own second benchmark: many socket pairs, few active, a timeout each."""
    n, active, secs = int(opt["n"]), int(opt["active"]), float(opt.get("seconds", 0.5))
    hop = hops(n)
    count, limit = 0, 1 << 60
    later, cancel, reader = a.later, a.cancel, a.reader

    def timeout():
        raise SystemExit("a timeout fired")

    out = []
    t0 = now()
    ps = pairs(n, 0)
    writers = [p[0].send for p in ps]

    def make(sock):
        recv = sock.recv
        timer = later(60, timeout)

        def cb():
            nonlocal timer, count
            try:
                data = recv(1)
            except BlockingIOError:  # rloop reports a readiness twice now and then
                return
            cancel(timer)
            timer = later(60, timeout)
            writers[hop[count & 65535]](data)
            count += 1
            if count == limit:
                a.stop()

        return cb

    for _, b in ps:
        out.append(reader(b.fileno(), make(b)))
    t1 = now()
    for w in writers[:active]:
        w(b"x")
    limit = 2000
    t2 = now()
    a.run()
    rate = 2000 / (now() - t2)
    count, limit = 0, max(2000, int(rate * secs))
    t2 = now()
    a.run()
    t3 = now()
    return {"create": per(t1 - t0, n, "us"), "request": per(t3 - t2, count, "us")}


def roles(adapter):
    return {
        "timers": lambda o: timers(adapter(), o),
        "watchers": lambda o: watchers(adapter(), o),
        "pingpong": lambda o: pingpong(adapter(), o),
        "servers": lambda o: servers(adapter(), o),
    }
