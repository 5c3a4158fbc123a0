"""GLib ends a source whose callback an exception leaves: it is made anew."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import pytest

# not imported, which would be a sign for detection in other tests
pytestmark = pytest.mark.skipif(find_spec("gi") is None, reason="PyGObject is not installed")


def test_what_a_signal_handler_has_struck_is_watched_again(script: Callable[..., str]) -> None:
    output = script("""
        import os
        import ae_core as ae
        from ae_core._base.pace import Pace

        class Struck(Exception):
            pass

        def strike_once(kind, name):
            method = getattr(kind, name)
            def strike(*_):
                setattr(kind, name, method)
                raise Struck(name)
            setattr(kind, name, strike)

        ae.use("glib")
        backend = ae.detect()
        reader, writer = os.pipe()
        os.write(writer, b"x")
        seen = []
        watcher = ae.io(reader, "r", lambda: seen.append(os.read(reader, 1)))
        strike_once(type(watcher._record), "__call__")
        for _ in range(2):
            try:
                ae.sleep(0.01).recv(timeout=30)
            except Struck as error:
                print(error)
        print(seen)
        timer = ae.timer(0.001, lambda: seen.append("timer"))
        strike_once(Pace, "resting")
        for _ in range(2):
            try:
                ae.sleep(0.01).recv(timeout=30)
            except Struck as error:
                print(error)
        print(seen)
        os.write(writer, b"y")
        strike_once(type(watcher._record), "__call__")
        try:
            ae.sleep(0.01).recv(timeout=30)
        except Struck:
            watcher.cancel()  # its source has ended
        ae.sleep(0.001).recv(timeout=30)
        print(seen)
        """)
    assert output.splitlines() == [
        *("__call__", "[b'x']", "resting", "[b'x', 'timer']"),
        "[b'x', 'timer']",
    ]
