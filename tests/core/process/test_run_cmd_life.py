"""run_cmd: how programs start, fail, are cancelled and end; what is left of them."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

if not hasattr(os, "fork"):
    pytest.skip("POSIX only", allow_module_level=True)

import ae_core as ae
from ae_core._process import spawn
from ae_core._sources import children
from ae_core.testing import release

PATIENCE = 60.0  # a hang, not a measure


def run(*args: Any, **options: Any) -> int:
    return ae.run_cmd(*args, **options).recv(PATIENCE)


def test_it_is_not_ready_before_the_last_writer_is_gone() -> None:
    # the program itself ends at once; its child holds standard output until we let it go
    r, w = os.pipe()
    out = bytearray()
    process = ae.run_cmd("(read x; echo late) <&7 & echo early", stdout=out, fds={7: r})
    os.close(r)
    early = ae.CondVar[None]()
    looks: list[object] = []

    def look() -> None:
        if b"early" in out:
            early.send()

    looks.append(ae.timer(0.01, look, interval=0.01))
    early.recv(PATIENCE)
    looks.clear()
    wait_for_end(process.pid)
    assert not process.ready
    os.write(w, b"\n")
    os.close(w)
    assert process.recv(PATIENCE) == 0
    assert out == b"early\nlate\n"


def wait_for_end(pid: int) -> None:
    """Run the loop until *pid* was reaped."""
    gone = ae.CondVar[None]()

    def look() -> None:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            gone.send()

    watcher = ae.timer(0.0, look, interval=0.01)
    gone.recv(PATIENCE)
    watcher.cancel()


# ---------------------------------------------------------------------- failures


def test_what_cannot_be_started_is_an_error_with_the_name_of_it(tmp_path: Path) -> None:
    missing = tmp_path / "no" / "file"
    with pytest.raises(FileNotFoundError, match="ae-no-such-program"):
        run(["ae-no-such-program"])
    for options in (
        {"cwd": missing},
        {"stdin": missing},
        {"stdout": missing},
        {"fds": {9: (">", missing)}},
    ):
        with pytest.raises(FileNotFoundError) as caught:
            run(["true"], **options)
        assert os.fsdecode(caught.value.filename) == str(missing)
    (tmp_path / "data").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        run(["true"], cwd=tmp_path / "data")
    with pytest.raises(PermissionError):
        run([tmp_path / "data"])


def test_what_was_not_started_has_no_pid_and_ends_its_streams() -> None:
    pieces: list[bytes] = []
    process = ae.run_cmd(["ae-no-such-program"], stdin=b"x", stdout=pieces.append)
    assert not process.ready
    with pytest.raises(FileNotFoundError):
        process.recv(PATIENCE)
    assert process.pid is None
    assert process.exit_code is None
    assert pieces == [b""]


def test_no_descriptor_left_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> tuple[int, int]:
        raise OSError(errno.EMFILE, "Too many open files")

    run("true")  # the loop has what it needs
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patched:
        patched.setattr(os, "pipe", refuse)
        process = ae.run_cmd(["true"], stdout=bytearray())
    with pytest.raises(OSError, match="Too many"):
        process.recv(PATIENCE)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_program_that_somebody_else_reaped_has_an_unknown_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(core: object, pid: int, *args: object) -> None:
        os.waitpid(pid, 0)
        raise ChildProcessError(pid)

    with monkeypatch.context() as patched:
        patched.setattr(children, "watch_child", gone)
        out = bytearray()
        process = ae.run_cmd("echo text", stdout=out)
    assert not process.ready
    assert process.recv(PATIENCE) == 255 << 8
    assert out == b"text\n"


def test_a_loop_that_refuses_leaves_no_program_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise RuntimeError("no loop")

    run("true")  # the loop has what it needs
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patched:
        patched.setattr(children, "watch_child", refuse)
        with pytest.raises(RuntimeError, match="no loop"):
            ae.run_cmd(["sleep", "1000"], stdout=bytearray())
    deadline = time.monotonic() + PATIENCE
    while spawn.reap_abandoned() and time.monotonic() < deadline:
        continue
    assert spawn.reap_abandoned() == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_signal_is_never_sent_to_a_process_that_was_reaped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[int] = []
    process = ae.run_cmd(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    os.waitpid(process.pid, 0)  # by somebody else, before we are told
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append(pid))
    process.cancel()
    assert sent == []
    with pytest.raises(ae.Deadlock):  # the loop runs until nothing is left to do
        ae.CondVar[None]().recv()


def test_on_prepare_runs_in_the_child() -> None:
    out = bytearray()
    mine: list[str] = []

    def prepare() -> None:
        mine.append("ran")
        os.chdir("/")
        os.environ["IGNORED"] = "1"
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    assert run("kill -INT $$; pwd", on_prepare=prepare, stdout=out) == 0
    assert out == b"/\n"
    assert mine == []


def test_raising_on_prepare_is_123() -> None:
    err = bytearray()

    def fail() -> None:
        raise ValueError("not prepared")

    assert run(["true"], on_prepare=fail, stderr=err) == 123 << 8
    assert b"not prepared" in err


# ---------------------------------------------------------------------- surroundings


def test_directory_and_environment(tmp_path: Path) -> None:
    out = bytearray()
    status = run(
        [
            sys.executable,
            "-I",
            "-c",
            "import os; print(os.getcwd(), os.environ['A'], len(os.environ))",
        ],
        cwd=tmp_path,
        env={"A": "ä", b"B": b"\xff", "LC_ALL": "C.UTF-8"},
        stdout=out,
    )
    assert status == 0
    assert out.decode() == f"{tmp_path} ä 3\n"


def test_the_environment_is_ours_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AE_TEST_VARIABLE", "value")
    out = bytearray()
    assert run('echo "$AE_TEST_VARIABLE"', stdout=out) == 0
    assert out == b"value\n"


def test_close_all_closes_inheritable_descriptors() -> None:
    fd = os.dup(2)
    os.set_inheritable(fd, True)
    script = f"[ -e /dev/fd/{fd} ]"
    try:
        assert run(script) == 0
        assert run(script, close_all=True) == 256
        kept = bytearray()
        assert run("echo x >&9", close_all=True, fds={9: kept}) == 0
        assert kept == b"x\n"
    finally:
        os.close(fd)


def test_sigpipe_is_at_its_default() -> None:
    assert run("kill -PIPE $$") == signal.SIGPIPE


# ---------------------------------------------------------------------- cancelling


def test_cancel_terminates_the_program() -> None:
    process = ae.run_cmd(["sleep", "1000"], stdin=lambda: b"x", stdout=bytearray())
    process.cancel()
    assert process.ready
    assert process.cancelled
    with pytest.raises(ae.CancelledError):
        process.recv()
    wait_for_end(process.pid)
    process.cancel()


def test_cancel_kills_a_program_that_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    from ae_core._process import process as _process

    monkeypatch.setattr(_process, "PATIENCE", 0.05)
    ready = ae.CondVar[bytes]()
    process = ae.run_cmd("trap '' TERM; echo ready; while :; do sleep 0.1; done", stdout=ready)
    assert ready.recv(PATIENCE) == b"ready\n"
    process.cancel()
    wait_for_end(process.pid)


def test_cancel_of_an_ended_program_does_nothing() -> None:
    process = ae.run_cmd("exit 1")
    process.recv(PATIENCE)
    process.cancel()
    assert not process.cancelled
    assert process.recv() == 256


def test_cancel_inside_an_output_callback() -> None:
    pieces: list[bytes] = []

    def take(data: bytes) -> None:
        pieces.append(data)
        process.cancel()

    process = ae.run_cmd("echo one; sleep 1000", stdout=take)
    with pytest.raises(ae.CancelledError):
        process.recv(PATIENCE)
    assert pieces == [b"one\n"]
    wait_for_end(process.pid)


def test_a_waiter_that_times_out_does_not_cancel() -> None:
    r, w = os.pipe()
    process = ae.run_cmd("read x", stdin=r)
    os.close(r)
    with pytest.raises(TimeoutError):
        process.recv(0.01)
    assert not process.ready
    os.write(w, b"\n")
    os.close(w)
    assert process.recv(PATIENCE) == 0


# ---------------------------------------------------------------------- many, and leaks


def test_many_programs_at_once_all_have_their_own_status() -> None:
    outputs = [bytearray() for _ in range(60)]
    processes = [
        ae.run_cmd(f"echo {n}; exit {n % 7}", stdout=output) for n, output in enumerate(outputs)
    ]
    assert [process.recv(PATIENCE) for process in processes] == [n % 7 << 8 for n in range(60)]
    assert [int(output) for output in outputs] == list(range(60))


def test_every_thread_starts_its_own_programs() -> None:
    results: list[tuple[int, bytes, int]] = []

    def work(n: int) -> None:
        out = bytearray()
        status = run(f"echo {n}; exit {n}", stdout=out)
        results.append((status, bytes(out), ae.fork_call(abs, -n).recv(PATIENCE)))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(results) == [(n << 8, b"%d\n" % n, n) for n in range(4)]


def test_programs_of_asyncio_and_subprocess_are_left_to_them(unbound: None) -> None:
    import asyncio
    import subprocess

    async def main() -> list[int]:
        theirs = [await asyncio.create_subprocess_exec("sh", "-c", f"exit {n}") for n in (1, 2)]
        ours = [ae.run_cmd(f"exit {n}") for n in (3, 4)]
        plain = subprocess.Popen(["sh", "-c", "exit 5"])
        return [
            *[await process.wait() for process in theirs],
            *[await process >> 8 for process in ours],
            plain.wait(),
        ]

    assert asyncio.run(main()) == [1, 2, 3, 4, 5]


def test_nothing_stays_open() -> None:
    ae.detect()
    run("true")
    before = len(os.listdir("/proc/self/fd"))
    run(["cat"], stdin=b"x", stdout=bytearray(), stderr=bytearray(), fds={5: bytearray()})
    with pytest.raises(FileNotFoundError):
        run(["ae-no-such-program"], stdin=b"x", stdout=bytearray())
    process = ae.run_cmd(["sleep", "1000"], stdin=lambda: b"x", stdout=bytearray())
    process.cancel()
    wait_for_end(process.pid)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_loop_that_ends_lets_its_programs_go() -> None:
    out = bytearray()
    process = ae.run_cmd(["cat"], stdin=lambda: b"x", stdout=out)
    pid = process.pid
    release()
    del process  # the pipes are closed: cat ends
    deadline = time.monotonic() + PATIENCE
    while spawn.reap_abandoned() and time.monotonic() < deadline:
        continue
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_callbacks_run_in_the_callers_context() -> None:
    from contextvars import ContextVar

    variable = ContextVar("variable", default="outside")
    seen: list[str] = []
    token = variable.set("inside")
    process = ae.run_cmd("echo x", stdout=lambda data: seen.append(variable.get()))
    variable.reset(token)
    process.recv(PATIENCE)
    assert set(seen) == {"inside"}
