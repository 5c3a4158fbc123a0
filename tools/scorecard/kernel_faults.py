"""Row 15: the kernel itself refuses: example programs under ``strace -e inject``.

Each program runs once untouched, for its system calls to be counted. Then it runs again and again,
each time with one call refused: call number *k*, error *e*. A run is good if the program ends by
itself, in time, with a message or with success, and never with a traceback of the interpreter's own
(a fault that nobody has reported to the program), a crash, or a hang. What our log reports is none.

Not counted are faults that strike what asyncio and trio make for themselves: their wake-up sockets
(``OWN_SOCKET``; none of these programs has another UNIX stream there), which no kernel makes fail,
and the selector of an asyncio loop that is being made. Neither library can go on after these.

What runs is a copy of the packages, made at the beginning: the checkout may change meanwhile.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.scorecard.finding import ROOT, Finding, Length, main

#: What a program does, in a few lines each; an OSError is an outcome, and printed as one.
HEAD = """
import sys, socket, os
import ae_core as ae
ae.use(sys.argv[1])
"""
BACKENDS = ("loop", "asyncio", "trio", "gevent", "twisted")
PROGRAMS = {
    "echo": """
        from ae_socket import tcp_server, tcp_connect
        from ae_handle import Handle
        async def main():
            kept = []
            def accept(sock, *peer):
                h = Handle(sock, on_error=lambda h, *e: h.destroy())
                h.on_read = lambda h: h.push_write(bytes(h.read_buffer.take(len(h.read_buffer))))
                kept.append(h)
            with tcp_server("127.0.0.1", 0, accept) as server:
                async with ae.timeout(10):
                    sock = await tcp_connect("127.0.0.1", server.address[1])
                    h = Handle(sock)
                    h.push_write(b"hello\\n")
                    print(await h.push_read("line"))
                    h.destroy()
            for h in kept:
                h.destroy()
    """,
    "connect": """
        from ae_socket import tcp_connect
        async def main():
            with socket.create_server(("127.0.0.1", 0)) as server:
                async with ae.timeout(10):
                    (await tcp_connect("127.0.0.1", server.getsockname()[1])).close()
            print("connected")
    """,
    "resolve": """
        import ae_dns
        from ae_dns.testing import NameServer
        async def main():
            async with ae.timeout(10):
                with NameServer("x.test. A 192.0.2.1") as server:
                    print(await ae_dns.Resolver(servers=[server.endpoint]).a("x.test."))
    """,
    "child": """
        async def main():
            async with ae.timeout(10):
                print(await ae.run_cmd("echo hello"))
    """,
    "signal": """
        async def main():
            got = ae.CondVar()
            async with ae.timeout(10):
                with ae.signal("USR1", got.send):
                    os.kill(os.getpid(), 10)
                    await got
            print("got it")
    """,
    "pipe": """
        async def main():
            got = ae.CondVar()
            reader, writer = os.pipe()
            async with ae.timeout(10):
                with ae.io(reader, "r", lambda: got.send(os.read(reader, 1))):
                    os.write(writer, b"x")
                    print(await got)
    """,
}
TAIL = """
try:
    ae.run(main())
except (OSError, TimeoutError, ae.AEError) as error:
    print("failed:", type(error).__name__, error)
    sys.exit(1)
