"""What type checkers need in a base class or a decorator, without ``typing`` at run time.

Importing that would take as long as a tenth of the package.
"""

from __future__ import annotations

__all__ = ("ABC", "Generic", "Protocol", "overload")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from abc import ABC as ABC
    from typing import Generic as Generic
    from typing import Protocol as Protocol
    from typing import overload as overload
else:
    # no metaclass: isinstance() would take longer, and it could be in the way of a program's own
    ABC = Protocol = object

    class Generic:
        """May be subscribed, and is nothing besides."""

        __slots__ = ()
        __class_getitem__ = classmethod(type(list[int]))

    def overload(function):
        """Return *function*, which is not called: the last one of its name is."""
        return function
