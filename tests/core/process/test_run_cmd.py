"""run_cmd: a program, its streams, its status."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

if not hasattr(os, "fork"):
    pytest.skip("POSIX only", allow_module_level=True)

import ae_core as ae

PATIENCE = 60.0  # a hang, not a measure


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    seen: list[BaseException] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: seen.append(error))
    return seen


def run(*args: Any, **options: Any) -> int:
    return ae.run_cmd(*args, **options).recv(PATIENCE)


# ---------------------------------------------------------------------- result


def test_value_is_the_raw_wait_status() -> None:
    assert run("exit 3") == 3 << 8
    assert run(["true"]) == 0
    assert run("kill -9 $$") == 9


def test_it_is_a_condvar_and_not_ready_before_the_call_returns() -> None:
    process = ae.run_cmd(["true"])
    assert isinstance(process, ae.CondVar)
    assert isinstance(process, ae.Process)
    assert not process.ready
    assert process.recv(PATIENCE) == 0
    assert process.ready


def test_it_can_be_awaited() -> None:
    async def main() -> int:
        return await ae.run_cmd("exit 1")

    assert ae.run(main()) == 256


def test_forgetting_it_changes_nothing(tmp_path: Path) -> None:
    done = ae.CondVar[int]()
    ae.run_cmd(f"echo x > {tmp_path}/file").on_ready(lambda process: done.send(process.recv()))
    assert done.recv(PATIENCE) == 0
    assert (tmp_path / "file").read_text() == "x\n"


def test_pid_is_the_programs() -> None:
    out = bytearray()
    process = ae.run_cmd("echo $$", stdout=out)
    pid = process.pid
    process.recv(PATIENCE)
    assert int(out) == pid == process.pid


def test_streams_status_and_both_texts() -> None:
    out, err = bytearray(), bytearray()
    status = run("cat; echo problem >&2; exit 3", stdin=b"text", stdout=out, stderr=err)
    assert (status, bytes(out), bytes(err)) == (768, b"text", b"problem\n")


# ---------------------------------------------------------------------- input


def test_input_data_of_every_bytes_like_kind() -> None:
    for data in (b"abc", bytearray(b"abc"), memoryview(b"xabc")[1:]):
        out = bytearray()
        assert run(["cat"], stdin=data, stdout=out) == 0
        assert out == b"abc"


def test_empty_input_is_an_end_of_file() -> None:
    assert run('read x; [ "$?" = 1 ]', stdin=b"") == 0


def test_a_megabyte_goes_through_both_ways() -> None:
    data = os.urandom(1 << 20)
    out = bytearray()
    assert run(["cat"], stdin=data, stdout=out) == 0
    assert out == data


def test_input_callback_is_asked_until_it_gives_nothing() -> None:
    pieces = iter([b"aa", b"bb", b""])
    out = bytearray()
    asked: list[bytes] = []

    def more() -> bytes:
        asked.append(next(pieces))
        return asked[-1]

    process = ae.run_cmd(["cat"], stdin=more, stdout=out)
    assert asked == []
    assert process.recv(PATIENCE) == 0
    assert out == b"aabb"
    assert asked == [b"aa", b"bb", b""]


def test_a_program_that_does_not_read_ends_the_stream_only() -> None:
    assert run(["true"], stdin=b"x" * (1 << 20)) == 0
    assert run("exec <&-; exit 4", stdin=lambda: b"endless") == 4 << 8


def test_raising_input_callback_is_reported_and_ends_the_input(
    errors: list[BaseException],
) -> None:
    error = ValueError("x")

    def fail() -> bytes:
        raise error

    out = bytearray()
    assert run("cat; echo end", stdin=fail, stdout=out) == 0
    assert out == b"end\n"
    assert errors == [error]


def test_input_callback_without_bytes_is_reported(errors: list[BaseException]) -> None:
    assert run(["cat"], stdin=lambda: "text") == 0
    assert [type(error) for error in errors] == [TypeError]
    assert "'text'" in str(errors[0])


def test_input_from_a_file_name(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"content")
    for name in (tmp_path / "in", ("<", tmp_path / "in"), ("<", str(tmp_path / "in"))):
        out = bytearray()
        assert run(["cat"], stdin=name, stdout=out) == 0
        assert out == b"content"


def test_input_from_an_object_with_fileno_is_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"one\ntwo\n")
    out = bytearray()
    with open(tmp_path / "in", "rb", buffering=0) as file:
        file.seek(4)
        assert run(["cat"], stdin=file, stdout=out) == 0
        assert not file.closed
        assert run(["true"], stdin=file.fileno()) == 0
    assert out == b"two\n"


# ---------------------------------------------------------------------- output


def test_output_is_appended_to_a_bytearray() -> None:
    out = bytearray(b"before ")
    assert run("echo after", stdout=out) == 0
    assert out == b"before after\n"


def test_one_buffer_for_two_numbers_keeps_the_programs_order() -> None:
    both = bytearray()
    script = "i=0; while [ $i -lt 50 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done"
    assert run(script, stdout=both, stderr=both) == 0
    assert both.decode().split() == [f"{kind}{i}" for i in range(50) for kind in "oe"]


def test_output_callback_gets_pieces_and_one_end() -> None:
    pieces: list[bytes] = []
    ready: list[bool] = []

    def take(data: bytes) -> None:
        pieces.append(data)
        ready.append(process.ready)

    process = ae.run_cmd("echo one; echo two", stdout=take)
    assert process.recv(PATIENCE) == 0
    assert b"".join(pieces) == b"one\ntwo\n"
    assert [piece for piece in pieces if not piece] == [b""] == pieces[-1:]
    assert not any(ready)


def test_raising_output_callback_is_reported_and_emptying_goes_on(
    errors: list[BaseException],
) -> None:
    pieces: list[bytes] = []

    def take(data: bytes) -> None:
        pieces.append(data)
        raise ValueError(len(pieces))

    assert run(["cat"], stdin=b"x" * 300_000, stdout=take) == 0
    assert sum(map(len, pieces)) == 300_000
    assert pieces.count(b"") == 1
    assert len(errors) == len(pieces)


def test_output_to_a_file_name_truncates_it(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"something longer than that")
    assert run("echo new", stdout=tmp_path / "out") == 0
    assert (tmp_path / "out").read_bytes() == b"new\n"
    assert run("echo err >&2", stderr=str(tmp_path / "err")) == 0
    assert (tmp_path / "err").read_bytes() == b"err\n"


def test_output_to_an_object_with_fileno() -> None:
    with tempfile.TemporaryFile() as file:
        assert run("echo text", stdout=file) == 0
        file.seek(0)
        assert file.read() == b"text\n"


# ---------------------------------------------------------------------- numbers


def test_other_numbers() -> None:
    three = bytearray()
    pieces: list[bytes] = []
    asked = iter([b"from a callback", b""])
    status = run(
        "echo three >&3; cat <&4 >&5; cat <&6 >&5",
        fds={3: three, 4: b"bytes ", 5: (">", pieces.append), 6: ("<", lambda: next(asked))},
    )
    assert status == 0
    assert three == b"three\n"
    assert b"".join(pieces) == b"bytes from a callback"


def test_numbers_with_names_and_descriptors(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"content")
    with tempfile.TemporaryFile() as file:
        fds = {
            3: ("<", tmp_path / "in"),
            4: (">", str(tmp_path / "out")),
            5: file,
            6: file.fileno(),
        }
        assert run("cat <&3 >&4; echo five >&5; echo six >&6", fds=fds) == 0
        file.seek(0)
        assert file.read() == b"five\nsix\n"
    assert (tmp_path / "out").read_bytes() == b"content"


def test_swapped_numbers() -> None:
    (r1, w1), (r2, w2) = os.pipe(), os.pipe()
    assert run(f"echo 1 >/dev/fd/{w1}; echo 2 >/dev/fd/{w2}", fds={w1: w2, w2: w1}) == 0
    os.close(w1)
    os.close(w2)
    with os.fdopen(r1) as one, os.fdopen(r2) as two:
        assert (one.read(), two.read()) == ("2\n", "1\n")


def test_the_programs_numbers_do_not_disturb_ours() -> None:
    # they are certainly in use here: by the loop, the pipes of this very call, the test runner
    out = {n: bytearray() for n in range(3, 10)}
    script = "; ".join(f"echo {n} >&{n}" for n in out)
    assert run(script, fds=out) == 0
    assert [bytes(buffer) for buffer in out.values()] == [b"%d\n" % n for n in out]


# ---------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((b"true",), {}, TypeError, "sequence of arguments"),
        ((3,), {}, TypeError, "got 3"),
        (([],), {}, ValueError, "empty"),
        (([3],), {}, TypeError, "got 3"),
        (("a\0b",), {}, ValueError, "null character"),
        ((["true", "a\0b"],), {}, ValueError, "null character"),
        (("true",), {"stdin": 3.5}, TypeError, "stdin"),
        (("true",), {"stdin": True}, TypeError, "True"),
        (("true",), {"stdin": -3}, ValueError, "-3"),
        (("true",), {"stdout": b"name"}, TypeError, "stdout"),
        (("true",), {"stdout": "a\0b"}, ValueError, "null character"),
        (("true",), {"stderr": object()}, TypeError, "stderr"),
        (("true",), {"fds": [1]}, TypeError, "mapping"),
        (("true",), {"fds": {"1": 1}}, TypeError, "'1'"),
        (("true",), {"fds": {-1: 1}}, ValueError, "-1"),
        (("true",), {"fds": {3: "name"}}, TypeError, "direction"),
        (("true",), {"fds": {3: print}}, TypeError, "direction"),
        (("true",), {"fds": {3: ("r", "name")}}, ValueError, "'r'"),
        (("true",), {"fds": {3: 4.5}}, TypeError, "4.5"),
        (("true",), {"stdout": 2, "fds": {1: 2}}, ValueError, "twice"),
        (("true",), {"cwd": 3}, TypeError, "cwd"),
        (("true",), {"env": ["A=1"]}, TypeError, "env"),
        (("true",), {"env": {"A=": "1"}}, ValueError, "A="),
        (("true",), {"env": {"A": 1}}, TypeError, "env"),
        (("true",), {"on_prepare": 1}, TypeError, "on_prepare"),
    ],
)
def test_bad_arguments_are_refused_at_once(
    arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        ae.run_cmd(*arguments, **options)
    assert text in str(caught.value)


def test_an_object_without_a_real_descriptor_is_refused() -> None:
    import io

    with pytest.raises(ValueError, match="no descriptor"):
        ae.run_cmd("true", stdin=io.BytesIO(b"x"))
