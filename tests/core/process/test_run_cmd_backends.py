"""run_cmd, fork_call and files on every backend."""

from __future__ import annotations

import gc
import math
import os
from pathlib import Path
from typing import Any

import pytest

if not hasattr(os, "fork"):
    pytest.skip("POSIX only", allow_module_level=True)

from posix import _exit  # os._exit, where coverage has not put a function of its own

import ae_core as ae
from ae_core import files
from ae_core._detection.current import current_loop
from ae_core._process.spawn import reap_abandoned
from ae_core.abc import Backend
from ae_core.testing import release


async def gone(process: ae.Process) -> None:
    with pytest.raises(ProcessLookupError):
        while True:
            os.kill(process.pid, 0)
            await ae.sleep(0.01)


def test_run_cmd(backend: Backend) -> None:
    async def main() -> None:
        out, err = bytearray(), bytearray()
        status = await ae.run_cmd(
            "cat; echo err >&2; exit 3", stdin=b"x" * 200_000, stdout=out, stderr=err
        )
        assert (status, len(out), bytes(err)) == (768, 200_000, b"err\n")
        with pytest.raises(FileNotFoundError):
            await ae.run_cmd(["ae-no-such-program"])

    ae.run(main())


def test_run_cmd_with_callbacks_both_ways(backend: Backend) -> None:
    async def main() -> None:
        pieces = iter([b"aa", b"bb", b""])
        seen: list[bytes] = []
        assert await ae.run_cmd(["cat"], stdin=lambda: next(pieces), stdout=seen.append) == 0
        assert (b"".join(seen), seen[-1]) == (b"aabb", b"")

    ae.run(main())


def test_run_cmd_that_is_cancelled_is_reaped(backend: Backend) -> None:
    async def main() -> None:
        process = ae.run_cmd(["sleep", "1000"], stdout=bytearray())
        process.cancel()
        with pytest.raises(ae.CancelledError):
            await process
        await gone(process)

    ae.run(main())


def test_the_end_of_the_loop_closes_the_pipes_and_the_program_goes_on(backend: Backend) -> None:
    """Whoever keeps the result, and whatever else would leave them to the collector."""
    waits, go = os.pipe()
    ends, tells = os.pipe()
    script = "read _ <&4; cat >/dev/null; echo went on >&3"
    kept: list[ae.Process] = []
    streams: list[Any] = []

    async def main() -> None:
        process = ae.run_cmd(
            script, stdin=b"x" * 1_000_000, stdout=bytearray(), fds={3: tells, 4: waits}
        )
        kept.append(process)
        streams.extend(process._streams)
        await ae.sleep(0)

    gc.disable()
    try:
        ae.run(main())
        release()
        assert [stream.fd for stream in streams] == [-1, -1]
        assert not kept[0].ready
        streams.clear()
        kept.clear()
    finally:
        gc.enable()
    unreaped = reap_abandoned()
    for fd in (waits, tells, go):
        os.close(fd)
    with open(ends, "rb") as end:
        assert end.read() == b"went on\n"
    assert len(unreaped) == 1  # the result has gone too, without the collector
    os.waitpid(unreaped[0], 0)


def test_pipes_that_are_closed_leave_nothing_that_waits_for_the_end_of_the_loop(
    backend: Backend,
) -> None:
    async def main() -> None:
        ends = current_loop().ends
        before = len(ends)
        await ae.run_cmd(["cat"], stdin=b"x", stdout=bytearray())
        process = ae.run_cmd(["cat"], stdin=lambda: b"x", stdout=bytearray())
        process.cancel()
        with pytest.raises(FileNotFoundError):
            await ae.run_cmd(["ae-no-such-program"], stdin=b"x", stdout=bytearray())
        assert len(ends) == before
        await gone(process)

    ae.run(main())


def test_fork_call(backend: Backend) -> None:
    async def main() -> None:
        calls = [ae.fork_call(math.factorial, n) for n in range(4)]
        assert [await call for call in calls] == [1, 1, 2, 6]
        with pytest.raises(ae.ForkCallError):
            await ae.fork_call(_exit, 1)

    ae.run(main())


def test_files(backend: Backend, tmp_path: Path) -> None:
    async def main() -> None:
        fd = await files.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)
        written = [files.write(fd, b"%d," % n) for n in range(20)]
        await files.close(fd)
        assert sum([await count for count in written]) == 50
        assert len(await files.load(tmp_path / "file")) == 50
        with pytest.raises(FileNotFoundError):
            await files.load(tmp_path / "missing")

    ae.run(main())
