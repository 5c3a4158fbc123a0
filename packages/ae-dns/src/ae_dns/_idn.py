"""Internationalized names: Unicode at the edge, ASCII inside (UTS 46, non-transitional).

Sans-I/O. ``idna`` is imported when the first name that is not ASCII is converted. The one table for
all packages is ``ae_socket.host_to_ascii``.

>>> idn_to_ascii(idn_to_unicode("www.xn--bcher-kva.example"))
'www.xn--bcher-kva.example'
"""

from __future__ import annotations

__all__ = ("idn_to_ascii", "idn_to_unicode")

from ae_socket import host_to_ascii


def idn_to_ascii(text: str) -> str:
    """Return a host name in the form that the DNS knows.

    A name that is ASCII already is returned untouched, and so is one that cannot be
    converted: the lookup then fails or not. Other names are mapped as
    :func:`ae_socket.host_to_ascii` maps them, which raises an error instead; empty labels in
    front are dropped.

    Perl: ``AnyEvent::Util::idn_to_ascii``
    """
    if not isinstance(text, str):
        raise TypeError(f"expected a name as str, got {text!r}")
    if text.isascii():
        return text
    try:
        return host_to_ascii(text.lstrip(".\u3002\uff0e\uff61"))
    except ValueError:
        return text


def idn_to_unicode(text: str) -> str:
    """Return a host name in the form that people read, in lower case.

    A label that is no valid encoding stays as it is; a name that UTS 46 refuses is
    returned untouched.

    Perl: ``AnyEvent::Util::idn_to_unicode``
    """
    if not isinstance(text, str):
        raise TypeError(f"expected a name as str, got {text!r}")
    if text.isascii() and "xn--" not in text.lower():
        return text.lower()
    import idna

    try:
        mapped = idna.uts46_remap(text, std3_rules=False, transitional=False)
        return ".".join(
            idna.ulabel(label) if label.startswith("xn--") else label for label in mapped.split(".")
        )
    except (idna.IDNAError, UnicodeError):
        return text
