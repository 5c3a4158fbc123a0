"""Settings shared by many connections: trust, certificates, versions, names.

Turns one set of options into OpenSSL contexts, one for each role, and makes sessions from
them. Nothing is imported from OpenSSL before a context is made, and nothing can be changed
afterwards: a context may be shared by every connection of a program.
"""

from __future__ import annotations

__all__ = ("Context",)

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias

import ae_core as ae
from ae_handle import TlsError

from ._errors import from_openssl
from ._facts import Facts
from ._material import identity, system_ca
from ._options import alpn_list, ca_source, name_table, ocsp_option, refuse_removed, version_number
from ._resumption import SessionStore
from ._session import Session
from ._verify import NameCheck, VerifyInfo, ascii_host, ip_of, name_check

if TYPE_CHECKING:
    from OpenSSL import SSL

    from ae_handle.abc import TlsRole

    from ._material import Password, Path
    from ._options import Version

ServerNames: TypeAlias = "Mapping[str, Context] | Callable[[str | None], Context | None]"


class Context:
    """Everything that TLS connections of one kind share; secure if nothing is said.

    Without arguments it is what a client needs: TLS 1.2 or later, the certificate of the peer
    verified against the CAs of this machine, and its name compared with the peer's name.

    Args:
        verify: Whether the peer's certificate is verified. None: yes for ``connect``, and for
            ``accept`` if a client certificate is required. ``False`` turns everything off,
            the name check included.
        ca_file: A PEM file of CAs (and CRLs). With this, ``ca_path`` or ``ca_cert`` the CAs of
            the machine are not used. Without: ``AE_CA_FILE`` and ``AE_CA_PATH``, then
            ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, the store of the system, ``certifi``.
        ca_path: A directory as ``openssl rehash`` makes it.
        ca_cert: CAs and CRLs as PEM text, ``cryptography`` objects, or a list of them. What
            is trusted need not be self-signed: an intermediate CA, or the peer's own
            certificate, will do.
        cert_file: Our certificate in PEM, the chain behind it, and possibly the key.
        key_file: The key in PEM; None: it stands in the certificate's file or text.
        cert: Instead of ``cert_file``: PEM text, a ``cryptography`` certificate, or a list of
            those, our own first.
        key: Instead of ``key_file``: PEM text or a ``cryptography`` private key.
        cert_password: For an encrypted key: text, or a function that is called once.
        verify_name: How the name is checked: ``"dns"`` and its other names ``"http"``,
            ``"smtp"``... compare the host name or IP address with the subjectAltName;
            ``"xmpp"``, ``"imap"``, ``"pop3"``, ``"ldap"`` and ``"_SERVICE"`` accept that SRV-ID
            too; None or ``"none"`` checks no name; a function is called with the certificate
            and the name, and says yes or no. Applies to ``connect``; a function to both roles.
        verify_require_client_cert: An ``accept`` session fails unless the client shows a
            certificate that verifies.
        verify_callback: Has the last word about every certificate of the chain: it is called
            with a :class:`VerifyInfo` and says yes or no. To raise is to say no.
        check_crl: ``True``: the peer's certificate must be covered by a CRL, found in the
            sources of CAs. ``"chain"``: every certificate of the chain.
        min_version: ``"1.2"`` or ``"1.3"``; ``"1.0"`` and ``"1.1"`` on your own responsibility
            (RFC 8996), and OpenSSL needs ``cipher_list="DEFAULT:@SECLEVEL=0"`` for them.
        max_version: None: the newest.
        cipher_list: Ciphers up to TLS 1.2, in OpenSSL's syntax.
        ciphersuites: Cipher suites of TLS 1.3, separated by colons.
        alpn: Application protocols, the most wanted first. A server picks its own favourite
            among the client's, and ends the handshake if there is none (RFC 7301 3.2).
        server_names: For ``accept``: another context by the name the client asks for (SNI).
            A mapping may have ``"*.example.org"`` for one more label; a function is called
            with the name or None. Names not found are served by this context.
        session_cache: Whether sessions are resumed: an abbreviated handshake for a peer we
            spoke to before. Tickets on the server's side, a small store on the client's.
        ocsp: For ``connect``: ``True`` asks for a stapled OCSP response and refuses a bad one,
            ``"require"`` refuses a missing one too. For ``accept``: the response (DER), or a
            function that returns it or ``b""``.
        key_log_file: A file to which the secrets of every connection are appended, for
            Wireshark. Whoever reads it reads the connections.
        prepare: Called with each ``OpenSSL.SSL.Context`` before it is used.

    Raises:
        ValueError: An option's value, file or text is not what it must be; the message names
            the option. Both of a pair were given.
        TypeError: An option has an impossible type, or is one of AnyEvent::TLS's that is gone.
        OSError: A file cannot be read.

    Example:
        >>> Context(verify=False).new_session("connect", None).state
        'handshake'

    Perl: ``new AnyEvent::TLS``
    """

    __slots__ = (
        "__weakref__",
        "_alpn",
        "_ask_ocsp",
        "_borrowed",
        "_ca",
        "_check",
        "_check_crl",
        "_cipher_list",
        "_ciphersuites",
        "_identity",
        "_key_log_file",
        "_max_version",
        "_min_version",
        "_native",
        "_prepare",
        "_require",
        "_server_names",
        "_session_cache",
        "_sessions",
        "_staple",
        "_verify",
        "_verify_callback",
    )

    def __init__(
        self,
        *,
        verify: bool | None = None,
        ca_file: Path | None = None,
        ca_path: Path | None = None,
        ca_cert: object = None,
        cert_file: Path | None = None,
        key_file: Path | None = None,
        cert: object = None,
        key: object = None,
        cert_password: Password | None = None,
        verify_name: str | NameCheck | None = "dns",
        verify_require_client_cert: bool = False,
        verify_callback: Callable[[VerifyInfo], object] | None = None,
        check_crl: bool | Literal["chain"] = False,
        min_version: Version = "1.2",
        max_version: Version | None = None,
        cipher_list: str | None = None,
        ciphersuites: str | None = None,
        alpn: Iterable[str] | None = None,
        server_names: ServerNames | None = None,
        session_cache: bool = True,
        ocsp: bool | Literal["require"] | bytes | Callable[[], bytes] | None = None,
        key_log_file: Path | None = None,
        prepare: Callable[[SSL.Context], object] | None = None,
        **removed: NoReturn,
    ) -> None:
        if removed:
            refuse_removed(removed)
        if verify is False and verify_require_client_cert:
            raise ValueError("verify=False contradicts verify_require_client_cert=True")
        for option, value in (("verify_callback", verify_callback), ("prepare", prepare)):
            if value is not None and not callable(value):
                raise TypeError(f"{option} must be callable, got {value!r}")
        if check_crl not in (True, False, "chain"):
            raise ValueError(f"check_crl: expected True, False or 'chain', got {check_crl!r}")
        self._verify = verify
        self._check = name_check(verify_name)
        self._require = bool(verify_require_client_cert)
        self._verify_callback = verify_callback
        self._check_crl = check_crl
        self._min_version = version_number("min_version", min_version)
        self._max_version = version_number("max_version", max_version or "1.3")
        if self._max_version < self._min_version:
            raise ValueError(f"max_version {max_version!r} is below min_version {min_version!r}")
        self._cipher_list = cipher_list
        self._ciphersuites = ciphersuites
        self._alpn = alpn_list(alpn)
        self._server_names: ServerNames | None = (
            server_names
            if server_names is None or callable(server_names)
            else name_table(server_names, Context)
        )
        self._session_cache = bool(session_cache)
        self._sessions = SessionStore() if session_cache else None
        self._ask_ocsp, self._staple = ocsp_option(ocsp)
        self._key_log_file = None if key_log_file is None else os.fspath(key_log_file)
        self._prepare = prepare
        self._ca = ca_source(ca_file, ca_path, ca_cert)
        self._identity = identity(cert_file, key_file, cert, key, cert_password)
        self._native: dict[str, SSL.Context] = {}
        self._borrowed = False
        # What is wrong with an option is said here and now, not at the first connection. The
        # CAs of the machine are left for later: a server does without them.
        if self._identity is not None or self._require:
            self._build("accept")
        else:
            self._build("connect", load_system_ca=False)

    @classmethod
    def from_openssl(
        cls,
        native: SSL.Context,
        /,
        *,
        verify_name: str | NameCheck | None = "dns",
        session_cache: bool = True,
    ) -> Context:
        """Use a context that was made by hand, with everything that is set in it.

        If it verifies the peer (``VERIFY_PEER``), the name is checked as well, by a
        verification callback that takes the place of its own.

        Args:
            native: The context, ready for use in both roles.
            verify_name: As for the class.
            session_cache: As for the class, for ``connect``.

        Perl: ``AnyEvent::TLS::new_from_ssleay``
        """
        from OpenSSL import SSL

        if not isinstance(native, SSL.Context):
            raise TypeError(f"expected an OpenSSL.SSL.Context, got {native!r}")
        verifies = bool(native.get_verify_mode() & SSL.VERIFY_PEER)
        self = cls(verify=verifies, verify_name=verify_name, session_cache=session_cache)
        self._native = {"connect": native, "accept": native}
        self._borrowed = True
        return self

    def __repr__(self) -> str:
        from ._verify import subject_of

        who = "" if self._identity is None else f" for {subject_of(self._identity.certificate)!r}"
        return f"<ae_tls.Context{who} verify={self._verify}>"

    def new_session(self, role: TlsRole, peer_name: str | None = None, /) -> Session:
        """Make a session for one connection: see :class:`ae_handle.abc.TlsContext`.

        Args:
            role: ``"connect"`` for the client's part, ``"accept"`` for the server's.
            peer_name: The host name or IP address the peer must prove, for ``"connect"``; a
                host name is also sent as SNI.

        Raises:
            ValueError: If *role* is neither.
            TlsError: If the peer is to be verified and there is no name (``no-name``), a name
                no certificate can have (``wrong-name``) or no trusted CA at all
                (``untrusted``); if a server has no certificate (``no-certificate``).
        """
        if role == "connect":
            return self._connect(peer_name or None)
        if role == "accept":
            return self._accept(peer_name or None)
        raise ValueError(f"expected 'connect' or 'accept', got {role!r}")

    def can_resume(self, peer_name: str) -> bool:
        """Whether the next ``connect`` session with *peer_name* will offer to resume one.

        In TLS 1.3 that is so as soon as the server's ticket has arrived, behind the handshake.
        """
        return self._sessions is not None and peer_name in self._sessions

    # Sessions -----------------------------------------------------------------------------

    def _connect(self, peer_name: str | None) -> Session:
        from OpenSSL import SSL

        verify = self._verify is not False
        check = self._check if verify else None
        host = None if peer_name is None else ascii_host(peer_name)
        if isinstance(check, str):
            if peer_name is None:
                raise TlsError(
                    "verification needs the name of the peer: give the handle a peer_name, "
                    "or the context verify_name=None",
                    reason="no-name",
                )
            if host is None and ip_of(peer_name) is None:
                raise TlsError(
                    f"no certificate can name {peer_name!r}: it is not a host name",
                    reason="wrong-name",
                )
        native = self._native.get("connect") or self._build("connect")
        conn = SSL.Connection(native, None)
        conn.set_connect_state()
        if self._borrowed and verify:
            conn.set_verify(native.get_verify_mode(), _on_certificate)
        facts = Facts(
            "connect", peer_name, verify, check, self._verify_callback if verify else None
        )
        conn.set_app_data(facts)
        if host is not None:
            conn.set_tlsext_host_name(host.encode("ascii"))
        if verify and self._ask_ocsp:
            conn.request_ocsp()
        sessions = self._sessions
        resumable = False
        if sessions is not None and peer_name is not None:
            earlier = sessions.take(peer_name)
            if earlier is not None:
                conn.set_session(earlier)
                resumable = True
        return Session(conn, facts, None if sessions is None else sessions.put, resumable)

    def _accept(self, peer_name: str | None) -> Session:
        from OpenSSL import SSL

        if self._identity is None and not self._borrowed:
            raise TlsError(
                "a server needs a certificate: give the context cert_file or cert",
                reason="no-certificate",
            )
        native = self._native.get("accept") or self._build("accept")
        conn = SSL.Connection(native, None)
        conn.set_accept_state()
        if self._borrowed and self._verify:
            conn.set_verify(native.get_verify_mode(), _on_certificate)
        facts = Facts("accept", peer_name, *self._accept_checks())
        conn.set_app_data(facts)
        return Session(conn, facts, None, False)

    def _accept_checks(
        self,
    ) -> tuple[bool, NameCheck | None, Callable[[VerifyInfo], object] | None]:
        if not self._verifies("accept"):
            return False, None, None
        return True, self._check if callable(self._check) else None, self._verify_callback

    # OpenSSL's contexts -------------------------------------------------------------------

    def _verifies(self, role: TlsRole) -> bool:
        if self._verify is None:
            return role == "connect" or self._require
        return self._verify

    def _verify_mode(self, role: TlsRole) -> int:
        from OpenSSL import SSL

        if not self._verifies(role):
            return SSL.VERIFY_NONE
        mode = SSL.VERIFY_PEER
        if self._require:
            mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        return mode

    def _build(self, role: TlsRole, load_system_ca: bool = True) -> SSL.Context:
        """Make OpenSSL's context for *role*; the first call is the one that checks everything."""
        from OpenSSL import SSL

        native = SSL.Context(SSL.TLS_METHOD)
        native.set_min_proto_version(self._min_version)
        if self._max_version < version_number("max_version", "1.3"):
            native.set_max_proto_version(self._max_version)
        native.set_options(
            SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE
        )
        # 34 KiB less for every connection that is idle, at no cost that can be measured.
        native.set_mode(SSL.MODE_RELEASE_BUFFERS)
        self._set_ciphers(native)
        self._set_identity(native)
        verifies = self._verifies(role)
        native.set_verify(self._verify_mode(role), _on_certificate if verifies else None)
        complete = self._set_trust(native, verifies, load_system_ca)
        if self._alpn:
            if role == "connect":
                native.set_alpn_protos(self._alpn)
            else:
                native.set_alpn_select_callback(_alpn_chooser(self._alpn))
        if role == "accept":
            self._set_server_cache(native)
            if self._server_names is not None:
                native.set_tlsext_servername_callback(_name_dispatcher(self._server_names))
        else:
            native.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        self._set_ocsp(native, role)
        if self._key_log_file is not None:
            native.set_keylog_callback(_key_logger(self._key_log_file))
        if complete:
            if self._prepare is not None:
                self._prepare(native)
            self._native[role] = native
        return native

    def _set_ciphers(self, native: SSL.Context) -> None:
        from OpenSSL import SSL

        if self._cipher_list is not None:
            if not isinstance(self._cipher_list, str):
                raise TypeError(f"cipher_list must be str, got {self._cipher_list!r}")
            try:
                native.set_cipher_list(self._cipher_list.encode())
            except SSL.Error as error:
                raise ValueError(
                    f"{self._cipher_list!r} was not accepted as a valid cipher list"
                ) from error
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

        own = self._identity
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
                    "no CA certificates found, so nobody can be trusted: install the system's CA "
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

        if self._session_cache:
            # OpenSSL refuses to resume a session with a client certificate without this.
            native.set_session_id(secrets.token_bytes(16))
        else:
            native.set_session_cache_mode(SSL.SESS_CACHE_OFF)
            native.set_options(SSL.OP_NO_TICKET)

    def _set_ocsp(self, native: SSL.Context, role: TlsRole) -> None:
        if role == "connect":
            if self._ask_ocsp is not None and self._verifies(role):
                from ._ocsp import client_callback

                required = self._ask_ocsp == "require"
                native.set_ocsp_client_callback(client_callback(required=required))
        elif self._staple is not None:
            from ._ocsp import server_callback

            native.set_ocsp_server_callback(server_callback(self._staple))

    def _adopt(self, conn: SSL.Connection, facts: Facts) -> None:
        """Serve *conn*, begun by another context, with our certificate and checks."""
        if self._identity is None and not self._borrowed:
            raise TlsError("server_names gave a context without a certificate")
        conn.set_context(self._native.get("accept") or self._build("accept"))
        verifies = self._verifies("accept")
        conn.set_verify(self._verify_mode("accept"), _on_certificate if verifies else None)
        facts.verifies, facts.check, facts.verify_callback = self._accept_checks()


