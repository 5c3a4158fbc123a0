"""HTTP/1.1 messages: the head of a request made, the head of a response read (RFC 9112).

Sans-I/O: imports nothing from ``ae_core``; tested with plain bytes, cut at every position.
"""

from __future__ import annotations

__all__ = ("END", "End", "Event", "Head", "ResponseReader", "encode_head", "parse_fields")

import re
from collections import deque
from enum import Enum
from typing import Final, Literal, TypeAlias

from ._body import Body, ChunkedBody, CloseBody, LengthBody
from ._errors import BadResponse, ConnectionLost, HttpError, ResponseTooLarge
from ._headers import Headers, make_headers

# Theory of operation
# -------------------
# A response that arrives in one piece, by far the most frequent case, costs one match of `_HEAD`,
# which finds the end of the head and checks every byte of it, one split into lines, and one slice
# for the body. Only if that fails do we look more closely: is the head incomplete, does it use the
# old line folding, or what exactly is wrong with it?
#
# The quantifiers are possessive: nothing is ever tried twice, so the match is linear however a
# server may try. An incomplete head is kept, and only its new part is searched for the end, so a
# head that arrives byte by byte is linear, too.
#
# Which framing a body has is RFC 9112 6.3, and stands in `_framing` in the same order. What
# contradicts itself is refused, since guessing wrong means to take one response for another's.

_FIELD_LINES: Final = rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t -~\x80-\xff]*+\r?+\n)*+"
_HEAD: Final = re.compile(
    rb"HTTP/1\.([0-9]) ([1-9][0-9][0-9])(?: ([\t -~\x80-\xff]*+))?+\r?+\n("
    + _FIELD_LINES
    + rb")\r?+\n"
)
_FIELDS: Final = re.compile(_FIELD_LINES)
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
# RFC 9112 5.2: a user agent replaces each fold by blanks
_FOLD: Final = re.compile(rb"\r?\n[ \t]+")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[0-9] [1-9][0-9][0-9](?: [\t -~\x80-\xff]*)?\r?")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_START: Final = b"HTTP/1."

# How many interim responses (100, 103) one request may get before the final one
_MAX_INTERIM: Final = 32


class End(Enum):
    """The type of :data:`END`."""

    END = "end"


END: Final = End.END


class Head:
    """Status line and header fields of a response.

    Attributes:
        status: The status code.
        reason: The text behind it, which means nothing.
        minor: The minor version: 1 for HTTP/1.1.
        headers: The fields.
        keep_alive: Whether the connection can serve another request afterwards.
    """

    __slots__ = ("headers", "keep_alive", "minor", "reason", "status")

    def __init__(
        self, status: int, reason: str, minor: int, headers: Headers, keep_alive: bool
    ) -> None:
        self.status: int = status
        self.reason: str = reason
        self.minor: int = minor
        self.headers: Headers = headers
        self.keep_alive: bool = keep_alive

    def __repr__(self) -> str:
        return f"<Head {self.status} {self.reason!r}>"


# What a ResponseReader finds: a head, bytes of its body, the trailers if there were some, the end
# of the message, or that it is no message. Nothing follows an error.
Event: TypeAlias = "Head | bytes | Headers | Literal[End.END] | HttpError"


