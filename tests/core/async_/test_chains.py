"""Condition variables that are sent in the callbacks of others: when the callbacks run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise

import pytest

import ae_core as ae
from ae_core._async.notifier import DEEPEST
from ae_core.testing import Trace


def chain(
    length: int, link: Callable[[ae.CondVar[int], ae.CondVar[int]], None]
) -> list[ae.CondVar[int]]:
    links: list[ae.CondVar[int]] = [ae.CondVar() for _ in range(length)]
    for one, next_one in pairwise(links):
        one.on_ready(lambda one, next_one=next_one: link(one, next_one))  # type: ignore[misc]
    return links


@pytest.mark.parametrize("length", [3000, 100_000])
def test_a_chain_of_any_length_is_ready_when_its_first_send_returns(length: int) -> None:
    links = chain(length, lambda one, next_one: next_one.send(one.recv() + 1))
    links[0].send(1)
    assert links[-1].recv() == length


def test_an_error_and_a_cancellation_pass_through_a_chain_as_well() -> None:
    errors = chain(3000, lambda one, next_one: next_one.throw(one.error or KeyError("none")))
    errors[0].throw(ValueError("of a test"))
    assert str(errors[-1].error) == "of a test"
    cancelled = chain(3000, lambda one, next_one: next_one.cancel())
    cancelled[0].cancel()
    assert cancelled[-1].cancelled
    groups = chain(3000, lambda one, next_one: next_one.end())
    for each in groups:
        each.begin()
    groups[0].end()
    assert groups[-1].ready


def test_a_send_in_a_callback_calls_back_before_it_returns(trace: Trace) -> None:
    outer, inner = ae.CondVar[None](), ae.CondVar[None]()
    inner.on_ready(lambda cv: trace("inner"))

    def call(cv: ae.CondVar[None]) -> None:
        inner.send()
        trace("inner has returned")

    outer.on_ready(call)
    outer.send()
    trace("outer has returned")
    assert trace == ["inner", "inner has returned", "outer has returned"]


def test_so_does_each_send_down_to_the_fiftieth_of_a_chain() -> None:
    called: list[int] = []
    early: list[int] = []
    numbers: dict[int, int] = {}

    def link(one: ae.CondVar[int], next_one: ae.CondVar[int]) -> None:
        number = numbers[id(next_one)]
        called.append(number)
        next_one.send(number)
        if number < 199 and number + 1 not in called:
            early.append(number)

    links = chain(200, link)
    numbers.update((id(each), number) for number, each in enumerate(links))
    links[0].send(0)
    assert called == list(range(1, 200))
    assert early
    assert min(early) >= DEEPEST - 1


def test_an_interrupt_deep_in_a_chain_leaves_when_all_have_been_called(trace: Trace) -> None:
    def link(one: ae.CondVar[int], next_one: ae.CondVar[int]) -> None:
        next_one.send(one.recv() + 1)
        if one.recv() == 500:
            raise SystemExit(3)

    links = chain(1000, link)
    with pytest.raises(SystemExit):
        links[0].send(1)
    assert links[-1].recv() == 1000
    again = chain(1000, lambda one, next_one: next_one.send(one.recv() + 1))
    again[0].send(1)
    assert again[-1].recv() == 1000


def test_threads_have_chains_of_their_own() -> None:
    ends: list[int] = []

    def work() -> None:
        for _ in range(20):
            links = chain(500, lambda one, next_one: next_one.send(one.recv() + 1))
            links[0].send(1)
            ends.append(links[-1].recv())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == [500] * 80
