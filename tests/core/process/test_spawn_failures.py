"""Starting a program where the system refuses something, or has less than Linux."""

from __future__ import annotations

import errno
import marshal
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

if not hasattr(os, "fork"):
    pytest.skip("POSIX only", allow_module_level=True)

from ae_core._process import spawn
from ae_core._process.spawn_helper import SpawnPlan

ENV = dict(os.environb)
HELPER = "from ae_core._process.spawn_helper import main; main()"


def sh(script: str, **options: object) -> SpawnPlan:
    return SpawnPlan([b"/bin/sh", b"-c", script.encode()], ENV, **options)  # type: ignore[arg-type]


def status_of(pid: int) -> int:
    return os.waitpid(pid, 0)[1]


def open_here() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            continue


def follow(fd: int) -> int:
    """Return how the helper ends that is told to read its plan from *fd*."""
    command = [sys.executable, "-c", HELPER, str(fd)]
    return subprocess.run(command, check=False, pass_fds=[fd]).returncode


# ---------------------------------------------------------------------- the helper


def test_the_helper_ends_with_the_failure_that_its_parent_has_found() -> None:
    plan = sh("exit 1")
    plan.fail(77)
    fd = spawn._anonymous_file(plan)
    assert follow(fd) == 77
    os.close(fd)


@pytest.mark.parametrize("content", [b"", b"no plan", marshal.dumps((1, 2))])
def test_a_helper_that_finds_no_plan_ends_as_where_there_is_no_program(
    content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "plan").write_bytes(content)
    fd = os.open(tmp_path / "plan", os.O_RDONLY)
    assert follow(fd) == 126
    os.close(fd)


def test_the_way_through_the_helper_needs_no_memory_file(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    reader, writer = pipe
    pid = spawn.spawn(sh("pwd", cwd=b"/", moves=[(1, writer), (5, writer)]))
    os.close(writer)
    assert os.read(reader, 100) == b"/\n"
    assert status_of(pid) == 0


def test_a_plan_that_cannot_be_written_leaves_no_descriptor_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(fd: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = open_here()
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", refuse)
        with pytest.raises(OSError, match="No space"):
            spawn._through_helper(sh("true"))
    assert open_here() == before


def test_no_descriptor_left_for_the_helper_is_an_error(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    real = os.dup
    refusals = [OSError(errno.EMFILE, "Too many open files")]

    def refuse(fd: int) -> int:
        if refusals:
            raise refusals.pop()
        return real(fd)

    before = open_here()
    with monkeypatch.context() as patched:
        patched.setattr(os, "dup", refuse)
        with pytest.raises(OSError, match="Too many"):
            spawn.spawn(sh("true", cwd=b"/", moves=[(5, pipe[1])]))
    assert open_here() == before


def test_a_directory_that_may_not_be_entered_is_an_error_with_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(path: object, mode: int) -> bool:
        return False

    monkeypatch.setattr(os, "access", refuse)  # who is root may enter all
    with pytest.raises(PermissionError) as caught:
        spawn.spawn(sh("true", cwd=os.fsencode(tmp_path)), lambda: None)
    assert caught.value.filename == str(tmp_path)


# ---------------------------------------------------------------------- behind a fork


def told_by(plan: SpawnPlan, tell: Callable[[], str], reader: int, writer: int) -> str:
    """Return what *tell* finds in the child, whose program is then given up."""

    def on_prepare() -> None:
        os.write(writer, tell().encode())
        raise SystemExit

    plan.moves += [(writer, writer), (2, os.open(os.devnull, os.O_WRONLY))]
    pid = spawn._fork(plan, on_prepare)
    os.close(plan.moves[-1][1])
    os.close(writer)
    with os.fdopen(os.dup(reader)) as file:
        said = file.read()
    assert status_of(pid) == 123 << 8
    return said


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("listing", [True, False])
def test_all_is_closed_before_on_prepare_also_where_the_system_lists_no_descriptors(
    listing: bool, monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    def refuse(path: object) -> list[str]:
        raise FileNotFoundError(path)

    extra = os.dup(0)
    if not listing:
        monkeypatch.setattr(os, "listdir", refuse)
        monkeypatch.setattr(os, "sysconf", lambda name: 256)
    tell = lambda: f"{is_open(extra)} {is_open(pipe[1])}"  # noqa: E731
    assert told_by(sh("true", close_all=True), tell, *pipe) == "False True"
    os.close(extra)


def test_the_group_is_new_before_on_prepare(pipe: tuple[int, int]) -> None:
    tell = lambda: str(os.getpgrp() == os.getpid())  # noqa: E731
    assert told_by(sh("true", new_group=True), tell, *pipe) == "True"


def test_on_prepare_finds_the_signals_as_the_program_will(pipe: tuple[int, int]) -> None:
    tell = lambda: str(signal.getsignal(signal.SIGPIPE) == signal.SIG_DFL)  # noqa: E731
    assert told_by(sh("true"), tell, *pipe) == "True"


def test_descriptors_that_came_for_us_are_not_inherited(pipe: tuple[int, int]) -> None:
    extra = os.dup(0)
    os.set_inheritable(extra, True)
    plan = sh("true")
    plan.passing.append(extra)
    assert told_by(plan, lambda: str(os.get_inheritable(extra)), *pipe) == "False"
    os.close(extra)


def test_a_child_that_cannot_give_our_handlers_up_ends_as_where_there_is_no_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(fd: int) -> int:
        raise ValueError(fd)

    monkeypatch.setattr(signal, "set_wakeup_fd", refuse)
    assert status_of(spawn._fork(sh("true"), None)) == 126 << 8
