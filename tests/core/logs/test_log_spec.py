"""The AE_LOG grammar: LOG-24 to LOG-29, B36; and the same table asked of Perl."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ae_core import logs
from ae_core.logs import _spec, _targets

pytestmark = pytest.mark.usefixtures("fresh_logs")


def apply(text: str) -> list[str]:
    """Configure the contexts as ``AE_LOG`` does."""
    roots = {"log": logs.LOG, "filter": logs.FILTER, "collect": logs.COLLECT}
    return _spec.apply(text, logs.ctx, roots)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" : \n", []),
        ("a=b", [("a", "b", 3)]),
        ("a=b,c", [("a", "b", 3), ("a", "c", 5)]),
        ("a=b,,c,", [("a", "b", 3), ("a", "c", 6)]),
        ("  a=b\t:\tc.d=e", [("a", "b", 5), ("c.d", "e", 13)]),
        ("a=", []),
        ("a", [("", "a", 1)]),
        ("a=b c", [("a", "b", 3), ("", "c", 5)]),
        ("=b", [("", "=b", 1)]),
        ("a=file=x=y", [("a", "file=x=y", 3)]),
        (r"a=file=C\:\\x\,y\ z", [("a", r"file=C:\x,y z", 3)]),
        (r"a\=b=c", [("a=b", "c", 6)]),
        ("a=\\", [("a", "\\", 3)]),
        ("%f=+,+log", [("%f", "+", 4), ("%f", "+log", 6)]),
    ],
)
def test_words(text: str, words: list[tuple[str, str, int]]) -> None:
    assert [(w.name, w.text, w.position) for w in _spec.parse(text)] == words


@given(st.text())
def test_any_text_can_be_parsed_and_positions_are_within(text: str) -> None:
    for word in _spec.parse(text):
        assert 1 <= word.position <= len(text)
        assert word.text


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1))
def test_escaped_words_come_back(texts: list[str]) -> None:
    escaped = ",".join("".join(f"\\{char}" for char in text) for text in texts)
    assert [w.text for w in _spec.parse(f"a={escaped}")] == texts


@given(st.text(alphabet="abl=,:%+\\.0 filterconyexpdug"))
def test_any_value_is_applied_or_complained_about(text: str) -> None:
    for word in _spec.parse(text):
        assume(not word.text.startswith(("file=", "path=")))
    for complaint in apply(text):
        assert complaint.startswith(f"AE_LOG ({text}): not understood: ")
    logs.reset()


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("bogus", [("bogus", 1)]),
        ("=debug", [("=debug", 1)]),
        ("main=loud", [("loud", 6)]),
        ("main=loud,debug,10", [("loud", 6), ("10", 17)]),
        ("main=cap=", [("cap=", 6)]),
        ("main=cap=x:log=file=", [("cap=x", 6), ("file=", 16)]),
        ("main=path=", [("path=", 6)]),
        ("main=syslog=nosuch", [("syslog=nosuch", 6)]),
        ("main=stderr=1", [("stderr=1", 6)]),
        ("%=debug", [("debug", 3)]),
        (".=debug", [("debug", 3)]),
        ("main=+%", [("+%", 6)]),
        ("main=__import__('os')", [("__import__('os')", 6)]),
    ],
)
def test_word_not_understood_is_named_and_skipped(text: str, bad: list[tuple[str, int]]) -> None:
    assert apply(text) == [
        f"AE_LOG ({text}): not understood: {word!r} at position {position}"
        for word, position in bad
    ]


def test_the_rest_of_a_bad_value_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(apply("nonsense filter=oops,debug")) == 2
    assert logs.ctx("x").log("debug", "x")
    assert "debug x: x" in capsys.readouterr().err


@pytest.mark.parametrize(("spec", "complaints"), [("bogus", 1), ("filter=off:bogus", 0)])
def test_complaint_is_shown_unless_everything_is_off(
    spec: str, complaints: int, python: Any
) -> None:
    done = python("import ae_core as ae; print(ae.log('error', 'x'))", AE_LOG=spec)
    assert done.stdout == f"{bool(complaints)}\n"
    assert done.stderr.count("not understood: 'bogus'") == complaints


def test_names(tmp_path: Path) -> None:
    apply("log=off:filter=off:collect=off:main=off:log.=3:a.b=3:%x=off")
    for context in (logs.LOG, logs.FILTER, logs.COLLECT, logs.ctx("__main__")):
        assert context._mask == 0
    for name in ("log", "a.b"):
        assert logs.ctx(name)._mask == 0b1110
    assert logs.ctx("a")._mask == logs._ALL


def test_anonymous_contexts_carry_their_name_and_are_shared(tmp_path: Path) -> None:
    assert apply("one=+%x:two=+%x:%x=warn") == []
    (one,) = (c for c in logs.ctx("one")._slaves if c.title == "%x")
    assert one in logs.ctx("two")._slaves
    assert logs.ctx("%x") is not one


def test_syslog_words() -> None:
    pytest.importorskip("syslog")
    assert apply("log=syslog:a=syslog=:b=syslog=local3") == []
    for context in (logs.LOG, logs.ctx("a"), logs.ctx("b")):
        assert isinstance(context._target, _targets.Syslog)


CODE = """
from ae_core._base.log import log
for level in ("crit", "error", "warn", "note", "debug", "trace"):
    log(level, "m")
