"""The fixture of ae-socket: ``ae_resolver``, names without a name server. See "Test with pytest".

Stands on ae-core's plugin. Imports nothing of ours before a test needs it.
"""

from __future__ import annotations

__all__ = ("ae_resolver",)

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ae_core.abc import Backend
    from ae_socket.testing import ScriptedResolver

pytest_plugins = ["ae_core_pytest"]


@pytest.fixture
def ae_resolver(ae_loop: Backend) -> Iterator[ScriptedResolver]:
    """Look all names of the test up in a script: ``ae_resolver.names["www.example.com"] = [...]``.

    A name that it was not told is unknown; ``ae_resolver.questions`` has what it was asked.
    """
    from ae_socket import set_resolver
    from ae_socket.testing import ScriptedResolver

    resolver = ScriptedResolver()
    set_resolver(resolver)
    try:
        yield resolver
    finally:
        set_resolver(None)
