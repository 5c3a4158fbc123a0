"""Runs trio's own tests of its guest mode with each of our loops as the host.

    python bench/guests/trio_tests.py [--hosts loop,tk,...]

trio's tests bring a host of their own, a queue; here a loop of ours takes its place. A line for
each host says what came of it, beside what trio's own host gives.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

HOSTS = ("loop", "glib", "qt", "tk", "twisted", "gevent", "libev")
MODULE = "trio._core._tests.test_guest_mode"


def host_run(
    chosen: str,
    trio_fn: Any,
    *,
    in_host_after_start: Callable[[], None] | None = None,
    host_uses_signal_set_wakeup_fd: bool = False,
    **options: Any,
) -> Any:
    """Stand in for the test module's ``trivial_guest_run``: the host is the loop *chosen*."""
    import trio

    import ae_core as ae
    from ae_core.testing import release

    done: ae.CondVar[Any] = ae.CondVar()
    left: list[BaseException] = []

    def in_host(function: Callable[[], object]) -> None:
        def call() -> None:
            try:
                function()
            except BaseException as error:  # leaves the host, as it does trio's
                left.append(error)
                done.send(None)

        ae.postpone(call)

    ae.use(chosen)
    mark = ae.pending()
    try:
        trio.lowlevel.start_guest_run(
            trio_fn,
            in_host,
            run_sync_soon_threadsafe=ae.detect().call_threadsafe,
            run_sync_soon_not_threadsafe=in_host,
            done_callback=done.send,
            host_uses_signal_set_wakeup_fd=host_uses_signal_set_wakeup_fd,
            **options,
        )
        if in_host_after_start is not None:
            in_host_after_start()
        outcome = done.recv()
    finally:
        mark.cancel()
    if left:
        release()  # the host ends with what it was to call, as trio's does
        error = left.pop()
        try:
            raise error
        finally:
            del error, left
    return outcome.unwrap()


def child(host: str, arguments: list[str]) -> int:
    import importlib

    import pytest

    module = importlib.import_module(MODULE)
    if host != "trio":
        if host == "tk":
            import tkinter

            module._root = tkinter.Tk()
        module.trivial_guest_run = partial(host_run, host)
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--tb=short", "-rf"]
    return int(pytest.main([*options, "--rootdir=/", "--pyargs", MODULE, *arguments]))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", default=",".join(HOSTS))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args()
    if options.child:
        return child(options.child, rest)
    failed = 0
    for host in ["trio", *options.hosts.split(",")]:
        done = subprocess.run(
            [sys.executable, __file__, "--child", host, *rest],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        )
        lines = done.stdout.splitlines()
        print(f"{host:8} {lines[-1] if lines else 'no output'}")
        if done.returncode:
            failed += host != "trio"
            print(done.stdout[-6000:])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
