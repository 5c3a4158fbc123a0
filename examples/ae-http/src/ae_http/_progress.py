"""The progress bar of the command line: one line of text for what has arrived so far.

Sans-I/O: knows no terminal and no clock.
"""

from __future__ import annotations

__all__ = ("render", "size_text")

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size_text(size: float) -> str:
    """Return *size* bytes for people, in at most nine characters.

    Example:
        >>> size_text(1023), size_text(1536), size_text(5 << 30)
        ('1023 B', '1.5 KiB', '5.0 GiB')
    """
    for unit in _UNITS[:-1]:
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {_UNITS[-1]}"


def render(done: int, total: int | None, seconds: float, width: int) -> str:
    """Return the line that says how far a download is, at most *width* characters long.

    Args:
        done: How many bytes are here.
        total: How many there will be, if that is known.
        seconds: Since it began.

    Example:
        >>> render(512, 2048, 1.0, 60)
        ' 25% [####            ] 512 B of 2.0 KiB  512 B/s  0:03 left'
    """
    speed = done / seconds if seconds > 0 else 0.0
    if not total:
        return f"{size_text(done)}  {size_text(speed)}/s"[:width]
    share = min(1.0, done / total)
    left = f"  {_time_text((total - done) / speed)} left" if 0 < done < total and speed else ""
    right = f"] {size_text(done)} of {size_text(total)}  {size_text(speed)}/s{left}"
    room = width - len(right) - 6
    if room < 5:
        return f"{share:4.0%} {size_text(done)}"[:width]
    return f"{share:4.0%} [{'#' * round(share * room):{room}}{right}"


def _time_text(seconds: float) -> str:
    whole = min(round(seconds), 99 * 3600)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
