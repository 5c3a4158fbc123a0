"""What ``run_cmd`` was asked to do with each of the program's descriptors.

Sans-I/O: turns the arguments into records and refuses bad ones; opens, creates and starts nothing.
"""

from __future__ import annotations

__all__ = ("Existing", "Named", "Redirect", "Sink", "Source", "parse_redirects", "to_bytes")

import os
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

# A bare object does not always tell its direction: the same str is a file to read or a file to
# truncate, the same callable a producer or a consumer. `stdin`, `stdout` and `stderr` carry it
# in their name; `fds` guesses only where a wrong guess is impossible (bytes can only be read,
# a bytearray there is only useful to write to), and wants ("<", x) or (">", x) for the rest.

_READ: Final = os.O_RDONLY
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


class Existing(NamedTuple):
    """A descriptor of ours, given to the program as it is."""

    fd: int
    owner: object  # keeps the file object open until the program has started


class Named(NamedTuple):
    """A file to be opened by name, in the child's place."""

    path: bytes
    flags: int


class Source(NamedTuple):
    """A pipe that we fill: from *data*, then from *callback* until it gives ``b""``."""

    data: bytes
    callback: Callable[[], bytes] | None


class Sink(NamedTuple):
    """A pipe that we empty into a buffer or a callback."""

    buffer: bytearray | None
    take: Callable[[bytes], object]  # called with b"" at the end


Redirect: TypeAlias = Existing | Named | Source | Sink


def parse_redirects(
    stdin: Any, stdout: Any, stderr: Any, fds: Mapping[int, Any] | None
) -> dict[int, Redirect]:
    """Give the record for every redirected descriptor number of the program.

    Raises:
        TypeError: For an object that cannot serve there.
        ValueError: For a number given twice, a negative number, an empty or impossible name.
    """
    found: dict[int, Redirect] = {}
    if stdin is not None:
        found[0] = _input("stdin", stdin)
    if stdout is not None:
        found[1] = _output("stdout", stdout)
    if stderr is not None:
        found[2] = _output("stderr", stderr)
    if fds is None:
        return found
    if not isinstance(fds, Mapping):
        raise TypeError(f"fds: expected a mapping of descriptor numbers, got {fds!r}")
    for number, value in fds.items():
        if not isinstance(number, int) or isinstance(number, bool):
            raise TypeError(f"fds: expected descriptor numbers as keys, got {number!r}")
        if number < 0:
            raise ValueError(f"fds: expected a descriptor number >= 0, got {number}")
        if number in found:
            raise ValueError(f"descriptor {number} is redirected twice")
        found[number] = _either(f"fds[{number}]", value)
    return found


def _either(what: str, value: Any) -> Redirect:
    if isinstance(value, tuple):
        if len(value) == 2 and value[0] == "<":
            return _input(what, value[1])
        if len(value) == 2 and value[0] == ">":
            return _output(what, value[1])
        raise ValueError(f'{what}: expected ("<", x) or (">", x), got {value!r}')
    if isinstance(value, bytearray):
        return Sink(value, value.extend)
    existing = _existing(what, value)
    if existing is not None:
        return existing
    data = _data(value)
    if data is not None:
        return Source(data, None)
    if isinstance(value, (str, os.PathLike)) or callable(value):
        raise TypeError(f'{what}: a name or a callable needs its direction, ("<", x) or (">", x)')
    raise TypeError(
        f"{what}: expected bytes, a bytearray, a descriptor or a (direction, object) pair,"
        f" got {value!r}"
    )


def _input(what: str, value: Any) -> Redirect:
    callback: Any = value  # what it gives is checked when it gives it
    if what == "stdin":
        if isinstance(value, str):
            raise TypeError(
                f'stdin: a str is neither data nor a file: expected bytes, or ("<", {value!r}) '
                "for the file of that name"
            )
        if isinstance(value, tuple) and len(value) == 2 and value[0] == "<":
            what, value = "stdin's file", value[1]
            callback = value
    if isinstance(value, (str, os.PathLike)):
        return Named(_path(what, value), _READ)
    existing = _existing(what, value)
    if existing is not None:
        return existing
    data = _data(value)
    if data is not None:
        return Source(data, None)
    if callable(value):
        return Source(b"", callback)
    raise TypeError(
        f"{what}: expected a file name, bytes, a callable or a descriptor, got {value!r}"
    )


def _output(what: str, value: Any) -> Redirect:
    if isinstance(value, (str, os.PathLike)):
        return Named(_path(what, value), _WRITE)
    existing = _existing(what, value)
    if existing is not None:
        return existing
    if isinstance(value, bytearray):
        return Sink(value, value.extend)
    if callable(value):
        return Sink(None, value)
    raise TypeError(
        f"{what}: expected a file name, a bytearray, a callable or a descriptor, got {value!r}"
    )


def _path(what: str, value: str | os.PathLike[Any]) -> bytes:
    path = os.fsencode(value)
    if b"\0" in path:
        raise ValueError(f"{what}: embedded null character in {value!r}")
    return path


def _existing(what: str, value: Any) -> Existing | None:
    if isinstance(value, bool):
        raise TypeError(f"{what}: expected a descriptor, got {value!r}")
    fd: Any = value
    if not isinstance(value, int):
        fileno = getattr(value, "fileno", None)
        if fileno is None:
            return None
        try:
            fd = fileno()
        except OSError as error:  # io.UnsupportedOperation: a BytesIO, for example
            raise ValueError(f"{what}: {value!r} has no descriptor") from error
        if not isinstance(fd, int):
            raise TypeError(f"{what}: fileno() of {value!r} gave {fd!r}, expected an int")
    if fd < 0:
        raise ValueError(f"{what}: expected a descriptor number >= 0, got {fd}")
    return Existing(fd, value)


def _data(value: Any) -> bytes | None:
    try:
        return bytes(memoryview(value))
    except TypeError:
        return None


def to_bytes(value: Any) -> bytes:
    """Return what an input callback gave as bytes.

    Raises:
        TypeError: If it is nothing of the kind.
    """
    try:
        return bytes(memoryview(value))
    except TypeError:
        raise TypeError(f"expected bytes from an input callback, got {value!r}") from None
