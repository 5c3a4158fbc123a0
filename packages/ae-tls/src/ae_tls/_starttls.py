"""The plaintext dialogues that lead to STARTTLS, as far as the command line needs them.

Each takes a handle, speaks until the server says "go ahead", and returns. Nothing that the
server says before that is believed afterwards: what is left in the handle's buffer is given to
the TLS engine, where it fails.
"""

from __future__ import annotations

__all__ = ("DIALOGUES", "PORTS", "imap", "nntp", "smtp", "xmpp")

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from ae_handle import BadMessage

if TYPE_CHECKING:
    from ae_handle import Handle

PORTS: Final = {"smtp": 25, "imap": 143, "xmpp": 5222, "nntp": 119}

_XMPP_TLS: Final = b"urn:ietf:params:xml:ns:xmpp-tls"


async def _line(handle: Handle) -> bytes:
    line = await handle.push_read("line")
    assert isinstance(line, bytes)
    return line


async def _smtp_reply(handle: Handle, wanted: bytes) -> list[bytes]:
    """Read a reply of any number of lines; all begin with one code (RFC 5321 4.2.1)."""
    lines = [await _line(handle)]
    while lines[-1][3:4] == b"-":
        lines.append(await _line(handle))
    if not lines[-1].startswith(wanted):
        raise BadMessage(f"expected a {wanted.decode()} reply, got {lines[-1]!r}")
    return lines


async def smtp(handle: Handle, host: str) -> None:
    """Go through greeting, EHLO and STARTTLS (RFC 3207 4)."""
    await _smtp_reply(handle, b"220")
    handle.push_write(b"EHLO ae-tls.invalid\r\n")
    offers = await _smtp_reply(handle, b"250")
    if b"STARTTLS" not in [offer[4:].upper().rstrip() for offer in offers]:
        raise BadMessage("the server does not offer STARTTLS")
    handle.push_write(b"STARTTLS\r\n")
    await _smtp_reply(handle, b"220")


async def imap(handle: Handle, host: str) -> None:
    """Go through greeting and STARTTLS (RFC 9051 6.2.1)."""
    greeting = await _line(handle)
    if not greeting.startswith((b"* OK", b"* PREAUTH")):
        raise BadMessage(f"expected an IMAP greeting, got {greeting!r}")
    handle.push_write(b"a1 STARTTLS\r\n")
    while (answer := await _line(handle)).startswith(b"* "):
        continue
    if not answer.upper().startswith(b"A1 OK"):
        raise BadMessage(f"the server does not offer STARTTLS: {answer!r}")


async def nntp(handle: Handle, host: str) -> None:
    """Go through greeting and STARTTLS (RFC 4642 2.2)."""
    greeting = await _line(handle)
    if not greeting.startswith((b"200", b"201")):
        raise BadMessage(f"expected a 200 or 201 greeting, got {greeting!r}")
    handle.push_write(b"STARTTLS\r\n")
    answer = await _line(handle)
    if not answer.startswith(b"382"):
        raise BadMessage(f"the server does not offer STARTTLS: {answer!r}")


async def xmpp(handle: Handle, host: str) -> None:
    """Go through stream opening, features and <starttls/> (RFC 6120 5.4.2)."""
    from xml.sax.saxutils import quoteattr

    from ae_handle import Regex

    opening = (
        f"<?xml version='1.0'?><stream:stream to={quoteattr(host)} version='1.0' "
        "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
    )
    handle.push_write(opening.encode())
    end = rb"</stream:features>|<stream:features\s*/>|</stream:stream>"
    features = await handle.push_read(Regex(end))
    if _XMPP_TLS not in features:
        raise BadMessage("the server does not offer STARTTLS")
    handle.push_write(b"<starttls xmlns='" + _XMPP_TLS + b"'/>")
    answer = await handle.push_read(Regex(rb"<(proceed|failure)\b[^>]*>"))
    if b"<proceed" not in answer:
        raise BadMessage("the server refuses STARTTLS")
    if not answer.endswith(b"/>"):
        await handle.push_read(Regex(rb"</proceed\s*>"))


DIALOGUES: Final[dict[str, Callable[[Handle, str], Coroutine[Any, Any, None]]]] = {
    "smtp": smtp,
    "imap": imap,
    "xmpp": xmpp,
    "nntp": nntp,
}
