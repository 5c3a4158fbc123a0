"""Each system call that the packages make fails once, in each way it can, on each backend.

A scenario is run untouched first, for its calls to be counted. Then it runs again for each call and
each way to fail: the call number *k*, or also the next of its kind, raises that error, or does less
than it was asked. Each run
ends with a result or one error of a documented kind, leaves no descriptor, watcher or child behind,
and the loop goes on: all of them run in one loop.
"""

from __future__ import annotations

import errno
import os
import random
import re
import signal
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import ae_core as ae
import ae_dns
from ae_core._detection.table import BACKENDS, BackendSpec
from ae_core.testing import LeakCheck
from ae_dns.testing import NameServer
from ae_handle import Handle, HandleError
from ae_handle.testing import end_lingering
from ae_socket import _binding, tcp_connect, tcp_server, udp_endpoint
from ae_tls import Context
from ae_tls.testing import CertificateAuthority

if sys.platform == "win32":
    pytest.skip("POSIX only", allow_module_level=True)

LOST = ("ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH", "ENOBUFS", "ENOMEM")
LATER = ("EAGAIN", "EINTR")
#: How each call can fail; "short" does less than it was asked, "end" finds the stream at its end.
WAYS: dict[str, tuple[str, ...]] = {
    "socket": ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EACCES"),
    "connect_ex": ("ECONNREFUSED", "ENETUNREACH", "EADDRNOTAVAIL", "EPERM", *LOST),
    "connect": ("ECONNREFUSED", "ENETUNREACH", "EADDRNOTAVAIL", *LOST),
    "accept": ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED", "EPERM", "EPROTO", *LATER),
    "recv": ("short", "end", *LOST, *LATER),
    "recv_into": ("short", "end", *LOST, *LATER),
    "recvfrom": (*LOST, "ECONNREFUSED", *LATER),
    "send": ("short", "EPIPE", *LOST, *LATER),
    "sendto": ("EPERM", "EMSGSIZE", "ECONNREFUSED", *LOST, *LATER),
    "bind": ("EADDRINUSE", "EACCES", "EADDRNOTAVAIL"),
    "listen": ("EADDRINUSE",),
    "getsockname": ("ENOBUFS",),
    "getpeername": ("ENOTCONN", "ENOBUFS"),
    "getsockopt": ("ENOBUFS",),
    "setsockopt": ("ENOMEM", "EINVAL"),
    "shutdown": ("ENOTCONN", "ENOBUFS"),
    "io_start": ("ENOSPC", "ENOMEM"),
    "read": ("short", "end", "EIO", *LATER),
    "write": ("short", "EPIPE", "EIO", *LATER),
    "pipe": ("EMFILE", "ENFILE"),
    "posix_spawn": ("EAGAIN", "ENOMEM", "ENOENT", "EACCES"),
    "pidfd_open": ("EMFILE", "ENOSYS", "EPERM"),
    "waitpid": ("ECHILD",),
    "waitid": ("ECHILD",),
}  # fmt: skip
OF_OS = ("read", "write", "pipe", "posix_spawn", "pidfd_open", "waitpid", "waitid")
LIMIT = 3.0


class Fault(NamedTuple):
    """Which calls fail, and how."""

    call: str
    way: str
    numbers: range


