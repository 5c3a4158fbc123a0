"""Names are looked up on threads of the system in a program that gevent has patched."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import pytest

# not imported, which would be a sign for detection in other tests
pytestmark = pytest.mark.skipif(find_spec("gevent") is None, reason="gevent is not installed")


def test_greenlets_of_a_thread_share_its_resolver_and_may_all_ask(
    script: Callable[..., str],
) -> None:
    output = script("""
        from gevent import monkey; monkey.patch_all()
        import gevent
        import ae_core as ae
        from ae_socket import ThreadResolver, resolve, set_resolver

        system = ThreadResolver()
        asked = []

        class Noting:
            def getaddrinfo(self, host, service, **options):
                asked.append(host)
                return system.getaddrinfo("localhost", service, **options)

        def ask():
            return resolve("peer.test", 80, family=4).recv(timeout=20)[0].sockaddr

        async def main():  # in the hub, which cannot wait
            return (await resolve("peer.test", 81, family=4))[0].sockaddr

        gevent.spawn(set_resolver, Noting()).get()
        print([task.get() for task in [gevent.spawn(ask), gevent.spawn(ask)]], ask())
        print(ae.run(main()), len(asked))
        """)
    assert output.splitlines() == [
        "[('127.0.0.1', 80), ('127.0.0.1', 80)] ('127.0.0.1', 80)",
        "('127.0.0.1', 81) 4",
    ]
