"""Arguments of the wrong kind, and calls at the wrong time: each is an error that says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any

import pytest

import ae_core as ae


async def nothing() -> None:
    return None


@pytest.mark.parametrize(
    ("make", "bad", "kind", "text"),
    [
        (ae.Channel, "3", TypeError, "expected a number of items or None, got '3'"),
        (ae.Channel, True, TypeError, "expected a number of items or None, got True"),
        (ae.Channel, 0, ValueError, "expected room for 1 item or more, got 0"),
        (ae.Semaphore, "3", TypeError, "expected a number of permits, got '3'"),
        (ae.Semaphore, False, TypeError, "expected a number of permits, got False"),
        (ae.Semaphore, 0, ValueError, "expected 1 permit or more, got 0"),
        (ae.to_thread, 3, TypeError, "expected a callable, got 3"),
    ],
)
def test_arguments_of_the_wrong_kind_are_refused(
    make: Callable[[Any], object], bad: object, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        make(bad)


def test_what_is_to_be_told_of_a_refusal_must_be_callable() -> None:
    with pytest.raises(TypeError, match="on_refused: expected a callable or None, got 3"):
        ae.io(0, "r", print, on_refused=3)  # type: ignore[arg-type]


def test_a_semaphore_that_is_released_too_often_says_so() -> None:
    semaphore = ae.Semaphore(2)
    semaphore.acquire()
    semaphore.release()
    with pytest.raises(ValueError, match="more often than acquired"):
        semaphore.release()
    assert repr(semaphore) == "<Semaphore, 2 of 2 free, 0 waiting>"


def test_the_first_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="never has a value"):
        ae.first()


@pytest.mark.parametrize("combine", [ae.gather, ae.first])
def test_a_combination_with_something_else_starts_none_of_its_coroutines(
    combine: Callable[..., object],
) -> None:
    coroutine = nothing()
    with pytest.raises(TypeError, match="expected operations or coroutine objects, got 3"):
        combine(ae.CondVar(), coroutine, 3)
    with pytest.raises(RuntimeError, match="cannot reuse"):
        coroutine.send(None)


def test_a_task_group_is_for_one_block() -> None:
    async def main() -> None:
        group = ae.TaskGroup()
        async with group:
            with pytest.raises(RuntimeError, match="for one block"):
                await group.__aenter__()
        with pytest.raises(RuntimeError, match="for one block"):
            await group.__aenter__()

    ae.run(main())


def test_a_task_group_in_a_coroutine_that_nothing_drives_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"ae\.TaskGroup\(\)"):
        ae.TaskGroup().__aenter__().send(None)


def noted(coroutine: Coroutine[Any, Any, Any], kind: type[BaseException]) -> str:
    """Return what is noted at the error of a coroutine that awaits something foreign."""
    with pytest.raises(kind) as caught:
        ae.run(coroutine)
    return "\n".join(caught.value.__notes__)


@pytest.mark.skipif(find_spec("twisted") is None, reason="needs Twisted")
def test_who_awaits_a_deferred_is_told_how() -> None:
    from twisted.internet.defer import Deferred

    async def main() -> None:
        await Deferred()

    assert "await ae_core.as_condvar(deferred)" in noted(main(), TypeError)


def test_who_awaits_a_future_of_asyncio_is_told_to_choose_its_loop() -> None:
    loop = asyncio.new_event_loop()

    async def main() -> None:
        await asyncio.Future(loop=loop)

    assert "ae_core.use('asyncio')" in noted(main(), TypeError)
    loop.close()
