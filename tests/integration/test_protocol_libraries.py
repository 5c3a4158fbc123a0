"""The protocol libraries, the chat server and serving, on backends that own the process.

Their own suites run on the others. In a child for each backend, the tests that ask for one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ae_core._detection.table import BACKENDS, BackendSpec

ROOT = Path(__file__).resolve().parents[2]
SUITES = {path.parent.name: path for path in sorted(ROOT.glob("examples/ae-*/tests"))}
del SUITES["ae-weechat"]  # a backend itself
SUITES["serving"] = ROOT / "tests/handle/test_serving.py"
SUITES["relay"] = ROOT / "tests/handle/test_relay.py"
SUITES["connectors"] = ROOT / "tests/handle/test_connectors.py"
SUITES["chat_server"] = Path(__file__).with_name("test_chat_server.py")
SUITES["httpx"] = Path(__file__).with_name("test_httpx.py")
EXCLUSIVE = [spec for spec in BACKENDS if spec.exclusive]


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("spec", EXCLUSIVE, ids=lambda spec: spec.name)
def test_the_suite_passes_in_a_process_of_the_backends_own(
    spec: BackendSpec, suite: str, in_own_process: Callable[..., None]
) -> None:
    in_own_process(spec, "-m", "each_backend", str(SUITES[suite]))
