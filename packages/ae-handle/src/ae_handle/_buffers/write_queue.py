"""The write queue: bytes that are to be sent, in order."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ("WriteQueue",)


# Theory of operation
# -------------------
# `pieces` is what was pushed and not joined yet; `Handle.push_write` appends to this very list, so
# it is never replaced. `block` is what the kernel is being offered: pieces
# joined, or ciphertext made of them, less what it has taken. The size is counted on demand, each
# piece once, so that pushing costs an append.

# Pieces are joined up to this size; a bigger piece is sent as it is, uncopied.
_BLOCK: Final = 1 << 18


class WriteQueue:
    """Unsent bytes: ``pieces``, and before them the unsent rest of ``block``."""

    __slots__ = ("_counted", "_size", "block", "lost", "overhead", "pieces")

    block: bytes | memoryview
    overhead: bool

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.block = b""
        self.lost = 0  # how many bytes of the program's cannot be sent any more
        self.overhead = False  # nothing in `block` is the program's: a handshake, an alert
        self._counted = 0  # how many of `pieces` are in `_size`; code that pops one resets it
        self._size = 0

    def __len__(self) -> int:
        """Return how many bytes are unsent."""
        return len(self.block) + self.waiting

    def __bool__(self) -> bool:
        return bool(self.block or self.pieces)

    @property
    def owed(self) -> int:
        """How many bytes of the program's are unsent, as they leave."""
        return self.waiting + (0 if self.overhead else len(self.block))

    @property
    def waiting(self) -> int:
        """How many bytes stand behind the block."""
        pieces = self.pieces
        if not pieces:
            return 0
        counted = self._counted
        if len(pieces) != counted:
            if counted:
                self._size += sum(map(len, pieces[counted:]))
            else:
                self._size = sum(map(len, pieces))
            self._counted = len(pieces)
        return self._size

    def next(self) -> bytes:
        """Take the next pieces off the queue, joined, ``b""`` if there are none."""
        pieces = self.pieces
        if len(pieces) <= 1:
            self._counted = 0
            return pieces.pop() if pieces else b""
        return b"".join(self.take())

    def take(self) -> list[bytes]:
        """Take the pieces of the next block off the queue; there are some."""
        pieces = self.pieces
        size = self.waiting
        if size <= _BLOCK:
            taken = pieces[:]
            self.drop_pieces()
            return taken
        count = size = 0
        for piece in pieces:
            size += len(piece)
            if size > _BLOCK and size > len(piece):
                size -= len(piece)
                break
            count += 1
        taken = pieces[:count]
        del pieces[:count]
        self._counted -= count
        self._size -= size
        return taken

    def take_all(self) -> bytes:
        """Take all pieces off the queue."""
        data = b"".join(self.pieces)
        self.drop_pieces()
        return data

    def offer(self, block: bytes | memoryview) -> None:
        """Make *block* what the kernel is offered next."""
        self.block = block

    def take_block(self) -> bytes:
        """Take what the kernel is being offered off the queue."""
        block, self.block = self.block, b""
        return bytes(block)

    def mark_block(self, *, overhead: bool) -> None:
        """Note whether the next block is all *overhead*: nothing in it is the program's."""
        self.overhead = overhead

    def sent(self, size: int) -> None:
        """Note that the first *size* bytes of the block are sent."""
        block = self.block
        if size >= len(block):
            self.block = b""
        elif size:
            self.block = memoryview(block)[size:]

    def append_block(self, data: bytes, *, overhead: bool = False) -> None:
        """Put *data* behind the block and before the pieces."""
        if data:
            self.overhead = overhead and (self.overhead or not self.block)
            self.block = b"".join((self.block, data)) if self.block else data

    def drop_pieces(self) -> None:
        """Drop everything behind the block."""
        self.pieces.clear()
        self._counted = self._size = 0

    def lose(self, more: int = 0) -> None:
        """Drop everything, and count it as lost, with *more* bytes that were taken off."""
        self.lost += self.owed + more
        self.clear()

    def lose_pieces(self) -> None:
        """Drop everything behind the block, and count it as lost."""
        self.lost += self.waiting
        self.drop_pieces()

    def clear(self) -> None:
        """Drop everything."""
        self.drop_pieces()
        self.block = b""
