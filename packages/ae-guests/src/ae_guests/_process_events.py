"""Signals and children of an asyncio loop, watched by the loop that serves the thread.

``GuestLoop`` derives from the class here. It knows nothing of turns.
"""

from __future__ import annotations

__all__ = ("ProcessEvents",)

import asyncio
import os
import threading
from asyncio import events, unix_events
from functools import partial
from typing import Any

import ae_core as ae

# What asyncio's own loop classes share with each other has no types, and stays as it is for years.
_Base: Any = asyncio.SelectorEventLoop
_events: Any = events
_unix_events: Any = unix_events


def _has_own_child_watcher() -> bool:
    """Return whether the program has set a child watcher, as it may until Python 3.13."""
    policy = getattr(_events, "_event_loop_policy", None)  # not made only to be asked
    watcher = getattr(policy, "_watcher", None)
    usual = ("ThreadedChildWatcher", "PidfdChildWatcher")
    return watcher is not None and type(watcher) not in [
        getattr(_unix_events, name, None) for name in usual
    ]


class ProcessEvents(_Base):  # type: ignore[misc]
    """asyncio's selector loop, with the watchers of ``ae_core`` for signals and children."""

    def __init__(self, selector: Any = None) -> None:
        super().__init__(selector)
        self._signal_watchers: dict[int, Any] = {}
        self._child_watchers: dict[int, Any] = {}

    def close(self) -> None:
        """Close the loop. It must not be running."""
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        for number in list(self._signal_watchers):
            self.remove_signal_handler(number)
        super().close()

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:
        """Call *callback* in the loop when *sig* arrives; other watchers of it are called, too."""
        if asyncio.iscoroutine(callback) or asyncio.iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        self._check_signal(sig)
        self._check_closed()
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("signals are handled in the main thread only")
        self._signal_handlers[sig] = events.Handle(callback, args, self, None)
        if sig in self._signal_watchers:
            return
        try:
            self._signal_watchers[sig] = ae.signal(sig, partial(self._handle_signal, sig))
        except (OSError, ValueError):
            del self._signal_handlers[sig]
            raise RuntimeError(f"sig {sig} cannot be caught") from None

    def _watch_anew(self) -> None:
        """Watch signals and children in the thread's loop, which is a new one."""
        for watcher in self._signal_watchers.values():  # all before the first: one loop has them
            watcher.cancel()
        for sig in self._signal_watchers:
            try:
                self._signal_watchers[sig] = ae.signal(sig, partial(self._handle_signal, sig))
            except ae.WrongLoop:  # the program has watchers of its own on the loop that has ended
                break
        for _, transport in list(self._child_watchers.values()):
            self._watch_child(transport)

    def remove_signal_handler(self, sig: int) -> bool:
        """Take the handler back; return whether there was one."""
        self._check_signal(sig)
        if self._signal_handlers.pop(sig, None) is None:
            return False
        self._signal_watchers.pop(sig).cancel()
        return True

    async def _make_subprocess_transport(
        self,
        protocol: Any,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        extra: Any = None,
        **kwargs: Any,
    ) -> Any:
        """As in asyncio, with ``ae_core.child`` to watch for the end of the program."""
        if _has_own_child_watcher():
            return await super()._make_subprocess_transport(
                protocol, args, shell, stdin, stdout, stderr, bufsize, extra, **kwargs
            )
        waiter = self.create_future()
        transport = _unix_events._UnixSubprocessTransport(
            self,
            protocol,
            args,
            shell,
            stdin,
            stdout,
            stderr,
            bufsize,
            waiter=waiter,
            extra=extra,
            **kwargs,
        )
        self._watch_child(transport)
        try:
            await waiter
        except BaseException:
            transport.close()
            await transport._wait()
            raise
        return transport

    def _watch_child(self, transport: Any) -> None:
        pid = transport.get_pid()

        def ended(_: int, status: int) -> None:
            del self._child_watchers[pid]
            if not self._closed:
                # not in a later turn: its number may be another process's by then, and be signalled
                transport._process_exited(os.waitstatus_to_exitcode(status))

        try:
            self._child_watchers[pid] = (ae.child(pid, ended), transport)
        except ChildProcessError:  # other code has waited for it; 255, as asyncio says
            self.call_soon(transport._process_exited, 255)
