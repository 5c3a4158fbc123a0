"""Row 16: ten thousand connections, echoed, and what an idle one costs.

The server, in a process of its own, keeps a handle for each. This process connects plain sockets
(for TLS: handles) in portions, writes a line on each and reads it back.
"""

from __future__ import annotations

import gc
import multiprocessing
import resource
from multiprocessing.connection import Connection
from typing import Any

from tools.scorecard.finding import Finding, Length, main

FILES = 20_000
#: So many connections are made at once.
PORTION = 100
#: Bytes of memory that a plain idle handle may take.
TARGET = 6 * 1024


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def serve(pipe: Connection, certificate: Any) -> None:
    import ae_core as ae
    from ae_handle import Handle
    from ae_socket import tcp_server

    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    ae.use("loop")
    kept = set()

    def echo(h: Handle) -> None:
        h.push_write(h.read_buffer.take(len(h.read_buffer)))

    def gone(h: Handle, *_: object) -> None:
        kept.discard(h)
        h.destroy()

    def accept(sock: object, *_: object) -> None:
        tls: dict[str, Any] = {}
        if certificate is not None:
            tls = {"tls": "accept", "tls_context": context}
        kept.add(Handle(sock, on_read=echo, on_error=gone, **tls))

    if certificate is not None:
        from ae_tls import Context

        context = Context(cert_file=certificate)
    server = tcp_server("127.0.0.1", 0, accept, backlog=4096)
    gc.collect()
    pipe.send(server.address[1])

    def asked() -> None:
        pipe.recv()
        gc.collect()
        pipe.send((len(kept), resident()))

    with ae.io(pipe.fileno(), "r", asked):
        ae.CondVar().recv()


def play(count: int, certificate: Any, authority: Any) -> tuple[int, int, float]:
    """Return how many were echoed, how many errors there were, and bytes per handle."""
    import ae_core as ae
    from ae_handle import Handle, HandleError

    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, certificate))
    process.start()
    there.close()
    port = here.recv()
    here.send(None)
    _, before = here.recv()
    tls: dict[str, Any] = {}
    if authority is not None:
        from ae_tls import Context

        tls = {
            "tls": "connect",
            "tls_context": Context(ca_file=authority),
            "peer_name": "localhost",
        }
    kept = []
    errors = 0

    async def one(number: int) -> None:
        nonlocal errors
        h = Handle(connect=("127.0.0.1", port), **tls)
        h.push_write(b"%d\n" % number)
        try:
            assert await h.push_read("line") == b"%d" % number
        except HandleError:
            errors += 1
            h.destroy()
        else:
            kept.append(h)

    async def all_of_them() -> None:
        for first in range(0, count, PORTION):
            for task in [ae.spawn(one(number)) for number in range(first, first + PORTION)]:
                await task

    ae.use("loop")
    try:
        ae.run(all_of_them())
        here.send(None)
        there_now, after = here.recv()
    finally:
        for h in kept:
            h.destroy()
        process.terminate()
        process.join()
    return min(len(kept), there_now), errors, (after - before) / count


def measure(length: Length) -> Finding:
    import tempfile

    import trustme

    plain, secure = (1000, 200) if length == "gate" else (10_000, 2_000)
    ca = trustme.CA()
    with tempfile.NamedTemporaryFile(suffix=".pem") as own, tempfile.NamedTemporaryFile() as root:
        ca.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
            own.name
        )
        ca.cert_pem.write_to_path(root.name)
        echoed, errors, each = play(plain, None, None)
        over_tls, tls_errors, each_tls = play(secure, own.name, root.name)
    figure = (
        f"{echoed} plain echoed, {errors} errors, {each / 1024:.1f} KiB each; "
        f"{over_tls} TLS echoed, {tls_errors} errors, {each_tls / 1024:.1f} KiB each"
    )
    good = (echoed, over_tls, errors, tls_errors) == (plain, secure, 0, 0) and each <= TARGET
    short = ""
    if length == "nightly":
        short = "the hour of churn is not measured"
    return Finding(figure, good, short)


if __name__ == "__main__":
    main(measure)
