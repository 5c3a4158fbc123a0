"""Which names are the same, what a server says of itself, modes, tokens, policies."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_irc import Features, ModeChange, StsStore, TokenBucket, fold, parse_modes
from ae_irc._folding import FoldedDict
from ae_irc._sts import parse_sts


@pytest.mark.parametrize(
    ("mapping", "folded"),
    [
        ("ascii", "a[]\\~\u00c4"),
        ("rfc1459", "a{}|^\u00c4"),
        ("strict-rfc1459", "a{}|~\u00c4"),
        ("rfc8265", "a[]\\~\u00e4"),
    ],
)
def test_names_are_folded_as_the_server_says(mapping: str, folded: str) -> None:
    assert fold("A[]\\~\u00c4", mapping) == folded


def test_a_folded_dictionary_keeps_the_spelling_and_can_be_folded_anew() -> None:
    names: FoldedDict[int] = FoldedDict("rfc1459")
    names["Anna[1]"] = 1
    assert names["aNNA{1}"] == 1
    assert list(names) == ["Anna[1]"]
    names.set_mapping("ascii")
    assert "anna{1}" not in names
    assert "ANNA[1]" in names
    del names["anna[1]"]
    assert not names


def test_what_the_server_says_is_read() -> None:
    features = Features()
    assert features.prefixes == {"o": "@", "v": "+"}
    features.update(
        ["PREFIX=(qaohv)~&@%+", "CHANMODES=beI,k,lf,imn,x", "NICKLEN=30", "CHANTYPES=#"]
    )
    features.update(["NETWORK=Test\\x20Net", "STATUSMSG=@+", "casemapping=ASCII", "SAFELIST", "=x"])
    assert features.prefixes["q"] == "~"
    assert features.chanmodes == ("beI", "k", "lf", "imn")
    assert features.number("NICKLEN", 9) == 30
    assert features.network == "Test Net"
    assert features.casemapping == "ascii"
    assert features.tokens["SAFELIST"] == ""
    assert features.is_channel("#a")
    assert not features.is_channel("&a")
    assert features.split_status("@#a") == ("@", "#a")
    assert features.split_status("@a") == ("", "@a")
    assert features.split_name("~@anna") == ("qo", "anna")
    features.update(["-NICKLEN", "PREFIX="])
    assert features.number("NICKLEN", 9) == 9
    assert features.prefixes == {}


@given(
    st.lists(
        st.text(max_size=20)
        | st.sampled_from(["PREFIX=(", "PREFIX=(ov)@", "CHANMODES=,", "NICKLEN=x"])
    )
)
def test_nonsense_is_taken_for_nothing(tokens: list[str]) -> None:
    features = Features()
    features.update(tokens)
    features.split_name("@x")
    features.split_status("@#x")
    assert features.number("NICKLEN", 9) >= 0


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        (["+o-v", "a", "b"], [(True, "o", "a"), (False, "v", "b")]),
        (["+kl", "key", "5"], [(True, "k", "key"), (True, "l", "5")]),
        (["-kl", "key"], [(False, "k", "key"), (False, "l", None)]),
        (["b"], [(True, "b", None)]),
        (["+b-i", "*!*@x"], [(True, "b", "*!*@x"), (False, "i", None)]),
        ([], []),
    ],
)
def test_modes_have_the_arguments_that_the_server_says(
    words: list[str], changes: list[object]
) -> None:
    assert parse_modes(words, Features(), channel=True) == changes


def test_modes_of_users_have_no_arguments() -> None:
    assert parse_modes(["+ov", "x"], Features(), channel=False)[0] == ModeChange(True, "o")


# ---------------------------------------------------------------------- how fast


def test_a_bucket_lets_a_burst_through_and_then_so_many_in_a_second() -> None:
    bucket = TokenBucket(3, 0.5)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.wait(100.0) == 2.0
    assert not bucket.take(101.9)
    assert bucket.take(102.0)
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]


@given(st.floats(1, 10), st.floats(0.01, 10), st.lists(st.floats(0, 5), max_size=50))
def test_no_more_goes_out_than_burst_and_rate(
    burst: float, rate: float, waits: list[float]
) -> None:
    bucket, now, taken = TokenBucket(burst, rate), 0.0, 0
    for wait in waits:
        now += wait
        taken += bucket.take(now)
        assert taken <= burst + rate * now + 1e-6


def test_after_the_wait_there_is_a_token() -> None:
    bucket, now = TokenBucket(1, 0.3), 12345.678
    for _ in range(100):
        now += bucket.wait(now)
        assert bucket.take(now)


@pytest.mark.parametrize(("burst", "rate"), [(0, 1), (1, 0), (float("nan"), 1), (1, float("inf"))])
def test_a_bucket_that_cannot_be_is_refused(burst: float, rate: float) -> None:
    with pytest.raises(ValueError, match="expected a"):
        TokenBucket(burst, rate)


# ---------------------------------------------------------------------- strict transport security


def test_a_policy_holds_for_its_time_and_is_renewed(tmp_path: Path) -> None:
    now = [1000.0]
    path = tmp_path / "sts.json"
    store = StsStore(path, clock=lambda: now[0])
    store.remember("IRC.example.com", 6697, 100)
    assert StsStore(path, clock=lambda: now[0]).port("irc.example.com") == 6697
    now[0] = 1099.0
    store.renew("irc.example.com")
    now[0] = 1198.0
    assert store.port("irc.example.com") == 6697
    now[0] = 1199.0
    assert store.port("irc.example.com") is None
    store.remember("irc.example.com", 6697, 100)
    store.remember("irc.example.com", 6697, 0)
    assert store.port("irc.example.com") is None
    path.write_text("[1]")
    with pytest.raises(ValueError, match="expected policies"):
        StsStore(path)


def test_the_value_of_the_capability_is_read() -> None:
    assert parse_sts("duration=5,port=66970,x=1,port") == {"duration": 5}
    assert parse_sts("port=x") == {}
