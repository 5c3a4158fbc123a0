"""An IRC client for any event loop: IRCv3, callbacks and await."""

from __future__ import annotations

__all__ = (
    "DEFAULT_CAPABILITIES",
    "AccountChanged",
    "AwayChanged",
    "BadLine",
    "CannotConnect",
    "CannotJoin",
    "Channel",
    "Client",
    "ClientClosed",
    "Connected",
    "ConnectionLost",
    "Ctcp",
    "Disconnected",
    "Event",
    "Events",
    "Features",
    "HostChanged",
    "Invited",
    "IrcError",
    "Joined",
    "Kicked",
    "Left",
    "Listed",
    "Message",
    "ModeChange",
    "ModesChanged",
    "NickChanged",
    "Other",
    "PingTimedOut",
    "Quit",
    "Refused",
    "Registered",
    "Sasl",
    "SaslFailed",
    "StsStore",
    "Text",
    "TokenBucket",
    "TopicChanged",
    "User",
    "__version__",
    "encode",
    "fold",
    "parse",
    "parse_ctcp",
    "parse_modes",
    "readable",
    "split_source",
    "split_text",
)

from ._bucket import TokenBucket as TokenBucket
from ._capabilities import DEFAULT_CAPABILITIES as DEFAULT_CAPABILITIES
from ._client import Client as Client
from ._client import Events as Events
from ._errors import CannotConnect as CannotConnect
from ._errors import CannotJoin as CannotJoin
from ._errors import ClientClosed as ClientClosed
from ._errors import ConnectionLost as ConnectionLost
from ._errors import IrcError as IrcError
from ._errors import PingTimedOut as PingTimedOut
from ._errors import Refused as Refused
from ._errors import SaslFailed as SaslFailed
from ._events import AccountChanged as AccountChanged
from ._events import AwayChanged as AwayChanged
from ._events import Connected as Connected
from ._events import Ctcp as Ctcp
from ._events import Disconnected as Disconnected
from ._events import Event as Event
from ._events import HostChanged as HostChanged
from ._events import Invited as Invited
from ._events import Joined as Joined
from ._events import Kicked as Kicked
from ._events import Left as Left
from ._events import Listed as Listed
from ._events import ModesChanged as ModesChanged
from ._events import NickChanged as NickChanged
from ._events import Other as Other
from ._events import Quit as Quit
from ._events import Registered as Registered
from ._events import Text as Text
from ._events import TopicChanged as TopicChanged
from ._features import Features as Features
from ._features import ModeChange as ModeChange
from ._features import parse_modes as parse_modes
from ._folding import fold as fold
from ._message import BadLine as BadLine
from ._message import Message as Message
from ._message import encode as encode
from ._message import parse as parse
from ._message import readable as readable
from ._message import split_source as split_source
from ._sasl import Sasl as Sasl
from ._state import Channel as Channel
from ._state import User as User
from ._sts import StsStore as StsStore
from ._text import parse_ctcp as parse_ctcp
from ._text import split_text as split_text
from ._version import __version__ as __version__

for _thing in [globals()[_name] for _name in __all__]:
    if hasattr(_thing, "__module__"):
        _thing.__module__ = "ae_irc"
