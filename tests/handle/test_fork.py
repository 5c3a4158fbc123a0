"""``os.fork()`` while a handle has octets to send: they are sent once, by the parent."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Certificates

if not hasattr(os, "fork"):
    pytest.skip("needs fork", allow_module_level=True)

PROGRAM = """
    import gc, os, socket, sys, weakref
    import ae_core as ae
    from ae_handle import Chunk, Handle

    ae.use(os.environ["BACKEND"])
    kind = os.environ["KIND"]
    wire = bytes(range(251)) * 2000

    def contexts():
        cert, key = os.environ["CERT"], os.environ["KEY"]
        if kind == "ae_tls":
            from ae_tls import Context
            return Context(ca_file=cert), Context(cert_file=cert, key_file=key)
        import ssl
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(cert, key)
        return ssl.create_default_context(cafile=cert), server

    def pair(seen):
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        ended = ae.CondVar()
        one, two = {}, {}
        if kind != "plain":
            client, server = contexts()
            one = dict(tls="connect", tls_context=client, peer_name="peer.test")
            two = dict(tls="accept", tls_context=server)
        h = Handle(ours, on_error=lambda h, error: print("parent:", error), **one)
        peer = Handle(theirs, on_eof=lambda h: ended.send(),
                      on_error=lambda h, error: print("peer:", error), **two)
        h.push_write(b"hello\\n")
        assert peer.push_read("line").recv() == b"hello"
        peer.stop_read()
        h.push_write(wire)
        ae.sleep(0.001).recv()
        assert "unsent=0" not in repr(h), h
        return h, peer, ended

    # what a child may do with what it has inherited: `box` has the only references
    def nothing(box):
        pass

    def destroy(box):
        box[0].destroy()
        ae.sleep(0.001).recv()

    def forget(box):
        lives = weakref.ref(box[0])
        told = []
        ae.exception_hook = lambda error, watcher: told.append(error)
        box.clear()
        gc.collect()
        assert lives() is None
        ae.sleep(0.001).recv()
        assert told == []  # what is unsent is the parent's

    def go_on(box):
        left, right = socket.socketpair()
        mine, other = Handle(left), Handle(right)
        mine.push_write(b"own\\n")
        assert other.push_read("line").recv() == b"own"
        box[0].push_write(b"not the child's")  # stands behind what is the parent's to send
        ae.sleep(0.001).recv()
        mine.destroy(), other.destroy()

    def clean_end(pid):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    def fork(child, box):
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            child(box)
            status = 0
        finally:
            os._exit(status)

    def check(seen, box, name):
        h, peer, ended = box
        peer.start_read()
        assert peer.push_read(Chunk(len(wire))).recv() == wire, f"{name}: other octets"
        h.push_write(b"and on\\n")
        assert peer.push_read("line").recv() == b"and on", name
        peer.push_write(b"back\\n")
        assert h.push_read("line").recv() == b"back", name
        h.destroy()
        peer.on_read = lambda peer: seen.append(peer.read_buffer.take(len(peer.read_buffer)))
        ended.recv()
        assert not seen, f"{name}: {seen} too much"
        peer.destroy()

    for child in (nothing, destroy, forget, go_on):
        seen = []
        box = [*pair(seen)]
        assert clean_end(fork(child, box)), child.__name__
        check(seen, box, child.__name__)

    # in a callback, of the handle that has them
    seen = []
    box = [*pair(seen)]
    forked = ae.CondVar()
    with ae.timer(0, lambda: forked.send(fork(destroy, box))):
        assert clean_end(forked.recv())
    check(seen, box, "in a callback")

    # the child ends as programs do: its interpreter takes everything down
    seen = []
    box = [*pair(seen)]
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        sys.exit(0)
    assert clean_end(pid)
    check(seen, box, "at the end of the interpreter")
    print("unharmed")
"""


@pytest.mark.parametrize("backend_name", ["loop", "asyncio"])
@pytest.mark.parametrize("kind", ["plain", "ssl", "ae_tls"])
def test_what_a_handle_has_not_sent_is_sent_once_whatever_a_forked_child_does(
    script: Callable[..., str], certificates: Certificates, kind: str, backend_name: str
) -> None:
    if kind == "ae_tls":
        pytest.importorskip("ae_tls", reason="the engine of ae_tls needs ae_tls")
    where = {"CERT": certificates.cert, "KEY": certificates.key}
    assert script(PROGRAM, KIND=kind, BACKEND=backend_name, **where) == "unharmed\n"
