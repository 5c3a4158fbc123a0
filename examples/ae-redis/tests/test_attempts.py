"""How long the client waits before it connects again."""

from __future__ import annotations

import pytest

from ae_redis._attempts import Attempts


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.0)


def test_pauses_grow_with_each_failure_in_a_row_up_to_the_limit() -> None:
    attempts = Attempts(0.15)
    assert [attempts.failed() for _ in range(4)] == [0.05, 0.1, 0.15, 0.15]
    assert attempts.failures == 4


def test_a_connection_that_lasted_is_made_again_at_once() -> None:
    attempts = Attempts(5.0)
    attempts.failed()
    assert attempts.ended(lasted=60.0) == 0.0
    assert attempts.failures == 0


def test_a_server_that_hangs_up_again_and_again_is_left_in_peace() -> None:
    attempts = Attempts(5.0)
    assert [attempts.ended(lasted=0.01) for _ in range(3)] == [0.0, 0.1, 0.2]
