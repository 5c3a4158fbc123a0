"""Names that no server is asked about: ``localhost`` and ``invalid``, and all below them.

Sans-I/O: a question in, a reply out, as if a server had sent it. RFC 6761 6.3 and 6.4.
"""

from __future__ import annotations

__all__ = ("answer", "is_special")

import struct
from typing import Final

from ._resolution import Reply
from ._wire_fast import AAAA, A, is_special

# A server that is asked for localhost can answer with any address, and a program that connects
# there trusts it as its own machine. So neither the question leaves this host nor does
# an alias that leads there believe the addresses that came with it: both end here.

_LOOPBACK: Final = {A: bytes((127, 0, 0, 1)), AAAA: bytes(15) + b"\1"}
_ANY: Final = 255
_IN: Final = 1
_TTL: Final = 3600
_NXDOMAIN: Final = 3


def answer(question: bytes) -> Reply | None:
    """Return the reply to *question*, name in lower case, if it is about a special name.

    ``localhost`` has the addresses of the loopback interface and no other records, ``invalid``
    does not exist.
    """
    name = question[:-4]
    if not is_special(name):
        return None
    rdtype, rdclass = struct.unpack(">HH", question[-4:])
    records = b""
    count = rcode = 0
    if name.endswith(b"\7invalid\0"):
        rcode = _NXDOMAIN
    elif rdclass == _IN:
        for kind, octets in _LOOPBACK.items():
            if rdtype in (kind, _ANY):
                # the owner is the name in the question, the first byte behind the header
                records += struct.pack(">HHHIH", 0xC00C, kind, _IN, _TTL, len(octets)) + octets
                count += 1
    head = struct.pack(">HHHHHH", 0, 0x8580 | rcode, 1, count, 0, 0)
    return Reply(head + question + records, question, rcode, None, None)
