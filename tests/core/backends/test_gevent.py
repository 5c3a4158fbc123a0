"""gevent's hub belongs to the program: what we do in it, and what we leave of it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import pytest

# not imported, which would be a sign for detection in other tests
pytestmark = pytest.mark.skipif(find_spec("gevent") is None, reason="gevent is not installed")

# In processes of their own: a hub stays with its thread.


def test_after_a_wait_the_hub_runs_empty_as_if_we_had_not_been_there(
    script: Callable[..., str],
) -> None:
    # each of these leaves something in the hub if it is not taken out again
    output = script("""
        import gevent, os, subprocess
        import ae_core as ae

        ae.use("gevent")

        def waits():
            ae.sleep(0.001).recv()

        def waits_with_a_limit():
            ae.sleep(0.001).recv(timeout=100)

        def is_answered_by_a_thread():
            import threading
            done = ae.CondVar()
            call = ae.detect().call_threadsafe
            threading.Thread(target=lambda: call(done.send)).start()
            done.recv()

        def runs_a_program():
            ae.run_cmd("true").recv()

        def watches_a_signal():
            watcher = ae.signal("USR1", print)
            ae.sleep(0.001).recv()
            watcher.cancel()

        def is_in_vain():
            try:
                ae.CondVar().recv()
            except ae.Deadlock:
                pass

        for use in (waits, waits_with_a_limit, is_answered_by_a_thread, runs_a_program,
                    watches_a_signal, is_in_vain):
            use()
            gevent.spawn(gevent.sleep, 0.01)
            print(use.__name__, gevent.wait(timeout=20))
        """)
    assert output.splitlines() == [
        "waits True",
        "waits_with_a_limit True",
        "is_answered_by_a_thread True",
        "runs_a_program True",
        "watches_a_signal True",
        "is_in_vain True",
    ]


def test_what_still_counts_keeps_the_hub_alive(script: Callable[..., str]) -> None:
    output = script("""
        import gevent
        import ae_core as ae

        ae.use("gevent")
        ae.sleep(0.001).recv()
        timer = ae.timer(0.02, lambda: print("timer"))
        gevent.wait()
        print("empty")
        """)
    assert output.splitlines() == ["timer", "empty"]


def test_a_program_that_runs_for_ever_with_nothing_to_wait_for_is_no_deadlock(
    script: Callable[..., str],
) -> None:
    output = script("""
        import os, signal, subprocess
        import ae_core as ae

        ae.use("gevent")
        interrupt = subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -INT {os.getpid()}"])
        try:
            ae.run()
        except KeyboardInterrupt:
            print("interrupted")
        interrupt.wait()
        """)
    assert output == "interrupted\n"


def test_a_gevent_that_is_imported_is_a_sign_in_the_main_thread(
    script: Callable[..., str],
) -> None:
    output = script("""
        import threading
        import gevent.event
        import ae_core as ae

        seen = []

        def work():
            seen.append(ae.detect().name)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        done = gevent.event.Event()
        timer = ae.timer(0.01, done.set)
        print(seen, ae.detect().name, ae.detect().reason, done.wait(20))
        """)
    assert output == "['loop'] gevent loaded True\n"


def test_who_waits_is_woken_for_what_he_waits_for_only(script: Callable[..., str]) -> None:
    output = script("""
        import gevent
        import ae_core as ae

        ae.use("gevent")
        asked = 0

        def wait(number):
            ae.sleep(0.001 * number).recv()

        backend = ae.detect()
        run_until = backend.run_until

        def counting(done):
            def ask():
                global asked
                asked += 1
                return done()

            run_until(ask)

        backend.run_until = counting
        waits = [gevent.spawn(wait, number) for number in range(100)]
        gevent.joinall(waits)
        print(asked <= 300, asked >= 200)
        """)
    assert output == "True True\n"
