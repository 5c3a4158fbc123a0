"""The state of a handle in numbers and in a line of text, for debugging."""

from __future__ import annotations

__all__ = ("HandleStatistics", "describe", "state_name")


from ._phases import BROKEN, OPEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, NamedTuple

    class _Statistics(NamedTuple):
        peer_name: str | None
        state: str
        requests: int
        unread: int
        unsent: int
        tls: str | None

else:
    from collections import namedtuple

    _Statistics = namedtuple(
        "_Statistics", ("peer_name", "state", "requests", "unread", "unsent", "tls")
    )

_PHASES: Final = ("", "connecting", "open", "failed", "destroyed")


class HandleStatistics(_Statistics):
    """What :meth:`Handle.statistics` returns.

    Attributes:
        peer_name: As the option.
        state: ``"connecting"``, ``"open"``, ``"ended"`` (open, and the peer has sent all it will
            send), ``"failed"`` or ``"destroyed"``.
        requests: How many read requests are pending.
        unread: Bytes in the read buffer.
        unsent: Bytes that the kernel has not taken.
        tls: The state of the TLS session, None without TLS.
    """

    __slots__ = ()


def state_name(phase: int, eof: int) -> str:
    """Return the state of a handle in *phase* whose input has ended as *eof* says."""
    if eof and phase == OPEN:
        return "failed" if eof >= BROKEN else "ended"
    return _PHASES[phase]


def describe(kind: str, numbers: HandleStatistics, stream: Any) -> str:
    """Return the ``repr`` of a handle of the class *kind*."""
    peer, state, requests, unread, unsent, tls = numbers
    parts = [kind]
    if peer is not None:
        parts.append(repr(peer))
    elif stream is not None:
        parts.append(_stream(stream))
    parts.append(f"{state} requests={requests} unread={unread} unsent={unsent}")
    if tls is not None:
        parts.append(f"tls={tls}")
    return f"<{' '.join(parts)}>"


def _stream(stream: Any) -> str:
    try:
        return f"fd={stream.fileno()}"
    except (AttributeError, OSError):
        return repr(stream)


HandleStatistics.__module__ = "ae_handle"
