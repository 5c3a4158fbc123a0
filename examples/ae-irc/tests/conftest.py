"""Servers for the tests: real ones, started once, and one that is scripted.

``ngircd`` is small and knows RFC 2812 and little of IRCv3; ``inspircd`` knows message tags,
server-time, echo-message and strict transport security. Both come from Debian. ``fake`` is a server
of our own, which answers what a test says.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ae_irc import Client
from ae_irc.testing import FakeServer

# ---------------------------------------------------------------------- real servers


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    tls_port: int
    ca_file: str | None = None

    @property
    def url(self) -> str:
        return f"irc://127.0.0.1:{self.port}"


NGIRCD = """
[Global]
    Name = irc.example.com
    Info = Test
    Listen = 127.0.0.1
    Ports = {port}
    MotdPhrase = "Hello"
    {pid}
[Limits]
    MaxConnections = 0
    MaxConnectionsIP = 0
    MaxJoins = 0
    MaxNickLength = 20
    PingTimeout = 3600
    MaxPenaltyTime = 0
[Options]
    DNS = no
    Ident = no
    PAM = no
    CloakHost = host.example.com
{tls}
[Operator]
    Name = root
    Password = s3cret
"""

INSPIRCD = """
<server name="irc.example.com" description="Test" id="97K" network="TestNet">
<admin name="a" nick="a" email="a@example.com">
<bind address="127.0.0.1" port="{port}" type="clients">
<bind address="127.0.0.1" port="{tls_port}" type="clients" sslprofile="tls">
<connect allow="*" timeout="60" pingfreq="3600" hardsendq="64M" softsendq="32M" recvq="1M"
    localmax="2000" globalmax="2000" maxchans="50" modes="+x" fakelag="no" commandrate="1000000"
    maxconnwarn="no" resolvehostnames="no" useident="no">
<performance softlimit="5000" somaxconn="1000" netbuffersize="65534" quietbursts="yes">
<options defaultmodes="not">
<log method="file" type="*" level="default" target="{directory}/log">
<pid file="{directory}/pid">
<limits maxnick="30">
<module name="cap"><module name="ircv3"><module name="ircv3_accounttag">
<module name="ircv3_capnotify"><module name="ircv3_chghost"><module name="ircv3_ctctags">
<module name="ircv3_echomessage"><module name="ircv3_invitenotify"><module name="ircv3_msgid">
<module name="ircv3_servertime"><module name="namesx"><module name="uhnames"><module name="setname">
<module name="chghost"><module name="auditorium">
<auditorium opvisible="no" opcansee="no">
<module name="ssl_gnutls">
<sslprofile name="tls" provider="gnutls" cafile="" certfile="{directory}/cert"
    keyfile="{directory}/key" hash="sha256" priority="SECURE256:SECURE128">
{more}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def launch(command: list[str], directory: Path, port: int) -> subprocess.Popen[bytes] | None:
    """Start a server; return it when it takes connections, None if its port is not free."""
    if shutil.which("setpriv") is not None:  # it does not outlive a test run that is killed
        command = ["setpriv", "--pdeathsig", "KILL", *command]
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=directory
        )
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
        except ConnectionRefusedError:
            continue
        return process
    return None


def start(
    program: str, directory: Path, make: Callable[[int, int], list[str]]
) -> tuple[subprocess.Popen[bytes], int, int]:
    """Start a server on free ports; *make* writes its file for them and returns its command."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    for _ in range(5):  # somebody else may take the port that was free
        port, tls_port = free_port(), free_port()
        process = launch([program, *make(port, tls_port)], directory, port)
        if process is not None:
            return process, port, tls_port
    pytest.fail(f"{program} does not start: {(directory / 'output').read_text()}")


def write_certificate(directory: Path) -> str:
    testing = pytest.importorskip("ae_tls.testing", reason="ae-tls is not installed")
    authority = testing.CertificateAuthority()
    leaf = authority.issue("127.0.0.1", "localhost")
    for name, text in (("ca", authority.pem), ("cert", leaf.cert_pem), ("key", leaf.key_pem)):
        (directory / name).write_text(text)
    return str(directory / "ca")


@pytest.fixture(scope="session")
def ngircd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of RFC 2812, in clear and with TLS."""
    directory = tmp_path_factory.mktemp("ngircd")
    ca_file = write_certificate(directory)

    def make(port: int, tls_port: int) -> list[str]:
        tls = f"[SSL]\nCertFile={directory}/cert\nKeyFile={directory}/key\nPorts={tls_port}\n"
        text = NGIRCD.format(port=port, pid="", tls=tls)
        (directory / "conf").write_text(text)
        return ["-n", "-f", str(directory / "conf")]

    process, port, tls_port = start("ngircd", directory, make)
    yield Server(port, tls_port, ca_file)
    stop(process)


