"""Each attribute of ``ae_core`` is written in the file of the class that owns it.

Read off the syntax trees: assignments to attributes of other objects, deletions, and stores into
their containers (``core.timers.live[number]``). For ``ae_handle`` see ``test_owners``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOP = ROOT / "packages" / "ae-core" / "src" / "ae_core"

# What the contract of a class lets others set: the hooks of a backend, a worker's call, a public
# property of a wrapped watcher, what other files keep per loop.
SET_BY_OTHERS = {
    *(
        "on_ended",
        "on_escaped",
        "on_quit",
        "on_refused",
        "on_run_ended",
        "on_stuck",
        "reason",
        "holders",
    ),
    *("reason", "holders", "worker", "trace", "per_loop"),
}

# Methods that are replaced: a loop's own, to hear of its end, a backend's, whose calls go through
# the core, and, while strict mode is on, the core's, which costs nothing while it is off.
REPLACED = {
    ("_backends/_asyncio.py", "close"),
    ("_loop/state.py", "poll"),
    ("strict/_checks.py", "call"),
}

# In a forked child: the records of the parent end, and nothing of theirs may run.
FORKED = {("_loop/state.py", "active")}

# Written by others because a call would cost too much, with the instructions that it saves.
_TIMER = "a timer that is made and cancelled: 1,840 of 9,550 instructions"
_IO = "an I/O watcher that is made and cancelled: 680 of 14,550 instructions"
_STEP = "a coroutine that awaits: 830 of 41,220 instructions"
_FIRE = "a timer that is made and called, one of a hundred: 460 of 16,560 instructions"
FAST_PATHS = {
    ("_api.py", "last"): _TIMER,
    ("_api.py", "incoming"): _TIMER,
    ("_api.py", "live"): _TIMER,
    ("_api.py", "_number"): _TIMER,
    ("_api.py", "_core"): _TIMER,
    ("_loop/watchers.py", "live_timers"): _TIMER,
    ("_api.py", "_record"): _IO,
    ("_async/tasks.py", "task"): _STEP,
    ("_loop/state.py", "empty_context"): _FIRE,
}


def modules(tree: ast.AST) -> set[str]:
    """What names a module in the file: sys, or one of ours, whose attributes are hooks."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            found |= {alias.asname or alias.name for alias in node.names}
    return {"sys", *(name for name in found if name.islower())}


def own_names(node: ast.ClassDef) -> set[str]:
    """What the class declares: its slots, or else what it annotates and writes to ``self``."""
    for statement in node.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__slots__":
            value = statement.value
            names = {str(each.value) for each in ast.walk(value) if isinstance(each, ast.Constant)}
            if names and "__dict__" not in names:
                return names
    annotated = {
        each.target.id
        for each in node.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    }
    return annotated | {name for target, name, _ in writes(node) if target == "self"}


def writes(tree: ast.AST) -> Iterator[tuple[str, str, int]]:
    """Each write to an attribute, or into what it holds: the object, the name, the line."""
    for node in ast.walk(tree):
        if not isinstance(getattr(node, "ctx", None), (ast.Store, ast.Del)):
            continue
        written = node.value if isinstance(node, ast.Subscript) else node
        if isinstance(written, ast.Attribute):
            yield ast.unparse(written.value), written.attr, written.lineno


@cache
def owners() -> dict[str, set[str]]:
    """The files whose classes declare a name."""
    found: dict[str, set[str]] = {}
    for path in TOP.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ClassDef):
                for name in own_names(node):
                    found.setdefault(name, set()).add(str(path.relative_to(TOP)))
    return found


def wrong(file: str, tree: ast.AST, known: dict[str, set[str]]) -> Iterator[tuple[str, int]]:
    """The names in *file* that are written there, and are another file's, with the line."""
    hooks = modules(tree)
    for target, name, line in writes(tree):
        elsewhere = name in known and file not in known[name]
        if elsewhere and target not in {"self", "cls", *hooks} and name not in SET_BY_OTHERS:
            yield name, line


FILES = sorted(TOP.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TOP)))
def test_each_attribute_is_written_in_the_file_of_its_class(path: Path) -> None:
    file = str(path.relative_to(TOP))
    allowed = {*FAST_PATHS, *REPLACED, *FORKED}
    found = wrong(file, ast.parse(path.read_bytes()), owners())
    assert [f"{line}: {name}" for name, line in found if (file, name) not in allowed] == []


def test_the_lists_of_exceptions_name_nothing_that_is_gone() -> None:
    used = {
        (file, name)
        for path in FILES
        for file in [str(path.relative_to(TOP))]
        for name, _ in wrong(file, ast.parse(path.read_bytes()), owners())
    }
    assert {*FAST_PATHS, *REPLACED, *FORKED} - used == set()


@pytest.mark.parametrize(
    "text",
    [
        *("core.armed = 1", "del core.armed", "a, core.armed = 1, 2", "core.armed += 1"),
        *("for core.armed in x: pass", "core.armed[1] = 2", "del core.armed[1]"),
        *("def f(core):\n    core.armed = 1", "with x as core.armed: pass"),
    ],
)
def test_every_form_of_a_write_is_seen(text: str) -> None:
    known = {"armed": {"_loop/state.py"}}
    assert [name for name, _ in wrong("x.py", ast.parse(text), known)] == ["armed"]
    assert list(wrong("_loop/state.py", ast.parse(text), known)) == []
