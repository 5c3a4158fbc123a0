"""run_cmd, fork_call and files on every backend."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

if not hasattr(os, "fork"):
    pytest.skip("POSIX only", allow_module_level=True)

import ae_core as ae
from ae_core import files
from ae_core.abc import Backend


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
        with pytest.raises(ProcessLookupError):
            while True:
                os.kill(process.pid, 0)
                await ae.sleep(0.01)

    ae.run(main())


def test_fork_call(backend: Backend) -> None:
    async def main() -> None:
        calls = [ae.fork_call(math.factorial, n) for n in range(4)]
        assert [await call for call in calls] == [1, 1, 2, 6]
        with pytest.raises(ae.ForkCallError):
            await ae.fork_call(os._exit, 1)

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
