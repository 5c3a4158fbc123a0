"""Inside the real WeeChat, without its screen (Debian's weechat-headless)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import binding
from ae_weechat import WeechatBackend

SCRIPTS = Path(__file__).parent / "scripts"
PROGRAM = shutil.which("weechat-headless")

Inside = Callable[..., Any]


def _python_of_weechat() -> str:
    """Return the version of Python that WeeChat's plugin has, as ``3.11``, or ""."""
    for folder in Path("/usr/lib").glob("*/weechat/plugins/python.so"):
        listed = subprocess.run(["ldd", folder], capture_output=True, text=True, check=False)
        for word in listed.stdout.split():
            if word.startswith("libpython"):
                return word.removeprefix("libpython").partition(".so")[0]
    return ""


@pytest.fixture
def inside(tmp_path: Path) -> Inside:
    """Return a function that runs one of the scripts in WeeChat, and gives what it has written."""
    if PROGRAM is None:
        pytest.skip("weechat-headless is not installed")
    ours = "{}.{}".format(*sys.version_info)
    if _python_of_weechat() != ours:
        pytest.skip(f"WeeChat has no Python {ours}, for which the packages are installed")

    def run(script: str, **settings: Any) -> Any:
        assert PROGRAM is not None
        autoload = tmp_path / "python" / "autoload"
        autoload.mkdir(parents=True)
        shutil.copy(SCRIPTS / script, autoload)
        out, log = tmp_path / "out", tmp_path / "log"
        site = str(Path(pytest.__file__).parents[1])
        settings |= {"site": site, "out": str(out), "log": str(log)}
        clean = {name: v for name, v in os.environ.items() if not name.startswith("AE_")}
        done = ae.run_cmd(
            ["timeout", "-s", "KILL", "100", PROGRAM, "-d", str(tmp_path)],
            env={**clean, "AE_WEECHAT_TEST": json.dumps(settings)},
            capture=True,
        )
        done.recv()
        said = log.read_text() if log.exists() else done.stdout
        assert out.exists(), said
        return json.loads(out.read_text())

    return run


def test_three_libraries_and_weechat_go_on_together(inside: Inside, tmp_path: Path) -> None:
    for name in ("ae_dns", "ae_http", "ae_redis"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    from ae_dns.testing import NameServer
    from ae_handle import Handle, serve

    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    path = tmp_path / "redis"
    command = [program, "--port", "0", "--unixsocket", str(path), "--save", ""]
    redis = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)

    async def answer(handle: Handle) -> None:
        async for line in handle.each("line"):
            if not line:
                handle.push_write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    try:
        with binding("loop"), NameServer(["www.weechat.test. 60 A 127.0.0.1"]) as names:
            served = serve("127.0.0.1", 0, answer)
            there = ae.timer(0, lambda: ready.send() if path.exists() else None, interval=0.01)
            ready: ae.CondVar[None] = ae.CondVar()
            ready.recv(timeout=30)
            there.cancel()
            seen = inside(
                "libraries.py",
                dns=names.endpoint,
                redis=f"unix://{path}",
                port=served.address[1],
            )
            served.cancel()
    finally:
        redis.kill()
        redis.wait()
    assert seen.pop("ticks") >= 5
    assert "would block" in seen.pop("blocking")
    assert "WeeChat runs this loop" in seen.pop("blocking at the end")
    assert seen == {
        "page": "hello",
        "addresses": ["127.0.0.1"],
        "redis": "by WeeChat",
        "thread": 3,
        "signal": "RuntimeError",
        "result": "done",
        "released": ["timer builtins.print"],
    }


@pytest.mark.skipif(find_spec("greenlet") is None, reason="greenlet is not installed")
def test_the_conformance_suite_inside_weechat(inside: Inside) -> None:
    with binding("loop"):
        results = inside("conformance.py")
    assert [each for each in results if each[2] == "failed"] == []
    assert sum(each[2] == "ok" for each in results) > 300
    reasons = {each[3] for each in results if each[2] == "skipped"}
    assert reasons == {
        "needs the main thread",  # signals: a script has an interpreter of its own
        "weechat is not run inside a callback",
        "weechat cannot be run turn by turn here",
        "the weechat loop may have work that it does not report",
        "says nothing about a coroutine program",
        "says nothing about a blocking program",
    }


def test_outside_of_weechat_it_says_so() -> None:
    with pytest.raises(ae.BackendUnavailable, match="scripts in WeeChat"):
        WeechatBackend(lambda: None)


def test_it_is_found_by_its_name() -> None:
    with binding(), pytest.raises(ae.BackendUnavailable, match="scripts in WeeChat"):
        ae.use("weechat")
        ae.timer(1, print)