"""
FAULTS = {
    "socket": ("EMFILE", "ENOBUFS", "ENOMEM"),
    "connect": ("ECONNREFUSED", "ETIMEDOUT", "EHOSTUNREACH", "EINTR", "EADDRNOTAVAIL"),
    "accept4": ("EMFILE", "ECONNABORTED", "EINTR", "ENOBUFS", "EPERM"),
    "sendto": ("EPIPE", "ECONNRESET", "ENOBUFS", "EAGAIN", "EINTR"),
    "recvfrom": ("ECONNRESET", "ETIMEDOUT", "EAGAIN", "EINTR", "ENOMEM"),
    "epoll_ctl": ("ENOSPC", "ENOMEM"),
    "epoll_create1": ("EMFILE",),
    "epoll_wait": ("EINTR",),
    "getsockopt": ("ENOBUFS",),
    "setsockopt": ("ENOMEM",),
    "bind": ("EADDRINUSE", "EACCES"),
    "listen": ("EADDRINUSE",),
    "pipe2": ("EMFILE",),
    "wait4": ("EINTR",),
    "pidfd_open": ("EMFILE", "ENOSYS", "EPERM"),
    "fcntl": ("EINTR",),
}
#: Seconds within which a program must have ended: its own limit is 10.
HANG = 30
#: How strace shows the wake-up sockets of asyncio and trio.
OWN_SOCKET = "<UNIX-STREAM:"
#: So many calls of a kind are refused, one in each run.
MOST_CALLS = 40


def _run(program: Path, backend: str, *options: str) -> tuple[int | None, str]:
    command = [
        "strace",
        "--seccomp-bpf",
        "-f",
        "-qq",
        "-yy",
        "-o",
        str(program.with_suffix(".trace")),
        *options,
    ]
    with subprocess.Popen(
        [*command, sys.executable, str(program), backend],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(program.parent / "src")},
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=HANG)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            return None, output
    return process.returncode, output


def _counts(program: Path, backend: str) -> dict[str, int]:
    """Return how often *program* makes each of the system calls."""
    status, output = _run(program, backend, "-e", "trace=" + ",".join(FAULTS))
    if status:
        raise RuntimeError(f"{program.stem} does not run: {output[-300:]}")
    text = program.with_suffix(".trace").read_text()
    return {call: len(re.findall(rf"\b{call}\(", text)) for call in FAULTS}


def _struck(program: Path) -> str:
    """Return the calls of the last run that the fault struck, as strace shows them."""
    lines = program.with_suffix(".trace").read_text().splitlines()
    return "".join(line for line in lines if "(INJECTED)" in line)


def _is_its_own(struck: str, backend: str, call: str) -> bool:
    """Return whether the fault struck what the loop's library has for itself."""
    if backend not in ("asyncio", "trio"):
        return False
    return OWN_SOCKET in struck or (backend == "asyncio" and call == "epoll_create1")


def measure(length: Length, seed: int = 15) -> Finding:
    if shutil.which("strace") is None:
        return Finding("strace is not installed", False, seed=seed)
    wanted = {"gate": 40, "full": 1000, "nightly": 5000}[length]
    faults = []
    with tempfile.TemporaryDirectory() as place:
        for source in ROOT.glob("packages/*/src"):
            shutil.copytree(source, Path(place, "src"), dirs_exist_ok=True)
        nothing = Path(place, "nothing.py")
        nothing.write_text("import ae_core, ae_handle, ae_dns")
        before = _counts(nothing, "loop")  # calls of the interpreter's own
        for name, code in PROGRAMS.items():
            program = Path(place, f"{name}_program.py")  # no name of a library
            lines = [line[8:] for line in code.splitlines()]
            program.write_text(HEAD + "\n".join(lines) + TAIL)
            for backend in BACKENDS[:1] if length == "gate" else BACKENDS:
                for call, count in _counts(program, backend).items():
                    first = before[call] + 1
                    for k in range(first, min(count, first + MOST_CALLS) + 1):
                        faults += [(program, backend, call, error, k) for error in FAULTS[call]]
        possible = len(faults)
        random.Random(seed).shuffle(faults)
        bad = []
        done = own = missed = 0
        for program, backend, call, error, k in faults:
            if done == wanted:
                break
            inject = f"inject={call}:error={error}:when={k}"
            status, output = _run(program, backend, "-e", f"trace={','.join(FAULTS)}", "-e", inject)
            struck = _struck(program)
            if _is_its_own(struck, backend, call):
                own += 1
                continue
            why = (
                "hangs" if status is None
                else f"killed by {-status}" if status < 0
                else "traceback" if re.search("^Traceback", output, re.MULTILINE)
                else ""
            )  # fmt: skip
            if not struck and not why:  # the program did not make that call this time
                missed += 1
                continue
            done += 1
            if why:
                last = output.strip().splitlines()[-1:] or [""]
                bad.append(
                    f"{program.stem} on {backend} {call}={error} #{k}: {why}: {last[0][:100]}"
                )
                print("    bad:", bad[-1], flush=True)
    figure = f"{done} runs of {possible} possible ones, {len(bad)} bad"
    figure += f" ({own} more struck the loop's own wake-up, {missed} nothing)"
    if bad:
        figure += ": " + "; ".join(bad[:5])
    short = "" if done >= 1000 or length == "gate" else f"only {done} runs, 1,000 are stated"
    return Finding(figure, not bad, short, " ".join(BACKENDS), seed)


if __name__ == "__main__":
    main(measure)
