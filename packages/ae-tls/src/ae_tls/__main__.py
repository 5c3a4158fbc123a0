"""``python -m ae_tls HOST[:PORT]``: shake hands with a server and show the result.

Prints protocol, cipher, group, ALPN, resumption and the certificate chain. The exit status is
the verdict: 0 if the server is who it should be, 1 with one line if not, 2 for a wrong command.
"""

from __future__ import annotations

__all__ = ("main",)

import argparse
import datetime as dt
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import ae_core as ae
from ae_core.console import failed, printable, run
from ae_handle import Handle
from ae_handle.starttls import PORTS, negotiate

from ._context import Context
from ._session import Session
from ._verify import VerifyInfo, subject_of

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

# A ticket of TLS 1.3 comes some time after the handshake.
_TICKET_PATIENCE: Final = 10  # times 0.05 s
_TIMEOUT: Final = 30.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = _parse(arguments)
    host, port = options.target
    verdicts: dict[int, VerifyInfo] = {}

    def judge(info: VerifyInfo) -> bool:
        if info.depth not in verdicts or not info.ok:
            verdicts[info.depth] = info
        return info.ok or bool(options.insecure)

    try:
        # Made before the loop runs: this imports OpenSSL.
        context = Context(
            ca_file=options.ca_file,
            alpn=options.alpn,
            cert_file=options.cert,
            key_file=options.key,
            verify_callback=judge,
        )
        port = port or str(PORTS.get(options.starttls, 443))
        server = _Server(host, port, options.starttls, options.timeout)
        report = ae.run(_report(context, server, verdicts))
        if options.json:
            print(json.dumps(report).replace("\x7f", "\\u007f"))
        else:
            _show(report)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None)
        why = f" ({reason})" if isinstance(reason, str) else ""
        text = str(error) or type(error).__name__
        return failed("ae_tls", error, f"{host}: {text}{why}")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ae_tls",
        description="Shake hands with a TLS server and show the result.",
        epilog="Exit status: 0 the server is trusted; 1 it is not, or there was no handshake; 2 "
        "for bad arguments; 74 if the output cannot be written; 124 if time has run out.",
    )
    parser.add_argument("target", metavar="HOST[:PORT]", type=_target, help="default port: 443")
    parser.add_argument("--starttls", choices=sorted(PORTS), help="begin in plaintext")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=_TIMEOUT,
        help="seconds for a connection and its handshake, default 30",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--cert", metavar="F", help="show this certificate (PEM, chain behind it)")
    parser.add_argument("--key", metavar="F", help="its key, if it is in a file of its own")
    parser.add_argument("--ca-file", metavar="F", help="trust these CAs instead of the system's")
    parser.add_argument("--alpn", metavar="P", action="append", help="offer this protocol")
    parser.add_argument(
        "--insecure", action="store_true", help="go on if the server is not trusted, and show it"
    )
    return parser.parse_args(arguments)


class _Server(NamedTuple):
    """The server to connect to, and how."""

    host: str
    port: str
    dialogue: str | None
    timeout: float


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, got {text!r}")
    return seconds


