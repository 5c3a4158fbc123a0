"""Where servers, search list and options come from: resolv.conf, environment, Windows.

``parse_resolv_conf`` is sans-I/O; ``SystemConfig`` looks at the file's stamp at every
lookup, as glibc does, and reads it again when it changed.
"""

from __future__ import annotations

__all__ = (
    "DEFAULT_TIMEOUTS",
    "Config",
    "Server",
    "SystemConfig",
    "parse_resolv_conf",
    "parse_server",
    "parse_suffix",
)

import os
import socket
import stat
import sys
import time
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import ae_core as ae
from ae_core.abc import environment
from ae_socket import address_family, host_to_ascii, parse_address, parse_host_port

from ._wire_fast import encode_name

DEFAULT_TIMEOUTS: Final = (2.0, 5.0, 5.0)
_MAX_SERVERS: Final = 3  # MAXNS
_MAX_NDOTS: Final = 15  # RES_MAXNDOTS
_MAX_TIMEOUT: Final = 30  # RES_MAXRETRANS
_MAX_ATTEMPTS: Final = 5  # RES_MAXRETRY
# A file changed so lately may change again without its stamp changing: file systems keep
# times in coarse steps, FAT in steps of two seconds.
_STAMP_GRAIN: Final = 2_000_000_000


class Server(NamedTuple):
    """A name server: address family, and the socket address to connect to."""

    family: int
    sockaddr: tuple[str, int] | tuple[str, int, int, int]

    def __str__(self) -> str:
        host, port, *rest = self.sockaddr
        if self.family != socket.AF_INET6:
            return f"{host}:{port}"
        scope_id = int(rest[1])
        return f"[{host}%{_interface_name(scope_id)}]:{port}" if scope_id else f"[{host}]:{port}"


def _interface_name(scope_id: int) -> str:
    try:
        return socket.if_indextoname(scope_id)
    except OSError:  # the interface is not there, or not any more
        return str(scope_id)


class Config(NamedTuple):
    """Everything that decides how to ask.

    Attributes:
        servers: The name servers, in the order in which they are asked.
        search: Suffixes for names with few dots.
        ndots: A name with this many dots is first tried as it is.
        timeouts: Seconds to wait for a reply; one round over all servers per value.
        rotate: Begin each lookup at another server.
        edns: Announce 1232 bytes; ``None``: the resolver's own choice.
        trust_ad: Ask for the AD bit and leave it in replies.
        use_vc: TCP only.
        no_aaaa: Never ask for IPv6 addresses when resolving a host.
        single_request: Ask for A and AAAA one after the other.
        complaints: What could not be understood.
    """

    servers: tuple[Server, ...] = ()
    search: tuple[str, ...] = ()
    ndots: int = 1
    timeouts: tuple[float, ...] = DEFAULT_TIMEOUTS
    rotate: bool = False
    edns: bool | None = None
    trust_ad: bool = False
    use_vc: bool = False
    no_aaaa: bool = False
    single_request: bool = False
    complaints: tuple[str, ...] = ()

    def but(self, **changes: Any) -> Config:
        """Return a copy with these fields changed."""
        return self._replace(**changes)


def parse_server(text: str) -> Server:
    """Parse the address of a name server, with an optional port (53 if there is none).

    Raises:
        ValueError: If *text* is not a numeric address, or the port is impossible.
        TypeError: If *text* is not a ``str``.
    """
    if not isinstance(text, str):
        raise TypeError(f"expected the address of a name server as str, got {text!r}")
    # A bare IPv6 address has colons of its own, so it is looked at first.
    host, port = text, "53"
    if parse_address(text.partition("%")[0]) is None:
        parsed = parse_host_port(text, "53")
        if parsed is None:
            raise ValueError(f"expected the address of a name server, got {text!r}")
        host, port = parsed
    numeric, _, scope = host.partition("%")
    packed = parse_address(numeric)
    if packed is None or len(packed) not in (4, 16):
        raise ValueError(f"expected the numeric address of a name server, got {text!r}")
    if not (port.isascii() and port.isdigit() and 0 < int(port[:9]) < 65536):
        raise ValueError(f"expected a port between 1 and 65535, got {text!r}")
    if address_family(packed) == socket.AF_INET:
        if scope:
            raise ValueError(f"an IPv4 address has no scope: {text!r}")
        return Server(socket.AF_INET, (socket.inet_ntop(socket.AF_INET, packed), int(port)))
    scope_id = 0
    if scope:
        try:
            scope_id = _interface(scope)
        except (OSError, ValueError):
            raise ValueError(f"no network interface {scope!r} for name server {text!r}") from None
    return Server(
        socket.AF_INET6, (socket.inet_ntop(socket.AF_INET6, packed), int(port), 0, scope_id)
    )