# OpenSSL's callbacks. They are plain functions, and closures over plain data: a context that
# OpenSSL's own context knew would be a cycle, and live until the garbage collector comes.


def _on_certificate(conn: SSL.Connection, x509: Any, code: int, depth: int, ok: int) -> bool:
    facts: Facts = conn.get_app_data()
    return facts.judge(x509.to_cryptography(), code, depth, bool(ok))


def _alpn_chooser(ours: list[bytes]) -> Callable[[SSL.Connection, list[bytes]], bytes]:
    def choose(conn: SSL.Connection, theirs: list[bytes]) -> bytes:
        for protocol in ours:
            if protocol in theirs:
                return protocol
        return b""  # the no_application_protocol alert

    return choose


def _name_dispatcher(names: ServerNames) -> Callable[[SSL.Connection], None]:
    def dispatch(conn: SSL.Connection) -> None:
        # pyOpenSSL would print what is raised here; the session reports it instead.
        facts: Facts = conn.get_app_data()
        try:
            raw = conn.get_servername()
            name = None if raw is None else raw.decode("ascii", "backslashreplace").lower()
            if callable(names):
                chosen = names(name)
            elif name is None:
                chosen = None
            else:
                chosen = names.get(name) or names.get("*." + name.partition(".")[2])
            if chosen is not None:
                if not isinstance(chosen, Context):
                    raise TypeError(f"server_names must give a Context or None, got {chosen!r}")
                chosen._adopt(conn, facts)
        except TlsError as error:
            facts.error = error
        except Exception as cause:
            facts.error = TlsError(f"server_names failed: {cause!r}")
            facts.error.__cause__ = cause

    return dispatch


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
