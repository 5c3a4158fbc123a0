"""The child's side of fork_call by itself: what it says on its socket, and how it ends."""

from __future__ import annotations

import marshal
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if not hasattr(os, "fork"):
    pytest.skip("POSIX only", allow_module_level=True)

MAIN = "from ae_core._fork_call import process_worker; "


class Peer:
    """The parent's end of a worker."""

    def __init__(self, code: str = "") -> None:
        self.sock, theirs = socket.socketpair()
        self.sock.settimeout(60)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", f"{MAIN}{code}process_worker.main(duplex=True)"],
                stdin=theirs.fileno(),
                stderr=subprocess.PIPE,
            )

    def send(
        self,
        call: bytes,
        *,
        directory: str | None = None,
        script: tuple[str, str] | None = None,
        files: dict[str, str] | None = None,
    ) -> None:
        place = (directory, 0o022, dict(os.environ))
        frame = marshal.dumps((place, call, script, files or {}))
        self.sock.sendall(struct.pack("<Q", len(frame)) + frame)

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.sock.recv(count - len(data))
            assert piece, "it has ended"
            data += piece
        return data

    def call(self, function: Any, *args: Any, **options: Any) -> tuple[Any, Any]:
        """Return the value, or what the failure says, of one call."""
        named = function if isinstance(function, bytes) else pickle.dumps((function, args))
        self.send(named, **options)
        assert self.read(1) == b"S"
        (size,) = struct.unpack("<Q", self.read(8))
        value, failure = marshal.loads(self.read(size))
        return None if value is None else pickle.loads(value), failure

    def ended(self) -> tuple[int, str]:
        self.sock.close()
        said = self.process.communicate(timeout=60)[1]
        return self.process.returncode, said.decode()


def by_name(module: str, name: str) -> bytes:
    """Return a call without arguments, as pickle writes it for a function of a module."""
    return b"c" + f"{module}\n{name}\n".encode() + b")\x86."


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    assert peer.ended() == (0, ""), "it ends when the parent closes its end"


def test_calls_are_answered_one_by_one(peer: Peer) -> None:
    assert peer.call(divmod, 7, 2) == ((3, 1), None)
    assert peer.call(abs, -3) == (3, None)
    value, (stage, name, text, _, portable) = peer.call(divmod, 1, 0)
    assert (value, stage, name) == (None, "function", "ZeroDivisionError")
    assert isinstance(pickle.loads(portable), ZeroDivisionError)
    assert "zero" in text


def test_a_call_finds_the_directory_that_it_names_and_the_next_one_too(
    peer: Peer, tmp_path: Path
) -> None:
    assert peer.call(os.getcwd, directory=str(tmp_path)) == (str(tmp_path), None)
    assert peer.call(os.chdir, "/", directory=str(tmp_path)) == (None, None)
    assert peer.call(os.getcwd, directory=str(tmp_path)) == (str(tmp_path), None)
    assert peer.call(os.putenv, "A", "1") == (None, None)


def test_an_environment_that_a_call_has_changed_is_that_of_the_parent_again(
    peer: Peer, tmp_path: Path
) -> None:
    file = tmp_path / "clears.py"
    file.write_text("import os\ndef clear():\n os.environ.clear()\n return len(os.environ)")
    assert peer.call(by_name("ae_test_clears", "clear"), files={"ae_test_clears": str(file)}) == (
        0,
        None,
    )
    assert peer.call(os.getenv, "PATH") == (os.environ["PATH"], None)


def test_a_worker_that_cannot_enter_the_directory_ends_without_taking_the_call(
    tmp_path: Path,
) -> None:
    peer = Peer()
    (tmp_path / "here").mkdir()
    peer.call(os.chdir, str(tmp_path / "here"))
    (tmp_path / "here").rmdir()  # where it is has no name any more
    peer.send(pickle.dumps((abs, (1,))), directory=str(tmp_path / "missing"))
    assert peer.sock.recv(1) == b""
    assert peer.ended() == (0, "")


@pytest.mark.parametrize("cut", [4, 20])
def test_a_parent_that_is_gone_in_the_middle_of_a_call_ends_it(cut: int) -> None:
    peer = Peer()
    frame = marshal.dumps((("/", 0, {}), pickle.dumps((abs, (1,))), None, {}))
    peer.sock.sendall((struct.pack("<Q", len(frame)) + frame)[:cut])
    assert peer.ended() == (0, "")


