"""Every public module says what it exports, and its exports say where they live."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections import Counter
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from .conftest import Source

TWO_LAYERS_ON_PURPOSE = {  # the seam below and its counterpart above carry one name
    "Resolver",  # ae_socket: what a resolver must offer; ae_dns: ours
    "resolve",  # ae_socket: to addresses; ae_dns: to records
    "set_resolver",  # ae_socket: who resolves; ae_dns: which resolver the functions ask
}


def exports(name: str) -> tuple[ModuleType, tuple[str, ...]]:
    module = importlib.import_module(name)
    names = getattr(module, "__all__", None)
    assert isinstance(names, tuple), f"{name}.__all__ must be a tuple, got {names!r}"
    return module, names


def public_names(module: ModuleType) -> set[str]:
    """What a reader of the file takes for public: definitions, and imports of the form X as X."""
    found: set[str] = set()
    for node in ast.parse(inspect.getsource(module)).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
            case ast.ImportFrom(names=names):
                found.update(alias.name for alias in names if alias.asname == alias.name)
    ours = {name for name in found if not name.startswith("_")} - {"TYPE_CHECKING"}
    return {name for name in ours if not isinstance(getattr(module, name, None), TypeVar)}


def test_all_is_a_tuple_without_duplicates_and_every_name_exists(public_module: str) -> None:
    module, names = exports(public_module)
    assert [name for name, n in Counter(names).items() if n > 1] == []
    assert [name for name in names if not hasattr(module, name)] == []


def test_nothing_public_is_left_out_of_all(public_module: str) -> None:
    module, names = exports(public_module)
    assert public_names(module) - set(names) == set()


def test_an_export_names_a_public_module_as_its_home(public_module: str) -> None:
    module, names = exports(public_module)
    things = {name: getattr(module, name) for name in names}
    homes = {n: t.__module__ for n, t in things.items() if isinstance(t, type | FunctionType)}
    astray = {n for n, home in homes.items() if home != public_module and not is_home(things[n], n)}
    assert astray == set()


def is_home(value: object, name: str) -> bool:
    """Whether the module *value* names is public and exports it: two doors may share one thing."""
    home = str(value.__module__)
    if "._" in home or home.startswith("_"):
        return False
    return getattr(importlib.import_module(home), name, None) is value


def test_names_are_unique_across_the_five(packages: tuple[str, ...]) -> None:
    count = Counter(name for package in packages for name in exports(package)[1])
    twice = {name for name, n in count.items() if n > 1} - {"__version__"}
    assert twice - TWO_LAYERS_ON_PURPOSE == set()


def test_every_package_is_marked_as_typed(sources: list[Source]) -> None:
    tops = [source.path.parent for source in sources if source.module == source.package]
    assert [top.name for top in tops if not (top / "py.typed").is_file()] == []
