"""The fixture of ae-handle: ``ae_network``, hosts in memory. See "Test with pytest".

Stands on ae-core's plugin. Imports nothing of ours before a test needs it.
"""

from __future__ import annotations

__all__ = ("ae_network",)

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ae_core.abc import Backend
    from ae_handle.testing import ScriptedNetwork

pytest_plugins = ["ae_core_pytest"]


@pytest.fixture
def ae_network(ae_loop: Backend) -> Iterator[ScriptedNetwork]:
    """Have every ``Handle(connect=...)`` of the test talk to scripted peers in memory.

    ``ae_network.add("mail.example.com", 25, ScriptedPeer()...)``; hosts that were not added refuse.
    """
    from ae_handle.testing import ScriptedNetwork

    with ScriptedNetwork() as network:
        yield network
