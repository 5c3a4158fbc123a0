"""Runs CPython's own tests of asyncio with the guest loop in place, on one host after another.

    python bench/guests/cpython_tests.py [--hosts loop,tk,...] [--modules test_events,...]

Each module runs in a process of its own, once with asyncio's own loop and once on each host, and
a line says what came of it. What the stock loop fails, or skips, is not held against the guest.
The exit status is 1 if a test failed that the stock loop passes and EXCLUDED does not name.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest
from contextlib import suppress
from pathlib import Path
from typing import Any

STOCK = "stock"
RESULT = "result: "
#: Seconds that one module may take.
PATIENCE = 300.0
HOSTS = ("loop", "glib", "qt", "tk", "twisted", "gevent", "libev")

#: Tests that look at how asyncio's own class does it, not at what it does, and what they look at.
EXCLUDED: dict[str, str] = {
    f"test.test_asyncio.test_unix_events.SelectorEventLoopSignalTests.{name}": (
        "mocks asyncio's use of the signal module; handlers of a guest are ae_core.signal's"
    )
    for name in (
        "test_add_signal_handler_install_error",
        "test_add_signal_handler_install_error2",
        "test_add_signal_handler_install_error3",
        "test_add_signal_handler_setup_error",
        "test_close",
        "test_close_on_finalizing",
        "test_remove_signal_handler",
        "test_remove_signal_handler_2",
        "test_remove_signal_handler_error",
        "test_remove_signal_handler_error2",
    )
} | {
    "test.test_asyncio.test_subprocess.SubprocessThreadedWatcherTests."
    "test_pid_not_reaped_before_exit_published": (
        "looks for the thread of asyncio's own watcher; a guest needs none"
    ),
    "test.test_asyncio.test_unix_events.PidfdChildWatcherTests."
    "test_pidfd_closed_when_waitpid_raises": (
        "reports the end of the program itself; a guest has done so, with the status 255"
    ),
}


def modules() -> list[str]:
    import test.test_asyncio as package

    names = (path.stem for path in Path(package.__file__).parent.glob("test_*.py"))
    return sorted(name for name in names if "windows" not in name and "proactor" not in name)


def put_in_place(host: str) -> None:
    """Have asyncio make guests of *host* wherever it makes loops."""
    import asyncio
    from asyncio import unix_events

    import ae_core as ae
    from ae_guests._loop import GuestLoop

    if host == "tk":
        import tkinter

        globals()["root"] = tkinter.Tk()
    ae.use(host)
    ae.detect()

    class Guest(GuestLoop):
        def __init__(self, selector=None):
            super().__init__(selector)
            self._backend_name = None

    original = unix_events.SelectorEventLoop
    for module in (asyncio, unix_events):
        module.SelectorEventLoop = GuestLoop
        if getattr(module, "EventLoop", None) is original:
            module.EventLoop = GuestLoop
    for name in ("_UnixDefaultEventLoopPolicy", "_DefaultEventLoopPolicy"):
        policy = getattr(unix_events, name, None)
        if policy is not None:
            policy._loop_factory = GuestLoop


class Outcome(unittest.TestResult):
    def __init__(self) -> None:
        super().__init__()
        self.passed: list[str] = []
        self.bad: dict[str, str] = {}

    def addSuccess(self, test: unittest.TestCase) -> None:
        self.passed.append(test.id())

    def addFailure(self, test: unittest.TestCase, error: object) -> None:
        super().addFailure(test, error)
        self.bad[test.id()] = self.failures[-1][1]

    def addError(self, test: unittest.TestCase, error: object) -> None:
        super().addError(test, error)
        self.bad[test.id()] = self.errors[-1][1]

    def addSubTest(
        self, test: unittest.TestCase, subtest: unittest.TestCase, error: object
    ) -> None:
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.bad[test.id()] = repr(error)


def child(host: str, name: str) -> None:
    """Run one module and print what came of it as JSON."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    if host != STOCK:
        put_in_place(host)
    module = importlib.import_module(f"test.test_asyncio.{name}")
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    outcome = Outcome()
    suite.run(outcome)
    skipped = [test.id() for test, _ in outcome.skipped]
    result = {"passed": outcome.passed, "bad": outcome.bad, "skipped": skipped}
    print(f"\n{RESULT}{json.dumps(result)}")
    sys.stdout.flush()
    os._exit(0)


def run(host: str, name: str) -> dict[str, Any]:
    """Run one module on one host in a process group of its own, and end the whole group."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, __file__, "--child", host, name],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        )
        try:
            status = process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            status = None
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        output.seek(0)
        text = output.read()
    for line in reversed(text.splitlines()):
        if line.startswith(RESULT):
            result: dict[str, Any] = json.loads(line.removeprefix(RESULT))
            return result
    why = f"hangs for {PATIENCE} s" if status is None else f"status {status}"
    return {"passed": [], "bad": {name: f"{why}: {text[-3000:]}"}, "skipped": []}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--hosts", default=",".join(HOSTS))
    parser.add_argument("--modules", default="")
    parser.add_argument("--verbose", action="store_true", help="print the tracebacks")
    options = parser.parse_args()
    if options.child:
        child(*options.child)
    if importlib.util.find_spec("test.test_asyncio") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        print(f"skipped: {sys.executable} has no test.test_asyncio (libpython{version}-testsuite)")
        return
    chosen = options.modules.split(",") if options.modules else modules()
    failed = False
    for name in chosen:
        stock = run(STOCK, name)
        if not stock["passed"]:
            sys.exit(f"{name}: nothing passed on asyncio's own loop: {stock['bad']}")
        line = f"{name:24}{len(stock['passed']):5} passed {len(stock['bad']):3} failed |"
        print(line, end="", flush=True)
        worse: dict[str, str] = {}
        for host in options.hosts.split(","):
            result = run(host, name)
            new = {
                test: text
                for test, text in result["bad"].items()
                if test not in stock["bad"] and test not in EXCLUDED
            }
            print(f" {host} {len(result['passed'])}/{len(new)}", end="", flush=True)
            worse.update({f"{host} {test}": text for test, text in new.items()})
        print()
        for test, text in worse.items():
            failed = True
            print(f"    FAILED {test}")
            if options.verbose:
                print(text)
    sys.exit(failed)


if __name__ == "__main__":
    main()
