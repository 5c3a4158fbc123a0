"""The greeting, without a server."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from ae_irc import CannotConnect, Message, Refused, Sasl, SaslFailed, parse
from ae_irc._capabilities import Capabilities
from ae_irc._registration import Identity, Registration, StsUpgrade
from ae_irc._sasl import SaslRefused, authenticate, parse_sasl, scram_sha_256

Lines = list[tuple[str, ...]]


def begin(*, secure: bool = True, **options: Any) -> Registration:
    identity = Identity(**{"nicks": ("anna",), "username": "u", "realname": "r", **options})
    return Registration(identity, secure=secure)


def feed(registration: Registration, *lines: str) -> Lines:
    sent: Lines = []
    for line in lines:
        sent += registration.handle(parse(line.encode()))
    return sent


def test_everything_is_sent_at_once() -> None:
    assert begin(password="pw").start() == [
        ("CAP", "LS", "302"),
        ("PASS", "pw"),
        ("NICK", "anna"),
        ("USER", "u", "0", "*", "r"),
    ]


PASSWORD = [("PASS", "pw"), ("NICK", "anna"), ("USER", "u", "0", "*", "r")]


def held() -> Registration:
    greeting = begin(password="pw", secure=False, capabilities=("a",))
    assert greeting.start() == [("CAP", "LS", "302")]
    assert greeting.is_held
    return greeting


def test_in_clear_a_password_waits_for_the_whole_list_of_capabilities() -> None:
    greeting = held()
    assert feed(greeting, ":s NOTICE * :Looking up your hostname", ":s 020 * :Please wait") == []
    assert feed(greeting, ":s CAP * LS * :a") == []
    assert feed(greeting, ":s CAP * LS :b") == [*PASSWORD, ("CAP", "REQ", "a")]
    assert not greeting.is_held
    assert feed(greeting, ":s CAP anna ACK :a") == [("CAP", "END")]


def test_a_password_is_never_sent_in_clear_to_a_server_that_wants_tls() -> None:
    greeting = held()
    with pytest.raises(StsUpgrade):
        feed(greeting, ":s CAP * LS * :sts=port=6697", ":s CAP * LS :a")


@pytest.mark.parametrize("numeric", ["421", "451", "410", "461"])
def test_a_server_that_does_not_know_cap_is_told_the_password_then(numeric: str) -> None:
    greeting = held()
    assert feed(greeting, f":s {numeric} * CAP :?", ":s 001 anna :Welcome") == PASSWORD
    assert greeting.welcome


def test_a_server_that_says_nothing_to_cap_is_told_the_password_once() -> None:
    greeting = held()
    assert greeting.release() == PASSWORD
    assert feed(greeting, ":s CAP * LS :a") == [("CAP", "REQ", "a")]


def test_capabilities_are_asked_for_and_the_negotiation_is_ended() -> None:
    greeting = begin(capabilities=("server-time", "echo-message", "x"))
    assert feed(greeting, ":s CAP * LS * :server-time a=b") == []
    assert feed(greeting, ":s CAP * LS :echo-message sasl=PLAIN") == [
        ("CAP", "REQ", "echo-message server-time")
    ]
    assert feed(greeting, ":s CAP anna ACK :echo-message server-time ") == [("CAP", "END")]
    assert greeting.capabilities.enabled == {"server-time", "echo-message"}
    assert feed(greeting, ":s 001 Anna :Welcome") == []
    assert greeting.welcome
    assert greeting.nick == "Anna"


def test_a_server_that_has_none_of_them_is_told_to_go_on() -> None:
    assert feed(begin(), ":s CAP * LS :") == [("CAP", "END")]


def test_a_server_that_does_not_know_cap_lets_us_in_all_the_same() -> None:
    greeting = begin()
    assert feed(greeting, ":s 421 * CAP :Unknown command", ":s 001 anna :Welcome") == []
    assert greeting.welcome


def test_where_a_request_is_refused_each_of_its_names_is_asked_for_by_itself() -> None:
    greeting = begin(capabilities=("a", "b"))
    feed(greeting, ":s CAP * LS :a b")
    assert feed(greeting, ":s CAP * NAK :a b") == [("CAP", "REQ", "a"), ("CAP", "REQ", "b")]
    assert feed(greeting, ":s CAP * NAK :a", ":s CAP * ACK :b") == [("CAP", "END")]
    assert greeting.capabilities.enabled == {"b"}


def test_capabilities_come_and_go_afterwards() -> None:
    capabilities = Capabilities(["a", "b"])
    capabilities.handle(Message("CAP", ("*", "LS", "a")))
    assert capabilities.request() == [("CAP", "REQ", "a")]
    capabilities.handle(Message("CAP", ("x", "ACK", "a")))
    assert capabilities.handle(Message("CAP", ("x", "NEW", "b c"))) == [("CAP", "REQ", "b")]
    capabilities.handle(Message("CAP", ("x", "ACK", "b")))
    capabilities.handle(Message("CAP", ("x", "DEL", "a c")))
    assert capabilities.enabled == {"b"}
    assert capabilities.handle(Message("CAP", ("x", "NEW", "a"))) == [("CAP", "REQ", "a")]


def test_a_long_request_is_several_lines() -> None:
    names = [f"vendor.example.com/{number:03}" for number in range(60)]
    capabilities = Capabilities(names)
    capabilities.handle(Message("CAP", ("*", "LS", " ".join(names))))
    lines = capabilities.request()
    assert all(len(line[2]) <= 400 for line in lines)
    assert " ".join(line[2] for line in lines).split() == names
    for line in lines:
        assert not capabilities.settled
        capabilities.handle(Message("CAP", ("*", "ACK", line[2])))
    assert capabilities.settled


# ---------------------------------------------------------------------- strict transport security


def test_an_insecure_greeting_goes_no_further_where_the_server_wants_tls() -> None:
    with pytest.raises(StsUpgrade) as caught:
        feed(begin(secure=False), ":s CAP * LS :sts=port=6697,duration=5 a")
    assert caught.value.port == 6697


def test_a_secure_greeting_notes_the_policy_and_an_insecure_one_no_duration() -> None:
    greeting = begin()
    feed(greeting, ":s CAP * LS :sts=duration=5,port=1")
    assert greeting.sts == {"port": 1, "duration": 5}
    greeting = begin(secure=False)
    assert feed(greeting, ":s CAP * LS :sts=duration=5") == [("CAP", "END")]
    assert greeting.sts == {}


# ---------------------------------------------------------------------- SASL


def logging_in(
    sasl: Sasl, offered: str = "sasl", *, secure: bool = True
) -> tuple[Registration, Lines]:
    greeting = begin(sasl=sasl, capabilities=(), secure=secure)
    assert feed(greeting, f":s CAP * LS :{offered}") == [("CAP", "REQ", "sasl")]
    return greeting, feed(greeting, ":s CAP * ACK :sasl")


def test_plain_tells_name_and_password() -> None:
    greeting, lines = logging_in(Sasl("anna", "pencil"), "sasl=PLAIN,EXTERNAL")
    assert lines == [("AUTHENTICATE", "PLAIN")]
    ((_, said),) = feed(greeting, "AUTHENTICATE +")
    assert base64.b64decode(said) == b"\0anna\0pencil"
    assert feed(greeting, ":s 900 * a b :x", ":s 903 * :ok") == [("CAP", "END")]
    feed(greeting, ":s 001 anna :Welcome")
    assert greeting.account


def test_plain_is_not_used_in_clear_unless_it_is_named() -> None:
    with pytest.raises(SaslFailed, match="no mechanism of ours"):
        logging_in(Sasl("anna", "pencil"), "sasl=PLAIN", secure=False)
    _, lines = logging_in(Sasl("anna", "pencil", ("PLAIN",)), "sasl=PLAIN", secure=False)
    assert lines == [("AUTHENTICATE", "PLAIN")]


def test_external_says_who_to_be() -> None:
    greeting, lines = logging_in(Sasl())
    assert lines == [("AUTHENTICATE", "EXTERNAL")]
    assert feed(greeting, "AUTHENTICATE +") == [("AUTHENTICATE", "+")]
    greeting, _ = logging_in(Sasl("anna"))
    assert feed(greeting, "AUTHENTICATE +") == [("AUTHENTICATE", "YW5uYQ==")]


def test_scram_speaks_as_in_the_rfc() -> None:
    """The example of RFC 7677 section 3."""
    talk = scram_sha_256("user", "pencil", "rOprNGfwEbeRWgbNEkqO")
    assert next(talk) == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    first = (
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    assert talk.send(first) == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert talk.send(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") == b""


@pytest.mark.parametrize(
    ("first", "final"),
    [
        (b"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", None),
        (b"r=nonce,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", None),
        (b"r=nonceX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=999999999", None),
        (b"r=nonceX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0", None),
        (b"r=nonceX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=12345678901234567890", None),
        (b"r=nonceX,s=!,i=4096", None),
        (b"m=ext,r=nonceX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", None),
        (b"\xff", None),
        (b"", None),
        (
            b"r=nonceX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ),
        (b"r=nonceX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", b"e=invalid-proof"),
    ],
)
def test_a_server_that_does_not_know_the_password_is_refused(
    first: bytes, final: bytes | None
) -> None:
    talk = scram_sha_256("user", "pencil", "nonce")
    next(talk)
    with pytest.raises(SaslRefused):
        talk.send(first)
        assert final is not None
        talk.send(final)


def test_the_next_mechanism_is_tried_and_the_last_failure_is_told() -> None:
    greeting, lines = logging_in(Sasl("anna", "pencil"))
    assert lines == [("AUTHENTICATE", "SCRAM-SHA-256")]
    assert feed(greeting, ":s 908 * PLAIN,X :are available") == []
    assert feed(greeting, ":s 904 * :failed") == [("AUTHENTICATE", "PLAIN")]
    feed(greeting, "AUTHENTICATE +")
    with pytest.raises(SaslFailed, match="cannot log in as 'anna': wrong password"):
        feed(greeting, ":s 904 * :wrong password")


def test_who_is_let_in_without_an_account_that_was_asked_for_does_not_stay() -> None:
    for lines in (
        [":s 421 * CAP :?"],
        [":s CAP * LS :x"],
        [":s CAP * LS :sasl", ":s CAP * NAK :sasl"],
    ):
        greeting = begin(sasl=Sasl("anna", "pencil"), capabilities=())
        feed(greeting, *lines)
        with pytest.raises(SaslFailed, match="no accounts"):
            feed(greeting, ":s 001 anna :Welcome")


@pytest.mark.parametrize("size", [0, 1, 299, 300, 301, 600, 1000])
def test_long_octets_are_several_lines(size: int) -> None:
    chunks = authenticate(bytes(size))
    assert all(len(chunk) <= 400 for chunk in chunks)
    assert len(chunks[-1]) < 400
    assert parse_sasl(chunks) == bytes(size)


def test_a_long_word_of_the_server_is_put_together_and_an_endless_one_refused() -> None:
    greeting, _ = logging_in(Sasl("anna", "pencil", ("PLAIN",)))
    assert feed(greeting, "AUTHENTICATE " + "A" * 400) == []
    with pytest.raises(SaslFailed, match="does not end"):
        feed(greeting, *["AUTHENTICATE " + "A" * 400] * 200)


@pytest.mark.parametrize(
    "arguments",
    [("anna", "pw", ("DIGEST-MD5",)), (None, "pw"), ("anna", None, ("PLAIN",))],
)
def test_what_cannot_log_in_is_refused(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Sasl(*arguments)


def test_the_password_is_not_shown() -> None:
    assert "pencil" not in repr(Sasl("anna", "pencil"))


# ---------------------------------------------------------------------- nicks


def test_the_nicks_are_tried_in_turn_and_then_others_like_the_first() -> None:
    greeting = begin(nicks=("anna", "annabel"))
    sent = feed(greeting, *[":s 433 * x :in use"] * 4)
    assert sent == [("NICK", "annabel"), ("NICK", "anna_"), ("NICK", "anna1"), ("NICK", "anna2")]
    with pytest.raises(CannotConnect, match="no nick like 'anna'"):
        feed(greeting, *[":s 433 * x :in use"] * 30)


def test_a_nick_that_cannot_be_is_refused_for_good() -> None:
    with pytest.raises(Refused, match="refuses the nick"):
        feed(begin(), ":s 432 * anna :Erroneous")
    assert feed(begin(nicks=("an.na", "anna")), ":s 432 * an.na :Erroneous") == [("NICK", "anna")]


@pytest.mark.parametrize("numeric", ["464", "465"])
def test_who_is_not_wanted_is_refused_for_good(numeric: str) -> None:
    with pytest.raises(Refused):
        feed(begin(), f":s {numeric} * :no")


def test_an_error_in_the_greeting_is_one_that_may_pass() -> None:
    with pytest.raises(CannotConnect, match="Too many") as caught:
        feed(begin(), "ERROR :Too many connections")
    assert not isinstance(caught.value, Refused)