class ResponseReader:
    """Takes the bytes of one connection apart into the responses to what was asked.

    Args:
        max_head: The most bytes in a head, or in a trailer section.

    Attributes:
        rest: What follows behind the last response expected, or behind the head of one that
            switches protocols: not HTTP, or nothing we asked for.
        switched: Whether such a head was seen; the reader then has nothing more to do.

    Example:
        >>> reader = ResponseReader()
        >>> reader.expect("GET")
        >>> reader.feed(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello")
        [<Head 200 'OK'>, b'hello', <End.END: 'end'>]
    """

    __slots__ = (
        "_begun",
        "_body",
        "_expected",
        "_failed",
        "_interim",
        "_max_head",
        "_may_switch",
        "_partial",
        "_searched",
        "rest",
        "switched",
    )

    def __init__(self, max_head: int = 65536) -> None:
        self._max_head = max_head
        self._expected: deque[str] = deque()
        self._body: Body | None = None
        self._partial: bytearray | None = None
        self._searched = 0
        self._begun = False  # the status line is there, and one
        self._interim = 0
        self._failed = False
        self._may_switch = False
        self.rest: bytes = b""
        self.switched: bool = False

    def expect(self, method: str, *, may_switch: bool = False) -> None:
        """Say that a request was sent: its response comes next, behind those expected already.

        Args:
            method: Its method, on which the end of the response depends. After the head of a
                successful response to ``CONNECT`` there is no more HTTP.
            may_switch: It asks for another protocol, so status 101 is a final one, and the same.
        """
        self._expected.append(method)
        self._may_switch = may_switch

    @property
    def started(self) -> bool:
        """Whether any byte of the next response has arrived."""
        return self._body is not None or self._partial is not None or self._interim > 0

    def feed(self, data: bytes) -> list[Event]:
        """Return what *data* brings."""
        events: list[Event] = []
        if self._failed:
            return events
        pos = 0
        size = len(data)
        try:
            while pos < size:
                body = self._body
                if body is None:
                    if self.switched or not self._expected:
                        self.rest += data[pos:]
                        break
                    head, pos = self._head(data, pos)
                    if head is None:
                        break
                    if head.status < 200 and head.status != 101:
                        self._interim += 1
                        if self._interim > _MAX_INTERIM:
                            raise BadResponse(f"more than {_MAX_INTERIM} interim responses")
                        if head.status == 100:
                            events.append(head)
                        continue
                    self._begin(head, events)
                    continue
                payload, pos = body.feed(data, pos)
                if payload:
                    events.append(payload)
                if body.done:
                    self._end(body, events)
        except HttpError as error:
            self._failed = True
            events.append(error)
        return events

    def eof(self) -> list[Event]:
        """Return what the end of the connection means for the response that comes next."""
        if self._failed or self.switched or not self._expected:
            return []
        body = self._body
        if body is None:
            self._failed = True
            what = "in the head of the response" if self.started else "before the response"
            return [ConnectionLost(f"the server closed the connection {what}")]
        if not body.eof():
            self._failed = True
            return [
                ConnectionLost(
                    "the server closed the connection in the body of the response", phase="body"
                )
            ]
        events: list[Event] = []
        self._end(body, events)
        return events

    # ------------------------------------------------------------------ internals

    def _begin(self, head: Head, events: list[Event]) -> None:
        """A final response has begun."""
        method = self._expected[0]
        self._interim = 0
        if (method == "CONNECT" and 200 <= head.status < 300) or (
            self._may_switch and head.status == 101
        ):
            self._expected.popleft()
            self.switched = True
            events += (head, END)
            return
        body = _framing(method, head, self._max_head)
        events.append(head)
        if body is None or body.done:
            self._expected.popleft()
            events.append(END)
        else:
            self._body = body

    def _end(self, body: Body, events: list[Event]) -> None:
        self._body = None
        self._expected.popleft()
        if trailers := body.trailers:
            events.append(parse_fields(trailers))
        events.append(END)

    def _head(self, data: bytes, pos: int) -> tuple[Head | None, int]:
        """Return the head at *pos*, or None, and where it ends."""
        partial = self._partial
        if partial is None:
            match = _HEAD.match(data, pos)
            if match is not None:
                if match.end() - pos > self._max_head:
                    raise self._too_large()
                return _head_of(match), match.end()
            end = _BLANK_LINE.search(data, pos)
            if end is None:
                self._partial = bytearray(memoryview(data)[pos:])
                self._searched = 0
                self._begun = False
                self._check_partial(self._partial)
                return None, len(data)
            return self._closer(data[pos : end.end()]), end.end()
        before = len(partial)
        # at most what may still belong to the head: a body behind it is not copied twice
        partial += memoryview(data)[pos : pos + self._max_head + 1]
        end = _BLANK_LINE.search(partial, self._searched)
        if end is None:
            self._check_partial(partial)
            return None, len(data)
        head = bytes(partial[: end.end()])
        self._partial = None
        return self._closer(head), pos + end.end() - before

    def _check_partial(self, partial: bytearray) -> None:
        """Raise if what is there of a head cannot become one."""
        if not _START.startswith(partial[: len(_START)]):
            raise BadResponse(f"expected HTTP/1.1, got {bytes(partial[:40])!r}")
        if len(partial) > self._max_head:
            raise self._too_large()
        if not self._begun and partial.find(b"\n", self._searched) >= 0:
            _check_status_line(bytes(partial))
            self._begun = True
        self._searched = max(0, len(partial) - 2)

    def _closer(self, head: bytes) -> Head:
        """Return the head that `_HEAD` did not take as it was, or say what is wrong with it."""
        if len(head) > self._max_head:
            raise self._too_large()
        match = _HEAD.fullmatch(head)
        if match is None:
            line, _, fields = head.partition(b"\n")
            if fields[:1] not in (b" ", b"\t"):  # a fold of the status line is none
                fields = _FOLD.sub(b" ", fields)
                match = _HEAD.fullmatch(line + b"\n" + fields)
            if match is None:
                _check_status_line(head)
                raise _bad_field(fields)
        return _head_of(match)

    def _too_large(self) -> ResponseTooLarge:
        return ResponseTooLarge(f"the head of the response has more than {self._max_head} bytes")


