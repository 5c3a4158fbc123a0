"""What is public in the packages, and what is said of it: for the site and for the tests.

python tools/public_names.py        # lists what has no docstring
"""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Final

PACKAGES: Final = ("ae_core", "ae_socket", "ae_dns", "ae_handle", "ae_tls", "ae_guests")


@dataclass(frozen=True)
class Name:
    """A public name or member, and its documentation."""

    path: str
    value: object
    is_data: bool
    doc: str


def public_modules() -> list[str]:
    """Return the dotted names of all public modules, each package followed by its own."""
    found = []
    for package in PACKAGES:
        found.append(package)
        for info in pkgutil.walk_packages(import_module(package).__path__, f"{package}."):
            if not any(part.startswith("_") for part in info.name.split(".")):
                found.append(info.name)
    return [*found, "ae_core_pytest", "ae_socket_pytest", "ae_handle_pytest"]


@cache
def _assigned(folder: Path) -> dict[str, str]:
    """Return the comment or text beside each assignment at the top of the files below *folder*."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*.py")) if folder.is_dir() else [folder]:
        for name, doc in _assignments(path.read_text("utf-8")):
            found[name] = found.get(name) or doc
    return found


def _assignments(source: str) -> Iterator[tuple[str, str]]:
    lines = source.splitlines()
    body = ast.parse(source).body
    for node in list(body):
        if isinstance(node, ast.If):  # TYPE_CHECKING, platforms
            body += [*node.body, *node.orelse]
    for index, node in enumerate(body):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name):
                after = body[index + 1] if index + 1 < len(body) else None
                yield target.id, _beside(lines, node, after)


def _beside(lines: list[str], node: ast.stmt, after: ast.stmt | None) -> str:
    if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
        return inspect.cleandoc(str(after.value.value))
    found: list[str] = []
    number = node.lineno - 2
    while number >= 0 and lines[number].lstrip().startswith("#:"):
        found.insert(0, lines[number].lstrip()[2:].strip())
        number -= 1
    same = re.search(r"#:\s*(.+)$", lines[(node.end_lineno or node.lineno) - 1])
    return "\n".join(found) or (same[1] if same else "")


def exports(module: str) -> list[Name]:
    """Return the names in the ``__all__`` of a module."""
    loaded = import_module(module)
    found = []
    for name in loaded.__all__:
        value = getattr(loaded, name)
        is_data = not isinstance(value, type | FunctionType) and not inspect.isroutine(value)
        is_data = is_data and type(value).__name__ != "FixtureFunctionDefinition"
        doc = _assigned(_folder(module)).get(name, "") if is_data else value.__doc__ or ""
        found.append(Name(f"{module}.{name}", value, is_data, doc))
    return found


def members(name: Name) -> Iterator[Name]:
    """Yield the public members that a class defines itself."""
    if not isinstance(name.value, type):
        return
    attributes = _documented_attributes(name.value)
    for member, value in vars(name.value).items():
        if member.startswith("_"):
            continue
        kind = type(value).__name__
        if kind in ("member_descriptor", "getset_descriptor", "_tuplegetter") or not (
            callable(value) or isinstance(value, property | classmethod | staticmethod)
        ):
            doc = attributes.get(member, "")
        else:
            doc = inspect.getdoc(getattr(name.value, member)) or attributes.get(member, "")
        yield Name(f"{name.path}.{member}", value, False, doc)


def _documented_attributes(cls: type) -> dict[str, str]:
    """Return what is said of attributes: under ``Attributes:`` or ``Args:``, or beside them."""
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        text = inspect.getdoc(each) or ""
        found |= dict.fromkeys(re.findall(r"^    (\w+)(?: \([^)]*\))?: \S", text, re.M), text)
        for line in re.findall(r"^    (\w+(?:, \w+)+): \S", text, re.M):
            found |= dict.fromkeys(line.split(", "), text)
        if not each.__module__.startswith("ae_"):
            continue
        for node, lines in _classes(_folder(each.__module__)).get(each.__name__, ()):
            for item in ast.walk(node):
                if isinstance(item, ast.ClassDef | ast.FunctionDef):
                    found |= _texts_after(item.body, lines)
    return found


@cache
def _classes(folder: Path) -> dict[str, list[tuple[ast.ClassDef, list[str]]]]:
    """Return where each class below *folder* is defined: its node, and the lines of its file."""
    found: dict[str, list[tuple[ast.ClassDef, list[str]]]] = {}
    for path in sorted(folder.rglob("*.py")) if folder.is_dir() else [folder]:
        source = path.read_text("utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append((node, source.splitlines()))
    return found


def _folder(module: str) -> Path:
    """Return the folder of the package that *module* belongs to, or its one file."""
    file = Path(str(import_module(module.partition(".")[0]).__file__))
    return file.parent if file.name == "__init__.py" else file


def _texts_after(body: list[ast.stmt], lines: list[str]) -> dict[str, str]:
    found = {}
    for index, node in enumerate(body):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
            after = body[index + 1] if index + 1 < len(body) else None
            if name and (doc := _beside(lines, node, after)):
                found[name] = doc
    return found


def undocumented() -> list[str]:
    """Return the paths of all public names and members of which nothing is said."""
    found = []
    for module in public_modules():
        if not import_module(module).__doc__:
            found.append(module)
        for name in exports(module):
            if name.path.endswith(".__version__"):
                continue
            if not name.doc.strip():
                found.append(name.path)
            found += [member.path for member in members(name) if not member.doc.strip()]
    return found


if __name__ == "__main__":
    missing = undocumented()
    print(*missing, sep="\n")
    sys.exit(1 if missing else 0)
