"""What people expect of a function that runs a program: output, checks, limits, groups."""

from __future__ import annotations

import subprocess

import pytest

import ae_core as ae

PATIENCE = 60.0


def test_its_output_can_be_captured() -> None:
    process = ae.run_cmd("echo out; echo err >&2; exit 3", capture=True)
    assert (process.exit_code, process.stdout, process.stderr) == (None, None, None)
    assert process.recv(PATIENCE) == 768
    assert (process.exit_code, process.stdout, process.stderr) == (3, b"out\n", b"err\n")
    with pytest.raises(ValueError, match="redirected already"):
        ae.run_cmd("true", capture=True, stdout=bytearray())


def test_the_exit_code_of_a_program_that_a_signal_ended_is_negative() -> None:
    process = ae.run_cmd("kill -9 $$")
    process.recv(PATIENCE)
    assert process.exit_code == -9


def test_a_program_that_fails_is_an_error_if_asked_for() -> None:
    assert ae.run_cmd("true", check=True).recv(PATIENCE) == 0
    with pytest.raises(subprocess.CalledProcessError) as caught:
        ae.run_cmd("echo why; exit 3", check=True, capture=True).recv(PATIENCE)
    assert (caught.value.returncode, caught.value.output) == (3, b"why\n")
    assert caught.value.cmd == "echo why; exit 3"


def test_a_program_that_takes_too_long_is_ended() -> None:
    ended: ae.CondVar[int] = ae.CondVar()
    process = ae.run_cmd("echo begun; exec sleep 60", capture=True, timeout=0.3)
    watcher = ae.child(process.pid, lambda _, status: ended.send(status))
    with pytest.raises(TimeoutError) as caught:
        process.recv(PATIENCE)
    assert isinstance(caught.value, subprocess.TimeoutExpired)
    assert caught.value.cmd == "echo begun; exec sleep 60"
    assert caught.value.output in (b"begun\n", b"")
    assert ended.recv(PATIENCE) == 15
    watcher.cancel()
    assert ae.run_cmd("true", timeout=60).recv(PATIENCE) == 0
    with pytest.raises(ValueError, match="0 s or more"):
        ae.run_cmd("true", timeout=-1)


@pytest.mark.parametrize(
    "options", [{}, {"cwd": "/"}, {"cwd": "/", "fds": {5: b""}}, {"on_prepare": int}]
)
def test_a_group_is_ended_as_a_whole(options: dict[str, object]) -> None:
    pieces = bytearray()
    begun: ae.CondVar[None] = ae.CondVar()
    over: ae.CondVar[None] = ae.CondVar()

    def read(data: bytes) -> None:
        pieces.extend(data)
        if b"begun" in pieces and not begun.ready:
            begun.send()

    # the grandchild holds a pipe of its own open, which ends with it
    import os

    reader, writer = os.pipe()
    process = ae.run_cmd(
        ["/bin/sh", "-c", "sleep 60 & echo begun; wait"],
        stdout=read,
        stderr=writer,
        new_group=True,
        **options,  # type: ignore[arg-type]
    )
    os.close(writer)
    begun.recv(PATIENCE)
    ended: ae.CondVar[None] = ae.CondVar()
    child = ae.child(process.pid, lambda *_: ended.send())
    watcher = ae.io(reader, "r", over.send)
    process.cancel()
    over.recv(PATIENCE)  # the end of the pipe: nobody holds it any more
    watcher.cancel()
    ended.recv(PATIENCE)
    child.cancel()
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_a_text_for_stdin_is_refused_with_what_to_write() -> None:
    with pytest.raises(TypeError, match=r"expected bytes, or \(\"<\", 'hello'\)"):
        ae.run_cmd("cat", stdin="hello")
