"""The options of ``Context`` that are plain data: checked, and brought into one form.

No OpenSSL here. Every complaint names the option, the value and what was expected.
"""

from __future__ import annotations

__all__ = (
    "Version",
    "alpn_list",
    "ca_source",
    "name_table",
    "ocsp_option",
    "refuse_removed",
    "version_number",
)

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, Literal, NoReturn, TypeAlias, TypeVar

from ._material import CaSource, ca_objects
from ._verify import ascii_host, why_not

if TYPE_CHECKING:
    from ._material import Path

Version: TypeAlias = Literal["1.0", "1.1", "1.2", "1.3"]
_T = TypeVar("_T")

_VERSIONS: Final = ("1.0", "1.1", "1.2", "1.3")

# Options of AnyEvent::TLS that have no counterpart any more, and what to use.
_REMOVED: Final = {
    "method": "use min_version and max_version",
    "sslv2": "SSL 2 is gone from OpenSSL, use min_version",
    "sslv3": "SSL 3 is gone from OpenSSL, use min_version",
    "tlsv1": "use min_version and max_version",
    "tlsv1_1": "use min_version and max_version",
    "tlsv1_2": "use min_version and max_version",
    "dh": "OpenSSL picks Diffie-Hellman parameters by itself, leave it out",
    "dh_file": "OpenSSL picks Diffie-Hellman parameters by itself, leave it out",
    "dh_single_use": "it is always so, leave it out",
    "verify_peername": "use verify_name",
    "verify_cb": "use verify_callback",
    "verify_client_once": "renegotiation is refused, so a client is asked once, leave it out",
    "session_ticket": "use session_cache",
    "debug": "use key_log_file and a packet capture",
}


def refuse_removed(options: Mapping[str, object]) -> NoReturn:
    """Complain about options that do not exist, or do not exist any more.

    Raises:
        TypeError: Always.
    """
    for name in options:
        if name in _REMOVED:
            raise TypeError(f"there is no option {name!r}: {_REMOVED[name]}")
    raise TypeError(f"Context() got an unexpected keyword argument {next(iter(options))!r}")


def version_number(option: str, value: object) -> int:
    if value in _VERSIONS:
        return 0x0301 + _VERSIONS.index(str(value))
    old = isinstance(value, str) and value.lower().startswith(("ssl", "2", "3"))
    hint = ": SSL 2 and 3 are gone from OpenSSL" if old else ""
    raise ValueError(f"{option}: expected '1.2' or '1.3' (or '1.0', '1.1'), got {value!r}{hint}")


def alpn_list(value: Iterable[str] | None) -> list[bytes]:
    if value is None:
        return []
    if isinstance(value, (str, bytes)):
        raise TypeError(f"alpn must be a list of protocol names, got {value!r}")
    protocols = []
    for name in value:
        if not isinstance(name, str):
            raise TypeError(f"alpn must be a list of protocol names, got {name!r} in it")
        protocol = name.encode("latin-1", "replace")
        if not 1 <= len(protocol) <= 255:
            raise ValueError(f"alpn: a protocol name has 1 to 255 bytes, got {name!r}")
        protocols.append(protocol)
    return protocols


def name_table(value: object, kind: type[_T]) -> dict[str, _T]:
    """Check ``server_names``: host names, or ``*.`` before one, to contexts (*kind*)."""
    if not isinstance(value, Mapping):
        raise TypeError(f"server_names must be a mapping or a function, got {value!r}")
    names: dict[str, _T] = {}
    for name, context in value.items():
        if not isinstance(name, str):
            raise TypeError(f"server_names: expected a host name, got {name!r}")
        wild = name.startswith("*.")
        bare = name[2:] if wild else name
        host = ascii_host(bare)
        if host is None:
            raise ValueError(f"server_names: {name!r} is not a host name{why_not(bare)}")
        if not isinstance(context, kind):
            raise TypeError(f"server_names: expected a Context for {name!r}, got {context!r}")
        names["*." + host if wild else host] = context
    return names


def ocsp_option(
    value: bool | Literal["require"] | bytes | Callable[[], bytes] | None,
) -> tuple[Literal["optional", "require"] | None, bytes | Callable[[], bytes] | None]:
    """Tell the two meanings of ``ocsp`` apart: (how to ask for a response, what to staple)."""
    if value is None or value is False:
        return None, None
    if value is True:
        return "optional", None
    if value == "require":
        return "require", None
    if isinstance(value, bytes):
        return None, value
    if callable(value):
        return None, value
    raise TypeError(f"ocsp: expected True, 'require', bytes or a function, got {value!r}")


def ca_source(ca_file: Path | None, ca_path: Path | None, ca_cert: object) -> CaSource | None:
    """Collect what the options or the environment name; None means the machine's own CAs."""
    if ca_file is None and ca_path is None and ca_cert is None:
        if sys.flags.ignore_environment:
            return None
        ca_file = os.environ.get("AE_CA_FILE") or None
        ca_path = os.environ.get("AE_CA_PATH") or None
        if ca_file is None and ca_path is None:
            return None
    source = CaSource()
    if ca_file is not None:
        path = os.fspath(ca_file)
        with open(path, "rb"):  # an OSError that names the file
            source.files.append(path)
    if ca_path is not None:
        path = os.fspath(ca_path)
        os.listdir(path)  # an OSError that names the directory
        source.directories.append(path)
    if ca_cert is not None:
        source.certificates, source.crls = ca_objects(ca_cert)
    return source
