"""The default ciphers, and whether settings leave any cipher at all.

No network, and no rules of our own: what can be agreed on is tried, between two connections in
memory.
"""

from __future__ import annotations

__all__ = ("DEFAULT_CIPHERS", "client_can", "is_ordinary", "may_serve", "server_can")

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from OpenSSL import SSL

#: Up to TLS 1.2: forward secrecy by elliptic curves, and AEAD (RFC 9325 4.2). The suites of
#: TLS 1.3 are all of that kind.
DEFAULT_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"

_EVERYTHING: Final = b"ALL:COMPLEMENTOFALL:@SECLEVEL=0"
_OLDEST: Final = 0x0301
_ORDINARY_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")
_ROUNDS: Final = 10
_SIZE: Final = 1 << 16


def is_ordinary(key: object) -> bool:
    """Whether the default ciphers are known to serve with *key*, so that no trial is needed."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.curve.name in _ORDINARY_CURVES
    return isinstance(key, (rsa.RSAPrivateKey, ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey))


def may_serve(certificate: Certificate) -> bool:
    """Whether *certificate* is not for clients only."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID as Oid

    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return True
    return Oid.SERVER_AUTH in usage or Oid.ANY_EXTENDED_KEY_USAGE in usage


def client_can(native: SSL.Context) -> bool:
    """Whether a client with *native* has anything to offer."""
    from OpenSSL import SSL

    client = SSL.Connection(native, None)
    client.set_connect_state()
    can = False
    try:
        client.do_handshake()
    except SSL.Error as error:
        can = isinstance(error, SSL.WantReadError)  # it waits for the answer to its offer
    return can


def server_can(native: SSL.Context) -> bool:
    """Whether a server with *native* can agree with a client that knows every cipher."""
    from OpenSSL import SSL

    everything = SSL.Context(SSL.TLS_METHOD)
    everything.set_min_proto_version(_OLDEST)
    everything.set_cipher_list(_EVERYTHING)
    client, server = SSL.Connection(everything, None), SSL.Connection(native, None)
    client.set_connect_state()
    server.set_accept_state()
    done = 0
    for _ in range(_ROUNDS):
        done = 0
        for sender, receiver in ((client, server), (server, client)):
            try:
                sender.do_handshake()
                done += 1
            except SSL.WantReadError:
                pass
            except SSL.Error:
                return False
            try:
                receiver.bio_write(sender.bio_read(_SIZE))
            except SSL.WantReadError:
                continue
        if done == 2:
            break
    return done == 2
