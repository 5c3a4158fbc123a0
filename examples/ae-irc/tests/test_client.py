"""The client against a server that says what the test wants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
import ae_irc as irc
from ae_irc import Client
from ae_irc.testing import FakeServer

Make = Callable[..., Client]


def wait_for(client: Client, kind: type[irc.Event]) -> Any:
    """Return the next event of a kind."""
    found: ae.CondVar[Any] = ae.CondVar()
    end = client.on(kind, lambda _, event: found.send(event))
    event = found.recv(timeout=60)
    end()
    return event


# ---------------------------------------------------------------------- being let in


def test_the_nick_of_the_welcome_is_ours(fake: FakeServer, client: Make) -> None:
    def answer(handle: Any, message: irc.Message) -> bool:
        if message.command == "USER":
            fake.clients[handle] = "anna123"
            fake.welcome(handle)
        return message.command == "USER"

    fake.answer = answer
    anna = client()
    assert anna.registered().recv() == "anna123"
    assert anna.nick == "anna123"
    assert anna.features.network == "Fake"


def test_a_nick_in_use_is_replaced_and_taken_back_when_it_is_free(
    fake: FakeServer, client: Make
) -> None:
    def answer(handle: Any, message: irc.Message) -> bool:
        if message.command == "NICK" and message.param(0) == "anna" and not fake.clients[handle]:
            fake.send(handle, ":fake 433 * anna :in use")
            return True
        if message.command == "USER":
            return True
        if message.command == "NICK" and not fake.clients[handle]:
            fake.clients[handle] = message.param(0)
            fake.welcome(handle)
            return True
        return False

    fake.answer = answer
    anna = client(["anna", "annabel"])
    assert anna.registered().recv() == "annabel"
    fake.say(":ANNA!x@y QUIT :gone")
    changed = wait_for(anna, irc.NickChanged)
    assert (changed.old, changed.new, changed.is_own) == ("annabel", "anna", True)
    assert anna.nick == "anna"


def test_ping_is_answered_even_while_lines_wait(fake: FakeServer, client: Make) -> None:
    anna = client(burst=1, rate=0.001)
    anna.registered().recv()
    for number in range(3):
        anna.say("#a", str(number))
    fake.say("PING :token x")
    while "PONG :token x" not in fake.lines:
        ae.sleep(0.001).recv()
    assert anna.queued == 2


def test_a_line_that_is_none_is_left_out(fake: FakeServer, client: Make) -> None:
    anna = client()
    anna.registered().recv()
    events = anna.events()
    fake.say("", ":x", "@a", "12", ":bert!b@h PRIVMSG anna :hi")
    event = events.next().recv()
    assert isinstance(event, irc.Text)
    assert event.text == "hi"


def test_an_endless_line_ends_the_connection(fake: FakeServer, client: Make) -> None:
    anna = client()
    anna.registered().recv()
    fake.say("x" * 200_000)
    lost = wait_for(anna, irc.Disconnected)
    assert isinstance(lost.error, irc.ConnectionLost)
    assert lost.delay is not None


# ---------------------------------------------------------------------- channels


def test_join_tells_the_channel_when_its_members_are_known(fake: FakeServer, client: Make) -> None:
    anna = client()
    channel = anna.join("#A", "key").recv()
    assert channel is anna.channels["#a"]
    assert dict(channel.members) == {"anna": "o"}
    assert "JOIN #A key" in fake.lines
    assert anna.join("#a").recv() is channel


@pytest.mark.parametrize("numeric", ["403", "471", "473", "474", "475"])
def test_who_is_not_let_into_a_channel_is_told_why(
    fake: FakeServer, client: Make, numeric: str
) -> None:
    def answer(handle: Any, message: irc.Message) -> bool:
        if message.command == "JOIN":
            fake.send(handle, f":fake {numeric} anna #a :no way")
        return message.command == "JOIN"

    fake.answer = answer
    anna = client()
    with pytest.raises(irc.CannotJoin, match="cannot join #a: no way") as caught:
        anna.join("#a").recv()
    assert (caught.value.channel, caught.value.numeric) == ("#a", numeric)
    fake.kick()
    anna.registered().recv()
    assert fake.lines.count("JOIN #a") == 1


def test_channels_are_joined_again_on_a_new_connection_but_those_that_were_left(
    fake: FakeServer, client: Make
) -> None:
    anna = client(channels={"#a": None, "#b": "key"}, max_delay=0.001)
    anna.join("#b", "key").recv()
    anna.join("#c").recv()
    anna.part("#a")
    while "PART #a" not in fake.lines:
        ae.sleep(0.001).recv()
    fake.say(":fake KICK #c anna :out")
    assert wait_for(anna, irc.Kicked).reason == "out"
    fake.lines.clear()
    fake.kick()
    assert wait_for(anna, irc.Registered).is_again
    anna.drained().recv()
    assert anna.join("#b", "key").recv().name == "#b"
    assert [line for line in fake.lines if line.startswith("JOIN")] == ["JOIN #b key"]


# ---------------------------------------------------------------------- saying


def test_what_is_too_long_is_split_so_that_it_arrives_whole(fake: FakeServer, client: Make) -> None:
    anna = client()
    anna.join("#a").recv()
    text = "\u00e4\u20ac\U0001f600" * 300
    count = anna.say("#a", text)
    anna.drained().recv()
    anna.quit().recv()
    lines = [line for line in fake.lines if line.startswith("PRIVMSG")]
    assert len(lines) == count == 6
    assert all(len(f":anna!u@h {line}\r\n".encode()) <= 512 for line in lines)
    assert max(len(f":anna!u@h {line}\r\n".encode()) for line in lines) > 500
    assert "".join(line.removeprefix("PRIVMSG #a ").removeprefix(":") for line in lines) == text


def test_an_action_is_split_too(fake: FakeServer, client: Make) -> None:
    anna = client()
    anna.join("#a").recv()
    assert anna.action("#a", "x" * 900) == 2
    anna.drained().recv()
    anna.quit().recv()
    lines = [line for line in fake.lines if line.startswith("PRIVMSG")]
    assert all(len(f":anna!u@h {line}\r\n".encode()) <= 512 for line in lines)
    assert all(irc.parse_ctcp(irc.parse(line.encode()).params[1]) for line in lines)


@pytest.mark.parametrize("text", ["", "\r\n", "a\0b"])
def test_nothing_to_say_is_refused(client: Make, text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        client().say("#a", text)


def test_lines_go_out_as_fast_as_the_bucket_lets_them(fake: FakeServer, client: Make) -> None:
    anna = client(burst=3, rate=20.0)
    anna.registered().recv()
    loop = ae.detect()
    began = loop.clock()
    for number in range(7):
        anna.say("#a", str(number))
    anna.drained().recv()
    assert loop.clock() - began >= 4 / 20.0
    anna.quit().recv()
    said = [line[-1] for line in fake.lines if line.startswith("PRIVMSG")]
    assert said == list("0123456")


def test_what_was_not_sent_when_a_connection_ends_is_sent_on_the_next(
    fake: FakeServer, client: Make
) -> None:
    anna = client(burst=1, rate=50.0, max_delay=0.001)
    anna.registered().recv()
    for number in range(4):
        anna.say("#a", str(number))
    fake.kick()
    wait_for(anna, irc.Registered)
    anna.drained().recv()
    anna.quit().recv()
    said = {line[-1] for line in fake.lines if line.startswith("PRIVMSG")}
    assert said >= set("123")


def test_what_we_say_is_an_event_where_the_server_does_not_echo_it(
    fake: FakeServer, client: Make
) -> None:
    anna = client(channels=["#a"])
    anna.join("#a").recv()
    anna.action("#a", "waves")
    said = wait_for(anna, irc.Text)
    assert (said.is_own, said.nick, said.text, said.kind) == (True, "anna", "waves", "action")


def test_tags_are_left_out_where_the_server_does_not_know_them(
    fake: FakeServer, client: Make
) -> None:
    anna = client()
    anna.registered().recv()
    anna.say("#a", "hi", tags={"+draft/reply": "1"})
    anna.drained().recv()
    anna.quit().recv()
    assert "PRIVMSG #a hi" in fake.lines


# ---------------------------------------------------------------------- CTCP


def test_ctcp_is_answered_but_not_as_often_as_one_likes(fake: FakeServer, client: Make) -> None:
    anna = client(ctcp_replies={"VERSION": "test"})
    anna.registered().recv()
    fake.say(*[":bert!b@h PRIVMSG anna :\x01VERSION\x01"] * 10)
    fake.say(":bert!b@h PRIVMSG anna :\x01TIME\x01", ":bert!b@h NOTICE anna :\x01VERSION x\x01")
    while wait_for(anna, irc.Ctcp).command != "VERSION":
        continue
    anna.drained().recv()
    anna.quit().recv()
    assert fake.lines.count("NOTICE bert :\x01VERSION test\x01") == 3
    assert not [line for line in fake.lines if "TIME" in line]


@pytest.mark.parametrize(
    ("asked", "answer"),
    [("PING 1 2", "PING 1 2"), ("CLIENTINFO", "CLIENTINFO CLIENTINFO PING SOURCE VERSION")],
)
def test_ctcp_that_every_client_answers(
    fake: FakeServer, client: Make, asked: str, answer: str
) -> None:
    anna = client()
    anna.registered().recv()
    fake.say(f":bert!b@h PRIVMSG anna :\x01{asked}\x01")
    while f"NOTICE bert :\x01{answer}\x01" not in fake.lines:
        ae.sleep(0.001).recv()


# ---------------------------------------------------------------------- events


def test_the_iterator_has_everything_and_ends_with_the_client(
    fake: FakeServer, client: Make
) -> None:
    async def main() -> list[str]:
        seen = []
        anna = client(channels=["#a"])
        async for event in anna:
            seen.append(type(event).__name__)
            if isinstance(event, irc.Listed):
                anna.quit("bye")
        return seen

    seen = ae.run(main())
    assert [name for name in seen if name != "Other"] == [
        "Connected",
        "Registered",
        "Joined",
        "Listed",
        "Disconnected",
    ]


def test_an_iterator_that_falls_behind_stops_the_server_and_others_are_not_hurt(
    fake: FakeServer, client: Make
) -> None:
    anna = client(max_unread=10)
    anna.registered().recv()
    slow = anna.events()
    heard: list[str] = []
    anna.on(irc.Text, lambda _, event: heard.append(event.text))
    for number in range(3000):  # more than what the kernel keeps for one line at a time
        fake.say(f":bert!b@h PRIVMSG anna :{number} {'x' * 400}")
    while len(heard) < 10:
        ae.sleep(0.001).recv()
    for _ in range(20):
        ae.sleep(0.001).recv()
    assert len(heard) < 2500
    texts = [slow.next().recv().text.split()[0] for _ in range(3000)]  # type: ignore[attr-defined]
    assert texts == [str(number) for number in range(3000)]
    assert len(heard) == 3000


def test_a_dropped_iterator_does_not_stop_the_server(fake: FakeServer, client: Make) -> None:
    anna = client(max_unread=2)
    anna.registered().recv()
    events = anna.events()
    fake.say(*[":bert!b@h PRIVMSG anna :x"] * 3)
    ae.sleep(0.01).recv()
    del events
    heard: list[str] = []
    anna.on(irc.Text, lambda _, event: heard.append(event.text))
    fake.say(":bert!b@h PRIVMSG anna :last")
    while "last" not in heard:
        ae.sleep(0.001).recv()


def test_what_a_callback_raises_is_reported_and_the_others_are_called(
    fake: FakeServer, client: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[BaseException] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: reported.append(error))
    anna = client()

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    anna.on(irc.Registered, fail)
    wait_for(anna, irc.Registered)
    assert [type(error) for error in reported] == [ZeroDivisionError]


def test_wrong_arguments_are_refused_at_the_call(client: Make) -> None:
    wrong: list[dict[str, Any]] = [
        {"nick": ""},
        {"nick": "an na"},
        {"nick": []},
        {"url": "http://x"},
        {"url": "irc://"},
        {"url": "irc://a@b"},
        {"url": "irc://a:99999"},
        {"channels": ["a b"]},
        {"rate": 0},
        {"burst": 0.5},
        {"ping_interval": 0},
        {"realname": "a\nb"},
    ]
    for bad in wrong:
        with pytest.raises(ValueError, match="expected"):
            client(**bad)
    anna = client()
    for name in ("", "#", "#a,#b", "#a b"):
        with pytest.raises(ValueError, match="channel"):
            anna.join(name)
    with pytest.raises(TypeError):
        anna.on(str, print)  # type: ignore[type-var]
    with pytest.raises(TypeError):
        anna.on(irc.Text, None)  # type: ignore[arg-type]


def test_channels_can_stand_in_the_url(fake: FakeServer, client: Make) -> None:
    anna = client(url=f"{fake.url}/a,%23b,&c")
    anna.registered().recv()
    anna.join("#z").recv()
    assert [line for line in fake.lines if line.startswith("JOIN")] == [
        "JOIN #a",
        "JOIN #b",
        "JOIN &c",
        "JOIN #z",
    ]


# ---------------------------------------------------------------------- the end


def test_a_server_that_is_not_there_is_an_error_after_some_attempts(client: Make) -> None:
    with FakeServer() as gone:
        url = gone.url
    anna = client(url=url, attempts=3, max_delay=0.001)
    delays: list[float | None] = []
    anna.on(irc.Disconnected, lambda _, event: delays.append(event.delay))
    with pytest.raises(irc.CannotConnect, match="cannot connect to 127"):
        anna.registered().recv()
    assert len(delays) == 3
    assert delays[-1] is None
    assert isinstance(anna.error, irc.CannotConnect)
    with pytest.raises(irc.CannotConnect):
        anna.registered().recv()
    with pytest.raises(irc.CannotConnect):
        anna.send("PING", "x")


def test_who_is_refused_for_good_does_not_come_back(fake: FakeServer, client: Make) -> None:
    def answer(handle: Any, message: irc.Message) -> bool:
        if message.command == "USER":
            fake.send(handle, ":fake 464 * :Password incorrect")
        return message.command == "USER"

    fake.answer = answer
    anna = client(password="pw")
    with pytest.raises(irc.Refused, match="Password incorrect"):
        anna.registered().recv()
    assert fake.accepted == 1


def test_an_error_that_nobody_waits_for_is_reported(
    client: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[BaseException] = []
    done: ae.CondVar[None] = ae.CondVar()

    def hook(error: BaseException, watcher: object) -> None:
        reported.append(error)
        done.send()

    monkeypatch.setattr(ae, "exception_hook", hook)
    with FakeServer() as gone:
        url = gone.url
    anna = client(url=url, attempts=1)
    done.recv()
    assert reported == [anna.error]


def test_a_server_that_hangs_up_is_left_in_peace_for_longer_and_longer(
    fake: FakeServer, client: Make
) -> None:
    fake.refuses = True
    anna = client(attempts=4, max_delay=0.05)
    delays: list[float] = []
    anna.on(irc.Disconnected, lambda _, event: delays.append(event.delay or 0.0))
    with pytest.raises(irc.CannotConnect, match=r"instead of greeting|cannot connect"):
        anna.registered().recv()
    assert fake.accepted == 4
    assert all(0.025 <= delay <= 0.05 for delay in delays[:-1])


def test_a_silent_server_is_asked_for_a_sign_of_life_and_then_given_up(
    fake: FakeServer, client: Make
) -> None:
    anna = client(ping_interval=0.05, max_delay=0.001)
    anna.registered().recv()
    while "PING alive" not in fake.lines:
        ae.sleep(0.001).recv()
    assert anna.is_registered
    fake.answer = lambda handle, message: message.command == "PING"
    lost = wait_for(anna, irc.Disconnected)
    assert isinstance(lost.error, irc.PingTimedOut)
    fake.answer = lambda handle, message: None
    wait_for(anna, irc.Registered)


def test_a_greeting_that_does_not_come_is_not_waited_for_for_ever(
    fake: FakeServer, client: Make
) -> None:
    fake.answer = lambda handle, message: True
    anna = client(connect_timeout=0.05, attempts=1)
    with pytest.raises(irc.CannotConnect, match=r"no greeting .* within 0.05 s"):
        anna.registered().recv()


def test_quit_says_what_is_queued_first(fake: FakeServer, client: Make) -> None:
    anna = client()
    anna.registered().recv()
    anna.say("#a", "one")
    anna.quit("so long").recv()
    assert fake.lines[-2:] == ["PRIVMSG #a one", "QUIT :so long"]
    assert isinstance(anna.error, irc.ClientClosed)
    anna.quit().recv()


def test_quit_before_the_connection_is_there(client: Make) -> None:
    anna = client()
    anna.quit().recv()
    assert isinstance(anna.error, irc.ClientClosed)


def test_close_tells_who_waits_and_calls_nobody(fake: FakeServer, client: Make) -> None:
    anna = client()
    called: list[object] = []
    anna.registered().recv()
    anna.on(irc.Event, lambda *args: called.append(args))
    waiting: list[ae.CondVar[Any]] = [anna.join("#a"), anna.drained()]
    events = anna.events()
    event = events.next()
    anna.close()
    anna.close()
    assert not any(each.ready for each in waiting)
    for each in [*waiting, event]:
        with pytest.raises(irc.ClientClosed):
            each.recv()
    assert called == []
    with pytest.raises(irc.ClientClosed):
        anna.say("#a", "x")
    with pytest.raises(irc.ClientClosed):
        anna.join("#a").recv()


def test_a_dropped_client_ends_its_connection(fake: FakeServer) -> None:
    anna = Client(fake.url, nick="anna")
    anna.registered().recv()
    assert len(fake.clients) == 1
    del anna
    while fake.clients:
        ae.sleep(0.001).recv()


def test_a_client_lives_while_somebody_waits(fake: FakeServer) -> None:
    assert Client(fake.url, nick="anna").registered().recv() == "anna"
    assert Client(fake.url, nick="anna").join("#a").recv().name == "#a"


def test_a_call_from_another_thread_is_refused(fake: FakeServer, client: Make) -> None:
    import threading

    anna = client()
    caught: list[BaseException] = []

    def call() -> None:
        try:
            anna.say("#a", "x")
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert len(caught) == 1


# ---------------------------------------------------------------------- accounts


def test_scram_with_a_server_that_knows_the_password(fake: FakeServer, client: Make) -> None:
    """Another implementation of the server's side, from RFC 5802's formulas."""
    import base64
    import hashlib
    import hmac

    salt, rounds, password = b"0123456789abcdef", 4096, b"pencil"
    said: list[bytes] = []

    def mac(key: bytes, data: bytes) -> bytes:
        return hmac.new(key, data, hashlib.sha256).digest()

    def answer(handle: Any, message: irc.Message) -> bool:
        def reply(data: bytes) -> None:
            fake.send(handle, f"AUTHENTICATE {base64.b64encode(data).decode() or '+'}")

        match message.command, message.params:
            case "CAP", ("LS", "302"):
                fake.send(handle, ":fake CAP * LS :sasl=SCRAM-SHA-256")
            case "CAP", ("REQ", names):
                fake.send(handle, f":fake CAP * ACK :{names}")
            case "CAP", ("END",):
                fake.welcome(handle)
            case "AUTHENTICATE", ("SCRAM-SHA-256",):
                reply(b"")
            case "AUTHENTICATE", (chunk,):
                data = b"" if chunk == "+" else base64.b64decode(chunk)
                said.append(data)
                if len(said) == 1:
                    nonce = data.rpartition(b"r=")[2] + b"SERVER"
                    said.append(b"r=%b,s=%b,i=%d" % (nonce, base64.b64encode(salt), rounds))
                    reply(said[-1])
                elif len(said) == 3:
                    bare, first = said[0].removeprefix(b"n,,"), said[1]
                    final, _, proof = data.rpartition(b",p=")
                    salted = hashlib.pbkdf2_hmac("sha256", password, salt, rounds)
                    signed = b",".join([bare, first, final])
                    key = hashlib.sha256(mac(salted, b"Client Key")).digest()
                    pairs = zip(base64.b64decode(proof), mac(key, signed), strict=True)
                    if hashlib.sha256(bytes(a ^ b for a, b in pairs)).digest() != key:
                        fake.send(handle, ":fake 904 * :failed")
                        return True
                    reply(b"v=" + base64.b64encode(mac(mac(salted, b"Server Key"), signed)))
                else:
                    fake.send(handle, ":fake 903 * :ok")
            case "USER", _:
                return True
            case _:
                return False
        return True

    fake.answer = answer
    anna = client(sasl=irc.Sasl("anna", "pencil"))
    assert anna.registered().recv() == "anna"
    assert "sasl" in anna.capabilities
    said.clear()
    wrong = client(sasl=irc.Sasl("anna", "wrong"))
    with pytest.raises(irc.SaslFailed, match="cannot log in as 'anna': failed"):
        wrong.registered().recv()
