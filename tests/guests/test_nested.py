"""A dialog inside a coroutine: a nested loop of the host goes on with the guest."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ae_core as ae
from ae_guests import start_asyncio


def qt_modal() -> Any:
    core: Any = sys.modules.get("PyQt6.QtCore") or sys.modules.get("PySide6.QtCore")
    loop = core.QEventLoop()
    return loop.exec, loop.quit


def tk_modal() -> Any:
    import tkinter

    root: Any = ae.detect()._root  # type: ignore[attr-defined]
    done = tkinter.StringVar(root)
    return (lambda: root.tk.call("vwait", str(done))), (lambda: done.set("x"))


def glib_modal() -> Any:
    from gi.repository import GLib

    loop = GLib.MainLoop()
    return loop.run, loop.quit


def polling_modal() -> Any:
    """Turn the loop by hand, as a nested loop of one's own does."""
    open_still = [True]
    backend = ae.detect()

    def run() -> None:
        while open_still:
            backend.poll(True)

    return run, open_still.clear


MODALS = {"qt": qt_modal, "tk": tk_modal, "glib": glib_modal, "loop": polling_modal}


@pytest.fixture
def modal(host: ae.abc.Backend, until_closed: Callable[[], None]) -> Iterator[Any]:
    """Return a function that runs a nested loop, and one that ends it."""
    if host.name not in MODALS:
        pytest.skip(f"{host.name} has no nested loops")
    yield MODALS[host.name]()
    until_closed()


def test_tasks_timers_threads_and_files_go_on_while_a_dialog_is_open(modal: Any) -> None:
    run, leave = modal
    seen: list[str] = []

    async def dialog() -> str:
        seen.append("open")
        run()
        task = asyncio.current_task()
        seen.append("closed")
        await asyncio.sleep(0)
        assert task is asyncio.current_task()
        return "done"

    async def other() -> None:
        loop = asyncio.get_running_loop()
        for n in range(3):
            await asyncio.sleep(0.01)
            seen.append(f"step {n}")
        await asyncio.to_thread(int)
        seen.append("thread")
        server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        server.close()
        seen.append("file")
        loop.call_soon(seen.append, "soon")
        loop.call_later(0.01, leave)
        await asyncio.sleep(0.03)

    async def both() -> str:
        beside = asyncio.ensure_future(other())
        await asyncio.sleep(0)
        answer = await dialog()
        await beside
        return answer

    assert start_asyncio(both()).recv(timeout=60) == "done"
    expected = ["open", "step 0", "step 1", "step 2", "thread", "file", "soon", "closed"]
    assert seen == expected


def test_what_was_ready_before_the_dialog_is_run_inside_it_once(modal: Any) -> None:
    run, leave = modal
    seen: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for n in range(3):
            loop.call_soon(seen.append, n)
        loop.call_soon(run)
        for n in range(3, 100):
            loop.call_soon(seen.append, n)
        loop.call_soon(leave)
        await asyncio.sleep(0.01)

    start_asyncio(main()).recv(timeout=60)
    assert seen == list(range(100))


def test_a_stream_whose_callback_opened_the_dialog_is_read_inside_it(modal: Any) -> None:
    run, leave = modal
    got: list[bytes] = []
    writers: list[Any] = []

    class Reader(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            got.append(data)
            if data == b"1":
                run()
                got.append(b"closed")
            if data == b"2":
                leave()

    class Writer(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            writers.append(transport)
            transport.write(b"1")
            asyncio.get_running_loop().call_later(0.02, transport.write, b"2")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Writer, "127.0.0.1", 0)
        transport, _ = await loop.create_connection(Reader, *server.sockets[0].getsockname())
        while b"closed" not in got:
            await asyncio.sleep(0.001)
        for each in (transport, *writers):
            each.close()
        await asyncio.sleep(0)  # closed sockets are let go in the next turn
        server.close()

    start_asyncio(main()).recv(timeout=60)
    assert got == [b"1", b"2", b"closed"]


def test_a_host_that_ends_while_a_dialog_is_open_ends_the_guest_when_that_has_returned(
    modal: Any, trace: Any
) -> None:
    run, leave = modal

    def end() -> None:
        asyncio.get_running_loop()._host_ends()  # type: ignore[attr-defined]
        leave()
        trace("host has ended")

    async def main() -> None:
        asyncio.get_running_loop().call_soon(end)
        run()
        trace("closed")
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.001)
            trace("cleaned up")

    operation = start_asyncio(main())
    with pytest.raises(ae.CancelledError):
        operation.recv(timeout=60)
    assert trace == ["host has ended", "closed", "cleaned up"]
