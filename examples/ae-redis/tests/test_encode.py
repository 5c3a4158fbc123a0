"""Commands as octets, and which of them are refused."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_redis import Parser, Redis, encode


def view(data: bytes) -> memoryview:
    return memoryview(data)


words = st.one_of(
    st.binary(max_size=20),
    st.binary(max_size=20).map(bytearray),
    st.binary(max_size=20).map(view),
    st.text(max_size=10),
    st.integers(),
    st.floats(allow_nan=False),
)


def as_bytes(word: Any) -> bytes:
    if isinstance(word, (str, int, float)):
        return str(word).encode()
    return bytes(word)


@given(st.lists(words, min_size=1, max_size=20))
def test_a_command_is_an_array_of_strings(command: list[Any]) -> None:
    assert Parser().feed(encode(*command)) == [[as_bytes(word) for word in command]]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 20])
def test_a_command_of_a_client_is_the_same(count: int) -> None:
    pipeline = Redis().pipeline()
    mixed: list[Any] = ["k", b"\r\n", 3, bytearray(b"x")]
    pipeline.command("LPUSH", *mixed * 5)
    pipeline.command("lpush", *range(count))
    assert len(pipeline) == 2


def test_a_memoryview_counts_in_octets() -> None:
    assert encode(memoryview(array("I", [1, 2]))).startswith(b"*1\r\n$8\r\n")
    assert encode(memoryview(b"abcdef")[::2]) == b"*1\r\n$3\r\nace\r\n"


@pytest.mark.parametrize("value", [None, True, False, [1], {"a": 1}, object()], ids=repr)
def test_what_is_no_argument_is_refused(value: Any) -> None:
    redis = Redis()
    for arguments in ((value,), ("k", value), (value, "v"), ("k", "v", value)):
        with pytest.raises(TypeError, match="expected bytes, text or a number"):
            redis.command("SET", *arguments)
    assert redis.pending == 0


@pytest.mark.parametrize("name", ["", "CONFIG GET", " GET", "GÉT", b"\xff", "A\r\nB"])
def test_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="expected the name of a command"):
        Redis().command(name)


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="expected the name of a command, got 7"):
        Redis().command(7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("SUBSCRIBE", "subscribe()"),
        (b"psubscribe", "subscribe()"),
        ("Multi", "transaction()"),
        ("EXEC", "transaction()"),
        ("SELECT", "clone"),
        ("AUTH", "password"),
        ("HELLO", "protocol"),
        ("WATCH", "watch()"),
        ("QUIT", "close()"),
        ("MONITOR", "not supported"),
    ],
)
def test_commands_that_break_a_shared_connection_are_refused(name: Any, instead: str) -> None:
    for target in (Redis(), Redis().pipeline()):
        with pytest.raises(ValueError, match=instead.replace("(", r"\(").replace(")", r"\)")):
            target.command(name, "x")


def test_client_reply_is_refused_and_other_client_commands_are_not() -> None:
    pipeline = Redis().pipeline()
    pipeline.command("CLIENT", "ID")
    for word in ("REPLY", b"reply"):
        with pytest.raises(ValueError, match="CLIENT REPLY"):
            pipeline.command("CLIENT", word, "OFF")
    assert len(pipeline) == 1


def test_made_up_names_are_not_remembered_for_ever() -> None:
    pipeline = Redis().pipeline()
    for number in range(3000):
        pipeline.command(f"X{number}")
    assert len(pipeline) == 3000
