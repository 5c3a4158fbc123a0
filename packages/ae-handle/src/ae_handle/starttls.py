"""The plaintext dialogues that lead to TLS, by protocol.

    await ae_handle.starttls.negotiate(handle, "imap", "mail.example.org")
    handle.start_tls("connect")

Each speaks until the server says "go ahead". Nothing that the server says before that is believed
afterwards: what is left in the handle's buffer is given to the TLS engine, where it fails.
"""

from __future__ import annotations

__all__ = ("PORTS", "negotiate")

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from ._errors import BadMessage
from .types import Chunk, Regex

if TYPE_CHECKING:
    from ._handle import Handle

PORTS: Final = {
    "ftp": 21,
    "imap": 143,
    "ldap": 389,
    "mysql": 3306,
    "nntp": 119,
    "pop3": 110,
    "postgres": 5432,
    "sieve": 4190,
    "smtp": 25,
    "xmpp": 5222,
}
"""The protocols that :func:`negotiate` speaks, with their ports."""

# For a server that never ends its list.
_MOST_CAPABILITIES: Final = 1000

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


async def _smtp(handle: Handle, host: str) -> None:
    """Go through greeting, EHLO and STARTTLS (RFC 3207 4)."""
    await _smtp_reply(handle, b"220")
    handle.push_write(b"EHLO ae-handle.invalid\r\n")
    offers = await _smtp_reply(handle, b"250")
    if b"STARTTLS" not in [offer[4:].upper().rstrip() for offer in offers]:
        raise BadMessage("the server does not offer STARTTLS")
    handle.push_write(b"STARTTLS\r\n")
    await _smtp_reply(handle, b"220")


async def _imap(handle: Handle, host: str) -> None:
    """Go through greeting and STARTTLS (RFC 9051 6.2.1)."""
    greeting = await _line(handle)
    if not greeting.startswith((b"* OK", b"* PREAUTH")):
        raise BadMessage(f"expected an IMAP greeting, got {greeting!r}")
    handle.push_write(b"a1 STARTTLS\r\n")
    while (answer := await _line(handle)).startswith(b"* "):
        continue
    if not answer.upper().startswith(b"A1 OK"):
        raise BadMessage(f"the server does not offer STARTTLS: {answer!r}")


async def _nntp(handle: Handle, host: str) -> None:
    """Go through greeting and STARTTLS (RFC 4642 2.2)."""
    greeting = await _line(handle)
    if not greeting.startswith((b"200", b"201")):
        raise BadMessage(f"expected a 200 or 201 greeting, got {greeting!r}")
    handle.push_write(b"STARTTLS\r\n")
    answer = await _line(handle)
    if not answer.startswith(b"382"):
        raise BadMessage(f"the server does not offer STARTTLS: {answer!r}")


async def _xmpp(handle: Handle, host: str) -> None:
    """Go through stream opening, features and <starttls/> (RFC 6120 5.4.2)."""
    from xml.sax.saxutils import quoteattr

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


async def _pop3(handle: Handle, host: str) -> None:
    """Go through greeting and STLS (RFC 2595 4)."""
    greeting = await _line(handle)
    if not greeting.startswith(b"+OK"):
        raise BadMessage(f"expected a POP3 greeting, got {greeting!r}")
    handle.push_write(b"STLS\r\n")
    answer = await _line(handle)
    if not answer.startswith(b"+OK"):
        raise BadMessage(f"the server does not offer STLS: {answer!r}")


async def _ftp(handle: Handle, host: str) -> None:
    """Go through greeting and AUTH TLS (RFC 4217 4)."""
    await _smtp_reply(handle, b"220")
    handle.push_write(b"AUTH TLS\r\n")
    await _smtp_reply(handle, b"234")


async def _sieve(handle: Handle, host: str) -> None:
    """Go through capabilities and STARTTLS (RFC 5804 2.2)."""
    capabilities: list[bytes] = []
    line = await _line(handle)
    while line.startswith(b'"') and len(capabilities) < _MOST_CAPABILITIES:
        capabilities.append(line.upper())
        line = await _line(handle)
    if not line.startswith(b"OK"):
        raise BadMessage(f"expected the capabilities of ManageSieve, got {line!r}")
    if not any(each.startswith(b'"STARTTLS"') for each in capabilities):
        raise BadMessage("the server does not offer STARTTLS")
    handle.push_write(b"STARTTLS\r\n")
    answer = await _line(handle)
    if not answer.startswith(b"OK"):
        raise BadMessage(f"the server refuses STARTTLS: {answer!r}")


