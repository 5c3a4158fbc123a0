"""The ``AE_*`` environment variables, or none of them under ``python -E`` and ``-I``.

Imports nothing of ours; read at the moment of use, never at import.
"""

from __future__ import annotations

__all__ = ("get",)

import os
import sys

TYPE_CHECKING = False  # not from typing: with what that imports, `import ae_core` takes 3 x as long
if TYPE_CHECKING:
    from typing import overload

if TYPE_CHECKING:

    @overload
    def get(name: str, default: str = "") -> str: ...
    @overload
    def get(name: str, default: None) -> str | None: ...


def get(name: str, default: str | None = "") -> str | None:
    """Return the environment variable *name*, or *default*; set to nothing is as good as unset.

    An interpreter that was told to ignore its environment (``-E``, ``-I``) ignores ours, too:
    a privileged program that is started that way must not obey ``AE_LOG=log=file=...``.

    Perl: tainting deletes ``PERL_ANYEVENT_*``
    """
    if sys.flags.ignore_environment:
        return default
    return os.environ.get(name, default)
