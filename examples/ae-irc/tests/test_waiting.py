"""Who waits for an event, or for the client, and is cancelled."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
import ae_irc as irc
from ae_irc import Client
from ae_irc.testing import FakeServer

Make = Callable[..., Client]


def test_who_is_cancelled_while_waiting_for_an_event_loses_none(
    fake: FakeServer, client: Make
) -> None:
    anna = client()

    async def limited(events: irc.Events, seconds: float | None) -> str:
        async with ae.timeout(seconds):
            event = await anext(events)
        assert isinstance(event, irc.Text)
        return event.text

    async def main() -> list[str]:
        await anna.registered()
        events = anna.events()
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await limited(events, 0.01)
        fake.say(*(f":x!u@h PRIVMSG anna :{n}" for n in range(3)))
        return [await limited(events, None) for _ in range(3)]

    assert ae.run(main()) == ["0", "1", "2"]


def test_an_event_that_was_delivered_and_not_taken_comes_again(
    fake: FakeServer, client: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = client()
    anna.registered().recv()
    events = anna.events()
    original = irc.Events._put

    def put(events: irc.Events, event: irc.Event) -> None:
        waits = bool(events._waiting)
        original(events, event)
        if waits:  # its awaiter does not have it yet
            task.cancel()

    async def take() -> irc.Event:
        return await anext(events)

    monkeypatch.setattr(irc.Events, "_put", put)
    task = ae.spawn(take())
    ae.sleep(0).recv()
    fake.say(*(f":x!u@h PRIVMSG anna :{n}" for n in range(3)))
    with pytest.raises(ae.CancelledError):
        task.recv()
    got = [events.next().recv() for _ in range(3)]
    assert [event.text for event in got if isinstance(event, irc.Text)] == ["0", "1", "2"]


def test_who_waits_no_more_for_an_event_is_forgotten(fake: FakeServer, client: Make) -> None:
    events = client().events()
    waiting = [events.next() for _ in range(3)]
    forgotten = [weakref.ref(each) for each in waiting]
    while waiting:
        waiting.pop().cancel()
    assert [each() for each in forgotten] == [None] * 3


@pytest.mark.parametrize("begin", ["registered", "drained", "join"])
def test_who_waits_no_more_does_not_keep_a_client_alive(fake: FakeServer, begin: str) -> None:
    fake.answer = lambda client, message: message.command in ("USER", "JOIN")
    silent = irc.Client(fake.url, nick="anna", attempts=None)
    silent.send("X")  # waits for the end of the greeting
    waiting: ae.CondVar[Any] = getattr(silent, begin)(*(["#a"] if begin == "join" else []))
    while not fake.clients:
        ae.sleep(0.001).recv()
    assert not waiting.ready
    waiting.cancel()
    del silent, waiting
    gc.collect()
    while fake.clients:
        ae.sleep(0.001).recv()
