"""The pytest plugin, run by pytest in a process of its own, also beside its neighbours."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import pytest

BARE = ("-v", "-p", "no:cacheprovider", "-p", "ae_core_pytest")
NEIGHBOURS = ("anyio", "pytest_asyncio", "pytest_trio")


class Run:
    """What pytest said of a test file."""

    def __init__(self, folder: Path, code: str, *arguments: str, ini: str = "") -> None:
        (folder / "test_it.py").write_text(dedent(code))
        (folder / "pytest.ini").write_text(f"[pytest]\nfilterwarnings = error\n{ini}")
        command = [sys.executable, "-m", "pytest", *BARE]
        done = subprocess.run(
            [*command, *arguments],
            cwd=folder,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.status = done.returncode
        self.text = done.stdout
        self.passed = sorted(
            line.split("::", 1)[1].split(" ")[0]
            for line in done.stdout.splitlines()
            if " PASSED " in line
        )


def test_a_marked_coroutine_runs_on_each_chosen_loop(tmp_path: Path) -> None:
    code = """
        import ae_core as ae
        import pytest

        @pytest.mark.ae
        async def test_waits():
            await ae.sleep(0.001)

        @pytest.mark.ae(loops=["asyncio"])
        async def test_asyncio_only():
            import asyncio
            await asyncio.sleep(0)
            assert ae.detect().name == "asyncio"
    """
    run = Run(tmp_path, code, ini="ae_loops = loop asyncio")
    assert run.passed == ["test_asyncio_only[asyncio]", "test_waits[asyncio]", "test_waits[loop]"]
    assert run.status == 0, run.text


def test_the_option_goes_before_the_ini_and_before_the_mark(tmp_path: Path) -> None:
    code = """
        import pytest

        @pytest.mark.ae(loops=["asyncio"])
        async def test_it(ae_loop):
            assert ae_loop.statistics()["multiplexer"] == "select"
    """
    run = Run(tmp_path, code, "--ae-loops=loop-select")
    assert run.passed == ["test_it[loop-select]"], run.text


def test_an_unmarked_coroutine_is_ours_in_the_mode_auto_only(tmp_path: Path) -> None:
    code = """
        class TestGroup:
            async def test_it(self, tmp_path, ae_loop):
                assert tmp_path.is_dir()
                assert ae_loop.name == "loop"
    """
    assert Run(tmp_path, code).passed == []
    run = Run(tmp_path, code, ini="ae_mode = auto")
    assert run.passed == ["TestGroup::test_it[loop]"], run.text


def test_a_plain_function_gets_the_loop_and_may_wait(tmp_path: Path) -> None:
    code = """
        import ae_core as ae

        def test_it(ae_loop):
            ae.sleep(0.001).recv()
            assert ae.detect() is ae_loop

        def test_without():
            pass
    """
    run = Run(tmp_path, code, ini="ae_loops = loop trio asyncio")
    assert run.passed == ["test_it[asyncio]", "test_it[loop]", "test_without"], run.text


@pytest.mark.skipif(find_spec("trio") is None, reason="trio is not installed")
def test_a_coroutine_runs_in_trio_as_in_a_run_of_trios(tmp_path: Path) -> None:
    code = """
        import ae_core as ae

        async def test_it(ae_loop):
            import trio
            await trio.sleep(0)
            await ae.sleep(0)
    """
    run = Run(tmp_path, code, "--ae-loops=trio", ini="ae_mode = auto")
    assert run.passed == ["test_it[trio]"], run.text


@pytest.mark.parametrize(
    ("leaves", "names"),
    [
        ("KEPT.append(ae.timer(60, print))", "left behind: timer "),
        ("KEPT.append(socket.socket())", "left behind: descriptor"),
    ],
)
def test_what_a_test_leaves_behind_is_its_failure(leaves: str, names: str, tmp_path: Path) -> None:
    code = f"""
        import socket
        import ae_core as ae
        import pytest

        KEPT = []

        def test_it(ae_loop):
            {leaves}

        @pytest.mark.ae(leaks="ignore")
        def test_allowed(ae_loop):
            {leaves}
    """
    run = Run(tmp_path, code)
    assert names in run.text
    assert "test_it.py::test_it[loop] ERROR" in run.text
    assert "test_it.py::test_allowed[loop] ERROR" not in run.text
    assert " 1 error" in run.text


def test_what_a_test_leaves_behind_may_be_ignored_for_all(tmp_path: Path) -> None:
    code = """
        import ae_core as ae

        def test_it(ae_loop):
            global kept
            kept = ae.timer(60, print)
    """
    assert Run(tmp_path, code, ini="ae_leaks = ignore").status == 0


def test_an_error_in_a_callback_that_nobody_hears_of_is_a_failure(tmp_path: Path) -> None:
    code = """
        import ae_core as ae

        def test_it(ae_loop):
            ae.postpone(lambda: 1 / 0)
            ae.sleep(0).recv()

        def test_looked_at(ae_loop, ae_errors):
            ae.postpone(lambda: 1 / 0)
            ae.sleep(0).recv()
            assert [type(error) for error in ae_errors] == [ZeroDivisionError]
    """
    run = Run(tmp_path, code)
    assert "test_it.py::test_it[loop] ERROR" in run.text
    assert "raised in callbacks, and not handled" in run.text
    assert " 2 passed, 1 error" in run.text


def test_a_failing_test_is_one_failure_and_the_next_begins_afresh(tmp_path: Path) -> None:
    code = """
        import ae_core as ae
        import pytest

        @pytest.mark.ae
        async def test_fails():
            keep = ae.timer(60, print)
            raise ValueError("by the test")

        @pytest.mark.ae
        async def test_next():
            await ae.sleep(0)
    """
    run = Run(tmp_path, code)
    assert "ValueError: by the test" in run.text
    assert " 1 failed, 1 passed in" in run.text


def test_virtual_time_passes_an_hour_in_no_time(tmp_path: Path) -> None:
    code = """
        import time
        import ae_core as ae
        import pytest

        @pytest.mark.ae
        async def test_it(ae_virtual_time):
            start = time.monotonic()
            await ae.sleep(3600)
            assert ae_virtual_time.elapsed == 3600
            assert time.monotonic() - start < 600

        def test_plain(ae_virtual_time):
            ae.sleep(60).recv()
    """
    run = Run(tmp_path, code, ini="ae_loops = asyncio loop")
    assert run.passed == ["test_it[virtual]", "test_plain[virtual]"], run.text


def test_async_fixtures_of_our_tests_run_on_their_loop(tmp_path: Path) -> None:
    code = """
        import ae_core as ae
        import pytest

        events = []

        @pytest.fixture
        async def number():
            await ae.sleep(0)
            return 1

        @pytest.fixture
        async def resource(ae_loop, number):
            await ae.sleep(0)
            yield [number]
            await ae.sleep(0)
            events.append("closed")

        @pytest.mark.ae
        async def test_it(resource):
            assert resource == [1]

        class TestMethod:
            @pytest.fixture
            async def own(self):
                return self

            @pytest.mark.ae
            async def test_own(self, own):
                assert type(own) is TestMethod

        def test_closed():
            assert events == ["closed"]
    """
    run = Run(tmp_path, code)
    assert run.status == 0, run.text
    assert " 3 passed" in run.text


def test_an_async_fixture_on_a_loop_that_ends_with_each_run_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("trio")
    code = """
        import pytest

        @pytest.fixture
        async def number():
            return 1

        @pytest.mark.ae
        async def test_it(number):
            pass
    """
    run = Run(tmp_path, code, "--ae-loops=trio")
    assert "an async fixture needs a loop that goes on between two runs" in run.text


def test_an_async_fixture_of_a_wider_scope_is_refused(tmp_path: Path) -> None:
    code = """
        import pytest

        @pytest.fixture(scope="module")
        async def number():
            return 1

        @pytest.mark.ae
        async def test_it(number):
            pass
    """
    run = Run(tmp_path, code)
    assert "fixture 'number': an async fixture has the scope 'function'" in run.text
    assert run.status == 1


def test_an_async_fixture_that_yields_twice_fails_its_test(tmp_path: Path) -> None:
    code = """
        import pytest

        @pytest.fixture
        async def number():
            yield 1
            yield 2

        @pytest.mark.ae
        async def test_it(number):
            assert number == 1
    """
    run = Run(tmp_path, code)
    assert "fixture 'number' yielded more than once" in run.text
    assert "1 passed, 1 error" in run.text


def test_an_async_fixture_of_a_test_that_is_not_ours_is_left_to_others(tmp_path: Path) -> None:
    code = """
        import pytest

        @pytest.fixture
        async def number():
            return 1

        def test_it(number):
            number.close()
    """
    run = Run(tmp_path, code)
    assert "'test_it' requested an async fixture 'number', with no plugin" in run.text


def test_the_loop_is_asked_for_by_a_parameter(tmp_path: Path) -> None:
    code = """
        def test_it(request):
            request.getfixturevalue("ae_loop")
    """
    run = Run(tmp_path, code)
    assert "ask for ae_loop in the test's or a fixture's parameters" in run.text
    assert run.status == 1


def test_a_loop_that_is_not_installed_is_a_skip_that_says_so_or_a_failure(tmp_path: Path) -> None:
    hidden = """
        import importlib.util as util
        real = util.find_spec
        util.find_spec = lambda name, *more: None if name == "uvloop" else real(name, *more)
    """
    (tmp_path / "conftest.py").write_text(dedent(hidden))
    code = """
        def test_it(ae_loop):
            raise ImportError("there is none")
    """
    run = Run(tmp_path, code, "--ae-loops=asyncio-uvloop", "-rs")
    assert "loop asyncio-uvloop needs uvloop, which is not installed" in run.text
    run = Run(tmp_path, code, "--ae-loops=asyncio-uvloop", "--ae-require=asyncio-uvloop")
    assert run.status == 1


@pytest.mark.parametrize(
    ("argument", "ini", "says"),
    [
        ("--ae-loops=nonsense", "", "unknown loop 'nonsense', expected one of ['all', 'asyncio'"),
        ("--ae-require=nonsense", "", "unknown loop 'nonsense'"),
        ("-v", "ae_mode = always", "ae_mode: expected one of strict, auto, got 'always'"),
        ("-v", "ae_leaks = maybe", "ae_leaks: expected one of error, ignore, got 'maybe'"),
    ],
)
def test_a_slip_in_the_settings_is_named(
    argument: str, ini: str, says: str, tmp_path: Path
) -> None:
    run = Run(tmp_path, "def test_it(ae_loop): pass", argument, ini=ini)
    assert says in run.text
    assert run.status != 0


@pytest.mark.parametrize(
    ("ae_mode", "asyncio_mode", "anyio_mode"),
    [("strict", "strict", "strict"), ("auto", "auto", "strict"), ("auto", "strict", "auto")],
)
def test_everybody_runs_its_own_beside_the_other_plugins(
    ae_mode: str, asyncio_mode: str, anyio_mode: str, tmp_path: Path
) -> None:
    missing = [name for name in NEIGHBOURS if find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
    code = """
        import ae_core as ae
        import pytest

        @pytest.mark.ae
        async def test_ours(ae_loop):
            await ae.sleep(0)
            assert ae.detect() is ae_loop

        @pytest.mark.asyncio
        async def test_asyncios():
            import asyncio
            await asyncio.sleep(0)

        @pytest.mark.anyio
        async def test_anyios(anyio_backend):
            import anyio
            await anyio.sleep(0)

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.trio
        async def test_trios():
            import trio
            await trio.sleep(0)
    """
    plugins = ["anyio.pytest_plugin", "pytest_asyncio.plugin", "pytest_trio.plugin"]
    if asyncio_mode == "auto":  # takes the tests of pytest-trio, which says so too
        code = code[: code.index("        @pytest.mark.trio")]
        del plugins[2]
    load = [word for plugin in plugins for word in ("-p", plugin)]
    ini = f"asyncio_mode = {asyncio_mode}\nanyio_mode = {anyio_mode}\nae_mode = {ae_mode}\n"
    ini += "asyncio_default_fixture_loop_scope = function\n"
    run = Run(tmp_path, code, "--ae-loops=asyncio,loop", *load, ini=ini)
    assert run.status == 0, run.text
    ours = ["test_ours[asyncio]", "test_ours[loop]"]
    trios = ["test_trios"] if "test_trios" in code else []
    assert run.passed == ["test_anyios", "test_asyncios", *ours, *trios]


def test_nothing_of_ours_is_loaded_for_those_who_do_not_use_it(tmp_path: Path) -> None:
    code = """
        import sys

        def test_it():
            assert "ae_core" not in sys.modules

        async def helper():
            pass
    """
    assert Run(tmp_path, code).passed == ["test_it"]
