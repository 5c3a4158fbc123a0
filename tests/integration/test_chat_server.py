"""The chat server of the examples: what it passes on, what it refuses, how it ends.

Server and clients share one loop; a test that asks for ``backend`` runs on each.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ae_core as ae
from ae_handle import Handle, TransportError, UnexpectedEOF
from ae_handle.testing import end_lingering

if TYPE_CHECKING:
    from chat_server import ChatServer

LIMIT = 90.0
Scenario = Callable[["Room"], Coroutine[Any, Any, None]]


class Client:
    """One who talks to the server, line by line."""

    def __init__(self, address: tuple[str, str | int], **options: Any) -> None:
        self.handle = Handle(connect=address, linger=0, **options)

    def say(self, *lines: str) -> None:
        self.handle.push_write("".join(line + "\n" for line in lines).encode())

    async def hear(self) -> str:
        return (await self.handle.push_read("line")).decode()

    async def hears(self, *lines: str) -> None:
        assert [await self.hear() for _ in lines] == list(lines)

    async def quits(self) -> None:
        self.say("/quit")
        await self.hears("* goodbye")
        await self.hears_the_end()

    async def hears_the_end(self) -> None:
        with pytest.raises(UnexpectedEOF):
            await self.hear()
        self.leave()

    def leave(self) -> None:
        self.handle.destroy()


class Room:
    """A server with these limits, and its clients."""

    def __init__(self, limits: dict[str, Any]) -> None:
        from chat_server import ChatServer, Limits

        self.server: ChatServer = ChatServer(limits=Limits(**limits))
        self._clients: list[Client] = []

    def stranger(self, **options: Any) -> Client:
        self._clients.append(Client(self.server.address, **options))
        return self._clients[-1]

    async def guest(self, name: str, **options: Any) -> Client:
        client = self.stranger(**options)
        client.say(name)
        await client.hears("* welcome; who are you?")
        assert (await client.hear()).startswith(f"* hello {name}, ")
        return client

    async def guests(self, *names: str) -> list[Client]:
        """Let them in one after the other, and have those inside hear of each."""
        inside: list[Client] = []
        for name in names:
            new = await self.guest(name)
            for other in inside:
                await other.hears(f"* {name} is here")
            inside.append(new)
        return inside

    async def end(self) -> None:
        for client in self._clients:
            client.leave()
        await self.server.stop()
        assert self.server.members == []
        end_lingering()


Visit = Callable[..., None]


@pytest.fixture
def visit(on_examples_path: Path) -> Visit:
    """Run a scenario in a room with the given limits."""

    def run(scenario: Scenario, **limits: Any) -> None:
        async def main() -> None:
            room = Room(limits)
            try:
                await scenario(room)
            finally:
                await room.end()

        async def bounded() -> None:
            task = ae.spawn(main())
            with ae.timer(LIMIT, task.cancel):
                await task

        ae.run(bounded())

    return run


def test_what_one_says_goes_to_all_others(backend: object, visit: Visit) -> None:
    async def scenario(room: Room) -> None:
        alice, bob, carol = await room.guests("alice", "bob", "carol")
        alice.say("hello", "", "how are you?")
        for other in (bob, carol):
            await other.hears("<alice> hello", "<alice> how are you?")
        carol.say("fine")
        await alice.hears("<carol> fine")
        bob.say("/quit")
        await bob.hears("<carol> fine", "* goodbye")
        await bob.hears_the_end()
        await alice.hears("* bob has left")
        alice.leave()
        await carol.hears("* bob has left", "* alice has left")

    visit(scenario)


def test_commands(backend: object, visit: Visit) -> None:
    async def scenario(room: Room) -> None:
        alice, bob = await room.guests("alice", "Bob")
        alice.say("/who", "/msg bob psst, you", "/msg nobody x", "/msg bob", "/dance")
        help_text = "* /who: who is here; /msg NAME TEXT: to one only; /quit: leave"
        await alice.hears("* alice Bob", "! nobody is called nobody", help_text, help_text)
        await bob.hears("[alice] psst, you")

    visit(scenario)


NO_NAME = "! a name is a letter, and up to 19 letters, digits, - and _"


def test_names_that_deceive_are_refused(backend: object, visit: Visit) -> None:
    async def scenario(room: Room) -> None:
        await room.guest("alice")
        mallory = room.stranger()
        names = ("", "1st", "a b", "x" * 21, "\N{CYRILLIC SMALL LETTER A}lice", "Root", "ALICE")
        mallory.say(*names, "mallory")
        await mallory.hears("* welcome; who are you?", *[NO_NAME] * 6, "! that name is taken")
        await mallory.hears("* hello mallory, there are 2 here")

    visit(scenario, tries=8)


def test_who_finds_no_name_is_shown_out_and_the_name_of_one_who_left_is_free(
    backend: object, visit: Visit
) -> None:
    async def scenario(room: Room) -> None:
        (alice,) = await room.guests("alice")
        other = room.stranger()
        other.say("alice", "?")
        await other.hears("* welcome; who are you?", "! that name is taken", NO_NAME)
        await other.hears("! no name, no talk")
        await other.hears_the_end()
        await alice.quits()
        await room.guest("alice")

    visit(scenario, tries=2)


@pytest.mark.parametrize("limit", ["clients", "per_host"])
def test_who_is_too_many_is_turned_away_until_somebody_leaves(
    limit: str, backend: object, visit: Visit
) -> None:
    async def scenario(room: Room) -> None:
        _, bob = await room.guests("alice", "bob")
        carol = room.stranger()
        await carol.hears("! the room is full")
        await carol.hears_the_end()
        await bob.quits()
        await room.guest("carol")

    visit(scenario, **{limit: 2})


@pytest.mark.parametrize("end", ["", "\n"], ids=["without-end", "with-end"])
def test_a_line_that_is_too_long_ends_the_conversation(
    end: str, backend: object, visit: Visit
) -> None:
    async def scenario(room: Room) -> None:
        alice, mallory = await room.guests("alice", "mallory")
        alice.say("x" * 20)
        await mallory.hears(f"<alice> {'x' * 20}")
        mallory.handle.push_write(b"y" * 21 + end.encode())
        await mallory.hears("! a line of more than 20 bytes")
        await mallory.hears_the_end()
        await alice.hears("* mallory has left")

    visit(scenario, line=20)


def test_many_short_lines_at_once_are_not_a_long_one(backend: object, visit: Visit) -> None:
    async def scenario(room: Room) -> None:
        alice, bob = await room.guests("alice", "bob")
        lines = [f"line {number}" for number in range(2000)]
        alice.say(*lines)
        await bob.hears(*(f"<alice> {line}" for line in lines))

    visit(scenario, line=20, burst=2000)


@pytest.mark.parametrize(
    ("octets", "answer"),
    [
        pytest.param(b"\xff\xfe", "! that was no UTF-8", id="encoding"),
        pytest.param(b"\x1b[2J", "! that was not printable", id="escape"),
        pytest.param("\u202eabc".encode(), "! that was not printable", id="override"),
        pytest.param(b"a\rb", "! that was not printable", id="carriage-return"),
    ],
)
def test_what_would_harm_a_terminal_is_not_passed_on(
    octets: bytes, answer: str, visit: Visit
) -> None:
    async def scenario(room: Room) -> None:
        alice, mallory = await room.guests("alice", "mallory")
        mallory.handle.push_write(octets + b"\r\n")
        mallory.say("sorry, ünïcode")
        await mallory.hears(answer)
        await alice.hears("<mallory> sorry, ünïcode")

    visit(scenario)


def test_who_does_not_read_is_dropped_and_the_others_miss_nothing(
    backend: object, visit: Visit
) -> None:
    async def scenario(room: Room) -> None:
        alice, bob = await room.guests("alice", "bob")
        slow = await room.guest("slow", on_prepare=small_buffer)
        await alice.hears("* slow is here")
        await bob.hears("* slow is here")
        lines = [f"{number:05} " + "x" * 400 for number in range(1500)]
        heard: list[str] = []
        for line in lines:  # 600 kB: the kernel keeps some, the server little
            alice.say(line)
            heard.append(await bob.hear())
            if "slow" not in room.server.members:
                heard.append(await bob.hear())  # of the last two, either may come first
                break
        assert room.server.members == ["alice", "bob"]
        heard.remove("* slow has left")
        assert heard == [f"<alice> {line}" for line in lines[: len(heard)]]
        slow.leave()

    visit(scenario, unsent=16384, burst=2000)


def small_buffer(handle: Handle) -> None:
    handle.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


def test_who_talks_too_fast_is_slowed_down(backend: object, visit: Visit) -> None:
    async def scenario(room: Room) -> None:
        alice, bob = await room.guests("alice", "bob")
        started = time.monotonic()
        alice.say(*(str(number) for number in range(12)))
        await bob.hears(*(f"<alice> {number}" for number in range(12)))
        assert time.monotonic() - started >= 10 / 200

    visit(scenario, burst=2, rate=200)


def test_who_says_no_name_is_dismissed_in_time(backend: object, visit: Visit) -> None:
    async def scenario(room: Room) -> None:
        client = room.stranger()
        client.handle.push_write(b"drip")  # a sign of life is not enough
        await client.hears("* welcome; who are you?", "! too late")
        await client.hears_the_end()

    visit(scenario, login=0.05)


def test_who_is_silent_is_dismissed(backend: object, visit: Visit) -> None:
    async def scenario(room: Room) -> None:
        alice = await room.guest("alice")
        await alice.hears("! you have been silent too long")
        await alice.hears_the_end()

    visit(scenario, idle=0.2)


def test_the_end_is_announced_and_nobody_is_let_in_any_more(backend: object, visit: Visit) -> None:
    async def scenario(room: Room) -> None:
        alice, bob = await room.guests("alice", "bob")
        stranger = room.stranger()
        await stranger.hears("* welcome; who are you?")
        alice.say("last words")
        await bob.hears("<alice> last words")
        stopped = ae.spawn(room.server.stop())
        for client in (alice, bob, stranger):
            await client.hears("* the server is going down")
            client.say("too late")
            await client.hears_the_end()
        await stopped
        with pytest.raises(TransportError, match="refused"):
            await room.stranger().handle.drained()

    visit(scenario, farewell=600)


def test_who_does_not_hang_up_at_the_end_is_hung_up_on(backend: object, visit: Visit) -> None:
    async def scenario(room: Room) -> None:
        alice = await room.guest("alice")
        started = time.monotonic()
        await room.server.stop()
        assert time.monotonic() - started >= 0.05
        alice.say("are you there?")
        await alice.hears("* the server is going down")

    visit(scenario, farewell=0.05)


@pytest.mark.parametrize("name", ["loop", "asyncio"])
def test_a_thousand_clients_at_once(name: str, unbound: None, visit: Visit) -> None:
    """All are in at the same time, hear the same, and nothing is left of any of them."""
    room_for(2100)
    ae.use(name)

    async def scenario(room: Room) -> None:
        clients = [room.stranger() for _ in range(1000)]
        for number, client in enumerate(clients):
            client.say(f"client{number}")
        for number, client in enumerate(clients):
            await client.hears("* welcome; who are you?")
            assert (await client.hear()).startswith(f"* hello client{number}, ")
        assert len(room.server.members) == 1000
        late = room.stranger()
        await late.hears("! the room is full")
        for number in (0, 500, 999):
            clients[number].say(f"greetings from {number}")
        expected = {f"<client{number}> greetings from {number}" for number in (0, 500, 999)}
        for number, client in enumerate(clients):
            wanted = {text for text in expected if not text.startswith(f"<client{number}>")}
            assert {await client.hear() for _ in wanted} == wanted
        for client in clients[::2]:
            client.leave()
        while len(room.server.members) > 500:
            await ae.sleep(0.001)
        stopped = ae.spawn(room.server.stop())
        for client in clients[1::2]:
            await client.hears("* the server is going down")
            await client.hears_the_end()
        await stopped

    visit(scenario, per_host=1000, announce=0)


def room_for(descriptors: int) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < descriptors:
        if hard != resource.RLIM_INFINITY and hard < descriptors:
            pytest.skip(f"{descriptors} descriptors are needed, {hard} are allowed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_the_program_ends_well_on_a_signal(number: signal.Signals, on_examples_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(on_examples_path / "chat_server.py")]
    calm = {**os.environ, "AE_STRICT_SLOW": "60"}  # the machine may be busy
    with subprocess.Popen(command, env=calm, stdout=-1, stderr=-1, text=True) as program:
        try:
            assert program.stdout is not None
            host, _, port = program.stdout.readline().split()[-1].rpartition(":")
            with socket.create_connection((host, int(port)), timeout=LIMIT) as client:
                assert client.recv(100) == b"* welcome; who are you?\n"
                program.send_signal(number)
                assert client.recv(100) == b"* the server is going down\n"
                assert client.recv(100) == b""
            _, complaints = program.communicate(timeout=LIMIT)
        finally:
            program.kill()
    assert (program.returncode, complaints) == (0, "")
