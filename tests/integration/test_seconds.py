"""A number of seconds that no float can hold is refused as infinity is, by whatever takes one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
import ae_dns
import ae_socket
from ae_handle import Handle

TOO_MUCH: Any = 10**400


@pytest.fixture
def handle() -> Iterator[Handle]:
    ours, theirs = socket.socketpair()
    with theirs, Handle(ours) as handle:
        yield handle


@pytest.mark.parametrize(
    "take",
    [
        pytest.param(lambda seconds: ae.timer(seconds, print), id="timer"),
        pytest.param(lambda seconds: ae.timer(1, print, interval=seconds), id="interval"),
        pytest.param(ae.sleep, id="sleep"),
        pytest.param(lambda seconds: ae.CondVar[None]().recv(seconds), id="recv"),
        pytest.param(lambda seconds: ae.files.utime("x", seconds, 1), id="atime"),
        pytest.param(lambda seconds: ae.files.utime("x", 1, seconds), id="mtime"),
        pytest.param(
            lambda seconds: ae_socket.tcp_connect("127.0.0.1", 9, timeout=seconds), id="tcp_connect"
        ),
        pytest.param(lambda seconds: ae_dns.Resolver(timeouts=(1, seconds)), id="resolver"),
    ],
)
@pytest.mark.parametrize("seconds", [TOO_MUCH, -TOO_MUCH], ids=["positive", "negative"])
def test_it_is_a_value_error(take: Callable[[Any], object], seconds: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        take(seconds)


@pytest.mark.parametrize("name", ["timeout", "read_timeout", "write_timeout", "linger"])
@pytest.mark.parametrize("seconds", [TOO_MUCH, -TOO_MUCH], ids=["positive", "negative"])
def test_it_is_a_value_error_of_a_handle(name: str, seconds: int, handle: Handle) -> None:
    with pytest.raises(ValueError, match=name):
        setattr(handle, name, seconds)
    options: dict[str, Any] = {name: seconds}
    with pytest.raises(ValueError, match=name):
        Handle(connect=("127.0.0.1", 9), **options)


def test_a_number_that_no_system_call_takes_is_refused_at_the_call(tmp_path: Path) -> None:
    file = tmp_path / "x"
    for call in (
        lambda: ae.files.truncate(file, TOO_MUCH),
        lambda: ae.files.chmod(file, TOO_MUCH),
        lambda: ae.files.chown(file, TOO_MUCH, None),
        lambda: ae.files.seek(0, TOO_MUCH),
        lambda: ae.files.utime(file, 1e300, 1),
        lambda: ae.child(TOO_MUCH, print),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()
