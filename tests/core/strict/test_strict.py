"""Strict mode's checks: STRICT-01 to STRICT-06, B39."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import signal
import socket
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

import ae_core as ae
from ae_core import strict

pytestmark = pytest.mark.usefixtures("fresh_logs", "strict_mode")
posix = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")


def nothing() -> None:
    """A callback."""


# Arguments


def wrong_arguments() -> Iterator[Any]:
    def case(call: Callable[[socket.socket], object], error: type, text: str) -> Any:
        return pytest.param(call, error, text, id=text)

    yield case(lambda s: ae.io(s, "r", None), TypeError, "expected a callable, got None")  # type: ignore[arg-type]
    yield case(lambda s: ae.io(s, "x", nothing), ValueError, 'expected "r" or "w", got \'x\'')  # type: ignore[arg-type]
    yield case(lambda s: ae.io("fd", "r", nothing), TypeError, "got 'fd'")  # type: ignore[arg-type]
    yield case(lambda s: ae.io(None, "r", nothing), TypeError, "got None")  # type: ignore[arg-type]
    yield case(lambda s: ae.io(-1, "r", nothing), ValueError, "got -1")
    yield case(lambda s: ae.io(s, "r", lambda w: w), TypeError, "takes no arguments")  # type: ignore[arg-type, misc]
    yield case(lambda s: ae.io(s, "r", nothing, poll=1), TypeError, "poll")  # type: ignore[call-arg]
    yield case(lambda s: ae.timer(1, 2), TypeError, "expected a callable, got 2")  # type: ignore[arg-type]
    yield case(lambda s: ae.timer("1", nothing), TypeError, "got '1'")  # type: ignore[arg-type]
    yield case(lambda s: ae.timer(float("nan"), nothing), ValueError, "nan")
    yield case(lambda s: ae.timer(1, nothing, interval=-1), ValueError, "-1")
    yield case(lambda s: ae.timer(nothing), TypeError, "missing")  # type: ignore[call-arg, arg-type]
    yield case(lambda s: ae.signal("INTR", nothing), ValueError, "INTR")
    yield case(lambda s: ae.signal(0, nothing), ValueError, "0")
    yield case(lambda s: ae.signal("TERM", "x"), TypeError, "got 'x'")  # type: ignore[arg-type]
    yield case(lambda s: ae.child("1", lambda pid, status: None), TypeError, "got '1'")  # type: ignore[arg-type]
    yield case(lambda s: ae.child(1, nothing), TypeError, "takes (pid, status)")  # type: ignore[arg-type]
    yield case(lambda s: ae.idle("x"), TypeError, "got 'x'")  # type: ignore[arg-type]
    yield case(lambda s: ae.CondVar("x"), TypeError, "got 'x'")  # type: ignore[arg-type]
    yield case(lambda s: ae.time(1), TypeError, "takes 0 positional")  # type: ignore[call-arg]
    yield case(lambda s: ae.now(1), TypeError, "takes 0 positional")  # type: ignore[call-arg]


@pytest.mark.parametrize(("call", "error", "text"), [*wrong_arguments()])
def test_wrong_argument_is_named_by_the_call(
    call: Callable[[Any], object], error: type[Exception], text: str, pair: Any
) -> None:
    with pytest.raises(error, match=re.escape(text)):
        call(pair[0])


class Callable0:
    def __call__(self) -> None:
        """Called."""


def decorated() -> Callable[[], None]:
    def needs_one(value: int) -> None:
        """What functools.wraps() shows, but not what is called."""

    @functools.wraps(needs_one)
    def wrapper(*args: int) -> None:
        needs_one(1)

    return wrapper


@pytest.mark.parametrize(
    "callback",
    [
        nothing,
        lambda: None,
        lambda *args: None,
        lambda x=1: x,
        functools.partial(print, "x"),
        Callable0(),
        Callable0().__call__,
        decorated(),
        Mock(),
        time.time,
        dict,
        ae.CondVar,
        pytest.param(None, id="condvar"),
    ],
)
def test_whatever_can_be_called_is_accepted(callback: Any) -> None:
    watcher = ae.timer(1, callback or ae.CondVar())
    assert watcher.active


@pytest.mark.parametrize(("after", "interval"), [(-1, 0), (0, 0.0), (-1e9, 5), (0, 1)])
def test_accepted_times(after: float, interval: float) -> None:
    assert ae.timer(after, nothing, interval=interval).active


@pytest.mark.parametrize("number", ["TERM", int(signal.SIGTERM), signal.SIGTERM])
def test_accepted_signals(number: Any) -> None:
    assert ae.signal(number, nothing).active


@pytest.mark.skipif(os.name == "nt", reason="files and sockets have numbers of their own")
def test_regular_file_is_refused_by_object_and_by_number(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w") as file:
        for fd in (file, file.fileno()):
            for direction in ("r", "w"):
                with pytest.raises(ValueError, match="a regular file is always ready"):
                    ae.io(fd, direction, nothing)


@posix
@pytest.mark.parametrize("name", [os.devnull, "/dev/zero"])
def test_devices_are_no_regular_files(name: str) -> None:
    with open(name, "rb", buffering=0) as file:
        assert ae.io(file, "r", nothing).active


@posix
def test_descriptor_that_is_not_open_is_refused(pair: Any) -> None:
    fd = os.dup(pair[0].fileno())
    os.close(fd)
    with pytest.raises(ValueError, match=f"expected an open descriptor, got {fd}"):
        ae.io(fd, "r", nothing)
    closed = socket.socket()
    closed.close()
    with pytest.raises(ValueError, match="expected an open descriptor"):
        ae.io(closed, "r", nothing)


def test_end_below_zero_is_an_error() -> None:
    cv = ae.CondVar[None]()
    with pytest.raises(RuntimeError, match=r"end\(\) without"):
        cv.end()


# On and off


def test_only_later_watchers_are_checked() -> None:
    strict.disable()
    assert not strict.enabled()
    loose = ae.timer(1, lambda needed: None)  # type: ignore[arg-type, misc]
    strict.enable()
    strict.enable()
    assert strict.enabled()
    with pytest.raises(TypeError):
        ae.timer(1, lambda needed: None)  # type: ignore[arg-type, misc]
    strict.disable()
    strict.disable()
    assert ae.timer(1, lambda needed: None).active  # type: ignore[arg-type, misc]
    assert loose.active


def test_off_means_not_even_imported(python: Any) -> None:
    done = python(
        "import sys, ae_core as ae\n"
        "t = ae.timer(0, lambda: None); ae.sleep(0).recv()\n"
        "print([m for m in sys.modules if m.startswith('ae_core.') and\n"
        "       any(w in m for w in ('strict', 'watchdog', 'debug', 'logs', 'aids'))])\n"
        "print(ae._layers.active)\n"
    )
    assert done.stdout == "[]\nNone\n", done.stderr


@pytest.mark.parametrize(("value", "on"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_environment_switches_it_on_for_the_first_watcher(
    value: str, on: bool, python: Any
) -> None:
    done = python(
        "import ae_core as ae\n"
        "try: ae.timer(1, lambda needed: None)\n"
        "except TypeError: print('refused')\n"
        "print(ae.strict.enabled() if 'strict' in dir(ae) else False)\n",
        AE_STRICT=value,
    )
    assert done.stdout.splitlines()[:1] == (["refused"] if on else ["False"]), done.stderr


def test_switched_on_twice_checks_once(python: Any) -> None:
    done = python(
        "import ae_core as ae\nae.strict.enable()\nae.idle(print)\n",
        AE_STRICT="1",
    )
    assert done.stderr.count("StrictWarning") == 1, done.stderr


def test_ignored_environment_leaves_it_off(python: Any) -> None:
    done = python(
        "import ae_core as ae\nw = ae.timer(1, lambda needed: None); print('made')\n",
        "-E",
        AE_STRICT="1",
    )
    assert done.stdout == "made\n"


def test_watcher_is_the_usual_one_and_keeps_nothing_alive() -> None:
    class Owner:
        def callback(self) -> None:
            """Called."""

    owner = Owner()
    gone = weakref.ref(owner)
    watcher = ae.timer(1, owner.callback)
    assert watcher.callback == owner.callback
    plain = nothing
    assert ae.timer(1, plain).callback is plain
    del watcher, owner
    assert gone() is None


def test_error_in_a_callback_goes_to_the_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[BaseException, Any]] = []
    done = ae.CondVar[None]()

    def hook(error: BaseException, watcher: Any) -> None:
        seen.append((error, watcher))
        done.send()

    def fail() -> None:
        raise LookupError("x")

    monkeypatch.setattr(ae, "exception_hook", hook)
    watcher = ae.timer(0, fail)
    done.recv()
    ((error, reported),) = seen
    assert isinstance(error, LookupError)
    assert reported == watcher
    assert reported.callback is fail
    assert "fail" in repr(reported)


# Watchers thrown away


def drop_timer() -> None:
    ae.timer(1, nothing)  # dropped: timer


def drop_idle() -> None:
    ae.idle(nothing)  # dropped: idle


def drop_signal() -> None:
    ae.signal("INT", nothing)  # dropped: signal


def drop_io() -> None:
    one, two = socket.socketpair()
    with one, two:
        ae.io(one, "r", nothing)  # dropped: io


def drop_with_stars() -> None:
    ae.timer(*(1, nothing), interval=1.0)  # dropped: timer


def drop_over_lines() -> None:
    (
        ae.timer(  # dropped: timer
            1,
            nothing,
        )
    )


def drop_in_a_loop() -> None:
    for _ in range(1):
        ae.timer(1, nothing)  # dropped: timer


def drop_through_partial() -> None:
    functools.partial(ae.timer, 1, nothing)()  # dropped: timer


@pytest.mark.parametrize(
    "function",
    [
        drop_timer, drop_idle, drop_signal, drop_io, drop_with_stars, drop_over_lines,
        drop_in_a_loop, drop_through_partial,
    ],
)  # fmt: skip
def test_watcher_dropped_by_its_own_expression_warns_there(function: Callable[[], None]) -> None:
    code = function.__code__
    source = Path(__file__).read_text(encoding="utf-8").splitlines()
    at = next(n for n in range(code.co_firstlineno, len(source)) if "# dropped" in source[n - 1])
    kind = source[at - 1].rpartition(" ")[2]
    with pytest.warns(strict.StrictWarning, match=f"the {kind} watcher is dropped") as caught:
        function()
    ours = [w for w in caught if w.category is strict.StrictWarning]
    assert [(w.filename, w.lineno) for w in ours] == [(__file__, at)]


def test_watchers_that_are_kept_do_not_warn() -> None:
    def make() -> Any:
        return ae.timer(1, nothing)

    kept: Any = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            kept = ae.timer(1, nothing)
            kept = ae.timer(2, nothing)
        kept = [ae.timer(1, nothing) for _ in range(3)]
        kept = {1: ae.idle(nothing)}
        kept.update({2: ae.idle(nothing)})
        kept = []
        kept.append(ae.timer(1, nothing))
        kept.extend(map(ae.idle, [nothing, nothing]))
        kept = make()
        make()  # what a function returns is its own affair
        kept = (ae.timer(1, nothing), 1)
        with ae.timer(1, nothing):
            kept = None
        with ae.timer(1, nothing) as entered:
            kept = entered
        kept = ae.timer(1, nothing) or 1
        kept = lambda: ae.timer(1, nothing)  # noqa: E731
        kept()
        ae.timer(1, nothing).cancel()
        if not (kept := ae.timer(1, nothing)):
            kept = None
        del kept


def test_end_of_the_program_is_no_dropping(python: Any) -> None:
    done = python(
        "import ae_core as ae, builtins\n"
        "builtins.kept = kept = []\n"
        "kept.extend(map(ae.idle, [print] * 3))\n"
        "loose = []\n"
        "loose.extend(map(ae.idle, [print] * 3))\n",
        AE_STRICT="1",
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_silenced_warning_is_silent() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore", strict.StrictWarning)
        drop_timer()
    assert caught == []


@pytest.mark.usefixtures("unbound")
def test_asyncio_program_is_checked_too() -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="takes no arguments"):
            ae.timer(0, lambda needed: None)  # type: ignore[arg-type, misc]
        await ae.sleep(0)

    asyncio.run(main())
    assert sys.exc_info() == (None, None, None)
