"""Every callback, and what may be done inside it.

For each callback of a handle there is a scenario that makes it run; each is combined with each
action on the handle itself. Whatever the pair: the callback runs as often as it should, nothing
else is called after a destroy, no exception but the test's own reaches the hook, and the loop is
alive afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
import ae_socket
from ae_core.testing import Trace, virtual_time
from ae_handle import Chunk, Handle, NetString
from ae_handle.testing import MemoryStream, end_lingering, memory_pair


class World:
    """One handle, its peer, and a record of what happens."""

    def __init__(self, trace: Trace, certificates: Any, action: Callable[[World, Handle], None]):
        self.trace = trace
        self.certificates = certificates
        self.act = action
        self.handles: list[Handle] = []
        self.name = ""
        self.done = 0

    def callback(self, name: str) -> Callable[..., None]:
        """Return a callback that records itself and does the action the first time."""
        self.name = name

        def called(h: Handle, *args: Any) -> None:
            self.trace(name)
            self.done += 1
            if self.done == 1:
                self.act(self, h)
                self.trace("action done")

        return called

    def other(self, name: str) -> Callable[..., None]:
        return lambda h, *args: self.trace(name)

    def make(self, stream: Any = None, **options: Any) -> Handle:
        for name in ("on_error", "on_eof"):
            options.setdefault(name, self.other(name))
        h = Handle(stream, **options)
        self.handles.append(h)
        return h


def _ignore(h: Handle, *args: Any) -> None:
    return None


def push_read_callback(world: World) -> MemoryStream:
    ours, peer = memory_pair()
    h = world.make(ours)
    h.push_read("line", world.callback("line"))
    h.push_read("line", world.other("second"))
    peer.send(b"1\n2\n3\n")
    return peer


def read_each_callback(world: World) -> MemoryStream:
    ours, peer = memory_pair()
    world.make(ours).read_each("line", world.callback("line"))
    peer.send(b"1\n2\n3\n")
    return peer


def reader(world: World) -> MemoryStream:
    ours, peer = memory_pair()
    h = world.make(ours)
    called = world.callback("reader")

    def read(buf: Any) -> Any:
        called(h)
        return buf.take(len(buf))

    h.push_read(read, world.other("value"))
    peer.send(b"1\n2\n")
    return peer


def on_read(world: World) -> MemoryStream:
    ours, peer = memory_pair()
    called = world.callback("on_read")

    def consume(h: Handle) -> None:
        h.read_buffer.take(1)
        called(h)

    world.make(ours, on_read=consume)
    peer.send(b"1\n2\n")
    return peer


def on_eof(world: World) -> MemoryStream:
    ours, peer = memory_pair()
    world.make(ours, on_eof=world.callback("on_eof"), watch_eof=True)
    peer.send(b"1\n2\n")
    peer.shutdown(1)
    return peer


def on_drain(world: World) -> MemoryStream:
    ours, peer = memory_pair()
    h = world.make(ours, on_drain=world.callback("on_drain"))
    h.push_write(b"x")
    peer.send(b"1\n2\n")
    return peer


def on_error(world: World) -> MemoryStream:
    ours, peer = memory_pair()
    h = world.make(ours, on_error=world.callback("on_error"))
    h.push_read(Chunk(100), world.other("chunk"))
    peer.send(b"1\n2\n")
    peer.shutdown(1)
    return peer


def on_error_not_fatal(world: World) -> MemoryStream:
    ours, peer = memory_pair()
    h = world.make(ours, on_error=world.callback("on_error"))
    h.push_read(NetString(), world.other("netstring"))
    peer.send(b"x\n2\n")
    return peer


def on_timeout(world: World) -> MemoryStream:
    ours, peer = memory_pair()
    world.make(ours, timeout=1, on_timeout=world.callback("on_timeout"))
    peer.send(b"1\n2\n")
    return peer


def on_tls_started(world: World) -> MemoryStream:
    ours, peer = memory_pair()
    other = world.make(peer, on_error=_ignore, on_eof=_ignore)
    other.start_tls("accept", world.certificates.server())
    other.push_write(b"1\n2\n")
    world.make(
        ours,
        tls="connect",
        tls_context=world.certificates.client(),
        peer_name="peer.test",
        on_tls_started=world.callback("on_tls_started"),
    )
    return peer


def on_tls_failed(world: World) -> MemoryStream:
    ours, peer = memory_pair()
    world.make(
        ours,
        tls="accept",
        tls_context=world.certificates.server(),
        on_tls_started=world.callback("on_tls_started"),
    )
    peer.send(b"no TLS at all")
    return peer


def on_tls_stopped(world: World) -> MemoryStream:
    ours, peer = memory_pair()
    other = world.make(peer, on_error=_ignore, on_eof=_ignore)
    other.start_tls("accept", world.certificates.server())
    other.stop_tls()
    other.push_write(b"1\n2\n")
    world.make(
        ours,
        tls="connect",
        tls_context=world.certificates.client(),
        peer_name="peer.test",
        on_tls_stopped=world.callback("on_tls_stopped"),
    )
    return peer


def connecting(world: World, monkeypatch: pytest.MonkeyPatch, **options: Any) -> MemoryStream:
    ours, peer = memory_pair()
    condvar: ae.CondVar[Any] = ae.CondVar()

    def tcp_connect(
        host: str, service: Any, connected: Any, on_prepare: Any = None, **rest: Any
    ) -> Any:
        def answer() -> None:
            if on_prepare is not None:
                on_prepare(ours)
            if condvar.ready:
                return
            if "on_connect_error" in options:
                condvar.throw(ConnectionRefusedError(111, "refused"))
                return
            connected(ours, "host", 1, lambda: condvar)
            condvar.send(ours)

        ae.postpone(answer)
        return condvar

    monkeypatch.setattr(ae_socket, "tcp_connect", tcp_connect)
    world.make(connect=("peer.test", 1), **options)
    peer.send(b"1\n2\n")
    return peer


SCENARIOS: dict[str, Callable[..., MemoryStream]] = {
    f.__name__: f
    for f in (
        push_read_callback,
        read_each_callback,
        reader,
        on_read,
        on_eof,
        on_drain,
        on_error,
        on_error_not_fatal,
        on_timeout,
        on_tls_started,
        on_tls_failed,
        on_tls_stopped,
    )
}
CONNECTING = ("on_prepare", "on_connect", "on_connect_error")
FAILED = ("on_error", "on_tls_failed", "on_connect_error")  # the handle is beyond use there


def destroy(world: World, h: Handle) -> None:
    h.destroy()


def push_read(world: World, h: Handle) -> None:
    h.push_read("line", world.other("pushed"))


def unshift_read(world: World, h: Handle) -> None:
    h.unshift_read("line", world.other("unshifted"))


def push_write(world: World, h: Handle) -> None:
    h.push_write(b"written")


def start_tls(world: World, h: Handle) -> None:
    if h.tls is None:
        h.start_tls("accept", world.certificates.server())


def clear(world: World, h: Handle) -> None:
    h.clear_callbacks()


def set_to_none(world: World, h: Handle) -> None:
    if world.name.startswith("on_"):
        setattr(h, world.name, None)
    else:
        h.on_read = None


def throw(world: World, h: Handle) -> None:
    raise RuntimeError("the test's own")


def stop(world: World, h: Handle) -> None:
    h.stop_read()


def shut(world: World, h: Handle) -> None:
    h.push_shutdown()


def forget(world: World, h: Handle) -> None:
    world.handles.clear()


ACTIONS = (
    destroy,
    push_read,
    unshift_read,
    push_write,
    start_tls,
    set_to_none,
    throw,
    clear,
    stop,
    shut,
    forget,
)


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)
@pytest.mark.parametrize("scenario", [*SCENARIOS, *CONNECTING])
def test_every_action_is_allowed_in_every_callback(
    unbound: None,
    trace: Trace,
    certificates: Any,
    monkeypatch: pytest.MonkeyPatch,
    scenario: str,
    action: Callable[[World, Handle], None],
) -> None:
    hooked: list[str] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: hooked.append(str(error)))
    with virtual_time() as clock:
        world = World(trace, certificates, action)
        if scenario in CONNECTING:
            peer = connecting(world, monkeypatch, **{scenario: world.callback(scenario)})
        else:
            peer = SCENARIOS[scenario](world)
        assert trace == []  # nothing is called inside a call
        clock.advance(1.5)

        after = list(trace)
        acted = after.index("action done") if "action done" in after else len(after)
        assert after[0] == world.name or scenario == "on_tls_failed"
        if action is throw:
            assert hooked[0] == "the test's own"
            assert set(hooked) <= {"the test's own", "the stream ended inside a request"}
        elif action is forget and scenario == "on_tls_stopped":
            # the peer had something to say in clear, and is forgotten as well
            assert len(hooked) == 1
            assert hooked[0].startswith("4 bytes to ")
        else:
            assert hooked == []
            assert "action done" in after
        if action is destroy:
            assert after[acted + 1 :] == []
            assert world.handles[-1].is_destroyed
        elif scenario in FAILED:
            assert "pushed" not in after
            assert "unshifted" not in after
        elif action is unshift_read and scenario in ("push_read_callback", "read_each_callback"):
            assert after[acted + 1] == "unshifted"
        elif action is push_write and scenario not in ("on_tls_started", "on_tls_stopped"):
            assert b"written" in peer.recv(100)

        alive = ae.CondVar[None]()
        ae.postpone(alive)
        alive.recv(1)
        for h in world.handles:
            h.linger = 0
            h.destroy()
        end_lingering()
        del world