def _check_status_line(head: bytes) -> None:
    line = head.partition(b"\n")[0]
    if not _STATUS_LINE.fullmatch(line):
        raise BadResponse(f"expected the status line of a response, got {line[:80]!r}")


def _bad_field(lines: bytes) -> BadResponse:
    """Return the error for the first line that is no header field."""
    for line in lines.split(b"\n"):
        if not _FIELDS.fullmatch(line + b"\n"):
            return BadResponse(f"expected a header field, got {line[:80]!r}")
    return BadResponse(f"expected header fields, got {lines[:80]!r}")


def _head_of(match: re.Match[bytes]) -> Head:
    version, status, reason, lines = match.groups()
    headers = _split(lines)
    minor = 0 if version == b"0" else 1
    connection = headers.get("connection")
    if connection is None:
        keep_alive = minor == 1
    elif connection == "keep-alive":
        keep_alive = True
    else:
        options = {option.strip().lower() for option in connection.split(",")}
        keep_alive = "close" not in options and (minor == 1 or "keep-alive" in options)
    text = "" if reason is None else reason.decode("latin-1")
    return Head(int(status), text, minor, headers, keep_alive)


def _split(lines: bytes) -> Headers:
    """Return the fields in *lines*, which were checked."""
    raw = []
    values: dict[str, str] = {}
    repeated: dict[str, list[str]] | None = None
    for line in lines.decode("latin-1").split("\n"):
        name, colon, value = line.partition(":")
        if not colon:
            continue  # the end
        value = value.strip(" \t\r")
        raw.append((name, value))
        name = name.lower()
        if name not in values:
            values[name] = value
        elif repeated is None:
            repeated = {name: [values[name], value]}
        else:
            repeated.setdefault(name, [values[name]]).append(value)
    if repeated is not None:
        values.update((name, ", ".join(each)) for name, each in repeated.items())
    return make_headers(raw, values)


def parse_fields(lines: bytes) -> Headers:
    """Return the header fields in the *lines* of a trailer section.

    Raises:
        BadResponse: If one is not a field.
    """
    if lines[:1] not in (b" ", b"\t"):
        lines = _FOLD.sub(b" ", lines)
    if not _FIELDS.fullmatch(lines):
        raise _bad_field(lines)
    return _split(lines)


def _framing(method: str, head: Head, max_trailers: int) -> Body | None:
    """Return how the body of the response ends (RFC 9112 6.3); None if there is none.

    Raises:
        BadResponse: If the response contradicts itself.
    """
    status = head.status
    if method == "HEAD" or status in (204, 304):
        return None
    if status == 101:
        raise BadResponse("the server switches protocols, and was not asked to")
    headers = head.headers
    coding = headers.get("transfer-encoding")
    length = headers.get("content-length")
    if coding is not None:
        if length is not None:
            # RFC 9112 6.3: smells of response splitting, "ought to be handled as an error"
            raise BadResponse("the response has both Transfer-Encoding and Content-Length")
        if head.minor == 0:
            raise BadResponse("a response in HTTP/1.0 cannot have Transfer-Encoding")
        if coding.strip().lower() != "chunked":
            # we have sent no TE, so there is no other one that the server may use
            raise BadResponse(f"expected Transfer-Encoding: chunked, got {coding[:80]!r}")
        return ChunkedBody(max_trailers)
    if length is None:
        head.keep_alive = False
        return CloseBody()
    if not _LENGTH.fullmatch(length):
        # the same length several times is one (RFC 9110 8.6)
        lengths = {each.strip(" \t") for each in length.split(",")}
        length = lengths.pop()
        if lengths or not _LENGTH.fullmatch(length):
            raise BadResponse(
                f"expected one Content-Length, got {headers['content-length'][:80]!r}"
            )
    return LengthBody(int(length))


def encode_head(method: str, target: str, fields: list[tuple[str, str]]) -> bytes:
    """Return the head of a request; all of it was checked before."""
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in fields]
    lines.append("\r\n")
    return "\r\n".join(lines).encode("latin-1")
