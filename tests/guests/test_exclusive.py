"""Hosts that own the process (Twisted, Qt, GLib, Tk, gevent): one child process for each."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ae_core._detection.table import BACKENDS, BackendSpec

EXCLUSIVE = [spec for spec in BACKENDS if spec.exclusive]


@pytest.mark.parametrize("spec", EXCLUSIVE, ids=lambda spec: spec.name)
def test_guests_in_a_process_of_the_hosts_own(
    spec: BackendSpec, in_own_process: Callable[..., None]
) -> None:
    in_own_process(spec, "-m", "each_backend", "tests/guests")
