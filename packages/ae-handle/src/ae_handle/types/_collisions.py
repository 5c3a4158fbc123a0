"""Whether numbers that a peer chose would make a dict or set of them slow.

Sans-I/O, and pure arithmetic: nothing of the package is imported.
"""

from __future__ import annotations

__all__ = ("FEW", "collide")


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

# Theory of operation
# -------------------
# Python salts the hashes of text and bytes, so a peer cannot choose some that collide. Those of
# numbers are not salted: the hash of a number is its value modulo 2**61 - 1, and where a dict
# looks for a free slot follows from that. Few 64-bit numbers share one hash, but many share a
# *path*: a hundred thousand of them in 1 MiB, each looked for behind all the others, keep CPython
# busy for 41 s.
#
# So, before a dict is made of them, the numbers are put into a table as a dict does it, and the
# steps are counted. How large the table will be depends on the other keys, too: each size that it
# may have is tried, with as many numbers as it can hold. What honest programs use - counters,
# multiples of anything, times, packed pairs - needs up to 22 steps a key, an attack thousands.
#
# A set looks at ten slots in a row before it goes on along the same path, so what is quick for a
# dict is so for a set.

#: Fewer numbers than these need not be looked at: even the worst are quick.
FEW: Final = 512

_STEPS: Final = 32  # allowed for each key, on average
_BITS: Final = 9  # the smallest table that is tried has 2**9 slots
_WORD: Final = (1 << 64) - 1
_SHIFT: Final = 5  # CPython's PERTURB_SHIFT


def collide(keys: Sequence[Any]) -> bool:
    """Return whether it takes more than linear time to make *keys* the keys of a dict.

    Args:
        keys: In the order in which they arrived, also those that came before; None for each that
            is no number.
    """
    hashes = [hash(key) & _WORD for key in keys if key is not None]
    if len(hashes) < FEW:
        return False
    last = (3 * len(keys) // 2).bit_length()  # that one need not grow further
    return any(_is_slow(hashes, bits) for bits in range(_BITS, last + 1))


def _is_slow(hashes: list[int], bits: int) -> bool:
    """Return whether it takes too many steps to look up keys with these hashes in 2**bits slots.

    It ends when there are too many for this table: a larger one is made then.
    """
    size = 1 << bits
    mask = size - 1
    room = 2 * size // 3
    slots: list[int | None] = [None] * size
    left = 0
    for value in hashes:
        perturb = value
        slot = value & mask
        while (found := slots[slot]) is not None:
            if found == value:
                break
            perturb >>= _SHIFT
            slot = 5 * slot + perturb + 1 & mask
            left -= 1
        else:
            if not room:
                return False
            room -= 1
            slots[slot] = value
        left += _STEPS
        if left < 0:
            return True
    return False
