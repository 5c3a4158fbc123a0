"""A server that says what no server should, and one that says no for ever."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import ae_core as ae
import ae_irc as irc
from ae_core.abc import Backend
from ae_handle import Handle
from ae_handle.testing import lingering
from ae_irc import Client, _connection
from ae_irc.testing import FakeServer

Make = Callable[..., Client]
Script = dict[str, tuple[str, ...]]


def scripted(script: Script) -> Callable[[Handle, irc.Message], bool]:
    """Answer what begins as a key of *script* says with its lines, and do nothing else about it."""

    def answer(handle: Handle, message: irc.Message) -> bool:
        said = " ".join((message.command, *message.params))
        for start, lines in script.items():
            if said.startswith(start):
                handle.push_write(b"".join(line.encode() + b"\r\n" for line in lines))
                return True
        return False

    return answer


@contextmanager
def server_and_client(script: Script, **options: Any) -> Iterator[tuple[FakeServer, Client]]:
    given = {"nick": "anna", "rate": None, "max_delay": 0.001, **options}
    with FakeServer(scripted(script)) as server, Client(server.url, **given) as client:
        yield server, client


async def until(condition: Callable[[], object]) -> None:
    async with ae.timeout(60):
        while not condition():
            await ae.sleep(0.001)


@pytest.mark.parametrize(
    "line", [b"PING :a\rb", b"PING a\0b", b"PING :a\0b c", b"PING", b"PING :", b"PING \xff"]
)
def test_a_ping_that_cannot_be_answered_harms_nobody(
    fake: FakeServer, client: Make, monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    seen: list[BaseException] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: seen.append(error))
    anna = client()
    anna.registered().recv()
    (handle,) = fake.clients
    handle.push_write(line + b"\r\nPING :end\r\n")
    while "PONG end" not in fake.lines:
        ae.sleep(0.001).recv()
    assert (seen, fake.accepted) == ([], 1)


# ---------------------------------------------------------------------- accounts

LISTED = {"CAP LS": (":s CAP * LS :sasl",), "CAP REQ": (":s CAP * ACK :sasl",), "USER": ()}
YES = (":s 903 anna :ok", ":s 001 anna :Welcome", ":s 422 anna :None")
NO_PROOF = "before it has proved that it knows the password"


def scram(last: tuple[str, ...]) -> Callable[[FakeServer], None]:
    """Make a server that goes through SCRAM as far as the proof, and then says *last*."""

    def prepare(server: FakeServer) -> None:
        script = scripted({**LISTED, "AUTHENTICATE SCRAM": ("AUTHENTICATE +",)})

        def answer(handle: Handle, message: irc.Message) -> bool:
            if script(handle, message):
                return True
            if message.command == "AUTHENTICATE":
                said = base64.b64decode(message.param(0))
                if said.startswith(b"n,,"):
                    first = b"r=%bX,s=c2FsdA==,i=1" % said.rpartition(b"r=")[2]
                    server.send(handle, f"AUTHENTICATE {base64.b64encode(first).decode()}")
                else:
                    server.send(handle, *last)
                return True
            return False

        server.answer = answer

    return prepare


def by(script: Script) -> Callable[[FakeServer], None]:
    def prepare(server: FakeServer) -> None:
        server.answer = scripted(script)

    return prepare


WRONG = "AUTHENTICATE " + base64.b64encode(b"v=" + base64.b64encode(bytes(32))).decode()


@pytest.mark.parametrize(
    ("prepare", "text"),
    [
        pytest.param(by({"CAP LS": YES, "USER": ()}), "asked who we are", id="yes-unasked"),
        pytest.param(
            by({**LISTED, "AUTHENTICATE": YES}), "asked who we are", id="yes-before-a-word"
        ),
        pytest.param(
            by({**LISTED, "AUTHENTICATE S": ("AUTHENTICATE +",), "AUTHENTICATE": YES}),
            NO_PROOF,
            id="yes-to-our-first-word",
        ),
        pytest.param(scram(YES), NO_PROOF, id="yes-to-the-proof"),
        pytest.param(scram((":s 907 anna :already", *YES[1:])), NO_PROOF, id="already-logged-in"),
        pytest.param(scram(YES[1:]), "no accounts", id="welcome-in-the-middle"),
        pytest.param(scram((WRONG, *YES)), "does not know the password", id="wrong-proof"),
        pytest.param(
            scram(("AUTHENTICATE " + "A" * 400,) * 200), "does not end", id="an-endless-word"
        ),
        pytest.param(scram((":s 904 anna :failed",)), "failed", id="904"),
        pytest.param(scram((":s 905 anna :too long",)), "too long", id="905"),
        pytest.param(scram((":s 906 anna :aborted",)), "aborted", id="906"),
        pytest.param(scram((":s 902 anna :locked",)), "locked", id="902"),
        pytest.param(
            by({**LISTED, "AUTHENTICATE": (":s 908 anna PLAIN :are", ":s 904 anna :unknown")}),
            "unknown",
            id="908-only-plain-in-clear",
        ),
    ],
)
def test_an_account_is_ours_only_when_both_sides_have_proved_it(
    backend: Backend, prepare: Callable[[FakeServer], None], text: str
) -> None:
    async def main() -> None:
        with server_and_client({}, sasl=irc.Sasl("anna", "pencil")) as (server, anna):
            prepare(server)
            with pytest.raises(irc.SaslFailed, match=text):
                await anna.registered()
            assert server.accepted == 1
            assert not any("pencil" in line or "YW5uYQBwZW5jaWw" in line for line in server.lines)

    ae.run(main())


def test_a_login_that_nobody_asked_for_changes_nothing(backend: Backend) -> None:
    async def main() -> None:
        early = (":s 903 anna :ok", ":s 904 anna :no", "AUTHENTICATE +", ":s CAP * LS :x")
        with server_and_client({"CAP LS": early}) as (server, anna):
            assert await anna.registered() == "anna"
            server.say(":s 903 anna :ok", ":s 904 anna :no", "AUTHENTICATE +", "PING :end")
            await until(lambda: "PONG end" in server.lines)
            assert (server.accepted, server.lines.count("CAP END")) == (1, 1)

    ae.run(main())


# ---------------------------------------------------------------------- nicks


@pytest.mark.parametrize("numeric", ["433", "436", "437"])
def test_a_server_on_which_no_nick_is_free_is_given_up(backend: Backend, numeric: str) -> None:
    async def main() -> None:
        taken = (f":s {numeric} * x :in use",)
        with server_and_client({"NICK": taken, "USER": ()}, attempts=2) as (server, anna):
            with pytest.raises(irc.CannotConnect, match="no nick like 'anna' is free"):
                await anna.registered()
            nicks = [line for line in server.lines if line.startswith("NICK")]
            assert server.accepted == 2
            assert len(set(nicks)) * 2 == len(nicks)  # none is tried twice on a connection
            assert len(nicks) < 50

    ae.run(main())


@pytest.mark.parametrize("shown", [9, 99])
def test_a_nick_that_the_server_shortens_is_not_tried_for_ever(
    backend: Backend, shown: int
) -> None:
    async def main() -> None:
        with server_and_client({}, nick="hildegardis", attempts=1) as (server, anna):

            def answer(handle: Handle, message: irc.Message) -> bool:
                nick = message.param(0)
                if message.command == "NICK" and nick[:9] == "hildegard":
                    server.send(handle, f":s 433 * {nick[:shown]} :in use")
                elif message.command == "NICK":
                    server.clients[handle] = nick[:9]
                    server.welcome(handle)
                return message.command in {"NICK", "USER"}

            server.answer = answer
            nick = await anna.registered()
            assert nick.startswith("hildega")
            assert len(nick) == 9

    ae.run(main())


def test_later_collisions_are_told_and_no_reason_to_leave(backend: Backend) -> None:
    async def main() -> None:
        with server_and_client({}) as (server, anna):
            await anna.registered()
            events = anna.events()
            server.say(
                *(f":s {numeric} anna x :no" for numeric in ("433", "436", "437", "432")),
                ":anna!u@h NICK 0ABAAAAAB",  # what becomes of a collision between servers
                "PING :end",
            )
            await until(lambda: "PONG end" in server.lines)
            refused = [await events.next() for _ in range(4)]
            assert all(isinstance(event, irc.Other) and event.is_refusal for event in refused)
            changed = await events.next()
            assert isinstance(changed, irc.NickChanged)
            assert (changed.is_own, anna.nick, anna.is_registered) == (True, "0ABAAAAAB", True)
            assert len([line for line in server.lines if line.startswith("NICK")]) == 1

    ae.run(main())


# ---------------------------------------------------------------------- strict transport security


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@pytest.mark.parametrize("verb", ["LS", "NEW"])
@pytest.mark.parametrize("late", [False, True])
def test_a_server_in_clear_that_wants_tls_is_not_spoken_to_in_clear_again(
    backend: Backend, verb: str, late: bool
) -> None:
    pytest.importorskip("ae_tls", reason="ae-tls is not installed")

    async def main() -> None:
        ask = f":s CAP * {verb} :sts=port={closed_port()},duration=100"
        script: Script = {"CAP LS": (":s CAP * LS :a" if late else ask,)}
        sts = irc.StsStore()
        options = {"max_delay": 300.0 if late else 0.001, "attempts": 3, "sts": sts}
        options["password"] = "secret"
        with server_and_client(script, **options) as (server, anna):
            downs: list[float | None] = []
            anna.on(irc.Disconnected, lambda _, event: downs.append(event.delay))
            if late:
                await anna.registered()
                server.say(ask)
                await until(lambda: len(downs) == 2)
                assert downs[0] == 0.0
            else:
                with pytest.raises(irc.CannotConnect):
                    await anna.registered()
            assert not anna.is_registered
            assert server.accepted == 1
            assert ("PASS secret" in server.lines) is late
            assert sts.port("127.0.0.1") is None  # a duration counts within TLS only

    ae.run(main())


def test_a_password_in_clear_waits_for_capabilities_but_not_for_ever(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connection, "_PATIENCE", 0.01)

    async def main() -> None:
        silent: Script = {"CAP": ()}
        with server_and_client(silent, password="secret") as (server, anna):
            assert await anna.registered() == "anna"
            said = ["CAP LS 302", "PASS secret", "NICK anna", "USER anna 0 * anna"]
            assert [line.replace(":", "") for line in server.lines] == said

    ae.run(main())


def test_what_waits_when_a_server_asks_for_tls_is_said_within_it(backend: Backend) -> None:
    testing = pytest.importorskip("ae_tls.testing", reason="ae-tls is not installed")
    ae_tls = pytest.importorskip("ae_tls")
    authority = testing.CertificateAuthority()
    leaf = authority.issue("127.0.0.1")

    async def main() -> None:
        inside = ae_tls.Context(cert=leaf.cert_pem, key=leaf.key_pem)
        context = ae_tls.Context(ca_cert=authority.pem)
        sts = irc.StsStore()
        options = {"tls_context": context, "sts": sts, "burst": 1, "rate": 0.5}
        with (
            FakeServer(tls_context=inside) as secure,
            server_and_client({}, **options) as (server, anna),
        ):
            secure.answer = scripted({"CAP LS": (":s CAP * LS :sts=duration=100,port=1",)})
            await anna.registered()
            anna.send("X", "first")
            anna.send("X", "second")
            await until(lambda: "X first" in server.lines)
            server.say(f":s CAP * NEW :sts=port={secure.port}")
            await until(lambda: "X second" in secure.lines)
            assert (server.accepted, secure.accepted) == (1, 1)
            assert sts.port("127.0.0.1") == secure.port
            secure.say(":s CAP * DEL :sts", ":s CAP * NEW :sts=port=5", "PING :1")
            await until(lambda: "PONG 1" in secure.lines)
            assert sts.port("127.0.0.1") == secure.port
            secure.kick()  # and it does not come back in clear
            await until(lambda: secure.accepted == 2)
            assert await anna.registered() == "anna"
            secure.say(":s CAP * NEW :sts=duration=0", "PING :2")
            await until(lambda: "PONG 2" in secure.lines)
            assert sts.port("127.0.0.1") is None
            assert server.accepted == 1
        await until(lambda: not lingering())  # TLS takes its leave

    ae.run(main())


# ---------------------------------------------------------------------- floods


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let 64 KiB be unsent, and no more."""
    monkeypatch.setattr("ae_irc._connection._MAX_UNSENT", 1 << 16)


