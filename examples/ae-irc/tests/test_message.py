"""Lines of IRC, without a server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ae_irc import BadLine, Message, encode, parse, readable


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(b"PING", Message("PING"), id="bare"),
        pytest.param(b"ping x\r\n", Message("PING", ("x",)), id="small-letters"),
        pytest.param(
            b":a!b@c PRIVMSG #x :hi there", Message("PRIVMSG", ("#x", "hi there"), "a!b@c")
        ),
        pytest.param(
            b":a  PRIVMSG   #x   :hi ", Message("PRIVMSG", ("#x", "hi "), "a"), id="spaces"
        ),
        pytest.param(b"JOIN #a ", Message("JOIN", ("#a",)), id="space-at-the-end"),
        pytest.param(b"TOPIC #a :", Message("TOPIC", ("#a", "")), id="empty-trailing"),
        pytest.param(b"TOPIC #a ::)", Message("TOPIC", ("#a", ":)")), id="colon"),
        pytest.param(b"MODE #a +k x:y", Message("MODE", ("#a", "+k", "x:y")), id="colon-inside"),
        pytest.param(b"001 me :a :b", Message("001", ("me", "a :b")), id="two-colons"),
        pytest.param(
            b"@time=2024-01-01T00:00:00.000Z;+x/y=a\\sb\\:\\\\\\r\\n\\q;z;e= :s CMD",
            Message(
                "CMD",
                (),
                "s",
                {"time": "2024-01-01T00:00:00.000Z", "+x/y": "a b;\\\r\nq", "z": "", "e": ""},
            ),
            id="tags",
        ),
        pytest.param(
            b"@a=1;a=2\\  CMD", Message("CMD", (), None, {"a": "2"}), id="the-last-counts"
        ),
        pytest.param(b"CMD " + b"p " * 20, Message("CMD", ("p",) * 20), id="more-than-fifteen"),
    ],
)
def test_a_line_is_parsed(line: bytes, expected: Message) -> None:
    assert parse(line) == expected


@pytest.mark.parametrize(
    "line", [b"", b"\r\n", b":a", b"@a=b", b"@a :b ", b"12 x", b"PR1V x", b" PING"]
)
def test_what_has_no_command_is_refused(line: bytes) -> None:
    with pytest.raises(BadLine, match="expected a command"):
        parse(line)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("QUIT",), b"QUIT\r\n"),
        (("QUIT", ""), b"QUIT :\r\n"),
        (("PRIVMSG", "#a", ":)"), b"PRIVMSG #a ::)\r\n"),
        (("PRIVMSG", "#a", "a b"), b"PRIVMSG #a :a b\r\n"),
        (("PRIVMSG", "#a", "caf\u00e9"), b"PRIVMSG #a caf\xc3\xa9\r\n"),
        (("PRIVMSG", "#a", "caf\udce9"), b"PRIVMSG #a caf\xe9\r\n"),
    ],
)
def test_a_line_is_encoded(words: tuple[str, ...], expected: bytes) -> None:
    assert encode(*words) == expected


@pytest.mark.parametrize(
    "words",
    [
        ("",),
        ("PRIV MSG",),
        ("1",),
        ("PRIVMSG", "", "x"),
        ("PRIVMSG", "#a b", "x"),
        ("PRIVMSG", ":a", "x"),
        ("PRIVMSG", "#a", "x\r\nQUIT"),
        ("PRIVMSG", "#a", "x\n"),
        ("PRIVMSG", "#a", "x\0"),
        ("PRIVMSG", "#a\rQUIT", "x"),
    ],
)
def test_a_line_that_would_be_another_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        encode(*words)


def test_a_tag_that_cannot_be_is_refused() -> None:
    for name in ("", "a b", "a;b", "a=b", "\u00e4"):
        with pytest.raises(ValueError, match="name of a tag"):
            encode("TAGMSG", "#a", tags={name: "x"})


def test_a_parameter_that_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="got 5"):
        encode("MODE", "#a", 5)  # type: ignore[arg-type]


def test_octets_that_are_no_utf_8_are_read_as_old_clients_mean_them() -> None:
    assert readable(parse(b"PRIVMSG #a :\x93caf\xe9\x94").params[1]) == "\u201ccaf\u00e9\u201d"
    assert readable("caf\u00e9") == "caf\u00e9"


octets = st.binary(max_size=80) | st.lists(
    st.sampled_from([b"@", b":", b" ", b"a", b"=", b";", b"\\", b"PING", b"\xff", b"001"]),
    max_size=30,
).map(b"".join)


@given(octets)
@example(b"@a=\\ :x PING : ")
def test_whatever_comes_is_a_message_or_refused_and_means_the_same_when_sent_again(
    line: bytes,
) -> None:
    try:
        message = parse(line)
    except BadLine:
        return
    try:
        again = bytes(message)
    except ValueError:
        return  # a tag or a word in the middle that is not ours to send
    assert parse(again) == message


words = st.text(st.characters(exclude_characters="\0\r\n "), min_size=1).filter(
    lambda w: w[0] != ":"
)
trailing = st.text(st.characters(exclude_characters="\0\r\n"))
tags = st.dictionaries(
    st.from_regex(r"\+?[a-z0-9-]+", fullmatch=True), st.text().filter(lambda t: "\0" not in t)
)


def encodable(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


@given(st.from_regex(r"[A-Z]+|[0-9]{3}", fullmatch=True), st.lists(words), trailing, words, tags)
def test_what_is_encoded_is_parsed_to_the_same(
    command: str, middle: list[str], last: str, source: str, given_tags: dict[str, str]
) -> None:
    message = Message(command, (*middle, last), source, given_tags)
    if all(map(encodable, [*middle, last, source, *given_tags.values()])):
        assert parse(bytes(message)) == message


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"@", b";"),
        (b"@", b"a=b;"),
        (b"@a=", b"\\"),
        (b"@a=", b"\\s"),
        (b"@a", b" "),
        (b":", b" "),
        (b":", b":"),
        (b"PING ", b" "),
        (b"PING ", b" :"),
        (b"PING ", b"a "),
        (b"PING :", b"\xff"),
        (b"", b"\r"),
        (b"", b"a"),
    ],
)
def test_parsing_takes_linear_time(
    doubling: Callable[..., None], head: bytes, piece: bytes
) -> None:
    def make(size: int) -> Callable[[], object]:
        line = head + piece * (size // len(piece))

        def work() -> None:
            try:
                parse(line)
            except BadLine:
                return

        return work

    doubling(make, 200_000)
