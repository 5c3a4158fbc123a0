"""``fork_call``: run a function in another process.

Here are the call and its outcome: what is pickled, and what comes back. The processes are
in ``pool``, and the child's side is ``process_worker``.
"""

from __future__ import annotations

__all__ = ("ForkCallError", "fork_call", "shutdown")

import io
import marshal
import os
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from .._async.condvar import CondVar
from .._base.describe import callback_text
from .._base.errors import AEError
from .._detection.current import current_loop, existing_loop
from .pool import Surroundings, pool_of

if TYPE_CHECKING:
    from .._loop.state import LoopState
    from .pool import AnyWorker

T = TypeVar("T")


class ForkCallError(AEError):
    """The function of a :func:`fork_call` gave neither a result nor an exception that travels.

    Either the child raised something that cannot be pickled: ``type``, ``text`` and ``traceback``
    describe it. Or it ended without an answer: ``status`` says how.
    """

    #: The name of the exception's class, or None.
    type: str | None
    #: The exception's text, or None.
    text: str | None
    #: The traceback in the child, as text, or None.
    traceback: str | None
    #: The raw wait status of a child that gave no answer, or None.
    status: int | None

    def __init__(
        self,
        message: str,
        type: str | None = None,
        text: str | None = None,
        traceback: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message, type, text, traceback, status)  # all of them survive pickling
        self.type = type
        self.text = text
        self.traceback = traceback
        self.status = status

    def __str__(self) -> str:
        return str(self.args[0])


def fork_call(function: Callable[..., T], *args: Any) -> CondVar[T]:
    """Call *function* in another process.

    Args:
        function: Defined at the top of a module, because it travels by name.
        args: What can be pickled, as must be the result. They are pickled now.

    At most ``AE_MAX_FORKS`` (10) calls of a loop run in parallel, others wait in order. The child
    is a fresh interpreter, not a copy of this process: it imports the module again, and does not
    see what was assigned to its variables here. It may have served other calls before, and what
    these assigned to variables of modules is still there; but each call finds the working
    directory, the umask and the environment that we have now. A script has to start its own work
    under ``if __name__ == "__main__":``.

    Returns:
        A condition variable with the function's result. ``recv()`` and ``await`` raise the
        function's exception, with the child's traceback as its cause, or :class:`ForkCallError`
        if it cannot be pickled, or if the child ended without an answer (killed, ``os._exit``,
        ``sys.exit``). No call is harmed by another one's child.

    **Lifetime**: forgetting the condition variable changes nothing; cancelling it, or the only
    coroutine that awaits it, kills the child.

    Raises:
        TypeError: If *function* cannot be called, or the call cannot be pickled.
        RuntimeError: In a script's top-level code that runs in the child.

    Example:
        >>> import math
        >>> fork_call(math.factorial, 10).recv()
        3628800

    Perl: ``AnyEvent::Util::fork_call``
    """
    if not callable(function):
        raise TypeError(f"expected a callable, got {function!r}")
    worker_module = sys.modules.get("ae_core._fork_call.process_worker")
    if worker_module is not None and worker_module.is_loading_main():
        raise RuntimeError(
            "fork_call() in the top-level code of a script that its own child imports: "
            'put that code under if __name__ == "__main__":'
        )
    surroundings = Surroundings.now()
    frame = _frame(function, args, surroundings)
    core = current_loop()
    call = _Call(core, frame, surroundings, callback_text(function))
    pool_of(core, _make_worker()).submit(core, call)
    condvar: CondVar[T] = call.condvar
    return condvar


def _make_worker() -> Callable[[Surroundings], AnyWorker] | None:
    """Return what makes workers where no loop can wait for pipes or children; else None."""
    if os.name == "nt":
        from .thread_worker import ThreadWorker

        return ThreadWorker
    return None


def shutdown() -> None:
    """End the idle workers of this thread's loop now, and wait for their end."""
    core = existing_loop()
    if core is not None and not core.closed:
        pool_of(core).shutdown(core)


# ---------------------------------------------------------------------- calls


