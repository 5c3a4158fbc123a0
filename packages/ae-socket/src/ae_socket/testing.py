"""For the tests of programs that connect: scripted resolvers, and peers that misbehave.

Everything is on the loopback, on ports the system chose, and is closed at the end of its
``with`` block.
"""

from __future__ import annotations

__all__ = ("ScriptedResolver", "SrvRecord", "refused_address", "silent_address")

import contextlib
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

import ae_core as ae

from . import AddressInfo, ResolveFailed, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Literal

    Answer = Sequence[tuple[str, int | str] | str | AddressInfo] | BaseException | None


class SrvRecord(NamedTuple):
    """One SRV record, as a resolver's ``srv`` returns it.

    Attributes:
        priority: The lowest is tried first.
        weight: The share among those of one priority.
        port: Where the service listens.
        target: The host; ``"."`` says that the service is not offered.
    """

    priority: int
    weight: int
    port: int
    target: str


class ScriptedResolver:
    """A resolver that knows what it was told and remembers what it was asked.

    Args:
        names: For each host what it resolves to: addresses, ``(address, port)`` pairs where
            the port is not the one that is asked for, :class:`ae_socket.AddressInfo` as they
            are, an exception to throw, or ``None`` for an answer that never comes. A name with a
            final dot is answered as the one without.
        services: SRV records for ``"_service._protocol.domain"``, an exception, or ``None``, as
            for *names*; without it, the resolver has no ``srv``.

    Example:
        >>> resolver = ScriptedResolver({"two.test": ["127.0.0.1", "::1"]})
    """

    def __init__(
        self,
        names: Mapping[str, Answer] | None = None,
        services: Mapping[str, Sequence[SrvRecord] | BaseException | None] | None = None,
    ) -> None:
        self.names: dict[str, Answer] = dict(names or {})
        self.questions: list[tuple[str, str | int, int]] = []
        """What ``getaddrinfo`` was asked: host, service and family."""
        self.pending: list[ae.CondVar[Any]] = []
        """The condvars of the answers that never come."""
        if services is not None:
            self.services: dict[str, Sequence[SrvRecord] | BaseException | None] = dict(services)
            self.srv: Callable[[str, str, str], ae.CondVar[list[SrvRecord]]] = self._srv

    def getaddrinfo(
        self,
        host: str,
        service: str | int,
        *,
        family: int = 0,
        type: Literal["stream", "dgram"] = "stream",
    ) -> ae.CondVar[list[AddressInfo]]:
        """Answer in the next turn of the loop; an unknown host throws ResolveFailed."""
        self.questions.append((host, service, family))
        result: ae.CondVar[list[AddressInfo]] = ae.CondVar()
        unknown = ResolveFailed(f"no script for {host!r}")
        answer = self.names.get(host, self.names.get(host.removesuffix("."), unknown))
        if answer is None:
            self.pending.append(result)
        elif isinstance(answer, BaseException):
            ae.postpone(lambda: result.throw(answer))
        else:
            infos: list[AddressInfo] = []
            for item in answer:
                if isinstance(item, AddressInfo):
                    infos.append(item)
                    continue
                address, port = (item, service) if isinstance(item, str) else item
                part = resolve(address, port, family=family, type=type)
                part.on_ready(lambda part: infos.extend(part.recv()))
            # Numeric addresses are answered in one turn, before what is postponed after them.
            ae.postpone(lambda: None if result.ready else result.send(infos))
        return result

    def _srv(self, service: str, protocol: str, domain: str) -> ae.CondVar[list[SrvRecord]]:
        name = f"_{service}._{protocol}.{domain}"
        self.questions.append((name, "SRV", 0))
        result: ae.CondVar[list[SrvRecord]] = ae.CondVar()
        answer = self.services.get(name, ())
        if answer is None:
            self.pending.append(result)
        elif isinstance(answer, BaseException):
            ae.postpone(lambda: result.throw(answer))
        else:
            ae.postpone(lambda: result.send(list(answer)))
        return result


@contextlib.contextmanager
def refused_address(host: str = "127.0.0.1") -> Iterator[tuple[str, int]]:
    """Reserve a port on which every connect is refused."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Bound, so that no other socket gets the port, but not listening.
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.bind((host, 0))
        yield host, sock.getsockname()[1]


@contextlib.contextmanager
def silent_address(host: str = "127.0.0.1") -> Iterator[tuple[str, int]]:
    """Make an address on which connects get no answer, like behind a firewall that drops.

    Linux only: a listener whose backlog is full drops the SYN. The first connects that fill
    it are made here.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        listener.bind((host, 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(2):
            filler = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            filler.setblocking(False)
            filler.connect_ex(address)
        yield address[:2]
