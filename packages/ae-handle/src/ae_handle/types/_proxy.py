"""The PROXY protocol's header: what a load balancer says of the connection it passes on.

Versions 1 and 2, as specified by HAProxy (doc/proxy-protocol.txt).

Sans-I/O: imports nothing from ``ae_core``; fed by ``Handle``, tested with plain bytes.
"""

from __future__ import annotations

__all__ = ("Proxied", "ProxyHeader")


from .._buffers.read_buffer import NEED_MORE, ReadBuffer
from .._errors import BadMessage
from ._immutable import Immutable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, Literal, NamedTuple, TypeAlias

    from .._buffers.read_buffer import NeedMore

    _Address: TypeAlias = "tuple[str, Any]"

    class _Proxied(NamedTuple):
        source: _Address | None
        destination: _Address | None
        tlvs: tuple[tuple[int, bytes], ...] = ()

else:
    from collections import namedtuple

    _Proxied = namedtuple("_Proxied", ("source", "destination", "tlvs"), defaults=((),))

# Theory of operation
# -------------------
# The first byte that fits neither version refuses the peer: one that is no load balancer is never
# waited for. A header of version 1 has at most 107 bytes with its CRLF; one of version 2 says its
# length in its first 16, so each call looks at a bounded number of bytes, however they come.

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_TEXT: Final = b"PROXY "
_MAX_TEXT: Final = 107
_FIXED: Final = 16

_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_UNSPEC: Final = 0x00
_UNIX_PATH: Final = 108
#: Family and transport of version 2: what an address has, or None for UNIX sockets.
_ADDRESS_SIZES: Final[dict[int, int | None]] = {
    0x11: 4, 0x12: 4, 0x21: 16, 0x22: 16, 0x31: None, 0x32: None
}  # fmt: skip


class Proxied(_Proxied):
    """What :class:`ProxyHeader` reads.

    Attributes:
        source: ``(host, port)`` of the client, or ``("unix/", path)``; None if the load balancer
            speaks for itself (a health check) or does not know: then the addresses of the
            connection are the true ones.
        destination: What the client has connected to, likewise.
        tlvs: Further facts of version 2, as pairs of type and value, in their order.
    """

    __slots__ = ()


class ProxyHeader(Immutable):
    r"""Read the PROXY protocol's header, of version 1 or 2, before all else.

    Args:
        version: In which version to write one.

    Reads a :class:`Proxied`. Nothing reads such a header unless it is asked for: a client that
    can connect without the load balancer could claim any address. Ask for it before ``start_tls``
    where the balancer passes on TLS.

    Raises:
        BadMessage: If the peer sends anything else.
        ValueError: If *version* is neither 1 nor 2.

    Example:
        >>> from ae_handle import ReadBuffer
        >>> header = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"
        >>> ProxyHeader()(ReadBuffer(header)).source
        ('192.0.2.1', 56324)
    """

    __slots__ = ("version",)

    version: Literal[1, 2]

    def __init__(self, version: Literal[1, 2] = 2) -> None:
        if version not in (1, 2) or isinstance(version, bool):
            raise ValueError(f"expected version 1 or 2, got {version!r}")
        self._set(version=version)

    def __call__(self, buf: ReadBuffer, /) -> Proxied | NeedMore:
        head = buf.peek(_FIXED)
        if head[:12] == _SIGNATURE:
            if len(head) < _FIXED:
                return NEED_MORE
            size = _FIXED + int.from_bytes(head[14:], "big")
            _check_fixed(head[12], head[13], size - _FIXED)
            if len(buf) < size:
                return NEED_MORE
            value = _parse_binary(buf.peek(size))
            buf.take(size)
            return value
        if head[: len(_TEXT)] == _TEXT:
            line = buf.peek(_MAX_TEXT)
            end = line.find(b"\r\n")
            if end < 0:
                if len(line) == _MAX_TEXT:
                    raise BadMessage("a PROXY header of more than 107 bytes")
                return NEED_MORE
            value = _parse_text(line[len(_TEXT) : end])
            buf.take(end + 2)
            return value
        if _SIGNATURE.startswith(head[:12]) or _TEXT.startswith(head):
            return NEED_MORE
        raise BadMessage("expected a PROXY header")

    def encode(self, value: Proxied, /) -> bytes:
        """Return the header that says *value*; with ``source`` None that we speak for ourselves.

        Raises:
            TypeError: If it is no :class:`Proxied`.
            ValueError: If version 1 cannot say it, or an address is none.
        """
        if not isinstance(value, Proxied):
            raise TypeError(f"expected a Proxied, got {value!r}")
        if (value.source is None) != (value.destination is None):
            raise ValueError("expected both source and destination, or none")
        return _text(value) if self.version == 1 else _binary(value)


# ---------------------------------------------------------------------- version 1


def _parse_text(line: bytes) -> Proxied:
    words = line.split(b" ")
    if words[0] == b"UNKNOWN":
        return Proxied(None, None)
    if len(words) != 5 or words[0] not in (b"TCP4", b"TCP6"):
        raise BadMessage(f"expected the addresses of a PROXY header, got {line!r}")
    size = 4 if words[0] == b"TCP4" else 16
    source, destination = (_parse_address(word, size) for word in words[1:3])
    return Proxied((source, _parse_port(words[3])), (destination, _parse_port(words[4])))


def _parse_address(word: bytes, size: int) -> str:
    try:
        return _host(_packed(word.decode("ascii"), size))
    except ValueError:
        raise BadMessage(f"expected an address in a PROXY header, got {word!r}") from None


