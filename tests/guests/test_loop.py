"""A whole program of asyncio in a guest loop: what it is used to, and what the host adds.

Long because each situation stands by itself: a list of short cases over the same few fixtures.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
import ae_guests

Run = Callable[[Any], Any]


def test_sleeping_takes_its_time_and_order_is_kept(host: Any, run: Run) -> None:
    async def main() -> list[str]:
        seen: list[str] = []
        loop = asyncio.get_running_loop()
        loop.call_later(0.02, seen.append, "later")
        loop.call_soon(seen.append, "soon")
        started = loop.time()
        await asyncio.sleep(0.03)
        assert loop.time() - started >= 0.03 - 1e-6
        return seen

    assert run(main()) == ["soon", "later"]


def test_timers_close_together_are_one_timer_of_the_host(
    host: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    timer = ae.timer

    def recorded(after: float, *args: Any, **options: Any) -> Any:
        waits.append(after)
        return timer(after, *args, **options)

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        seen: list[int] = []
        done = loop.create_future()
        for n in range(500):
            loop.call_later(0.005 + n / 50_000, seen.append, n)
        loop.call_later(0.016, done.set_result, None)
        await done
        await asyncio.sleep(0.05)  # one wait that also a busy machine does not skip
        return seen

    monkeypatch.setattr("ae_guests._loop.ae.timer", recorded)
    assert run(main()) == list(range(500))
    assert [wait for wait in waits if 0 < wait < 0.001] == []
    assert any(wait >= 0.001 for wait in waits)


def test_a_timer_at_no_time_or_of_a_closed_loop_is_refused(host: Any) -> None:
    loop = ae_guests.new_event_loop()
    when: Any = None
    with pytest.raises(TypeError):
        loop.call_at(when, int)
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_at(0, int)


def test_streams_talk_over_tcp(host: Any, run: Run) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
        writer.close()

    async def main() -> list[bytes]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        answers = []
        for n in range(50):
            writer.write(b"line %d\n" % n)
            answers.append(await reader.readline())
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return answers

    assert run(main()) == [b"LINE %d\n" % n for n in range(50)]


def test_a_program_is_run_and_its_status_told(host: Any, run: Run) -> None:
    async def main() -> tuple[bytes, int | None, int | None]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print('out')", stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        failing = await asyncio.create_subprocess_exec(sys.executable, "-c", "exit(3)")
        await failing.wait()
        return output, process.returncode, failing.returncode

    assert run(main()) == (b"out\n", 0, 3)


def test_a_child_takes_no_thread(host: Any, run: Run) -> None:
    async def main() -> set[str]:
        before = set(threading.enumerate())
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE
        )
        names = {thread.name for thread in set(threading.enumerate()) - before}
        await process.communicate(b"\n")
        return names

    assert not {name for name in run(main()) if "waitpid" in name}


def test_the_end_of_a_program_is_known_as_soon_as_its_number_may_be_anothers(
    host: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    waitpid = os.waitpid
    known: list[int | None] = []

    async def main() -> None:
        def waiting(pid: int, options: int) -> tuple[int, int]:
            found, status = waitpid(pid, options)
            if found:
                ae.postpone(lambda: known.append(program.returncode))
            return found, status

        monkeypatch.setattr(os, "waitpid", waiting)
        program = await asyncio.create_subprocess_exec("sh", "-c", "exit 3")
        await program.wait()
        await asyncio.sleep(0.001)

    run(main())
    assert known == [3]


def test_calls_from_threads_arrive_in_order(host: Any, run: Run) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        seen: list[int] = []

        def call() -> None:
            for n in range(500):
                loop.call_soon_threadsafe(seen.append, n)
            loop.call_soon_threadsafe(done.set_result, None)

        thread = threading.Thread(target=call)
        thread.start()
        await done
        thread.join()
        return seen

    assert run(main()) == list(range(500))


def test_a_call_from_a_thread_while_the_byte_of_another_is_read_hides_no_later_one(
    host: Any, run: Run
) -> None:
    def from_a_thread(call: Callable[[], object]) -> None:
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(call,))
        thread.start()
        thread.join()

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        called = [asyncio.Event() for _ in range(3)]
        real = loop._ssock

        class Reading:
            """The loop's end of its pair, with a call that comes right after a byte was read."""

            def recv(self, size: int) -> bytes:
                data: bytes = real.recv(size)
                loop._ssock = real
                from_a_thread(called[1].set)
                return data

            def fileno(self) -> int:
                fd: int = real.fileno()
                return fd

        loop._ssock = Reading()
        from_a_thread(called[0].set)
        await called[0].wait()
        await called[1].wait()
        assert loop._ssock is real
        await asyncio.sleep(0.01)  # nothing is left to be read
        third = threading.Timer(0.01, loop.call_soon_threadsafe, [called[2].set])
        third.start()
        await called[2].wait()
        third.join()

    run(main())


