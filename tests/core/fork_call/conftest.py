"""What the tests of fork_call share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_worker_stays() -> Iterator[None]:
    yield
    from ae_core._fork_call import call
    from ae_core._process import spawn

    call.shutdown()
    assert spawn.reap_abandoned() == []


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle workers stay, however slow this machine is."""
    from ae_core._fork_call import pool

    monkeypatch.setattr(pool, "IDLE", 600.0)
