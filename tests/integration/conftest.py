"""Running a whole-stack scenario on each backend, with names that only our own servers know."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

import ae_core as ae
import ae_dns
import ae_socket
from ae_dns.testing import NameServer
from ae_handle.testing import end_lingering

T = TypeVar("T")
Scenario = Callable[[], Coroutine[Any, Any, T]]
LIMIT = 60.0
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def _on_built_in_loop(scenario: Scenario[T]) -> T:
    ae.use("loop")
    return ae.run(scenario())


def _on_asyncio_below(scenario: Scenario[T]) -> T:
    ae.use("asyncio")
    return ae.run(scenario())


def _inside_asyncio(scenario: Scenario[T]) -> T:
    return asyncio.run(scenario())


WAYS = {"loop": _on_built_in_loop, "asyncio": _on_asyncio_below, "in-asyncio": _inside_asyncio}


@pytest.fixture(params=WAYS)
def run(request: pytest.FixtureRequest) -> Callable[[Scenario[Any]], Any]:
    """Return a function that runs a scenario to its end in a thread bound to one backend."""
    way = WAYS[request.param]

    def run_in_thread(scenario: Scenario[Any]) -> Any:
        outcome: list[Any] = []

        async def bounded() -> Any:
            task = ae.spawn(scenario())
            limit = ae.timer(LIMIT, task.cancel)
            try:
                return await task
            finally:
                limit.cancel()
                end_lingering()  # the loop ends with the scenario, and what it still owns with it

        def body() -> None:
            try:
                outcome.append((way(bounded), None))
            except BaseException as error:
                outcome.append((None, error))

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        value, error = outcome[0]
        if error is not None:
            raise error
        return value

    return run_in_thread


@pytest.fixture
def names() -> Iterator[Callable[..., NameServer]]:
    """Return a function that starts a name server and makes it the one that sockets ask."""

    def install(*records: str) -> NameServer:
        server = NameServer(records)
        resolver = ae_dns.Resolver(servers=[server.endpoint], search=[], timeouts=(2, 5))
        ae_dns.set_resolver(resolver)
        ae_dns.install()
        return server

    yield install
    ae_socket.set_resolver(None)
    ae_dns.set_resolver(None)


@pytest.fixture
def on_examples_path(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the examples importable; return where they are."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return EXAMPLES
