"""Importing is cheap: nothing heavy is loaded before it is needed.

The times themselves are measured by ``bench/`` (scenario ``imports``): a bound on milliseconds
in a test fails on a busy machine. What is loaded does not depend on the machine.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

LOOPS = {
    "asyncio",
    "trio",
    "tornado",
    "twisted",
    "gevent",
    "gi",
    "tkinter",
    "PySide6",
    "PyQt6",
    "uvloop",
}
STDLIB = {
    "ssl",
    "inspect",
    "dataclasses",
    "multiprocessing",
    "concurrent.futures",
    "json",
    "importlib.metadata",
}
# together these take twice as long as the whole of ae_core
TYPING = {"typing", "re", "enum", "functools", "contextlib", "collections"}
LIBRARIES = {"OpenSSL", "cryptography", "service_identity", "certifi", "dns", "idna", "cbor2"}


def loaded_by(statement: str) -> set[str]:
    """The modules a bare interpreter has after *statement* and had not before."""
    code = f"import sys; old = set(sys.modules); {statement}; print(*set(sys.modules) - old)"
    command = [sys.executable, "-I", "-c", code]
    return set(subprocess.run(command, capture_output=True, check=True, text=True).stdout.split())


def test_the_core_loads_no_loop_and_nothing_heavy() -> None:
    assert loaded_by("import ae_core") & (LOOPS | STDLIB | LIBRARIES | TYPING) == set()


@pytest.mark.parametrize("package", ["ae_socket", "ae_handle"])
def test_what_stands_on_the_core_loads_nothing_that_only_type_checkers_need(package: str) -> None:
    """``socket`` of the standard library has ``enum`` and ``collections`` with it."""
    unwanted = {"typing", "string", "contextlib", "importlib", "dataclasses", "inspect"}
    assert loaded_by(f"import {package}") & unwanted == set()


def test_addresses_load_no_regular_expressions() -> None:
    assert "re" not in loaded_by("import ae_socket")


def test_the_five_together_load_no_loop_and_no_library() -> None:
    five = "import ae_core, ae_socket, ae_dns, ae_handle, ae_tls"
    heavy = LOOPS | LIBRARIES | {"ssl", "multiprocessing", "importlib.metadata"}
    assert loaded_by(five) & heavy == set()


@pytest.mark.parametrize(
    ("package", "above"),
    [
        ("ae_core", {"ae_socket", "ae_dns", "ae_handle", "ae_tls"}),
        ("ae_socket", {"ae_dns", "ae_handle", "ae_tls"}),
        ("ae_dns", {"ae_handle", "ae_tls"}),
        ("ae_handle", {"ae_dns", "ae_tls"}),
        ("ae_tls", {"ae_dns"}),
    ],
)
def test_a_package_loads_none_above_it(package: str, above: set[str]) -> None:
    loaded = loaded_by(f"import {package}")
    assert package in loaded
    assert loaded & above == set()


def test_the_probe_sees_what_is_loaded() -> None:
    assert "ssl" in loaded_by("import ssl")
