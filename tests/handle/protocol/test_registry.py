"""Names for frame types."""

from __future__ import annotations

import pytest

from ae_handle import Json, Line, register_frame_type
from ae_handle._protocol.registry import resolve_frame


def factory() -> Line:
    return Line(b"|")


def test_built_in_names() -> None:
    assert resolve_frame("line") == Line()
    assert resolve_frame("json") == Json()


def test_a_registered_name_means_the_factory() -> None:
    register_frame_type("test-registered", factory)
    assert resolve_frame("test-registered") == Line(b"|")
    register_frame_type("test-registered", factory)  # a module may be imported twice


def test_a_name_is_never_taken_over() -> None:
    register_frame_type("test-taken", factory)
    for name in ("test-taken", "line", "chunk"):
        with pytest.raises(ValueError, match="exists already"):
            register_frame_type(name, Line)


@pytest.mark.parametrize(
    ("name", "made_by"), [(5, factory), ("x", "not callable"), (b"x", factory)]
)
def test_arguments_are_checked(name: object, made_by: object) -> None:
    with pytest.raises(TypeError, match="a name and a callable"):
        register_frame_type(name, made_by)  # type: ignore[arg-type]


def test_the_empty_name_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        register_frame_type("", factory)


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"unknown frame type 'nosuch'.*line.*or an object"):
        resolve_frame("nosuch")


@pytest.mark.parametrize("name", ["chunk", "regex", "packstring", "tls_autostart"])
def test_a_type_that_needs_parameters_says_so(name: str) -> None:
    with pytest.raises(ValueError, match="needs parameters: pass"):
        resolve_frame(name)
