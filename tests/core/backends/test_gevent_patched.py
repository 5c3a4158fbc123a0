"""Programs that gevent has patched, before they import us or afterwards.

Then ``threading`` makes greenlets, and each of them has an identity, storage and locks of its own.
What we promise of threads is about those of the system all the same.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from textwrap import dedent
from types import ModuleType, SimpleNamespace

import pytest

import ae_core as ae
from ae_core._async import thread_pool
from ae_core._base import thread_identity

# not imported, which would be a sign for detection in other tests
pytestmark = pytest.mark.skipif(find_spec("gevent") is None, reason="gevent is not installed")

PATCH = "from gevent import monkey; monkey.patch_all()\n"
OURS = "import os, signal, subprocess, sys, time, gevent\nimport ae_core as ae\n"
REST = """
from ae_core import debug, files, logs, strict

thread_ident = monkey.get_original("_thread", "get_ident")
block = monkey.get_original("time", "sleep")

def in_greenlet(function):
    return gevent.spawn(function).get()

"""


@pytest.fixture(params=["before", "after"])
def patched(request: pytest.FixtureRequest, script: Callable[..., str]) -> Callable[..., str]:
    """Run a program that is patched before, or after, it imports ``ae_core``."""
    head = PATCH + OURS if request.param == "before" else OURS + PATCH

    def run(code: str, **environment: str) -> str:
        return script(head + REST + dedent(code), **environment)

    return run


def test_each_greenlet_of_the_main_thread_is_in_it(patched: Callable[..., str]) -> None:
    output = patched("""
        print(ae.detect().name)
        cv = ae.CondVar()
        waits = [gevent.spawn(cv.recv) for _ in range(3)]
        gevent.sleep(0)
        in_greenlet(lambda: cv.send(5))
        print([wait.get() for wait in waits])
        in_greenlet(in_greenlet(lambda: ae.timer(0.01, print)).cancel)

        def signalled():
            hit = ae.CondVar()
            watcher = ae.signal("USR1", hit.send)
            os.kill(os.getpid(), signal.SIGUSR1)
            return hit.recv(timeout=20)

        print(in_greenlet(signalled))
        print(in_greenlet(lambda: ae.call_threadsafe(lambda: 7)).result(timeout=20))
        """)
    assert output.splitlines() == ["gevent", "[5, 5, 5]", "None", "7"]


def test_another_thread_is_another_one(patched: Callable[..., str]) -> None:
    output = patched("""
        cv = ae.CondVar()
        ae.sleep(0).recv()
        threads = gevent.get_hub().threadpool

        def send():
            try:
                cv.send(1)
            except RuntimeError as error:
                return "another thread" in str(error)

        print(threads.spawn(send).get())
        calls = [threads.spawn(lambda: ae.call_threadsafe(lambda: 8).result(timeout=20))
                 for _ in range(100)]
        print({call.get() for call in calls})
        """)
    assert output.splitlines() == ["True", "{8}"]


def test_no_thread_has_to_import_what_another_one_uses_first(patched: Callable[..., str]) -> None:
    # gevent's locks are the import's, too: two threads that import may wait for each other
    output = patched("print(ae.gather is not None, ae._LAZY.keys() <= vars(ae).keys())")
    assert output == "True True\n"


def test_what_blocks_runs_in_a_thread_while_greenlets_go_on(patched: Callable[..., str]) -> None:
    # a step of a coroutine runs in the hub, which cannot wait for a greenlet to begin
    output = patched("""
        import tempfile

        fifo = os.path.join(tempfile.mkdtemp(), "fifo")
        os.mkfifo(fifo)

        def work():
            go.acquire()
            time.sleep(0.001)  # gevent's: makes a hub in this thread
            return thread_ident()

        async def main():
            opening = files.open(fifo, os.O_WRONLY)
            working = ae.to_thread(work)
            for _ in range(10):
                await ae.sleep(0.001)
            print(opening.ready, working.ready)
            os.close(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))
            go.release()
            os.close(await opening)
            print(await working != thread_ident())
            print(await ae.to_thread(in_greenlet, os.getpid) == os.getpid())

        go = monkey.get_original("_thread", "allocate_lock")()
        go.acquire()
        ae.run(main())
        """)
    assert output.splitlines() == ["False False", "True", "True"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_the_hub_that_a_function_has_made_ends_with_its_thread(
    patched: Callable[..., str],
) -> None:
    output = patched("""
        from ae_core._async import thread_pool

        def descriptors():
            ae.to_thread(time.sleep, 0.001).recv()
            thread_pool.shutdown()
            return len(os.listdir("/proc/self/fd"))

        print(descriptors() == descriptors())
        """)
    assert output.splitlines() == ["True"]


def test_what_was_started_is_finished_at_exit(patched: Callable[..., str]) -> None:
    output = patched("""
        ae.to_thread(lambda: (block(0.1), time.sleep(0.001), print("finished", flush=True)))
        """)
    assert output == "finished\n"


def test_strict_mode_sees_a_callback_while_it_blocks(patched: Callable[..., str]) -> None:
    output = patched(
        """
        seen = []

        def blocks():
            for _ in range(2000):
                if seen:
                    return
                block(0.01)

        logs.ctx("ae_core.strict").log_callback(lambda text: seen.append(text) or True)
        timer = ae.timer(0, blocks)
        in_greenlet(lambda: ae.sleep(0.01).recv())
        print("is here now" in seen[0], "in blocks" in seen[0])
        """,
        AE_STRICT="1",
        AE_STRICT_SLOW="0.05",
    )
    assert output.splitlines() == ["True True"]


def test_a_log_callback_that_waits_loses_no_message_of_other_greenlets(
    patched: Callable[..., str],
) -> None:
    output = patched("""
        got = []

        def slow(text):
            gevent.sleep(0.001)
            got.append(text)
            return True

        logs.ctx("app").log_callback(slow)
        gevent.joinall([gevent.spawn(ae.log, "error", "%d", n, context="app") for n in range(5)])
        print(len(got))
        """)
    assert output == "5\n"


def test_workers_of_fork_call_are_ended_in_the_loop(patched: Callable[..., str]) -> None:
    output = patched("""
        from ae_core._fork_call import pool

        pool.IDLE = 0.01
        print([each.recv() for each in [ae.fork_call(abs, -n) for n in range(2)]])
        try:
            with gevent.Timeout(0.001):
                ae.fork_call(time.sleep, 30).recv()
        except gevent.Timeout:
            print("given up")
        ps = ["pgrep", "-P", str(os.getpid()), "python"]
        while subprocess.run(ps, stdout=subprocess.DEVNULL).returncode == 0:
            ae.sleep(0.001).recv()
        """)
    assert output.splitlines() == ["[0, 1]", "given up"]


def test_a_lock_between_threads_is_the_threads_and_not_a_greenlets(
    patched: Callable[..., str],
) -> None:
    output = patched("""
        lock = ae.abc.ThreadLock()

        def take():
            taken = lock.acquire(blocking=False)
            if taken:
                lock.release()
            return taken

        with lock:
            print(in_greenlet(take), gevent.get_hub().threadpool.spawn(take).get())
        print(in_greenlet(take), gevent.get_hub().threadpool.spawn(take).get())
        """)
    assert output.splitlines() == ["True False", "True True"]


def test_a_thread_that_is_made_is_one_of_the_systems_until_it_has_ended(
    patched: Callable[..., str],
) -> None:
    output = patched("""
        from ae_core._base import thread_identity

        go = monkey.get_original("_thread", "allocate_lock")()
        go.acquire()
        thread = ae.abc.make_thread(go.acquire, name="waits")
        thread.start()
        print(thread.is_alive())
        go.release()
        thread.join()
        print(thread.is_alive())

        def refuse(*_):
            raise RuntimeError("can't start new thread")

        thread_identity.start_new_thread = refuse
        thread = ae.abc.make_thread(print, name="never")
        try:
            thread.start()
        except RuntimeError as error:
            print(error, thread.is_alive())
        """)
    assert output.splitlines() == ["True", "False", "can't start new thread False"]


def test_a_thread_is_refused_where_eventlet_would_make_it_a_greenlet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    eventlet = ModuleType("eventlet.patcher")
    eventlet.is_monkey_patched = lambda module: module == "thread"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "eventlet.patcher", eventlet)
    thread_pool.shutdown()
    with pytest.raises(RuntimeError, match="eventlet has replaced"):
        ae.to_thread(int)


def test_a_descriptor_is_closed_at_once_and_not_in_a_later_turn_of_the_hub(
    patched: Callable[..., str],
) -> None:
    output = patched("""
        from ae_core._base.closing import close_descriptor

        gevent.sleep(0)  # there is a hub
        r, w = os.pipe()
        close_descriptor(r)
        try:
            os.write(w, b"x")
        except BrokenPipeError:
            print("closed")
        """)
    assert output == "closed\n"


def test_the_stack_is_the_thread_s_while_the_interpreter_goes_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def getcurrent() -> object:
        raise RuntimeError("greenlet is being finalized")

    monkeypatch.setitem(sys.modules, "greenlet", SimpleNamespace(getcurrent=getcurrent))
    assert thread_identity.this_stack() == thread_identity.get_ident()
