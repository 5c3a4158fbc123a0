"""Names for frame types: ``"line"``, ``"json"``, and those that others register.

Sans-I/O: a dictionary with rules.
"""

from __future__ import annotations

__all__ = ("AWAITED_LINE", "LINE", "SHARED", "register_frame_type", "resolve_frame")


from .._buffers.octets import not_a_class
from ..types import Cbor, Json, Line, NetString, TlsDetect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

# Built-in types without parameters: immutable, so one object serves all handles, and the name of
# the most frequent one costs a dictionary lookup.
SHARED: Final[dict[str, Any]] = {
    "line": Line(),
    "json": Json(),
    "cbor": Cbor(),
    "netstring": NetString(),
    "tls_detect": TlsDetect(),
}

#: The frame type that the dispatch recognises by identity.
LINE: Final = SHARED["line"]
#: The same for a coroutine: the dispatch has to note where such a line was.
AWAITED_LINE: Final = Line()

# Built-in types that mean nothing without their parameters: only the error message differs.
_NEED_PARAMETERS: Final = {
    "chunk": "Chunk(size)",
    "regex": "Regex(accept)",
    "packstring": "PackString(fmt)",
    "tls_autostart": "TlsAutostart(mode)",
}

_factories: Final[dict[str, Callable[[], Any]]] = {}


def register_frame_type(name: str, factory: Callable[[], Any]) -> None:
    """Make *name* mean ``factory()`` in ``push_read``, ``push_write`` and their kin.

    Args:
        name: What users will write. Prefix it with that of your distribution.
        factory: Called without arguments at each use; gives a reader, with ``encode`` if it can
            be written. A frame type with parameters needs no name: users pass the object.

    Registering the same factory again changes nothing, so a module may do it at import.

    Raises:
        TypeError: If *name* is not a str or *factory* cannot be called.
        ValueError: If the name is empty or taken.

    Perl: ``AnyEvent::Handle::register_read_type``, ``register_write_type``
    """
    if not isinstance(name, str) or not callable(factory):
        raise TypeError(f"expected a name and a callable, got {name!r} and {factory!r}")
    if not name:
        raise ValueError("the name of a frame type must not be empty")
    if name in SHARED or name in _NEED_PARAMETERS or _factories.get(name, factory) != factory:
        raise ValueError(f"the frame type {name!r} exists already")
    _factories[name] = factory


def resolve_frame(name: str) -> Any:
    """Return the frame type that *name* stands for.

    Raises:
        ValueError: If there is none.
    """
    frame = SHARED.get(name)
    if frame is not None:
        return frame
    factory = _factories.get(name)
    if factory is not None:
        made = factory()
        not_a_class(f"what the factory of {name!r} makes", made)
        return made
    if name in _NEED_PARAMETERS:
        raise ValueError(f"frame type {name!r} needs parameters: pass {_NEED_PARAMETERS[name]}")
    known = ", ".join(sorted((*SHARED, *_factories)))
    raise ValueError(f"unknown frame type {name!r}: expected one of {known}, or an object")
