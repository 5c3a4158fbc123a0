"""Which loop a thread gets, case by case in fresh processes; CORE-90 to CORE-98."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import pytest

import ae_core as ae
from ae_core._detection.table import BACKENDS

Script = Callable[..., str]


def test_without_anything_it_is_the_built_in_loop(script: Script) -> None:
    assert (
        script(
            """
            import ae_core as ae
            print(ae.backend())
            w = ae.timer(0, print)
            print(ae.backend(), ae.detect().name, ae.detect().reason)
            """
        )
        == "None\nloop loop nothing else runs or is loaded\n"
    )


@pytest.mark.parametrize(
    "call", ["ae.now()", "ae.now_update()", "ae.postpone(print)", "ae.idle(print)", "ae.detect()"]
)
def test_the_first_use_detects(script: Script, call: str) -> None:
    # CORE-02
    program = f"import ae_core as ae\nx = {call}\nprint(ae.backend())"
    assert script(program) == "loop\n"


@pytest.mark.parametrize(
    "use", ["ae.CondVar()", "ae.time()", "ae.backend()", "ae.post_detect(print)"]
)
def test_what_needs_no_loop_does_not_detect(script: Script, use: str) -> None:
    assert script(f"import ae_core as ae\nx = {use}\nprint(ae.backend())") == "None\n"


def test_an_imported_asyncio_alone_is_no_sign(script: Script) -> None:
    assert script("import asyncio, ae_core as ae\nprint(ae.detect().name)") == "loop\n"


def test_a_loop_that_was_made_but_does_not_run_is_no_sign(script: Script) -> None:
    program = """
        import asyncio, ae_core as ae
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        print(ae.detect().name)
        loop.close()
        """
    assert script(program) == "loop\n"


def test_a_running_asyncio_is_chosen(script: Script) -> None:
    program = """
        import asyncio, ae_core as ae
        async def main():
            return ae.detect().name, ae.detect().reason
        print(*asyncio.run(main()))
        """
    assert script(program) == "asyncio running in this thread\n"


def test_a_running_trio_is_chosen(script: Script) -> None:
    pytest.importorskip("trio")
    program = """
        import trio, ae_core as ae
        async def main():
            return ae.detect().name, ae.detect().reason
        print(*trio.run(main))
        """
    assert script(program) == "trio running in this thread\n"


def test_asyncio_in_another_thread_is_no_sign(script: Script) -> None:
    program = """
        import asyncio, threading, ae_core as ae
        ready, done = threading.Event(), threading.Event()
        async def main():
            ready.set()
            while not done.is_set():
                await asyncio.sleep(0)
        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        ready.wait()
        print(ae.detect().name)
        done.set()
        thread.join()
        """
    assert script(program) == "loop\n"


def test_every_asyncio_run_is_a_binding_of_its_own(script: Script) -> None:
    program = """
        import asyncio, ae_core as ae
        async def main():
            await ae.sleep(0)
            return ae.detect()
        one, two = asyncio.run(main()), asyncio.run(main())
        print(one is two, ae.backend(), ae.detect().name)
        ae.sleep(0).recv()
        """
    assert script(program) == "False None loop\n"


def test_import_loads_no_loop_and_detection_none_that_is_not_chosen(script: Script) -> None:
    program = """
        import sys, ae_core as ae
        ae.detect()
        heavy = {"asyncio", "trio", "gevent", "twisted", "gi", "tkinter", "PyQt6", "PySide6", "ssl"}
        print(sorted(heavy & set(sys.modules)))
        """
    assert script(program) == "[]\n"


# ---------------------------------------------------------------------- AE_BACKEND and use()


def test_the_environment_chooses(script: Script) -> None:
    program = (
        "import ae_core as ae\nprint(ae.detect().name, ae.detect().reason)\nae.sleep(0).recv()"
    )
    assert script(program, AE_BACKEND="asyncio") == "asyncio AE_BACKEND=asyncio\n"
    assert script(program, AE_BACKEND="") == "loop nothing else runs or is loaded\n"


def test_an_unknown_name_in_the_environment_is_logged_and_detection_goes_on(
    script: Script,
) -> None:
    # CORE-91, B20
    output = script("import ae_core as ae\nprint(ae.detect().name)", AE_BACKEND="nosuch")
    assert "error" in output
    assert "AE_BACKEND=nosuch" in output
    assert "'nosuch'" in output
    assert output.endswith("loop\n")


def test_an_interpreter_that_ignores_its_environment_ignores_ours(script: Script) -> None:
    # CORE-98
    program = """
        import subprocess, sys
        code = "import ae_core as ae; print(ae.detect().name)"
        subprocess.run([sys.executable, "-E", "-c", code], check=True)
        """
    assert script(program, AE_BACKEND="asyncio") == "loop\n"


@pytest.mark.usefixtures("unbound")
def test_use_chooses_and_passes_options_on() -> None:
    ae.use("loop", multiplexer="select")
    assert ae.backend() is None
    assert ae.detect().statistics()["multiplexer"] == "select"
    assert ae.detect().reason == "asked for by use()"


@pytest.mark.usefixtures("unbound")
def test_use_again_before_detection_replaces() -> None:
    ae.use("loop")
    ae.use("asyncio")
    assert ae.detect().name == "asyncio"


@pytest.mark.usefixtures("unbound")
def test_use_after_detection_takes_the_same_name_only() -> None:
    ae.use("loop")
    ae.detect()
    ae.use("loop")
    with pytest.raises(RuntimeError, match=r"loop backend already.*'asyncio'"):
        ae.use("asyncio")
    with pytest.raises(ValueError, match="nosuch"):
        ae.use("nosuch")
    assert ae.backend() == "loop"


@pytest.mark.usefixtures("unbound")
def test_use_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AE_BACKEND", "asyncio")
    ae.use("loop")
    assert ae.detect().name == "loop"


@pytest.mark.usefixtures("unbound")
def test_unknown_and_not_installed_are_different_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    with pytest.raises(ValueError, match=r"'nosuch'.*loop"):
        ae.use("nosuch")
    for name in ("trio", "trio.lowlevel", "ae_core._backends._trio"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ae.BackendUnavailable, match=r"'trio'.*trio"):
        ae.use("trio")
    assert issubclass(ae.BackendUnavailable, ImportError)
    assert ae.detect().name == "loop"


@pytest.mark.usefixtures("unbound")
def test_bad_options_are_the_backends_error() -> None:
    ae.use("loop", multiplexer="nosuch")
    with pytest.raises(ValueError, match="'nosuch'"):
        ae.timer(0, print)
    ae.use("loop", nosuch=1)
    with pytest.raises(TypeError, match="nosuch"):
        ae.timer(0, print)
    ae.use("loop")
    with ae.timer(0, print):
        assert ae.backend() == "loop"


def test_choosing_one_while_another_runs_names_both(script: Script) -> None:
    program = """
        import asyncio, ae_core as ae
        async def main():
            ae.use("loop")
            try:
                ae.timer(0, print)
            except ae.WrongLoop as error:
                print(error)
        asyncio.run(main())
        """
    output = script(program)
    assert "asyncio" in output
    assert "loop was asked for by use()" in output


def test_the_command_prints_every_row(script: Script) -> None:
    output = script(
        """
        import runpy, sys
        sys.argv = ["ae_core"]
        try:
            runpy.run_module("ae_core", run_name="__main__")
        except SystemExit as leave:
            assert not leave.code, leave
        """
    )
    for spec in BACKENDS:
        assert spec.name in output


# ---------------------------------------------------------------------- third parties

PLUGIN = """
    import sys, importlib.metadata
    import ae_core as ae
    from ae_core._backends._loop import LoopBackend

    class Acme(LoopBackend):
        name = "acme"

    module = type(sys)("acme_loops")
    module.Acme, module.number = Acme, 3
    sys.modules["acme_loops"] = module
    entries = {"acme": "Acme", "broken": "Nosuch", "number": "number"}
    def entry_points(*, group, name):
        assert group == "ae_core.backends"
        found = [entries[name]] if name in entries else []
        return [importlib.metadata.EntryPoint(name, f"acme_loops:{x}", group) for x in found]
    importlib.metadata.entry_points = entry_points
