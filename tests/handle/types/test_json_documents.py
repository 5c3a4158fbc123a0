"""What is a JSON document and what is none (RFC 8259), an octet at a time and whole.

The tables have a line for each rule of the grammar and for each mistake that readers are known
to make. Where the RFC leaves it open what a reader does, they say what ours does.
"""

from __future__ import annotations

import itertools
import json
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_handle import NEED_MORE, BadMessage, Json, ReadBuffer

NUMBERS = [
    "0", "-0", "1", "-1", "10", "123", "-123", "0.0", "-0.0", "0.1", "1.5", "-1.5", "3.0625", "0e0",
    "0e1", "0e+1", "0E-1", "1e1", "1E1", "1e+1", "1e-1", "1E+2", "1e05", "1.5e3", "1.5E-3", "-2e2",
    "-2.5e+2", "123456789012345678901234567890", "1e308", "-1e308", "5e-324", "1e-400",
    "0.00000000000000000000000000000000000000000000000000000000000000000001", "123.456e-0012",
    "20e1", "4", "42", "9007199254740993",
]  # fmt: skip
STRINGS = [
    '""', '"a"', '" "', '"abc def"', '"\\""', '"\\\\"', '"\\/"', '"/"', '"\\b\\f\\n\\r\\t"',
    '"\\u0000"', '"\\u0041"', '"\\u00e9"', '"\\uD834\\uDD1E"', '"\\ud83d\\ude00\\ud83d\\udc4f"',
    '"\\uffff"', '"\\uFDD0"', '"\\u2028"', '"\\\\u0041"', '"\\\\n"', '"\\u0022"', '"\\u005C"',
    '"\\ud83f\\udffe"', '"\x7f"', '"\u00e9"', '"\u20ac"', '"\U0001f600"', '"\u2028\u2029"',
    '"\ufeff"', '"\ufdd0"', '"\uffff"', '"\U0010ffff"', '"\u200b"', '"[]{},:"', '"/* no */"',
    '"//"', '"a\\nb\\tc"', '"]"', '"}"', '"\\\\\\""', '"null"', '"1"',
]  # fmt: skip
STRUCTURES = [
    "[]", "{}", "[ ]", "{ }", "[\n]", "[[]]", "[[],[]]", "[{}]", '{"a":{}}', '{"a":[]}',
    "[1,2,3]", "[ 1 , 2 ]", "[\t1\r\n]", '{"a":1}', '{ "a" : 1 }', '{"a":1,"b":2}', '{"":0}',
    '{"a":1,"a":2}', '{"a":1,"a":1}', '{"a\\u0000b":1}', '{"\\"":1}', '{"\u00e9":"\u00e8"}',
    '[null,1,"x",{"a":[true]}]', '["]"]', '["\\\\"]', '["\\""]', '{"}":"{"}', '{":":","}',
    "[[[[[[[[[[]]]]]]]]]]", '{"a":{"a":{"a":{"a":null}}}}', '[""]', "[null,null,null,null]",
    "[-0]", "[1e9]", '{"min":-1.0e+28,"max":1.0e+28}', "[" * 400 + "]" * 400,
    '{"x":[{"id":"' + "x" * 300 + '"}],"id":"' + "y" * 300 + '"}',
]  # fmt: skip
WORDS = ["null", "true", "false"]
BLANKS = [" {}", "{} ", "\n{}\n", "\t{}\r\n", " \t\r\n{}", "[1] ", " 1", "1 ", ' "x" ', "\nnull\n"]
ACCEPTED = [
    each.encode()
    for each in [
        *NUMBERS, *[f"[{number}]" for number in NUMBERS], *STRINGS,
        *[f"[{string}]" for string in STRINGS], *[f"{{{string}:0}}" for string in STRINGS],
        *STRUCTURES, *WORDS, *[f"[{word}]" for word in WORDS], *BLANKS,
    ]
]  # fmt: skip

