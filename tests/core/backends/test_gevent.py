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


def test_children_of_ours_and_of_gevent_all_get_their_status(script: Callable[..., str]) -> None:
    # once gevent waits for a child, its loop reaps those of all others, too
    output = script("""
        import gevent.subprocess, os, subprocess
        import ae_core as ae

        ae.use("gevent")
        SHELL = ["sh", "-c"]

        def ours(code):
            return ae.run_cmd([*SHELL, f"exit {code}"])

        def theirs(code):
            return gevent.subprocess.Popen([*SHELL, f"exit {code}"])

        ours(1).recv()
        print(subprocess.Popen([*SHELL, "exit 2"]).wait())  # gevent does not reap yet
        r, w = os.pipe()
        across = ae.run_cmd([*SHELL, "read line; exit 3"], stdin=r)
        print(theirs(4).wait())  # it does from here on
        os.write(w, b"\\n")
        print(across.recv() >> 8)
        running = [(ours(code), theirs(code)) for code in range(10)]
        print([(a.recv() >> 8, b.wait()) for a, b in running] == [(n, n) for n in range(10)])
        child = theirs(5)
        ended = ae.CondVar()
        watcher = ae.child(child.pid, lambda pid, status: ended.send(status >> 8))
        print(ended.recv(), child.wait())
        """)
    assert output.splitlines() == ["2", "4", "3", "True", "5 5"]


def test_who_watches_all_children_takes_none_from_gevent(script: Callable[..., str]) -> None:
    output = script("""
        import gevent.subprocess
        import ae_core as ae

        ae.use("gevent")

        def theirs(code):
            return gevent.subprocess.Popen(["sh", "-c", f"exit {code}"])

        def status(pid):
            ended = ae.CondVar()
            watcher = ae.child(pid, lambda pid, status: ended.send(status >> 8))
            return ended.recv()

        for first in (lambda: None, lambda: theirs(1).wait()):
            first()  # who handles SIGCHLD: Python, then gevent; or gevent already
            seen = []
            watcher = ae.child(0, lambda pid, status: seen.append(status >> 8))
            arrived = []
            signal = ae.signal("CHLD", lambda: arrived.append(1))
            a = ae.run_cmd("exit 2").recv() >> 8
            b = theirs(3).wait(timeout=20)
            c = status(theirs(4).pid)
            while len(seen) < 3:
                ae.sleep(0.001).recv()
            print(a, b, c, sorted(seen), bool(arrived))
            watcher.cancel()
            signal.cancel()
            print(theirs(5).wait(timeout=20), ae.run_cmd("exit 6").recv() >> 8)
        """)
    assert output.splitlines() == ["2 3 4 [2, 3, 4] True", "5 6"] * 2


def test_the_hub_goes_on_while_a_thread_works_for_a_greenlet(script: Callable[..., str]) -> None:
    # the main greenlet waits by gevent, which would call it a deadlock
    output = script("""
        import gevent, time
        import ae_core as ae

        ae.use("gevent")

        def work(number):
            time.sleep(0.02)
            return number

        def ask(number):
            return ae.to_thread(work, number).recv()

        print([task.get() for task in [gevent.spawn(ask, number) for number in range(3)]])
        mark = ae.pending()
        print(gevent.wait(timeout=0.01))
        mark.cancel()
        print(gevent.wait(timeout=20))
        """)
    assert output.splitlines() == ["[0, 1, 2]", "False", "True"]


def test_errors_of_the_programs_own_callbacks_are_the_hubs_matter(
    script: Callable[..., str],
) -> None:
    output = script("""
        import gevent, sys
        import ae_core as ae

        def fails():
            raise ValueError("of the program")

        ae.use("gevent")
        timer = gevent.get_hub().loop.timer(0.001)
        timer.start(fails)
        ae.sleep(0.02).recv(timeout=30)
        print("waited")
        """)
    assert "ValueError: of the program" in output
    assert output.splitlines()[-1] == "waited"


@pytest.mark.parametrize("name", ["gevent", "libev"])
def test_what_the_kernel_has_no_room_for_is_told_once(
    name: str, script: Callable[..., str]
) -> None:
    """libev tells by an event that has the bit of an error, and has stopped the watcher."""
    output = script(f"""
        import os
        import ae_core as ae

        ae.use({name!r})
        backend = ae.detect()
        reader, writer = os.pipe()
        errors = []
        ae.exception_hook = lambda error, watcher: errors.append(error)
        watcher = ae.io(reader, "r", print)
        (token,) = (each for each in backend._watchers if each.fd == reader)
        backend._watchers[token](1 - 0x80000000)
        print(errors, watcher.active)
        print([each.fd for each in backend._watchers if each.fd == reader])
        backend.on_refused = None
        backend._watchers[backend.io_start(reader, False, print)](1 - 0x80000000)
        ae.sleep(0.001).recv(timeout=30)
        """)
    assert output == "[OSError(28, 'No space left on device')] False\n[]\n"


