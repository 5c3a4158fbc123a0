"""Who may import whom: the table of the design, read off the syntax trees."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Source

TLS_LIBRARIES = ("OpenSSL", "cryptography", "service_identity", "certifi", "idna")
MAY_IMPORT = {  # extras: anyio, cbor2, httpcore, certifi, idna (for ae_socket); ae_tls, ae_dns
    "ae_core": set(),
    "ae_socket": {"ae_core", "idna"},
    "ae_dns": {"ae_core", "ae_socket", "dns", "idna"},
    "ae_handle": {"ae_core", "ae_socket", "anyio", "cbor2", "httpcore", "httpx"},
    "ae_tls": {"ae_core", "ae_socket", "ae_handle", *TLS_LIBRARIES},
    "ae_guests": {"ae_core", "trio"},
    "ae_redis": {"ae_core", "ae_socket", "ae_handle", "ae_tls", "ae_dns"},
    "ae_http": {"ae_core", "ae_socket", "ae_handle", "ae_tls", "ae_dns", "wsproto"},
    "ae_irc": {"ae_core", "ae_socket", "ae_handle", "ae_tls", "ae_dns"},
    "ae_weechat": {"ae_core"},
}
STDLIB = set(sys.stdlib_module_names)
PRIVATE = re.compile(r"_(?!_.*__$)")


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every absolute import as (line, dotted name); ``from a import b`` counts as ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def private_attributes(tree: ast.AST, packages: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """``ae._x``: a private attribute taken from the module object of one of our packages."""
    ours = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.split(".")[0] in packages
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and PRIVATE.match(node.attr):
            owner = ast.unparse(node.value)
            if owner in ours:
                yield node.lineno, f"{ours[owner]}.{node.attr}"


def test_a_module_imports_only_what_its_layer_may(source: Source) -> None:
    allowed = STDLIB | MAY_IMPORT[source.package] | {source.package}
    tree = ast.parse(source.path.read_bytes())
    foreign = [f"{n}: {name}" for n, name in imports(tree) if name.split(".")[0] not in allowed]
    if source.module.startswith("ae_core._backends._"):  # a loop's library is allowed there
        foreign = [entry for entry in foreign if "ae_" in entry]
    assert foreign == []


def test_only_public_names_cross_a_package_border(
    source: Source, packages: tuple[str, ...]
) -> None:
    tree = ast.parse(source.path.read_bytes())
    names = [*imports(tree), *private_attributes(tree, packages)]
    others = set(packages) - {source.package}
    borders = [(n, name.split(".")) for n, name in names if name.split(".")[0] in others]
    crossed = [f"{n}: {'.'.join(p)}" for n, p in borders if any(map(PRIVATE.match, p))]
    assert crossed == []


@pytest.mark.parametrize(
    "text", ["import ae_core._x", "from ae_core import _x", "from ae_core._x import y"]
)
def test_the_walker_sees_every_form_of_import(text: str) -> None:
    assert any("_x" in name for _, name in imports(ast.parse(text)))