def parse_suffix(text: str) -> str:
    """Return a suffix for a search list in ASCII.

    Raises:
        ValueError: If it can be part of no name.
    """
    encoded = text if text.isascii() else host_to_ascii(text)
    encode_name(encoded)
    return encoded


def _interface(scope: str) -> int:
    if scope.isascii() and scope.isdigit():
        number = int(scope[:11])
        if number < 1 << 32:
            return number
        raise ValueError(f"no number of an interface: {scope!r}")
    return socket.if_nametoindex(scope)


# What resolv.conf(5) calls "options" without a number, and our field.
_SWITCHES: Final = {
    "rotate": "rotate",
    "edns0": "edns",
    "trust-ad": "trust_ad",
    "use-vc": "use_vc",
    "usevc": "use_vc",
    "tcp": "use_vc",
    "no-aaaa": "no_aaaa",
    "single-request": "single_request",
    "single-request-reopen": "single_request",
}


def parse_resolv_conf(
    text: str,
    base: Config | None = None,
    *,
    res_options: str | None = None,
    local_domain: str | None = None,
    host: str = "",
) -> Config:
    """Parse the text of a resolv.conf file (resolv.conf(5); upstream: DNS-23).

    Lines that make no sense are skipped and noted in ``complaints``. At most three servers
    count. Of several ``search`` and ``domain`` lines the last one counts; ``timeout:n`` makes
    every round *n* seconds long, ``attempts:k`` makes *k* rounds.

    Args:
        text: The file.
        base: What holds where the file says nothing.
        res_options: ``RES_OPTIONS`` of the environment: more options, which win.
        local_domain: ``LOCALDOMAIN`` of the environment: replaces the search list.
        host: The host's name. The domain it is in is the search list where there is no other.
    """
    config = base or Config()
    servers: list[Server] = []
    search: list[str] | None = None
    options: list[str] = []
    complaints: list[str] = []
    for line in text.split("\n"):
        if line[:1] in ("#", ";"):
            continue
        words = line.split()
        if not words:
            continue
        keyword, values = words[0].lower(), words[1:]
        # A comment may follow on the line, unlike in glibc, which takes it for a domain.
        for i, word in enumerate(values):
            if word[0] in "#;":
                del values[i:]
                break
        if keyword == "nameserver" and values:
            if len(servers) < _MAX_SERVERS:
                try:
                    servers.append(parse_server(values[0]))
                except ValueError as error:
                    complaints.append(str(error))
        elif keyword == "domain" and values:
            search = values[:1]
        elif keyword == "search":
            search = values
        elif keyword == "options":
            options += values
    if local_domain is not None:
        search = local_domain.split()
    if search is None and host:
        search = [host.partition(".")[2]]
    if search is not None:
        config = config.but(search=_usable(search, complaints))
    if servers:
        config = config.but(servers=tuple(servers))
    config = _apply_options(config, options + (res_options or "").split(), complaints)
    return config.but(complaints=tuple(complaints))


def _usable(suffixes: Iterable[str], complaints: list[str]) -> tuple[str, ...]:
    """Return those of *suffixes* that can be part of a name, each once."""
    usable: dict[str, None] = {}
    for text in suffixes:
        if text.strip("."):  # the root adds nothing to a name
            try:
                usable[parse_suffix(text)] = None
            except ValueError as error:
                complaints.append(f"search list: {error}")
    return tuple(usable)


