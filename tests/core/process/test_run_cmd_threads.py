"""run_cmd and fork_call as on Windows, with threads; here they run everywhere."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
from ae_core._detection.current import current_loop
from ae_core._fork_call import call as _fork_call
from ae_core._fork_call import pool as _fork_pool
from ae_core._fork_call.thread_worker import ThreadWorker
from ae_core._process.redirect import parse_redirects
from ae_core._process.windows import start_with_threads
from ae_core.testing import release

PATIENCE = 60.0  # a hang, not a measure

ECHO = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read().upper())"
BOTH = "import os; os.write(1, b'one '); os.write(2, b'two '); os.write(1, b'three')"


def start(cmd: Any, cwd: Any = None, env: Any = None, **streams: Any) -> ae.Process:
    redirects = parse_redirects(
        streams.get("stdin"), streams.get("stdout"), streams.get("stderr"), streams.get("fds")
    )
    process = ae.Process()
    start_with_threads(process, cmd, redirects, cwd, env, streams.get("on_prepare"))
    assert not process.ready
    return process


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_status_and_streams() -> None:
    out, err = bytearray(), bytearray()
    assert start(python(ECHO), stdin=b"x" * 200_000, stdout=out).recv(PATIENCE) == 0
    assert out == b"X" * 200_000
    out.clear()
    assert start(python(BOTH), stdout=out, stderr=err).recv(PATIENCE) == 0
    assert (bytes(out), bytes(err)) == (b"one three", b"two ")
    assert start(python("raise SystemExit(3)")).recv(PATIENCE) == 768


def test_command_line_for_the_shell() -> None:
    assert start("exit 3").recv(PATIENCE) == 768


def test_pid() -> None:
    out = bytearray()
    process = start(python("import os; print(os.getpid())"), stdout=out)
    process.recv(PATIENCE)
    assert int(out) == process.pid


def test_one_buffer_for_both() -> None:
    both = bytearray()
    assert start(python(BOTH), stdout=both, stderr=both).recv(PATIENCE) == 0
    assert both == b"one two three"


def test_callbacks_both_ways() -> None:
    given = iter([b"aa", b"bb", b""])
    seen: list[bytes] = []
    ready: list[bool] = []

    def take(data: bytes) -> None:
        seen.append(data)
        ready.append(process.ready)

    process = start(python(ECHO), stdin=lambda: next(given), stdout=take)
    assert process.recv(PATIENCE) == 0
    assert b"".join(seen) == b"AABB"
    assert [data for data in seen if not data] == [b""] == seen[-1:]
    assert not any(ready)


def test_raising_callbacks_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[str] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: errors.append(str(error)))

    def fail(*data: bytes) -> bytes:
        raise ValueError("in" if not data else "out")

    assert start(python(ECHO), stdin=fail, stdout=fail).recv(PATIENCE) == 0
    assert errors == ["in", "out"]


def test_a_program_that_does_not_read() -> None:
    assert start(python("pass"), stdin=b"x" * (1 << 20)).recv(PATIENCE) == 0
    assert start(python("pass"), stdin=lambda: b"x" * 65536).recv(PATIENCE) == 0


def test_files(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"content")
    process = start(python(ECHO), stdin=tmp_path / "in", stdout=tmp_path / "out")
    assert process.recv(PATIENCE) == 0
    assert (tmp_path / "out").read_bytes() == b"CONTENT"
    with open(tmp_path / "more", "wb") as file:
        assert start(python(BOTH), stdout=file, stderr=file).recv(PATIENCE) == 0
    assert (tmp_path / "more").read_bytes() == b"one two three"


def test_what_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    seen: list[bytes] = []
    with pytest.raises(FileNotFoundError):
        start(["ae-no-such-program"], stdout=seen.append).recv(PATIENCE)
    assert seen == [b""]
    missing = tmp_path / "no" / "file"
    with pytest.raises(FileNotFoundError):
        start(python("pass"), stdout=missing).recv(PATIENCE)


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(ValueError, match="0, 1 and 2 only"):
        start(python("pass"), fds={3: bytearray()})
    with pytest.raises(ValueError, match="needs fork"):
        start(python("pass"), on_prepare=print)


def test_cancel_ends_the_program() -> None:
    seen: list[bytes] = []
    process = start(
        python("import time; print('x', flush=True); time.sleep(1000)"),
        stdin=lambda: b"x",
        stdout=seen.append,
    )
    process.cancel()
    with pytest.raises(ae.CancelledError):
        process.recv()
    with pytest.raises(ae.Deadlock):  # the loop runs until nothing is left to do
        ae.CondVar[None]().recv()
    if os.name == "posix":
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)


# ---------------------------------------------------------------------- fork_call


@pytest.fixture
def with_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fork_call, "_make_worker", lambda: ThreadWorker)


def test_fork_call(with_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AE_MAX_FORKS", "2")
    calls = [ae.fork_call(math.factorial, n) for n in range(5)]
    assert [call.recv(PATIENCE) for call in calls] == [1, 1, 2, 6, 24]


def test_fork_call_that_fails(with_threads: None) -> None:
    with pytest.raises(ValueError, match=r"math domain error|nonnegative input"):
        ae.fork_call(math.sqrt, -1).recv(PATIENCE)
    with pytest.raises(ae.ForkCallError) as caught:
        # os._exit, where coverage has not put a function of its own
        ae.fork_call(import_module(os.name)._exit, 3).recv(PATIENCE)
    assert caught.value.status == 768


def test_fork_call_that_prints(with_threads: None, capfd: pytest.CaptureFixture[str]) -> None:
    assert ae.fork_call(print, "text").recv(PATIENCE) is None
    assert "text" in capfd.readouterr().err  # its standard output carries the answer


def test_fork_call_that_is_cancelled(with_threads: None) -> None:
    call = ae.fork_call(time.sleep, 1000)
    call.cancel()
    assert ae.fork_call(math.factorial, 3).recv(PATIENCE) == 6
    pool = _fork_pool.pool_of(current_loop())
    while pool.busy:
        ae.detect().poll(True)


def test_fork_call_whose_loop_ends(with_threads: None) -> None:
    call = ae.fork_call(time.sleep, 1000)
    release()
    for thread in threading.enumerate():
        if thread.name == "ae-core-fork-call":
            thread.join(PATIENCE)  # its process was ended
            assert not thread.is_alive()
    assert not call.ready


@pytest.mark.skipif(os.name != "nt", reason="elsewhere the public functions do without threads")
def test_it_is_what_the_public_functions_do_on_windows(tmp_path: Path) -> None:
    out = bytearray()
    program = python(ECHO + "; sys.exit(3)")
    process = ae.run_cmd(program, stdin=b"data", stdout=out, stderr=tmp_path / "errors")
    assert process.recv(PATIENCE) == 768
    assert out == b"DATA"
    assert (tmp_path / "errors").read_bytes() == b""
    calls = [ae.fork_call(math.factorial, n) for n in range(3)]
    assert [call.recv(PATIENCE) for call in calls] == [1, 1, 2]
    cancelled = ae.run_cmd(python("import time; time.sleep(1000)"))
    cancelled.cancel()
    with pytest.raises(ae.Deadlock):  # the loop runs until nothing is left to do
        ae.CondVar[None]().recv()
