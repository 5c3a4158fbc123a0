"""Refuse to start on an ``ae_core`` that is not this project's, or on versions that do not fit.

The name ``ae-core`` on the public package index belongs to another project, so an installer that
was not told where to look may have fetched that one. Installers check the ranges of versions; a
copied folder or ``--no-deps`` avoids that check. ``ae_dns`` imports this module first.
"""

from __future__ import annotations

__all__ = ()

from ._version import __version__

#: The oldest versions that will do, lower packages first, as in pyproject.toml; all below 2.0.
_LOWEST = {"ae_core": (1, 0), "ae_socket": (1, 0)}

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
    _found = getattr(ae_core, "__file__", None) or ae_core  # a mere folder has no file
    raise ImportError(f"{_WANTED}, found {_found!r}: {_ADVICE}", name="ae_core")

for _name, _lowest in _LOWEST.items():
    _lower = __import__(_name)
    _major, _minor = _lower.__version__.split(".")[:2]
    if _lowest <= (int(_major), int(_minor)) < (2, 0):
        continue
    _needed = _name.replace("_", "-")
    _what = f"upgrade {_needed}" if int(_major) < 2 else "upgrade ae-dns"
    _or = "" if int(_major) < 2 else f"or take {_needed} below 2.0, "
    raise ImportError(
        f"ae_dns {__version__} needs {_needed} {_lowest[0]}.{_lowest[1]} or newer, and below "
        f"2.0; found {_lower.__version__} in {_lower.__file__!r}: {_what}, {_or}as "
        "docs/how-to/install.md says",
        name=_name,
    )
