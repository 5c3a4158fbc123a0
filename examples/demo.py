"""Run every example against servers of our own, on each backend, and say what happened.

    python examples/demo.py [--backend NAME]...

Servers and clients share one process and one loop, on free loopback ports. The built-in loop and
asyncio run in this process, every other backend whose library is installed in one of its own. Each
step prints one line (number, backend, what, result, milliseconds); the last line sums up, and the
exit status is 1 if any step failed.
"""

from __future__ import annotations

__all__ = ("main",)

import argparse
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any, Final, TextIO

import ae_core as ae
import ae_dns
import ae_socket
from ae_handle import Handle, TlsError
from ae_tls import Context
from ae_tls.testing import CertificateAuthority
from chat_server import ChatServer
from demo_servers import ARTICLE, BIG_PAGE, DOMAIN, PAGE, USERS, DemoServers
from even_colon import even_colon_items
from finger import FingerError, finger
from http_get import HttpError, http_get
from nntp_article import NntpError, nntp_article
from smtp_reply import Smtp, SmtpError, smtp_hello

BACKENDS: Final = ("loop", "asyncio")
# The others, by the modules of which one must be there.
GUESTS: Final = {
    "trio": ("trio",),
    "gevent": ("gevent",),
    "libev": ("gevent",),
    "twisted": ("twisted",),
    "glib": ("gi",),
    "qt": ("PyQt6", "PySide6"),
    "tk": ("tkinter",),
}
_STEP_LIMIT: Final = 30.0
_PIPELINED: Final = 100

Step = Callable[[DemoServers], Coroutine[Any, Any, None]]


class StepFailed(Exception):
    """A step did not give what it must give."""


def expect(got: object, wanted: object) -> None:
    """Compare, and say both sides where they differ."""
    if got != wanted:
        raise StepFailed(f"expected {wanted!r:.100}, got {got!r:.100}")


async def refusal(error: type[BaseException], operation: ae.CondVar[Any]) -> BaseException:
    """Return the *error* by which *operation* must end."""
    try:
        answer = await operation
    except error as refused:
        return refused
    raise StepFailed(f"expected {error.__name__}, got {answer!r:.100}")


async def lookup_address(servers: DemoServers) -> None:
    expect(await ae_dns.a(f"www.{DOMAIN}"), ["127.0.0.1"])


async def lookup_name(servers: DemoServers) -> None:
    expect(await ae_dns.ptr("1.0.0.127.in-addr.arpa"), [f"www.{DOMAIN}"])


async def resolve_for_sockets(servers: DemoServers) -> None:
    found = await ae_socket.resolve(f"www.{DOMAIN}", servers.http.port, family=4)
    expect([info.sockaddr for info in found], [("127.0.0.1", servers.http.port)])


async def refuse_unknown_name(servers: DemoServers) -> None:
    await refusal(OSError, finger("alice", f"nowhere.{DOMAIN}", servers.finger.port))


async def finger_three(servers: DemoServers) -> None:
    asked = [finger(user, f"www.{DOMAIN}", servers.finger.port) for user in USERS]
    expect([await answer for answer in asked], list(USERS.values()))


async def get_page(servers: DemoServers) -> None:
    reply = await http_get(f"http://www.{DOMAIN}:{servers.http.port}/")
    expect((reply.status, bytes(reply.body)), (200, PAGE))


async def get_big_page(servers: DemoServers) -> None:
    reply = await http_get(f"http://www.{DOMAIN}:{servers.http.port}/big")
    expect((reply.status, bytes(reply.body) == BIG_PAGE), (200, True))


async def get_secure_page(servers: DemoServers) -> None:
    url = f"https://www.{DOMAIN}:{servers.https.port}/"
    reply = await http_get(url, tls_context=servers.trusting)
    expect((reply.status, bytes(reply.body)), (200, PAGE))


async def refuse_wrong_name(servers: DemoServers) -> None:
    url = f"https://wrong.{DOMAIN}:{servers.https.port}/"
    error = await refusal(TlsError, http_get(url, tls_context=servers.trusting))
    expect(getattr(error, "reason", None), "wrong-name")


async def refuse_unknown_authority(servers: DemoServers) -> None:
    stranger = Context(ca_cert=CertificateAuthority().cert)
    url = f"https://www.{DOMAIN}:{servers.https.port}/"
    error = await refusal(TlsError, http_get(url, tls_context=stranger))
    expect(getattr(error, "reason", None), "untrusted")


