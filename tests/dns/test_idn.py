"""Internationalized names: cases A08 and rows UTIL-17 to UTIL-20."""

from __future__ import annotations

from typing import Any

import pytest

import ae_dns
from ae_dns.testing import NameServer

OE = "\xf6"
KANJI = "\u65e5\u672c"


@pytest.mark.parametrize(
    ("text", "ascii"),
    [
        pytest.param(f"www.{OE}ko.eu", "www.xn--ko-eka.eu", id="umlaut"),
        pytest.param(f"{KANJI}1.co.jp", "xn--1-jn6bt1b.co.jp", id="kanji"),
        pytest.param("xn--tda.com", "xn--tda.com", id="encoded"),
        pytest.param("xn--a-ecp.ru", "xn--a-ecp.ru", id="encoded-odd"),
        pytest.param("WWW.Example.COM", "WWW.Example.COM", id="ascii-untouched"),
        pytest.param(f"WWW.{OE}KO.eu", "www.xn--ko-eka.eu", id="mapped-to-lower-case"),
        pytest.param("stra\xdfe.de", "xn--strae-oqa.de", id="sharp-s-stays"),
        pytest.param(f"{KANJI}\u3002jp", "xn--wgv71a.jp", id="ideographic-full-stop"),
        pytest.param(f"{OE}.de.", "xn--nda.de.", id="final-dot"),
        pytest.param(f"..{OE}.de", "xn--nda.de", id="empty-in-front"),
        pytest.param(f"{OE}..de", f"{OE}..de", id="empty-inside"),
        pytest.param("a\u2260b.de", "a\u2260b.de", id="cannot-be-converted"),
        pytest.param("\U0001f600.de", "\U0001f600.de", id="no-letters"),
        pytest.param(f"_x.{OE}.de", "_x.xn--nda.de", id="service-label"),
        pytest.param("", "", id="empty"),
    ],
)
def test_idn_to_ascii(text: str, ascii: str) -> None:
    expected = {"xn--nda.de.": "xn--nda.de.", "xn--nda.de": "xn--nda.de"}.get(ascii, ascii)
    assert ae_dns.idn_to_ascii(text) == expected


@pytest.mark.parametrize(
    ("ascii", "text"),
    [
        pytest.param("www.xn--ko-eka.eu", f"www.{OE}ko.eu", id="umlaut"),
        pytest.param("XN--KO-EKA.EU", f"{OE}ko.eu", id="upper-case"),
        pytest.param("WWW.x", "www.x", id="ascii-in-lower-case"),
        pytest.param("xn--1-jn6bt1b.co.jp", f"{KANJI}1.co.jp", id="kanji"),
        pytest.param("xn--.de", "xn--.de", id="no-encoding"),
        pytest.param(f"{OE}.de", f"{OE}.de", id="unicode"),
    ],
)
def test_idn_to_unicode(ascii: str, text: str) -> None:
    assert ae_dns.idn_to_unicode(ascii) == text


def test_what_is_no_text_is_refused() -> None:
    wrong: Any
    for wrong in (b"x.test", None):
        for convert in (ae_dns.idn_to_ascii, ae_dns.idn_to_unicode):
            with pytest.raises(TypeError, match="expected a name as str"):
                convert(wrong)


def test_punycode_is_pythons_own() -> None:
    """UTIL-17 needs nothing from us."""
    for text, code in ((f"{OE}ko", b"ko-eka"), (KANJI, b"wgv71a")):
        assert text.encode("punycode") == code
        assert code.decode("punycode") == text


def test_lookups_encode_names() -> None:
    with NameServer("xn--ko-eka.test. A 192.0.2.1") as server:
        resolver = ae_dns.Resolver(servers=[server.endpoint])
        assert resolver.a(f"{OE}ko.test").recv(10) == ["192.0.2.1"]
        with pytest.raises(ae_dns.ResolveError):
            resolver.a("a\u2260b.test").recv(10)
        assert len(server.queries) == 1
