"""What the command lines of these packages have in common: how they end, and what they may print.

For programs like ``python -m ae_core``: standard output may be a full disk or a pipe without
a reader, and what a peer sent must not reach the terminal as it is.
"""

from __future__ import annotations

__all__ = ("failed", "printable", "run")

import contextlib
import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from ._base.escape import printable as printable

if TYPE_CHECKING:
    from collections.abc import Callable

_FAILED = 1
_TIMED_OUT = 124  # as timeout(1) has it
_INTERRUPTED = 128 + 2  # the statuses of a shell for a command that a signal ended
_CLOSED_PIPE = 128 + 13
_NOT_WRITTEN = 74  # EX_IOERR of sysexits.h


def run(name: str, main: Callable[[], int | None]) -> NoReturn:
    """Call *main*, and end the process with the status that it returns; guard its output.

    Args:
        name: Of the command, for messages about standard output.
        main: The command. It prints to ``sys.stdout`` as usual and need not catch anything; it
            returns its status, or None for 0, or calls :func:`sys.exit`.

    What cannot be written ends the command immediately, by a :exc:`SystemExit` that passes every
    ``except OSError`` on the way, so a full disk is not taken for an error of a connection:

    * status 74 and one line on standard error if the disk is full or standard output is closed;
    * status 141 without a message if the pipe has no reader any more (``| head``);
    * status 130 without a message after Ctrl-C.

    Characters that the output's encoding lacks are written as escapes.

    Example::

        if __name__ == "__main__":
            console.run("ae_dns", main)
    """
    _keep_standard_descriptors()
    output = sys.stdout
    if isinstance(output, io.TextIOWrapper):
        sys.stdout = _guarded(name, output)
    status: int | None
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except SystemExit:
        sys.stdout.flush()  # `--help`, for one
        raise
    sys.exit(status)


def failed(name: str, error: BaseException, text: str | None = None) -> int:
    """Say on standard error, in one line of plain text, why the command *name* did not work.

    Args:
        name: Of the command.
        error: What prevented it.
        text: Of the line, if not that of *error*.

    Returns:
        The status for that: 124 if time has run out (``TimeoutError``, or errno ``ETIMEDOUT``), as
        that of timeout(1), else 1.
    """
    text = text or str(error) or type(error).__name__
    print(f"{name}: {printable(text)}", file=sys.stderr)
    timed_out = isinstance(error, TimeoutError) or getattr(error, "errno", 0) == errno.ETIMEDOUT
    return _TIMED_OUT if timed_out else _FAILED


def _keep_standard_descriptors() -> None:
    """Occupy standard descriptors that are closed, or else the next socket would be one of them.

    Opened for the other direction, so that to use them is an error all the same.
    """
    for fd, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, flags)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115


def _guarded(name: str, output: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a stream for the same descriptor that ends the process if it cannot be written."""
    output.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(name, getattr(output.buffer, "raw", output.buffer))),
        encoding=output.encoding,
        errors="backslashreplace",
        line_buffering=output.line_buffering,
        write_through=output.write_through,
    )


class _Output(io.RawIOBase):
    """Standard output. What cannot be written ends the process."""

    def __init__(self, name: str, raw: Any) -> None:
        self._name = name
        self._raw = raw

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def isatty(self) -> bool:
        return bool(self._raw.isatty())

    def write(self, data: Any, /) -> int | None:
        try:
            while (written := self._raw.write(data)) is None:  # full, and it does not block
                select.select((), (self._raw,), ())
            return int(written)
        except BrokenPipeError:
            status = _CLOSED_PIPE
        except OSError as error:
            status = _NOT_WRITTEN
            with contextlib.suppress(OSError):
                print(f"{self._name}: standard output: {error.strerror}", file=sys.stderr)
        # What is left in the buffers is written once more while the interpreter ends.
        self._raw = io.BytesIO()
        raise SystemExit(status)


run.__module__ = __name__