async def greet_mail_server(servers: DemoServers) -> None:
    replies = await ae.spawn(smtp_hello(f"mail.{DOMAIN}", servers.smtp.port))
    expect([(reply.code, len(reply.lines)) for reply in replies], [(220, 3), (250, 3), (221, 1)])


async def pipeline(servers: DemoServers) -> None:
    smtp = Smtp(f"mail.{DOMAIN}", servers.smtp.port)
    smtp.reply()
    asked = [smtp.command(f"NOOP {number}") for number in range(_PIPELINED)]
    answers = [(await answer).lines[-1] for answer in asked]
    smtp.close()
    expect(answers, [f"done {number}" for number in range(_PIPELINED)])


async def read_article(servers: DemoServers) -> None:
    article = await ae.spawn(nntp_article(f"www.{DOMAIN}", servers.nntp.port, DOMAIN))
    expect((*article.header, b"", *article.body), ARTICLE)


async def read_even_items(servers: DemoServers) -> None:
    expect(await even_colon_items(f"www.{DOMAIN}", servers.even_colon.port), [b"ab", b"a:bc", b""])


async def chat(servers: DemoServers) -> None:
    room = ChatServer()
    people = [Handle(connect=room.address, linger=0) for _ in range(3)]
    for number, person in enumerate(people):
        person.push_write(b"guest%d\n" % number)
        while not (await person.push_read("line")).startswith(b"* hello"):
            continue
    people[0].push_write(b"good morning\n")
    for person in people[1:]:
        while (line := await person.push_read("line")).startswith(b"*"):
            continue
        expect(line, b"<guest0> good morning")
    for person in people:
        person.destroy()
    await room.stop()


async def refuse_garbled_replies(servers: DemoServers) -> None:
    host, port = f"www.{DOMAIN}", servers.garbled.port
    await refusal(FingerError, finger("alice", host, port))
    await refusal(HttpError, http_get(f"http://{host}:{port}/"))
    await refusal(SmtpError, ae.spawn(smtp_hello(host, port)))
    await refusal(NntpError, ae.spawn(nntp_article(host, port, DOMAIN)))
    await refusal(OSError, even_colon_items(host, port))


async def report_refused_connection(servers: DemoServers) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can answer there
        await refusal(OSError, http_get(f"http://127.0.0.1:{free.getsockname()[1]}/"))


async def order_of_timers(servers: DemoServers) -> None:
    order: list[str] = []
    done: ae.CondVar[None] = ae.CondVar()
    with (
        ae.timer(0.02, lambda: order.append("third")),
        ae.timer(0.01, lambda: order.append("second")),
        ae.timer(0.03, done.send),
    ):
        ae.postpone(lambda: order.append("first"))
        await done
    expect(order, ["first", "second", "third"])


async def call_from_a_thread(servers: DemoServers) -> None:
    done: ae.CondVar[str] = ae.CondVar()
    here = ae.detect()
    thread = threading.Thread(target=lambda: here.call_threadsafe(lambda: done.send("hello")))
    thread.start()
    expect(await done, "hello")
    thread.join()


STEPS: Final[tuple[tuple[str, Step], ...]] = (
    (f"look up the address of www.{DOMAIN}", lookup_address),
    ("look up the name of 127.0.0.1", lookup_name),
    ("resolve through ae_dns for a socket", resolve_for_sockets),
    ("an unknown host is reported", refuse_unknown_name),
    ("finger three users in parallel", finger_three),
    ("fetch a page over HTTP", get_page),
    ("fetch 1 MiB over HTTP", get_big_page),
    ("fetch a page over HTTPS", get_secure_page),
    ("a wrong host name is refused", refuse_wrong_name),
    ("an unknown authority is refused", refuse_unknown_authority),
    ("greet a mail server, several lines a reply", greet_mail_server),
    (f"{_PIPELINED} requests down one connection", pipeline),
    ("read an article", read_article),
    ("a reader of our own: even:colon", read_even_items),
    ("three people in a chat room", chat),
    ("five garbled replies are refused", refuse_garbled_replies),
    ("a refused connection is reported", report_refused_connection),
    ("postponed call and timers in order", order_of_timers),
    ("a call from another thread", call_from_a_thread),
)