@pytest.mark.parametrize("name", ["gevent", "libev"])
def test_why_the_kernel_does_not_watch_is_asked_of_it_anew(
    name: str, script: Callable[..., str]
) -> None:
    output = script(f"""
        import errno, os, select
        import ae_core as ae
        from ae_core._backends import _gevent
        from gevent import monkey

        ae.use({name!r})
        reader, writer = os.pipe()
        print(_gevent._refusal(reader).errno == errno.ENOSPC)
        originals = monkey.get_original

        def without(module, name):
            raise AttributeError(name)

        monkey.get_original = without
        print(_gevent._refusal(reader).errno == errno.ENOMEM)
        monkey.get_original = originals
        print(_gevent._refusal(10_000).errno == errno.EBADF)
        """)
    assert output == "True\nTrue\nTrue\n"


@pytest.mark.parametrize("name", ["gevent", "libev"])
def test_a_loop_that_was_closed_is_closed_again_without_harm(
    name: str, script: Callable[..., str]
) -> None:
    output = script(f"""
        import ae_core as ae
        from ae_core.testing import release

        ae.use({name!r})
        ae.sleep(0.001).recv()
        backend = ae.detect()
        wake = backend.waker()
        wake()  # nobody waits
        release()
        backend.close()
        print(backend.usable())
        """)
    assert output == "False\n"


def test_a_turn_of_the_hub_waits_for_an_event_if_it_is_to(script: Callable[..., str]) -> None:
    output = script("""
        import ae_core as ae

        ae.use("gevent")
        seen = []
        timer = ae.timer(0.005, lambda: seen.append("timer"))
        while not seen:
            ae.detect().poll(True)
        print(seen)
        """)
    assert output == "['timer']\n"


def test_without_proc_a_signal_is_taken_for_gevents_if_it_starts_programs(
    script: Callable[..., str],
) -> None:
    output = script("""
        import signal
        import ae_core as ae
        from ae_core._backends import _gevent

        def no_proc(*_):
            raise FileNotFoundError

        ae.use("gevent")
        _gevent.open = no_proc
        print(_gevent._is_caught(signal.SIGCHLD))
        import gevent.subprocess
        print(_gevent._is_caught(signal.SIGCHLD))
        """)
    assert output == "False\nTrue\n"


def test_what_escapes_in_c_has_an_error_of_its_class(script: Callable[..., str]) -> None:
    """Older gevents tell of it by class and arguments, if at all by more."""
    output = script("""
        import ae_core as ae

        ae.use("libev")
        backend = ae.detect()
        backend.on_escaped = lambda error: print(repr(error))
        backend.handle_error(None, KeyboardInterrupt, None, None)
        backend.handle_error(None, SystemExit, 3, None)
        backend.handle_error(print, ValueError, ValueError("of the program"), None)
        """)
    assert sorted(output.splitlines()) == [
        "KeyboardInterrupt()",
        "SystemExit(3)",
        "ValueError: of the program",  # to stderr
    ]


def test_what_strikes_a_call_of_ours_in_the_first_wait_leaves_it_and_nothing_stops(
    script: Callable[..., str],
) -> None:
    """The hub takes what escapes a callback for itself when it begins, and prints it."""
    output = script("""
        import gevent, os
        import ae_core as ae

        class Struck(Exception):
            pass

        ae.use("gevent")
        reader, writer = os.pipe()
        os.write(writer, b"x")
        seen = []

        def watch():
            return ae.io(reader, "r", lambda: seen.append(os.read(reader, 1)))

        kind = type(watch()._record)
        call = kind.__call__

        def strike(*_):
            kind.__call__ = call
            raise Struck

        def wait():
            watcher = watch()
            kind.__call__ = strike
            try:
                ae.sleep(20).recv()
            except Struck:
                print("left")
            ae.sleep(0.01).recv()
            print(seen)
            watcher.cancel()

        wait()
        gevent.get_hub().join()  # ends, and begins anew
        os.write(writer, b"y")
        wait()
        """)
    assert output.splitlines() == ["left", "[b'x']", "left", "[b'x', b'y']"]
