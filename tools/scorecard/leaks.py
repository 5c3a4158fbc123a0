"""Row 29: ten thousand of each kind of object without a collector, and nothing is left."""

from __future__ import annotations

import gc
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

from tools.scorecard.finding import Finding, Length, main

#: Objects that caches, free lists and the interpreter may keep, for any number of repetitions.
SLACK = 200


def measure(length: Length) -> Finding:
    import ae_core as ae
    import ae_dns
    from ae_core.testing import LeakCheck
    from ae_dns.testing import NameServer
    from ae_handle import Handle
    from ae_socket import tcp_connect, tcp_server

    count = {"gate": 200, "full": 10_000, "nightly": 1_000_000}[length]
    ae.use("loop")
    left, right = socket.socketpair()
    server = tcp_server("127.0.0.1", 0, lambda sock, *_: sock.close())
    port = server.address[1]
    names = NameServer("x.test. A 192.0.2.1")
    resolver = ae_dns.Resolver(servers=[names.endpoint])

    def nothing(*_: object) -> None:
        """A callback."""

    def lookup() -> None:
        resolver.a("x.test.").recv()
        names.queries.clear()  # the server keeps what it was asked

    async def task() -> None:
        await ae.sleep(0)

    def pair() -> None:
        one, two = socket.socketpair()
        h = Handle(one, on_error=nothing)
        h.push_write(b"x\n")
        ae.sleep(0).recv()
        h.destroy()
        two.close()

    kinds: dict[str, tuple[int, Callable[[], Any]]] = {
        "io": (count, lambda: ae.io(right, "r", nothing).cancel()),
        "timer": (count, lambda: ae.timer(60, nothing).cancel()),
        "signal": (count, lambda: ae.signal("USR2", nothing).cancel()),
        "idle": (count, lambda: ae.idle(nothing).cancel()),
        "condvar": (count, lambda: ae.CondVar[None]().send()),
        "task": (count, lambda: ae.spawn(task()).recv()),
        "handle": (count, pair),
        "connect": (count, lambda: tcp_connect("127.0.0.1", port).recv().close()),
        "lookup": (count, lookup),
    }
    bad = []
    for name, (times, make) in kinds.items():
        for _ in range(20):
            make()
        ae.sleep(0.05).recv()
        gc.collect()
        check = LeakCheck()
        before = Counter(type(each).__name__ for each in gc.get_objects())
        gc.disable()
        for _ in range(times):
            make()
        ae.sleep(0.05).recv()
        grown = Counter(type(each).__name__ for each in gc.get_objects()) - before
        gc.enable()
        gc.collect()
        many = [f"{n} {kind}" for kind, n in grown.most_common(2) if n > SLACK]
        many += check.left()
        if many:
            bad.append(f"{name}: {', '.join(many)}")
    server.cancel()
    names.cancel()
    left.close()
    right.close()
    figure = f"{count} of each of {len(kinds)} kinds ({', '.join(kinds)}), {len(bad)} leak"
    if bad:
        figure += ": " + "; ".join(bad)
    return Finding(figure, not bad)


if __name__ == "__main__":
    main(measure)
