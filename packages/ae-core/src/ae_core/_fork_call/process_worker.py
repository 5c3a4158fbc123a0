"""The child's side of ``fork_call``: a process that is sent calls and answers them, one by one.

Started by ``call`` as ``python -c BOOTSTRAP``; never imported by the parent. It uses no
event loop, and leaves by ``_exit``.
"""

from __future__ import annotations

__all__ = ("is_loading_main", "main")

import importlib.util
import io
import marshal
import os
import pickle
import select
import signal
import struct
import sys
import traceback
from types import ModuleType
from typing import Any, NoReturn

# A function travels by name, so the child has to import its module again. Two kinds of modules
# cannot be imported by name: `__main__`, which is run once more as `__mp_main__` (so that what
# stands under `if __name__ == "__main__"` is left out; multiprocessing does the same, by the same
# name), and modules that the parent loaded from a path that is not on sys.path, as test runners do.

#: The parent's loop ends an idle worker. If that loop itself has ended unnoticed, the worker ends
#: by itself after this many seconds.
FORGOTTEN = 10.0

_loading_main = False
_has_main = False


def is_loading_main() -> bool:
    """Return whether this is a worker that runs the user's script to get at its functions."""
    return _loading_main


class _Loader(pickle.Unpickler):
    def __init__(self, call: bytes, script: tuple[str, str] | None, files: dict[str, str]) -> None:
        super().__init__(io.BytesIO(call))
        self.script = script
        self.files = files

    def find_class(self, module_name: str, global_name: str) -> Any:
        if module_name in ("__main__", "__mp_main__"):
            self.run_script()
        elif module_name not in sys.modules:
            self.import_by_name(module_name)
        return super().find_class(module_name, global_name)

    def import_by_name(self, name: str) -> None:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if name not in self.files or not f"{name}.".startswith(f"{missing}."):
                raise
            spec = importlib.util.spec_from_file_location(name, self.files[name])
            if spec is None or spec.loader is None:
                raise
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[name]
                raise
            _invent_packages(name)

    def run_script(self) -> None:
        global _has_main, _loading_main
        # not by whether there is __mp_main__: multiprocessing makes one when it is imported
        if _has_main or self.script is None:
            return
        import runpy

        module = ModuleType("__mp_main__")
        how, where = self.script
        _loading_main = True
        try:
            if how == "module":
                content = runpy.run_module(where, run_name="__mp_main__", alter_sys=True)
            else:
                content = runpy.run_path(where, run_name="__mp_main__")
        finally:
            _loading_main = False
        module.__dict__.update(content)
        sys.modules["__main__"] = sys.modules["__mp_main__"] = module
        _has_main = True


def _invent_packages(name: str) -> None:
    """Have ``import a.b.c`` work where only ``a.b.c`` was found."""
    while "." in name:
        child = sys.modules[name]
        name, _, attribute = name.rpartition(".")
        if name not in sys.modules:
            sys.modules[name] = ModuleType(name)
            sys.modules[name].__path__ = []
        setattr(sys.modules[name], attribute, child)


def _move_to(directory: str | None, umask: int, environ: dict[str, str]) -> None:
    """Take on what the parent had when it made the call, whatever an earlier call has changed.

    Raises:
        OSError: The directory cannot be entered.
    """
    if directory is not None and _directory() != directory:
        os.chdir(directory)
    os.umask(umask)
    if os.environ != environ:
        os.environ.clear()
        os.environ.update(environ)


def _directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None  # it was removed


def _serve(call: bytes, script: tuple[str, str] | None, files: dict[str, str]) -> bytes:
    """Do one call; return ``marshal`` of ``(result, failure)``, one of them None."""
    stage = "call"
    try:
        loaded: tuple[Any, tuple[Any, ...]] = _Loader(call, script, files).load()
        function, args = loaded
        stage = "function"
        result = function(*args)
        stage = "result"
        return marshal.dumps((pickle.dumps(result, pickle.HIGHEST_PROTOCOL), None))
    except SystemExit as error:
        _leave(error.code)
    except BaseException as error:
        return marshal.dumps((None, _describe(error, stage)))


def _describe(error: BaseException, stage: str) -> tuple[str, str, str, str, bytes | None]:
    tb = error.__traceback__
    text = "".join(traceback.format_exception(type(error), error, tb and tb.tb_next))
    portable = None
    if stage == "function" and isinstance(error, Exception):
        try:
            portable = pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
        except Exception:
            portable = None  # the parent makes a ForkCallError of the texts
    try:
        message = str(error)
    except Exception:
        message = "(its str() failed)"
    return stage, type(error).__qualname__, message, text, portable


def _leave(code: object) -> NoReturn:
    status = 0 if code is None else code if isinstance(code, int) else 1
    if status == 1 and not isinstance(code, int):
        print(code, file=sys.stderr)
    _flush()
    os._exit(status & 0xFF)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            continue  # closed, or its reader is gone


def _read(fd: int, n: int) -> bytes:
    parts = []
    while n:
        part = os.read(fd, min(n, 1 << 20))
        if not part:
            return b""
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def main(duplex: bool) -> NoReturn:
    """Answer calls until the parent closes its end.

    Args:
        duplex: Whether descriptor 0 is a socket for both directions; else 0 and 1 are pipes.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends us without a traceback
    reader = os.dup(0)
    writer = reader if duplex else os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    if not duplex:
        os.dup2(2, 1)
    try:
        while True:
            if duplex and not select.select([reader], [], [], FORGOTTEN)[0]:
                break
            head = _read(reader, 8)
            if not head:
                break
            frame = _read(reader, *struct.unpack("<Q", head))
            if not frame:
                break
            place, *call = marshal.loads(frame)
            _move_to(*place)
            _write(writer, b"S")  # from here on it may have had effects, and is not tried again
            reply = _serve(*call)
            _flush()
            _write(writer, struct.pack("<Q", len(reply)) + reply)
    except OSError:
        # the parent has ended or cancelled the call; or its directory cannot be entered, and the
        # call needs a worker that is started there
        os._exit(0)
    _flush()
    os._exit(0)
