"""What a handle takes for a TLS context, and the engines that are installed.

Engines register themselves as entry points of the group ``ae_handle.tls``.
"""

from __future__ import annotations

__all__ = ("check_role", "find_context")


from .._buffers.octets import not_a_class
from .._errors import TlsUnavailable
from .ssl_engine import SslContext, is_ssl_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from ..abc import TlsContext

_ROLES: Final = ("connect", "accept")


def find_context(context: Any) -> TlsContext:
    """Return *context* as what the seam asks for; None asks the installed engines.

    Raises:
        TlsUnavailable: If None was given, and nothing that provides TLS is installed.
        TypeError: If it has another shape.
    """
    if context is None:
        return _installed()
    not_a_class("tls_context", context)
    if is_ssl_context(context):
        return SslContext(context)
    if callable(getattr(context, "new_session", None)):
        result: TlsContext = context
        return result
    raise TypeError(
        f"expected tls_context as an ae_tls.Context, an ssl.SSLContext or an object with "
        f"new_session(), got {context!r}"
    )


_default: TlsContext | None = None


def _installed() -> TlsContext:
    global _default
    if _default is None:
        from importlib.metadata import entry_points

        found = entry_points(group="ae_handle.tls")
        for point in found:
            made: TlsContext = point.load()()
            _default = made
            break
        else:
            raise TlsUnavailable()
    return _default


def check_role(role: object) -> None:
    """Raise ValueError unless *role* is one."""
    if role not in _ROLES:
        raise ValueError(f'expected tls "connect" or "accept", got {role!r}')
