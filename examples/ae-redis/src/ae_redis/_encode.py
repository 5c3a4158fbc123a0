r"""Commands to bytes: what a server reads is always an array of strings.

Sans-I/O.
"""

from __future__ import annotations

__all__ = ("Argument", "MayBlock", "encode", "encode_command", "may_block", "octets")

from typing import Any, Final, TypeAlias

#: What an argument may be. Text is sent as UTF-8, numbers as decimal digits.
Argument: TypeAlias = bytes | bytearray | memoryview | str | int | float

# "%b" fills in any bytes-like object; a template per number of arguments makes it one operation.
_ITEM: Final = b"$%d\r\n%b\r\n"
_TEMPLATES: Final = [b"*%d\r\n" % count + _ITEM * count for count in range(16)]

# Commands that change what later replies mean, or whose those are. On a connection that many
# callers share by pipelining, each would break the others: there is another way for all of them.
_REFUSED: Final = {
    "AUTH": "give username= and password= to the client",
    "ASKING": "clusters are not supported",
    "DISCARD": "use transaction()",
    "EXEC": "use transaction()",
    "HELLO": "give protocol= to the client",
    "MONITOR": "a stream of replies is not supported",
    "MULTI": "use transaction()",
    "PSUBSCRIBE": "use subscribe()",
    "PSYNC": "replication is not supported",
    "PUNSUBSCRIBE": "use subscribe()",
    "QUIT": "use close()",
    "RESET": "use clone()",
    "SELECT": "use clone(db=...)",
    "SSUBSCRIBE": "use subscribe()",
    "SUBSCRIBE": "use subscribe()",
    "SUNSUBSCRIBE": "use subscribe()",
    "SYNC": "replication is not supported",
    "UNSUBSCRIBE": "use subscribe()",
    "UNWATCH": "use unwatch()",
    "WATCH": "use watch()",
}


# Commands that the server may answer when something happens, not immediately. Cancelled, they must
# not go on waiting: what they would take off a list then would be lost.
_BLOCKING: Final = frozenset(
    {
        "BLMOVE", "BLMPOP", "BLPOP", "BRPOP", "BRPOPLPUSH", "BZMPOP", "BZPOPMAX", "BZPOPMIN",
        "WAIT", "WAITAOF", "XREAD", "XREADGROUP",
    }
)  # fmt: skip


def octets(value: object) -> bytes | bytearray | memoryview:
    """Return the bytes of one argument."""
    if isinstance(value, (bytes, bytearray)):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bool):
        raise TypeError(f"expected bytes, text or a number, got {value!r}: say 0 or 1")
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, float):
        return repr(value).encode()
    if isinstance(value, memoryview):
        # len() would count items, not bytes
        return (
            value if value.format == "B" and value.ndim == 1 and value.contiguous else bytes(value)
        )
    raise TypeError(f"expected bytes, text or a number, got {value!r}")


def encode(*arguments: Argument) -> bytes:
    r"""Return a command as bytes.

    Raises:
        TypeError: If an argument is neither bytes-like nor text nor a number.

    Example:
        >>> encode("INCRBY", b"key", 7)
        b'*3\r\n$6\r\nINCRBY\r\n$3\r\nkey\r\n$1\r\n7\r\n'
    """
    pairs: list[Any] = []
    for argument in arguments:
        value: Any = argument if argument.__class__ is bytes else octets(argument)
        pairs += (len(value), value)
    count = len(arguments)
    template = _TEMPLATES[count] if count < 16 else b"*%d\r\n" % count + _ITEM * count
    return template % tuple(pairs)


# The names of commands that were looked at and may be used, with the string that is sent for them.
# Names are the program's, not the peer's, but a program may make them up: so not without end.
_known: dict[str | bytes, bytes] = {}
_MANY: Final = 1000
# Those that are in _BLOCKING, in the spellings that programs use
_blocking: set[str | bytes] = set()


class MayBlock(bytes):
    """A command that the server may answer later."""

    __slots__ = ()


def encode_command(name: str | bytes, arguments: tuple[Argument, ...]) -> bytes:
    """Return a command of a user as bytes; :class:`MayBlock` if it may.

    Raises:
        TypeError: If the name is not text, or an argument cannot be one.
        ValueError: If the command does not work on a shared connection.
    """
    head = _known.get(name)
    if head is None:
        head = _head(name, arguments)
        if may_block(name, arguments):
            return MayBlock(encode(name, *arguments))
    # one and two arguments are nearly all there is: 0.5 us instead of 1.2
    count = len(arguments)
    key: Any
    value: Any
    if count == 1:
        (key,) = arguments
        if key.__class__ is str:
            key = key.encode()
        elif key.__class__ is not bytes:
            key = octets(key)
        return b"*2\r\n%b$%d\r\n%b\r\n" % (head, len(key), key)
    if count == 2:
        key, value = arguments
        if key.__class__ is str:
            key = key.encode()
        elif key.__class__ is not bytes:
            key = octets(key)
        if value.__class__ is not bytes:
            value = octets(value)
        pair = (head, len(key), key, len(value), value)
        return b"*3\r\n%b$%d\r\n%b\r\n$%d\r\n%b\r\n" % pair
    return encode(name, *arguments)


def may_block(name: str | bytes, arguments: tuple[Argument, ...]) -> bool:
    """Return whether the server may wait before it answers a command that was encoded."""
    if name not in _blocking:
        return False
    if name[:1] not in ("X", "x", b"X", b"x"):
        return True
    words = arguments[:8]  # BLOCK stands before STREAMS, and little else does
    return any(bytes(octets(word)).upper() == b"BLOCK" for word in words)


def _head(name: str | bytes, arguments: tuple[Argument, ...]) -> bytes:
    """Return what is sent for *name*, if it may be used."""
    if not isinstance(name, (str, bytes)):
        raise TypeError(f"expected the name of a command, got {name!r}")
    text = name if isinstance(name, str) else name.decode("utf-8", "replace")
    verb = text.upper()
    if not verb.isascii() or verb.split() != [verb]:
        raise ValueError(f"expected the name of a command, one word, got {name!r}")
    why = _REFUSED.get(verb)
    if why is not None:
        raise ValueError(f"{verb} does not work on a connection that is shared: {why}")
    head = _ITEM % (len(verb), verb.encode())
    if verb == "CLIENT":
        word = octets(arguments[0]) if arguments else b""
        if bytes(word).upper() == b"REPLY":
            raise ValueError("CLIENT REPLY does not work on a connection that is shared")
    elif verb in _BLOCKING:
        _blocking.add(name)  # there are not many spellings
    elif len(_known) < _MANY:
        _known[name] = head
    return head