def test_every_call_of_many_threads_comes_once_and_in_the_order_of_its_thread(
    host: Any, run: Run
) -> None:
    async def main() -> list[tuple[int, int]]:
        loop = asyncio.get_running_loop()
        seen: list[tuple[int, int]] = []

        def other(number: int) -> None:
            for n in range(200):
                loop.call_soon_threadsafe(seen.append, (number, n))
                if n % 20 == 0:
                    time.sleep(0)

        calling = [asyncio.to_thread(other, number) for number in range(4)]
        await asyncio.gather(*calling)
        return seen

    seen = run(main())
    for number in range(4):
        assert [n for who, n in seen if who == number] == list(range(200))


def test_a_signal_reaches_the_guest_and_the_watchers_of_the_host(host: Any, run: Run) -> None:
    seen: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, event.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        await event.wait()
        while not seen:
            await asyncio.sleep(0)
        assert loop.remove_signal_handler(signal.SIGUSR1)
        assert not loop.remove_signal_handler(signal.SIGUSR1)

    with ae.signal("USR1", lambda: seen.append("host")):
        run(main())
    assert seen == ["host"]
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_taking_a_handler_back_leaves_the_hosts_watcher_alive(host: Any, run: Run) -> None:
    heard: ae.CondVar[None] = ae.CondVar()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, print)
        loop.remove_signal_handler(signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
        await heard

    with ae.signal("USR1", heard.send):
        run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends the process there")
def test_ctrl_c_cancels_the_main_task(host: Any, run: Run) -> None:
    cleaned: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, os.kill, os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append("up")

    with pytest.raises(KeyboardInterrupt):
        run(main())
    assert cleaned == ["up"]


def test_watchers_condvars_and_lookups_of_ours_work_in_the_guest(host: Any, run: Run) -> None:
    async def main() -> tuple[str, bytes]:
        fired: ae.CondVar[None] = ae.CondVar()
        timer = ae.timer(0.01, fired.send)
        await fired
        timer.cancel()
        a, b = socket.socketpair()
        with a, b:
            ready: ae.CondVar[None] = ae.CondVar()
            with ae.io(a, "r", ready.send):
                b.send(b"x")
                await ready
            await ae.sleep(0.001)
            return ae.detect().name, a.recv(1)

    assert run(main()) == (host.name, b"x")


def test_the_guest_runs_only_in_its_callbacks(host: Any, run: Run) -> None:
    outside: list[object] = []

    async def main() -> None:
        seen = ae.CondVar[None]()

        def look() -> None:
            outside.append(asyncio._get_running_loop())
            seen.send()

        timer = ae.timer(0, look)
        await seen
        timer.cancel()
        assert isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop)

    run(main())
    assert outside == [None]


def test_a_callback_of_the_host_wakes_the_guest(host: Any, run: Run) -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str] = loop.create_future()
        timer = ae.timer(0.01, lambda: future.set_result("woken"))
        value = await asyncio.wait_for(future, 30)
        timer.cancel()

        later = loop.create_future()
        timer = ae.timer(0.01, lambda: loop.call_later(0.01, later.set_result, None))
        await asyncio.wait_for(later, 30)
        timer.cancel()

        async def task() -> str:
            return value

        made: list[asyncio.Task[str]] = []
        timer = ae.timer(0, lambda: made.append(loop.create_task(task())))
        while not made:
            await asyncio.sleep(0)
        timer.cancel()
        return await made[0]

    assert run(main()) == "woken"


