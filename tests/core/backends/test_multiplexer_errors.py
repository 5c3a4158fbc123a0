"""What a system call says that the built-in loop waits by, and no fault of a descriptor is."""

from __future__ import annotations

import errno
import select
from typing import Any

import pytest

from ae_core._backends._multiplexers import MULTIPLEXERS, READ


def no_memory(*_: Any) -> Any:
    raise OSError(errno.ENOMEM, "no memory")


@pytest.mark.skipif("epoll" not in MULTIPLEXERS, reason="needs epoll")
def test_an_error_of_the_wait_with_guests_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    class Poll:
        register = unregister = lambda *_: None
        poll = no_memory

    mux = MULTIPLEXERS["epoll"]()
    monkeypatch.setattr(select, "poll", Poll)
    with pytest.raises(OSError, match="no memory"):
        mux.wait_with(0, {1: READ})
    mux.close()


def test_an_error_of_select_with_all_descriptors_open_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mux = MULTIPLEXERS["select"]()
    monkeypatch.setattr(select, "select", no_memory)
    with pytest.raises(OSError, match="no memory"):
        mux.wait(0)
