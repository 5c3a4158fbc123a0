"""A pipelined Redis client for any event loop: callbacks, blocking calls and await."""

from __future__ import annotations

__all__ = (
    "AuthenticationFailed",
    "CannotConnect",
    "ClientClosed",
    "ConnectionLost",
    "Message",
    "Parser",
    "Pipeline",
    "ProtocolError",
    "Push",
    "Redis",
    "RedisError",
    "ReplyError",
    "ReplyTimedOut",
    "Subscription",
    "Transaction",
    "TransactionAborted",
    "__version__",
    "encode",
)

from ._client import Redis as Redis
from ._encode import encode as encode
from ._errors import AuthenticationFailed as AuthenticationFailed
from ._errors import CannotConnect as CannotConnect
from ._errors import ClientClosed as ClientClosed
from ._errors import ConnectionLost as ConnectionLost
from ._errors import ProtocolError as ProtocolError
from ._errors import RedisError as RedisError
from ._errors import ReplyError as ReplyError
from ._errors import ReplyTimedOut as ReplyTimedOut
from ._errors import TransactionAborted as TransactionAborted
from ._pipeline import Pipeline as Pipeline
from ._pipeline import Transaction as Transaction
from ._pubsub import Message as Message
from ._pubsub import Subscription as Subscription
from ._resp import Parser as Parser
from ._resp import Push as Push
from ._version import __version__ as __version__

for _thing in [globals()[_name] for _name in __all__ if _name != "__version__"]:
    _thing.__module__ = "ae_redis"
