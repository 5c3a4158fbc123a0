"""A signal handler that raises inside ``recv()``: the loop goes on, whatever it struck."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals of POSIX")

# A process of its own: the handler is process-wide, and may strike in the test tools as well.
PROGRAM = """
import os, random, signal
import ae_core as ae

class Limit(Exception):
    pass

armed = False

def handler(*_):
    global armed
    if armed:
        armed = False
        raise Limit

ae.use(BACKEND)
ae.exception_hook = lambda error, watcher: None
signal.signal(signal.SIGALRM, handler)
dice = random.Random(26)
seen = set()
reading, writing = os.pipe()
watcher = ae.io(reading, "r", lambda: (os.read(reading, 100), seen.add("file")))
heart = ae.timer(0, lambda: seen.add("beat"), interval=0.0005)
for _ in range(300):
    signal.setitimer(signal.ITIMER_REAL, dice.uniform(0.0003, 0.002))
    armed = True
    try:
        ae.sleep(0.005).recv(timeout=30)
    except Limit:
        pass
    armed = False
signal.setitimer(signal.ITIMER_REAL, 0)
seen.clear()
ae.postpone(lambda: seen.add("postponed"))
ae.call_threadsafe(lambda: seen.add("call"))
os.write(writing, b"x")
for _ in range(1000):
    ae.sleep(0.001).recv(timeout=30)
    if len(seen) == 4:
        break
print("goes on:", *sorted(seen))
"""


@pytest.mark.parametrize("backend_name", ["loop", "asyncio", "libev", "gevent"])
def test_timers_calls_and_files_go_on_after_an_alarm_has_raised(
    backend_name: str, script: Callable[..., str]
) -> None:
    if backend_name in ("libev", "gevent") and find_spec("gevent") is None:
        pytest.skip("gevent is not installed")
    output = script(PROGRAM.replace("BACKEND", repr(backend_name)))
    assert output.splitlines()[-1] == "goes on: beat call file postponed"
