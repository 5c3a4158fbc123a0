"""The resolver that is always there: the system's ``getaddrinfo`` on threads of our own.

Here, and nowhere else in this package, are threads. A worker touches nothing but its job and
the pool; results enter the loop through the backend's ``call_threadsafe``.
"""

from __future__ import annotations

__all__ = ("ThreadResolver",)

import errno
import os
import socket
import weakref
from collections import deque
from functools import partial

import ae_core as ae
from ae_core.abc import ThreadLock, environment, make_thread, original

from ._arguments import check_count, check_target
from ._errors import ResolveFailed
from ._host_names import host_to_ascii
from ._hosts import HostsFile
from ._ordering import order_addresses
from ._services import parse_service
from ._sockaddr import AddressInfo, numeric_info, socket_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from ._sockaddr import SocketType

# Theory of operation
# -------------------
# getaddrinfo() blocks, for half a minute if a name server is dead, and cannot be
# interrupted. So it runs on threads: on our own, because a shared pool would be filled by
# other work, and on daemons, because a program must be able to end while a lookup hangs.
#
# A thread lives as long as there is work, so an idle pool has no threads: a program that
# counts threads, forks or unloads this module finds none. The last job of a worker carries
# the worker: it is handed to the loop after the worker has decided to end, and the loop
# joins it (microseconds) before it delivers. So when a program has its last answer, no
# thread of ours is left.

_FAMILIES: Final = {0: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}


class _Job:
    """One lookup: runs in a worker, delivers its outcome in the loop."""

    __slots__ = (
        "answer",
        "backend",
        "error",
        "family",
        "host",
        "kind",
        "pending",
        "port",
        "result",
    )

    def __init__(self, host: str, port: int, family: int, kind: SocketType) -> None:
        self.host = host
        self.port = port
        self.family = family
        self.kind: SocketType = kind
        self.answer: list[AddressInfo] = []
        self.error: Exception | None = None
        self.backend = ae.detect()
        self.result: ae.CondVar[list[AddressInfo]] = ae.CondVar(cancel=self._release)
        # Without it a blocked recv() would see a loop with nothing to wait for: Deadlock.
        self.pending = ae.pending()

    def _release(self) -> None:
        self.pending.cancel()

    def ask(self, hosts: HostsFile) -> None:
        """Ask the system. Runs in a worker."""
        try:
            self.answer = _ask(hosts, self.host, self.port, self.family, self.kind)
        except Exception as error:
            self.error = error

    def deliver(self, worker: Any) -> None:
        """Finish. Runs in the loop; *worker* is the thread that is just ending."""
        if worker is not None and worker.is_alive():
            worker.join()
        if self.result.ready:
            return
        self._release()
        if self.error is not None:
            error, self.error = self.error, None
            self.result.throw(error)
        else:
            self.result.send(self.answer)


class ThreadResolver:
    """A :class:`Resolver` that asks the operating system, from a few threads.

    What it answers is what every other program on the machine gets: hosts file, name servers,
    mDNS or whatever ``nsswitch.conf`` says, in the system's RFC 6724 order. If ``AE_HOSTS``
    names a hosts file, that one is looked at first.

    Args:
        max_threads: How many lookups may run at the same time; more wait, first in, first
            out.

    It may be used from any thread, by any number of loops.
    """

    def __init__(self, *, max_threads: int = 8) -> None:
        check_count("max_threads", max_threads, 1)
        self._max_threads = max_threads
        self._hosts = HostsFile()
        self._reset()
        _resolvers.add(self)

    def _reset(self) -> None:
        self._lock = ThreadLock()
        self._waiting: deque[_Job] = deque()
        self._workers = 0

    def getaddrinfo(
        self, host: str, service: str | int, *, family: int = 0, type: SocketType = "stream"
    ) -> ae.CondVar[list[AddressInfo]]:
        """Look a host up.

        Args:
            host: A name; what the system is asked for is what :func:`host_to_ascii` gives.
            service: A port number, or the name of a service.
            family: 0, 4 or 6.
            type: ``"stream"`` or ``"dgram"``.

        Returns:
            The addresses in the order to try; ``[]`` if the host exists but has none of this
            family. The lookup goes on when the condvar is forgotten; its ``cancel()``
            drops it if it has not been started.

        Raises:
            ResolveFailed: Through the condvar, if there is no such host.
            ValueError: Through the condvar, if *host* cannot be the name of one.
        """
        check_target(host, service)
        socket_type(type)
        if family not in _FAMILIES:
            raise ValueError(f"expected family 0, 4 or 6, got {family!r}")
        job = _Job(host, parse_service(service, type)[1], family, type)
        with self._lock:
            if self._workers >= self._max_threads:
                self._waiting.append(job)
                return job.result
            self._workers += 1
        try:
            # A worker is started with its first job, so it always has something to do.
            me: list[Any] = []
            me.append(make_thread(self._work, job, me, name="ae_socket resolver"))
            me[0].start()
        except RuntimeError as error:  # can't start new thread
            with self._lock:
                self._workers -= 1
            job.error = OSError(errno.EAGAIN, str(error), host)
            ae.postpone(lambda: job.deliver(None))
        return job.result

    def _work(self, job: _Job, me: list[Any]) -> None:
        worker = me.pop()
        while True:
            if not job.result.ready:  # else it was cancelled
                job.ask(self._hosts)
            with self._lock:
                following = self._waiting.popleft() if self._waiting else None
                if following is None:
                    self._workers -= 1
            done, last = job, None if following else worker
            try:
                job.backend.call_threadsafe(partial(done.deliver, last))
            except (RuntimeError, ae.AEError) as error:
                # The loop that asked has ended, and its operations with it.
                ae.log("debug", "the answer for %r comes too late: %s", job.host, error)
            if following is None:
                return
            job = following


_resolvers: weakref.WeakSet[ThreadResolver] = weakref.WeakSet()


def _after_fork() -> None:
    # The child has none of the threads, and a lock that one of them may have held.
    for resolver in _resolvers:
        resolver._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# The host exists, but not in this family. Names that not every system has.
_NO_SUCH_FAMILY: Final = tuple(
    getattr(socket, name) for name in ("EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
)


def _listed(text: str, port: int, kind: SocketType) -> AddressInfo | None:
    """Return an address of the hosts file; ``None`` if its scope is no interface (any more)."""
    try:
        return numeric_info(text, port, kind)
    except ResolveFailed:
        return None


def _ask(
    hosts: HostsFile, host: str, port: int, family: int, kind: SocketType
) -> list[AddressInfo]:
    name = host_to_ascii(host)
    if environment("AE_HOSTS"):
        listed = [info for text in hosts.addresses(name) if (info := _listed(text, port, kind))]
        if listed:
            allowed = (_FAMILIES[family],) if family else tuple(_FAMILIES.values())
            return order_addresses(info for info in listed if info.family in allowed)
    try:
        # Bytes: for a str Python would load its IDNA codec, and refuse names like "_x.org".
        encoded = name.encode("ascii")
        # the system's: gevent's would ask that on yet another thread
        getaddrinfo = original("socket", "getaddrinfo")
        found = getaddrinfo(encoded, port, _FAMILIES[family], socket_type(kind))
    except socket.gaierror as error:
        if family and error.errno in _NO_SUCH_FAMILY:
            return []
        raise ResolveFailed(f"cannot resolve {host!r}: {error.strerror}") from error
    infos = (
        AddressInfo(found_family, found_type, protocol, sockaddr)
        for found_family, found_type, protocol, _name, sockaddr in found
        if found_family in (socket.AF_INET, socket.AF_INET6)
    )
    return list(dict.fromkeys(infos))