def test_no_turn_runs_after_stop(host: Any) -> None:
    loop = ae_guests.new_event_loop()
    seen: list[int] = []

    def last() -> None:
        seen.append(1)
        loop.stop()
        loop.call_soon(seen.append, 2)

    loop.call_soon(last)
    loop.run_forever()
    assert seen == [1]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [1, 2]
    loop.close()


def test_a_flood_of_calls_lets_the_host_in(host: Any, run: Run) -> None:
    fired: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        timer = ae.timer(0.01, lambda: fired.append(loop.time()))

        def flood() -> None:
            if not fired:
                loop.call_soon(flood)
                loop.call_soon(int)

        flood()
        while not fired:
            await asyncio.sleep(0)
        timer.cancel()

    run(main())
    assert fired


def test_an_idle_guest_does_not_call_the_host(host: Any, run: Run, monkeypatch: Any) -> None:
    from ae_guests._loop import GuestLoop

    served: list[float] = []
    serve = GuestLoop._serve

    def counted(self: GuestLoop) -> None:
        served.append(time.monotonic())
        serve(self)

    async def main() -> int:
        for _ in range(5):
            await asyncio.sleep(0)
        monkeypatch.setattr(GuestLoop, "_serve", counted)
        asyncio.get_running_loop().call_later(0.3, int)
        await ae.sleep(0.2)
        return len(served)

    # one for the answer of ae.sleep, in which this is asked
    assert run(main()) <= 2


def test_a_second_running_loop_is_refused(host: Any, run: Run) -> None:
    async def nothing() -> None:
        return None

    async def main() -> None:
        other = ae_guests.new_event_loop()
        coroutine = nothing()
        try:
            with pytest.raises(RuntimeError, match="while another loop is running"):
                other.run_until_complete(coroutine)
        finally:
            coroutine.close()
            other.close()

    run(main())


def test_two_loops_take_turns(host: Any) -> None:
    first, second = ae_guests.new_event_loop(), ae_guests.new_event_loop()

    async def main(value: int) -> int:
        await asyncio.sleep(0.001)
        return value

    assert first.run_until_complete(main(1)) == 1
    assert second.run_until_complete(main(2)) == 2
    assert first.run_until_complete(main(3)) == 3
    first.close()
    second.close()


def test_a_loop_that_does_not_run_hides_no_deadlock(host: Any) -> None:
    loop = ae_guests.new_event_loop()
    loop.call_later(60, int)
    loop.run_until_complete(asyncio.sleep(0))
    if host.owns_wait:
        with pytest.raises(ae.Deadlock):
            ae.CondVar().recv()
    else:
        with pytest.raises(TimeoutError):
            ae.CondVar().recv(timeout=0.01)
    loop.close()


def test_the_error_of_a_callback_goes_to_the_guests_handler(host: Any, run: Run) -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        told: list[str] = []
        loop.set_exception_handler(lambda loop, context: told.append(repr(context["exception"])))
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(0.001)
        return told

    assert run(main()) == ["ZeroDivisionError('division by zero')"]


def test_system_exit_leaves_the_run_once(host: Any, run: Run) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(sys.exit, 5)
        await asyncio.sleep(60)

    with pytest.raises(SystemExit) as caught:
        run(main())
    assert caught.value.code == 5
    ae.sleep(0).recv()  # the host is intact


def test_asynchronous_generators_are_closed_at_the_end(host: Any, run: Run) -> None:
    closed: list[str] = []

    async def numbers() -> Any:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.append("yes")

    kept: list[Any] = []

    async def main() -> int:
        kept.append(numbers())
        return await anext(kept[0])

    assert run(main()) == 1
    assert closed == ["yes"]


