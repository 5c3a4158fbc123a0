"""Backends that own the process (Twisted, Qt, GLib, Tk, gevent): one child process for each.

It runs the conformance tests, in the blocking way (how coroutines are driven is the core's, and the
same on all of them), the debugging aids, and what a busy loop lets in.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ae_core._detection.table import BACKENDS, BackendSpec

EXCLUSIVE = [spec for spec in BACKENDS if spec.exclusive]


@pytest.mark.parametrize("spec", EXCLUSIVE, ids=lambda spec: spec.name)
def test_backend_in_a_process_of_its_own(
    spec: BackendSpec, in_own_process: Callable[..., None]
) -> None:
    aids = ("debug/test_debug_wrap", "debug/test_debug_shell", "strict/test_strict")
    files = [f"tests/core/{name}.py" for name in (*aids, "backends/test_pace")]
    which = "test_blocking or test_debug or test_strict or test_pace"
    in_own_process(spec, "-k", which, "tests/conformance", *files)
