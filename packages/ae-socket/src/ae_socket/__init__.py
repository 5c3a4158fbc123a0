"""AnyEvent for Python: connecting and serving over IPv4, IPv6 and UNIX sockets.

``tcp_connect`` and ``tcp_server`` are what most programs need; ``udp_endpoint`` is their like for
datagrams. The parsers and formatters of addresses do no I/O, and ``resolve`` is where names become
addresses - through the system unless another resolver is installed.

Perl: ``AnyEvent::Socket``
"""

from __future__ import annotations

__all__ = (
    "UNIX",
    "AddressInfo",
    "Backoff",
    "ConnectFailed",
    "Connector",
    "Endpoint",
    "HostsFile",
    "ProxyConnector",
    "ProxyRefused",
    "ProxyStep",
    "ResolveFailed",
    "Resolver",
    "Server",
    "ThreadResolver",
    "__version__",
    "address_family",
    "format_address",
    "format_host_port",
    "format_ipv4",
    "format_ipv6",
    "host_to_ascii",
    "http_connect",
    "inherited_sockets",
    "order_addresses",
    "parse_address",
    "parse_host_port",
    "parse_ipv4",
    "parse_ipv6",
    "parse_unix",
    "resolve",
    "set_resolver",
    "socks5",
    "tcp_connect",
    "tcp_server",
    "udp_endpoint",
)

from . import _foundation as _foundation

# isort: split

from ._addresses import (
    UNIX as UNIX,
)
from ._addresses import (
    address_family as address_family,
)
from ._addresses import (
    format_address as format_address,
)
from ._addresses import (
    format_host_port as format_host_port,
)
from ._addresses import (
    format_ipv4 as format_ipv4,
)
from ._addresses import (
    format_ipv6 as format_ipv6,
)
from ._addresses import (
    parse_address as parse_address,
)
from ._addresses import (
    parse_host_port as parse_host_port,
)
from ._addresses import (
    parse_ipv4 as parse_ipv4,
)
from ._addresses import (
    parse_ipv6 as parse_ipv6,
)
from ._addresses import (
    parse_unix as parse_unix,
)
from ._backoff import Backoff as Backoff
from ._connect import tcp_connect as tcp_connect
from ._connectors import ProxyConnector as ProxyConnector
from ._connectors import ProxyStep as ProxyStep
from ._connectors import http_connect as http_connect
from ._connectors import socks5 as socks5
from ._errors import ConnectFailed as ConnectFailed
from ._errors import ProxyRefused as ProxyRefused
from ._errors import ResolveFailed as ResolveFailed
from ._getaddrinfo import ThreadResolver as ThreadResolver
from ._host_names import host_to_ascii as host_to_ascii
from ._hosts import HostsFile as HostsFile
from ._lookup import resolve as resolve
from ._ordering import order_addresses as order_addresses
from ._resolver import set_resolver as set_resolver
from ._server import (
    Server as Server,
)
from ._server import (
    inherited_sockets as inherited_sockets,
)
from ._server import (
    tcp_server as tcp_server,
)
from ._sockaddr import AddressInfo as AddressInfo
from ._udp import Endpoint as Endpoint
from ._udp import udp_endpoint as udp_endpoint
from ._version import __version__ as __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._interfaces import Connector as Connector
    from ._interfaces import Resolver as Resolver
else:

    def __getattr__(name):
        # protocols, which typing makes: importing that costs more than all of this package
        if name not in ("Connector", "Resolver"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import _interfaces

        value = getattr(_interfaces, name)
        value.__module__ = __name__
        globals()[name] = value
        return value


for _name in __all__:
    # What a traceback and help() show is where a program imports it from.
    if hasattr(globals().get(_name), "__module__"):
        globals()[_name].__module__ = __name__