class _Call:
    """One call, from its pickle to its outcome; in ``core.operations`` while it is pending."""

    __slots__ = ("attempts", "condvar", "core", "frame", "surroundings", "worker")

    def __init__(
        self, core: LoopState, frame: bytes, surroundings: Surroundings, name: str
    ) -> None:
        self.core = core
        self.frame = frame
        self.surroundings = surroundings
        self.attempts = 0  # workers that ended before they took it
        self.worker: AnyWorker | None = None
        self.condvar: CondVar[Any] = CondVar(
            cancel=self.over, describe=lambda: f"fork_call of {name}"
        )
        core.operations.add(self)

    @property
    def wanted(self) -> bool:
        return not self.condvar.ready

    def over(self) -> None:
        """There is an outcome, or it is not wanted any more."""
        self.core.operations.discard(self)
        if self.worker is not None:
            self.worker.kill()  # cancelled; its end frees the place

    def cancel(self) -> None:
        """The loop has ended, and everything in it."""
        self.core.operations.discard(self)
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.abandon()

    def answer(self, reply: bytes) -> None:
        """The child has answered."""
        result, failure = marshal.loads(reply)
        if self.condvar.ready:
            return
        self.over()
        if failure is not None:
            self.condvar.throw(_error(*failure))
            return
        try:
            value = _Unpickler(io.BytesIO(result)).load()
        except Exception as error:
            name = type(error).__qualname__
            failed = ForkCallError(
                f"the result cannot be unpickled: {name}: {error}", name, str(error)
            )
            failed.__cause__ = error
            self.condvar.throw(failed)
        else:
            self.condvar.send(value)

    def refuse(self, error: Exception) -> None:
        """No process can be made."""
        self.over()
        self.condvar.throw(error)

    def fail(self, status: int) -> None:
        """The child ended without an answer."""
        if not self.condvar.ready:
            code = os.waitstatus_to_exitcode(status)
            self.over()
            how = f"exit code {code}" if code >= 0 else f"signal {-code}"
            self.condvar.throw(ForkCallError(f"the child gave no result: {how}", status=status))


def _frame(
    function: Callable[..., Any], args: tuple[Any, ...], surroundings: Surroundings
) -> bytes:
    buffer = io.BytesIO()
    pickler = _Pickler(buffer)
    try:
        pickler.dump((function, args))
    except Exception as error:
        raise TypeError(
            f"fork_call needs a module-level function and arguments that can be pickled: {error}"
        ) from error
    script = None
    if "__main__" in pickler.modules:
        script = _script()
    # those of the surroundings that a function may change, and another call finds restored
    place = (surroundings.directory, surroundings.umask, surroundings.environ)
    return marshal.dumps((place, buffer.getvalue(), script, pickler.files()))


class _Pickler(pickle.Pickler):
    """Takes down the modules that the call refers to."""

    def __init__(self, buffer: io.BytesIO) -> None:
        super().__init__(buffer, pickle.HIGHEST_PROTOCOL)
        self.modules: set[str] = set()

    def reducer_override(self, obj: Any) -> Any:
        module = getattr(
            obj if isinstance(obj, type) or callable(obj) else type(obj), "__module__", None
        )
        if isinstance(module, str):
            self.modules.add(module)
        return NotImplemented

    def files(self) -> dict[str, str]:
        found = {}
        for name in self.modules:
            file = getattr(sys.modules.get(name), "__file__", None)
            if isinstance(file, str):
                found[name] = os.path.abspath(file)
        return found


class _Unpickler(pickle.Unpickler):
    """Knows that the child's ``__mp_main__`` is our ``__main__``."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if module_name == "__mp_main__":
            module_name = "__main__"
        return super().find_class(module_name, global_name)


def _script() -> tuple[str, str]:
    """Say how the child gets at our ``__main__``."""
    module = sys.modules["__main__"]
    spec = getattr(module, "__spec__", None)
    if spec is not None and spec.name:
        return "module", spec.name
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not os.path.isfile(file):
        raise TypeError(
            "fork_call cannot send what is defined in an interactive __main__: put it in a module"
        )
    return "path", os.path.abspath(file)


def _error(
    stage: str, name: str, text: str, traceback: str, portable: bytes | None
) -> BaseException:
    if portable is not None:
        with suppress(Exception):
            error = _Unpickler(io.BytesIO(portable)).load()
            if isinstance(error, Exception):
                error.__cause__ = ForkCallError(
                    f"in the child:\n{traceback.rstrip()}", name, text, traceback
                )
                return error
    what = {"call": "the child cannot take the call: ", "result": "the result cannot be pickled: "}
    error = ForkCallError(f"{what.get(stage, '')}{name}: {text}", name, text, traceback)
    error.add_note(f"in the child:\n{traceback.rstrip()}")
    return error


for _public in (ForkCallError, fork_call):
    _public.__module__ = "ae_core"
del _public
