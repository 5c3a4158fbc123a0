"""``AE_PROTOCOLS``: which address families are used, and which of them first.

Nothing is cached: a change of the variable holds from the next call on.
"""

from __future__ import annotations

__all__ = ("FAMILIES", "protocols")


import ae_core as ae
from ae_core.abc import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

FAMILIES: Final = (4, 6)
"""The default of ``AE_PROTOCOLS``, in upstream's order."""

_WORDS: Final = {"ipv4": 4, "ipv6": 6}

_complained_about: str | None = None


def protocols() -> tuple[tuple[int, ...], bool]:
    """Return the families in order of preference, and whether the user said so.

    ``AE_PROTOCOLS`` is a list such as ``ipv6,ipv4``: families not in it are not used. A word
    that is not understood is reported once and skipped.
    """
    global _complained_about
    text = environment("AE_PROTOCOLS")
    if not text:
        return FAMILIES, False
    words = [word.strip().lower() for word in text.split(",")]
    families = tuple(dict.fromkeys(_WORDS[word] for word in words if word in _WORDS))
    unknown = [word for word in words if word and word not in _WORDS]
    if (unknown or not families) and _complained_about != text:
        _complained_about = text
        ae.log("warn", "AE_PROTOCOLS (%s): not understood: %r", text, (unknown or [text])[0])
    return (families, True) if families else (FAMILIES, False)
