"""What a peer says stays in its log line: control characters are shown as escapes."""

from __future__ import annotations

import io
import logging
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import ae_core as ae
from ae_core import debug, logs
from ae_core._base import log as _log
from ae_core._base.log import log

pytestmark = pytest.mark.usefixtures("fresh_logs")

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
HARMFUL = [
    char
    for char in map(chr, range(sys.maxunicode + 1))
    if (unicodedata.category(char) == "Cc" and char not in "\n\t") or char in f"\u2028\u2029{BIDI}"
]
HARMLESS = "\t\u00a0\u00ad\u00fc\u200b\u200d\u2060\u3000\ufeff\U0001f600\U000e0001 \\x1b"

Target: TypeAlias = Callable[..., str]
# made in the test's own thread: how a message gets to the target, and what is to be seen of it
TARGETS = ["stderr", "default", "file", "path", "syslog"]


@pytest.fixture(params=TARGETS)
def target(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    unstamped: Callable[[str], str],
) -> Target:
    """Log a message to one built-in target; return what is to be seen there."""
    sent: list[str] = []
    if request.param == "syslog":
        syslog = pytest.importorskip("syslog")
        monkeypatch.setattr(syslog, "syslog", lambda priority, text: sent.append(text))

    def show(*message: Any, name: str = "x", **options: Any) -> str:
        path = tmp_path / "log"
        if request.param == "stderr":
            logs.LOG.log_to_stderr()
        elif request.param in ("file", "path"):
            getattr(logs.LOG, f"log_to_{request.param}")(path)
        elif request.param == "syslog":
            logs.LOG.log_to_syslog()
        assert log("error", *message, context=name, **options)
        assert logs.flush()
        if request.param == "syslog":
            return "\n".join(sent) + "\n"
        shown = path.read_bytes().decode() if path.exists() else capsys.readouterr().err
        return unstamped(shown)

    return show


def harm(text: str) -> list[str]:
    return [char for char in text if char in HARMFUL]


def test_no_control_character_reaches_a_target(target: Target) -> None:
    assert len(HARMFUL) == 65 - 2 + 2 + 12
    shown = target("peer said %s", "".join(HARMFUL))
    assert harm(shown) == []
    assert shown.count("\n") == 1
    assert "\\r" in shown
    assert "\\x1b" in shown
    assert "\\u202e" in shown


def test_all_other_characters_stay_as_they_are(target: Target) -> None:
    assert HARMLESS in target(HARMLESS)


def test_forged_line_does_not_look_like_a_line(target: Target) -> None:
    forged = "2026-01-01 00:00:00.000000 +0000 error x: forged"
    shown = target("peer said %s", f"a\r{forged}\x85{forged}\u2028{forged}\n{forged}\x1b[2J")
    first, second = shown.splitlines()
    assert "a\\r2026" in first
    assert second.startswith("+ 2026")
    assert second.endswith("forged\\x1b[2J")


def test_lone_surrogates_are_escapes(target: Target) -> None:
    # as "surrogateescape" makes them of octets: written back, \udc9b would be a command
    assert "a\\udc9b\\ud800b" in target("a\udc9b\ud800b")


def test_text_of_an_exception_is_escaped(target: Target) -> None:
    try:
        try:
            raise ValueError("peer \x1b[2J\u202e")
        except ValueError as cause:
            raise LookupError("because\rof \x9b that") from cause
    except LookupError as error:
        error.add_note("a note\x07")
        shown = target("failed", error=error)
    assert harm(shown) == []
    for text in ("peer \\x1b[2J\\u202e", "because\\rof \\x9b that", "a note\\x07"):
        assert text in shown


def test_name_of_a_context_is_escaped(target: Target) -> None:
    shown = target("text", name="module\x1b\r\u202e")
    assert harm(shown) == []
    assert "module\\x1b\\r\\u202e" in shown


@pytest.mark.parametrize("message", [lambda: "lazy\x1b", 5 * "\x1b", b"\x1b", "%s"])
def test_every_form_of_a_message_is_escaped(message: Any, target: Target) -> None:
    shown = target(message, *(["\x1b"] if message == "%s" else []))
    assert harm(shown) == []
    assert "\\x1b" in shown


