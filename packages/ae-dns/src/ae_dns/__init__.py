"""AnyEvent for Python: a DNS stub resolver on any event loop.

    >>> import ae_dns
    >>> ae_dns.a("www.example.org").recv()                      # doctest: +SKIP
    ['192.0.2.80']

``Resolver`` is the resolver; the functions ask a shared one. ``install()`` makes it the
resolver of ``ae_socket``. dnspython is imported when the first message needs it.
"""

from __future__ import annotations

__all__ = (
    "Answer",
    "Cache",
    "NoData",
    "NoSuchName",
    "QueryTimedOut",
    "ResolveError",
    "Resolver",
    "ServerFailed",
    "Srv",
    "a",
    "aaaa",
    "any_",
    "idn_to_ascii",
    "idn_to_unicode",
    "install",
    "mx",
    "ns",
    "ptr",
    "resolve",
    "resolver",
    "reverse_lookup",
    "reverse_verify",
    "set_resolver",
    "srv",
    "txt",
)

from . import _foundation as _foundation

# isort: split

from ._answers import Answer as Answer
from ._answers import Srv as Srv
from ._cache import Cache as Cache
from ._errors import NoData as NoData
from ._errors import NoSuchName as NoSuchName
from ._errors import QueryTimedOut as QueryTimedOut
from ._errors import ResolveError as ResolveError
from ._errors import ServerFailed as ServerFailed
from ._functions import a as a
from ._functions import aaaa as aaaa
from ._functions import any_ as any_
from ._functions import install as install
from ._functions import mx as mx
from ._functions import ns as ns
from ._functions import ptr as ptr
from ._functions import resolve as resolve
from ._functions import resolver as resolver
from ._functions import reverse_lookup as reverse_lookup
from ._functions import reverse_verify as reverse_verify
from ._functions import set_resolver as set_resolver
from ._functions import srv as srv
from ._functions import txt as txt
from ._idn import idn_to_ascii as idn_to_ascii
from ._idn import idn_to_unicode as idn_to_unicode
from ._resolver import Resolver as Resolver
from ._version import __version__ as __version__

for _name in __all__:
    globals()[_name].__module__ = __name__
