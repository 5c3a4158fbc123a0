"""resolv.conf with every option of its manual page, and the environment."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ae_dns
from ae_dns._config import Config, parse_resolv_conf, parse_server
from ae_dns.testing import NameServer

UPSTREAM = """
# a comment
; another one
NameServer 9.9.9.9      # trailing comment
nameserver not-an-address
nameserver ::1
search lost.test
domain gone.test
search s1.test s2.test
options ndots:3 timeout:7 attempts:2 debug unknown:4
sortlist 130.155.160.0/255.255.240.0
nonsense here
"""


def test_what_upstream_observes() -> None:
    """Case B91."""
    config = parse_resolv_conf(UPSTREAM)
    assert [str(server) for server in config.servers] == ["9.9.9.9:53", "[::1]:53"]
    assert config.search == ("s1.test", "s2.test")
    assert config.ndots == 3
    assert config.timeouts == (7.0, 7.0)
    assert len(config.servers) * len(config.timeouts) == 4
    (complaint,) = config.complaints
    assert "'not-an-address'" in complaint


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        pytest.param("192.0.2.1", "192.0.2.1:53", id="ipv4"),
        pytest.param("192.0.2.1:5353", "192.0.2.1:5353", id="ipv4-port"),
        pytest.param("2001:db8::1", "[2001:db8::1]:53", id="ipv6"),
        pytest.param("[2001:db8::1]:5353", "[2001:db8::1]:5353", id="ipv6-port"),
        pytest.param("[2001:db8::1]", "[2001:db8::1]:53", id="ipv6-brackets"),
        pytest.param("fe80::1%99999", "[fe80::1%99999]:53", id="scope"),
    ],
)
def test_servers(text: str, endpoint: str) -> None:
    assert str(parse_server(text)) == endpoint


def test_scopes_are_numbers_or_names_of_interfaces() -> None:
    index, name = socket.if_nameindex()[0]
    for text in (f"fe80::1%{index}", f"fe80::1%{name}", f"[fe80::1%{name}]:53"):
        server = parse_server(text)
        assert server.sockaddr == ("fe80::1", 53, 0, index)
        assert str(server) == f"[fe80::1%{name}]:53"
        assert parse_server(str(server)) == server
    assert ae_dns.Resolver(servers=[f"fe80::1%{name}"]).servers == (f"[fe80::1%{name}]:53",)


BAD_SERVERS = [
    *("dns.test", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:x", "1.2.3.4.5", "unix/", "[::1"),
    *("192.0.2.1%1", "fe80::1%no-such-interface", "fe80::1%99999999999"),
]


@pytest.mark.parametrize("text", ["", "192.0.2.1 ", "192.0.2.1:" + "1" * 5000, *BAD_SERVERS])
def test_bad_servers_are_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        ae_dns.Resolver(servers=[text])
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        pytest.param("ndots:4", "ndots", 4, id="ndots"),
        pytest.param("ndots:0", "ndots", 0, id="ndots-0"),
        pytest.param("ndots:99", "ndots", 15, id="ndots-cap"),
        pytest.param("ndots:" + "9" * 5000, "ndots", 15, id="ndots-huge"),
        pytest.param("timeout:4", "timeouts", (4.0,), id="timeout"),
        pytest.param("timeout:99", "timeouts", (30.0,), id="timeout-cap"),
        pytest.param("timeout:0", "timeouts", (1.0,), id="timeout-floor"),
        pytest.param("attempts:3", "timeouts", (2.0, 2.0, 2.0), id="attempts"),
        pytest.param("attempts:99", "timeouts", (2.0,) * 5, id="attempts-cap"),
        pytest.param("timeout:3 attempts:2", "timeouts", (3.0, 3.0), id="timeout-attempts"),
        pytest.param("attempts:2 timeout:3", "timeouts", (3.0, 3.0), id="attempts-timeout"),
        pytest.param("rotate", "rotate", True, id="rotate"),
        pytest.param("edns0", "edns", True, id="edns0"),
        pytest.param("trust-ad", "trust_ad", True, id="trust-ad"),
        pytest.param("use-vc", "use_vc", True, id="use-vc"),
        pytest.param("no-aaaa", "no_aaaa", True, id="no-aaaa"),
        pytest.param("single-request", "single_request", True, id="single-request"),
        pytest.param("single-request-reopen", "single_request", True, id="reopen"),
        pytest.param("debug inet6 no-check-names ip6-dotint", "ndots", 1, id="without-effect"),
    ],
)
def test_options(options: str, field: str, value: object) -> None:
    config = parse_resolv_conf(f"options {options}")
    assert getattr(config, field) == value
    assert config.complaints == ()
    assert getattr(parse_resolv_conf("", res_options=options), field) == value


@pytest.mark.parametrize(
    "option", ["ndots:", "ndots:x", "timeout:-1", "attempts:2.5", "ndots:\u0663"]
)
def test_numbers_that_are_none_are_named(option: str) -> None:
    config = parse_resolv_conf(f"options {option}")
    assert config.but(complaints=()) == Config()
    assert repr(option) in config.complaints[0]


@pytest.mark.parametrize(
    ("text", "search"),
    [
        pytest.param("search a b\nsearch c", ("c",), id="last-search"),
        pytest.param("search a b\ndomain c", ("c",), id="domain-after-search"),
        pytest.param("domain c d", ("c",), id="domain-is-one"),
        pytest.param("search a a b", ("a", "b"), id="duplicates"),
        pytest.param("search .", (), id="root"),
        pytest.param("search", (), id="empty"),
        pytest.param("search a b.c. d", ("a", "b.c.", "d"), id="dots"),
        pytest.param("\tsearch a", ("a",), id="indented"),
        pytest.param("search " + " ".join(f"d{i}" for i in range(9)), None, id="nine"),
    ],
)
def test_search_lists(text: str, search: tuple[str, ...] | None) -> None:
    expected = tuple(f"d{i}" for i in range(9)) if search is None else search
    assert parse_resolv_conf(text).search == expected


def test_the_environment_wins() -> None:
    text = "search a\noptions ndots:2 timeout:9"
    config = parse_resolv_conf(text, res_options="ndots:3", local_domain="x y")
    assert (config.search, config.ndots, config.timeouts) == (("x", "y"), 3, (9.0,))
    assert parse_resolv_conf(text, local_domain="").search == ()


def test_three_servers_count() -> None:
    text = "".join(f"nameserver 192.0.2.{i}\n" for i in range(1, 6))
    servers = [str(server) for server in parse_resolv_conf(text).servers]
    assert servers == ["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"]


def test_options_survive_another_file() -> None:
    first = parse_resolv_conf("options ndots:3\nsearch a")
    assert parse_resolv_conf("nameserver ::1", first).ndots == 3


@given(st.text(max_size=300))
def test_any_text_gives_a_configuration(text: str) -> None:
    assert isinstance(parse_resolv_conf(text), Config)
    keyworded = f"nameserver {text}\noptions {text}\nsearch {text}\ndomain {text}"
    assert isinstance(parse_resolv_conf(keyworded, res_options=text), Config)


BAD_SUFFIXES = [
    "a..b",
    ".a",
    "x" * 64,
    "y." * 128,
    "a\\",
    "a\\999",
    "\u2100.test",
    "\ufffd",
    "a\u200d",
]


@pytest.mark.parametrize("bad", BAD_SUFFIXES, ids=lambda bad: ascii(bad)[:20])
def test_a_word_that_can_be_part_of_no_name_switches_off_nothing_but_itself(bad: str) -> None:
    for search in (f"{bad} good.test", f"good.test {bad}", f"good.test {bad} good.test"):
        config = parse_resolv_conf(f"search {search}\nnameserver 192.0.2.1")
        assert config.search == ("good.test",)
        assert len(config.servers) == len(config.complaints) == 1
        config = parse_resolv_conf("search lost.test", local_domain=search)
        assert config.search == ("good.test",)
    config = parse_resolv_conf(f"domain {bad}\noptions ndots:2")
    assert (config.search, config.ndots) == ((), 2)
    config = parse_resolv_conf("nameserver 192.0.2.1", host=f"me.{bad}")
    assert (config.search, len(config.servers)) == ((), 1)


@pytest.mark.parametrize(
    "line",
    ["nameserver a..b", "nameserver", "nameserver fe80::1%nosuch", "options", "options ndots:x",
     "options timeout:", "options \0 :: :1 ndots", "search", "domain", "sortlist x", "\0", "\x0c",
     "\x85"],
    ids=repr,
)  # fmt: skip
def test_a_line_that_makes_no_sense_switches_off_nothing_else(line: str) -> None:
    rest = "nameserver 192.0.2.1\nsearch a.test\noptions attempts:1"
    config = parse_resolv_conf(f"{line}\n{rest}\n")
    assert [str(server) for server in config.servers] == ["192.0.2.1:53"]
    assert (config.search, config.timeouts) == (("a.test",), (2.0,))
    config = parse_resolv_conf(f"{rest}\n", res_options=f"{line} ndots:4")
    assert (config.ndots, config.timeouts) == (4, (2.0,))


def test_suffixes_outside_ascii_are_mapped() -> None:
    assert parse_resolv_conf("search fa\xdf.test").search == ("xn--fa-hia.test",)


# ------------------------------------------------------------- the file


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "resolv.conf"
    monkeypatch.setenv("AE_RESOLV_CONF", str(path))
    for name in ("RES_OPTIONS", "LOCALDOMAIN", "AE_EDNS0"):
        monkeypatch.delenv(name, raising=False)
    return path


def test_the_file_is_read_again_when_it_changes(conf: Path) -> None:
    conf.write_text("nameserver 192.0.2.1\nsearch a.test\n")
    resolver = ae_dns.Resolver()
    assert resolver.servers == ("192.0.2.1:53",)
    assert resolver.search == ("a.test",)
    conf.write_text("nameserver 192.0.2.22\noptions ndots:2 timeout:9\nsearch b.test\n")
    assert resolver.servers == ("192.0.2.22:53",)
    assert (resolver.search, resolver.ndots, resolver.timeouts) == (("b.test",), 2, (9.0,))


def test_the_file_may_change_twice_within_a_tick_of_the_clock(conf: Path) -> None:
    stamp = time.time_ns()
    conf.write_text("nameserver 192.0.2.1\n")
    os.utime(conf, ns=(stamp, stamp))
    resolver = ae_dns.Resolver()
    assert resolver.servers == ("192.0.2.1:53",)
    conf.write_text("nameserver 192.0.2.2\n")
    os.utime(conf, ns=(stamp, stamp))
    assert resolver.servers == ("192.0.2.2:53",)


SYSTEM_NAMES = ["www", "www.demo.test", "www.demo.test."]


@pytest.mark.parametrize("where", ["search", "domain", "LOCALDOMAIN", "host"])
@pytest.mark.parametrize(
    "bad", ["a..b", "x" * 64, "\xe4\xdf\u2100", "\udcff"], ids=lambda bad: ascii(bad)[:20]
)
def test_names_are_found_whatever_stands_in_the_search_list(
    conf: Path, monkeypatch: pytest.MonkeyPatch, where: str, bad: str
) -> None:
    with NameServer("www.demo.test. A 192.0.2.80\nwww. A 192.0.2.81") as server:
        text = f"nameserver {server.endpoint}\n"
        if where in ("search", "domain"):
            text += f"{where} {bad}\n"
        elif where == "host":
            monkeypatch.setattr(socket, "gethostname", lambda: f"me.{bad}")
        else:
            monkeypatch.setenv(where, bad)
        conf.write_text(text, encoding="utf-8", errors="surrogateescape")
        resolver = ae_dns.Resolver()
        assert [resolver.a(name).recv(20) for name in SYSTEM_NAMES] == [
            ["192.0.2.81"],
            ["192.0.2.80"],
            ["192.0.2.80"],
        ]
        (info,) = resolver.getaddrinfo("www.demo.test", 80, family=4).recv(20)
        assert info.sockaddr == ("192.0.2.80", 80)
        assert len(resolver.search) == 0


def test_a_host_without_a_name_has_no_domain(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise OSError("no name")

    monkeypatch.setattr(socket, "gethostname", nameless)
    conf.write_text("nameserver 192.0.2.1\n")
    assert ae_dns.Resolver().search == ()


@pytest.mark.parametrize("words", ["ipx", "ipv5, IPv4", ",,", " ipv4 "])
def test_a_word_of_ae_protocols_that_is_none_switches_off_no_names(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AE_PROTOCOLS", words)
    with NameServer("www.demo.test. A 192.0.2.80") as server:
        resolver = ae_dns.Resolver(servers=[server.endpoint])
        (info,) = resolver.getaddrinfo("www.demo.test", 80).recv(20)
        assert info.sockaddr == ("192.0.2.80", 80)


def test_what_is_not_understood_is_logged(conf: Path, caplog: pytest.LogCaptureFixture) -> None:
    conf.write_text("nameserver junk\nnameserver 192.0.2.1\noptions ndots:x\n")
    with caplog.at_level(logging.DEBUG):
        assert ae_dns.Resolver().servers == ("192.0.2.1:53",)
    assert "'junk'" in caplog.text
    assert "'ndots:x'" in caplog.text


def test_arguments_win_over_the_file(conf: Path) -> None:
    conf.write_text("nameserver 192.0.2.1\nsearch a.test\noptions ndots:2 timeout:9\n")
    resolver = ae_dns.Resolver(search=["b.test"], timeouts=(3,), ndots=4)
    assert (resolver.search, resolver.ndots, resolver.timeouts) == (("b.test",), 4, (3.0,))


def test_given_servers_take_nothing_from_the_file(conf: Path) -> None:
    conf.write_text("search a.test\noptions ndots:2 timeout:9\n")
    resolver = ae_dns.Resolver(servers=["192.0.2.1"])
    assert (resolver.search, resolver.ndots, resolver.timeouts) == ((), 1, (2.0, 5.0, 5.0))


@pytest.mark.filterwarnings("ignore")
def test_without_a_file_the_local_host_is_asked_and_no_public_server(
    conf: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        resolver = ae_dns.Resolver()
    assert resolver.servers == ("127.0.0.1:53",)


def test_the_host_names_domain_is_the_search_list_of_last_resort(
    conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "me.office.test")
    conf.write_text("nameserver 192.0.2.1\n")
    assert ae_dns.Resolver().search == ("office.test",)
    conf.write_text("nameserver 192.0.2.1\nsearch a.test\n")
    assert ae_dns.Resolver().search == ("a.test",)


def test_the_environment_counts(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf.write_text("nameserver 192.0.2.1\nsearch a.test\n")
    monkeypatch.setenv("RES_OPTIONS", "ndots:5")
    monkeypatch.setenv("LOCALDOMAIN", "env.test")
    resolver = ae_dns.Resolver()
    assert (resolver.ndots, resolver.search) == (5, ("env.test",))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(conf: Path) -> None:
    os.mkfifo(conf)
    assert ae_dns.Resolver().servers == ("127.0.0.1:53",)


class FakeName:
    def __init__(self, text: str) -> None:
        self.text = text

    def to_text(self, omit_final_dot: bool) -> str:
        assert omit_final_dot
        return self.text


@pytest.mark.parametrize(
    ("search", "domain", "expected"),
    [
        pytest.param(["a.test", "b.test"], "c.test", ("a.test", "b.test"), id="search"),
        pytest.param([], "c.test", ("c.test",), id="domain"),
        pytest.param(["b.test", "a..b"], "c.test", ("b.test",), id="bad-suffix"),
        pytest.param([], None, (), id="neither"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_windows_is_asked_by_way_of_dnspython(
    monkeypatch: pytest.MonkeyPatch, search: list[str], domain: str | None, expected: object
) -> None:
    import dns.win32util

    class Info:
        nameservers = ["192.0.2.1", "fec0:0:0:ffff::1%99999", "junk"]

    Info.search = [FakeName(each) for each in search]  # type: ignore[attr-defined]
    Info.domain = FakeName(domain) if domain else None  # type: ignore[attr-defined]
    monkeypatch.setattr(dns.win32util, "get_dns_info", Info, raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delenv("AE_RESOLV_CONF", raising=False)
    resolver = ae_dns.Resolver()
    assert resolver.servers == ("192.0.2.1:53", "[fec0:0:0:ffff::1%99999]:53")
    assert resolver.search == expected
    Info.nameservers = []
    assert resolver.servers[0] == "192.0.2.1:53", "the registry is not read for every lookup"
    assert ae_dns.Resolver().servers == ("127.0.0.1:53",)


# ------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param({"servers": []}, ValueError, id="no-servers"),
        pytest.param({"servers": "192.0.2.1"}, TypeError, id="servers-text"),
        pytest.param({"servers": [5]}, TypeError, id="server-int"),
        pytest.param({"timeouts": ()}, ValueError, id="no-timeouts"),
        pytest.param({"timeouts": (0,)}, ValueError, id="timeout-0"),
        pytest.param({"timeouts": (float("nan"),)}, ValueError, id="timeout-nan"),
        pytest.param({"timeouts": 5}, TypeError, id="timeouts-int"),
        pytest.param({"timeouts": ("5",)}, TypeError, id="timeout-text"),
        pytest.param({"search": "a.test"}, TypeError, id="search-text"),
        pytest.param({"search": ["a..b"]}, ValueError, id="suffix"),
        pytest.param({"ndots": -1}, ValueError, id="ndots"),
        pytest.param({"ndots": "1"}, TypeError, id="ndots-text"),
        pytest.param({"max_outstanding": 0}, ValueError, id="max-outstanding"),
        pytest.param({"max_outstanding": True}, TypeError, id="max-outstanding-bool"),
        pytest.param({"cache": "yes"}, TypeError, id="cache"),
        pytest.param({"cache": -1}, ValueError, id="cache-negative"),
    ],
)
def test_bad_settings_are_refused(arguments: dict[str, object], error: type[Exception]) -> None:
    arguments.setdefault("servers", ["192.0.2.1"])
    with pytest.raises(error):
        ae_dns.Resolver(**arguments)  # type: ignore[arg-type]


def test_setters_affect_later_queries() -> None:
    resolver = ae_dns.Resolver(servers=["192.0.2.1"])
    resolver.timeouts = (1, 2)
    resolver.max_outstanding = 3
    assert (resolver.timeouts, resolver.max_outstanding) == ((1.0, 2.0), 3)
    with pytest.raises(ValueError):
        resolver.timeouts = ()
    with pytest.raises(ValueError):
        resolver.max_outstanding = 0
    assert repr(resolver) == "<Resolver servers=192.0.2.1:53>"


@pytest.mark.parametrize(
    ("text", "expected"), [("", 10), ("25", 25), ("0", 10), ("many", 10), ("-3", 10)]
)
@pytest.mark.filterwarnings("ignore")
def test_the_shared_resolver_heeds_the_environment(
    monkeypatch: pytest.MonkeyPatch, conf: Path, text: str, expected: int
) -> None:
    conf.write_text("nameserver 192.0.2.1\n")
    monkeypatch.setenv("AE_MAX_OUTSTANDING_DNS", text)
    ae_dns.set_resolver(None)
    assert ae_dns.resolver().max_outstanding == expected
    assert ae_dns.resolver() is ae_dns.resolver()
    assert ae_dns.resolver().cache is not None


def test_only_resolvers_can_be_shared() -> None:
    with pytest.raises(TypeError):
        ae_dns.set_resolver("8.8.8.8")  # type: ignore[arg-type]
