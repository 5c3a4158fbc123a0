"""Futures of asyncio and Deferreds of Twisted: outcomes, and cancelling in both directions."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import ae_core as ae
from ae_core._detection.table import BACKENDS, BackendSpec
from ae_core.abc import Backend
from ae_core.testing import Trace

EXCLUSIVE = [spec for spec in BACKENDS if spec.exclusive]
PATIENCE = 30.0


@pytest.mark.parametrize("spec", EXCLUSIVE, ids=lambda spec: spec.name)
def test_deferreds_on_a_backend_that_owns_the_process(
    spec: BackendSpec, in_own_process: Callable[..., None]
) -> None:
    in_own_process(spec, "-k", "deferred and not owns", __file__)


# ---------------------------------------------------------------------- asyncio


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def outcomes_of_operations() -> None:
    one, two, three = ae.CondVar[str](), ae.CondVar[str](), ae.CondVar[str]()
    futures = [each.as_future() for each in (one, two, three)]
    one.send("one")
    two.throw(ValueError("two"))
    three.cancel()
    assert await futures[0] == "one"
    with pytest.raises(ValueError, match="two"):
        await futures[1]
    with pytest.raises(asyncio.CancelledError):
        await futures[2]
    assert futures[2].cancelled()
    done = one.as_future()
    assert not done.done()
    assert await asyncio.wait_for(done, PATIENCE) == "one"


async def cancelled_futures() -> None:
    trace: list[str] = []
    operation: ae.CondVar[str] = ae.CondVar(cancel=lambda: trace.append("cancelled"))
    operation.as_future().cancel()
    await turns(2)
    assert operation.cancelled
    assert trace == ["cancelled"]
    shared: ae.CondVar[str] = ae.CondVar(cancel=lambda: trace.append("too much"))
    kept = shared.as_future()
    shared.as_future().cancel()
    await turns(2)
    shared.send("kept")
    assert await kept == "kept"
    meeting_point: ae.CondVar[str] = ae.CondVar()
    meeting_point.as_future().cancel()
    await turns(2)
    assert not meeting_point.ready
    late = meeting_point.as_future()
    meeting_point.send("late")
    late.cancel()  # it has a value, and nobody takes it
    await turns(2)
    assert trace == ["cancelled"]


async def outcomes_of_futures() -> None:
    loop = asyncio.get_running_loop()
    one, two, three = loop.create_future(), loop.create_future(), loop.create_future()
    operations = [ae.as_condvar(each) for each in (one, two, three)]
    one.set_result("one")
    two.set_exception(ValueError("two"))
    three.cancel()
    assert not operations[0].ready
    assert await operations[0] == "one"
    with pytest.raises(ValueError, match="two"):
        await operations[1]
    with pytest.raises(asyncio.CancelledError):
        await operations[2]
    assert operations[2].cancelled
    assert await ae.as_condvar(one) == "one"

    async def forever() -> None:
        await asyncio.sleep(3600)

    task = asyncio.create_task(forever())
    ae.as_condvar(task).cancel()
    await turns(3)
    assert task.cancelled()


CASES = [outcomes_of_operations, cancelled_futures, outcomes_of_futures]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_futures_of_asyncio(
    case: Callable[[], Coroutine[Any, Any, None]], backend: Backend
) -> None:
    if backend.name not in ("asyncio", "uvloop", "tornado"):
        with pytest.raises(RuntimeError, match="no running event loop"):
            ae.CondVar[None]().as_future()
        return
    ae.run(case())


@pytest.mark.usefixtures("unbound")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_futures_in_a_loop_of_asyncios_own(case: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(case())


# ---------------------------------------------------------------------- Twisted


@pytest.fixture
def defer() -> Any:
    return pytest.importorskip("twisted.internet.defer", reason="needs Twisted")


@pytest.mark.blocking
def test_a_deferred_has_the_outcome_of_an_operation(
    backend: Backend, defer: Any, trace: Trace
) -> None:
    one, two, three = ae.CondVar[str](), ae.CondVar[str](), ae.CondVar[str]()
    for each in (one, two, three):
        deferred = each.as_deferred()
        deferred.addCallbacks(trace, lambda failure: trace(failure.type.__name__))
    one.send("one")
    two.throw(ValueError("two"))
    three.cancel()
    assert trace == ["one", "ValueError", "CancelledError"]  # as on_ready
    one.as_deferred().addCallback(trace)
    assert len(trace) == 3
    trace.run_until(4)
    assert trace[3] == "one"


@pytest.mark.blocking
def test_cancelling_a_deferred_gives_the_operation_up(
    backend: Backend, defer: Any, trace: Trace
) -> None:
    operation: ae.CondVar[str] = ae.CondVar(cancel=lambda: trace("cancelled"))
    deferred = operation.as_deferred()
    deferred.addErrback(lambda failure: trace(failure.type.__name__))
    deferred.cancel()
    assert operation.cancelled
    shared: ae.CondVar[str] = ae.CondVar(cancel=lambda: trace("too much"))
    shared.as_deferred().addCallback(trace)
    given_up = shared.as_deferred()
    given_up.addErrback(lambda failure: None)
    given_up.cancel()
    shared.send("kept")
    trace.run_until(3)
    assert sorted(trace) == ["CancelledError", "cancelled", "kept"]


@pytest.mark.blocking
def test_an_operation_has_the_outcome_of_a_deferred(backend: Backend, defer: Any) -> None:
    one, two, three = defer.Deferred(), defer.Deferred(), defer.Deferred()
    operations = [ae.as_condvar(each) for each in (one, two, three)]
    one.callback("one")
    two.errback(ValueError("two"))
    three.cancel()
    assert not operations[0].ready
    assert operations[0].recv(PATIENCE) == "one"
    with pytest.raises(ValueError, match="two"):
        operations[1].recv(PATIENCE)
    with pytest.raises(ae.CancelledError):
        operations[2].recv(PATIENCE)
    assert ae.as_condvar(defer.succeed("done")).recv(PATIENCE) == "done"


@pytest.mark.blocking
def test_cancelling_the_operation_cancels_the_deferred(
    backend: Backend, defer: Any, trace: Trace, capfd: pytest.CaptureFixture[str]
) -> None:
    deferred = defer.Deferred(lambda _: trace("cancelled"))
    operation = ae.as_condvar(deferred)
    operation.cancel()
    assert trace == ["cancelled"]
    ae.sleep(0).recv(PATIENCE)
    del deferred, operation
    gc.collect()
    assert "Unhandled" not in capfd.readouterr().err
