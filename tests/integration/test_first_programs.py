"""What a newcomer types in the first hour, each as a program of its own, in strict mode.

Limits, cancelled reads, the end of a handle, one loop after another. The program prints what it
saw, and nothing else may stand on its error output.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

SOCKETS = """
    import asyncio, socket, threading
    import ae_core as ae
    from ae_handle import Handle, HandleTimedOut
    from ae_socket.testing import silent_address

    a, b = socket.socketpair()
"""

PROGRAMS = {
    "a time-out covers connecting": (
        """
        with silent_address() as address:
            h = Handle(connect=address, timeout=0.05)
            try:
                h.push_read("line").recv(timeout=60)
            except HandleTimedOut as error:
                print(error)
            h.destroy()
        """,
        "timeout of 0.05 s has passed\n",
    ),
    "a logger does not turn a time-out into a hang": (
        """
        async def main():
            h = Handle(a, read_timeout=0.05, on_error=lambda h, error: print("told:", error))
            try:
                await h.push_read("line")
            except HandleTimedOut as error:
                print("raised:", error)

        ae.run(main())
        """,
        "told: read_timeout of 0.05 s has passed\nraised: read_timeout of 0.05 s has passed\n",
    ),
    "a period begins when it is set": (
        """
        h = Handle(a)
        ae.sleep(0.05).recv()
        h.read_timeout = 0.04
        held = ae.timer(0.001, lambda: b.send(b"in time\\n"))
        print(h.push_read("line").recv(timeout=60))
        """,
        "b'in time'\n",
    ),
    "one request has a limit": (
        """
        h = Handle(a)
        b.send(b"half ")
        try:
            h.push_read("line", timeout=0.02).recv(timeout=60)
        except HandleTimedOut as error:
            print(error)
        b.send(b"a line\\n")
        print(h.push_read("line").recv(timeout=60))
        """,
        "read 'line': timeout of 0.02 s has passed\nb'half a line'\n",
    ),
    "a cancelled read eats nothing": (
        """
        async def main():
            h = Handle(a)
            try:
                async with asyncio.timeout(0.02):
                    await h.push_read("line")
            except TimeoutError:
                print("time is up")
            b.send(b"first\\nsecond\\n")
            print(await h.push_read("line"))

        asyncio.run(main())
        """,
        "time is up\nb'first'\n",
    ),
    "an orderly end is no error": (
        """
        async def client():
            a, b = socket.socketpair()
            with b:
                async with Handle(a) as h:
                    await h.push_read("line")

        async def main():
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(client()) for _ in range(200)]
                await asyncio.sleep(0.02)
                for task in tasks:
                    task.cancel()

        asyncio.run(main())
        print("ended")
        """,
        "ended\n",
    ),
    "blocking first, asyncio later": (
        """
        async def nap():
            await ae.sleep(0.001)
            return "rested"

        ae.sleep(0.001).recv()
        print(asyncio.run(nap()))
        ae.sleep(0.001).recv()
        print(asyncio.run(nap()))
        print(ae.run(nap()))
        """,
        "rested\nrested\nrested\n",
    ),
    "asyncio.sleep without asyncio": (
        """
        async def nap():
            await asyncio.sleep(0.001)

        try:
            ae.run(nap())
        except RuntimeError as error:
            print(error, *error.__notes__)
        """,
        (
            "no running event loop the coroutine awaits what only asyncio can wait for: call "
            "ae_core.use('asyncio') before the first watcher, or start the program by asyncio\n"
        ),
    ),
    "another thread is refused": (
        """
        h = Handle(a)

        def try_it():
            for call in (lambda: h.push_write(b"x"), lambda: h.push_read("line"), h.destroy):
                try:
                    call()
                except RuntimeError as error:
                    print(str(error).split(" in another thread")[0])

        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
        """,
        "push_write()\npush_read()\ndestroy()\n",
    ),
    "a program that is not there": (
        """
        try:
            ae.run_cmd(["no-such-program"]).recv()
        except FileNotFoundError as error:
            print(error.strerror)
        """,
        "No such file or directory\n",
    ),
}


@pytest.mark.parametrize("title", PROGRAMS)
def test_a_first_program(title: str) -> None:
    program, printed = PROGRAMS[title]
    code = textwrap.dedent(SOCKETS) + textwrap.dedent(program)
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "AE_STRICT": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == (printed, "", 0)
