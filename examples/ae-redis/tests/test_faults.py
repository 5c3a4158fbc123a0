"""A bad network between the client and a real server: small pieces, broken connections."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_handle import Handle
from ae_redis import CannotConnect, ConnectionLost, Redis
from ae_socket import tcp_server

Make = Callable[..., Redis]


class Proxy:
    """Passes octets on in random pieces, and breaks each connection after so many of them."""

    def __init__(self, port: int, seed: int, lifetime: int) -> None:
        self._port = port
        self._random = random.Random(seed)
        self._lifetime = lifetime
        self._handles: set[Handle] = set()
        self.broken = 0
        self._server = tcp_server("127.0.0.1", 0, self._accept)
        self.port = self._server.address[1]

    def _accept(self, sock: socket.socket, host: str, port: int | str) -> None:
        left = self._random.randrange(self._lifetime)
        client = Handle(sock, linger=0)
        server = Handle(connect=("127.0.0.1", self._port), linger=0)
        self._handles |= {client, server}

        def gone(handle: Handle, *error: Any) -> None:
            self._handles -= {client, server}
            client.destroy()
            server.destroy()

        def relay(to: Handle) -> Callable[[Handle], None]:
            def read(handle: Handle) -> None:
                nonlocal left
                size = min(len(handle.read_buffer), self._random.randrange(1, 200), left)
                left -= size
                if left <= 0:
                    self.broken += 1
                    gone(handle)
                else:
                    to.push_write(handle.read_buffer.take(size))

            return read

        client.on_read, server.on_read = relay(server), relay(client)
        client.on_error = server.on_error = gone
        client.on_eof = server.on_eof = gone

    def close(self) -> None:
        self._server.cancel()
        for handle in self._handles:
            handle.destroy()


@pytest.mark.parametrize("seed", range(4))
def test_what_is_counted_is_what_was_confirmed_and_at_most_what_may_have_been_executed(
    redis_server: Any, make: Make, seed: int
) -> None:
    proxy = Proxy(redis_server.port, seed, 4000)
    choice = random.Random(seed)
    confirmed: list[int] = []
    maybe = never = 0
    redis = Redis(port=proxy.port, host="127.0.0.1", db=7, max_delay=0.01, timeout=60)

    async def incr() -> None:
        nonlocal maybe, never
        try:
            confirmed.append(await redis.incr("n"))
        except (ConnectionLost, CannotConnect) as error:
            if error.maybe_executed:
                maybe += 1
            else:
                never += 1

    async def main() -> None:
        for _ in range(60):
            for task in [ae.spawn(incr()) for _ in range(choice.randrange(1, 40))]:
                await task

    ae.run(main())
    redis.close()
    proxy.close()
    counted = int(make().get("n").recv() or 0)
    assert proxy.broken > 5
    assert maybe > 0
    assert confirmed == sorted(set(confirmed))  # no reply went to the wrong command
    assert len(confirmed) <= counted <= len(confirmed) + maybe


@pytest.mark.parametrize("seed", range(2))
def test_values_are_whole_whatever_the_network_does(
    redis_server: Any, make: Make, seed: int
) -> None:
    proxy = Proxy(redis_server.port, seed, 400_000)
    choice = random.Random(seed)
    values = [choice.randbytes(choice.randrange(5000)) for _ in range(20)]
    make().mset({str(number): value for number, value in enumerate(values)}).recv()
    with Redis(port=proxy.port, host="127.0.0.1", db=7, max_delay=0.01) as redis:
        lost = 0
        for _ in range(30):
            try:
                assert redis.mget(*range(20)).recv() == values
            except ConnectionLost:
                lost += 1
        assert 0 < lost < 30
    proxy.close()