"""


def test_a_third_partys_backend_is_found_by_its_entry_point(script: Script) -> None:
    # CORE-93
    program = (
        PLUGIN
        + """
    ae.use("acme")
    ae.sleep(0).recv()
    print(type(ae.detect()) is Acme, ae.backend())
    """
    )
    assert script(program) == "True acme\n"


@pytest.mark.parametrize("name", ["broken", "number"])
def test_a_broken_one_is_unavailable_and_says_why(script: Script, name: str) -> None:
    program = (
        PLUGIN
        + f"""
    try:
        ae.use("{name}")
    except ae.BackendUnavailable as error:
        print("unavailable:", error)
    print(ae.detect().name)
    """
    )
    output = script(program)
    assert f"unavailable: backend '{name}'" in output
    assert output.endswith("loop\n")


# ---------------------------------------------------------------------- post_detect


def test_hooks_run_in_order_once_and_can_be_taken_back(script: Script) -> None:
    # CORE-95
    program = """
        import ae_core as ae
        a = ae.post_detect(lambda: print("a", ae.backend()))
        b = ae.post_detect(lambda: print("b"))
        c = ae.post_detect(lambda: print("c"))
        d = ae.post_detect(lambda: print("d"))
        b.cancel()
        b.cancel()
        del c
        ae.detect()
        ae.detect()
        print(ae.post_detect(lambda: print("late")))
        """
    assert script(program) == "a loop\nd\nlate\nNone\n"


def test_a_hook_that_raises_does_not_keep_the_others_from_running(script: Script) -> None:
    program = """
        import ae_core as ae
        def fails():
            raise ValueError("of a test")
        seen = []
        ae.exception_hook = lambda error, watcher: seen.append((str(error), watcher))
        a = ae.post_detect(fails)
        b = ae.post_detect(lambda: print("b"))
        with ae.timer(0, print):
            print(seen)
        """
    assert script(program) == "b\n[('of a test', None)]\n"


@pytest.mark.skipif(find_spec("tkinter") is None, reason="needs tkinter")
def test_imported_first_in_another_thread_the_main_thread_is_still_the_main_one(
    script: Callable[..., str],
) -> None:
    told = script("""
        import sys
        import threading

        def first():
            import ae_core as ae
            print(ae.detect().name)

        worker = threading.Thread(target=first)
        worker.start()
        worker.join()
        import tkinter
        tkinter._default_root = tkinter.Tcl()
        import ae_core as ae
        print(ae.detect().name)
        ae.signal("TERM", print).cancel()
        worker = threading.Thread(target=lambda: print(ae.detect().name))
        worker.start()
        worker.join()
        """)
    assert told.split() == ["loop", "tk", "loop"]


def test_without_a_binding_of_qt_the_choice_of_qt_is_refused_at_once(
    script: Callable[..., str],
) -> None:
    output = script("""
        import sys
        sys.modules.update(PyQt6=None, PySide6=None)
        import ae_core as ae
        try:
            ae.use("qt")
        except ae.BackendUnavailable as error:
            print(error)
    """)
    assert output == "backend 'qt' needs PyQt6 or PySide6, and neither is installed\n"


@pytest.mark.parametrize("broken", [("PyQt6",), ("PyQt6", "PySide6")])
def test_a_binding_of_qt_that_cannot_be_imported_leaves_the_choice_to_the_other(
    broken: tuple[str, ...], script: Callable[..., str]
) -> None:
    """Its files are there, and what they need is not."""
    for library in ("PyQt6", "PySide6"):
        if find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    output = script(
        f"""
        import sys
        import ae_core as ae

        class Broken:
            def find_spec(self, name, path=None, target=None):
                if name in {[f"{name}.QtCore" for name in broken]}:
                    raise ImportError("libGL.so.1: cannot open shared object file")

        sys.meta_path.insert(0, Broken())
        ae.use("qt")
        try:
            print(ae.detect().statistics()["binding"])
        except ae.BackendUnavailable as error:
            print(error)
        """,
        QT_QPA_PLATFORM="offscreen",
    )
    refused = "backend 'qt' needs PyQt6 or PySide6, and neither is installed\n"
    assert output == ("PySide6\n" if len(broken) == 1 else refused)


@pytest.mark.skipif(find_spec("PyQt6") is None, reason="needs PyQt6")
def test_the_choice_of_qt_leaves_the_choice_of_the_binding_to_the_program(
    script: Callable[..., str],
) -> None:
    output = script("""
        import sys
        import ae_core as ae
        ae.use("qt")
        print([name for name in sys.modules if name.startswith(("PyQt", "PySide"))])
    """)
    assert output == "[]\n"