class Report:
    """Prints the steps as they end, and on a terminal the one that is running."""

    def __init__(self, total: int, out: TextIO, first: int = 1) -> None:
        self.passed = self.failed = 0
        self._first = first
        self._total = total
        self._out = out

    def begin(self, backend: str, what: str) -> None:
        if self._out.isatty():
            self._write(f"{self._head(backend, what)} ...")

    def end(self, backend: str, what: str, error: BaseException | None, seconds: float) -> None:
        head = self._head(backend, what)
        result = "ok" if error is None else f"FAILED  {type(error).__name__}: {error}"
        clear = "\r\x1b[K" if self._out.isatty() else ""
        self._write(f"{clear}{head}  {seconds * 1e3:8.1f} ms  {result}\n")
        if error is None:
            self.passed += 1
        else:
            self.failed += 1

    def _head(self, backend: str, what: str) -> str:
        number = self._first + self.passed + self.failed
        return f"[{number:{len(str(self._total))}}/{self._total}] {backend:8} {what:44}"

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


async def run_steps(backend: str, report: Report) -> None:
    """Start the servers, walk through the steps, close everything."""
    with DemoServers() as servers:
        resolver = ae_dns.Resolver(servers=[servers.names.endpoint], search=[])
        ae_dns.set_resolver(resolver)
        ae_dns.install()
        try:
            for what, step in STEPS:
                report.begin(backend, what)
                started = time.perf_counter()
                error = await outcome(step(servers))
                report.end(backend, what, error, time.perf_counter() - started)
        finally:
            ae_socket.set_resolver(None)
            ae_dns.set_resolver(None)


async def outcome(step: Coroutine[Any, Any, None]) -> BaseException | None:
    """Run one step to its end, and no longer than a step may take."""
    running = ae.spawn(step)
    limit = ae.timer(_STEP_LIMIT, running.cancel)
    try:
        await running
    except ae.CancelledError:
        return StepFailed(f"no end within {_STEP_LIMIT:g} s")
    except Exception as error:
        return error
    finally:
        limit.cancel()
    return None


def run_backend(backend: str, report: Report) -> None:
    """Bind this thread to *backend* and run the steps on it."""
    try:
        ae.use(backend)
        ae.run(run_steps(backend, report))
    except Exception as error:
        report.end(backend, "the servers and the loop", error, 0.0)


def run_in_a_process(backend: str, report: Report, total: int) -> None:
    """Run the steps on a backend that wants a process of its own, and take over its lines."""
    first = report.passed + report.failed + 1
    child = subprocess.Popen(
        [sys.executable, __file__, "--backend", backend, "--numbers", str(first), str(total)],
        env={"QT_QPA_PLATFORM": "offscreen", **os.environ},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    counted = False
    with child, child.stdout:
        for line in child.stdout:
            if line.startswith("demo: "):
                words = line.split()
                report.passed += int(words[1])
                report.failed += int(words[4])
                counted = True
            else:
                print(line, end="", flush=True)
    if not counted:
        error = RuntimeError(f"the process ended with status {child.returncode}")
        report.end(backend, "the servers and the loop", error, 0.0)


def main(arguments: list[str] | None = None) -> int:
    """Run the demo and return its exit status."""
    parser = argparse.ArgumentParser(description="Run every example on each backend.")
    parser.add_argument(
        "--backend",
        action="append",
        metavar="NAME",
        help="run on this backend (may be repeated); default: all that are installed",
    )
    parser.add_argument("--numbers", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    installed = [name for name, modules in GUESTS.items() if any(map(find_spec, modules))]
    backends = options.backend or [*BACKENDS, *installed]
    first, total = options.numbers or (1, len(STEPS) * len(backends))
    report = Report(total, sys.stdout, first)
    for backend in backends:
        if len(backends) == 1:
            run_backend(backend, report)
        elif backend in GUESTS:
            run_in_a_process(backend, report, total)
        else:
            # A thread keeps the backend it was given, so each backend gets a thread of its own.
            thread = threading.Thread(target=run_backend, args=(backend, report), daemon=True)
            thread.start()
            thread.join()
    print(f"demo: {report.passed} steps ok, {report.failed} failed")
    return 1 if report.failed or not report.passed else 0


if __name__ == "__main__":
    sys.exit(main())
