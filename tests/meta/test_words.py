"""Docstrings, comments, messages and pages use one word for one thing: that of the field."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [*ROOT.glob("packages/*/src/**/*.py"), *ROOT.glob("examples/*/src/**/*.py")]
PAGES = [
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("packages/*/README.md"),
    *ROOT.glob("packages/*/newsfragments/*.md"),
    *ROOT.glob("examples/*/README.md"),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
]
#: What not to write, and what to write instead.
INSTEAD = {
    r"octets?(?!-stream)": "bytes",
    "at once": "immediately, in parallel, together",
    "in clear|clear[- ]?text": "plaintext",
    "time-outs?": "timeout",
    "nobody|somebody|anybody|everybody|whoever": "the caller, the peer, other code, nothing",
    "outlives?|hears? of": "what happens: goes on after, is told of",
}
UNWANTED = re.compile(rf"\b(?:{'|'.join(INSTEAD)})\b", re.IGNORECASE)
#: Names that are part of an interface, by file.
NAMES = {
    "docs/porting.md": "$octets",  # Perl's
    "packages/ae-dns/src/ae_dns/__main__.py": '"octets"',  # a key of `--json`
    "packages/ae-handle/src/ae_handle/types/_chunk.py": "$octets",  # Perl's
    "packages/ae-handle/src/ae_handle/_buffers/octets.py": '"octets"',  # a function
    "examples/ae-http/src/ae_http/_upload.py": "Octets",  # a type
    "examples/ae-redis/src/ae_redis/_encode.py": '"octets"',  # a function
}


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield the comments and strings of a program, without the expressions in them."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token.start[0], re.sub(r"\{[^{}]*\}", "", token.string)
        elif token.type == getattr(tokenize, "FSTRING_MIDDLE", None):
            yield token.start[0], token.string


def unwanted(path: Path, text: str) -> list[str]:
    """Return where *text*, of the file *path*, has one of the unwanted words."""
    if not UNWANTED.search(text):
        return []  # most often: then nothing need be taken apart
    parts = prose(text) if path.suffix == ".py" else enumerate(text.split("\n"), 1)
    name = path.relative_to(ROOT).as_posix()
    return [
        f"{name}:{number}: {found[0]}"
        for number, part in parts
        for found in UNWANTED.finditer(part.replace(NAMES.get(name, "\0"), ""))
    ]


def test_the_words_are_those_of_the_field() -> None:
    assert len(SOURCES) > 200
    assert [each for path in SOURCES + PAGES for each in unwanted(path, path.read_text())] == []


@pytest.mark.parametrize("name", NAMES)
def test_each_exception_is_still_needed(name: str) -> None:
    assert NAMES[name] in (ROOT / name).read_text()


def test_an_unwanted_word_is_found_in_texts_and_not_in_names() -> None:
    path = ROOT / "packages/any.py"
    assert unwanted(path, 'octets = f"{octets} bytes"\nat_once = True\n') == []
    assert unwanted(path, '"""Two\noctets."""\n') == ["packages/any.py:1: octets"]
    assert unwanted(path, "x = 1  # nobody waits\n") == ["packages/any.py:1: nobody"]
    assert unwanted(ROOT / "docs/any.md", "a\nAt once\n") == ["docs/any.md:2: At once"]
