"""Starting a program: the short cuts, the helper and fork all do the same."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

if not hasattr(os, "fork"):
    pytest.skip("POSIX only", allow_module_level=True)

from ae_core._process import spawn
from ae_core._process.spawn_helper import SpawnPlan

ENV = dict(os.environb)
READ = os.O_RDONLY
WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC

WAYS: dict[str, Callable[[SpawnPlan], int]] = {
    "spawn": spawn.spawn,
    "helper": spawn._through_helper,
    "fork": lambda plan: spawn._fork(plan, None),
}


@pytest.fixture(params=WAYS)
def start(request: pytest.FixtureRequest) -> Callable[[SpawnPlan], int]:
    return WAYS[request.param]


@pytest.fixture
def pipes() -> Iterator[Callable[[], tuple[int, int]]]:
    made: list[int] = []

    def make() -> tuple[int, int]:
        made.extend(os.pipe())
        return made[-2], made[-1]

    yield make
    for fd in made:
        try:
            os.close(fd)
        except OSError:
            continue


@pytest.fixture(params=[way for way in WAYS if way != "spawn"])
def in_child(request: pytest.FixtureRequest) -> Callable[[SpawnPlan], int]:
    """The ways in which a failure that was not foreseen is the exit status of a process."""
    return WAYS[request.param]


def sh(script: str, **options: object) -> SpawnPlan:
    return SpawnPlan([b"/bin/sh", b"-c", script.encode()], ENV, **options)  # type: ignore[arg-type]


def status_of(pid: int) -> int:
    return os.waitpid(pid, 0)[1]


def read_all(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        return file.read()


def test_exit_status_is_the_programs(start: Callable[[SpawnPlan], int]) -> None:
    assert status_of(start(sh("exit 3"))) == 3 << 8
    assert status_of(start(sh("kill -9 $$"))) == 9


def test_missing_program_is_126(in_child: Callable[[SpawnPlan], int]) -> None:
    assert status_of(in_child(SpawnPlan([b"ae-no-such-program"], ENV))) == 126 << 8
    assert status_of(in_child(SpawnPlan([b"/nonexistent/program"], ENV))) == 126 << 8


def test_file_without_execute_permission_is_126(
    in_child: Callable[[SpawnPlan], int], tmp_path: Path
) -> None:
    (tmp_path / "data").write_bytes(b"#!/bin/sh\n")
    assert status_of(in_child(SpawnPlan([os.fsencode(tmp_path / "data")], ENV))) == 126 << 8


def test_missing_directory_is_126(in_child: Callable[[SpawnPlan], int], tmp_path: Path) -> None:
    assert status_of(in_child(sh("true", cwd=os.fsencode(tmp_path / "no")))) == 126 << 8


def test_failing_open_is_125(in_child: Callable[[SpawnPlan], int], tmp_path: Path) -> None:
    missing = os.fsencode(tmp_path / "no" / "file")
    assert status_of(in_child(sh("true", opens=[(0, missing, READ)]))) == 125 << 8
    assert status_of(in_child(sh("true", opens=[(1, missing, WRITE)]))) == 125 << 8


def test_failing_open_comes_before_a_failing_exec(
    in_child: Callable[[SpawnPlan], int], tmp_path: Path
) -> None:
    plan = SpawnPlan([b"/nonexistent"], ENV, opens=[(0, os.fsencode(tmp_path / "no"), READ)])
    assert status_of(in_child(plan)) == 125 << 8


def closed_descriptor() -> int:
    fd = os.open("/dev/null", os.O_RDONLY)
    os.close(fd)
    return fd


def test_closed_descriptor_is_123(in_child: Callable[[SpawnPlan], int]) -> None:
    assert status_of(in_child(sh("true", moves=[(1, closed_descriptor())]))) == 123 << 8


def test_closed_descriptor_that_has_to_make_room_is_124(
    in_child: Callable[[SpawnPlan], int],
) -> None:
    fd = closed_descriptor()
    assert status_of(in_child(sh("true", moves=[(1, fd), (fd, 1)]))) == 124 << 8


def test_impossible_number_is_123(in_child: Callable[[SpawnPlan], int]) -> None:
    assert status_of(in_child(sh("true", moves=[(1 << 30, 1)]))) == 123 << 8


def test_what_cannot_be_started_is_an_error_with_the_name_of_it(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"#!/bin/sh\n")
    directory, data = str(tmp_path), str(tmp_path / "data")
    missing = str(tmp_path / "no" / "file")

    def program(name: str, **options: object) -> SpawnPlan:
        return SpawnPlan([os.fsencode(name)], ENV, **options)  # type: ignore[arg-type]

    for plan, kind, name in (
        (program("ae-no-such-program"), FileNotFoundError, "ae-no-such-program"),
        (program(missing), FileNotFoundError, missing),
        (program(data), PermissionError, data),
        (program(directory), PermissionError, directory),
        (program(data + "/x"), NotADirectoryError, data + "/x"),
        (sh("true", cwd=os.fsencode(missing)), FileNotFoundError, missing),
        (sh("true", cwd=os.fsencode(data)), NotADirectoryError, data),
        (sh("true", opens=[(1, os.fsencode(missing), WRITE)]), FileNotFoundError, missing),
        (sh("true", cwd=os.fsencode(missing), moves=[(5, 1)]), FileNotFoundError, missing),
    ):
        with pytest.raises(kind) as caught:
            spawn.spawn(plan)
        assert os.fsdecode(caught.value.filename) == name
    with pytest.raises(FileNotFoundError):
        spawn.spawn(program(missing), lambda: None)


def test_swapped_numbers(
    start: Callable[[SpawnPlan], int], pipes: Callable[[], tuple[int, int]]
) -> None:
    (r1, w1), (r2, w2) = pipes(), pipes()
    pid = start(sh(f"echo one >/dev/fd/{w1}; echo two >/dev/fd/{w2}", moves=[(w1, w2), (w2, w1)]))
    os.close(w1)
    os.close(w2)
    assert (read_all(r1), read_all(r2)) == (b"two\n", b"one\n")
    assert status_of(pid) == 0


def test_number_onto_itself_survives_exec(
    start: Callable[[SpawnPlan], int], pipes: Callable[[], tuple[int, int]]
) -> None:
    r, w = pipes()
    assert not os.get_inheritable(w)
    pid = start(sh(f"echo here >/dev/fd/{w}", moves=[(w, w)]))
    os.close(w)
    assert read_all(r) == b"here\n"
    assert status_of(pid) == 0
    assert not os.path.exists(f"/proc/self/fd/{w}")


def test_chain_of_numbers(
    start: Callable[[SpawnPlan], int], pipes: Callable[[], tuple[int, int]]
) -> None:
    (r1, w1), (r2, w2) = pipes(), pipes()
    # w1's number gets w2, standard output gets w1
    pid = start(sh(f"echo a; echo b >/dev/fd/{w1}", moves=[(1, w1), (w1, w2)]))
    os.close(w1)
    os.close(w2)
    assert (read_all(r1), read_all(r2)) == (b"a\n", b"b\n")
    assert status_of(pid) == 0


def test_program_sees_only_what_it_was_given(
    start: Callable[[SpawnPlan], int], pipes: Callable[[], tuple[int, int]]
) -> None:
    r, w = pipes()
    inherited = {fd for fd in map(int, os.listdir("/proc/self/fd")) if is_inheritable(fd)}
    pid = start(
        SpawnPlan(
            [os.fsencode(sys.executable), b"-I", b"-S", b"-c", PRINT_DESCRIPTORS],
            ENV,
            moves=[(1, w), (9, w)],
        )
    )
    os.close(w)
    assert {*map(int, read_all(r).split())} == {0, 1, 2, 9} | inherited
    assert status_of(pid) == 0


def is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:  # the listing's own
        return False


PRINT_DESCRIPTORS = b"""
import os
print(*(fd for fd in range(1024) if os.path.exists(f"/proc/self/fd/{fd}")))
"""


@pytest.mark.parametrize("close_all", [False, True])
def test_inheritable_descriptor_is_inherited_unless_close_all(
    start: Callable[[SpawnPlan], int], pipes: Callable[[], tuple[int, int]], close_all: bool
) -> None:
    r, w = pipes()
    extra = os.dup(w)
    os.set_inheritable(extra, True)
    script = f"if [ -e /proc/self/fd/{extra} ]; then echo open; else echo closed; fi"
    pid = start(sh(script, moves=[(1, w)], close_all=close_all))
    os.close(w)
    os.close(extra)
    assert read_all(r) == (b"closed\n" if close_all else b"open\n")
    assert status_of(pid) == 0


def test_directory_is_the_programs_and_names_are_ours(
    start: Callable[[SpawnPlan], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path)
    plan = sh("pwd", cwd=b"inner", opens=[(1, b"out", WRITE)])
    assert status_of(start(plan)) == 0
    assert (tmp_path / "out").read_text() == f"{tmp_path}/inner\n"


def test_relative_program_is_looked_for_in_the_directory(
    start: Callable[[SpawnPlan], int], tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 5\n")
    program.chmod(0o755)
    plan = SpawnPlan([b"./program"], ENV, cwd=os.fsencode(tmp_path))
    assert status_of(start(plan)) == 5 << 8


def test_path_of_the_given_environment_is_searched(
    start: Callable[[SpawnPlan], int], tmp_path: Path
) -> None:
    program = tmp_path / "ae-program"
    program.write_text("#!/bin/sh\nexit 6\n")
    program.chmod(0o755)
    path = b"/nonexistent:" + os.fsencode(tmp_path)
    assert status_of(start(SpawnPlan([b"ae-program"], {b"PATH": path}))) == 6 << 8


def test_environment_is_exactly_the_given_one(
    start: Callable[[SpawnPlan], int], pipes: Callable[[], tuple[int, int]]
) -> None:
    r, w = pipes()
    secret = b"S" * 100_000
    pid = start(SpawnPlan([b"/usr/bin/env"], {b"A": b"\xff", b"B": secret}, moves=[(1, w)]))
    os.close(w)
    assert read_all(r) == b"A=\xff\nB=" + secret + b"\n"
    assert status_of(pid) == 0


def test_fifo_by_name_blocks_nobody_here(start: Callable[[SpawnPlan], int], tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    pid = start(sh('read line; [ "$line" = text ]', opens=[(0, os.fsencode(fifo), READ)]))
    fifo.write_text("text\n")
    assert status_of(pid) == 0


def test_ignored_signals_are_default_in_the_program(start: Callable[[SpawnPlan], int]) -> None:
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
    assert status_of(start(sh("kill -PIPE $$"))) == signal.SIGPIPE


def test_blocked_signals_are_not_blocked_in_the_program(start: Callable[[SpawnPlan], int]) -> None:
    old = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        assert status_of(start(sh("kill -USR1 $$"))) == signal.SIGUSR1
        assert status_of(start(sh("kill -USR1 $$", cwd=b"/"))) == signal.SIGUSR1
        assert signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def test_handlers_do_not_run_in_the_child() -> None:
    ran: list[int] = []
    old = signal.signal(signal.SIGUSR1, lambda number, frame: ran.append(os.getpid()))
    try:
        pid = spawn.spawn(sh("exit 1"), lambda: os.kill(os.getpid(), signal.SIGUSR1))
        assert status_of(pid) == signal.SIGUSR1
        assert ran == []
    finally:
        signal.signal(signal.SIGUSR1, old)


def test_on_prepare_runs_in_the_child_after_the_redirections(
    pipes: Callable[[], tuple[int, int]],
) -> None:
    r, w = pipes()
    parent = os.getpid()
    pid = spawn.spawn(
        sh("echo program", moves=[(7, w), (1, w)]),
        lambda: os.write(7, b"%d\n" % (os.getpid() != parent)) and None,
    )
    os.close(w)
    assert read_all(r) == b"1\nprogram\n"
    assert status_of(pid) == 0


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(0), KeyboardInterrupt()])
def test_raising_on_prepare_is_123_and_says_why(
    error: BaseException, pipes: Callable[[], tuple[int, int]]
) -> None:
    def fail() -> None:
        raise error

    r, w = pipes()
    pid = spawn.spawn(sh("true", moves=[(2, w)]), fail)
    os.close(w)
    assert type(error).__name__ in read_all(r).decode()
    assert status_of(pid) == 123 << 8


def test_short_cuts_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(spawn, "_through_helper")
    assert status_of(spawn.spawn(sh("exit 1"))) == 256
    assert status_of(spawn.spawn(SpawnPlan([b"true"], ENV, moves=[(5, 2)]))) == 0
    assert status_of(spawn.spawn(sh("true", cwd=b"/", moves=[(1, 2), (2, 1)]))) == 0
    assert status_of(spawn.spawn(sh("true", close_all=True))) == 0
    out = os.fsencode(tmp_path / "out")
    assert status_of(spawn.spawn(sh("true", opens=[(1, out, WRITE)]))) == 0


def test_no_process_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "posix_spawn", refuse)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BlockingIOError):
        spawn.spawn(sh("true", moves=[(1, 2), (2, 1)], opens=[(0, b"/dev/null", READ)]))
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_posix_spawn_everything_still_works(
    monkeypatch: pytest.MonkeyPatch, pipes: Callable[[], tuple[int, int]]
) -> None:
    monkeypatch.delattr(os, "posix_spawn")
    r, w = pipes()
    pid = spawn.spawn(sh("pwd", cwd=b"/", moves=[(1, w)]))
    os.close(w)
    assert (read_all(r), status_of(pid)) == (b"/\n", 0)


def test_no_descriptor_is_left_open_here(start: Callable[[SpawnPlan], int], tmp_path: Path) -> None:
    out = os.fsencode(tmp_path / "out")
    before = sorted(os.listdir("/proc/self/fd"))
    for plan in (
        sh("true", moves=[(1, 2), (2, 1)], opens=[(0, out, WRITE)]),
        sh("true", cwd=b"/nonexistent", moves=[(5, 1)]),
        sh("true", opens=[(1, b"/nonexistent/x", WRITE)]),
        sh("true", moves=[(1, 1 << 20)]),
    ):
        try:
            status_of(start(plan))
        except OSError:
            continue
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_many_at_once_from_threads_leak_no_pipe_into_each_other() -> None:
    # A writer's end that another program inherits would keep this reader waiting for ever.
    failures: list[BaseException] = []

    def one() -> None:
        try:
            r, w = os.pipe()
            pid = spawn.spawn(sh("echo x; exec sleep 0", moves=[(1, w), (4, w), (w, 2)]))
            os.close(w)
            assert read_all(r) == b"x\n"
            assert status_of(pid) == 0
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_a_warning_behind_the_fork_does_not_hide_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    fork = os.fork

    def fork_and_warn() -> int:  # as CPython 3.15 does where there are threads
        pid = fork()
        if pid:
            warnings.warn("use of fork() may lead to deadlocks", DeprecationWarning, stacklevel=1)
        return pid

    monkeypatch.setattr(os, "fork", fork_and_warn)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pid = spawn._fork(sh("exit 7"), None)
        assert status_of(pid) == 7 << 8
        with pytest.raises(DeprecationWarning):  # warnings are errors again
            warnings.warn("another", DeprecationWarning, stacklevel=1)
