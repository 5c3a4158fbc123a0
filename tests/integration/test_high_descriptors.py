"""Loops that wait by select() and more than 1024 open files: refused in good order."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

resource = pytest.importorskip("resource", reason="on Windows select() counts sockets")

# What each of them does when its descriptors are above the limit.
PROGRAM = """
import asyncio, errno, os, resource, selectors, socket
import ae_core as ae
from ae_handle import Handle, TransportError
from ae_socket import tcp_connect, tcp_server

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
hook = []
ae.exception_hook = lambda error, watcher: hook.append(error)
BIND
ae.sleep(0.001).recv()
ae.fork_call  # imported
held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]

ours, theirs = socket.socketpair()
try:
    watcher = ae.io(ours, "r", print)
    ae.sleep(0.01).recv()
    error = hook.pop()
except OSError as refusal:
    error = refusal
print("io", errno.errorcode[error.errno], "limit is 1023" in str(error))

def outcome(what, operation):
    try:
        print(what, operation.recv(60))
    except OSError as error:
        print(what, errno.errorcode[error.errno])

outcome("handle", Handle(ours).push_read("line"))
outcome("run_cmd", ae.run_cmd("echo hi", stdout=bytearray()))
server = tcp_server("127.0.0.1", 0, print)
ae.sleep(0.01).recv()
print("server", *(errno.errorcode[error.errno] for error in hook))
del hook[:]
with socket.create_server(("127.0.0.1", 0)) as listening:
    socket.socket.connect_ex = lambda *_: errno.EINPROGRESS
    outcome("connect", tcp_connect("127.0.0.1", listening.getsockname()[1]))
pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 3"], os.environ)
ended = ae.CondVar()
child = ae.child(pid, lambda pid, status: ended.send(status))
outcome("child", ended)
done = ae.CondVar()
with ae.timer(0.01, done.send):
    outcome("timer", done)
print(hook)
theirs.close()
"""
OUTCOMES = [
    "io EMFILE True",
    "handle EMFILE",
    "run_cmd EMFILE",
    "server EMFILE",
    "connect EMFILE",
    "child 768",  # by a thread
    "timer None",
    "[]",
]
BINDINGS = {
    "tk": ("tkinter", 'ae.use("tk")'),
    "loop-select": ("select", 'ae.use("loop", multiplexer="select")'),
    "asyncio-select": (
        "asyncio",
        """
def factory():
    return asyncio.SelectorEventLoop(selectors.SelectSelector())

ae.use("asyncio", loop_factory=factory)
""",
    ),
    "twisted-select": (
        "twisted",
        """
from twisted.internet import selectreactor
selectreactor.install()
ae.use("twisted")
""",
    ),
}


@pytest.mark.skipif(sys.platform == "win32", reason="there select() counts sockets")
@pytest.mark.parametrize("loop", BINDINGS)
def test_a_descriptor_above_the_limit_of_select_ends_what_it_was_for(
    loop: str, script: Callable[..., str]
) -> None:
    library, binding = BINDINGS[loop]
    pytest.importorskip(library)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < 1200:
        pytest.skip(f"the system gives {hard} descriptors")
    if loop == "tk":
        tkinter = pytest.importorskip("_tkinter")
        if tuple(map(int, tkinter.TCL_VERSION.split("."))) >= (8, 7):
            pytest.skip("this Tcl has no limit")
    output = script(PROGRAM.replace("BIND", binding))
    assert output.splitlines() == OUTCOMES


def test_a_tk_loop_made_above_the_limit_is_refused(script: Callable[..., str]) -> None:
    pytest.importorskip("tkinter")
    output = script("""
        import os, resource
        import ae_core as ae

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
        held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
        ae.use("tk")
        try:
            ae.detect()
        except OSError as error:
            print(error)
        for fd in held:
            os.close(fd)
        ae.sleep(0.001).recv()
        print(ae.backend())
        """)
    first, second = output.splitlines()
    assert first.endswith("its limit is 1023")
    assert second == "tk"
