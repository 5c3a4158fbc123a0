"""SASL: PLAIN, EXTERNAL and SCRAM-SHA-256, as conversations of bytes, and AUTHENTICATE's lines.

Sans-I/O: a mechanism is a generator that yields what the client says, and is sent what the server
says. RFC 4616, RFC 4422 appendix A, RFC 5802 and 7677, IRCv3 "sasl-3.1" and "sasl-3.2".
"""

from __future__ import annotations

__all__ = (
    "Sasl",
    "SaslRefused",
    "authenticate",
    "external",
    "is_done",
    "parse_sasl",
    "plain",
    "scram_sha_256",
)

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import stringprep
import unicodedata
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final

_CHUNK: Final = 400
_ROUNDS: Final = re.compile(r"[0-9]{1,9}")
#: A server that wants more rounds than this of a client is after its processor (RFC 7677: 4096).
_MAX_ROUNDS: Final = 1_000_000
MECHANISMS: Final = ("SCRAM-SHA-256", "EXTERNAL", "PLAIN")

Conversation = Generator[bytes, bytes, None]


class SaslRefused(ValueError):
    """The server's side of the conversation is wrong: it is not who knows the password."""


@dataclass(frozen=True, slots=True)
class Sasl:
    """As whom to log in.

    Args:
        username: The account; may be None with EXTERNAL.
        password: None with EXTERNAL, where the certificate of the connection says who it is.
        mechanisms: Which may be used, the best first. By default SCRAM-SHA-256 and then PLAIN with
            a password, EXTERNAL without one. PLAIN tells the password to the server, so it is used
            within TLS only, unless named here.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    mechanisms: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = [name for name in self.mechanisms if name not in MECHANISMS]
        if unknown:
            raise ValueError(f"expected mechanisms of {', '.join(MECHANISMS)}, got {unknown[0]!r}")
        if self.password is not None and not self.username:
            raise ValueError("expected a username for the password")
        if self.password is None and set(self.mechanisms) - {"EXTERNAL"}:
            raise ValueError(f"expected a password for {self.mechanisms!r}")

    def candidates(self, offered: str, *, secure: bool) -> list[str]:
        """Return the mechanisms to try, in order.

        Args:
            offered: The value of the capability: names with commas between, empty if it does not
                say.
            secure: Whether the connection is TLS.
        """
        names = list(self.mechanisms)
        if not names:
            names = ["EXTERNAL"]
            if self.password is not None:
                names = ["SCRAM-SHA-256", "PLAIN"] if secure else ["SCRAM-SHA-256"]
        known = [name.upper() for name in offered.split(",") if name]
        return [name for name in names if not known or name in known]

    def conversation(self, mechanism: str) -> Conversation:
        """Return the client's side of *mechanism*."""
        if mechanism == "EXTERNAL":
            return external(self.username or "")
        assert self.username is not None
        assert self.password is not None
        if mechanism == "PLAIN":
            return plain(self.username, self.password)
        return scram_sha_256(self.username, self.password)


def is_done(conversation: Conversation) -> bool:
    """Whether *conversation* waits for nothing more that the server has to say; ends it."""
    try:
        conversation.send(b"")
    except StopIteration:
        return True
    except SaslRefused:
        return False
    return False


def plain(username: str, password: str) -> Conversation:
    """Tell name and password (RFC 4616)."""
    if "\0" in username + password:
        raise ValueError("expected name and password without NUL")
    yield f"\0{username}\0{password}".encode()


def external(identity: str = "") -> Conversation:
    """Leave it to the certificate; *identity* is who to be, empty for who that says."""
    yield identity.encode()


def scram_sha_256(username: str, password: str, nonce: str | None = None) -> Conversation:
    """Prove the password without telling it, and have the server prove that it knows it.

    Raises:
        SaslRefused: The server does not, or speaks nonsense.
    """
    nonce = nonce or secrets.token_urlsafe(24)
    name = _prepared(username).replace("=", "=3D").replace(",", "=2C")
    bare = f"n={name},r={nonce}"
    first = _attributes((yield f"n,,{bare}".encode()))
    server_nonce = first.get("r", "")
    if not server_nonce.startswith(nonce) or server_nonce == nonce:
        raise SaslRefused("the server's nonce does not begin with ours")
    rounds = first.get("i", "")
    if not _ROUNDS.fullmatch(rounds) or not 1 <= int(rounds) <= _MAX_ROUNDS:
        raise SaslRefused(f"expected a number of rounds up to {_MAX_ROUNDS}, got {rounds!r:.40}")
    salt = _decoded(first.get("s", ""))
    salted = hashlib.pbkdf2_hmac("sha256", _prepared(password).encode(), salt, int(rounds))
    client_key = _hmac(salted, b"Client Key")
    server_first = ",".join(f"{key}={value}" for key, value in first.items())
    proofless = f"c=biws,r={server_nonce}"
    signed = f"{bare},{server_first},{proofless}".encode()
    signature = _hmac(hashlib.sha256(client_key).digest(), signed)
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    final = _attributes((yield f"{proofless},p={base64.b64encode(proof).decode()}".encode()))
    if "e" in final:
        raise SaslRefused(f"the server refuses the proof: {final['e']!r:.60}")
    expected = _hmac(_hmac(salted, b"Server Key"), signed)
    if not hmac.compare_digest(_decoded(final.get("v", "")), expected):
        raise SaslRefused("the server does not know the password")
    yield b""


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _attributes(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        words = data.decode().split(",")
    except UnicodeDecodeError:
        raise SaslRefused("expected text") from None
    for word in words:
        key, equals, value = word.partition("=")
        if len(key) != 1 or not equals or key in found or key == "m":
            raise SaslRefused(f"expected attributes once each, got {word!r:.60}")
        found[key] = value
    return found


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SaslRefused(f"expected Base64, got {text!r:.60}") from None


def _prepared(text: str) -> str:
    """SASLprep (RFC 4013), without its checks of unassigned and bidirectional characters."""
    mapped = [
        " " if stringprep.in_table_c12(char) else char
        for char in text
        if not stringprep.in_table_b1(char)
    ]
    normal = unicodedata.normalize("NFKC", "".join(mapped))
    if any(stringprep.in_table_c21_c22(char) for char in normal):
        raise ValueError("expected name and password without control characters")
    return normal


def authenticate(data: bytes) -> list[str]:
    """Return the parameters of the AUTHENTICATE lines that carry *data*."""
    text = base64.b64encode(data).decode()
    chunks = [text[at : at + _CHUNK] for at in range(0, len(text), _CHUNK)]
    if not chunks or len(chunks[-1]) == _CHUNK:
        chunks.append("+")
    return chunks


def parse_sasl(chunks: list[str]) -> bytes:
    """Return what the AUTHENTICATE lines of a server carry.

    Raises:
        SaslRefused: It is no Base64.
    """
    return _decoded("".join(chunk for chunk in chunks if chunk != "+"))