class Calls:
    """Stands in front of the system calls of the packages, counts them and makes one fail."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.fault: Fault | None = None

    def begin(self, fault: Fault | None) -> None:
        self.counts.clear()
        self.fault = fault

    def wrap(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            module = sys._getframe(1).f_globals.get("__name__", "")
            if (
                not module.startswith("ae_")
                or module.endswith(".testing")
                or (name == "socket" and ("fileno" in options or len(arguments) > 4))  # no call
            ):
                return original(*arguments, **options)
            self.counts[name] += 1
            fault = self.fault
            if fault is None or fault.call != name or self.counts[name] not in fault.numbers:
                return original(*arguments, **options)
            return self.fail(name, fault.way, original, arguments)

        return call

    @staticmethod
    def fail(name: str, way: str, original: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if way == "end":
            return 0 if name == "recv_into" else b""
        if way == "short":
            first, second, *rest = arguments
            less = second[:1] if name in ("send", "write") else 1
            if name == "recv_into":
                less = memoryview(second)[:1]
                rest = []
            return original(first, less, *rest)
        number = getattr(errno, way)
        if way == "ECHILD":  # somebody else has waited for it
            waitpid(arguments[name == "waitid"], 0)
        if name == "connect_ex":
            return number
        raise OSError(number, os.strerror(number))

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in WAYS:
            owner: Any = os if name in OF_OS else socket.socket
            if name == "io_start":
                owner = ae.detect()
            elif name == "accept":
                owner = _binding._BoundSocket
            elif name == "socket":
                init = socket.socket.__init__
                monkeypatch.setattr(socket.socket, "__init__", self.wrap(name, init))
                continue
            monkeypatch.setattr(owner, name, self.wrap(name, getattr(owner, name)))


@pytest.fixture(scope="module")
def contexts() -> tuple[Context, Context]:
    authority = CertificateAuthority()
    leaf = authority.issue("peer.test")
    return Context(ca_cert=authority.cert), Context(cert=leaf.chain, key=leaf.key)


def outcome_of(h: Handle, ends: list[str]) -> None:
    """Have *ends* tell how often, and with what, *h* ended."""

    def ended(h: Handle, error: HandleError | None = None) -> None:
        ends.append("eof" if error is None else type(error).__name__)
        h.destroy()

    h.on_error = ended
    h.on_eof = ended


told: list[ae.CondVar[Any]] = []


def ends_with_what_is_told(condvar: ae.CondVar[Any]) -> None:
    """Let *condvar* raise what the exception hook is told: who has no other way to tell."""
    told[:] = [condvar]


async def connect() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        (await tcp_connect("127.0.0.1", listening.getsockname()[1])).close()
    return "connected"


async def accept() -> str:
    """A server goes on accepting, or says why not."""
    accepted: ae.CondVar[None] = ae.CondVar()
    ends_with_what_is_told(accepted)

    def count(sock: socket.socket, *_: object) -> None:
        sock.close()
        accepted.send()

    with tcp_server("127.0.0.1", 0, count) as server:
        clients = []
        with ae.timer(
            0, lambda: clients.append(socket.create_connection(server.address)), interval=0.02
        ):
            await accepted
        for client in clients:
            client.close()
    return "accepted"


async def converse(client_context: Any = None, server_context: Any = None) -> str:
    """Lines there and back, in clear or after STARTTLS."""
    ends: dict[str, list[str]] = {"client": [], "server": []}
    kept: list[Handle] = []

    def on_accept(sock: socket.socket, *_: object) -> None:
        h = Handle(sock, tls_context=server_context)
        kept.append(h)
        outcome_of(h, ends["server"])
        if server_context is not None:
            h.start_tls("accept")
        h.read_each("line", lambda h, line: h.push_write(line[::-1] + b"\n"))

    with tcp_server("127.0.0.1", 0, on_accept) as server:
        h = Handle(connect=server.address, tls_context=client_context, peer_name="peer.test")
        kept.append(h)
        try:
            if client_context is not None:
                h.start_tls("connect")
            for line in (b"abc", b"d" * 5000):
                h.push_write(line + b"\n")
                assert await h.push_read("line") == line[::-1]
        finally:
            for each in kept:
                each.destroy()
            end_lingering()
            assert max(map(len, ends.values())) <= 1, ends
    return "said"


async def udp() -> str:
    got: ae.CondVar[bytes] = ae.CondVar()

    def broken(error: OSError) -> None:
        if error.errno in (errno.ENOSPC, errno.ENOMEM) and not got.ready:
            got.throw(error)

    with udp_endpoint(
        lambda data, peer: got.send(data), local_address="127.0.0.1", on_error=broken
    ) as one:
        with udp_endpoint(remote_address=one.address, on_error=lambda error: None) as other:
            with ae.timer(0, lambda: other.send(b"hello"), interval=0.02):
                return (await got).decode()


async def resolve() -> str:
    with NameServer("x.test. A 192.0.2.1") as server:
        resolver = ae_dns.Resolver(servers=[server.endpoint], timeouts=[0.05] * 5)
        return str(await resolver.a("x.test."))


async def command() -> str:
    output = bytearray()
    status = await ae.run_cmd(["/bin/sh", "-c", "echo hello; exit 3"], stdout=output)
    return f"{output.decode()} {status}"


async def child() -> str:
    ended: ae.CondVar[int] = ae.CondVar()
    pid = posix_spawn("/bin/sh", ["sh", "-c", "exit 5"], os.environ)
    try:
        with ae.child(pid, lambda pid, status: ended.send(status)):
            return str(os.waitstatus_to_exitcode(await ended))
    finally:
        if not ended.ready:
            os.kill(pid, signal.SIGKILL)
            waitpid(pid, 0)


posix_spawn, waitpid = os.posix_spawn, os.waitpid
Scenario = Callable[[], Awaitable[str]]
SCENARIOS: dict[str, Scenario] = {
    "connect": connect, "accept": accept, "echo": converse, "udp": udp, "resolve": resolve,
    "command": command, "child": child,
}  # fmt: skip
#: What a call may end with. Nothing else may come out of one, nor be raised in a callback.
DOCUMENTED = (OSError, ae.AEError)


async def once(scenario: Scenario) -> str:
    try:
        async with ae.timeout(LIMIT):
            return await scenario()
    except DOCUMENTED as error:
        hangs = isinstance(error, TimeoutError) and error.errno is None
        return "HANGS" if hangs and type(error) is TimeoutError else type(error).__name__
    except Exception as error:
        return f"UNDOCUMENTED: {error!r}"


async def sweep(
    calls: Calls, scenarios: dict[str, Scenario], most: int, seed: int
) -> tuple[int, list[str]]:
    """Run them all with one fault each; return how many, and what was not as it should be."""
    wrong: list[str] = []
    done = 0
    for name, scenario in scenarios.items():
        calls.begin(None)
        expected = await once(scenario)
        assert not expected.startswith(("HANGS", "UNDOCUMENTED")), f"{name}: {expected}"
        faults = [
            Fault(call, way, range(k, k + times))
            for call, count in calls.counts.items()
            for k in range(1, count + 1)
            for way in WAYS[call]
            for times in (1, 2)
        ]
        if len(faults) > most:
            faults = random.Random(seed).sample(faults, most)
        for fault in faults:
            check = LeakCheck()
            calls.begin(fault)
            outcome = await once(scenario)
            calls.begin(None)
            done += 1
            left = check.left()
            for _ in range(200):  # a program that is being ended takes a moment
                if not left:
                    break
                await ae.sleep(0.01)
                left = check.left()
            if left or outcome.startswith(("HANGS", "UNDOCUMENTED")):
                wrong.append(f"{name}, {fault}: {outcome}, left: {left}")
    return done, wrong


@pytest.fixture
def scenarios(contexts: tuple[Context, Context]) -> dict[str, Scenario]:
    return {**SCENARIOS, "starttls": lambda: converse(*contexts)}


def test_every_call_fails_once_and_nothing_hangs_or_leaks(
    backend: Any,
    scenarios: dict[str, Scenario],
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
    scale: int,
) -> None:
    hooked: list[str] = []

    def hook(error: BaseException, watcher: object) -> None:
        if not isinstance(error, DOCUMENTED):
            hooked.append(repr(error))
        elif told and not told[0].ready:
            told[0].throw(error)

    monkeypatch.setattr(ae, "exception_hook", hook)
    calls = Calls()

    async def main() -> tuple[int, list[str]]:
        for scenario in scenarios.values():
            await once(scenario)  # what is made once is there
        with monkeypatch.context() as patch:
            calls.install(patch)
            return await sweep(calls, scenarios, 4 * scale, 14)

    done, wrong = ae.run(main())
    record_property("cases", done)
    assert not wrong, "\n".join(wrong)
    assert hooked == []


@pytest.mark.parametrize(
    "spec", [spec for spec in BACKENDS if spec.exclusive], ids=lambda spec: spec.name
)
def test_every_call_fails_in_a_process_of_its_own(
    spec: BackendSpec,
    in_own_process: Callable[..., None],
    record_property: Callable[[str, object], None],
    tmp_path: Path,
    scale: int,
) -> None:
    report = tmp_path / "report.xml"
    in_own_process(
        spec, "-k", "hangs_or_leaks", __file__, f"--scale={scale}", f"--junitxml={report}"
    )
    (cases,) = re.findall(r'name="cases" value="(\d+)"', report.read_text())
    record_property("cases", cases)
