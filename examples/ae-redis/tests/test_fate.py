"""What becomes of commands when there is no connection, or there was one; and bad servers."""

from __future__ import annotations

import pickle
import random
import socket
import threading
from collections.abc import Callable
from types import NoneType
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import Trace
from ae_handle import Handle
from ae_redis import (
    AuthenticationFailed,
    CannotConnect,
    ClientClosed,
    ConnectionLost,
    ProtocolError,
    Redis,
    RedisError,
    ReplyError,
    ReplyTimedOut,
)
from ae_redis.testing import GREETING, FakeServer

Make = Callable[..., Redis]


def until(condition: Callable[[], object]) -> None:
    while not condition():
        ae.sleep(0.001).recv()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


# ---------------------------------------------------------------------- lost connections


def test_a_command_in_flight_fails_and_is_never_sent_again(fake: FakeServer, client: Make) -> None:
    fake.answer = lambda client, words: None
    redis = client()
    replies = [redis.incr("a"), redis.incr("b"), redis.pipeline().incr("c").execute()]
    until(lambda: len(fake.commands) == 4)
    fake.kick()
    errors = []
    for reply in replies:
        with pytest.raises(ConnectionLost, match="closed the connection") as caught:
            reply.recv()
        assert caught.value.maybe_executed
        errors.append(caught.value)
    assert len(set(map(id, errors))) == 3
    fake.answer = lambda client, words: b":1\r\n"
    assert redis.incr("d").recv() == 1
    assert fake.commands[4:] == ["HELLO 3", "INCR d"]


def test_a_command_that_was_not_sent_is_sent_on_the_next_connection(
    fake: FakeServer, client: Make
) -> None:
    redis = client()
    redis.ping().recv()
    fake.answer = lambda client, words: None
    in_flight = redis.get("a")
    until(lambda: "GET a" in fake.commands)
    fake.answer = lambda client, words: b"+OK\r\n"
    (peer,) = fake.clients

    def closed(reply: ae.CondVar[Any]) -> None:
        queued.append(redis.get("b"))

    queued: list[ae.CondVar[Any]] = []
    in_flight.on_ready(closed)
    peer.destroy()
    until(lambda: queued)
    assert isinstance(in_flight.error, ConnectionLost)
    assert queued[0].recv() == b"OK"
    assert fake.commands.count("GET b") == 1
    assert fake.accepted == 2


def test_an_idle_connection_that_is_closed_is_made_again_when_it_is_needed(
    fake: FakeServer, client: Make
) -> None:
    redis = client()
    redis.ping().recv()
    fake.kick()
    until(lambda: not redis.connected)
    assert fake.accepted == 1
    assert redis.ping().recv() == b"OK"
    assert fake.accepted == 2


def test_the_client_tells_when_it_connects_and_disconnects(fake: FakeServer, trace: Trace) -> None:
    with Redis(
        fake.url,
        on_connect=lambda: trace("up"),
        on_disconnect=lambda error: trace(type(error).__name__),
    ) as redis:
        redis.ping().recv()
        fake.kick()
        until(lambda: not redis.connected)
        redis.ping().recv()
    assert trace == ["up", "ConnectionLost", "up"]


def test_an_exception_in_what_is_told_disturbs_nobody(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[str] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: raised.append(str(error)))

    def fail(*args: object) -> None:
        raise LookupError(f"{len(args)} arguments")

    fake.answer = lambda client, words: b">1\r\n+x\r\n+OK\r\n"
    with Redis(fake.url, on_connect=fail, on_disconnect=fail, on_push=fail) as redis:
        redis.ping().recv()
        fake.kick()
        until(lambda: not redis.connected)
    assert raised == ["0 arguments", "1 arguments", "1 arguments"]


