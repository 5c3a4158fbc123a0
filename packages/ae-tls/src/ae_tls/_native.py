"""OpenSSL's own contexts: made from our options when they are needed, one for each role.

Everything that OpenSSL decides by itself is set here and nowhere else. Never shared between two
``Context`` objects: the keys of a server's tickets and its session cache belong to one of them.
"""

from __future__ import annotations

__all__ = ("Natives", "on_certificate")

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal

import ae_core as ae
from ae_handle import TlsError

from ._errors import from_openssl
from ._material import system_ca
from ._suites import DEFAULT_CIPHERS, client_can, is_ordinary, may_serve, server_can

if TYPE_CHECKING:
    from OpenSSL import SSL
    from OpenSSL.crypto import X509Store

    from ae_handle.abc import TlsRole

    from ._material import CaSource, Identity
    from ._verification import Verification

_TLS_1_0: Final = 0x0301
_TLS_1_2: Final = 0x0303
_TLS_1_3: Final = 0x0304


class Natives:
    """The contexts that OpenSSL knows, for one ``Context``.

    Attributes:
        borrowed: The context the program made by hand, which then serves for everything.
        identity: Our own certificate and key, or None.
    """

    __slots__ = (
        "_alpn",
        "_ask_ocsp",
        "_ca",
        "_callback",
        "_check_crl",
        "_cipher_list",
        "_ciphersuites",
        "_key_log_file",
        "_made",
        "_max_version",
        "_min_version",
        "_prepare",
        "_require",
        "_session_cache",
        "_staple",
        "_verify",
        "borrowed",
        "identity",
    )

    def __init__(
        self,
        *,
        verify: bool | None,
        require: bool,
        callback: object,
        check_crl: bool | Literal["chain"],
        ca: CaSource | None,
        identity: Identity | None,
        min_version: int,
        max_version: int,
        cipher_list: str | None,
        ciphersuites: str | None,
        alpn: list[bytes],
        session_cache: bool,
        ask_ocsp: Literal["optional", "require"] | None,
        staple: bytes | Callable[[], bytes] | None,
        key_log_file: str | None,
        prepare: Callable[[SSL.Context], object] | None,
    ) -> None:
        self._verify = verify
        self._require = require
        self._callback = callback
        self._check_crl = check_crl
        self._ca = ca
        self.identity = identity
        self._min_version = min_version
        self._max_version = max_version
        self._cipher_list = cipher_list
        self._ciphersuites = ciphersuites
        self._alpn = alpn
        self._session_cache = session_cache
        self._ask_ocsp = ask_ocsp
        self._staple = staple
        self._key_log_file = key_log_file
        self._prepare = prepare
        self._made: dict[TlsRole, SSL.Context] = {}
        self.borrowed: SSL.Context | None = None

    def check(self) -> None:
        """Say now what is wrong with an option, and not at the first connection.

        Raises:
            ValueError, TypeError, OSError: It names the option.
        """
        # The CAs of the machine are left for later: a server does without them.
        if self.identity is not None or self._require:
            self._build("accept")
        else:
            self._build("connect", load_system_ca=False)
        self._check_suites()

    def _check_suites(self) -> None:
        """Refuse settings that leave nothing to agree on, in a version they are meant for."""
        own = self.identity
        serves = own is not None and may_serve(own.certificate)
        modern = [v for v in (_TLS_1_2, _TLS_1_3) if self._min_version <= v <= self._max_version]
        versions = modern or [self._max_version]
        given = {v: self._ciphersuites if v == _TLS_1_3 else self._cipher_list for v in versions}
        defaults = all(value is None for value in given.values())
        if defaults and modern and (own is None or is_ordinary(own.key)):
            return
        can = {v: self._can(v, serves) for v in versions}
        for version, usable in can.items():
            if not usable and (given[version] is not None or not any(can.values())):
                option = "ciphersuites" if version == _TLS_1_3 else "cipher_list"
                name = f"TLS 1.{version - _TLS_1_0}"
                key = " that the key of the certificate can serve" if serves else ""
                value = given[version]
                what = f"{option}={value!r}" if value is not None else f"the default {option}"
                raise ValueError(
                    f"{what} leaves no cipher suite for {name}{key}: expected others, "
                    "or another min_version or max_version"
                )

    def _can(self, version: int, serves: bool) -> bool:
        from OpenSSL import SSL

        native = SSL.Context(SSL.TLS_METHOD)
        native.set_min_proto_version(version)
        native.set_max_proto_version(version)
        self._set_ciphers(native)
        if not serves:
            return client_can(native)
        self._set_identity(native)
        return server_can(native)

    def get(self, role: TlsRole) -> SSL.Context:
        """Return OpenSSL's context for *role*, made if it is the first time."""
        return self.borrowed or self._made.get(role) or self._build(role)

    def begin(self, role: TlsRole, verification: Verification) -> SSL.Connection:
        """Make a connection whose callbacks know *verification*."""
        from OpenSSL import SSL

        native = self.get(role)
        conn = SSL.Connection(native, None)
        if role == "connect":
            conn.set_connect_state()
        else:
            conn.set_accept_state()
        if self.borrowed is not None and verification.verifies:
            conn.set_verify(native.get_verify_mode(), on_certificate)
        conn.set_app_data(verification)
        return conn

    def verifies(self, role: TlsRole) -> bool:
        """Whether the peer's certificate is verified."""
        if self._verify is None:
            return role == "connect" or self._require
        return self._verify

    def resumes(self, role: TlsRole) -> bool:
        """Whether sessions may be resumed at all.

        Not if a function has the last word about every certificate of the chain: there is no
        chain in an abbreviated handshake, and what it would say now is not known.
        """
        return self._session_cache and not (self._callback is not None and self.verifies(role))

    def changing_store(self, role: TlsRole) -> X509Store | None:
        """Return the trust store if it may judge a chain differently than before.

        None if that is a matter of the dates in the chain alone: whom we trust is fixed with
        the context. CRLs come and expire, and code that has OpenSSL's context may change it.
        """
        if not self._check_crl and self._prepare is None and self.borrowed is None:
            return None
        return self.get(role).get_cert_store()

    # Making one ---------------------------------------------------------------------------

    def _build(self, role: TlsRole, load_system_ca: bool = True) -> SSL.Context:
        """Make OpenSSL's context for *role*; the first call is the one that checks everything."""
        from OpenSSL import SSL

        native = SSL.Context(SSL.TLS_METHOD)
        native.set_min_proto_version(self._min_version)
        if self._max_version < _TLS_1_3:
            native.set_max_proto_version(self._max_version)
        native.set_options(
            SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE
        )
        # 34 KiB less for every connection that is idle, at no cost that can be measured.
        native.set_mode(SSL.MODE_RELEASE_BUFFERS)
        self._set_ciphers(native)
        self._set_identity(native)
        verifies = self.verifies(role)
        native.set_verify(self._verify_mode(role), on_certificate if verifies else None)
        complete = self._set_trust(native, verifies, load_system_ca)
        if self._alpn:
            if role == "connect":
                native.set_alpn_protos(self._alpn)
            else:
                native.set_alpn_select_callback(_alpn_chooser(self._alpn))
        if role == "accept":
            self._set_server_cache(native)
            # Without it OpenSSL does not note the name in the sessions of TLS 1.2.
            native.set_tlsext_servername_callback(_acknowledge)
        else:
            native.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        self._set_ocsp(native, role)
        if self._key_log_file is not None:
            native.set_keylog_callback(_key_logger(self._key_log_file))
        if complete:
            if self._prepare is not None:
                self._prepare(native)
            self._made[role] = native
        return native

    def _verify_mode(self, role: TlsRole) -> int:
        from OpenSSL import SSL

        if not self.verifies(role):
            return SSL.VERIFY_NONE
        mode = SSL.VERIFY_PEER
        if self._require:
            mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        return mode

    def _set_ciphers(self, native: SSL.Context) -> None:
        from OpenSSL import SSL

        if self._cipher_list is not None and not isinstance(self._cipher_list, str):
            raise TypeError(f"cipher_list must be str, got {self._cipher_list!r}")
        ciphers = DEFAULT_CIPHERS if self._cipher_list is None else self._cipher_list
        try:
            native.set_cipher_list(ciphers.encode())
        except SSL.Error as error:
            raise ValueError(f"{ciphers!r} was not accepted as a valid cipher list") from error
        if self._ciphersuites is not None:
            if not isinstance(self._ciphersuites, str):
                raise TypeError(f"ciphersuites must be str, got {self._ciphersuites!r}")
            try:
                native.set_tls13_ciphersuites(self._ciphersuites.encode())
            except SSL.Error as error:
                raise ValueError(
                    f"{self._ciphersuites!r} was not accepted as a list of TLS 1.3 cipher suites"
                ) from error

    def _set_identity(self, native: SSL.Context) -> None:
        from OpenSSL import SSL

        own = self.identity
        if own is None:
            return
        try:
            native.use_certificate(own.certificate)
            native.use_privatekey(own.key)  # type: ignore[arg-type]  # or it raises TypeError
            for issuer in own.chain:
                native.add_extra_chain_cert(issuer)
            native.check_privatekey()
        except (SSL.Error, TypeError) as error:
            text = from_openssl(error.args) if isinstance(error, SSL.Error) else error
            raise ValueError(f"OpenSSL does not accept the certificate or key: {text}") from error

    def _set_trust(self, native: SSL.Context, verifies: bool, load_system_ca: bool) -> bool:
        """Fill the trust store; returns False if it was left for the first connection."""
        from OpenSSL import SSL, crypto

        source = self._ca
        if source is None:
            if not verifies:
                return True
            if not load_system_ca:
                return False
            source = system_ca()
            if not source:
                raise TlsError(
                    "no CA certificates found, so no peer can be trusted: install the system's CA "
                    "store or certifi, or give ca_file, ca_path or ca_cert",
                    reason="untrusted",
                )
        store = native.get_cert_store()
        assert store is not None
        for file in source.files:
            try:
                native.load_verify_locations(file)
            except SSL.Error as error:
                raise ValueError(f"ca_file {file!r}: no CA certificate in it") from error
        for directory in source.directories:
            native.load_verify_locations(None, directory)
        for certificate in source.certificates:
            store.add_cert(crypto.X509.from_cryptography(certificate))
        for crl in source.crls:
            store.add_crl(crl)
        # What is in the store is trusted as it stands, self-signed or not.
        flags = crypto.X509StoreFlags.PARTIAL_CHAIN
        if self._check_crl:
            flags |= crypto.X509StoreFlags.CRL_CHECK
        if self._check_crl == "chain":
            flags |= crypto.X509StoreFlags.CRL_CHECK_ALL
        store.set_flags(flags)
        return True

    def _set_server_cache(self, native: SSL.Context) -> None:
        import secrets

        from OpenSSL import SSL

        if self.resumes("accept"):
            # OpenSSL refuses to resume a session with a client certificate without this.
            native.set_session_id(secrets.token_bytes(16))
        else:
            native.set_session_cache_mode(SSL.SESS_CACHE_OFF)
            native.set_options(SSL.OP_NO_TICKET)

    def _set_ocsp(self, native: SSL.Context, role: TlsRole) -> None:
        if role == "connect":
            if self._ask_ocsp is not None and self.verifies(role):
                from ._ocsp import client_callback

                required = self._ask_ocsp == "require"
                native.set_ocsp_client_callback(client_callback(required=required))
        elif self._staple is not None:
            from ._ocsp import server_callback

            native.set_ocsp_server_callback(server_callback(self._staple))


# OpenSSL's callbacks. They are plain functions, and closures over plain data: a reference from
# OpenSSL's context to ours would be a cycle, which only the garbage collector frees.


def on_certificate(conn: SSL.Connection, x509: Any, code: int, depth: int, ok: int) -> bool:
    """Give the verdict on one certificate of the peer's chain."""
    verification: Verification = conn.get_app_data()
    return verification.judge(x509.to_cryptography(), code, depth, bool(ok))


def _acknowledge(conn: SSL.Connection) -> None:
    """The name was read, and the context chosen by it, before there was a connection."""


def _alpn_chooser(ours: list[bytes]) -> Callable[[SSL.Connection, list[bytes]], bytes]:
    def choose(conn: SSL.Connection, theirs: list[bytes]) -> bytes:
        for protocol in ours:
            if protocol in theirs:
                return protocol
        return b""  # the no_application_protocol alert

    return choose


def _key_logger(path: str) -> Callable[[SSL.Connection, bytes], None]:
    def append(data: bytes) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)

    def log(conn: SSL.Connection, line: bytes) -> None:
        try:
            append(line + b"\n")
        except OSError as error:
            ae.log("error", "key_log_file: %s", error)

    append(b"")  # an OSError that names the file, now
    return log