NO_NUMBERS = [
    "-", "+1", "++1", "--1", "-+1", "+-1", "- 1", "01", "-01", "00", "-00", "1.", "-1.", "1.e1",
    "1.e+3", "1.e-3", "0.e1", ".5", "-.5", ".e1", ".-1", "1.2.3", "1e", "1E", "1e+", "1e-", "1.5e",
    "1.5e+", "0E+", "1ee2", "1eE2", "1e+-2", "1e1.5", "1e 2", "1 e2", "0x1", "0x42", "0b1", "0o7",
    "1_000", "1,000.0", "1a", "1.5a", "1e1a", "-1x", "1+2", "1-", "1+", "1n", "1L", "1d", "\uff11",
    "\u0661", "NaN", "-NaN", "nan", "Inf", "-Inf", "Infinity", "-Infinity", "+Inf", "infinity",
]  # fmt: skip
NO_STRINGS = [
    '"', "'a'", '"a', "a", "\u00e9", '"a\'', '"\\', '"\\"', '"\\\\\\"', '"\\x41"', '"\\a"', '"\\0"',
    '"\\00"', '"\\ "', "\"\\'\"", '"\\U0041"', '"\\u"', '"\\u1"', '"\\u12"', '"\\u123"',
    '"\\u12g4"',
    '"\\u 123"', '"\\u+123"', '"\\u-123"', '"\\u0x1"', '"\\u00_1"', '"\\\U0001f600"', '"\\\t"',
    '"\x00"', '"\x01"', '"\t"', '"\n"', '"\r"', '"\x0b"', '"\x1f"', '"a\x00b"', '"a\nb"',
    '"\\ud834\\"', '"\\ud834\\u"', '"\\ud834\\ud"', '"\\ud834\\x"', "\u201ca\u201d", "`a`",
    '\\u0020"a"', "\\n", '"a"b', 'b"a"', 'u"a"', 'r"a"', '"a""', '"""a"""', '"\\{a}"', '"\\\n"',
]  # fmt: skip
NO_STRUCTURES = [
    "[", "]", "{", "}", "[1", "[1,", "[,", "{,", "[,]", "{,}", "[1,]", "[,1]", "[1,,2]", "[1,2,,]",
    "[1 2]", "[1:2]", "[1;2]", '["a" "b"]', "[[] []]", "[1]]", "[]]", "[][]", "{}}", "{}{}",
    "[1}", "{]", "[}", '{"a"]', "[{]}", "[[]", "[{}", '[{"a":1]', '{"a":[}', "[1],", ",[1]", ",",
    ":", '{"a"}', '{"a":}', '{"a":1', '{"a":1,', '{"a":1,}', '{"a":1,,}', '{"a":1,,"b":2}',
    '{"a" 1}', '{"a",1}', '{"a"::1}', '{"a"=1}', '{"a":1:2}', '{"a":1 "b":2}', '{"a":1;"b":2}',
    "{a:1}", "{'a':1}", "{1:1}", "{null:1}", "{true:1}", "{[]:1}", "{{}:1}", "{:1}", '{"a"',
    '{"a":',
    '{"a', '{"a":"a', '{"a":a}', "{1}", "{null,null}", "{\U0001f600}", '["', '["a', '["a]', "[a]",
    "['", "['a']", "[*]", "*", "[#]", "#", "[]#", "{}#{}", "[<null>]", "<null>", "<.>", "()", "(1)",
    "[1]x", "{}x", "[]1", "{}1", "[] []", "1 2", "1,2", '""""', "/**/[]", "[]/**/", "[/**/]",
    '{"a":/**/1}', '{"a":1}//', '{"a":1}/', '{"a":1}/*', "//[]", "[\u2060]", "\u2060", "\u00a0[]",
    "[\u00a0]", "[\u3000]", "\x0b[]", "[\x0b]", "\x0c[]", "[\x0c]", "\x00", "[]\x00", "[\x00]",
    "\x00[]", "\x1e[]", "[" * 100_000, '{"":' * 100_000, "[[" * 100 + "]" * 100,
]  # fmt: skip
NO_WORDS = [
    *[word[:n] for word in WORDS for n in range(1, len(word))],
    *[f"[{word[:-1]}" for word in WORDS], *[f"[{word[:-1]}]" for word in WORDS],
    *[word + word[-1] for word in WORDS], *[word.title() for word in WORDS],
    *[word.upper() for word in WORDS], "None", "nil", "undefined", "yes", "null1", "nullnull",
    "true false", "[True]", "[nulltrue]", '{"a":truth}',
]  # fmt: skip
NO_TEXT = [
    b"\xff", b"\x80", b"\xc3", b"[\xff]", b"[\xe9]", b"[\x80]", b"1\xe5", b"[1\xe5]", b"[1e1\xe5]",
    b'["\\\xe5"]', b'["\\u\xe5"]', b"{\xb9}", b'{"a":1,\xb9}', b"\xef\xbb\xbf", b"\xef\xbb",
    b"\xef",
    b"\xef\xbb\xbf[", b"[\xef\xbb\xbf]", b"", b" ", b"\n", b"\t\r\n ",
]  # fmt: skip
REFUSED = [
    each if isinstance(each, bytes) else each.encode()
    for each in [
        *NO_NUMBERS, *[f"[{number}]" for number in NO_NUMBERS if "," not in number],
        *[f'{{"a":{number}}}' for number in NO_NUMBERS if "," not in number],
        *NO_STRINGS, *[f"[{string}]" for string in NO_STRINGS],
        *[f"{{{string}:0}}" for string in NO_STRINGS], *NO_STRUCTURES, *NO_WORDS, *NO_TEXT,
    ]
]  # fmt: skip