@pytest.mark.parametrize(
    "error",
    [
        ConnectionLost("lost", errno=5, maybe_executed=True),
        ReplyTimedOut("late", maybe_executed=True),
        ProtocolError("bad"),
        CannotConnect("no", errno=111),
        ReplyError("ERR no"),
        ClientClosed(maybe_executed=True),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_can_be_copied(error: RedisError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.__dict__) == (type(error), str(error), error.__dict__)
    assert getattr(again, "errno", None) == getattr(error, "errno", None)


def test_an_error_that_many_share_is_logged_once(
    fake: FakeServer, client: Make, caplog: pytest.LogCaptureFixture
) -> None:
    fake.answer = lambda client, words: None
    redis = client()
    for _ in range(50):
        redis.get("a")
    until(lambda: len(fake.commands) == 51)
    fake.kick()
    until(lambda: not redis.pending)
    lines = [record for record in caplog.records if "never looked at" in record.getMessage()]
    assert len(lines) == 1


# ---------------------------------------------------------------------- no connection


def test_a_refused_connection_is_tried_again_and_then_given_up() -> None:
    with Redis("redis://127.0.0.1", port=closed_port(), attempts=3, max_delay=0.01) as redis:
        replies = [redis.get("a"), redis.get("b")]
        for reply in replies:
            with pytest.raises(CannotConnect, match=r"cannot connect to 127\.0\.0\.1:") as caught:
                reply.recv()
            assert not caught.value.maybe_executed
            assert isinstance(caught.value, OSError)
            assert isinstance(caught.value.__cause__, OSError)
        assert redis.pending == 0


def test_a_server_that_comes_late_is_found(fake: FakeServer, client: Make) -> None:
    fake.refuses = True
    redis = client(max_delay=0.01, attempts=1000)
    reply = redis.get("a")
    until(lambda: fake.accepted >= 4)
    fake.refuses = False
    assert reply.recv() == b"OK"
    assert fake.commands == ["HELLO 3", "GET a"]


def test_a_failed_round_is_followed_by_a_new_one(fake: FakeServer, client: Make) -> None:
    fake.refuses = True
    redis = client(max_delay=0.01, attempts=2)
    with pytest.raises(CannotConnect, match=r"instead of greeting|reset by peer"):
        redis.get("a").recv()
    assert fake.accepted == 2
    fake.refuses = False
    assert redis.get("b").recv() == b"OK"


def test_the_time_out_includes_the_connection(fake: FakeServer, client: Make) -> None:
    fake.greets = False
    fake.answer = lambda client, words: None
    redis = client(timeout=0.05)
    reply = redis.get("a")
    with pytest.raises(ReplyTimedOut, match=r"no connection to 127.0.0.1:\d+ within 0.05 s") as got:
        reply.recv()
    assert not got.value.maybe_executed
    assert isinstance(got.value, TimeoutError)


def test_an_attempt_to_connect_has_a_time_out(fake: FakeServer, client: Make) -> None:
    fake.greets = False
    fake.answer = lambda client, words: None
    redis = client(timeout=None, connect_timeout=0.02, attempts=2, max_delay=0.01)
    with pytest.raises(ReplyTimedOut, match=r"no connection .* within 0.02 s"):
        redis.get("a").recv()
    assert fake.accepted == 2


def test_a_name_that_does_not_exist_is_an_error() -> None:
    with Redis("redis://name.invalid", attempts=1, timeout=60) as redis:
        with pytest.raises(CannotConnect, match=r"name\.invalid:6379"):
            redis.get("a").recv()


def test_a_tls_context_that_is_none_is_an_error() -> None:
    with Redis("rediss://127.0.0.1", tls_context=object()) as redis:
        with pytest.raises(CannotConnect, match="cannot connect"):
            redis.get("a").recv()


# ---------------------------------------------------------------------- the greeting


def greet(fake: FakeServer, **replies: bytes) -> None:
    fake.greets = False
    fake.answer = lambda client, words: replies.get(words[0].decode(), b"+OK\r\n")


def test_the_greeting_says_who_and_where(fake: FakeServer, client: Make) -> None:
    client(username="me", password="pw", client_name="it", db=3).ping().recv()
    assert fake.commands == ["HELLO 3 AUTH me pw SETNAME it", "SELECT 3", "PING"]


def test_a_password_alone_is_that_of_the_default_user(fake: FakeServer, client: Make) -> None:
    client(password="pw").ping().recv()
    assert fake.commands == ["HELLO 3 AUTH default pw", "PING"]


@pytest.mark.parametrize("refusal", ["ERR unknown command `HELLO`", "NOPROTO unsupported"])
def test_an_old_server_is_spoken_to_in_resp2(refusal: str, fake: FakeServer, client: Make) -> None:
    greet(fake, HELLO=b"-%b\r\n" % refusal.encode())
    redis = client(password="pw", client_name="it", db=3)
    redis.get("a").recv()
    assert redis.protocol == 2
    assert fake.commands[1:] == ["AUTH pw", "CLIENT SETNAME it", "SELECT 3", "GET a"]


def test_resp2_can_be_chosen(fake: FakeServer, client: Make) -> None:
    redis = client(protocol=2)
    redis.get("a").recv()
    assert fake.commands == ["PING", "GET a"]
    named = client(protocol=2, username="me", password="pw")
    named.get("b").recv()
    assert fake.commands[2:] == ["AUTH me pw", "GET b"]


@pytest.mark.parametrize(
    ("reply", "kind", "options"),
    [
        (b"-WRONGPASS invalid\r\n", AuthenticationFailed, {"password": "x"}),
        (b"-NOAUTH HELLO must be called\r\n", AuthenticationFailed, {}),
        (b"-ERR Client sent AUTH, but no password is set\r\n", AuthenticationFailed, {}),
        (b"-NOPROTO unsupported\r\n", ReplyError, {"protocol": 3}),
        (b"-ERR unknown command\r\n", ReplyError, {"protocol": 3}),
        (b"-ERR strange\r\n", ReplyError, {}),
        (b"+OK\r\n", ProtocolError, {}),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ProtocolError, {}),
        (GREETING + b"+more\r\n", ProtocolError, {}),
    ],
)
def test_a_refused_greeting_is_not_tried_again(
    reply: bytes, kind: type[RedisError], options: Any, fake: FakeServer, client: Make
) -> None:
    greet(fake, HELLO=reply)
    command = client(**options).get("a")
    with pytest.raises(kind) as caught:
        command.recv()
    assert type(caught.value) is kind
    assert not caught.value.maybe_executed
    assert fake.accepted == 1
    assert not any(line.startswith("GET") for line in fake.commands)


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        ("AUTH", {"password": "pw"}),
        ("PING", {}),
        ("CLIENT", {"client_name": "it"}),
        ("SELECT", {"db": 9}),
    ],
)
def test_each_step_of_the_greeting_may_be_refused(
    verb: str, options: Any, fake: FakeServer, client: Make
) -> None:
    greet(fake, **{verb: b"-NOAUTH no\r\n"})
    with pytest.raises(AuthenticationFailed, match="NOAUTH"):
        client(protocol=2, **options).get("a").recv()
    assert fake.commands[-1].startswith(verb)


