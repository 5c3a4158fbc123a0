"""Guard: a clean-up that runs once, when the guard goes away."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

import ae_core as ae


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    seen: list[BaseException] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: seen.append(error))
    return seen


def test_runs_when_it_is_dropped() -> None:
    ran: list[str] = []
    guard = ae.Guard(lambda: ran.append("ran"))
    assert ran == []
    del guard
    assert ran == ["ran"]


def test_runs_at_the_end_of_with_and_not_again() -> None:
    ran: list[str] = []
    with ae.Guard(lambda: ran.append("ran")) as guard:
        assert ran == []
    assert ran == ["ran"]
    del guard
    assert ran == ["ran"]


def test_runs_when_the_with_block_raises() -> None:
    ran: list[str] = []
    with pytest.raises(KeyError):
        with ae.Guard(lambda: ran.append("ran")):
            raise KeyError("x")
    assert ran == ["ran"]


def test_does_not_run_after_cancel() -> None:
    ran: list[str] = []
    guard = ae.Guard(lambda: ran.append("ran"))
    guard.cancel()
    guard.cancel()
    with guard:
        pass
    del guard
    assert ran == []


@pytest.mark.parametrize("kind", [ValueError, ae.CancelledError, GeneratorExit])
def test_what_it_raises_is_reported_and_swallowed(
    errors: list[BaseException], kind: type[BaseException]
) -> None:
    error = kind("x")

    def fail() -> None:
        raise error

    guard = ae.Guard(fail)
    del guard
    assert errors == [error]
    with ae.Guard(fail):
        pass
    assert errors == [error, error]


def test_a_guard_in_a_cycle_runs_when_it_is_collected() -> None:
    ran: list[str] = []

    class Node:
        guard: ae.Guard
        me: Node

    node = Node()
    node.me = node
    node.guard = ae.Guard(lambda: ran.append("ran"))
    del node
    assert ran == []
    gc.collect()
    assert ran == ["ran"]


def test_cancel_lets_the_callback_go() -> None:
    class Probe:
        def __call__(self) -> None:
            raise AssertionError

        def __del__(self) -> None:
            gone.append(True)

    gone: list[bool] = []
    guard = ae.Guard(Probe())
    guard.cancel()
    assert gone == [True]


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a callable, got 3"):
        ae.Guard(3)  # type: ignore[arg-type]


AT_EXIT = """
import ae_core as ae
import sys

class Late:
    def __init__(self, name): self.name = name
    def __call__(self): print(self.name, sys.version_info >= (3, 11)); sys.stdout.flush()

one = ae.Guard(Late("one"))
two = ae.Guard(Late("two"))
three = ae.Guard(Late("three"))
three.cancel()
cycle = [one]; cycle.append(cycle)
"""


def test_runs_at_interpreter_exit_youngest_first() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "two True\none True\n"
    assert done.stderr == ""


FORK = """
import ae_core as ae
import os

parent = os.getpid()
guard = ae.Guard(lambda: print("parent" if os.getpid() == parent else "child", flush=True))
pid = os.fork()
if pid == 0:
    raise SystemExit(0)
os.waitpid(pid, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_run_its_parents_guards() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "parent\n"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_leaves_the_block(
    errors: list[BaseException], kind: type[BaseException]
) -> None:
    def interrupt() -> None:
        raise kind

    with pytest.raises(kind):
        with ae.Guard(interrupt):
            pass
    assert errors == []


def test_its_repr_tells_the_callback_until_it_has_run() -> None:
    guard = ae.Guard(print)
    assert repr(guard) == f"<Guard {print!r}>"
    guard.cancel()
    assert repr(guard) == "<Guard inactive>"
