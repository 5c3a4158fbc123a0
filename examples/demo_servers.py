"""The servers that the demo talks to: name server, finger, HTTP(S), SMTP, NNTP and two odd ones.

All of them listen on free loopback ports of the running loop and are written with the same packages
as the clients. Nothing here is part of an example: ``demo.py``, the tests and the tutorial's
programs start these servers, so that nothing leaves the machine.
"""

from __future__ import annotations

__all__ = ("ARTICLE", "DOMAIN", "PAGE", "USERS", "DemoServers")

from collections.abc import Callable, Sequence
from typing import Final

from ae_core.abc import Cancellable
from ae_dns.testing import NameServer
from ae_handle import Handle, Regex, serve
from ae_handle.abc import TlsContext
from ae_tls import Context
from ae_tls.testing import CertificateAuthority

DOMAIN: Final = "demo.test"
PAGE: Final = b"<p>A page of " + DOMAIN.encode() + b"</p>\n"
BIG_PAGE: Final = bytes(range(256)) * 4096
USERS: Final = {
    "alice": "Login: alice\r\nPlan: read the other half of the queue\r\n",
    "bob": "Login: bob\r\nPlan: none\r\n",
    "carol": "Login: carol\r\nPlan: a line that starts\r\n.with a dot\r\n",
}
ARTICLE: Final = (
    b"From: alice@demo.test",
    b"Newsgroups: demo.test",
    b"Subject: dots",
    b"",
    b"The next line is a single dot, the one after has three.",
    b".",
    b"...",
    b"The end.",
)

_HEADER: Final = Regex(rb"\r?\n\r?\n")


class Service:
    """A server on a free port of the loopback.

    Args:
        start: Called with the new handle of each connection.
        tls_context: Makes every connection a TLS connection from the first byte on.
    """

    def __init__(
        self, start: Callable[[Handle], object], *, tls_context: TlsContext | None = None
    ) -> None:
        self._served = serve("127.0.0.1", 0, start, tls_context=tls_context, timeout=30)
        self.port = int(self._served.address[1])

    def cancel(self) -> None:
        """Close the listening socket and every connection."""
        self._served.cancel()


def finger(handle: Handle) -> None:
    """Answer one line with what is known of that user, and close (RFC 1288)."""

    def asked(handle: Handle, user: bytes) -> None:
        answer = USERS.get(user.decode("ascii", "replace"), "no such user\r\n")
        handle.push_write(answer.encode())
        handle.destroy()

    handle.push_read("line", asked)


def http(handle: Handle) -> None:
    """Answer one GET request of HTTP/1.0, and close."""

    def asked(handle: Handle, line: bytes) -> None:
        path = line.split(b" ")[1:2]
        page = {b"/": PAGE, b"/big": BIG_PAGE}.get(path[0] if path else b"")
        status = b"404 Not Found" if page is None else b"200 OK"
        body = b"nothing here\n" if page is None else page

        def rest(handle: Handle, header: bytes) -> None:
            handle.push_write(b"HTTP/1.0 %b\r\nContent-Length: %d\r\n\r\n" % (status, len(body)))
            handle.push_write(body)
            handle.destroy()

        handle.push_read(_HEADER, rest)

    handle.push_read("line", asked)


def smtp(handle: Handle) -> None:
    """Answer EHLO, NOOP and QUIT, with several lines where SMTP allows it (RFC 5321)."""

    def command(handle: Handle, line: bytes) -> None:
        verb, _, argument = line.partition(b" ")
        match verb.upper():
            case b"EHLO":
                handle.push_write(b"250-mail.demo.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
            case b"NOOP":
                handle.push_write(b"250-nothing\r\n250 done %b\r\n" % argument)
            case b"QUIT":
                handle.push_write(b"221 goodbye\r\n")
                handle.destroy()
            case _:
                handle.push_write(b"502 not here\r\n")

    handle.push_write(b"220-mail.demo.test SMTP\r\n220-who are you?\r\n220 speak\r\n")
    handle.read_each("line", command)


def nntp(handle: Handle) -> None:
    """Answer GROUP, ARTICLE and QUIT for one group with one article (RFC 3977)."""

    def command(handle: Handle, line: bytes) -> None:
        match line.upper().split():
            case [b"GROUP", b"DEMO.TEST"]:
                handle.push_write(b"211 1 42 42 demo.test\r\n")
            case [b"GROUP", _]:
                handle.push_write(b"411 no such newsgroup\r\n")
            case [b"ARTICLE", b"42"]:
                stuffed = [b"." + text if text.startswith(b".") else text for text in ARTICLE]
                text = b"\r\n".join((b"220 42 <42@demo.test>", *stuffed, b".", b""))
                handle.push_write(text)
            case [b"ARTICLE", _]:
                handle.push_write(b"423 no article with that number\r\n")
            case [b"QUIT"]:
                handle.push_write(b"205 goodbye\r\n")
                handle.destroy()
            case _:
                handle.push_write(b"500 what?\r\n")

    handle.push_write(b"200 news.demo.test\r\n")
    handle.read_each("line", command)


def even_colon(handle: Handle) -> None:
    """Say three items of an even number of bytes, each ended by a colon, and close."""
    handle.push_write(b"ab:" + b"a:bc:" + b":")
    handle.destroy()


def garbled(handle: Handle) -> None:
    """Wait for a word of the client's, then say what no protocol here allows, and close."""
    handle.push_write(b"\0\1\2 :: this is no protocol\r\n")
    handle.destroy()


class DemoServers(Cancellable):
    """Everything at once, with a throw-away certificate authority. Use as a context manager.

    Args:
        hosts: The host names in the certificate of the HTTPS server.
    """

    def __init__(self, hosts: Sequence[str] = (f"www.{DOMAIN}",)) -> None:
        self.authority = CertificateAuthority()
        leaf = self.authority.issue(*hosts)
        context = Context(cert=leaf.chain, key=leaf.key)
        self.trusting = Context(ca_cert=self.authority.cert)
        self.names = NameServer(
            [
                f"www.{DOMAIN}. A 127.0.0.1",
                f"mail.{DOMAIN}. A 127.0.0.1",
                f"wrong.{DOMAIN}. A 127.0.0.1",
                f"1.0.0.127.in-addr.arpa. PTR www.{DOMAIN}.",
            ]
        )
        self.finger = Service(finger)
        self.http = Service(http)
        self.https = Service(http, tls_context=context)
        self.smtp = Service(smtp)
        self.nntp = Service(nntp)
        self.even_colon = Service(even_colon)
        self.garbled = Service(garbled)

    def cancel(self) -> None:
        """Close every server and every connection."""
        for service in (self.finger, self.http, self.https, self.smtp, self.nntp):
            service.cancel()
        self.even_colon.cancel()
        self.garbled.cancel()
        self.names.cancel()
