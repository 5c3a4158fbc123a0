"""Twisted's reactors of several kinds, and what they make of closed and refused descriptors."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from textwrap import dedent

import pytest

# not imported, which would be a sign for detection in other tests
pytestmark = pytest.mark.skipif(find_spec("twisted") is None, reason="Twisted is not installed")

HEAD = """
import errno, os, socket
import ae_core as ae
from twisted.internet import REACTORreactor as kind
kind.install()
from twisted.internet import reactor
from twisted.logger import Logger

backend = ae.detect()
errors = []
ae.exception_hook = lambda error, watcher: errors.append(error)
left, right = socket.socketpair()
ae.sleep(0.001).recv(30)  # now all descriptors of ours are open
"""


@pytest.fixture
def twisted(script: Callable[..., str]) -> Callable[..., str]:
    """Run a program on a reactor of the kind that is given."""

    def run(kind: str, code: str) -> str:
        return script(HEAD.replace("REACTOR", kind) + dedent(code))

    return run


@pytest.mark.parametrize("kind", ["select", "poll", "epoll"])
def test_what_is_closed_under_its_watcher_is_told_once_or_never_and_no_more_is_lost(
    kind: str, twisted: Callable[..., str]
) -> None:
    output = twisted(
        kind,
        """
        watchers = [ae.io(right, "r", print), ae.io(right, "w", print)]
        os.close(right.detach())
        ae.sleep(0.01).recv(30)
        print({error.errno for error in errors} <= {errno.EBADF}, len(errors) in (0, 2))
        for watcher in watchers:
            watcher.cancel()
        one, two = socket.socketpair()
        done = ae.CondVar()
        watcher = ae.io(two, "r", done)
        one.send(b"x")
        done.recv(30)
        print(backend.statistics())
        """,
    )
    assert output.splitlines()[0] == "True True"
    assert kind in output.splitlines()[1].lower()


def test_a_reactor_that_tells_of_closed_descriptors_ends_their_watchers(
    twisted: Callable[..., str],
) -> None:
    output = twisted(
        "poll",
        """
        watchers = [ae.io(right, "r", print), ae.io(right, "w", print)]
        number = right.detach()
        os.close(number)
        while len(errors) < 2:
            ae.sleep(0.001).recv(30)
        print([error.errno == errno.EBADF for error in errors])
        print([watcher.active for watcher in watchers])
        """,
    )
    assert output.splitlines()[:2] == ["[True, True]", "[False, False]"]


def test_a_descriptor_that_is_refused_after_a_hang_up_is_told(
    twisted: Callable[..., str],
) -> None:
    output = twisted(
        "epoll",
        """
        watcher = ae.io(right, "w", lambda: None)
        add = reactor.addWriter

        def refuse(descriptor):
            if descriptor.fileno() == right.fileno():
                raise OSError(errno.ENOSPC, "no room")
            return add(descriptor)

        reactor.addWriter = refuse
        left.close()
        while not errors:
            ae.sleep(0.001).recv(30)
        print(errors, watcher.active)
        """,
    )
    assert output.startswith("[OSError(28, 'no room')] False\n")


def test_select_refuses_a_number_that_it_cannot_take(twisted: Callable[..., str]) -> None:
    output = twisted(
        "select",
        """
        import fcntl
        try:
            high = fcntl.fcntl(right, fcntl.F_DUPFD, 1024)
        except OSError:
            print("not permitted")
        else:
            try:
                ae.io(high, "r", print)
            except OSError as error:
                print(error.errno == errno.EMFILE, "Twisted's select reactor" in str(error))
        """,
    )
    if output == "not permitted\n":
        pytest.skip("so many descriptors are not permitted")
    assert output.startswith("True True\n")


def test_what_the_program_logs_while_we_run_the_reactor_is_its_own_matter(
    twisted: Callable[..., str],
) -> None:
    output = twisted(
        "epoll",
        """
        log = Logger()

        def fails():
            raise ValueError("of the program")

        reactor.callLater(0, log.info, "a message")
        reactor.callLater(0, fails)
        ae.sleep(0.01).recv(30)
        print(errors)
        """,
    )
    assert output.splitlines()[-1] == "[]"


def test_a_reactor_that_runs_or_has_ended_is_not_run(twisted: Callable[..., str]) -> None:
    output = twisted(
        "epoll",
        """
        def begin():
            try:
                backend.run_until(bool)
            except ae.BlockingNotAllowed as error:
                print(error)
            reactor.stop()

        reactor.callWhenRunning(begin)
        reactor.run()
        backend.run_until(bool)
        print("returned")
        """,
    )
    assert "running Twisted reactor" in output.splitlines()[0]
    assert output.splitlines()[1] == "returned"


def test_an_exit_passes_what_is_logged_on_its_way(twisted: Callable[..., str]) -> None:
    output = twisted(
        "epoll",
        """
        def leave():
            raise SystemExit(3)

        from twisted.logger import globalLogPublisher
        globalLogPublisher.addObserver(lambda event: seen.append(event))
        seen = []
        timer = ae.timer(0.001, leave)
        try:
            reactor.run()
        except SystemExit as error:
            print("left by", error.code)
        Logger().info("afterwards")
        print(seen[-1]["log_format"])
        """,
    )
    assert output.splitlines()[-2:] == ["left by 3", "afterwards"]


def test_a_turn_of_the_reactor_waits_for_an_event_if_it_is_to(
    twisted: Callable[..., str],
) -> None:
    output = twisted(
        "epoll",
        """
        seen = []
        timer = ae.timer(0.005, lambda: seen.append("timer"))
        while not seen:
            backend.poll(True)
        print(seen)
        """,
    )
    assert output.splitlines()[0] == "['timer']"


def test_an_interest_ends_once_and_a_refusal_that_nobody_hears_of_ends_it(
    twisted: Callable[..., str],
) -> None:
    output = twisted(
        "poll",
        """
        token = backend.io_start(right.fileno(), False, print)
        backend.io_stop(token)
        backend.io_stop(token)
        backend.on_refused = None
        number = right.detach()
        backend.io_start(number, False, print)
        os.close(number)
        while number in backend._descriptors:
            ae.sleep(0.001).recv(30)
        print("ended")
        """,
    )
    assert output.splitlines()[0] == "ended"