# ---------------------------------------------------------------------- bad servers


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"garbage\r\n", id="garbage"),
        pytest.param(b"\0" * 100_000, id="endless-line"),
        pytest.param(b"$5\r\nabcdefgh\r\n", id="wrong-length"),
        pytest.param(b"$999999999999\r\n", id="huge-string"),
        pytest.param(b"*999999999999\r\n", id="huge-array"),
        pytest.param(b"*1\r\n" * 100, id="deep"),
    ],
)
def test_nonsense_is_a_typed_error_and_the_next_command_works(
    answer: bytes, fake: FakeServer, client: Make
) -> None:
    fake.answer = lambda client, words: answer if words[1] == b"bad" else b"+OK\r\n"
    redis = client()
    bad, behind = redis.get("bad"), redis.get("behind")
    with pytest.raises(ProtocolError) as caught:
        behind.recv()
    assert caught.value.maybe_executed
    assert isinstance(bad.error, ProtocolError)
    assert redis.get("good").recv() == b"OK"


def test_what_came_before_the_nonsense_is_given_out(fake: FakeServer, client: Make) -> None:
    fake.answer = lambda client, words: b"+OK\r\n" if words[1] == b"a" else b"?\r\n"
    redis = client()
    good, bad = redis.get("a"), redis.get("b")
    assert good.recv() == b"OK"
    with pytest.raises(ProtocolError, match="bad reply: expected a reply"):
        bad.recv()
    assert redis.get("a").recv() == b"OK"


def test_a_reply_that_nobody_has_asked_for_ends_the_connection(fake: FakeServer) -> None:
    fake.answer = lambda client, words: b"+one\r\n+one too many\r\n"
    told = ae.CondVar[RedisError]()
    with Redis(fake.url, on_disconnect=told) as redis:
        assert redis.get("a").recv() == b"one"
        assert isinstance(told.recv(), ProtocolError)


def test_a_reply_that_drips_in_times_out(fake: FakeServer, client: Make) -> None:
    dripping: list[ae.Watcher] = []

    def answer(client: Handle, words: list[bytes]) -> bytes:
        dripping.append(ae.timer(0.001, lambda: client.push_write(b"x"), interval=0.001))
        return b"$1000000\r\n"

    fake.answer = answer
    redis = client(timeout=0.1)
    with pytest.raises(ReplyTimedOut, match=r"no reply from .* within 0.1 s") as caught:
        redis.get("a").recv()
    assert caught.value.maybe_executed
    dripping.clear()


def test_a_server_that_answers_slowly_but_answers_is_borne(fake: FakeServer, client: Make) -> None:
    fake.answer = lambda client, words: None
    redis = client(timeout=0.3)
    replies = [redis.get(number) for number in range(10)]
    until(lambda: len(fake.commands) == 11)
    (peer,) = fake.clients
    slow = ae.timer(0.06, lambda: peer.push_write(b"+OK\r\n"), interval=0.06)  # 0.6 s in all
    assert [reply.recv() for reply in replies] == [b"OK"] * 10
    slow.cancel()


