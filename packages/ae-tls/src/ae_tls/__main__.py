"""``python -m ae_tls HOST[:PORT]``: shake hands with a server and show what came of it.

Prints protocol, cipher, group, ALPN, resumption and the certificate chain. The exit status is
the verdict: 0 if the server is who it should be, 1 with one line if not, 2 for a wrong command.
"""

from __future__ import annotations

__all__ = ("main",)

import argparse
import datetime as dt
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import ae_core as ae
from ae_core.console import printable, run
from ae_handle import Handle

from ._context import Context
from ._session import Session
from ._starttls import DIALOGUES, PORTS
from ._verify import VerifyInfo, subject_of

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

# A ticket of TLS 1.3 comes after the handshake, at the server's leisure.
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
        context = Context(ca_file=options.ca_file, alpn=options.alpn, verify_callback=judge)
        port = port or str(PORTS.get(options.starttls, 443))
        ae.run(_show(context, options.starttls, host, port, verdicts))
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None)
        why = f" ({reason})" if isinstance(reason, str) else ""
        text = str(error) or type(error).__name__
        print(printable(f"ae_tls: {host}: {text}{why}"), file=sys.stderr)
        return 1
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ae_tls", description="Shake hands with a TLS server and show the result."
    )
    parser.add_argument("target", metavar="HOST[:PORT]", type=_target, help="default port: 443")
    parser.add_argument("--starttls", choices=sorted(DIALOGUES), help="begin in clear")
    parser.add_argument("--ca-file", metavar="F", help="trust these CAs instead of the system's")
    parser.add_argument("--alpn", metavar="P", action="append", help="offer this protocol")
    parser.add_argument(
        "--insecure", action="store_true", help="go on if the server is not trusted, and show it"
    )
    return parser.parse_args(arguments)


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


async def _show(
    context: Context, dialogue: str | None, host: str, port: str, verdicts: dict[int, VerifyInfo]
) -> None:
    handle = await _connect(context, dialogue, host, port)
    session = handle.tls
    assert isinstance(session, Session)
    _print_session(session)
    handle.destroy()
    resumed = await _resumes(dialogue, host, port)
    print(f"resumption: {'yes' if resumed else 'no'}")
    for depth, certificate in enumerate(session.chain):
        _print_certificate(depth, certificate, verdicts.get(depth))
    refused = [info for info in verdicts.values() if not info.ok]
    _say("verdict:    " + (f"{refused[0].reason}: {refused[0].message}" if refused else "ok"))


async def _resumes(dialogue: str | None, host: str, port: str) -> bool:
    """Find out whether the server resumes sessions; whose it is was judged before.

    It takes a context of its own: with a ``verify_callback`` nothing is resumed.
    """
    context = Context(verify=False)
    first = await _connect(context, dialogue, host, port)
    for _ in range(_TICKET_PATIENCE):
        if context.can_resume(host):
            break
        await ae.sleep(0.05)
    first.destroy()
    again = await _connect(context, dialogue, host, port)
    session = again.tls
    assert isinstance(session, Session)
    again.destroy()
    return session.resumed


async def _connect(context: Context, dialogue: str | None, host: str, port: str) -> Handle:
    """Return a handle whose TLS handshake is done; raises whatever prevented it."""
    outcome: ae.CondVar[None] = ae.CondVar()

    def failed(handle: Handle, error: BaseException) -> None:
        if not outcome.ready:
            outcome.throw(error)

    def started(handle: Handle, error: BaseException | None) -> None:
        if error is not None:
            failed(handle, error)
        elif not outcome.ready:
            outcome.send(None)

    options: dict[str, Any] = {} if dialogue else {"tls": "connect"}
    handle = Handle(
        connect=(host, port),
        peer_name=host,
        tls_context=context,
        on_tls_started=started,
        on_connect_error=failed,
        on_error=failed,
        timeout=_TIMEOUT,
        linger=0,
        **options,
    )
    try:
        if dialogue:
            await DIALOGUES[dialogue](handle, host)
            handle.start_tls("connect")
        await outcome
    except BaseException:
        handle.destroy()
        raise
    return handle


def _print_session(session: Session) -> None:
    _say(f"protocol:   {session.version}")
    _say(f"cipher:     {session.cipher} ({session.cipher_bits} bits)")
    _say(f"group:      {session.group or 'not known'}")
    _say(f"alpn:       {session.alpn or 'none'}")


def _print_certificate(depth: int, certificate: Certificate, info: VerifyInfo | None) -> None:
    _say(f"{depth}: {subject_of(certificate)}")
    names = _names(certificate)
    if names:
        _say(f"   names:   {', '.join(names)}")
    _say(f"   issuer:  {certificate.issuer.rfc4514_string() or 'empty'}")
    _say(f"   valid:   {_dates(certificate)}")
    if info is not None:
        _say(f"   verdict: {'ok' if info.ok else info.reason}")


def _say(line: str) -> None:
    """Print a line, whatever the server put into it."""
    print(printable(line))


def _names(certificate: Certificate) -> list[str]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [str(name.value) for name in names]


def _dates(certificate: Certificate) -> str:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    days = (end - dt.datetime.now(dt.UTC)).days
    return f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC, {days} days left"


if __name__ == "__main__":
    run("ae_tls", main)
