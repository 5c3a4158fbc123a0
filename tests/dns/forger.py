"""A name server that forges: before each true reply it floods the client with false ones.

Run by ``test_flood`` in a process of its own. It knows what a forger elsewhere has to guess -
address, port, identifier, question - and gets exactly one of them wrong in each packet, so
that every single check of the client is put to the test.

    python forger.py FORGED_PER_QUERY    prints its port; on SIGTERM how many packets it forged

Over TCP, which cannot be forged from elsewhere, it tells the truth at once.
"""

from __future__ import annotations

import random
import signal
import socket
import sys
import threading
from collections.abc import Iterator

TRUTH = bytes((192, 0, 2, 1))
LIE = bytes((192, 0, 2, 66))


def answer(query: bytes, address: bytes, ident: bytes | None = None) -> bytes:
    end = query.index(b"\0", 12) + 5
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + address
    head = (ident or query[:2]) + b"\x81\x80\0\1\0\1\0\0\0\0"
    return head + query[12:end] + record


def forgeries(query: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield packets with one thing wrong each, and where they are to come from."""
    lie = answer(query, LIE)
    end = query.index(b"\0", 12) + 5
    ident = int.from_bytes(query[:2], "big")
    while True:
        wrong = (ident + random.randrange(1, 65536)) & 65535
        yield "server", answer(query, LIE, wrong.to_bytes(2, "big"))
        yield "server", lie[:13] + bytes((lie[13] ^ 1,)) + lie[14:]  # another name
        yield "server", lie[: end - 3] + b"\x1c" + lie[end - 2 :]  # another type
        yield "server", lie[: end - 1] + b"\3" + lie[end:]  # another class
        yield "server", lie[:12] + lie[12:end].swapcase() + lie[end:]  # other case
        yield "server", lie[:2] + b"\x01\x80" + lie[4:]  # a query
        yield "server", lie[:2] + b"\xa9\x80" + lie[4:]  # another opcode
        yield "server", lie[:5] + b"\0" + lie[6:]  # no question
        yield "server", lie[:5] + b"\2" + lie[6:]  # two questions
        yield "server", lie[: random.randrange(12, end)]  # cut short, identifier and all
        yield "server", query[:2] + b"\xff" * random.randrange(80)  # malformed first (TuDoor)
        yield "server", lie[:2] + b"\x83\x80" + lie[4:13] + b"\xff" + lie[14:]  # TC, other name
        yield "elsewhere", lie  # right in all, but from another port
        yield "address", lie  # right in all, but from another address


def serve_tcp(listener: socket.socket) -> None:
    while True:
        client = listener.accept()[0]
        with client, client.makefile("rb") as stream:
            while head := stream.read(2):
                reply = answer(stream.read(int.from_bytes(head, "big")), TRUTH)
                client.sendall(len(reply).to_bytes(2, "big") + reply)


def bind() -> tuple[socket.socket, socket.socket, socket.socket]:
    """Return a UDP socket, a TCP one, and a UDP one of another address, all of the same port."""
    while True:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        address = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            server.bind(("127.0.0.1", 0))
            listener.bind(server.getsockname())
            address.bind(("127.0.0.2", server.getsockname()[1]))
            return server, listener, address
        except OSError:  # somebody has one of the two others
            for sock in (server, listener, address):
                sock.close()


def main() -> None:
    number = int(sys.argv[1])
    server, listener, address = bind()
    listener.listen()
    threading.Thread(target=serve_tcp, args=(listener,), daemon=True).start()
    elsewhere = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    elsewhere.bind(("127.0.0.1", 0))
    sources = {"server": server, "elsewhere": elsewhere, "address": address}
    forged = 0

    def end(*_: object) -> None:
        print(forged, flush=True)
        sys.exit()

    signal.signal(signal.SIGTERM, end)
    print(server.getsockname()[1], flush=True)
    while True:
        try:
            query, client = server.recvfrom(4096)
            packets = forgeries(query)
            for _ in range(number):
                source, packet = next(packets)
                sources[source].sendto(packet, client)
                forged += 1
            server.sendto(answer(query, TRUTH), client)
        except ConnectionError:
            continue  # the client closed its port: it believed something


if __name__ == "__main__":
    main()
