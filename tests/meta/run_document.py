"""Run the Python blocks of a Markdown document in order, as a reader would type them.

    python tests/meta/run_document.py [--screen NUMBER] FILE

The blocks of one document share their names. Hosts and ports may be real-looking: every name leads
to a server of ``examples/demo_servers.py`` on the loopback interface, by the well-known port, and
the certificate of its throw-away authority is trusted. ``redis.example.com`` leads to a
redis-server, ``irc.example.com`` to an ngircd, that is started for the document. Four marks, as
comments before a block:
``<!-- another program -->`` runs it in a thread of its own, where no loop is bound yet;
``<!-- on a screen -->`` leaves it to a run with ``--screen``, which runs nothing but the block of
that number among those; ``<!-- needs LIBRARY -->`` leaves it out where that is not installed, and
so does ``<!-- on a screen, needs LIBRARY -->``;
``<!-- not run: REASON -->`` only compiles it. A block fenced as ``text`` right after
one holds the output it must have; ``...`` stands for any text.
"""

from __future__ import annotations

import contextlib
import fnmatch
import io
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>another program|on a screen(?:, needs \w+)?|needs \w+|not run: .+?) -->\n)?"
    r"^```python\n(?P<code>.*?)^```\n(?:\n?```text\n(?P<output>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
WELL_KNOWN = {79: "finger", 80: "http", 443: "https", 25: "smtp", 119: "nntp"}
SCREEN = "on a screen"
HOSTS = ("www.example.com", "www.example.org", "mail.example.com", "news.example.com")
REDIS = "redis.example.com"
IRC = "irc.example.com"
IRC_CONFIGURATION = """
[Global]
    Name = irc.example.com
    Info = Test
    Listen = 127.0.0.1
    Ports = {port}
[Limits]
    MaxNickLength = 20
[Options]
    DNS = no
    Ident = no
    PAM = no
"""


class Loopback:
    """A resolver that leads every name but ``*.invalid`` to the server of that well-known port."""

    def __init__(self, ports: dict[int, int]) -> None:
        self._ports = ports

    def getaddrinfo(
        self, host: str, service: str | int, *, family: int = 0, type: str = "stream"
    ) -> Any:
        import ae_core as ae
        from ae_socket import AddressInfo

        found: ae.CondVar[list[AddressInfo]] = ae.CondVar()
        if host.endswith(".invalid"):
            error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            ae.postpone(lambda: found.throw(error))
            return found
        port = self._ports.get(int(service), int(service))
        info = AddressInfo(socket.AF_INET, socket.SOCK_STREAM, 6, ("127.0.0.1", port))
        ae.postpone(lambda: found.send([info] if family in (0, 4) else []))
        return found


RESOLVER: list[Loopback] = []


def serve(authority: str) -> None:
    """Run the demo's servers until stdin ends; tell their ports."""
    import ae_core as ae
    from demo_servers import DemoServers

    with DemoServers(HOSTS) as servers:
        Path(authority).write_text(servers.authority.pem)
        ports = {number: getattr(servers, name).port for number, name in WELL_KNOWN.items()}
        print(json.dumps(ports), flush=True)
        over = ae.CondVar[None]()
        watcher = ae.io(sys.stdin, "r", over.send)
        over.recv()
        watcher.cancel()


@contextlib.contextmanager
def led_to_the_servers() -> Iterator[None]:
    """Have names resolved by ours in this thread, as soon as the program has chosen a loop."""
    if not RESOLVER:
        yield
        return
    import ae_core as ae
    import ae_socket

    detected = ae.post_detect(lambda: ae_socket.set_resolver(RESOLVER[0]))
    yield
    if detected is not None:
        detected.cancel()


def run_block(code: str, line: int, name: str, namespace: dict[str, Any], mark: str) -> str:
    """Run one block; return what it printed."""
    compiled = compile("\n" * line + code, name, "exec", dont_inherit=True)
    if mark.startswith("not run"):
        return ""
    output, errors = io.StringIO(), []

    def run() -> None:
        try:
            with led_to_the_servers():
                exec(compiled, namespace)
        except BaseException as error:
            errors.append(error)

    with contextlib.redirect_stdout(output):
        if mark == "another program":
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
        else:
            run()
    if errors:
        raise errors[0]
    return output.getvalue()


def is_missing(mark: str) -> bool:
    """Return whether a block needs a library that is not installed."""
    _, needs, library = mark.partition("needs ")
    return bool(needs) and find_spec(library) is None


@contextlib.contextmanager
def demo_servers(folder: Path) -> Iterator[dict[int, int]]:
    """Serve what the document's host names stand for; give the port of each well-known one.

    In a process of their own: a thread of this one would be somebody who may end any wait.
    """
    authority = str(folder / "authority.pem")
    command = [sys.executable, __file__, "--serve", authority]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        ports = process.stdout.readline()
        if not ports:
            raise SystemExit("the servers did not start")
        os.environ["AE_CA_FILE"] = authority
        yield {int(number): port for number, port in json.loads(ports).items()}


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """Run a redis-server that keeps nothing, and give its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            log: list[str] = []
            while not log or "Ready to accept connections" not in log[-1]:
                log.append(server.stdout.readline())
                if not log[-1]:
                    raise SystemExit("redis-server did not start:\n" + "".join(log))
            yield port
        finally:
            server.terminate()


@contextlib.contextmanager
def irc_server(folder: Path) -> Iterator[int]:
    """Run an ngircd, and give its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    file = folder / "ngircd.conf"
    file.write_text(IRC_CONFIGURATION.format(port=port))
    command = ["ngircd", "-n", "-f", str(file)]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as server:
        try:
            while server.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=10).close()
                except ConnectionRefusedError:
                    continue
                break
            else:
                raise SystemExit("ngircd did not start")
            yield port
        finally:
            server.terminate()


def main() -> int:
    sys.path.insert(0, str(ROOT / "examples"))
    if sys.argv[1] == "--serve":
        serve(sys.argv[2])
        return 0
    document = Path(sys.argv[-1]).resolve()
    screen = int(sys.argv[sys.argv.index("--screen") + 1]) if "--screen" in sys.argv else None
    text = document.read_text("utf-8")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports: dict[int, int] = {}
        if any(host in text for host in HOSTS):
            ports = stack.enter_context(demo_servers(folder))
        if REDIS in text:
            ports[6379] = stack.enter_context(redis_server(folder))
        if IRC in text:
            ports[6667] = stack.enter_context(irc_server(folder))
        if ports:
            RESOLVER.append(Loopback(ports))
        namespace: dict[str, Any] = {"__name__": "__main__"}
        ran = screens = 0
        for found in BLOCK.finditer(text):
            mark = found["mark"] or ""
            if mark.startswith(SCREEN):
                screens += 1
            if mark.startswith(SCREEN) != (screen is not None) or is_missing(mark):
                continue
            if screen is not None and screen != screens:
                continue
            line = text.count("\n", 0, found.start("code"))
            printed = run_block(found["code"], line, str(document), namespace, mark)
            ran += not mark.startswith("not run")
            wanted = found["output"]
            if wanted is not None:
                pattern = re.sub(r"([\[?*])", r"[\1]", wanted).replace("...", "*")
                if not fnmatch.fnmatchcase(printed, pattern):
                    raise SystemExit(f"{document}:{line}: expected\n{wanted}\ngot\n{printed}")
    print(f"{ran} blocks ran")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # readers leave things open at the end, and are not told