def test_message_that_cannot_be_formatted_is_escaped(target: Target) -> None:
    class Broken:
        def __repr__(self) -> str:
            return "\x1b[2J"

    shown = target("%d \x1b", Broken())
    assert harm(shown) == []
    assert "not formatted" in shown


def test_colours_of_a_format_function_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def coloured(when: float, context: logs.Context, level: int, message: str) -> str:
        return f"\x1b[31m{message}\x1b[0m\n"

    logs.LOG.log_to_stderr().format_callback(coloured)
    logs.COLLECT.attach(logs.Context(log_to_file=tmp_path / "log", format_callback=coloured))
    log("error", "peer\x1b[2J")
    assert capsys.readouterr().err == "\x1b[31mpeer\\x1b[2J\x1b[0m\n"
    assert (tmp_path / "log").read_text() == "\x1b[31mpeer\\x1b[2J\x1b[0m\n"


def test_callback_gets_the_message_as_it_is() -> None:
    seen: list[str] = []
    context = logs.Context(log_callback=seen.append)
    context.log("error", "peer\x1b[2J\u202e\udcff")
    assert seen[0].endswith("error anonymous: peer\x1b[2J\u202e\udcff\n")
    logs.Context(log_callback=seen.append, format_callback=lambda t, c, n, text: text).log(
        1 + 3, "\r"
    )
    assert seen[1] == "\r"


def test_handlers_of_stdlib_get_the_message_as_it_is() -> None:
    records: list[logging.LogRecord] = []

    class Records(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler = Records()
    logging.getLogger().addHandler(handler)
    try:
        log("error", "peer\x1b[2J\u202e", error=ValueError("\x1b"))
    finally:
        logging.getLogger().removeHandler(handler)
    assert records[0].getMessage() == "peer\x1b[2J\u202e"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_stream_that_lacks_a_character_gets_its_escape(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict", write_through=True)
    monkeypatch.setattr(sys, "stderr", stream)
    logs.LOG.log_to_stderr()
    assert log("error", "caf\xe9 \u20ac \udcff")
    shown = raw.getvalue().decode(encoding)
    assert shown.isascii() or encoding != "ascii"
    assert "\\udcff" in shown
    assert "\\u20ac" in shown or encoding == "utf-8"


def test_last_words_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert _log.last_words("x\x1b", 4, "peer\r\u202e")
    assert capsys.readouterr().err == "error x\\x1b: peer\\r\\u202e\n"


# The shell's view


@pytest.fixture
def wrapped() -> Iterator[None]:
    debug.wrap(1)
    yield
    debug.wrap(0)


@pytest.mark.usefixtures("wrapped")
def test_shell_shows_no_control_character(address: Any, greet: Any) -> None:
    def fails() -> None:
        raise ValueError("peer\x1b]0;x\x07\rforged\nerror: \u202e" + "".join(HARMFUL))

    class Peer:
        def __str__(self) -> str:
            return "".join(HARMFUL)

    async def main() -> str:
        timer = ae.timer(0, fails, interval=1000)
        await ae.sleep(0.001)
        with debug.shell(*address) as shell:
            client = await greet(shell.address)
            shell._listener.namespace.update(peer=Peer(), timer=timer)
            shown = ""
            for line in (
                "v", "wl fails", "i " + str(timer.id), "timer", "timer.errors", "peer",  # type: ignore[attr-defined]
                "raise ValueError(peer)", "print(peer)", "t", "h", "st", "io", "timers", "cv",
                "tasks", "bt", "ae.log('error', 'logged %s', peer)", "v 0",
            ):  # fmt: skip
                shown += await client.ask(line)
            client.close()
        timer.cancel()
        return shown

    shown = ae.run(main())
    assert harm(shown.replace("\r\n", "\n")) == []
    assert "logged \\x00\\x01" in shown
    # the text of an error is one row, whatever it contains
    assert re.search(r"^error: +.*ValueError: peer\\x1b.*\\nerror: \\u202e", shown, re.MULTILINE)