# An ExtendedRequest with the name 1.3.6.1.4.1.1466.20037, in BER; the message is number 1.
_LDAP_START_TLS: Final = b"\x30\x1d\2\1\1\x77\x18\x80\x16" + b"1.3.6.1.4.1.1466.20037"
_LDAP_LONGEST: Final = 65536


async def _ldap(handle: Handle, host: str) -> None:
    """Go through StartTLS (RFC 4511 4.14)."""
    handle.push_write(_LDAP_START_TLS)
    tag, size = await handle.push_read(Chunk(2))
    if tag == 0x30 and 0x80 < size <= 0x84:
        size = int.from_bytes(await handle.push_read(Chunk(size - 0x80)), "big")
    elif tag != 0x30 or size >= 0x80:
        raise BadMessage("the answer is no LDAP message")
    if size > _LDAP_LONGEST:
        raise BadMessage(f"an LDAP message of {size} bytes is no answer to StartTLS")
    message = await handle.push_read(Chunk(size))
    kind, response, _rest = _ber(_ber(message)[2])
    code_tag, code, _rest = _ber(response)
    if kind != 0x78 or code_tag != 0x0A:
        raise BadMessage("the answer is no ExtendedResponse")
    if any(code):
        raise BadMessage(f"the server refuses StartTLS with result {int.from_bytes(code, 'big')}")


def _ber(data: bytes) -> tuple[int, bytes, bytes]:
    """Return tag and contents of the first BER element in *data*, and what follows it."""
    if len(data) < 2:
        raise BadMessage("the LDAP message is too short")
    size, start = data[1], 2
    if size >= 0x80:
        start = 2 + size - 0x80
        size = int.from_bytes(data[2:start], "big")
    if len(data) < start + size:
        raise BadMessage("the LDAP message is too short")
    return data[0], data[start : start + size], data[start + size :]


async def _postgres(handle: Handle, host: str) -> None:
    """Go through SSLRequest (PostgreSQL's protocol 3, "SSL Session Encryption")."""
    handle.push_write(b"\0\0\0\x08\x04\xd2\x16\x2f")
    answer = await handle.push_read(Chunk(1))
    if answer != b"S":
        raise BadMessage(f"the server does not offer TLS: {answer!r}")


# Capabilities: CLIENT_PROTOCOL_41, CLIENT_SSL, CLIENT_SECURE_CONNECTION.
_MYSQL_SSL: Final = 0x800
_MYSQL_CAPABILITIES: Final = 0x200 | _MYSQL_SSL | 0x8000


async def _mysql(handle: Handle, host: str) -> None:
    """Go through the server's handshake packet and SSLRequest (protocol version 10)."""
    head = await handle.push_read(Chunk(4))
    greeting = await handle.push_read(Chunk(int.from_bytes(head[:3], "little")))
    if greeting[:1] != b"\x0a":
        raise BadMessage(f"expected MySQL's handshake, got {greeting[:80]!r}")
    # version text, thread (4), scramble (8), filler (1), lower half of the capabilities
    at = greeting.find(b"\0") + 1 + 4 + 8 + 1
    if not int.from_bytes(greeting[at : at + 2], "little") & _MYSQL_SSL:
        raise BadMessage("the server does not offer TLS")
    request = _MYSQL_CAPABILITIES.to_bytes(4, "little") + b"\0\0\0\x01" + b"\x2d" + bytes(23)
    handle.push_write(len(request).to_bytes(3, "little") + b"\1" + request)


_DIALOGUES: Final[dict[str, Callable[[Handle, str], Coroutine[Any, Any, None]]]] = {
    "ftp": _ftp,
    "imap": _imap,
    "ldap": _ldap,
    "mysql": _mysql,
    "nntp": _nntp,
    "pop3": _pop3,
    "postgres": _postgres,
    "sieve": _sieve,
    "smtp": _smtp,
    "xmpp": _xmpp,
}


async def negotiate(handle: Handle, protocol: str, host: str) -> None:
    """Speak *protocol* until the server is ready for TLS; ``handle.start_tls`` comes next.

    Args:
        handle: A handle that is connected, or connecting, and from which nothing has been read.
        protocol: One of :data:`PORTS`.
        host: The server's name, for protocols that say it (XMPP).

    Raises:
        ValueError: If *protocol* is unknown.
        BadMessage: If the server does not offer TLS, refuses it, or speaks something else.
        HandleError: If the connection fails.
    """
    try:
        dialogue = _DIALOGUES[protocol]
    except (KeyError, TypeError):
        known = ", ".join(_DIALOGUES)
        raise ValueError(f"expected one of {known}, got {protocol!r}") from None
    await dialogue(handle, host)
