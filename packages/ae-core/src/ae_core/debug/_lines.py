"""Which lines the debug shell takes: typed text, and nothing of another protocol.

Bytes in, a verdict out; no sockets. The shell asks for each line before it is run, and its client
before it is sent.
"""

from __future__ import annotations

__all__ = ("LONGEST_LINE", "binary", "refusal")

import re
from typing import Final

# Theory of operation
# -------------------
# Every program of this machine can reach a loopback port, and some say there what a stranger
# chose: a browser posts the form of a page, and its TLS handshake carries the session ticket that
# the page's server made, both with as many lines of Python as you like. What the stranger does not
# choose is how these protocols begin: with a request line or the header of a record, and all that
# follows is behind it. So the connection ends at the first line that no person types, whatever
# stands there, and nothing behind is looked at.
#
# Lines in front of it have been run. A client of another protocol has none, and how bytes are
# cut into packets is chance: the verdict on a line must not depend on what came along with it.

LONGEST_LINE: Final = 64 * 1024

_HTTP: Final = re.compile(
    rb"""
    [A-Za-z]+ [ ]+ \S+ [ ]+ HTTP/\d                            # a request, and a response:
    | HTTP/\d
    | (?:CONNECT|DELETE|GET|HEAD|OPTIONS|PATCH|POST|PRI|PUT|TRACE) [ ]+ [/*\[\w]
    | (?i: accept | authorization | connection | cookie | expect | from | host | origin | range
      | referer | upgrade | via                                # a field, by name, or with a
      | [a-z]+ (?: - [a-z0-9]+ )+ ) [ ]* :                     # hyphen: that is never Python
    """,
    re.VERBOSE,
)
_TLS: Final = (b"\x16\x03\x00", b"\x16\x03\x01", b"\x16\x03\x02", b"\x16\x03\x03")
_CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_BINARY: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def refusal(line: bytes) -> str | None:
    """Return why *line*, which ended with LF, is not taken, None if it is.

    Control characters are those of category Cc; TAB may be there, and one CR at the end.
    """
    if line.startswith(_TLS):
        return "this is no TLS server"
    if _HTTP.match(line.strip()):
        return "this is no web server"
    try:
        text = line.removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        return "a line must be UTF-8 text"
    if _CONTROL.search(text):
        return "a line must not contain control characters"
    return None


def binary(unfinished: bytes | bytearray, start: int) -> str | None:
    """Return why a line is not going to be taken, however it ends, as far as its bytes tell it.

    *start* is how much of it was looked at before.
    """
    if _BINARY.search(unfinished, start):
        return refusal(bytes(unfinished)) or "a line must not contain control characters"
    return None
