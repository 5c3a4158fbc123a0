"""Settings shared by many connections: trust, certificates, versions, names.

Takes the options, and makes sessions by them. Nothing is imported from OpenSSL before a context
is made, and nothing can be changed afterwards: a context may be shared by every connection of a
program.
"""

from __future__ import annotations

__all__ = ("Context",)

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Literal, NoReturn, TypeAlias

from ae_handle import TlsError

from ._material import identity
from ._native import Natives
from ._options import alpn_list, ca_source, name_table, ocsp_option, refuse_removed, version_number
from ._resumption import Proof, SessionStore
from ._server import Server
from ._session import Session
from ._verification import Verification
from ._verify import NameCheck, VerifyInfo, ascii_host, ip_of, name_check, subject_of, why_not

if TYPE_CHECKING:
    from OpenSSL import SSL

    from ae_handle.abc import TlsRole

    from ._material import Password, Path
    from ._options import Version

ServerNames: TypeAlias = "Mapping[str, Context] | Callable[[str | None], Context | None]"


class Context:
    """Everything that TLS connections of one kind share; secure by default.

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
            with a :class:`VerifyInfo` and says yes or no. To raise is to say no. Nothing is
            resumed then: an abbreviated handshake shows no chain.
        check_crl: ``True``: the peer's certificate must be covered by a CRL, found in the
            sources of CAs. ``"chain"``: every certificate of the chain.
        min_version: ``"1.2"`` or ``"1.3"``; ``"1.0"`` and ``"1.1"`` on your own responsibility
            (RFC 8996), and they need ``cipher_list="DEFAULT:@SECLEVEL=0"``.
        max_version: None: the newest.
        cipher_list: Ciphers up to TLS 1.2, in OpenSSL's syntax. None: forward secrecy by
            elliptic curves, with AES-GCM or ChaCha20-Poly1305 (RFC 9325).
        ciphersuites: Cipher suites of TLS 1.3, separated by colons. None: all that OpenSSL has
            on by default.
        alpn: Application protocols, the most wanted first. A server picks its own favourite
            among the client's, and ends the handshake if there is none (RFC 7301 3.2).
        server_names: For ``accept``: another context by the name the client asks for (SNI),
            and all its settings count. A mapping may have ``"*.example.org"`` for one more
            label; a function is called with the name or None. Names not found are served by
            this context. Case does not count, nor does a final dot; a function gets the name
            without them.
        session_cache: Whether sessions are resumed: an abbreviated handshake for a peer we
            spoke to before, if every check of the full one would pass again. Tickets
            on the server's side, a small store on the client's. No session leaves its context.
        ocsp: For ``connect``: ``True`` asks for a stapled OCSP response and refuses a bad one,
            ``"require"`` refuses a missing one too. For ``accept``: the response (DER), or a
            function that returns it or ``b""``.
        key_log_file: A file to which the secrets of every connection are appended, for
            Wireshark. Any reader of it can read the connections.
        prepare: Called with each ``OpenSSL.SSL.Context`` before it is used; there is one for
            each role. What it changes is on its own responsibility.

    Raises:
        ValueError: An option's value, file or text is not what it must be; the message names
            the option. Both of a pair were given. Versions, ciphers and the key of the
            certificate leave nothing to agree on.
        TypeError: An option has an impossible type, or is one of AnyEvent::TLS's that is gone.
        OSError: A file cannot be read.

    Example:
        >>> Context(verify=False).new_session("connect", None).state
        'handshake'

    Perl: ``new AnyEvent::TLS``
    """

    __slots__ = (
        "__weakref__",
        "_ask_ocsp",
        "_check",
        "_native",
        "_server",
        "_sessions",
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
        low = version_number("min_version", min_version)
        high = version_number("max_version", max_version or "1.3")
        if high < low:
            raise ValueError(f"max_version {max_version!r} is below min_version {min_version!r}")
        names: ServerNames | None = (
            server_names
            if server_names is None or callable(server_names)
            else name_table(server_names, Context)
        )
        self._verify = verify
        self._check = name_check(verify_name)
        self._verify_callback = verify_callback
        self._ask_ocsp, staple = ocsp_option(ocsp)
        self._native = Natives(
            verify=verify,
            require=bool(verify_require_client_cert),
            callback=verify_callback,
            check_crl=check_crl,
            ca=ca_source(ca_file, ca_path, ca_cert),
            identity=identity(cert_file, key_file, cert, key, cert_password),
            min_version=low,
            max_version=high,
            cipher_list=cipher_list,
            ciphersuites=ciphersuites,
            alpn=alpn_list(alpn),
            session_cache=bool(session_cache),
            ask_ocsp=self._ask_ocsp,
            staple=staple,
            key_log_file=None if key_log_file is None else os.fspath(key_log_file),
            prepare=prepare,
        )
        self._server = Server(
            self._native,
            self._check,
            verify_callback,
            None if names is None else _server_finder(names),
        )
        self._sessions = SessionStore() if self._native.resumes("connect") else None
        self._native.check()

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
        verification callback that takes the place of its own. For a server that does, OpenSSL
        wants a ``set_session_id``, or it refuses clients that come back.

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
        self._native.borrowed = native
        return self

    def __repr__(self) -> str:
        own = self._native.identity
        who = "" if own is None else f" for {subject_of(own.certificate)!r}"
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
            server = self._server
            return Session(*server.begin(peer_name or None), server=server)
        raise ValueError(f"expected 'connect' or 'accept', got {role!r}")

    def can_resume(self, peer_name: str) -> bool:
        """Whether the next ``connect`` session with *peer_name* will offer to resume one.

        In TLS 1.3 that is so as soon as the server's ticket has arrived, behind the handshake.
        A function given as ``verify_name`` is asked.
        """
        if self._sessions is None:
            return False
        verification = self._connect_verification(peer_name)
        return self._sessions.has(_session_name(peer_name), self._holds(verification))

    # Sessions -----------------------------------------------------------------------------

    def _connect(self, peer_name: str | None) -> Session:
        verification = self._connect_verification(peer_name)
        host = verification.server_name
        if isinstance(verification.check, str):
            if peer_name is None:
                raise TlsError(
                    "verification needs the name of the peer: give the handle a peer_name, "
                    "or the context verify_name=None",
                    reason="no-name",
                )
            if host is None and ip_of(peer_name) is None:
                raise TlsError(
                    f"no certificate can name {peer_name!r}: it is not a host name"
                    f"{why_not(peer_name)}",
                    reason="wrong-name",
                )
        conn = self._native.begin("connect", verification)
        if host is not None:
            conn.set_tlsext_host_name(host.encode("ascii"))
        if verification.verifies and self._ask_ocsp:
            conn.request_ocsp()
        sessions = self._sessions
        if sessions is None or peer_name is None:
            return Session(conn, verification)
        name = _session_name(peer_name)
        earlier = sessions.take(name, self._holds(verification))
        if earlier is not None:
            session, verification.proof = earlier
            conn.set_session(session)
        return Session(
            conn, verification, sessions=sessions, name=name, resumable=earlier is not None
        )

    def _connect_verification(self, peer_name: str | None) -> Verification:
        verify = self._native.verifies("connect")
        verification = Verification(
            "connect",
            peer_name,
            verify,
            self._check if verify else None,
            self._verify_callback if verify else None,
        )
        verification.server_name = None if peer_name is None else ascii_host(peer_name)
        return verification

    def _holds(self, verification: Verification) -> Callable[[Proof | None], bool]:
        """Return a function that tells whether a proof is good for the connection, too."""

        def holds(proof: Proof | None) -> bool:
            if not verification.verifies:
                return True
            if proof is None or not proof.holds(self._native.changing_store("connect")):
                return False
            if self._ask_ocsp is not None and not self._staple_holds(proof):
                return False
            return verification.check_name(proof.chain[0]) is None

        return holds

    def _staple_holds(self, proof: Proof) -> bool:
        from ._ocsp import judge

        required = self._ask_ocsp == "require"
        return judge(proof.staple or b"", proof.chain, required=required) is None


def _session_name(peer_name: str) -> str:
    """Return the key of sessions with *peer_name*: the host in its one form."""
    return ascii_host(peer_name) or peer_name


def _server_finder(names: ServerNames) -> Callable[[str | None], Server | None]:
    """Return a function that finds the server for a name; it holds no reference to the context."""

    def find(name: str | None) -> Server | None:
        if callable(names):
            found = names(name)
        elif name is None:
            found = None
        else:
            label, _, domain = name.partition(".")
            found = names.get(name) or (names.get("*." + domain) if label else None)
        if found is None:
            return None
        if not isinstance(found, Context):
            raise TypeError(f"server_names must give a Context or None, got {found!r}")
        return found._server

    return find