def test_a_worker_that_the_parent_has_forgotten_ends_by_itself() -> None:
    peer = Peer("process_worker.FORGOTTEN = 0.01; ")
    assert peer.sock.recv(1) == b""
    assert peer.ended() == (0, "")


@pytest.mark.parametrize(("code", "status"), [(None, 0), (3, 3), (True, 1), ("why", 1)])
def test_a_function_that_leaves_the_interpreter_ends_it_with_its_code(
    code: object, status: int
) -> None:
    peer = Peer()
    peer.send(pickle.dumps((sys.exit, (code,))))
    assert peer.read(1) == b"S"
    assert peer.sock.recv(1) == b""
    assert peer.ended() == (status, "why\n" if code == "why" else "")


def test_ctrl_c_ends_it_without_a_traceback() -> None:
    peer = Peer()
    peer.call(abs, 1)
    peer.process.send_signal(signal.SIGINT)
    assert peer.process.wait(60) == -signal.SIGINT
    assert peer.ended() == (-signal.SIGINT, "")


def test_a_standard_output_that_cannot_be_flushed_is_no_error() -> None:
    peer = Peer("import sys; sys.stdout.close(); ")
    assert peer.call(abs, -1) == (1, None)
    assert peer.ended() == (0, "")


# ---------------------------------------------------------------------- functions by name


def test_a_module_from_nowhere_is_loaded_from_its_file_with_its_packages(
    peer: Peer, tmp_path: Path
) -> None:
    file = tmp_path / "deep.py"
    file.write_text("def seven(): return 7\ndef package():\n import far.away.deep\n return 8")
    files = {"far.away.deep": str(file), "far.away.near": str(file)}
    assert peer.call(by_name("far.away.deep", "seven"), files=files) == (7, None)
    assert peer.call(by_name("far.away.near", "package"), files=files) == (8, None)


def failed(peer: Peer, *arguments: Any, **options: Any) -> tuple[str, str, str]:
    value, failure = peer.call(*arguments, **options)
    assert value is None
    stage, name, text, *_ = failure
    return stage, name, text


def test_a_module_that_cannot_be_had_is_told(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "needs.py").write_text("import ae_no_such_module")
    (tmp_path / "data.txt").write_text("")
    (tmp_path / "broken.py").write_text("raise SyntaxError('of a test')")
    files = {
        "ae_test_data": str(tmp_path / "data.txt"),
        "ae_test_broken": str(tmp_path / "broken.py"),
    }
    for module, error, text in (
        ("ae_no_such_module", "ModuleNotFoundError", "No module named 'ae_no_such_module'"),
        ("ae_test_data", "ModuleNotFoundError", "No module named 'ae_test_data'"),
        ("ae_test_broken", "SyntaxError", "of a test"),
        ("ae_test_broken", "SyntaxError", "of a test"),
    ):
        found = failed(peer, by_name(module, "f"), files=files)
        assert found == ("call", error, text)


def test_a_result_and_an_error_that_do_not_travel_are_described(peer: Peer, tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    file.write_text(
        "def result(): return lambda: 0\n"
        "class Shy(Exception):\n"
        "    def __str__(self): raise RuntimeError\n"
        "    def __reduce__(self): raise RuntimeError\n"
        "def shy(): raise Shy\n"
    )
    files = {"ae_test_odd": str(file)}
    assert failed(peer, by_name("ae_test_odd", "result"), files=files)[0] == "result"
    value, failure = peer.call(by_name("ae_test_odd", "shy"), files=files)
    assert (value, failure[:3]) == (None, ("function", "Shy", "(its str() failed)"))
    assert failure[4] is None


def test_a_script_runs_once_for_its_functions(peer: Peer, tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text("import os\nruns = [1]\ndef count():\n runs.append(1)\n return len(runs)\n")
    script = ("path", str(file))
    assert peer.call(by_name("__main__", "count"), script=script) == (2, None)
    assert peer.call(by_name("__mp_main__", "count"), script=script) == (3, None)


def test_pipes_serve_where_there_are_no_sockets() -> None:
    frame = marshal.dumps(
        ((None, 0o022, dict(os.environ)), pickle.dumps((print, ("x",))), None, {})
    )
    process = subprocess.Popen(
        [sys.executable, "-c", f"{MAIN}process_worker.main(duplex=False)"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = process.communicate(struct.pack("<Q", len(frame)) + frame, timeout=60)
    assert (out[:1], marshal.loads(out[9:])[1], err) == (b"S", None, b"x\n")
    assert process.returncode == 0
