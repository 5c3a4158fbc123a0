"""Channels and users, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ae_irc as irc
from ae_irc._state import State


def feed(state: State, *lines: str) -> list[irc.Event | None]:
    return [state.handle(irc.parse(line.encode("utf-8", "surrogateescape"))) for line in lines]


@pytest.fixture
def state() -> State:
    """We are anna, in #a with bert and Carl."""
    made = State("anna")
    feed(
        made,
        ":s 001 anna :Welcome",
        ":s 005 anna CASEMAPPING=ascii PREFIX=(ohv)@%+ :are supported",
        ":anna!u@h JOIN #a",
        ":s 332 anna #a :the topic",
        ":s 333 anna #a bert!b@h 1700000000",
        ":s 353 anna = #a :@anna +bert!b@example.com",
        ":s 353 anna = #a :%+Carl",
        ":s 366 anna #a :End",
    )
    return made


def test_a_channel_is_known_when_its_names_have_come(state: State) -> None:
    channel = state.channels["#A"]
    assert dict(channel.members) == {"anna": "o", "bert": "v", "Carl": "hv"}
    assert channel.members["cARL"] == "hv"
    assert channel.is_listed
    assert (channel.topic, channel.topic_by) == ("the topic", "bert!b@h")
    assert state.users["bert"].host == "example.com"
    assert state.source == "anna!u@h"


def test_events_tell_what_happened_and_the_state_is_that_after_it(state: State) -> None:
    joined, left = feed(state, ":dora!d@h JOIN #a", ":bert!b@h PART #a :bye")
    assert isinstance(joined, irc.Joined)
    assert (joined.nick, joined.channel, joined.is_own) == ("dora", "#a", False)
    assert isinstance(left, irc.Left)
    assert left.reason == "bye"
    assert set(state.channels["#a"].members) == {"anna", "Carl", "dora"}
    assert "bert" not in state.users


def test_who_quits_is_gone_from_every_channel(state: State) -> None:
    feed(state, ":anna!u@h JOIN #b", ":s 353 anna = #b :anna bert", ":s 366 anna #b :End")
    (quit,) = feed(state, ":bert!b@h QUIT :Ping timeout")
    assert isinstance(quit, irc.Quit)
    assert set(quit.channels) == {"#a", "#b"}
    assert "bert" not in state.channels["#b"].members
    assert "bert" not in state.users


def test_a_new_nick_is_known_everywhere(state: State) -> None:
    changed, own = feed(state, ":Carl!c@h NICK :carla", ":anna!u@h NICK Anna")
    assert isinstance(changed, irc.NickChanged)
    assert dict(state.channels["#a"].members) == {"bert": "v", "carla": "hv", "Anna": "o"}
    assert state.users["CARLA"].nick == "carla"
    assert own is not None
    assert own.is_own
    assert state.nick == "Anna"
    assert state.source == "Anna!u@h"


def test_modes_of_members_and_of_the_channel(state: State) -> None:
    (event,) = feed(state, ":bert!b@h MODE #a +ov-h+lk-n+b CARL carl Carl 5 key *!*@x")
    assert isinstance(event, irc.ModesChanged)
    assert len(event.changes) == 7
    assert dict(state.channels["#a"].members)["Carl"] == "ov"
    assert dict(state.channels["#a"].modes) == {"l": "5", "k": "key"}
    feed(state, ":bert!b@h MODE #a -l", ":s 324 anna #a +nt")
    assert dict(state.channels["#a"].modes) == {"n": None, "t": None}
    feed(state, ":anna MODE anna :+ix", ":s 221 anna +w")
    assert state.umodes == {"w"}


def test_when_we_leave_or_are_put_out_the_channel_is_forgotten(state: State) -> None:
    (kicked,) = feed(state, ":bert!b@h KICK #a ANNA :out")
    assert isinstance(kicked, irc.Kicked)
    assert not state.channels
    assert not state.users
    feed(state, ":anna!u@h JOIN #a", ":anna!u@h PART #a")
    assert not state.channels


@pytest.mark.parametrize(
    ("line", "kind", "target", "text"),
    [
        (":bert!b@h PRIVMSG #a :hi", "message", "#a", "hi"),
        (":bert!b@h NOTICE anna :hi", "notice", "bert", "hi"),
        (":bert!b@h PRIVMSG #a :\x01ACTION waves\x01", "action", "#a", "waves"),
        (":bert!b@h PRIVMSG #a :caf\udce9", "message", "#a", "caf\u00e9"),
    ],
)
def test_what_is_said(state: State, line: str, kind: str, target: str, text: str) -> None:
    (event,) = feed(state, line)
    assert isinstance(event, irc.Text)
    assert (event.kind, event.reply_target, event.text) == (kind, target, text)


