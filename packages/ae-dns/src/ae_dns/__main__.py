"""``python -m ae_dns NAME [TYPE] [@SERVER]``: ask from the command line, with output like dig's."""

from __future__ import annotations

__all__ = ("main",)

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

import dns.flags
import dns.message
import dns.rcode

import ae_socket
from ae_core import console

from ._errors import NoData, NoSuchName, QueryTimedOut, ResolveError
from ._resolution import Exchange, Verdict
from ._resolver import Resolver
from ._reverse import reverse_name

if TYPE_CHECKING:
    from collections.abc import Sequence

_FAILED = 1
_NOTHING = 3
_TIMED_OUT = 124

_EXIT_STATUS = """Exit status: 0 there is an answer; 1 the servers failed or cannot be asked, or the
name is impossible; 2 for bad arguments; 3 the servers say that there is no such name or record; 74
if the output cannot be written; 124 if no server has answered in time."""


class _Log:
    """Records what happened on the way to the answer.

    Time counts from the first query to the last packet. What this process does before and
    after that does not count: loading dnspython takes a hundred times longer.
    """

    def __init__(self, show: bool) -> None:
        self.show = show
        self.first: float | None = None
        self.last = 0.0
        self.queries = 0
        self.server = ""
        self.transport = "udp"
        self.octets = 0
        self.wire: bytes | None = None

    def milliseconds(self) -> float:
        return 0.0 if self.first is None else (self.last - self.first) * 1000

    def __call__(self, what: str, exchange: Exchange, wire: bytes, verdict: Verdict | None) -> None:
        self.last = time.monotonic()
        if self.first is None:
            self.first = self.last
        transport = "tcp" if exchange.stream else "udp"
        if exchange.channel is not None:
            transport = exchange.channel.transport
        if what == "sent":
            self.queries += 1
        elif what == "received":
            self.octets = len(wire)
            if verdict is Verdict.ANSWERED and exchange.reply is not None:
                self.server, self.transport = str(exchange.server), transport
                self.wire = wire
        if self.show:
            detail = f", {len(wire)} bytes: {verdict.value}" if verdict is not None else ""
            asked = _asked(exchange)
            _say(
                f";; {self.milliseconds():8.1f} ms  {what} {asked} ({exchange.server} {transport})"
                f"{detail}"
            )


def _say(line: str) -> None:
    """Print a line with the control characters in it, which a server may have sent, escaped."""
    print(console.printable(line))


def _whole(wire: bytes) -> dns.message.Message:
    return dns.message.from_wire(wire, ignore_trailing=True, continue_on_error=True)