def _parse_port(word: bytes) -> int:
    if word.isdigit() and len(word) <= 5 and (word == b"0" or word[:1] != b"0"):
        port = int(word)
        if port <= 65535:
            return port
    raise BadMessage(f"expected a port in a PROXY header, got {word!r}")


def _text(value: Proxied) -> bytes:
    if value.tlvs:
        raise ValueError("version 1 has no TLVs")
    if value.source is None or value.destination is None:
        return b"PROXY UNKNOWN\r\n"
    hosts, ports = zip(value.source, value.destination, strict=True)
    if hosts[0] == "unix/":
        raise ValueError("version 1 has no UNIX sockets")
    family = 6 if ":" in hosts[0] else 4
    size = 16 if family == 6 else 4
    source, destination = (_host(_packed(host, size)) for host in hosts)
    numbers = [int.from_bytes(_port(port), "big") for port in ports]
    return f"PROXY TCP{family} {source} {destination} {numbers[0]} {numbers[1]}\r\n".encode("ascii")


# ---------------------------------------------------------------------- version 2


def _check_fixed(command: int, family: int, size: int) -> None:
    if command not in (_LOCAL, _PROXY):
        raise BadMessage(f"expected a PROXY header of version 2, got command {command:#04x}")
    if command == _LOCAL or family == _UNSPEC:
        return
    if family not in _ADDRESS_SIZES:
        raise BadMessage(f"a PROXY header with addresses of family {family:#04x}")
    if size < _addresses_size(family):
        raise BadMessage(f"a PROXY header of {size} bytes, too few for its addresses")


def _addresses_size(family: int) -> int:
    size = _ADDRESS_SIZES[family]
    return 2 * _UNIX_PATH if size is None else 2 * size + 4


def _parse_binary(header: bytes) -> Proxied:
    command, family = header[12], header[13]
    if command == _LOCAL:
        return Proxied(None, None)  # whatever follows is to be ignored
    if family == _UNSPEC:
        return Proxied(None, None)
    end = _FIXED + _addresses_size(family)
    addresses, size = header[_FIXED:end], _ADDRESS_SIZES[family]
    tlvs = _parse_tlvs(header, end)
    if size is None:
        paths = addresses[:_UNIX_PATH], addresses[_UNIX_PATH:]
        source, destination = (("unix/", _parse_path(path)) for path in paths)
        return Proxied(source, destination, tlvs)
    ports = addresses[2 * size :]
    return Proxied(
        (_host(addresses[:size]), int.from_bytes(ports[:2], "big")),
        (_host(addresses[size : 2 * size]), int.from_bytes(ports[2:], "big")),
        tlvs,
    )


def _parse_path(field: bytes) -> str:
    path = field.rstrip(b"\0") if field[:1] == b"\0" else field.partition(b"\0")[0]
    return path.decode("utf-8", "surrogateescape")


def _parse_tlvs(header: bytes, start: int) -> tuple[tuple[int, bytes], ...]:
    found = []
    while start < len(header):
        size = int.from_bytes(header[start + 1 : start + 3], "big")
        end = start + 3 + size
        if end > len(header) or start + 3 > len(header):
            raise BadMessage("a PROXY header with a TLV that is cut off")
        found.append((header[start], header[start + 3 : end]))
        start = end
    return tuple(found)


def _binary(value: Proxied) -> bytes:
    if value.source is None or value.destination is None:
        if value.tlvs:
            raise ValueError("expected no TLVs without addresses")
        return _SIGNATURE + bytes((_LOCAL, _UNSPEC, 0, 0))
    hosts, ports = zip(value.source, value.destination, strict=True)
    if hosts == ("unix/", "unix/"):
        family = 0x31
        body = b"".join(map(_path, ports))
    else:
        family = 0x21 if ":" in hosts[0] else 0x11
        size = 16 if family == 0x21 else 4
        body = b"".join([_packed(host, size) for host in hosts] + [_port(port) for port in ports])
    for kind, data in value.tlvs:
        body += bytes((kind,)) + len(data).to_bytes(2, "big") + data
    if len(body) > 0xFFFF:
        raise ValueError(f"a PROXY header has room for 65535 bytes, got {len(body)}")
    return _SIGNATURE + bytes((_PROXY, family)) + len(body).to_bytes(2, "big") + body


def _path(path: object) -> bytes:
    if not isinstance(path, str):
        raise ValueError(f"expected the path of a UNIX socket, got {path!r}")
    encoded = path.encode("utf-8", "surrogateescape")
    if len(encoded) > _UNIX_PATH or b"\0" in encoded[1:] or encoded == b"\0":
        raise ValueError(f"expected a path of 108 bytes or fewer, got {path!r}")
    return encoded.ljust(_UNIX_PATH, b"\0")


# ---------------------------------------------------------------------- addresses


def _packed(host: str, size: int) -> bytes:
    """Return the bytes of *host*, an address of *size* bytes."""
    from ipaddress import ip_address  # 3 ms, which only users of this header need

    address = ip_address(host)
    if len(address.packed) != size or "%" in host:
        raise ValueError(f"expected an address of {size} bytes, got {host!r}")
    return address.packed


def _host(packed: bytes) -> str:
    from ipaddress import ip_address

    return str(ip_address(packed))


def _port(port: object) -> bytes:
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise ValueError(f"expected a port from 0 to 65535, got {port!r}")
    return port.to_bytes(2, "big")
