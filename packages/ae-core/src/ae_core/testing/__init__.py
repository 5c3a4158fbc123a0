"""For the tests of programs and backends: virtual time, conformance, order, leaks.

Needs no test framework. Everything here may be used from any thread.
"""

from __future__ import annotations

__all__ = (
    "ConformanceError",
    "LeakCheck",
    "LeakError",
    "LoopChoice",
    "Report",
    "Result",
    "ScriptedDescriptor",
    "Trace",
    "VirtualBackend",
    "binding",
    "check_backend",
    "leak_check",
    "loop_choices",
    "release",
    "virtual_time",
)

from ._binding import binding as binding
from ._binding import release as release
from ._conformance.check import ConformanceError as ConformanceError
from ._conformance.check import Report as Report
from ._conformance.check import Result as Result
from ._conformance.check import check_backend as check_backend
from ._leaks import LeakCheck as LeakCheck
from ._leaks import LeakError as LeakError
from ._leaks import leak_check as leak_check
from ._loops import LoopChoice as LoopChoice
from ._loops import loop_choices as loop_choices
from ._trace import Trace as Trace
from ._virtual import ScriptedDescriptor as ScriptedDescriptor
from ._virtual import VirtualBackend as VirtualBackend
from ._virtual import virtual_time as virtual_time

for _thing in [globals()[name] for name in __all__]:
    _thing.__module__ = __name__