@pytest.mark.usefixtures("little_room")
def test_a_server_that_reads_our_answers_gets_each_of_them(backend: Backend) -> None:
    async def main() -> None:
        with server_and_client({}) as (server, anna):
            await anna.registered()
            for number in range(300):  # more in all than what may be unsent
                server.say(f"PING :{'x' * 400}{number}")
            await until(lambda: server.lines[-1].endswith("x299"))
            pongs = [line for line in server.lines if line.startswith("PONG")]
            assert pongs == [f"PONG {'x' * 400}{number}" for number in range(300)]
            assert server.accepted == 1

    ae.run(main())


@pytest.mark.usefixtures("little_room")
def test_a_server_that_asks_and_reads_no_answer_loses_the_connection(backend: Backend) -> None:
    async def main() -> None:
        with server_and_client({}) as (server, anna):
            await anna.registered()
            (handle,) = server.clients
            handle.stop_read()
            handle.on_drain = lambda handle: server.send(handle, *[f"PING :{'x' * 400}"] * 100)
            async with ae.timeout(60):
                async for event in anna:
                    if isinstance(event, irc.Disconnected):
                        assert "unsent" in str(event.error)
                        break
                else:
                    pytest.fail("the client has ended")
            assert await anna.registered() == "anna"  # on the next connection

    ae.run(main())


