"""The scenarios: what is measured, over which peers; one function each."""

from __future__ import annotations

__all__ = ("SCENARIOS",)

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import peers
from contests import BASE, HIGH, LOW, Contests, driven
from processes import (
    BUILD,
    GENERATOR,
    MEASURED,
    Metrics,
    Server,
    end,
    interpreter,
    load,
    peer_json,
    spawn,
)


def timers(run: Contests) -> None:
    run.contest("timers", run.having("timers"), lambda peer: peer_json(peer, "timers"), LOW)


def watchers(run: Contests) -> None:
    measure = partial(peer_json, role="watchers", n=9000)
    run.contest("watchers", run.having("watchers"), measure, LOW)


def pingpong(run: Contests) -> None:
    measure = partial(peer_json, role="pingpong", pairs=100, seconds=0.3)
    run.contest("pingpong-100", run.having("pingpong"), measure, LOW)


def servers(run: Contests) -> None:
    for tag, n, active in (("large", 4500, 100), ("small", 8, 3)):
        measure = partial(peer_json, role="servers", n=n, active=active, seconds=0.3)
        run.contest(f"servers-{tag}", run.having("servers"), measure, LOW)


def echo(run: Contests) -> None:
    def body(up: dict[str, Server]) -> None:
        for batch, tag in ((1, "reqresp"), (100, "pipelined")):
            for connections in (1, 50, 500):
                measure = driven(up, "lines", "echo", connections, batch, run.seconds)
                run.contest(f"echo-{tag}-{connections}", list(up), measure, HIGH)

    run.with_servers("echo", body)


def connect(run: Contests) -> None:
    def body(up: dict[str, Server]) -> None:
        measure = driven(up, "connections", "connect", 16, run.seconds)
        run.contest("connect", list(up), measure, HIGH)

    run.with_servers("echo", body)


def _bulk(run: Contests, role: str, *, tls: bool) -> None:
    def body(up: dict[str, Server]) -> None:
        measure = driven(up, "rate", role, run.seconds * 1.7, giga=True, tls=tls)
        run.contest(("tls-" if tls else "") + f"bulk-{role}", list(up), measure, HIGH)

    run.with_servers(role, body, tls=tls)


def bulk(run: Contests) -> None:
    for role in ("sink", "source"):
        _bulk(run, role, tls=False)


def tls(run: Contests) -> None:
    def body(up: dict[str, Server]) -> None:
        for connections in (1, 50):
            measure = driven(up, "lines", "echo", connections, 1, run.seconds, tls=True)
            run.contest(f"tls-echo-reqresp-{connections}", list(up), measure, HIGH)
        measure = driven(up, "handshakes", "connect", 16, run.seconds * 1.5, tls=True)
        run.contest("tls-handshake", list(up), measure, HIGH)

    run.with_servers("echo", body, tls=True)
    for role in ("sink", "source"):
        _bulk(run, role, tls=True)


def _free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def redis(run: Contests) -> None:
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        where = ("--port", port, "--bind", "127.0.0.1", "--dir", folder)
        volatile = ("--save", "", "--appendonly", "no", "--protected-mode", "no")
        server = spawn(("redis-server", *where, *volatile), GENERATOR, stdout=subprocess.DEVNULL)
        try:
            _wait_tcp(port)

            def measure(peer: str) -> Metrics:
                if peer == "c-floor":
                    result = load("redis", port, 100, run.seconds, core=MEASURED)
                    return {"ops": (result["ops"] / result["secs"], "1/s")}
                return peer_json(peer, "redis", port=port, depth=100, seconds=run.seconds)

            run.contest("redis-pipeline-100", [*run.having("redis"), "c-floor"], measure, HIGH)
        finally:
            end(server)