def test_debug_mode_names_slow_callbacks(host: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        asyncio.get_running_loop().slow_callback_duration = 0.01
        await asyncio.sleep(0)
        time.sleep(0.02)

    with asyncio.Runner(debug=True, loop_factory=ae_guests.new_event_loop) as runner:
        runner.run(main())
    assert "took 0.0" in caplog.text
    assert sys.get_coroutine_origin_tracking_depth() == 0


def test_datagrams_and_executors(host: Any, run: Run) -> None:
    class Endpoint(asyncio.DatagramProtocol):
        def __init__(self, got: asyncio.Future[bytes]) -> None:
            self.got = got

        def datagram_received(self, data: bytes, address: Any) -> None:
            if not self.got.done():
                self.got.set_result(data)

    async def main() -> tuple[bytes, int]:
        loop = asyncio.get_running_loop()
        got: asyncio.Future[bytes] = loop.create_future()
        receiver, _ = await loop.create_datagram_endpoint(
            lambda: Endpoint(got), local_addr=("127.0.0.1", 0)
        )
        sender, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=receiver.get_extra_info("sockname")
        )
        sender.sendto(b"datagram")
        data = await got
        sender.close()
        receiver.close()
        return data, await asyncio.to_thread(lambda: 42)

    assert run(main()) == (b"datagram", 42)


def test_selectors_without_a_descriptor_are_watched_piece_by_piece(host: Any) -> None:
    import selectors

    from ae_guests._loop import GuestLoop

    async def main() -> bytes:
        a, b = socket.socketpair()
        with a, b:
            a.setblocking(False)
            b.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(a, b"x" * 10)
            return await loop.sock_recv(b, 100)

    loop = GuestLoop(selectors.SelectSelector())
    assert loop.run_until_complete(main()) == b"x" * 10
    assert loop.run_until_complete(main()) == b"x" * 10
    loop.close()


def test_tls_streams(host: Any, run: Run) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    async def main() -> bytes:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(
            *address, ssl=client_context, server_hostname="localhost"
        )
        writer.write(b"over TLS\n")
        line = await reader.readline()
        writer.close()
        server.close()
        return line

    assert run(main()) == b"over TLS\n"


def test_asyncio_itself_is_no_host(unbound: None) -> None:
    ae.use("asyncio")
    loop = ae_guests.new_event_loop()
    try:
        with pytest.raises(RuntimeError, match="asyncio cannot be the host"):
            loop.run_forever()
    finally:
        loop.close()


def test_a_backend_can_be_named(unbound: None) -> None:
    async def main() -> str:
        return ae.detect().name

    with asyncio.Runner(loop_factory=lambda: ae_guests.new_event_loop("loop")) as runner:
        assert runner.run(main()) == "loop"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_inside_a_callback_runs_loops_of_its_own(host: Any, run: Run) -> None:
    async def child() -> int:
        await asyncio.sleep(0.001)
        return 7

    async def main() -> int:
        pid = os.fork()
        if not pid:
            status = 1
            try:
                asyncio._set_running_loop(None)  # as a new process of multiprocessing does
                loop = ae_guests.new_event_loop()
                status = loop.run_until_complete(child())
            finally:
                os._exit(status)
        done: ae.CondVar[int] = ae.CondVar()
        watcher = ae.child(pid, lambda pid, status: done.send(status))
        status = await done
        watcher.cancel()
        return os.waitstatus_to_exitcode(status)

    assert run(main()) == 7


@pytest.mark.parametrize("debug", [False, True])
def test_the_error_of_a_task_that_nobody_awaits_is_told_at_once(host: Any, debug: bool) -> None:
    told: list[str] = []

    async def failing() -> None:
        raise LookupError("lost")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: told.append(context["message"]))
        loop.call_soon(asyncio.Task, failing())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert told == ["Task exception was never retrieved"]

    gc.disable()
    try:
        with asyncio.Runner(debug=debug, loop_factory=ae_guests.new_event_loop) as runner:
            runner.run(main())
    finally:
        gc.enable()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_nothing_of_a_loop_that_handled_signals_is_left(host: Any, run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, print)
        loop.add_signal_handler(signal.SIGUSR2, print)
        loop.remove_signal_handler(signal.SIGUSR1)

    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    handler = signal.getsignal(signal.SIGUSR2)
    run(main())
    after = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    if after != before:  # ae_core's own, which is open as long as its loop
        os.fstat(after)
    assert signal.getsignal(signal.SIGUSR2) == handler
