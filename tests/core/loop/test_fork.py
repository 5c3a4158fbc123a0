"""After ``os.fork()``: the child begins afresh, the parent is unharmed."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

if not hasattr(os, "fork"):
    pytest.skip("needs fork", allow_module_level=True)

PRELUDE = """
    import os, signal, socket, sys
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    import ae_core as ae

    def forked(child):
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                child()
                status = 0
            finally:
                sys.stdout.flush()
                os._exit(status)
        return pid

    def ended(pid):
        done = ae.CondVar()
        with ae.child(pid, done):
            print("child ended", done.recv()[1])
"""
backends = pytest.mark.parametrize("name", ["loop", "asyncio"])


@backends
def test_the_child_has_a_loop_of_its_own(script: Callable[..., str], name: str) -> None:
    program = (
        PRELUDE
        + """
    left, right = socket.socketpair()
    calls = []
    io = ae.io(right, "r", lambda: calls.append(right.recv(1)))
    timer = ae.timer(0.001, lambda: calls.append("timer"))
    theirs = ae.detect()

    def child():
        print(ae.backend(), io.active, timer.active)
        left.send(b"x")
        ae.sleep(0.01).recv()
        print(calls, ae.detect() is theirs)
        try:
            with io:
                print("entered")
        except ae.WrongLoop as error:
            print("ended" in str(error))
        io.cancel()
        timer.cancel()

    ended(forked(child))
    while len(calls) < 2:
        ae.sleep(0.001).recv()
    print(sorted(map(str, calls)), ae.detect() is theirs)
    """
    )
    assert script(program, AE_BACKEND=name) == (
        "None False False\n[] False\nTrue\nchild ended 0\n[\"b'x'\", 'timer'] True\n"
    )


def test_the_epoll_set_of_the_parent_survives_the_child(script: Callable[..., str]) -> None:
    # both see one set in the kernel: a deletion in the child would be the parent's
    program = (
        PRELUDE
        + """
    left, right = socket.socketpair()
    calls = []
    watcher = ae.io(right, "r", lambda: calls.append(right.recv(1)))
    ae.sleep(0).recv()

    def child():
        global watcher
        watcher.cancel()
        del watcher
        with ae.io(left, "w", lambda: None):
            ae.sleep(0).recv()

    ended(forked(child))
    left.send(b"x")
    while not calls:
        ae.sleep(0.001).recv()
    print(calls)
    """
    )
    assert script(program, AE_BACKEND="loop") == "child ended 0\n[b'x']\n"


def test_a_fork_inside_a_callback_inside_recv(script: Callable[..., str]) -> None:
    # not on asyncio, which takes itself to be running in such a child
    program = (
        PRELUDE
        + """
    done = ae.CondVar()
    def callback():
        def child():
            print("child", ae.backend())
            ae.sleep(0).recv()
            print("child", ae.backend())
            os.kill(os.getpid(), signal.SIGINT)
        pid = os.fork()
        if pid == 0:
            try:
                child()
            except KeyboardInterrupt:
                print("child interrupted")
            sys.stdout.flush()
            os._exit(0)
        done.send(pid)
    with ae.timer(0, callback):
        pid = done.recv()
    ended(pid)
    print("parent", ae.backend())
    """
    )
    assert script(program) == (
        "child None\nchild loop\nchild interrupted\nchild ended 0\nparent loop\n"
    )


def test_signal_handlers_are_given_back_in_the_child(script: Callable[..., str]) -> None:
    program = (
        PRELUDE
        + """
    calls = []
    watcher = ae.signal("USR1", lambda: calls.append("signal"))
    def child():
        print(signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL, signal.set_wakeup_fd(-1))
        with ae.signal("USR1", lambda: print("child signal")):
            os.kill(os.getpid(), signal.SIGUSR1)
            ae.sleep(0.001).recv()
    ended(forked(child))
    os.kill(os.getpid(), signal.SIGUSR1)
    while not calls:
        ae.sleep(0.001).recv()
    print(calls)
    """
    )
    assert script(program) == "True -1\nchild signal\nchild ended 0\n['signal']\n"


def test_children_of_the_parent_are_not_the_childs(script: Callable[..., str]) -> None:
    program = (
        PRELUDE
        + """
    done = ae.CondVar()
    other = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 5"], os.environ)
    watcher = ae.child(other, done)
    def child():
        print(watcher.active)
        try:
            ae.child(other, print)
        except ChildProcessError as error:
            print("no child" in str(error))
    ended(forked(child))
    print(done.recv()[1])
    """
    )
    assert script(program) == "False\nTrue\nchild ended 0\n1280\n"


def test_condition_variables_and_tasks_of_the_parent_are_harmless(
    script: Callable[..., str],
) -> None:
    program = (
        PRELUDE
        + """
    cv = ae.CondVar()
    async def task():
        return await cv
    spawned = ae.spawn(task())
    ae.sleep(0).recv()
    def child():
        cv.send(1)
        print(cv.recv(), ae.backend())
        spawned.cancel()
    ended(forked(child))
    cv.send(2)
    print(spawned.recv())
    """
    )
    assert script(program) == "1 None\nchild ended 0\n2\n"


def test_twenty_generations(script: Callable[..., str]) -> None:
    program = (
        PRELUDE
        + """
    def generation(number):
        ae.sleep(0.0001).recv()
        if number:
            pid = forked(lambda: generation(number - 1))
            done = ae.CondVar()
            with ae.child(pid, done):
                assert done.recv()[1] == 0
    generation(20)
    print(len(os.listdir("/proc/self/fd")) < 20)
    """
    )
    assert script(program) == "True\n"