def test_the_time_before_a_command_does_not_count(fake: FakeServer, client: Make) -> None:
    later: list[ae.Watcher] = []

    def answer(client: Handle, words: list[bytes]) -> None:
        later.append(ae.timer(0.15, lambda: client.push_write(b"+late\r\n")))

    redis = client(timeout=0.3)
    redis.ping().recv()
    fake.answer = answer
    ae.sleep(0.2).recv()
    assert redis.get("a").recv() == b"late"  # 0.35 s after the last reply


def test_time_in_which_we_could_not_listen_does_not_count(fake: FakeServer, client: Make) -> None:
    def answer(client: Handle, words: list[bytes]) -> bytes:
        threading.Event().wait(0.3)  # the server is in this process: so are we kept waiting
        return b"+OK\r\n"

    redis = client(timeout=0.1)
    redis.ping().recv()
    fake.answer = answer
    assert redis.get("a").recv() == b"OK"


def test_a_server_that_is_silent_is_given_up_even_if_we_are_slow(
    fake: FakeServer, client: Make
) -> None:
    fake.answer = lambda client, words: None
    reply = client(timeout=0.02).get("a")
    slow = ae.timer(0.0, lambda: threading.Event().wait(0.03), interval=0.001)
    with pytest.raises(ReplyTimedOut):
        reply.recv()
    slow.cancel()


def test_an_early_close_in_the_middle_of_a_reply(fake: FakeServer, client: Make) -> None:
    def answer(client: Handle, words: list[bytes]) -> None:
        client.push_write(b"$10\r\nabc")
        client.push_shutdown()

    fake.answer = answer
    with pytest.raises(ConnectionLost, match="closed the connection"):
        client().get("a").recv()


def test_a_reset_connection(fake: FakeServer, client: Make) -> None:
    def answer(client: Handle, words: list[bytes]) -> None:
        option = b"\1\0\0\0\0\0\0\0"  # SO_LINGER 0: close() resets
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
        fake.kick()

    fake.answer = answer
    with pytest.raises(ConnectionLost) as caught:
        client().get("a").recv()
    assert caught.value.errno != 0


VALID = (
    b"+OK\r\n$5\r\nhello\r\n:42\r\n*2\r\n$1\r\na\r\n%1\r\n+k\r\n,1.5\r\n~1\r\n_\r\n-ERR x\r\n"
    b">2\r\n+push\r\n:1\r\n|1\r\n+a\r\n:1\r\n#t\r\n(99\r\n=5\r\ntxt:x\r\n!3\r\nERR\r\n"
)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_a_server_says_the_error_is_typed_and_the_client_goes_on(
    fake: FakeServer, client: Make, seed: int
) -> None:
    choice = random.Random(seed)
    said: list[Handle] = []
    lost = 0

    def answer(client: Handle, words: list[bytes]) -> bytes | None:
        if words[0] == b"PING":
            return b"+PONG\r\n"
        if words[0] == b"GET" and client not in said:
            said.append(client)
            wire = bytearray(VALID)
            for _ in range(choice.randrange(4)):
                at = choice.randrange(len(wire))
                wire[at : at + choice.randrange(3)] = choice.choices(b"$*+-:09\r\n\xff", k=2)
            client.push_write(wire)
            client.push_shutdown()
        return None

    fake.answer = answer
    redis = client()
    for _ in range(10):
        replies = [redis.get(number) for number in range(8)]
        batch = redis.pipeline().get("a").get("b").execute()
        until(lambda: not redis.pending)
        errors = [reply.error for reply in (*replies, batch)]
        assert all(isinstance(error, (NoneType, ReplyError, ConnectionLost)) for error in errors)
        lost += sum(isinstance(error, ConnectionLost) for error in errors)
        until(lambda: not redis.connected)
        assert redis.ping().recv() == b"PONG"
    assert 0 < lost < 90


@pytest.mark.parametrize("error", [b"-LOADING x\r\n", b"-ERR max number of clients reached\r\n"])
def test_a_refusal_that_passes_is_an_attempt_that_has_failed(
    error: bytes, fake: FakeServer, client: Make
) -> None:
    fake.greets = False
    fake.answer = lambda client, words: (
        error if fake.accepted < 3 else GREETING if words[0] == b"HELLO" else b"+OK\r\n"
    )
    assert client(max_delay=0.01, attempts=3).get("a").recv() == b"OK"
    assert fake.accepted == 3
    fake.answer = lambda client, words: error
    redis = client(max_delay=0.01, attempts=2)
    for reply in (redis.get("a"), redis.get("b")):
        with pytest.raises(ReplyError, match=error[1:-2].decode()) as caught:
            reply.recv()
        assert not caught.value.maybe_executed
    assert fake.accepted == 5
