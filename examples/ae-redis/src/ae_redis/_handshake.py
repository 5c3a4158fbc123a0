"""The greeting: which protocol is spoken, as whom, and in which database.

Sans-I/O: a generator that yields commands, is sent their replies, and returns the protocol.
"""

from __future__ import annotations

__all__ = ("handshake",)

from typing import TYPE_CHECKING, Any, Literal

from ._errors import AuthenticationFailed, ProtocolError, ReplyError, passes

if TYPE_CHECKING:
    from collections.abc import Generator

    from ._encode import Argument
    from ._url import Settings


def handshake(settings: Settings) -> Generator[tuple[Argument, ...], Any, Literal[2, 3]]:
    """Greet a server.

    Raises:
        AuthenticationFailed: It does not know the user, or wants one.
        ReplyError: It refuses something else, or everything for the moment (``passes``).
        ProtocolError: It is no Redis server.
    """
    if settings.protocol != 2:
        hello: list[Argument] = ["HELLO", 3]
        if settings.password is not None:
            hello += ["AUTH", settings.username or "default", settings.password]
        if settings.client_name is not None:
            hello += ["SETNAME", settings.client_name]
        reply = yield tuple(hello)
        if isinstance(reply, dict):
            yield from _select(settings)
            return 3
        if not isinstance(reply, ReplyError):
            raise ProtocolError(f"expected the greeting of a Redis server, got {reply!r:.60}")
        if settings.protocol == 3 or not _is_unknown(reply):
            raise _refusal(reply, settings)
    if settings.password is not None:
        user = () if settings.username is None else (settings.username,)
        reply = yield ("AUTH", *user, settings.password)
        if isinstance(reply, ReplyError):
            raise reply if passes(reply) else AuthenticationFailed(str(reply))
    else:  # to see that it is there, and wants none
        _check((yield ("PING",)), settings)
    if settings.client_name is not None:
        _check((yield ("CLIENT", "SETNAME", settings.client_name)), settings)
    yield from _select(settings)
    return 2


def _select(settings: Settings) -> Generator[tuple[Argument, ...], Any, None]:
    if settings.db:
        _check((yield ("SELECT", settings.db)), settings)


def _check(reply: Any, settings: Settings) -> None:
    if isinstance(reply, ReplyError):
        raise _refusal(reply, settings)


def _is_unknown(reply: ReplyError) -> bool:
    """Whether the server is too old for HELLO (Redis before 6), or for this protocol."""
    return reply.code == "NOPROTO" or str(reply).startswith("ERR unknown command")


def _refusal(reply: ReplyError, settings: Settings) -> ReplyError:
    text = str(reply)
    if passes(reply):
        return reply
    if reply.code in ("NOAUTH", "WRONGPASS") or "AUTH" in text:
        if settings.password is None:
            return AuthenticationFailed(f"{reply.code} the server wants a password")
        return AuthenticationFailed(text)
    return reply
