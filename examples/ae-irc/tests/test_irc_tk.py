"""The chat client of examples/irc_tk.py: in a terminal on asyncio, and in a window."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
import ae_irc as irc
from ae_irc import Client

Make = Callable[..., Client]
PROGRAM = Path(__file__).resolve().parents[2] / "irc_tk.py"


def test_in_a_terminal_it_says_what_is_typed(ngircd: Any) -> None:
    typed = "/me waves\nhello\n/names\n/join #\n/nick bertl\n/bogus\n/quit bye\n"
    command = [sys.executable, "-W", "error", str(PROGRAM), "--terminal", "--nick", "bert"]
    with subprocess.Popen(
        [*command, f"{ngircd.url}/terminal"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "AE_STRICT_SLOW": "60"},
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        said = []
        for line in program.stdout:
            said.append(line.rstrip())
            if line.startswith("-- in #terminal"):
                program.stdin.write(typed)
                program.stdin.flush()
        program.stdin.close()
    assert program.returncode == 0, said
    for expected in (
        "-- connected as bert",
        "-- in #terminal with 1 members",
        "#terminal * bert waves",
        "#terminal <bert> hello",
        "-- bert",
        "-- what is '/bogus'?",
        "-- the end: the client has quit",
    ):
        assert expected in said


#: Types into the window like somebody who sees that he is in the channel.
SOMEBODY = """
import sys, tkinter
sys.path.insert(0, sys.argv[2])
import irc_tk

mainloop = tkinter.Tk.mainloop

def look(window, lines, entry, typed):
    if not typed and "-- in #window" in lines.get("1.0", "end"):
        for text in ("hello", "/quit bye"):
            entry.insert("end", text)
            entry.event_generate("<Return>")
        typed = True
    window.after(10, look, window, lines, entry, typed)

def with_somebody(window):
    lines, entry = window.winfo_children()
    window.update()
    entry.focus_force()
    look(window, lines, entry, False)
    mainloop(window)

tkinter.Tk.mainloop = with_somebody
irc_tk.in_a_window(sys.argv[1], "dora")
print("over")
"""


def test_in_a_window_it_is_the_same(
    ngircd: Any, make: Make, request: pytest.FixtureRequest
) -> None:
    pytest.importorskip("tkinter")
    screen = [] if os.environ.get("DISPLAY") else request.getfixturevalue("screen")
    anna = make("anna")
    anna.join("#window").recv()
    said: list[str] = []
    anna.on(irc.Text, lambda _, event: said.append(f"{event.nick}: {event.text}"))
    gone: ae.CondVar[str] = ae.CondVar()
    anna.on(irc.Quit, lambda _, event: gone.send(event.nick))
    command = [*screen, sys.executable, "-W", "error", "-c", SOMEBODY]
    with subprocess.Popen(
        [*command, f"{ngircd.url}/window", str(PROGRAM.parent)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "AE_STRICT_SLOW": "60"},
    ) as program:
        assert gone.recv() == "dora"
        output = program.communicate()[0]
    assert (program.returncode, output) == (0, "over\n")
    assert said == ["dora: hello"]


def test_the_chat_knows_no_loop(make: Make, ngircd: Any) -> None:
    spec = importlib.util.spec_from_file_location("irc_tk", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shown: list[str] = []
    ended: ae.CondVar[None] = ae.CondVar()
    chat = module.Chat(f"{ngircd.url}/x", "anna", shown.append, ended.send)
    chat.client.join("#x").recv()
    chat.typed("/quit")
    ended.recv()
    assert "-- in #x with 1 members" in shown