#: What a reader may accept or not, with what ours makes of it; ``BadMessage``: it is refused.
OPEN: dict[str, list[tuple[bytes, Any]]] = {
    "a real number too large for a double is refused": [
        (number, BadMessage)
        for number in (b"1e400", b"-1e400", b"1.5e9999", b"-1e+9999", b"123123e100000", b"[1e999]")
    ],
    "a real number too small is nought": [(b"123e-10000000", 0.0), (b"-1e-999", -0.0)],
    "integers have any size up to what Python converts": [
        (b"100000000000000000000", 10**20), (b"-100000000000000000000", -(10**20)),
        (b"[" + b"9" * 4300 + b"]", [10**4300 - 1]), (b"[" + b"9" * 4301 + b"]", BadMessage),
    ],
    "the last of equal keys counts": [(b'{"a":1,"a":2}', {"a": 2})],
    "an escaped half of a surrogate pair is kept": [
        (b'"\\ud800"', "\ud800"), (b'"\\udc00"', "\udc00"), (b'"\\ud888\\u1234"', "\ud888\u1234"),
        (b'"\\ud800\\ud800\\n"', "\ud800\ud800\n"), (b'"\\udd1e\\ud834"', "\udd1e\ud834"),
        (b'"\\uDADA"', "\udada"), (b'"\\ud800abc"', "\ud800abc"), (b'"\\uDd1ea"', "\udd1ea"),
        (b'{"\\udfaa":0}', {"\udfaa": 0}), (b'"\\ud800\\ud834\\udd1e"', "\ud800\U0001d11e"),
        (b'"\\ud800\\n"', "\ud800\n"),
    ],
    "octets that are no UTF-8 are refused": [
        (b'"' + octets + b'"', BadMessage)
        for octets in (
            b"\xff", b"\x81", b"\xe9", b"\xe0\xff", b"\xc0\xaf", b"\xc0\x80", b"\xed\xa0\x80",
            b"\xe6\x97\xa5\xd1\x88\xfa", b"\xf4\xbf\xbf\xbf", b"\xf8\x88\x80\x80\x80",
            b"\xfc\x83\xbf\xbf\xbf\xbf", b"\xfc\x80\x80\x80\x80\x80", b"\xf0\x9f\x98",
        )
    ],
    "other encodings are refused": [
        ('["\u00e9"]'.encode(name), BadMessage)
        for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "latin-1")
    ],
    "a byte order mark is refused": [(b"\xef\xbb\xbf{}", BadMessage)],
    "512 levels are read": [
        (b"[" * 500 + b"]" * 500, ...), (b"[" * 512 + b"]" * 512, ...),
        (b"[" * 513 + b"]" * 513, BadMessage), (b'{"a":' * 513 + b"1" + b"}" * 513, BadMessage),
    ],
}  # fmt: skip

STEPS = (1, 7, 1 << 20)


def read(wire: bytes, step: int) -> Any:
    """Return the one value of *wire*, which arrives in pieces of *step*; else ``BadMessage``."""
    frame = Json()
    buf = ReadBuffer()
    values: list[Any] = []
    try:
        for i in range(0, len(wire), step):
            buf.feed(wire[i : i + step])
            while (value := frame(buf)) is not NEED_MORE:
                values.append(value)
        while (value := frame.at_eof(buf)) is not NEED_MORE:
            values.append(value)
    except BadMessage:
        return BadMessage
    return values[0] if len(values) == 1 and not buf else BadMessage


def name(wire: bytes) -> str:
    return repr(wire[:24])[2:-1]


def test_the_tables_are_as_large_as_the_known_suite_of_documents() -> None:
    assert len(set(ACCEPTED)) >= 95
    assert len(set(REFUSED)) >= 188
    assert sum(map(len, OPEN.values())) >= 35


@pytest.mark.parametrize("wire", dict.fromkeys(ACCEPTED), ids=name)
def test_a_json_document_is_read(wire: bytes) -> None:
    expected = json.loads(wire)
    for step in STEPS:
        assert repr(read(wire, step)) == repr(expected), step


@pytest.mark.parametrize("wire", dict.fromkeys(REFUSED), ids=name)
def test_what_is_no_json_document_is_refused(wire: bytes) -> None:
    for step in STEPS:
        assert read(wire, step) is BadMessage, step


@pytest.mark.parametrize("rule", OPEN)
def test_what_a_json_reader_may_choose(rule: str) -> None:
    for wire, expected in OPEN[rule]:
        for step in STEPS:
            found = read(wire, step)
            if expected is ...:
                assert found is not BadMessage, wire[:40]
            else:
                assert repr(found) == repr(expected), wire[:40]


def no_constant(text: str) -> NoReturn:
    raise ValueError(text)


def by_the_library(wire: bytes) -> Any:
    try:
        return json.loads(wire.decode(), parse_constant=no_constant)
    except ValueError:
        return BadMessage


@pytest.mark.parametrize("first", '[]{},:"1-.e \\n')
def test_every_short_text_is_read_as_by_the_library(first: str, scale: int) -> None:
    for length in range(3 if scale == 1 else 5):
        for rest in itertools.product('[]{},:"1-.e \\n', repeat=length):
            wire = (first + "".join(rest)).encode()
            expected = repr(by_the_library(wire))
            assert repr(read(wire, 1)) == expected, wire
            assert repr(read(wire, 1000)) == expected, wire


@given(st.binary(max_size=60))
def test_json_reads_garbage_as_the_library_does(wire: bytes) -> None:
    found = repr(read(wire, 1))
    assert found == repr(read(wire, 1000))
    if by_the_library(wire) is BadMessage:
        assert found == repr(BadMessage)