"""
PERL = """
use AnyEvent; use AnyEvent::Log;
AE::log $_, "m" for qw(crit error warn note debug trace);
"""
C, E, W, N, D, T = ["crit", "error", "warn", "note", "debug", "trace"]
# Value of AE_LOG and what comes out, first on stderr, then in the file P.
TABLE = [
    ("main=debug", [C, E], None),
    ("main=debug,+log", [C, E, W, N, D], None),
    ("main=off", [], None),
    ("main=0", [], None),
    ("main=+", [], None),
    ("filter=warn,cap=note", [N, N, N], None),
    ("filter=only,debug", [D], None),
    ("filter=only,debug,1,crit", [C, D], None),
    ("filter=except,error", [C, W, N, D, T], None),
    ("filter=except,2,3", [E, W, N, D, T], None),
    ("filter=only,debug,level,error", [C, E], None),
    ("filter=debug,only,error", [E], None),
    ("filter=all", [C, E, W, N, D, T], None),
    ("filter=level", [C, E, W, N, D, T], None),
    ("filter=off", [], None),
    ("filter=9", [C, E, W, N, D, T], None),
    ("filter=only,warn filter=note", [C, E, W, N], None),
    ("log=nolog", [], None),
    ("collect=stderr", [C, C, E, E, W, N, D, T], None),
    ("filter=note:main=except,error", [C, W, N], None),
    ("main=cap=error:filter=crit", [E], None),
    ("log=+%f:%f=file=P", [C, E], [C, E]),
    ("log=+%f:%f=path=P", [C, E], [C, E]),
    ("log=nolog,file=P", [], [C, E]),
    ("collect=+%f:%f=only,trace,file=P", [C, E], [T]),
    ("%f=stderr:main=+%f", [C, C, E, E, W, N, D, T], None),
]


@pytest.fixture
def levels(unstamped: Callable[[str], str]) -> Callable[[str], list[str]]:
    """Return the levels of log lines."""
    return lambda text: [line.split()[0] for line in unstamped(text).splitlines()]


def escaped(path: Path) -> str:
    """Return *path* as a word of ``AE_LOG``."""
    return "".join(f"\\{char}" for char in str(path))


@pytest.mark.parametrize(("spec", "stderr", "file"), TABLE, ids=[row[0] for row in TABLE])
def test_value_routes_messages(
    spec: str, stderr: list[str], file: list[str] | None, tmp_path: Path, levels: Any
) -> None:
    path = tmp_path / "log"
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("AE_")}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**inherited, "AE_LOG": spec.replace("P", escaped(path))},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert sorted(levels(done.stderr)) == sorted(stderr)
    if file is not None:
        assert levels(path.read_text()) == file


@pytest.mark.parametrize(("spec", "stderr", "file"), TABLE, ids=[row[0] for row in TABLE])
def test_value_routes_messages_in_this_process(
    spec: str,
    stderr: list[str],
    file: list[str] | None,
    tmp_path: Path,
    levels: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "log"
    assert apply(spec.replace("P", escaped(path))) == []
    for level in (C, E, W, N, D, T):
        logs.ctx("__main__").log(level, "m")
    assert logs.flush()
    assert sorted(levels(capsys.readouterr().err)) == sorted(stderr)
    if file is not None:
        assert levels(path.read_text()) == file


def test_malformed_value_warns_once_and_the_program_goes_on(unstamped: Any) -> None:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("AE_")}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**inherited, "AE_LOG": "filter=loud"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert unstamped(done.stderr).splitlines() == [
        "warn  ae_core: AE_LOG (filter=loud): not understood: 'loud' at position 8",
        "crit  __main__: m",
        "error __main__: m",
    ]


def has_perl() -> bool:
    perl = shutil.which("perl")
    return perl is not None and not subprocess.call(
        [perl, "-MAnyEvent::Log", "-e1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


@pytest.mark.skipif(not has_perl(), reason="needs perl with AnyEvent (libanyevent-perl)")
@pytest.mark.parametrize(
    ("spec", "stderr"),
    [(spec, stderr) for spec, stderr, file in TABLE if file is None],
)
def test_perl_agrees(spec: str, stderr: list[str], levels: Any) -> None:
    done = subprocess.run(
        ["perl", "-e", PERL],
        env={"PATH": os.environ["PATH"], "PERL_ANYEVENT_LOG": spec},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert sorted(levels(done.stderr)) == sorted(stderr)
