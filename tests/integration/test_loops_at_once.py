"""A loop in each of several threads at the same time: what a Python without a global lock runs."""

from __future__ import annotations

import socket
import threading
from typing import Any

import ae_core as ae
from ae_core.testing import binding
from ae_handle import Handle, HandleError
from ae_socket import tcp_server

THREADS = 4
CLIENTS = 5
LINES = 40


async def echo(sock: socket.socket) -> None:
    with Handle(sock) as h:
        async for line in h.each("line"):
            h.push_write(line + b"\n")


async def ask(port: int | str, thread: int, client: int) -> int:
    with Handle(connect=("127.0.0.1", port)) as h:
        for number in range(LINES):
            text = b"%d %d %d" % (thread, client, number)
            h.push_write(text + b"\n")
            await ae.sleep(0)
            assert await h.push_read("line") == text
    return LINES


async def conversation(thread: int) -> int:
    serving: set[Any] = set()

    def accept(sock: socket.socket, *_: object) -> None:
        task = ae.spawn(echo(sock))
        serving.add(task)

    with tcp_server("127.0.0.1", 0, accept) as server:
        clients = [ae.spawn(ask(server.address[1], thread, n)) for n in range(CLIENTS)]
        done = sum([await each for each in clients])
        for task in serving:
            await task
    return done


def test_each_of_four_loops_at_once_serves_its_own_and_calls_reach_the_main_one(
    unbound: None,
) -> None:
    begin = threading.Barrier(THREADS)
    outcomes: list[int | BaseException] = []
    calls: list[int] = []
    all_there: ae.CondVar[None] = ae.CondVar()

    def ended(thread: int) -> None:
        calls.append(thread)
        if len(calls) == THREADS:
            all_there.send()

    def life(thread: int) -> None:
        try:
            begin.wait()
            with binding("loop"):
                outcomes.append(ae.run(conversation(thread)))
        except (HandleError, AssertionError, RuntimeError, OSError) as error:
            outcomes.append(error)
        ae.call_threadsafe(ended, thread)

    ae.use("loop")
    ae.detect()
    threads = [threading.Thread(target=life, args=(n,)) for n in range(THREADS)]
    for each in threads:
        each.start()
    all_there.recv(10)
    for each in threads:
        each.join()
    assert outcomes == [CLIENTS * LINES] * THREADS
    assert sorted(calls) == [*range(THREADS)]
