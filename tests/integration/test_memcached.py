"""The memcached client of the examples, against a real memcached and against bad ones."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ae_core as ae
from ae_handle import Handle, relay, serve
from ae_handle.testing import end_lingering

if TYPE_CHECKING:
    from memcached import Memcached

Make = Callable[..., "Memcached"]
Scenario = Callable[..., Any]


@pytest.fixture(scope="module")
def memcached_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real memcached on a UNIX socket."""
    if shutil.which("memcached") is None:
        pytest.skip("memcached is not installed")
    path = str(tmp_path_factory.mktemp("memcached") / "socket")
    with subprocess.Popen(["memcached", "-u", "root", "-s", path]) as server:
        try:
            while True:
                assert server.poll() is None
                with socket.socket(socket.AF_UNIX) as sock, suppress(OSError):
                    sock.connect(path)
                    break
            yield path
        finally:
            server.terminate()


@pytest.fixture
def make(on_examples_path: Path) -> Iterator[Make]:
    from memcached import Memcached

    made: list[Memcached] = []

    def client(*arguments: Any, **options: Any) -> Memcached:
        made.append(Memcached(*arguments, **options))
        return made[-1]

    yield client
    for each in made:
        each.close()
    end_lingering()


def test_commands_on_every_backend(backend: object, make: Make, memcached_path: str) -> None:
    async def main() -> list[Any]:
        client = make("unix/", memcached_path)
        await client.delete("n")
        return [
            await client.set("key", b"a\r\nvalue\0"),
            await client.get("key"),
            await client.get("missing"),
            await client.delete("key"),
            await client.delete("key"),
            await client.incr("n"),
            await client.set("n", b"41"),
            await client.incr("n"),
        ]

    expected = [True, b"a\r\nvalue\0", None, True, False, None, True, 42]
    assert ae.run(main()) == expected


def test_a_thousand_commands_are_sent_at_once_and_each_gets_its_own_answer(
    make: Make, memcached_path: str
) -> None:
    client = make("unix/", memcached_path)
    sets = [client.set(f"k{i}", b"%d" % i) for i in range(1000)]
    gets = [client.get(f"k{i}") for i in range(1000)]
    assert all(each.recv(timeout=30) for each in sets)
    assert [each.recv(timeout=30) for each in gets] == [b"%d" % i for i in range(1000)]


def test_many_keys_at_once(make: Make, memcached_path: str) -> None:
    async def main() -> None:
        client = make("unix/", memcached_path)
        await ae.gather(*(client.set(f"m{i}", b"%d" % i) for i in range(5)))
        assert await client.get_many("m3", "nothing", "m1") == [b"3", None, b"1"]
        assert await client.get_many() == []
        client.get_many("m1", "m2").cancel()
        assert await client.get_many("m4") == [b"4"]

    ae.run(main())


def test_the_command_line(on_examples_path: Path, memcached_path: str) -> None:
    def said(*words: str) -> tuple[int | None, bytes | None, bytes | None]:
        program = [sys.executable, "-W", "error", str(on_examples_path / "memcached.py")]
        process = ae.run_cmd([*program, f"unix/:{memcached_path}", *words], capture=True)
        process.recv(60)
        return process.exit_code, process.stdout, process.stderr

    assert said("set", "one", "1") == said("set", "two", "zwei") == (0, b"", b"")
    assert said("get", "one", "two") == (0, b"1\nzwei\n", b"")
    assert said("incr", "one") == (0, b"2\n", b"")
    assert said("delete", "one") == (0, b"", b"")
    assert said("get", "two", "one") == (1, b"zwei\n", b"")
    code, out, err = said("incr", "two")
    assert (code, out) == (1, b"")
    assert err is not None
    assert err.startswith(b"memcached: ")
    assert said("set", "one")[0] == said("get", "a b")[0] == said("flush", "x")[0] == 2


def test_a_command_that_is_given_up_shifts_nothing(make: Make, memcached_path: str) -> None:
    async def main() -> None:
        client = make("unix/", memcached_path)
        await client.set("a", b"A")
        await client.set("b", b"B")
        for _ in range(20):
            first, second = client.get("a"), client.get("b")
            first.cancel()
            assert await second == b"B"

            async def asks() -> None:
                await client.get("a")

            task, after = ae.spawn(asks()), ae.CondVar[None]()
            ae.postpone(after.send)
            await after
            task.cancel()
            assert await client.get("b") == b"B"

    ae.run(main())


def test_the_servers_refusals_and_impossible_keys_are_errors(
    make: Make, memcached_path: str
) -> None:
    from memcached import MemcachedError

    client = make("unix/", memcached_path)
    assert client.set("word", b"x").recv(timeout=30)
    with pytest.raises(MemcachedError, match="non-numeric"):
        client.incr("word").recv(timeout=30)
    assert client.get("word").recv(timeout=30) == b"x"
    for key in ("", "a b", "a\r\nflush_all", "x" * 251):
        with pytest.raises(ValueError, match="expected a key"):
            client.get(key)


def test_a_lost_connection_fails_what_it_owes_and_is_made_anew(
    make: Make, memcached_path: str
) -> None:
    """Through a relay that is cut."""
    from memcached import MemcachedError

    async def main() -> None:
        relays: list[Any] = []

        def pass_on(handle: Handle) -> object:
            relays.append(relay(handle, Handle(connect=("unix/", memcached_path))))
            return relays[-1]

        with serve("127.0.0.1", 0, pass_on) as proxy:
            client = make(*proxy.address)
            assert await client.set("kept", b"yes")
            for _ in range(3):
                relays[-1].cancel()
                cut = client.get("kept")  # sent into nothing, or on a new connection
                with suppress(MemcachedError):
                    await cut
                assert await client.get("kept") == b"yes"
            assert len(relays) >= 4

    ae.run(main())


def test_a_server_that_does_not_answer_is_given_up_and_the_next_command_connects(
    make: Make,
) -> None:
    from memcached import MemcachedError

    async def main() -> None:
        clients: list[Handle] = []

        def later_better(handle: Handle) -> None:
            clients.append(handle)
            if len(clients) > 1:
                handle.read_each("line", lambda handle, line: handle.push_write(b"END\r\n"))

        with serve("127.0.0.1", 0, later_better) as server:
            client = make(*server.address, timeout=0.05)
            with pytest.raises(MemcachedError, match=r"no answer within 0.05 s"):
                await client.get("a")
            assert await client.get("a") is None
            assert len(clients) == 2
            await ae.sleep(0.15)  # an idle connection may be silent
            assert await client.get("a") is None
            assert len(clients) == 2

    ae.run(main())


def test_a_server_out_of_step_loses_the_connection(make: Make) -> None:
    from memcached import MemcachedError

    answers = [b"VALUE other 0 1\r\nx\r\nEND\r\n", b"VALUE a 0 1\r\nxx\r\nEND\r"]
    answers += [b"HELLO\r\n", b"VALUE a 0 99999999\r\n"]

    async def main() -> None:
        def wrong(handle: Handle) -> None:
            answer = answers.pop(0)
            handle.read_each("line", lambda handle, line: handle.push_write(answer))

        with serve("127.0.0.1", 0, wrong) as server:
            client = make(*server.address)
            while answers:
                with pytest.raises(MemcachedError, match=r"expected|another length|a value of"):
                    await client.get("a")

    ae.run(main())


def test_nobody_listens(make: Make) -> None:
    from memcached import MemcachedError

    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        client = make(*reserved.getsockname())
        for _ in range(2):
            with pytest.raises(MemcachedError, match="refused"):
                client.get("a").recv(timeout=30)
