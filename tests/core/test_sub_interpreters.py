"""Programs that embed Python, and give a script an interpreter of its own, as WeeChat does."""

from __future__ import annotations

from collections.abc import Callable


def test_a_sub_interpreter_waits_and_has_no_signals(script: Callable[..., str]) -> None:
    output = script(
        """
        import sys
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters

        code = '''
        import sys
        sys.path[:] = {path!r}
        import ae_core as ae
        ae.use("loop")
        print("slept", ae.sleep(0.01).recv(), flush=True)
        '''
        code = "\\n".join(line.strip() for line in code.splitlines()).format(path=sys.path)
        # as programs that embed Python have made them: with one lock for all
        try:
            made = interpreters.create("legacy")  # 3.13
        except TypeError:
            made = interpreters.create(isolated=False)
        failure = interpreters.run_string(made, code)
        assert failure is None, failure
        interpreters.destroy(made)
        """
    )
    assert "slept None" in output
