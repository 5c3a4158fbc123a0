"""For the tests of programs and backends: virtual time, conformance, order, leaks.

Needs no test framework. Everything here may be used from any thread.
"""

from __future__ import annotations

__all__ = ("LeakCheck", "LeakError", "Trace", "binding", "leak_check", "release")

from ._binding import binding as binding
from ._binding import release as release
from ._leaks import LeakCheck as LeakCheck
from ._leaks import LeakError as LeakError
from ._leaks import leak_check as leak_check
from ._trace import Trace as Trace

for _name in __all__:
    globals()[_name].__module__ = __name__
del _name
