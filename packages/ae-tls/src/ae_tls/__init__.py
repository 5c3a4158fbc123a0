"""TLS for ``ae_handle``: contexts and sessions over OpenSSL, secure by default.

    context = ae_tls.Context(ca_file="ca.pem")
    handle = Handle(connect=("www.example.org", 443), tls="connect", tls_context=context)

OpenSSL and ``cryptography`` are imported when the first :class:`Context` is made.
"""

from __future__ import annotations

__all__ = ("REASONS", "Context", "Session", "VerifyInfo", "__version__", "certificate_name")

from . import _foundation as _foundation

# isort: split

from ._context import Context as Context
from ._errors import REASONS as REASONS
from ._session import Session as Session
from ._verify import VerifyInfo as VerifyInfo
from ._verify import certificate_name as certificate_name
from ._version import __version__ as __version__

for _public in (Context, Session, VerifyInfo, certificate_name):
    _public.__module__ = "ae_tls"
