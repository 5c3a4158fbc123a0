"""A forked child runs nothing of its parent's, however it ends, on every backend."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec

import pytest

if not hasattr(os, "fork"):
    pytest.skip("POSIX only", allow_module_level=True)

NEEDS = {
    "loop": None,
    "asyncio": None,
    "libev": "gevent",
    "gevent": "gevent",
    "twisted": "twisted",
    "glib": "gi",
    "qt": "PyQt6",
    "tk": "tkinter",
}

PROGRAM = """\
    import gc, os, socket, sys, tempfile, threading
    import ae_core as ae

    ae.use(os.environ["BACKEND"])
    how = os.environ["HOW"]
    parent = os.getpid()

    def say(what):
        if os.getpid() != parent:
            os.write(1, f"in the child: {what}\\n".encode())

    async def session():
        try:
            await ae.CondVar()
        finally:
            say("finally")

    async def outer():
        try:
            await ae.spawn(session())
        finally:
            say("finally of the outer one")

    ae.spawn(outer()).on_ready(lambda task: say("on_ready"))
    held = ae.spawn(session())
    held.on_ready(lambda task: say("on_ready"))
    guard = ae.Guard(lambda: say("guard"))
    unseen = ae.CondVar()
    unseen.throw(ValueError("never looked at"))
    watchers = [
        ae.timer(0, lambda: say("timer"), interval=0.001),
        ae.signal("USR1", lambda: say("signal")),
        ae.idle(lambda: say("idle")),
    ]
    one, two = socket.socketpair()
    two.send(b"x")
    watchers.append(ae.io(one, "r", lambda: say("io")))
    ae.postpone(lambda: say("postponed"))
    program = ae.run_cmd("read x; exit 5", stdin=lambda: b"")
    gate, go = os.pipe()
    waiting = ae.run_cmd("read x; exit 6", fds={0: gate})
    if how != "at once":
        ae.sleep(0.01).recv()
    pid = os.fork()
    if not pid:
        if how == "collected":
            del held, guard, unseen, program, waiting
            watchers.clear()
            gc.collect()
        if how == "with a loop":
            ae.use("loop")
            ae.sleep(0.01).recv()
            gc.collect()
        if how == "exit":
            sys.exit(7)
        if how == "thread":
            threading.Thread(target=sys.exit).start()
    else:
        assert os.waitpid(pid, 0)[1] == (7 << 8 if how == "exit" else 0)
        # what both had works as before
        called = ae.CondVar()
        thread = threading.Timer(0.01, lambda: ae.call_threadsafe(called))
        thread.start()
        called.recv(30)
        assert program.recv(30) == 5 << 8
        os.write(go, b"x\\n")
        assert waiting.recv(30) == 6 << 8
        assert not held.ready
        unseen.error
        print("parent goes on", flush=True)
        os._exit(0)
"""


@pytest.mark.parametrize("how", ["end", "at once", "exit", "collected", "with a loop", "thread"])
@pytest.mark.parametrize("name", NEEDS)
def test_nothing_of_the_parents_runs_in_the_child(
    script: Callable[..., str], name: str, how: str
) -> None:
    needs = NEEDS[name]
    if needs is not None and find_spec(needs) is None:
        pytest.skip(f"needs {needs}")
    said = script(PROGRAM, BACKEND=name, HOW=how, QT_QPA_PLATFORM="offscreen")
    assert said == "parent goes on\n"


def test_a_program_under_way_is_no_matter_of_a_child_that_exits(
    script: Callable[..., str],
) -> None:
    said = script(
        """
        import os, sys
        import ae_core as ae

        process = ae.run_cmd("read x", stdin=lambda: b"")
        if not os.fork():
            sys.exit(0)
        os.wait()
        print(process.recv(30))
        """
    )
    assert said == "256\n"


def test_a_thread_with_a_loop_of_its_own_is_left_alone_by_a_fork(
    script: Callable[..., str],
) -> None:
    said = script(
        """
        import gc, os, threading
        import ae_core as ae

        ready, go, done = threading.Event(), threading.Event(), threading.Event()
        parent = os.getpid()

        async def session():
            try:
                await ae.CondVar()
            finally:
                if os.getpid() != parent:
                    os.write(1, b"in the child: finally\\n")

        def work():
            cv = ae.CondVar()
            kept = ae.spawn(session()), ae.timer(60, print)
            called = ae.detect().call_threadsafe
            threading.Thread(target=lambda: (go.wait(), called(cv.send))).start()
            ae.postpone(ready.set)
            cv.recv()
            done.set()

        threading.Thread(target=work, daemon=True).start()
        ready.wait()
        pid = os.fork()
        if not pid:
            gc.collect()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        go.set()
        assert done.wait(30)
        os.write(1, b"the thread goes on\\n")
        os._exit(0)
        """
    )
    assert said == "the thread goes on\n"
