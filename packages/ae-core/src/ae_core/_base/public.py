"""The public package, whose names a program may assign to.

``_wiring`` sets it; who needs a name as it is now reads it here instead of importing upwards.
"""

from __future__ import annotations

__all__ = ("package",)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

package: ModuleType