def inspircd_server(directory: Path, more: str) -> tuple[subprocess.Popen[bytes], Server]:
    ca_file = write_certificate(directory)

    def make(port: int, tls_port: int) -> list[str]:
        text = INSPIRCD.format(
            port=port, tls_port=tls_port, directory=directory, more=more.format(tls_port=tls_port)
        )
        (directory / "conf").write_text(text)
        return ["--nofork", "--runasroot", "--config", str(directory / "conf")]

    process, port, tls_port = start("inspircd", directory, make)
    return process, Server(port, tls_port, ca_file)


@pytest.fixture(scope="session")
def inspircd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of IRCv3, in clear and with TLS."""
    process, server = inspircd_server(tmp_path_factory.mktemp("inspircd"), "")
    yield server
    stop(process)


@pytest.fixture(scope="session")
def strict_inspircd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of IRCv3 that wants TLS, of those who call it ``localhost``."""
    more = (
        '<module name="ircv3_sts"><sts host="localhost" duration="1h" port="{tls_port}" '
        'preload="no">'
    )
    process, server = inspircd_server(tmp_path_factory.mktemp("inspircd-sts"), more)
    yield server
    stop(process)


SERVICES = """
loadmodule "modules/protocol/inspircd";
loadmodule "modules/backend/opensex";
loadmodule "modules/crypto/pbkdf2v2";
loadmodule "modules/nickserv/main";
loadmodule "modules/nickserv/register";
loadmodule "modules/nickserv/cert";
loadmodule "modules/saslserv/main";
loadmodule "modules/saslserv/external";
serverinfo {{
    name = "services.example.com"; desc = "Test"; numeric = "00A"; recontime = 1;
    netname = "TestNet"; adminname = "a"; adminemail = "a@example.com";
    registeremail = "a@example.com"; mta = "/bin/true"; loglevel = {{ debug; }};
    maxlogins = 5; maxusers = 0; mdlimit = 30; emaillimit = 10; emailtime = 300; auth = none;
    casemapping = rfc1459;
}};
uplink "irc.example.com" {{
    host = "127.0.0.1"; port = {port}; send_password = "s3cret"; receive_password = "s3cret";
}};
nickserv {{ nick = "NickServ"; user = "a"; host = "services.example.com"; real = "a"; }};
saslserv {{ nick = "SaslServ"; user = "a"; host = "services.example.com"; real = "a"; }};
"""

LINKED = """
<bind address="127.0.0.1" port="{port}" type="servers">
<module name="spanningtree"><module name="services_account"><module name="sasl">
<module name="sslinfo"><module name="globops"><module name="cban"><module name="chgident">
<module name="svshold"><module name="hidechans">
<sasl target="services.example.com">
<link name="services.example.com" ipaddr="127.0.0.1" port="1" allowmask="*" sendpass="s3cret"
    recvpass="s3cret">
<uline server="services.example.com" silent="yes">
"""


@pytest.fixture(scope="session")
def inspircd_with_accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of IRCv3 and its services, which know accounts: Atheme."""
    if shutil.which("atheme-services") is None:
        pytest.skip("atheme-services is not installed")
    directory = tmp_path_factory.mktemp("inspircd-accounts")
    port = free_port()
    process, server = inspircd_server(directory, LINKED.format(port=port))
    top = tmp_path_factory.mktemp("atheme")
    (top / "conf").write_text(SERVICES.format(port=port))
    command = ["atheme-services", "-n", "-c", str(top / "conf"), "-D", str(top)]
    command += ["-l", str(top / "log"), "-p", str(top / "pid")]
    services = launch_services(command, top)
    yield server
    stop(services)
    stop(process)


def launch_services(command: list[str], directory: Path) -> subprocess.Popen[bytes]:
    """Start Atheme; return it when the server has heard how to log in."""
    if shutil.which("setpriv") is not None:
        command = ["setpriv", "--pdeathsig", "KILL", *command]
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=directory
        )
    while "saslmechlist" not in (directory / "output").read_text():
        if process.poll() is not None:
            pytest.fail(f"Atheme does not start: {(directory / 'output').read_text()}")
    return process


@pytest.fixture
def make(ngircd: Server) -> Iterator[Callable[..., Client]]:
    """Make clients, of ngircd unless told otherwise; they are closed at the end."""
    clients: list[Client] = []

    def make(nick: str, server: Server = ngircd, **options: Any) -> Client:
        given: dict[str, Any] = {"rate": None, **options}
        clients.append(Client(given.pop("url", server.url), nick=nick, **given))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


# ---------------------------------------------------------------------- a server as it is told


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A server on the built-in loop, which a test may script."""
    server = FakeServer()
    yield server
    server.close()


@pytest.fixture
def client(fake: FakeServer) -> Iterator[Callable[..., Client]]:
    """Make clients of the scripted server; they are closed at the end."""
    clients: list[Client] = []

    def make(nick: str = "anna", **options: Any) -> Client:
        given: dict[str, Any] = {"rate": None, **options}
        clients.append(Client(given.pop("url", fake.url), nick=nick, **given))
        return clients[-1]

    yield make
    for each in clients:
        each.close()