def test_a_flood_makes_us_say_no_more_than_the_flood_control_lets_through(
    backend: Backend,
) -> None:
    async def main() -> None:
        names = "echo-message server-time"
        script: Script = {"CAP LS": (":s CAP * LS :",), "CAP REQ": ()}
        options = {"nick": ["anna", "annabel"], "burst": 5, "rate": 0.001}
        with server_and_client(script, **options) as (server, anna):
            asked = scripted(script)

            def answer(handle: Handle, message: irc.Message) -> bool:
                if message.command == "NICK" and message.param(0) == "anna":
                    server.send(handle, ":s 433 * anna :in use")
                    return True
                return asked(handle, message)

            server.answer = answer
            await anna.registered()
            server.lines.clear()
            for _ in range(300):
                server.say(
                    f":s CAP * NEW :{names}",
                    ":anna!x@y QUIT :gone",
                    ":bert!b@h PRIVMSG annabel :\x01VERSION\x01",
                    ":bert!b@h INVITE annabel #trap",
                    ":s 433 annabel anna :in use",
                )
            server.say("PING :end")
            await until(lambda: "PONG end" in server.lines)
            assert server.lines.count(f"CAP REQ :{names}") == 1
            assert len(server.lines) <= 2 + 2 + 5  # the greeting's last, CAP REQ and PONG, a burst
            assert anna.queued <= 3 + 1  # replies to CTCP, and our nick
            anna.say("#a", "hi")
            assert anna.queued <= 5

    ae.run(main())


def test_a_greeting_that_is_a_flood_ends_in_time(backend: Backend) -> None:
    async def main() -> None:
        with server_and_client({"USER": ()}, attempts=1, connect_timeout=0.1) as (server, anna):

            def flood(handle: Handle) -> None:
                server.send(handle, *[":s NOTICE * :*** Looking up your hostname"] * 20)

            waiting = anna.registered()
            await until(lambda: server.clients)
            (handle,) = server.clients
            handle.on_drain = flood
            flood(handle)
            with pytest.raises(irc.CannotConnect, match="no greeting"):
                await waiting

    ae.run(main())