def test_what_is_said_to_operators_only(state: State) -> None:
    feed(state, ":s 005 anna STATUSMSG=@+ :are supported")
    (event,) = feed(state, ":bert!b@h PRIVMSG @#a :psst")
    assert isinstance(event, irc.Text)
    assert (event.status, event.channel, event.reply_target) == ("@", "#a", "#a")


def test_ctcp_is_an_event_of_its_own(state: State) -> None:
    (event,) = feed(state, ":bert!b@h NOTICE anna :\x01PING 42\x01")
    assert isinstance(event, irc.Ctcp)
    assert (event.command, event.argument, event.is_reply) == ("PING", "42", True)


def test_what_ircv3_tells_of_users(state: State) -> None:
    feed(
        state,
        "@account=dd;time=2024-05-01T12:00:00.500Z :dora!d@h JOIN #a * :Dora D",
        ":bert!b@h AWAY :lunch",
        ":bert!b@h ACCOUNT bb",
        ":bert!b@h CHGHOST bb new.example.com",
        ":bert!b@h SETNAME :Bert B",
    )
    dora, bert = state.users["dora"], state.users["bert"]
    assert (dora.account, dora.realname) == ("dd", "Dora D")
    assert (bert.away, bert.account, bert.user, bert.host) == (
        "lunch",
        "bb",
        "bb",
        "new.example.com",
    )
    assert bert.realname == "Bert B"
    back, out = feed(state, ":bert!b@h AWAY", ":bert!b@h ACCOUNT *")
    assert isinstance(back, irc.AwayChanged)
    assert isinstance(out, irc.AccountChanged)
    assert (bert.away, bert.account, out.account) == ("", "", None)


def test_the_time_of_the_server_is_that_of_the_event(state: State) -> None:
    (event,) = feed(state, "@time=2024-05-01T12:00:00.500Z :bert!b@h PRIVMSG #a :hi")
    assert event is not None
    assert event.time is not None
    assert event.time.isoformat() == "2024-05-01T12:00:00.500000+00:00"
    (event,) = feed(state, "@time=yesterdayZ :bert!b@h PRIVMSG #a :hi")
    assert event is not None
    assert event.time is None


def test_other_lines_are_shown_as_they_are(state: State) -> None:
    (event,) = feed(state, ":s 401 anna zoe :No such nick")
    assert isinstance(event, irc.Other)
    assert event.is_refusal
    assert event.text == "No such nick"


def check(state: State) -> None:
    """Both directions of the relation say the same."""
    pairs = {(c.name, u.nick) for u in state.users.values() for c in u.channels}
    assert pairs == {
        (c.name, state.users[nick].nick) for c in state.channels.values() for nick in c.members
    }
    assert sum(len(user.channels) for user in state.users.values()) == len(pairs)


nicks = st.sampled_from(["anna", "ANNA", "b[", "b{", "B[", "c", "", "s"])
channels = st.sampled_from(["#a", "#A", "#b", "", "x"])
commands = st.sampled_from(
    [
        "JOIN",
        "PART",
        "KICK",
        "QUIT",
        "NICK",
        "MODE",
        "TOPIC",
        "353",
        "366",
        "332",
        "333",
        "324",
        "221",
        "352",
        "005",
        "001",
        "AWAY",
        "ACCOUNT",
        "CHGHOST",
        "SETNAME",
        "PRIVMSG",
        "NOTICE",
        "INVITE",
        "401",
        "CAP",
    ]
)
params = (
    nicks
    | channels
    | st.sampled_from(
        [
            "CASEMAPPING=ascii",
            "CASEMAPPING=rfc1459",
            "PREFIX=(o)@",
            "+o",
            "-o+v",
            "@c +b{ ANNA!u@h",
            ":x y",
        ]
    )
)


@given(st.lists(st.tuples(nicks, commands, st.lists(channels | params, max_size=5)), max_size=40))
def test_whatever_a_server_says_the_state_is_one(lines: list[tuple[str, str, list[str]]]) -> None:
    state = State("anna")
    feed(state, ":anna!u@h JOIN #a", ":anna!u@h JOIN #b")
    for nick, command, words in lines:
        feed(state, f":{nick}!u@h {command} {' '.join(words)}")
        check(state)
