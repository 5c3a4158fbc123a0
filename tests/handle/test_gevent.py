"""Scripts on gevent: given-up reads lose nothing, and all greenlets of a thread are in it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

# not imported here: it would be the loop that later tests without one find
pytestmark = pytest.mark.skipif(find_spec("gevent") is None, reason="needs gevent")

PROGRAM = """
import socket, ssl, sys
import gevent
import ae_core as ae
from ae_handle import Chunk, Handle

ae.use("gevent")
cert, key = sys.argv[1:]
a, b = socket.socketpair()
near, far = {}, {}
if cert:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    client = ssl.create_default_context(cafile=cert)
    near = {"tls": "connect", "tls_context": client, "peer_name": "peer.test"}
    far = {"tls": "accept", "tls_context": server}
h, peer = Handle(a, **near), Handle(b, **far)
sent = taken = given_up = 0
while taken < 60:
    reader = ("line", Chunk(5))[taken % 2]
    try:
        with gevent.Timeout(0.002):
            item = h.push_read(reader).recv()
    except gevent.Timeout:
        given_up += 1
        assert h.statistics().requests == 0, h
        data = b"%04d\\n" % sent
        if sent == taken:
            peer.push_write(data)  # it comes while nobody reads, or to the next one
            sent += 1
        continue
    assert item[:4] == b"%04d" % taken, (item, taken)
    taken += 1
waiting = gevent.spawn(lambda: h.push_read("line").recv())
gevent.sleep(0.002)
waiting.kill()
peer.push_write(b"after\\n")
assert h.push_read("line", timeout=60).recv() == b"after"
assert given_up >= 60
print("nothing is lost")
"""


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "tls"])
def test_a_timeout_of_gevent_around_a_recv_loses_nothing(
    certificates: Any, tmp_path: Path, plain: bool
) -> None:
    files = ("", "") if plain else (certificates.cert, certificates.key)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, program, *files], check=False, capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.stderr, done.returncode) == ("nothing is lost\n", "", 0)


PATCHED = """
from gevent import monkey
monkey.patch_all()
import socket
import gevent
import ae_core as ae
from ae_core import strict
from ae_handle import Handle

def elsewhere(function):
    greenlet = gevent.spawn(function)
    greenlet.join()
    return greenlet.get()

ae.use("gevent")
if MODE == "strict":
    strict.enable()
a, b = socket.socketpair()
h = Handle(a)
elsewhere(lambda: h.push_write(b"from another greenlet\\n"))
assert b.recv(100) == b"from another greenlet\\n"
lines = h.each("line")
b.send(b"one\\n")
assert h.push_read("line").recv() == b"one"
kept = [lines]
del lines
elsewhere(kept.clear)
assert h.statistics().requests == 0
kept.append(h)
if MODE == "strict":
    h.destroy()
del h
elsewhere(kept.clear)
b.close()
assert a.fileno() == -1  # closed there and then, not by a later turn of the loop
print("one thread")
"""


@pytest.mark.parametrize("mode", ["plain", "strict"])
def test_all_greenlets_of_a_patched_program_are_in_the_thread_of_the_loop(
    script: Callable[..., str], mode: str
) -> None:
    assert script(PATCHED.replace("MODE", repr(mode))) == "one thread\n"


def test_sockets_from_before_and_after_a_patch_are_the_same_to_a_handle(
    script: Callable[..., str],
) -> None:
    output = script("""
        import socket
        import ae_core as ae
        from ae_handle import Chunk, Handle

        early = socket.socketpair()
        from gevent import monkey; monkey.patch_all()

        for a, b in (early, socket.socketpair()):
            near, far = Handle(a), Handle(b)
            near.push_write(b"abc")
            print(far.push_read(Chunk(3)).recv())
        with socket.create_server(("127.0.0.1", 0)) as server:
            early = monkey.get_original("socket", "socket")()
            early.connect(server.getsockname())
            handle = Handle(early, no_delay=True)
            print(bool(early.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
        """)
    assert output.splitlines() == ["b'abc'", "b'abc'", "True"]