def _asked(exchange: Exchange) -> str:
    return dns.message.from_wire(exchange.packet()).question[0].to_text()


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says and return the exit status."""
    parser, options = _parse(arguments)
    try:
        servers = None if options.server is None else _addresses(options.server)
        resolver = Resolver(
            servers=servers, tcp=options.tcp, edns=not options.no_edns, **_timeouts(options)
        )
        name, rdtype = options.name, options.type
        if rdtype is None:
            reverse = reverse_name(name)
            name, rdtype = (name, "A") if reverse is None else (reverse, "PTR")
        log = _Log(options.trace)
        resolver.trace(log)
        found = resolver.resolve(name, rdtype)
    except ValueError as error:
        parser.error(console.printable(str(error)))
    except OSError as error:  # of the server's name
        return console.failed("ae_dns", error)
    failure: ResolveError | None = None
    reply: dns.message.Message | None = None
    try:
        reply = found.recv().message
    except ResolveError as error:
        failure = error
        if log.wire is not None:
            reply = _whole(log.wire)
    if options.json:
        text = json.dumps(_as_json(log, reply, name, rdtype, failure))
        print(text.replace("\x7f", "\\u007f"))  # the one control character that JSON leaves
    else:
        _show(log, reply, failure)
    return _status(failure)


def _parse(
    arguments: Sequence[str] | None,
) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(
        prog="python -m ae_dns",
        usage="%(prog)s NAME [TYPE] [@SERVER[:PORT]] [options]",
        description="Ask name servers. An address as NAME is looked up in reverse.",
        epilog=_EXIT_STATUS,
    )
    parser.add_argument("words", nargs="+", metavar="NAME [TYPE] [@SERVER]")
    parser.add_argument("--trace", action="store_true", help="show every query and packet")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--tcp", action="store_true", help="use TCP only")
    parser.add_argument("--no-edns", action="store_true", help="ask without EDNS")
    parser.add_argument("--timeout", type=float, help="seconds per try, three tries")
    options = parser.parse_intermixed_args(arguments)
    options.server = None
    words = []
    for word in options.words:
        if word.startswith("@"):
            options.server = word[1:]
        else:
            words.append(word)
    if not 1 <= len(words) <= 2:
        parser.error("expected a name, and perhaps a type")
    options.name = words[0]
    options.type = words[1].upper() if len(words) > 1 else None
    return parser, options


def _timeouts(options: argparse.Namespace) -> dict[str, Any]:
    return {} if options.timeout is None else {"timeouts": (options.timeout,) * 3}


def _addresses(server: str) -> list[str]:
    """Return the addresses of a server that is given as address or name."""
    if ae_socket.parse_address(server.partition("%")[0]) is not None:
        return [server]
    host, port = ae_socket.parse_host_port(server, "53") or (server, "53")
    infos = ae_socket.resolve(host, port, type="dgram").recv()
    return [_endpoint(info.sockaddr) for info in infos]


def _endpoint(sockaddr: Any) -> str:
    host, port, *rest = sockaddr
    scope = f"%{rest[1]}" if rest and rest[1] else ""
    return ae_socket.format_host_port(f"{host}{scope}", port)


def _status(failure: ResolveError | None) -> int:
    if failure is None:
        return 0
    if isinstance(failure, NoData | NoSuchName):
        return _NOTHING
    return _TIMED_OUT if isinstance(failure, QueryTimedOut) else _FAILED


def _show(log: _Log, reply: dns.message.Message | None, failure: ResolveError | None) -> None:
    if reply is not None:
        flags = dns.flags.to_text(reply.flags).lower()
        print(f";; {dns.rcode.to_text(reply.rcode())}, flags {flags}, id {reply.id}")
        for title, section in (
            ("question", reply.question),
            ("answer", reply.answer),
            ("authority", reply.authority),
            ("additional", reply.additional),
        ):
            if section:
                print(f"\n;; {title}")
            for rrset in section:
                for text in rrset.to_text().split("\n"):
                    _say(f";{text}" if section is reply.question else text)
        print()
    if failure is not None:
        _say(f";; {failure}")
    source = f", {log.server} {log.transport}, {log.octets} bytes" if log.server else ""
    plural = "query" if log.queries == 1 else "queries"
    print(f";; {log.queries} {plural}, {log.milliseconds():.1f} ms{source}")


def _as_json(
    log: _Log,
    reply: dns.message.Message | None,
    name: str,
    rdtype: str,
    failure: ResolveError | None,
) -> dict[str, Any]:
    rcode = None if failure is None else failure.rcode
    if reply is not None:
        rcode = reply.rcode()
    answers = []
    for rrset in reply.answer if reply is not None else ():
        for rdata in rrset:
            answers.append(
                {
                    "name": rrset.name.to_text(),
                    "ttl": rrset.ttl,
                    "type": rrset.rdtype.name,
                    "data": rdata.to_text(),
                }
            )
    return {
        "name": name,
        "type": rdtype,
        "rcode": None if rcode is None else dns.rcode.to_text(rcode),
        "answers": answers,
        "error": None if failure is None else str(failure),
        "server": log.server or None,
        "transport": log.transport if log.server else None,
        "octets": log.octets,
        "queries": log.queries,
        "milliseconds": round(log.milliseconds(), 3),
    }


if __name__ == "__main__":
    console.run("ae_dns", main)
