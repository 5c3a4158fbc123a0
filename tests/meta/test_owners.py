"""Each attribute is written in the file of the class that owns it, read off the syntax trees.

Of ``ae_handle``, whose state is in parts. Options of a handle are written by their descriptors
besides (``Option.__set__``), which no syntax tree shows.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOP = ROOT / "packages" / "ae-handle" / "src" / "ae_handle"

# Where the parts of a handle stand.
PARTS = (
    *("_options.py", "_work.py", "_transport.py", "_connection.py", "_tls_connection.py"),
    *("_connecting.py", "_handle.py", "_protocol/", "_buffers/", "_tls/"),
)

# Classes that are one owner: the second derives from the first and stands in a file of its own.
TOGETHER = {"ReadSide": "LineBatches"}

# One function makes the state of all classes of a handle: a call for each would cost 5 %.
CONSTRUCTORS = {("_handle.py", "Handle", "_begin")}

# Attributes of ReadBuffer that readers may set; and options, which files above the handle set.
PUBLIC = {"state", "searched"}
OPTIONS = {
    *("on_read", "on_eof", "on_drain", "watch_eof", "autocork", "low_water_mark", "read_size"),
    *("on_connect_error", "on_tls_started", "on_tls_stopped", "linger", "peer_name"),
}

# Written by others than the owner because a call would cost too much, with the measured gain.
_EVENT = "a request and its answer: 870 of 42,700 instructions, all six"
_PUSH = "a request and its answer: 490 of 42,700 instructions, both"
_BODY = "a line and the body behind it: 344 of 12,350 instructions"
_LINE = "one of four lines read together: 370 of 21,200 instructions, both"
_LINES = "one of a hundred lines read together: 400 of 5,200 instructions, both"
_BATCH = "a hundred queued lines, each read and answered: 4,400 of 527,000 instructions, all five"
FAST_PATHS = {
    ("_events.py", "last_at"): _EVENT,
    ("_events.py", "dispatching"): _EVENT,
    ("_events.py", "deferred"): _EVENT,
    ("_events.py", "may_batch"): _EVENT,
    ("_events.py", "reader"): _EVENT,
    ("_events.py", "callback"): _EVENT,
    ("_work.py", "deferred"): "800 instructions of 60,000 for a request and its answer in TLS",
    ("_events.py", "_counted"): "a request and its answer: 1,518 of 52,700 instructions",
    ("_handle.py", "reader"): _PUSH,
    ("_handle.py", "callback"): _PUSH,
    ("_protocol/line_batch.py", "reader"): _LINES,
    ("_protocol/line_batch.py", "callback"): _LINES,
    ("_protocol/line_batch.py", "_data"): _BATCH,
    ("_protocol/line_batch.py", "_pos"): _BATCH,
    ("_protocol/read_side.py", "reader"): _LINE,
    ("_protocol/read_side.py", "callback"): _LINE,
    ("_protocol/read_side.py", "_data"): _BODY,
    ("_protocol/read_side.py", "_pos"): _BODY,
    ("_protocol/read_side.py", "_sought"): _BATCH,
    ("_protocol/read_side.py", "_start"): _BATCH,
    ("_protocol/read_side.py", "searched"): _BATCH,
    ("_protocol/write_side.py", "block"): "an answer of ten lines: 690 of 128,800 instructions",
}


def slots(node: ast.ClassDef) -> list[str]:
    """What the class declares in ``__slots__``."""
    for statement in node.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__slots__":
            return list(ast.literal_eval(statement.value))
    return []


def owns(tree: ast.AST, name: str, attribute: str) -> bool:
    """Whether *attribute* is the class's own: declared by it, or it declares nothing at all."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            names = slots(node)
            return attribute in names or not names
    return False


@cache
def declared() -> dict[str, set[str]]:
    """The names of all slots, and the classes that declare them."""
    found: dict[str, set[str]] = {}
    for path in TOP.rglob("*.py"):
        if not str(path.relative_to(TOP)).startswith(PARTS):
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ClassDef):
                for name in slots(node):
                    found.setdefault(name, set()).add(TOGETHER.get(node.name, node.name))
    return found


def writes(
    tree: ast.AST, where: str = "", function: str = ""
) -> Iterator[tuple[str, str, str, str, int]]:
    """Each assignment to an attribute: class, function, object, name and line."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del)):
            yield where, function, ast.unparse(node.value), node.attr, node.lineno
        if isinstance(node, ast.ClassDef):
            yield from writes(node, node.name, "")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from writes(node, where, function or node.name)
        else:
            yield from writes(node, where, function)


def wrong(name: str, tree: ast.AST, owners: dict[str, set[str]]) -> list[str]:
    """The assignments in the file *name* to what another class owns."""
    found = []
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    local = {attribute for node in classes for attribute in slots(node)}
    for where, function, target, attribute, line in writes(tree):
        if attribute not in owners or attribute in PUBLIC:
            continue
        if (name, attribute) in FAST_PATHS:
            continue
        if attribute in OPTIONS and not name.startswith((*PARTS, "_events.py")):
            continue
        own = TOGETHER.get(where, where) in owners[attribute]
        if target == "self" and (own or owns(tree, where, attribute)):
            continue
        if target != "self" and attribute in local:
            continue
        if (name, where, function) in CONSTRUCTORS:
            continue
        found.append(f"{line}: {target}.{attribute} in {where or name}.{function}")
    return found


@pytest.mark.parametrize("path", sorted(TOP.rglob("*.py")), ids=lambda p: str(p.relative_to(TOP)))
def test_each_attribute_is_written_in_the_file_of_its_class(path: Path) -> None:
    tree = ast.parse(path.read_bytes())
    assert wrong(str(path.relative_to(TOP)), tree, declared()) == []


def test_the_list_of_fast_paths_names_nothing_that_is_gone() -> None:
    used = {
        (str(path.relative_to(TOP)), attribute)
        for path in TOP.rglob("*.py")
        for _, _, target, attribute, _ in writes(ast.parse(path.read_bytes()))
        if target != "self"
    }
    assert {entry for entry in FAST_PATHS if entry not in used} == set()


@pytest.mark.parametrize(
    "text",
    ["h._read.eof = 1", "del h.eof", "a, h.eof = 1, 2", "for h.eof in x: pass", "h.eof += 1"],
)
def test_every_form_of_assignment_is_seen(text: str) -> None:
    assert len(wrong("x.py", ast.parse(text), {"eof": {"ReadSide"}})) == 1
