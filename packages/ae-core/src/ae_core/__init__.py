"""AnyEvent for Python, the core: watchers, condition variables and the choice of a loop.

A library written on it runs on whatever loop the program uses, or on none. See ``ae_core.abc``
for writing a backend and ``ae_core.testing`` for testing on virtual time.
"""

from __future__ import annotations

__all__ = (
    "AEError",
    "BackendUnavailable",
    "BlockingNotAllowed",
    "CancelledError",
    "Channel",
    "ChannelClosed",
    "CondVar",
    "Deadlock",
    "ForkCallError",
    "Guard",
    "Process",
    "RecursiveWait",
    "Semaphore",
    "TaskGroup",
    "Watcher",
    "WrongLoop",
    "__version__",
    "as_condvar",
    "backend",
    "call_threadsafe",
    "cancelled_class",
    "child",
    "detect",
    "exception_hook",
    "first",
    "fork_call",
    "gather",
    "idle",
    "io",
    "log",
    "logger",
    "now",
    "now_update",
    "pending",
    "post_detect",
    "postpone",
    "release",
    "report_error",
    "run",
    "run_cmd",
    "shield",
    "signal",
    "sleep",
    "spawn",
    "time",
    "timeout",
    "timer",
    "to_thread",
    "use",
    "weak",
)

import sys as _sys

from . import _wiring
from ._api import child as child
from ._api import idle as idle
from ._api import io as io
from ._api import now as now
from ._api import now_update as now_update
from ._api import postpone as postpone
from ._api import signal as signal
from ._api import time as time
from ._api import timer as timer
from ._async.awaiting import cancelled_class as cancelled_class
from ._async.condvar import CondVar as CondVar
from ._base.errors import AEError as AEError
from ._base.errors import BackendUnavailable as BackendUnavailable
from ._base.errors import BlockingNotAllowed as BlockingNotAllowed
from ._base.errors import CancelledError as CancelledError
from ._base.errors import Deadlock as Deadlock
from ._base.errors import RecursiveWait as RecursiveWait
from ._base.errors import WrongLoop as WrongLoop
from ._base.log import log as log
from ._base.log import logger as logger
from ._base.thread_identity import is_patched as _is_patched
from ._detection.current import backend as backend
from ._detection.current import detect as detect
from ._detection.current import use as use
from ._loop.exception_hook import exception_hook as exception_hook
from ._loop.watchers import Watcher as Watcher
from ._loop.watchers import weak as weak
from ._operations import pending as pending
from ._operations import report_error as report_error
from ._version import __project__ as __project__
from ._version import __version__ as __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import abc as abc
    from . import debug as debug
    from . import files as files
    from . import logs as logs
    from . import strict as strict
    from . import testing as testing
    from ._async.bridges import as_condvar as as_condvar
    from ._async.channel import Channel as Channel
    from ._async.channel import ChannelClosed as ChannelClosed
    from ._async.channel import Semaphore as Semaphore
    from ._async.combine import first as first
    from ._async.combine import gather as gather
    from ._async.combine import shield as shield
    from ._async.task_group import TaskGroup as TaskGroup
    from ._async.tasks import run as run
    from ._async.tasks import sleep as sleep
    from ._async.tasks import spawn as spawn
    from ._async.threads import call_threadsafe as call_threadsafe
    from ._async.threads import to_thread as to_thread
    from ._async.time_limit import timeout as timeout
    from ._detection.hooks import post_detect as post_detect
    from ._detection.leaving import release as release
    from ._fork_call.call import ForkCallError as ForkCallError
    from ._fork_call.call import fork_call as fork_call
    from ._guard import Guard as Guard
    from ._process.process import Process as Process
    from ._process.process import run_cmd as run_cmd

# Names whose modules are imported on first use, so that importing the package stays cheap
_LAZY = {
    "Channel": "_async.channel",
    "ChannelClosed": "_async.channel",
    "Semaphore": "_async.channel",
    "TaskGroup": "_async.task_group",
    "as_condvar": "_async.bridges",
    "call_threadsafe": "_async.threads",
    "first": "_async.combine",
    "gather": "_async.combine",
    "run": "_async.tasks",
    "shield": "_async.combine",
    "sleep": "_async.tasks",
    "spawn": "_async.tasks",
    "timeout": "_async.time_limit",
    "to_thread": "_async.threads",
    "ForkCallError": "_fork_call.call",
    "Guard": "_guard",
    "Process": "_process.process",
    "fork_call": "_fork_call.call",
    "post_detect": "_detection.hooks",
    "release": "_detection.leaving",
    "run_cmd": "_process.process",
}
_LAZY_MODULES = ("abc", "debug", "files", "logs", "strict", "testing")


def __getattr__(name: str) -> object:
    # not importlib.import_module: to import importlib takes as long as ten modules of ours
    if name in _LAZY_MODULES:
        return __import__(f"{__name__}.{name}", fromlist=["__all__"])
    if name in _LAZY:
        value = _import(name)
        if _is_patched("threading"):
            # all now: its locks take the place of the import's, and imports in two threads
            # may wait for each other for ever
            for each in _LAZY.keys() - globals().keys():
                _import(each)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _import(name: str) -> object:
    value = getattr(__import__(f"{__name__}.{_LAZY[name]}", fromlist=[name]), name)
    value.__module__ = __name__
    globals()[name] = value
    return value


def _own() -> None:
    """Have everything eager say that it comes from here, not from its private file."""
    for name in __all__:
        value = globals().get(name)
        if hasattr(value, "__module__"):
            value.__module__ = __name__


_own()
_wiring.connect(_sys.modules[__name__])
