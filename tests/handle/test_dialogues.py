"""What is said before TLS, with servers that refuse it or speak something else."""

from __future__ import annotations

from typing import Any

import pytest

import ae_core as ae
from ae_handle import BadMessage, Handle
from ae_handle.starttls import PORTS, negotiate
from ae_handle.testing import ScriptedPeer

PATIENCE = 30.0
SIEVE = b'"IMPLEMENTATION" "x"\r\n"STARTTLS"\r\nOK\r\n'
#: An ExtendedResponse with result 52, unavailable.
UNAVAILABLE = b"\x30\x0c\2\1\1\x78\7\x0a\1\x34\4\0\4\0"


def said_of(protocol: str, *steps: bytes) -> str:
    """Return why *protocol* does not go on to TLS with a server that says *steps*."""
    peer = ScriptedPeer()
    for step in steps:
        peer.send(step)
    handle = Handle(peer.stream)
    with pytest.raises(BadMessage) as caught:
        ae.spawn(negotiate(handle, protocol, "peer.test")).recv(PATIENCE)
    handle.destroy()
    return str(caught.value)


def test_a_server_of_sieve_that_takes_its_offer_back_is_refused() -> None:
    assert said_of("sieve", SIEVE, b'NO "not now"\r\n') == (
        "the server refuses STARTTLS: b'NO \"not now\"'"
    )


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param(b"HTTP/1.1 400\r\n", "the answer is no LDAP message", id="something else"),
        pytest.param(
            b"\x30\x84\0\1\0\1",
            "an LDAP message of 65537 bytes is no answer to StartTLS",
            id="too long",
        ),
        pytest.param(
            b"\x30\7\2\1\1\x61\2\x0a\0", "the answer is no ExtendedResponse", id="another response"
        ),
        pytest.param(b"\x30\1\2", "the LDAP message is too short", id="half an element"),
        pytest.param(b"\x30\5\2\1\1\x78\x09", "the LDAP message is too short", id="cut off"),
        pytest.param(UNAVAILABLE, "the server refuses StartTLS with result 52", id="refused"),
    ],
)
def test_an_answer_of_ldap_that_is_no_yes_is_refused(answer: bytes, why: str) -> None:
    assert said_of("ldap", answer) == why


def test_an_unknown_protocol_is_refused_with_those_that_are_known() -> None:
    handle = Handle(ScriptedPeer().stream)
    wrong: Any
    for wrong in ("gopher", ["smtp"]):
        with pytest.raises(ValueError, match=r"expected one of ftp, .*xmpp, got ") as caught:
            ae.spawn(negotiate(handle, wrong, "peer.test")).recv(PATIENCE)
        assert all(name in str(caught.value) for name in PORTS)
    handle.destroy()
