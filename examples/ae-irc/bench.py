"""ae-irc beside irc and irctokens: parsing, and reading what a busy server says.

    python bench.py [--seconds S] [--rounds N] [--json | --readme]

Needs ``irc`` and ``irctokens`` for the others. The contestants take turns, each in a process of its
own, and the medians of the rounds are compared, per second of the processor: others may want the
machine. ``parse`` is lines per second without a connection; ``read`` is messages per second that
a client hands to a callback, from a server in another process that says them as fast as they are
read.
``--readme`` writes the table into the README.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
from turns import MISSING, medians, put_into_readme

LINES = [
    b":anna!a@host.example.com PRIVMSG #ae :hello there, how is everybody today?",
    b"@time=2024-05-01T12:00:00.500Z;msgid=abc;account=bert :bert!b@h PRIVMSG #ae :fine, thanks",
    b":carl!c@host.example.com JOIN #ae",
    b":irc.example.com 353 me = #ae :@anna +bert carl dora emil frida gustav",
    b":carl!c@host.example.com MODE #ae +ov anna bert",
]
SAID = b":anna!a@host.example.com PRIVMSG #ae :hello there, how is everybody today?\r\n"


# ---------------------------------------------------------------------- parsing


def rate(parse: Callable[[bytes], object], seconds: float) -> float:
    count, started = 0, time.process_time()
    while time.process_time() - started < seconds:
        for _ in range(200):
            for line in LINES:
                parse(line)
        count += 200 * len(LINES)
    return count / (time.process_time() - started)


def parse_ae(seconds: float) -> float:
    import ae_irc

    return rate(ae_irc.parse, seconds)


def parse_irc(seconds: float) -> float:
    """What ``irc.client.ServerConnection._process_line`` does before it looks at the command."""
    from irc import message
    from irc.client import NickMask, _rfc_1459_command_regexp  # type: ignore[attr-defined]

    def parse(line: bytes) -> object:
        match = _rfc_1459_command_regexp.match(line.decode())
        assert match is not None
        source = NickMask.from_group(match["prefix"])
        arguments = message.Arguments.from_group(match["argument"])
        return source, arguments, message.Tag.from_group(match["tags"])

    return rate(parse, seconds)


def parse_irctokens(seconds: float) -> float:
    import irctokens

    return rate(lambda line: irctokens.tokenise(line.decode()), seconds)


# ---------------------------------------------------------------------- reading


def serve(listener: socket.socket) -> None:
    """Let one client in, and say the same until it goes."""
    sock, _ = listener.accept()
    with sock:
        got = b""
        while b"USER" not in got:
            got += sock.recv(4096)
        sock.sendall(
            b":s 001 me :Welcome\r\n:s 005 me CASEMAPPING=ascii :are supported\r\n"
            b":s 422 me :No motd\r\n:me!m@h JOIN #ae\r\n:s 366 me #ae :End\r\n"
        )
        block = SAID * 200
        try:
            while True:
                sock.sendall(block)
        except OSError:
            return


def read_ae(seconds: float, loop: str = "loop") -> float:
    import ae_core as ae
    import ae_irc

    ae.use(loop)
    done: ae.CondVar[float] = ae.CondVar()
    count, started = 0, 0.0

    def said(client: ae_irc.Client, event: ae_irc.Text) -> None:
        nonlocal count, started
        if not count:
            started = time.process_time()
        count += 1
        if not count % 1000 and time.process_time() - started >= seconds:
            done.send(count / (time.process_time() - started))
            client.close()

    client = ae_irc.Client(f"irc://127.0.0.1:{PORT}", nick="me")
    client.on(ae_irc.Text, said)
    return done.recv()


def read_ae_asyncio(seconds: float) -> float:
    return read_ae(seconds, "asyncio")


def read_irc(seconds: float) -> float:
    import irc.client

    reactor = irc.client.Reactor()
    count, started, result = 0, 0.0, 0.0

    def said(connection: object, event: object) -> None:
        nonlocal count, started, result
        if not count:
            started = time.process_time()
        count += 1
        if not count % 1000 and time.process_time() - started >= seconds:
            result = result or count / (time.process_time() - started)

    server = reactor.server()
    server.connect("127.0.0.1", PORT, "me")
    server.add_global_handler("pubmsg", said)
    while not result:
        reactor.process_once(0.2)
    return result


PORT = 0
CONTESTANTS: dict[str, tuple[str, str, Callable[[float], float]]] = {
    "parse, ae-irc": ("parse", "ae_irc", parse_ae),
    "parse, irc": ("parse", "irc.client", parse_irc),
    "parse, irctokens": ("parse", "irctokens", parse_irctokens),
    "read, ae-irc": ("read", "ae_irc", read_ae),
    "read, ae-irc on asyncio": ("read", "ae_irc", read_ae_asyncio),
    "read, irc": ("read", "irc.client", read_irc),
}


def one(name: str, seconds: float) -> int:
    """Run one contestant, and print its rate; return MISSING if its library is not installed."""
    global PORT
    _, library, run = CONTESTANTS[name]
    try:
        __import__(library)
    except ImportError:
        return MISSING
    with socket.create_server(("127.0.0.1", 0)) as listener:
        PORT = listener.getsockname()[1]
        if name.startswith("read"):
            command = [sys.executable, __file__, "--serve", str(listener.fileno())]
            server = subprocess.Popen(command, pass_fds=[listener.fileno()])
            try:
                print(run(seconds), flush=True)
            finally:
                server.kill()
                server.wait()
        else:
            print(run(seconds))
    return 0


def table(rates: dict[str, float]) -> str:
    """Return a table, with what the others are in comparison to us."""
    rows = ["| | lines/s | ae-irc is |", "|---|---:|---:|"]
    for name, found in rates.items():
        ours = rates[f"{CONTESTANTS[name][0]}, ae-irc"]
        rows.append(f"| {name} | {found:,.0f} | {ours / found:.1f} x |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=1.0, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--readme", action="store_true")
    parser.add_argument("--one", choices=list(CONTESTANTS), help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(socket.socket(fileno=options.serve))
        return 0
    if options.one:
        return one(options.one, options.seconds)
    command = [sys.executable, __file__, "--seconds", str(options.seconds), "--one"]
    rates = medians(CONTESTANTS, options.rounds, command)
    text = table(rates)
    print(json.dumps(rates) if options.json else text)
    if options.readme:
        put_into_readme(text, __file__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
