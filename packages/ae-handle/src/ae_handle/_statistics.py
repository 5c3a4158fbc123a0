"""What a handle is about, in numbers and in a line of text: for people who debug.

Looks only; the one thing it changes is to make the read buffer complete first.
"""

from __future__ import annotations

__all__ = ("HandleStatistics", "describe", "statistics")

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from . import _reading
from ._phases import BROKEN, OPEN

if TYPE_CHECKING:
    from ._handle import Handle

_PHASES: Final = ("", "connecting", "open", "failed", "destroyed")


class HandleStatistics(NamedTuple):
    """What :meth:`Handle.statistics` returns.

    Attributes:
        peer_name: As the option.
        state: ``"connecting"``, ``"open"``, ``"ended"`` (open, and the peer has sent all it will
            send), ``"failed"`` or ``"destroyed"``.
        requests: How many read requests wait.
        unread: Octets in the read buffer.
        unsent: Octets that the kernel has not taken.
        tls: The state of the TLS session, None without TLS.
    """

    peer_name: str | None
    state: str
    requests: int
    unread: int
    unsent: int
    tls: str | None


def statistics(h: Handle) -> HandleStatistics:
    """Return the numbers of *h*."""
    if h._burst is not None:
        _reading.unburst(h)
    return HandleStatistics(
        h._peer_name,
        _ended(h._eof) if h._eof and h._phase == OPEN else _PHASES[h._phase],
        len(h._queue),
        len(h._buf),
        len(h._out),
        None if h._tls is None else h._tls.session.state,
    )


def _ended(how: int) -> str:
    return "failed" if how >= BROKEN else "ended"


def describe(h: Handle) -> str:
    """Return the ``repr`` of *h*."""
    kind = type(h).__name__
    try:
        peer, state, requests, unread, unsent, tls = statistics(h)
    except AttributeError:
        return f"<{kind}>"  # its constructor raised
    parts = [kind]
    if peer is not None:
        parts.append(repr(peer))
    elif h._io is not None:
        parts.append(_stream(h._io))
    parts.append(f"{state} requests={requests} unread={unread} unsent={unsent}")
    if tls is not None:
        parts.append(f"tls={tls}")
    return f"<{' '.join(parts)}>"


def _stream(io: Any) -> str:
    try:
        return f"fd={io.fileno()}"
    except (AttributeError, OSError):
        return repr(io)


HandleStatistics.__module__ = "ae_handle"
