"""The pytest plugins of all packages together: what they cost the others, and their fakes."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ("ae_core_pytest", "ae_socket_pytest", "ae_handle_pytest")
#: What all of them may take of a pytest run that does not use them, of the processor.
MOST_SECONDS = 0.002


def test_each_plugin_is_an_entry_point_and_in_its_wheel() -> None:
    for plugin in PLUGINS:
        folder = ROOT / "packages" / plugin.removesuffix("_pytest").replace("_", "-")
        with (folder / "pyproject.toml").open("rb") as file:
            told = tomllib.load(file)
        assert told["project"]["entry-points"]["pytest11"] == {plugin: plugin}
        assert f"src/{plugin}.py" in told["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def test_loading_the_plugins_takes_less_than_two_milliseconds_and_loads_nothing(
    script: Callable[..., str], record_property: Callable[[str, object], None], tmp_path: Path
) -> None:
    """Processor's time, the least of many: what else the machine does makes it only longer.

    Compiled, as installers leave it.
    """
    code = f"""
        import importlib, sys, time
        import pytest
        plugins = {PLUGINS}
        old = set(sys.modules)
        for plugin in plugins:
            importlib.import_module(plugin)
        new = set(sys.modules) - old - set(plugins)
        least = 1.0
        for _ in range(50):
            for plugin in plugins:
                del sys.modules[plugin]
            start = time.process_time()
            for plugin in plugins:
                importlib.import_module(plugin)
            least = min(least, time.process_time() - start)
        print(least, *new)
    """
    cache = str(tmp_path / "cache")
    out = script(code, PYTHONDONTWRITEBYTECODE="", PYTHONPYCACHEPREFIX=cache)
    seconds, *loaded = out.split()
    record_property("milliseconds", float(seconds) * 1000)
    assert loaded == []
    assert float(seconds) < MOST_SECONDS


def run(folder: Path, code: str, *arguments: str) -> str:
    (folder / "test_it.py").write_text(dedent(code))
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    plugins = [word for plugin in PLUGINS[1:] for word in ("-p", plugin)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *plugins, *arguments],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def test_the_fakes_work_on_every_loop_and_end_with_the_test(tmp_path: Path) -> None:
    code = """
        import ae_core as ae
        import ae_socket
        import pytest
        from ae_handle import Handle
        from ae_handle.testing import ScriptedPeer

        real = ae_socket.tcp_connect

        @pytest.mark.ae(loops=["loop", "asyncio", "trio"])
        async def test_network(ae_network):
            ae_network.add("mail.test", "smtp", ScriptedPeer().send(b"hello\\n"))
            async with ae.timeout(10), Handle(connect=("mail.test", "smtp")) as handle:
                assert await handle.push_read("line") == b"hello"

        @pytest.mark.ae(loops=["loop", "asyncio", "trio"])
        async def test_resolver(ae_resolver):
            ae_resolver.names["mail.test"] = ["192.0.2.1"]
            infos = await ae_socket.resolve("mail.test", 25)
            assert infos[0].sockaddr == ("192.0.2.1", 25)
            assert [host for host, *_ in ae_resolver.questions] == ["mail.test"]

        def test_in_virtual_time(ae_virtual_time, ae_network):
            ae_network.add("silent.test", 25, None)
            with pytest.raises(TimeoutError):
                Handle(connect=("silent.test", 25), connect_timeout=3600).push_read("line").recv()
            assert ae_virtual_time.elapsed == 3600

        def test_without():
            assert ae_socket.tcp_connect is real

        @pytest.mark.ae
        async def test_names_are_the_systems_again():
            with pytest.raises(OSError):
                await ae_socket.resolve("mail.invalid", 25)
    """
    assert "9 passed" in run(tmp_path, code), run(tmp_path, code)