def _target(text: str) -> tuple[str, str | None]:
    """Take ``host``, ``host:port``, ``[v6]``, ``[v6]:port`` or a bare IPv6 address apart."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise argparse.ArgumentTypeError(f"expected [HOST]:PORT, got {text!r}")
        port = rest[1:]
    elif text.count(":") > 1:
        host, port = text, ""
    else:
        host, _, port = text.partition(":")
    if not host or (port and not port.isalnum()):
        raise argparse.ArgumentTypeError(f"expected HOST or HOST:PORT, got {text!r}")
    return host, port or None


async def _report(
    context: Context, server: _Server, verdicts: dict[int, VerifyInfo]
) -> dict[str, Any]:
    """Shake hands; return the result as plain values."""
    handle = await _connect(context, server)
    session = handle.tls
    assert isinstance(session, Session)
    report: dict[str, Any] = {
        "protocol": session.version,
        "cipher": session.cipher,
        "cipher_bits": session.cipher_bits,
        "group": session.group,
        "alpn": session.alpn,
    }
    handle.destroy()
    report["resumption"] = await _resumes(server)
    report["certificates"] = [
        _certificate(certificate, verdicts.get(depth))
        for depth, certificate in enumerate(session.chain)
    ]
    refused = [info for info in verdicts.values() if not info.ok]
    report["verdict"] = refused[0].reason if refused else "ok"
    report["message"] = refused[0].message if refused else None
    return report


async def _resumes(server: _Server) -> bool:
    """Find out whether the server resumes sessions; its identity was judged before.

    It takes a context of its own: with a ``verify_callback`` nothing is resumed.
    """
    context = Context(verify=False)
    first = await _connect(context, server)
    for _ in range(_TICKET_PATIENCE):
        if context.can_resume(server.host):
            break
        await ae.sleep(0.05)
    first.destroy()
    again = await _connect(context, server)
    session = again.tls
    assert isinstance(session, Session)
    again.destroy()
    return session.resumed


async def _connect(context: Context, server: _Server) -> Handle:
    """Return a handle whose TLS handshake is done; raises whatever prevented it."""
    outcome: ae.CondVar[None] = ae.CondVar()

    def broken(handle: Handle, error: BaseException) -> None:
        if not outcome.ready:
            outcome.throw(error)

    def started(handle: Handle, error: BaseException | None) -> None:
        if error is not None:
            broken(handle, error)
        elif not outcome.ready:
            outcome.send(None)

    host, port, dialogue, timeout = server
    options: dict[str, Any] = {} if dialogue else {"tls": "connect"}
    handle = Handle(
        connect=(host, port),
        peer_name=host,
        tls_context=context,
        on_tls_started=started,
        on_connect_error=broken,
        on_error=broken,
        handshake_timeout=None,
        linger=0,
        **options,
    )
    try:
        async with ae.timeout(timeout):
            if dialogue:
                await negotiate(handle, dialogue, host)
                handle.start_tls("connect")
            await outcome
    except BaseException:
        handle.destroy()
        raise
    return handle


def _certificate(certificate: Certificate, info: VerifyInfo | None) -> dict[str, Any]:
    return {
        "subject": subject_of(certificate),
        "names": _names(certificate),
        "issuer": certificate.issuer.rfc4514_string(),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "verdict": None if info is None else "ok" if info.ok else info.reason,
    }


def _show(report: dict[str, Any]) -> None:
    _say(f"protocol:   {report['protocol']}")
    _say(f"cipher:     {report['cipher']} ({report['cipher_bits']} bits)")
    _say(f"group:      {report['group'] or 'not known'}")
    _say(f"alpn:       {report['alpn'] or 'none'}")
    _say(f"resumption: {'yes' if report['resumption'] else 'no'}")
    for depth, certificate in enumerate(report["certificates"]):
        _say(f"{depth}: {certificate['subject']}")
        if certificate["names"]:
            _say(f"   names:   {', '.join(certificate['names'])}")
        _say(f"   issuer:  {certificate['issuer'] or 'empty'}")
        _say(f"   valid:   {_dates(certificate)}")
        if certificate["verdict"] is not None:
            _say(f"   verdict: {certificate['verdict']}")
    message = report["message"]
    _say("verdict:    " + (f"{report['verdict']}: {message}" if message else "ok"))


def _say(line: str) -> None:
    """Print a line with the control characters in it, which the server may have sent, escaped."""
    print(printable(line))


def _names(certificate: Certificate) -> list[str]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [str(name.value) for name in names]


def _dates(certificate: dict[str, Any]) -> str:
    start = dt.datetime.fromisoformat(certificate["not_before"])
    end = dt.datetime.fromisoformat(certificate["not_after"])
    days = (end - dt.datetime.now(dt.UTC)).days
    return f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC, {days} days left"


if __name__ == "__main__":
    run("ae_tls", main)
