"""The streams of a program as handles."""

from __future__ import annotations

import os

import pytest

if os.name == "nt":
    pytest.skip("programs are given sockets on POSIX only", allow_module_level=True)

import ae_core as ae
from ae_core.abc import Backend
from ae_handle import Handle

LINES = 20_000


def test_a_dialogue_by_lines(backend: Backend) -> None:
    async def main() -> None:
        process = ae.run_cmd("while read line; do echo got $line; done; exit 7", streams=True)
        stdin, stdout, stderr = (Handle(sock) for sock in process.streams())
        async with stdin, stdout, stderr:
            for word in (b"one", b"two"):
                stdin.push_write(word + b"\n")
                assert await stdout.push_read("line") == b"got " + word
            stdin.push_shutdown()
            assert [line async for line in stdout.each("line")] == []
            assert [line async for line in stderr.each("line")] == []
            await process
            assert process.exit_code == 7

    ae.run(main())


def test_more_than_the_kernel_keeps_goes_through_it() -> None:
    async def main() -> None:
        process = ae.run_cmd(["cat"], stderr=2, streams=True)
        ends = process.streams()
        stdin, stdout = Handle(ends[0]), Handle(ends[1])
        async with stdin, stdout, ae.TaskGroup() as group:

            async def write() -> None:
                for number in range(LINES):
                    stdin.push_write(b"%060d\n" % number)
                    await stdin.drained()
                stdin.push_shutdown()

            group.spawn(write())
            numbers = [int(line) async for line in stdout.each("line")]
            assert numbers == list(range(LINES))
        assert await process == 0

    ae.run(main())


def test_a_program_that_does_not_read_its_input_is_no_error_of_its_output() -> None:
    async def main() -> None:
        process = ae.run_cmd("echo done", stderr=2, streams=True)
        ends = process.streams()
        stdin, stdout = Handle(ends[0]), Handle(ends[1])
        stdin.push_write(b"x" * 1_000_000)
        async with stdout:
            assert [line async for line in stdout.each("line")] == [b"done"]
        with pytest.raises(OSError, match=r"pipe|reset"):
            await stdin.drained()
        assert await process == 0

    ae.run(main())
