"""One request, as it goes over the wire. Sans-I/O, and never changed once made."""

from __future__ import annotations

__all__ = ("IDEMPOTENT", "Request", "check_fields", "make_request")

import re
from typing import TYPE_CHECKING, Any, Final

from ._cookies import cookies_for
from ._errors import InvalidRequest
from ._headers import TOKEN, encode_fields
from ._message import encode_head
from ._upload import Upload, make_upload

if TYPE_CHECKING:
    from http.cookiejar import CookieJar

    from ._headers import HeadersInput
    from ._url import Target

# RFC 9110 9.2.2: asking twice is the same as asking once
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
# RFC 9110 8.6: these say "Content-Length: 0" if they have no body
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
# What the connection is about is for the client to say; with these a caller could make us and the
# server disagree about where a message ends, or tell the server what is for the proxy.
_OURS: Final = frozenset(
    {
        "connection",
        "expect",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
    }
)
# A server that gets one of these twice may heed the first or the last
_ONCE: Final = frozenset({"authorization", "content-length", "host"})
_PROTOCOL: Final = re.compile(f"{TOKEN.pattern}(?:/{TOKEN.pattern})?")
_EXPECT: Final = b"\r\nExpect: 100-continue\r\n"
_JOIN: Final = 65536  # a body up to this size is sent in one piece with the head


class Request:
    """A method, a target, header fields and a body.

    Attributes:
        method: The method.
        target: The URL, taken apart.
        fields: The caller's header fields, checked.
        body: Bytes, an upload, or None.
        wire: The head, and the body behind it if that is small; for a server.
        expect: For how many seconds the body waits for the server to say that it wants it; None
            if it does not wait.
        may_repeat: Whether asking twice does no harm, and is possible.
    """

    __slots__ = ("body", "expect", "fields", "may_repeat", "method", "target", "wire")

    def __init__(
        self,
        method: str,
        target: Target,
        fields: list[tuple[str, str]],
        body: bytes | Upload | None,
        wire: bytes,
        expect: float | None = None,
    ) -> None:
        self.method = method
        self.target = target
        self.fields = fields
        self.body = body
        self.wire = wire
        self.expect = expect
        self.may_repeat: bool = method in IDEMPOTENT and not isinstance(body, Upload)

    @property
    def large_body(self) -> bytes:
        """The bytes that follow ``wire``."""
        body = self.body
        if not isinstance(body, bytes) or (len(body) <= _JOIN and self.expect is None):
            return b""
        return body

    @property
    def upload(self) -> Upload | None:
        """What is to be produced behind ``wire``."""
        return self.body if isinstance(self.body, Upload) else None

    @property
    def may_drop_expectation(self) -> bool:
        """Whether the body waits, and is still there to be sent without."""
        return self.expect is not None and not (self.upload is not None and self.upload.started)

    def without_expectation(self) -> Request:
        """Return the same request, whose body does not wait (RFC 9110 10.1.1, 417)."""
        # no value has a line break, so there is one such line
        wire = self.wire.replace(_EXPECT, b"\r\n", 1)
        if isinstance(self.body, bytes) and len(self.body) <= _JOIN:
            wire += self.body
        return Request(self.method, self.target, self.fields, self.body, wire)


def check_fields(
    headers: HeadersInput, *, upgrade: bool = False, of_client: bool = False
) -> list[tuple[str, str]]:
    """Return the fields that a caller has given.

    Args:
        headers: These.
        upgrade: They may name the protocol that is asked for.
        of_client: They are for all requests of a client.

    Raises:
        InvalidRequest: If they cannot be sent.
        TypeError: If one is no field at all.
    """
    fields = encode_fields(headers)
    seen = set()
    for spelled, _ in fields:
        name = spelled.lower()
        if name in _OURS or (name == "upgrade" and not upgrade):
            raise InvalidRequest(f"the field {name!r} is set by the client itself, not by callers")
        if of_client and name == "content-length":
            raise InvalidRequest(f"the field {name!r} is for one request, not for all of a client")
        if name in _ONCE and name in seen:
            raise InvalidRequest(f"expected one {spelled}, got several")
        seen.add(name)
    return fields


def make_request(
    method: str,
    target: Target,
    headers: HeadersInput,
    body: Any,
    defaults: list[tuple[str, str]],
    *,
    proxy: Target | None = None,
    upgrade: str | None = None,
    close: bool = False,
    expect: float | None = None,
    cookies: CookieJar | None = None,
) -> Request:
    """Return a checked request.

    Args:
        headers: The caller's.
        body: As ``Client.request`` takes it, or what an earlier request had.
        defaults: What is sent unless the caller says otherwise.
        proxy: The proxy that is to be asked with the whole URL.
        upgrade: The protocol to ask for.
        close: Ask the server to close the connection afterwards.
        expect: For how many seconds a body waits for the server's consent; None: not at all.
        cookies: The jar that is asked, unless there is a ``Cookie`` already.

    Raises:
        InvalidRequest: If it cannot be sent.
        TypeError: If an argument is of the wrong kind.
    """
    if not isinstance(method, str):
        raise TypeError(f"expected a method as a str, got {method!r}")
    if not TOKEN.fullmatch(method) or method == "CONNECT":
        raise InvalidRequest(f"expected a method such as 'GET', got {method!r}")
    if upgrade is not None and not _PROTOCOL.fullmatch(upgrade):
        raise InvalidRequest(f"expected a protocol such as 'websocket', got {upgrade!r}")
    fields = check_fields(headers, upgrade=upgrade is not None)
    given = {name.lower(): value for name, value in fields}
    length: int | None = None
    if "content-length" in given:
        value = given["content-length"]
        if not value.isdecimal() or not value.isascii():
            raise InvalidRequest(f"expected Content-Length as a number, got {value!r}")
        length = int(value)
    if isinstance(body, Upload):
        if body.started:
            raise InvalidRequest("the request body cannot be produced a second time")
    else:
        body = make_upload(body, length)
    own = [*fields]
    if target.credentials is not None and "authorization" not in given:
        own.append(("Authorization", target.credentials))
    names = {name.lower() for name, _ in own}
    wire_fields = [pair for pair in defaults if pair[0].lower() not in names]
    if not any(name.lower() == "host" for name, _ in (*own, *wire_fields)):
        wire_fields.insert(0, ("Host", target.authority))
    wire_fields += own
    if cookies is not None and not any(name.lower() == "cookie" for name, _ in wire_fields):
        wire_fields += cookies_for(cookies, target)
    if proxy is not None and proxy.credentials is not None:
        wire_fields.append(("Proxy-Authorization", proxy.credentials))
    if isinstance(body, Upload):
        if body.length is None:
            wire_fields.append(("Transfer-Encoding", "chunked"))
    elif "content-length" not in given and (body is not None or method in _WITH_BODY):
        wire_fields.append(("Content-Length", str(len(body or b""))))
    if upgrade is not None:
        wire_fields += [("Connection", "Upgrade"), ("Upgrade", upgrade)]
    elif close:
        wire_fields.append(("Connection", "close"))
    asked = target.path if proxy is None else target.url
    if not body:
        expect = None
    if expect is not None:
        wire_fields.append(("Expect", "100-continue"))
    wire = encode_head(method, asked, wire_fields)
    if isinstance(body, bytes) and len(body) <= _JOIN and expect is None:
        wire += body
    return Request(method, target, fields, body, wire, expect)
