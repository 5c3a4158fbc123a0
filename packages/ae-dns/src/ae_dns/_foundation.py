"""Refuse to start on an ``ae_core`` that is not this project's.

The name ``ae-core`` on the public package index belongs to another project, so an installer that
was not told where to look may have fetched that one. The first import of ``ae_dns``.
"""

from __future__ import annotations

__all__ = ()

_WANTED = "ae_dns needs the ae_core of AnyEvent for Python"
_ADVICE = (
    "the name ae-core on the public package index belongs to another project; uninstall it, and "
    "install ours as docs/how-to/install.md says"
)

try:
    import ae_core
except ModuleNotFoundError as error:
    if error.name != "ae_core":
        raise
    raise ImportError(f"{_WANTED}, found none: {_ADVICE}", name="ae_core") from error

if getattr(ae_core, "__project__", None) != "AnyEvent for Python":
    raise ImportError(
        f"{_WANTED}, found {ae_core.__file__ or ae_core!r}: {_ADVICE}", name="ae_core"
    )
