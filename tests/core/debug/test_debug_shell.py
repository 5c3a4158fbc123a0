"""The debug shell: DEBUG-10 to DEBUG-17."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import ae_core as ae
from ae_core import debug, logs
from ae_core.debug import _commands, _shell, _wrap

pytestmark = pytest.mark.usefixtures("fresh_logs")
unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs UNIX sockets")


def nothing() -> None:
    """A callback."""


@pytest.fixture(autouse=True)
def unwrapped() -> Iterator[None]:
    yield
    debug.wrap(0)
    _wrap.trace_new(True)


@pytest.fixture
def converse(greet: Any) -> Callable[..., list[str]]:
    """Ask a shell some lines in one connection, and return the answers."""

    def ask(address: tuple[str, Any], *lines: str) -> list[str]:
        async def main() -> list[str]:
            with debug.shell(*address) as shell:
                client = await greet(shell.address)
                answers = [await client.ask(line) for line in lines]
                client.close()
            return answers

        return ae.run(main())

    return ask


# Conversation


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("1 + 1", "2\r\n"),
        ("  1 + 1  ", "2\r\n"),
        ("None", ""),
        ("", ""),
        ("'a\\nb'", "a\r\nb\r\n"),
        ("(1, 'x')", "0: 1\r\n1: x\r\n"),
        ("()", ""),
        ("[1, 'x']", "[1, 'x']\r\n"),
        ("''", "\r\n"),
        ("x = 5", ""),
        ("for i in range(2): print(i)", "0\r\n1\r\n"),
        ("print('no newline', end='')", "no newline\r\n"),
        ("print('printed') or 7", "printed\r\n7\r\n"),
        ("print('a', end='') or 7", "a\r\n7\r\n"),
        ("1 / 0", "ZeroDivisionError: division by zero\r\n"),
        ("print('before') or 1 / 0", "before\r\nZeroDivisionError: division by zero\r\n"),
        ("print('cut', end='') or 1 / 0", "cut\r\nZeroDivisionError: division by zero\r\n"),
        ("nosuch", "NameError: name 'nosuch' is not defined\r\n"),
        ("__import__('sys').stdout.writable()", "True\r\n"),
        ("raise SystemExit(3)", "SystemExit: 3\r\n"),
        ("import sys; sys.exit()", "SystemExit: \r\n"),
        ("raise ae.CancelledError('x')", "CancelledError: x\r\n"),
        ("ae.CondVar().recv()", "RecursiveWait: "),
        ("exit", _commands._EXIT_HINT.replace("\n", "\r\n")),
        ("  exit()", _commands._EXIT_HINT.replace("\n", "\r\n")),
        ("quit", _commands._EXIT_HINT.replace("\n", "\r\n")),
        ("exits = 1", ""),
        ("help", _commands.HELP.replace("\n", "\r\n")),
        ("'\\udcff'", "\\udcff\r\n"),
        ("'é'", "é\r\n"),
        ("'a\tb' + '\\x1b[2J\\r\\u202e'", "a\tb\\x1b[2J\\r\\u202e\r\n"),
        ("print('\\x1b]0;title\\x07') or 'x\\x9b'", "\\x1b]0;title\\x07\r\nx\\x9b\r\n"),
        ("raise ValueError('\\x1bc')", "ValueError: \\x1bc\r\n"),
        ("(" * 1000, "SyntaxError: too many nested parentheses"),
    ],
)
def test_line_gives(line: str, answer: str, address: Any, converse: Any) -> None:
    (got,) = converse(address, line)
    if answer.endswith("\n") or not answer:
        assert got == answer
    else:
        assert got.startswith(answer)


def test_shell_works_on_every_loop(backend: Any, address: Any, converse: Any) -> None:
    answers = converse(address, "x = 21", "x * 2", "ae.backend()", "1 / 0")
    assert answers[:2] == ["", "42\r\n"]
    assert answers[2] == f"{ae.backend() or backend.name}\r\n"
    assert answers[3].startswith("ZeroDivisionError")


@pytest.mark.usefixtures("unbound")
def test_shell_works_in_a_program_of_asyncio(address: Any, greet: Any) -> None:
    async def main() -> str:
        with debug.shell(*address) as shell:
            client = await greet(shell.address)
            answer: str = await client.ask("ae.CondVar().recv()")
            client.close()
            return answer

    assert asyncio.run(main()).startswith("BlockingNotAllowed: ")


def test_banner_names_the_peer(address: Any, connect: Any) -> None:
    async def main() -> None:
        with debug.shell("127.0.0.1", 0) as shell:
            client = connect(shell.address)
            port = client.sock.getsockname()[1]
            assert await client.until("> ") == (
                f"Welcome, 127.0.0.1:{port}, use 'help' for more info!\r\n> "
            )
            client.close()
        if address[0] == "unix/":
            with debug.shell(*address) as shell:
                client = connect(shell.address)
                assert f"Welcome, unix/:{address[1]}, use" in await client.until("> ")
                client.close()

    ae.run(main())


def test_clients_share_one_namespace(address: Any, greet: Any) -> None:
    async def main() -> None:
        with debug.shell(*address) as shell:
            one = await greet(shell.address)
            two = await greet(shell.address)
            await one.ask("shared = [1]")
            await two.ask("shared.append(2)")
            assert await one.ask("shared") == "[1, 2]\r\n"
            one.close()
            assert await two.ask("shared") == "[1, 2]\r\n"
            two.close()

    ae.run(main())


def test_several_lines_at_once_and_split_lines(address: Any, greet: Any) -> None:
    async def main() -> None:
        with debug.shell(*address) as shell:
            client = await greet(shell.address)
            await client.say(b"1\n2\r\n3\n")
            assert await client.until("3\r\n> ") == "1\r\n> 2\r\n> 3\r\n> "
            for octet in b"40 + 2\r\n":
                await client.say(bytes([octet]))
                await ae.sleep(0)
            assert await client.until("> ") == "42\r\n> "
            client.close()

    ae.run(main())


def test_half_closed_connection_gets_all_answers(address: Any, greet: Any) -> None:
    async def main() -> None:
        with debug.shell(*address) as shell:
            client = await greet(shell.address)
            await client.say(b"6 * 7\n'x' * 300000\nunfinished")
            client.sock.shutdown(socket.SHUT_WR)
            assert await client.rest() == f"42\r\n> {'x' * 300000}\r\n> "
            client.close()

    ae.run(main())


def test_only_the_thread_of_the_shell_is_captured(
    address: Any, capsys: pytest.CaptureFixture[str], converse: Any
) -> None:
    line = (
        "t = __import__('threading').Thread(target=print, args=('elsewhere',)); "
        "t.start(); t.join(); print('here')"
    )
    assert converse(address, line) == ["here\r\n"]
    assert capsys.readouterr().out == "elsewhere\n"


def test_standard_output_that_a_line_sets_stays_that(
    address: Any, monkeypatch: pytest.MonkeyPatch, converse: Any
) -> None:
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    answers = converse(address, "import sys; sys.stdout = sys.stderr", "sys.stdout is sys.stderr")
    assert answers == ["", "False\r\n"]  # each line writes to the client
    assert sys.stdout is sys.stderr


def test_interrupt_ends_the_program_not_the_line(address: Any, connect: Any) -> None:
    with debug.shell(*address) as shell:
        client = connect(shell.address)
        client.sock.send(b"raise KeyboardInterrupt\n")
        with pytest.raises(KeyboardInterrupt):
            ae.CondVar[None]().recv(60)
        client.close()


def test_output_of_one_line_is_bounded(
    address: Any, monkeypatch: pytest.MonkeyPatch, converse: Any
) -> None:
    monkeypatch.setattr(_shell, "MOST_OUTPUT", 1000)
    answers = converse(address, "'x' * 10**7", "print('y' * 990, 'z' * 100)", "1")
    assert answers[0] == "x" * 1000 + "\r\n... the rest is cut off\r\n"
    assert answers[1].endswith("\r\n... the rest is cut off\r\n")
    assert answers[2] == "1\r\n"


def test_value_whose_text_fails(address: Any, converse: Any) -> None:
    answers = converse(
        address,
        "class Bad(Exception):  __str__ = lambda self: 1 / 0",
        "Bad()",
        "raise Bad",
    )
    assert answers == [
        "",
        "ZeroDivisionError: division by zero\r\n",
        "Bad: <no text: ZeroDivisionError>\r\n",
    ]


# Commands


def test_wrapped_watchers_are_listed_shown_and_cancelled(address: Any, greet: Any) -> None:
    gc.collect()  # watchers of earlier tests that only a reference cycle keeps

    async def main() -> None:
        with debug.shell(*address) as shell:
            client = await greet(shell.address)
            assert await client.ask("wl") == ""
            assert await client.ask("wr") == "wrap level now 1\r\n"
            first: Any = ae.timer(60, nothing)
            second: Any = ae.idle(lambda: 1 // 0)
            debug.wrap(0)  # the client's own watchers are not meant
            await ae.sleep(0.06)
            second.cancel()
            rows = (await client.ask("wl")).split("\r\n")
            assert sorted(rows) == sorted([f"{first.id}  {first}", f"{second.id}* {second}", ""])
            assert await client.ask("wl >TIMER>") == f"{first.id}  {first}\r\n"
            assert await client.ask("wl nosuch") == ""
            assert (await client.ask("wl (")).startswith(("error: ", "PatternError: "))
            shown = await client.ask(f"i {first.id},{second.id} 99999")
            assert shown.startswith("99999: no such wrapped watcher.\r\n")
            for watcher in (first, second):
                text = f"{watcher.id} {watcher}\n{watcher.verbose()}".replace("\n", "\r\n")
                assert text in shown
            assert await client.ask(f"w {first.id}") == f"{first}\r\n"
            assert await client.ask(f"w {first.id} {second.id}") == (
                f"0: {first}\r\n1: {second}\r\n"
            )
            assert await client.ask("w 99999") == "99999: no such wrapped watcher.\r\n"
            assert first.active
            await client.ask(f"w({first.id}).cancel()")
            assert not first.active
            client.close()

    ae.run(main())


def test_shell_itself_is_never_wrapped(address: Any, greet: Any) -> None:
    gc.collect()  # watchers of earlier tests that only a reference cycle keeps

    async def main() -> None:
        debug.wrap(1)
        before = len(debug.watchers())
        with debug.shell(*address) as shell:
            debug.wrap(0)
            client = await greet(shell.address)
            debug.wrap(1)
            await client.say(b"1\n")
            debug.wrap(0)
            await client.until("> ")
            assert len(debug.watchers()) == before
            client.close()

    ae.run(main())


def test_tracing_commands(address: Any, converse: Any) -> None:
    debug.wrap(1)
    watcher: Any = ae.timer(60, nothing)
    debug.wrap(0)
    number = watcher.id
    answers = converse(address, f"u {number}", f"t {number}", f"u {number}", "u", "t 99999")
    assert answers == [
        f"tracing disabled for {watcher}.\r\n",
        f"tracing enabled for {watcher}.\r\n",
        f"tracing disabled for {watcher}.\r\n",
        "tracing for newly created watchers is now disabled.\r\n",
        "99999: no such wrapped watcher.\r\n",
    ]
    assert watcher.trace is False
    debug.wrap(1)
    assert ae.timer(60, nothing).trace is False  # type: ignore[attr-defined]
    debug.wrap(0)
    assert converse(address, "t") == ["tracing for newly created watchers is now enabled.\r\n"]


@pytest.mark.parametrize(
    ("lines", "answers"),
    [
        (["wr 2", "wr", "wr 7"], ["wrap level now 2\r\n", "wrap level now 0\r\n", "ValueError: "]),
        (["w = 3", "w", "w + 1"], ["", "3\r\n", "4\r\n"]),
        (["i = [7]", "i", "i[0]"], ["", "[7]\r\n", "7\r\n"]),
        (["t", "t == 1"], ["tracing for newly", "False\r\n"]),
        (["wl = 1", "wl"], ["", "1\r\n"]),
        (["i abc"], ["SyntaxError: "]),
        (["helpless"], ["NameError: "]),
        (["v()"], ["v is a command: "]),
    ],
)
def test_commands_yield_to_python(
    lines: list[str], answers: list[str], address: Any, converse: Any
) -> None:
    got = converse(address, *lines)
    assert all(a.startswith(b) if b else not a for a, b in zip(got, answers, strict=True)), got


def test_looking_at_the_loop(address: Any, greet: Any) -> None:
    async def waits(cv: ae.CondVar[None]) -> None:
        await cv

    async def main() -> None:
        cv = ae.CondVar[None]()
        task = ae.spawn(waits(cv))
        timer = ae.timer(60, nothing, interval=5)
        one, two = socket.socketpair()
        reader, again = ae.io(one, "r", nothing), ae.io(one, "r", print)
        with debug.shell(*address) as shell:
            client = await greet(shell.address)
            text = await client.ask("st")
            assert f"{ae.detect().name} ({ae.detect().reason})" in text
            assert re.search(r"^timers: +\d+\r$", text, re.MULTILINE)
            text = await client.ask("io")
            for name in (f"{__name__}.nothing", "builtins.print"):
                assert re.search(rf"^ *{one.fileno()} r  {re.escape(name)}\r$", text, re.MULTILINE)
            text = await client.ask("timers")
            assert re.search(
                rf"^ +(59|60)\.\d+ s  {re.escape(__name__)}\.nothing, every 5 s\r$",
                text,
                re.MULTILINE,
            )
            if ae.backend() not in ("asyncio", "trio"):
                text = await client.ask("tasks")
                assert f"test_looking_at_the_loop.<locals>.waits  {__name__}:" in text
                text = await client.ask("cv")
                assert "waited for by task test_looking_at_the_loop.<locals>.waits" in text
            text = await client.ask("bt")
            assert "MainThread" in text
            assert "in stacks" in text
            assert await client.ask("h") is not None
            client.close()
        reader.cancel()
        again.cancel()
        timer.cancel()
        one.close()
        two.close()
        cv.send()
        await task

    ae.run(main())


def test_timers_are_shown_before_and_after_they_are_sorted(address: Any, converse: Any) -> None:
    """A timer is found in the queue of new ones and in the heap, and cancelled ones are not."""
    kept = [ae.timer(1000 + n, nothing) for n in range(3)]
    ae.sleep(0).recv()
    kept.append(ae.timer(500, print))
    kept.append(ae.timer(2000, nothing))
    kept[1].cancel()
    (text,) = converse(address, "timers")
    rows = [row for row in text.splitlines() if "nothing" in row or "print" in row]
    assert [round(float(row.split()[0]), -1) for row in rows] == [500, 1000, 1000, 2000]


def test_blocking_recv_is_shown_as_such(address: Any, greet: Any) -> None:
    cv = ae.CondVar[str]()

    async def main() -> None:
        with debug.shell(*address) as shell:
            client = await greet(shell.address)
            answer = await client.ask("cv")
            client.close()
        cv.send(answer)

    task = ae.spawn(main())
    assert f"CondVar at {id(cv):#x}  waited for by recv()\r\n" in cv.recv()
    task.recv()


def test_waits_and_operations_of_every_sort_are_shown(address: Any, greet: Any) -> None:
    """Also coroutines of other makes, and what is no task."""

    async def waits(cv: ae.CondVar[None]) -> None:
        await cv

    class Compiled(Coroutine[Any, Any, None]):
        """A coroutine that has no frame to look at."""

        def __init__(self, cv: ae.CondVar[None]) -> None:
            self.inner = waits(cv)

        __await__: Any = None
        close: Any = None
        send: Any = property(lambda self: self.inner.send)
        throw: Any = property(lambda self: self.inner.throw)

        def __repr__(self) -> str:
            return "<compiled>"

    cv = ae.CondVar[None]()
    heard = ae.CondVar[None]()
    heard.on_ready(print)
    pause = ae.sleep(1000)
    idle = ae.idle(nothing)

    async def main() -> list[str]:
        task = ae.spawn(Compiled(cv))
        with debug.shell(*address) as shell:
            client = await greet(shell.address)
            answers = [await client.ask(line) for line in ("tasks", "cv", "timers")]
            client.close()
        cv.send()
        await task
        return answers

    tasks, condvars, timers = ae.run(main())
    assert "<compiled>\r\n" in tasks
    assert "idle" not in tasks
    assert f"CondVar at {id(heard):#x}  waited for by builtins.print\r\n" in condvars
    assert re.search(r"^ +(999|1000)\.\d+ s  ", timers, re.MULTILINE)
    pause.cancel()
    idle.cancel()


def test_handles_are_listed_without_importing_them(
    address: Any, monkeypatch: pytest.MonkeyPatch, converse: Any
) -> None:
    class Handle:
        def __repr__(self) -> str:
            return "<Handle to nowhere>"

    class Module:
        pass

    module: Any = Module()
    module.Handle = Handle
    monkeypatch.setitem(sys.modules, "ae_handle", module)
    handle = Handle()
    assert converse(address, "h") == ["<Handle to nowhere>\r\n"]
    del handle


# Log messages


def test_log_messages_are_shown_from_v_on(address: Any, greet: Any) -> None:
    logs.FILTER.level("off")

    async def main() -> None:
        with debug.shell(*address) as shell:
            client = await greet(shell.address)
            other = await greet(shell.address)
            ae.log("error", "unseen")
            assert await client.ask("v") == "verbose logging is now enabled.\r\n"
            assert ae.log("trace", "a\nb")
            text = await client.until("> ")
            assert re.fullmatch(
                rf"\r\n\S+ \S+ \S+ trace {re.escape(__name__)}: a\r\n\S+ \S+ \S+ \+ b\r\n> ", text
            )
            text = await client.ask("ae.log('note', 'logged here')")
            assert re.fullmatch(r"\S+ \S+ \S+ note  __shell__: logged here\r\nTrue\r\n", text)
            assert await client.ask("v") == "verbose logging is now disabled.\r\n"
            assert not ae.log("error", "unseen")
            assert await client.ask("v warn") == "verbose logging is now enabled.\r\n"
            assert not ae.log("note", "unseen")
            assert ae.log("warn", "seen")
            assert "seen" in await client.until("> ")
            assert (await client.ask("v loud")).startswith("ValueError: ")
            assert await client.ask("v off") == "verbose logging is now disabled.\r\n"
            assert await other.ask("1") == "1\r\n"
            client.close()
            other.close()

    ae.run(main())


def test_log_attachment_goes_with_the_connection(address: Any, greet: Any) -> None:
    before = logs.COLLECT._slaves

    async def main() -> None:
        with debug.shell(*address) as shell:
            for end in ("client", "shell"):
                client = await greet(shell.address)
                await client.ask("v")
                assert len(logs.COLLECT._slaves) == len(before) + 1
                if end == "client":
                    client.close()
                    while before != logs.COLLECT._slaves:
                        await ae.sleep(0.001)
                else:
                    shell.cancel()
                    assert before == logs.COLLECT._slaves
                    client.close()

    ae.run(main())


def test_messages_of_other_threads_are_shown(address: Any, greet: Any) -> None:
    async def main() -> None:
        with debug.shell(*address) as shell:
            client = await greet(shell.address)
            await client.ask("v")
            thread = threading.Thread(target=ae.log, args=("error", "from afar"))
            thread.start()
            assert "from afar" in await client.until("> ")
            thread.join()
            client.close()

    ae.run(main())


def test_client_that_does_not_read_loses_messages_and_blocks_nobody(
    address: Any, monkeypatch: pytest.MonkeyPatch, greet: Any
) -> None:
    monkeypatch.setattr(_shell, "MOST_OUTPUT", 1 << 16)
    logs.FILTER.level("off")

    async def main() -> None:
        with debug.shell(*address) as shell:
            client = await greet(shell.address)
            await client.ask("v")
            (connection,) = shell._listener.connections
            while not connection._lost:
                ae.log("error", "x" * 1000)
            assert len(connection._output) < (1 << 16) + 2000
            ticks = 0
            while ticks < 5:
                await ae.sleep(0.001)
                ticks += 1
            text = await client.until(r"\(\d+ log messages lost\)\r\n> ")
            assert text.count("x" * 1000) > 60
            client.close()

    ae.run(main())


def test_client_that_does_not_read_is_not_read_from(
    address: Any, monkeypatch: pytest.MonkeyPatch, greet: Any
) -> None:
    monkeypatch.setattr(_shell, "MOST_OUTPUT", 1 << 16)

    async def main() -> None:
        with debug.shell(*address) as shell:
            client = await greet(shell.address)
            await client.ask("count = []")
            await client.say(b"count.append(1) or 'x' * 60000\n" * 100)
            await ae.sleep(0.01)
            (connection,) = shell._listener.connections
            assert len(connection._output) < 4 << 16
            assert len(shell._listener.namespace["count"]) < 100
            text = await client.until("(?:x{60000}\r\n> ){100}")
            assert len(text) == 60004 * 100
            assert await client.ask("len(count)") == "100\r\n"
            client.close()

    ae.run(main())