def _wait_tcp(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the server on port {port} does not answer")


_NSD: Final = """server:
  ip-address: 127.0.0.1@{port}
  username: ""
  zonesdir: "{folder}"
  database: ""
  pidfile: "{folder}/nsd.pid"
  xfrdfile: "{folder}/xfrd"
  zonelistfile: "{folder}/zones"
  server-count: 1
  receive-buffer-size: 8388608
  send-buffer-size: 8388608
  rrl-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: bench.test
  zonefile: bench.test
"""
_ZONE: Final = """$ORIGIN bench.test.
$TTL 300
@ SOA ns hostmaster 1 3600 900 86400 300
@ NS ns
ns A 127.0.0.1
* A 127.0.0.9
"""


def dns(run: Contests) -> None:
    nsd = shutil.which("nsd") or "/usr/sbin/nsd"
    port = _free_port(socket.SOCK_DGRAM)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "nsd.conf").write_text(_NSD.format(port=port, folder=folder))
        (folder / "bench.test").write_text(_ZONE)
        quiet = subprocess.DEVNULL
        command = (nsd, "-d", "-c", folder / "nsd.conf")
        server = spawn(command, GENERATOR, stdout=quiet, stderr=quiet)
        try:
            time.sleep(1)

            def measure(peer: str, width: int) -> Metrics:
                if peer == "c-floor":
                    result = load("dns", port, width, run.seconds, core=MEASURED)
                    return {"queries": (result["ops"] / result["secs"], "1/s")}
                return peer_json(peer, "dns", port=port, outstanding=width, seconds=run.seconds)

            for width in (100, 1000):
                names = [*run.having("dns"), "c-floor"]
                run.contest(f"dns-{width}", names, partial(measure, width=width), HIGH)
        finally:
            server.terminate()  # nsd ends its own children on TERM
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                end(server)


def memory(run: Contests) -> None:
    def measure(peer: str) -> Metrics:
        server = Server(peer, "echo")
        try:
            load("echo", server.port, 1, 1, 0.05)
            before = server.rss()
            pipe = subprocess.PIPE
            command = (BUILD / "load", "hold", server.port, run.idle)
            holder = spawn(command, GENERATOR, stdin=pipe, stdout=pipe)
            try:
                assert holder.stdout is not None
                if holder.stdout.readline() != "READY\n":
                    raise RuntimeError("connections not held")
                used = (server.rss() - before) / run.idle
                return {"per-connection": (used, "B"), "base": (before, "B")}
            finally:
                end(holder)
        finally:
            server.close()

    name, rounds = f"memory-idle-{run.idle}", min(run.rounds, 3)
    run.contest(name, run.having("echo"), measure, LOW, rounds=rounds, limit=90)


_PYTHON: Final = """import time, sys, os
t = time.perf_counter()
%s
t = time.perf_counter() - t
pages = int(open("/proc/self/statm").read().split()[1])
print(t * 1e3, pages * os.sysconf("SC_PAGESIZE"), len(sys.modules))
"""
_PERL: Final = (
    'use Time::HiRes "time"; my $t; BEGIN { $t = time } %s BEGIN { $t = time - $t } '
    'open F, "</proc/self/statm"; '
    'print $t * 1e3, " ", (split " ", <F>)[1] * 4096, " ", scalar keys %%INC'
)
_PERL_PARTS: Final = {
    "perl": "",
    "perl-anyevent-ev": "use EV; use AnyEvent; AnyEvent::detect();",
    "perl-anyevent-all": "use EV; "
    + "".join(f"use AnyEvent{part};" for part in ("", "::Socket", "::Handle", "::DNS", "::TLS")),
}


def imports(run: Contests) -> None:
    offered = {n: spec["module"] for n, spec in peers.everything().items() if "module" in spec}
    modules = {n: offered[n.removesuffix(peers.BEFORE)] for n in run.chosen_of(offered)}

    def measure(peer: str) -> Metrics:
        if peer in _PERL_PARTS:
            command = ["perl", "-e", _PERL % _PERL_PARTS[peer]]
        else:
            statement = f"import {modules[peer]}" if peer in modules else "pass"
            command = [*interpreter(peer), "-c", _PYTHON % statement]
        process = spawn(command, MEASURED, stdout=subprocess.PIPE)
        try:
            words = process.communicate(timeout=20)[0].split()
        finally:
            end(process)
        milliseconds, rss, loaded = map(float, words)
        return {"import": (milliseconds, "ms"), "rss": (rss, "B"), "modules": (loaded, "")}

    names = [*sorted(modules, key=lambda n: n != BASE), "python-bare"]
    if not run.chosen and shutil.which("perl"):
        names += _PERL_PARTS
    run.contest("imports", names, measure, LOW, rounds=max(run.rounds, 7))


_ALL = (echo, timers, watchers, pingpong, servers, redis, tls, dns, connect, bulk, memory, imports)
SCENARIOS: Final[dict[str, Callable[[Contests], None]]] = {f.__name__: f for f in _ALL}
