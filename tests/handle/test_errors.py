"""The error tree."""

from __future__ import annotations

import errno
import pickle

import pytest

import ae_handle
from ae_core import AEError
from ae_handle import (
    BadMessage,
    BufferLimitExceeded,
    HandleDestroyed,
    HandleError,
    HandleTimedOut,
    TlsError,
    TlsUnavailable,
    TransportError,
    UnexpectedEOF,
)

TREE = [
    (UnexpectedEOF, errno.EPIPE, True),
    (BufferLimitExceeded, errno.ENOSPC, True),
    (BadMessage, errno.EBADMSG, False),
    (TransportError, errno.EIO, True),
    (HandleTimedOut, errno.ETIMEDOUT, False),
    (TlsError, errno.EPROTO, True),
    (TlsUnavailable, errno.EPROTO, True),
    (HandleDestroyed, errno.ECANCELED, True),
]


@pytest.mark.parametrize(("kind", "number", "fatal"), TREE)
def test_each_has_its_number(kind: type[HandleError], number: int, fatal: bool) -> None:
    error = kind()
    assert isinstance(error, HandleError)
    assert isinstance(error, AEError)
    assert isinstance(error, OSError)
    assert (error.errno, error.fatal) == (number, fatal)
    assert str(error)
    assert str(kind("in words")) == "in words"


@pytest.mark.parametrize("kind", [kind for kind, _, _ in TREE])
def test_they_survive_pickling(kind: type[HandleError]) -> None:
    error = kind("in words", errno=5, fatal=False)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (str(copy), copy.errno, copy.fatal) == ("in words", 5, False)


def test_a_tls_error_has_a_reason() -> None:
    assert TlsError().reason == "protocol"
    error = pickle.loads(pickle.dumps(TlsError("late", reason="expired")))
    assert error.reason == "expired"
    assert TlsUnavailable().reason == "unavailable"
    assert "ae-tls" in str(TlsUnavailable())


def test_a_time_out_is_one_for_everybody() -> None:
    assert issubclass(HandleTimedOut, TimeoutError)


def test_repr_tells_all() -> None:
    assert repr(BadMessage("x")) == f"BadMessage('x', errno={errno.EBADMSG}, fatal=False)"


def test_they_live_where_they_are_imported_from() -> None:
    assert {kind.__module__ for kind, _, _ in TREE} == {ae_handle.__name__}