def _apply_options(config: Config, options: list[str], complaints: list[str]) -> Config:
    timeout: float | None = None
    attempts: int | None = None
    switches: dict[str, bool] = {}
    ndots = config.ndots
    for option in options:
        keyword, _, value = option.lower().partition(":")
        if keyword in _SWITCHES:
            switches[_SWITCHES[keyword]] = True
        elif keyword in ("ndots", "timeout", "attempts"):
            if not (value.isascii() and value.isdigit()):
                complaints.append(f"expected a number in option {option!r}")
            elif keyword == "ndots":
                ndots = min(int(value[:9]), _MAX_NDOTS)
            elif keyword == "timeout":
                timeout = float(min(max(int(value[:9]), 1), _MAX_TIMEOUT))
            else:
                attempts = min(max(int(value[:9]), 1), _MAX_ATTEMPTS)
    timeouts = config.timeouts
    if timeout is not None:
        timeouts = (timeout,)
    if attempts is not None:
        timeouts = (timeouts[0],) * attempts
    return config.but(ndots=ndots, timeouts=timeouts, **switches)


class SystemConfig:
    """The system's configuration, made anew when its file or environment changed.

    The file is small and local; it is read as glibc reads it, when a lookup begins and
    its stamp is another one than last time. So no lookup begins unconfigured.
    """

    def __init__(self) -> None:
        self._stamp: object = None
        self._config: Config | None = None
        self._is_young = False  # whether the file may have changed without its stamp changing

    def current(self) -> Config:
        """Return what holds now: the same object as long as nothing changed."""
        path = environment("AE_RESOLV_CONF")
        if sys.platform == "win32" and not path:
            # The registry has no stamp that could be looked at; it is read once a minute.
            minute = int(time.monotonic() / 60)
            if self._config is None or self._stamp != minute:
                self._stamp = minute
                config = _windows_config()
                if self._config != config:
                    self._config = config
            assert self._config is not None
            return self._config
        path = path or "/etc/resolv.conf"
        res_options, local_domain = environment("RES_OPTIONS"), environment("LOCALDOMAIN", None)
        stamp = (path, _stamp(path), res_options, local_domain)
        if self._config is None or stamp != self._stamp or self._is_young:
            is_new = stamp != self._stamp
            self._stamp = stamp
            self._is_young = abs(time.time_ns() - (stamp[1] or (0,))[0]) < _STAMP_GRAIN
            config = parse_resolv_conf(
                _text_of(path),
                Config(servers=(LOCAL_SERVER,)),
                res_options=res_options,
                local_domain=local_domain,
                host=_host_name(),
            )
            if self._config is None or is_new or config != self._config:
                for complaint in config.complaints:
                    ae.log("warn", "%s: %s", path, complaint)
                self._config = config
        return self._config


# What resolv.conf(5) prescribes where it names no server. There are no public fallbacks: they would
# be told every name that is looked up here.
LOCAL_SERVER: Final = Server(socket.AF_INET, ("127.0.0.1", 53))


def _stamp(path: str) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return (status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode)


def _text_of(path: str) -> str:
    try:
        # A pipe or a terminal would block.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError(f"not a regular file: {path!r}")
        with open(path, encoding="utf-8", errors="replace") as lines:
            return lines.read(1 << 20)
    except OSError as error:
        ae.log("warn", "%s: %s", path, error)
        return ""


def _host_name() -> str:
    try:
        return socket.gethostname()
    except (OSError, UnicodeError):
        return ""


def _windows_config() -> Config:
    """Ask the registry, by way of dnspython."""
    import dns.win32util

    info = dns.win32util.get_dns_info()  # type: ignore[attr-defined,unused-ignore]
    servers = []
    for text in info.nameservers:
        try:
            servers.append(parse_server(text))
        except ValueError as error:
            ae.log("warn", "%s", error)
    domains = info.search or ([info.domain] if info.domain else [])
    complaints: list[str] = []
    search = _usable((domain.to_text(omit_final_dot=True) for domain in domains), complaints)
    for complaint in complaints:
        ae.log("warn", "%s", complaint)
    return Config(servers=tuple(servers) or (LOCAL_SERVER,), search=search)
