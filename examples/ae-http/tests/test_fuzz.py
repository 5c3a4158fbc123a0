"""Whatever a server sends, in whatever pieces: an answer or a typed error, in time."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ae_core as ae
import ae_http
from ae_core.testing import leak_check, virtual_time
from ae_handle.testing import MemoryStream, memory_pair
from ae_http import Client, HttpError

HEADS = [
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 404 Not Found\r\n",
    b"HTTP/1.1 204\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: /x\r\n",
    b"HTTP/1.1 103 Early\r\n",
    b"HTTP/1.1 101 Switching\r\n",
    b"HTTP/1.1 407 Proxy\r\n",
]
FIELDS = [
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Connection: close\r\n",
    b"Keep-Alive: timeout=1\r\n",
    b"A: b\r\n c\r\n",
]
BODIES = [
    b"hello",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"0\r\nT: r\r\n\r\n",
    gzip.compress(b"hello"),
    b"\r\n",
]
WIRE = st.lists(
    st.sampled_from([*HEADS, *FIELDS, *BODIES, b"\r\n"]) | st.binary(max_size=8), max_size=12
).map(b"".join)
PIECES = st.lists(WIRE, max_size=5)


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A message with some octets changed, left out or doubled."""
    start = draw(st.sampled_from(HEADS)) + b"".join(
        draw(st.lists(st.sampled_from(FIELDS), max_size=4))
    )
    wire = bytearray(start + b"\r\n" + draw(st.sampled_from(BODIES)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(wire) - 1))
        wire[at : at + 1] = draw(st.sampled_from([b"", b"\r\n", b"\0", b"9", b" ", b"\xff", b"xx"]))
        if not wire:
            break
    return bytes(wire)


def outcome_of(asked: ae.CondVar[Any]) -> object:
    """Return the response, the body of the stream, or the error."""
    try:
        result = asked.recv(timeout=200)
        if isinstance(result, ae_http.ResponseStream):
            with result:
                return result.read_all().recv(timeout=200)
        return result
    except HttpError as error:
        return error


@pytest.fixture
def surprises(monkeypatch: pytest.MonkeyPatch, unbound: None) -> list[BaseException]:
    """What was raised in callbacks, which is where our own code runs."""
    seen: list[BaseException] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: seen.append(error))
    return seen


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sent=PIECES | st.lists(broken(), max_size=4),
    ending=st.sampled_from(["close", "reset", "silence"]),
    how=st.sampled_from(["whole", "stream", "callback", "upload"]),
    pipeline=st.sampled_from([1, 3]),
    proxy=st.booleans(),
)
def test_every_request_ends(
    surprises: list[BaseException],
    sent: list[bytes],
    ending: str,
    how: str,
    pipeline: int,
    proxy: bool,
) -> None:
    with virtual_time(), leak_check():
        far: list[MemoryStream] = []
        watchers: list[Any] = []

        def connector(host: str, port: int) -> ae.CondVar[Any]:
            near, end = memory_pair()
            far.append(end)
            pieces = iter(sent)

            def answer() -> None:
                try:
                    end.recv(65536)
                except OSError:
                    return
                piece = next(pieces, None)
                if piece is not None:
                    try:
                        end.send(piece)
                    except OSError:
                        watcher.cancel()  # the client has gone
                    return
                watcher.cancel()
                if ending == "close":
                    end.close()
                elif ending == "reset":
                    near.break_off(104)

            watcher = end.watch("r", answer)
            watchers.append(watcher)
            done: ae.CondVar[Any] = ae.CondVar()
            done.send(near)
            return done

        through = "http://p" if proxy else None
        client = Client(
            connector=connector,
            timeout=30,
            read_timeout=7,
            connect_timeout=5,
            max_connections=1,
            pipeline=pipeline,
            proxy=through,
        )
        url = "https://a/" if proxy else "http://a/"
        asked: list[ae.CondVar[Any]] = []
        for _ in range(3):
            if how == "stream":
                asked.append(client.stream("GET", url))
            elif how == "upload":
                asked.append(client.post(url, iter([b"one", b"two"])))
            elif how == "callback":
                asked.append(client.get(url, on_data=lambda piece: None))
            else:
                asked.append(client.get(url))
        for each in asked:
            outcome = outcome_of(each)
            assert isinstance(outcome, (ae_http.Response, bytes, HttpError))
            assert not isinstance(outcome, HttpError) or (str(outcome) and outcome.phase)
        client.close()
        for watcher in watchers:
            watcher.cancel()
        for end in far:
            end.close()
        ae.sleep(20).recv()
    assert surprises == []
