"""What stands between a watcher function and its watcher: strict mode, wrapping."""

from __future__ import annotations

__all__ = ("Layer", "install_layer", "remove_layer", "through", "without")

from ._base import environ
from ._detection.current import current_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from ._loop.watchers import Watcher

    class Layer(Protocol):
        """Something between a watcher function and its watcher: strict mode, wrapping."""

        def wrap(
            self,
            kind: str,
            args: dict[str, Any],
            callback: Callable[..., object],
            create: Callable[[Callable[..., object]], Watcher],
        ) -> Any:
            """Make a watcher by ``create(callback)``, or refuse; return it or a stand-in."""
            ...

else:

    class Layer: ...


# The layers in force, outermost last; None while there are none, which is all that a watcher
# function looks at.
active: list[Layer] | None = None


def install_layer(layer: Layer) -> None:
    """Have every later watcher of the process made through *layer*."""
    global active
    active = [*(active or ()), layer]


def remove_layer(layer: Layer) -> None:
    """Undo :func:`install_layer`; watchers that exist stay as they are."""
    global active
    active = [other for other in active or () if other is not layer] or None


def through(
    kind: str,
    args: dict[str, Any],
    callback: Callable[..., object],
    create: Callable[[Callable[..., object]], Any],
) -> Any:
    """Make a watcher through the layers in force."""
    make = create
    for layer in active or ():
        make = _inside(layer, kind, args, make)
    return make(callback)


def _inside(
    layer: Layer,
    kind: str,
    args: dict[str, Any],
    create: Callable[[Callable[..., object]], Any],
) -> Callable[[Callable[..., object]], Any]:
    return lambda callback: layer.wrap(kind, args, callback, create)


def without(make: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call a watcher function as if there were no layers."""
    global active
    layers, active = active, None
    try:
        return make(*args, **options)
    finally:
        active = layers


class _FirstWatcher:
    """Detects before the first watcher is made, so that what the environment asks for counts.

    Strict mode and wrapping are layers that detection installs, and the first watcher detects.
    """

    def wrap(
        self,
        kind: str,
        args: dict[str, Any],
        callback: Callable[..., object],
        create: Callable[[Callable[..., object]], Watcher],
    ) -> Any:
        remove_layer(self)
        before = active or []
        current_loop()
        make = create
        for layer in active or ():
            if layer not in before:
                make = _inside(layer, kind, args, make)
        return make(callback)


if environ.get("AE_STRICT") or environ.get("AE_DEBUG_WRAP"):
    install_layer(_FirstWatcher())
