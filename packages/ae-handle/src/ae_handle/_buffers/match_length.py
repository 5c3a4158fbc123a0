"""How long a match of a regular expression can be, so that a search need not start over.

Sans-I/O: looks at patterns only.
"""

from __future__ import annotations

__all__ = ("Searchable", "longest_match")

import re
from functools import lru_cache

from .._typing import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Theory of operation
# -------------------
# An unsuccessful search over n bytes proves that no match lies wholly within them. If a match
# is never longer than w, a later one cannot begin before n - w + 1, and the next search may start
# there. This fails if the bytes behind a match decide whether it is one ($, \b, look-ahead), so
# such patterns count as unbounded, as do those with * and +.
#
# The stdlib's parser knows the width; it is not a documented module, hence the guard: without it
# every pattern counts as unbounded, which is slower and still right.

_CONTEXT = ("AT", "ASSERT", "ASSERT_NOT", "GROUPREF", "GROUPREF_EXISTS")


class Searchable(Protocol):
    """What a pattern must be able to do."""

    def search(self, data: Any, pos: int, /) -> Any:
        """Return the first match at or behind *pos*, or None."""


@lru_cache(maxsize=512)
def longest_match(pattern: Any) -> int | None:
    """Return the greatest length of a match, or None if there is no bound, or none is known."""
    if type(pattern) is not re.Pattern:
        return None  # another engine, and perhaps another language
    try:
        parser: Any = __import__("re._parser", fromlist=["parse"])
        tree = parser.parse(pattern.pattern, pattern.flags)
        _, longest = tree.getwidth()
        if longest >= 1 << 16 or _looks_around(tree):
            return None
    except (AttributeError, ImportError, TypeError, ValueError):
        return None
    return int(longest)


def _looks_around(tree: Any) -> bool:
    """Whether anything in the parsed pattern depends on bytes outside the match."""
    for operation, argument in tree:
        if str(operation) in _CONTEXT:
            return True
        stack = [argument]
        while stack:
            item = stack.pop()
            if hasattr(item, "getwidth"):
                if _looks_around(item):
                    return True
            elif isinstance(item, (list, tuple)):
                stack.extend(item)
    return False
