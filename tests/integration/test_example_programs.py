"""The example programs from the command line: what they print, and their one line when it fails."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
from ae_core._detection.table import BACKENDS
from ae_handle import Handle
from ae_socket import tcp_server

LIMIT = 60.0


class World:
    """The demo's servers, and the environment in which a program finds them by name."""

    def __init__(self, folder: Path, examples: Path) -> None:
        from demo_servers import DemoServers

        self.servers = DemoServers()
        self.examples = examples
        self.authority = folder / "authority.pem"
        self.authority.write_text(self.servers.authority.pem)
        names = self.servers.names.endpoint
        (folder / "resolv.conf").write_text(f"nameserver {names}\noptions timeout:2 attempts:5\n")
        self.environment = {
            **os.environ,
            "AE_RESOLVER": "dns",
            "AE_RESOLV_CONF": str(folder / "resolv.conf"),
            "SSL_CERT_FILE": os.devnull,
            "AE_STRICT_SLOW": "60",  # the machine may be busy
        }

    def run(self, program: str, *arguments: object) -> tuple[int, str, str]:
        """Run one program beside the servers; return exit status, output and complaints."""
        out, err = bytearray(), bytearray()
        words = [sys.executable, "-W", "error", str(self.examples / f"{program}.py")]
        command = [*words, *(str(argument) for argument in arguments)]
        process = ae.run_cmd(
            command, stdin=b"", stdout=out, stderr=err, env=self.environment, cwd=str(self.examples)
        )
        status = os.waitstatus_to_exitcode(process.recv(LIMIT))
        return status, out.decode(), err.decode()


@pytest.fixture
def world(tmp_path: Path, on_examples_path: Path) -> Iterator[World]:
    world = World(tmp_path, on_examples_path)
    yield world
    world.servers.cancel()


def backends() -> list[Any]:
    """Every backend of the table, those whose library is missing with a visible skip."""
    found = []
    for spec in BACKENDS:
        missing = spec.library is not None and find_spec(spec.library) is None
        skip = pytest.mark.skipif(missing, reason=f"{spec.name}: {spec.package} is not installed")
        found.append(pytest.param(spec.name, marks=skip, id=spec.name))
    return found


@pytest.mark.parametrize("backend_name", backends())
def test_the_demo_passes_on_every_backend(backend_name: str, on_examples_path: Path) -> None:
    command = [sys.executable, "demo.py", "--backend", backend_name]
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "AE_STRICT_SLOW": "60"}
    done = subprocess.run(
        command, cwd=on_examples_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.splitlines()[-1].endswith("steps ok, 0 failed")


def port_of_nobody() -> tuple[socket.socket, int]:
    """A port that is bound but not listened on: connecting to it is refused."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock, int(sock.getsockname()[1])


def test_finger_prints_three_answers_in_the_order_of_the_questions(world: World) -> None:
    users = ("carol", "alice", "bob")
    status, out, err = world.run("finger", "www.demo.test", world.servers.finger.port, *users)
    assert (status, err) == (0, "")
    assert [line.split()[-1] for line in out.splitlines() if "Login" in line] == list(users)


def test_http_get_prints_the_body(world: World) -> None:
    port = world.servers.http.port
    status, out, err = world.run("http_get", f"http://www.demo.test:{port}/")
    assert (status, out) == (0, "<p>A page of demo.test</p>\n")
    assert err.startswith("200 OK\n")


HOSTILE = "\x1b[2J\r\x85\u202e".encode()


@pytest.mark.parametrize(
    ("program", "answer"),
    [
        ("http_get", b"HTTP/1.0 200 \x9b\r\nX-A: %b\r\n\r\n" % HOSTILE),
        ("http_get", b"HTTP/1.0 %b\r\n\r\n" % HOSTILE),
        ("smtp_reply", b"220-%b\r\n220 x\r\n250 %b\r\n221 x\r\n" % (HOSTILE, HOSTILE)),
        ("smtp_reply", b"500 %b\r\n" % HOSTILE),
        ("nntp_article", b"500 %b\r\n" % HOSTILE),
        ("finger", b"Login\r\n%b\r\n" % HOSTILE),
        ("finger", "a\u202eb\r\n".encode()),
        ("own_frame_type", b"\x01" + bytes([0, len(HOSTILE)]) + HOSTILE),
        ("even_colon", HOSTILE),
    ],
)
def test_what_a_server_says_does_nothing_to_the_terminal(
    program: str, answer: bytes, world: World
) -> None:
    kept = []

    def accepted(sock: Any, host: str, port: Any) -> None:
        handle = Handle(sock, on_error=lambda handle, error: None, on_read=lambda handle: None)
        handle.push_write(answer)
        handle.push_shutdown()
        kept.append(handle)

    with tcp_server("127.0.0.1", 0, accepted) as server:
        where: list[object] = list(server.address)
        if program == "http_get":
            where = [f"http://127.0.0.1:{server.address[1]}/"]
        elif program == "nntp_article":
            where += ["misc.test"]
        status, out, err = world.run(program, *where)
    for handle in kept:
        handle.destroy()
    assert out or err or status
    assert [line for line in (out + err).split("\n") if not line.isprintable()] == []
    assert "Traceback" not in err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_line(world: World) -> None:
    words = ["sh", "-c", 'exec "$@" > /dev/full', "sh", sys.executable]
    program = str(world.examples / "smtp_reply.py")
    command = [*words, program, "mail.demo.test", str(world.servers.smtp.port)]
    process = ae.run_cmd(command, stderr=(err := bytearray()), env=world.environment)
    assert os.waitstatus_to_exitcode(process.recv(LIMIT)) == 74
    assert err == b"smtp_reply: standard output: No space left on device\n"


def test_https_needs_only_the_authority(world: World) -> None:
    port = world.servers.https.port
    url = f"https://www.demo.test:{port}/"
    status, out, _ = world.run("http_get", "--ca-file", world.authority, url)
    assert (status, out) == (0, "<p>A page of demo.test</p>\n")


def test_smtp_reply_prints_every_line_of_every_reply(world: World) -> None:
    status, out, err = world.run("smtp_reply", "mail.demo.test", world.servers.smtp.port)
    assert (status, err) == (0, "")
    assert [line[:3] for line in out.splitlines()] == ["220"] * 3 + ["250"] * 3 + ["221"]


def test_smtp_hello_hangs_up_by_itself(on_examples_path: Path) -> None:
    """And does not leave it to the garbage collector, which may take its time."""
    from smtp_reply import smtp_hello

    def talk(handle: Handle) -> None:
        handle.push_write(b"220 hello\r\n")
        handle.read_each("line", lambda handle, line: handle.push_write(b"250 yes, and?\r\n"))

    over: ae.CondVar[None] = ae.CondVar()
    talking: list[Handle] = []

    def accepted(sock: socket.socket, host: str, port: int) -> None:
        talking.append(Handle(sock, on_eof=over))
        talk(talking[0])

    gc.disable()
    try:
        with tcp_server("127.0.0.1", 0, accepted) as server:
            ae.spawn(smtp_hello(*server.address)).recv(LIMIT)
            over.recv(LIMIT)
            talking.pop().destroy()
    finally:
        gc.enable()


def test_nntp_article_prints_the_article_without_the_doubled_dots(world: World) -> None:
    arguments = ("www.demo.test", world.servers.nntp.port, "demo.test", 42)
    status, out, err = world.run("nntp_article", *arguments)
    assert (status, err) == (0, "")
    assert out.splitlines()[-3:] == [".", "...", "The end."]


def test_even_colon_prints_the_items(world: World) -> None:
    status, out, err = world.run("even_colon", "www.demo.test", world.servers.even_colon.port)
    assert (status, out, err) == (0, "ab\na:bc\n\n", "")


def arguments_for(program: str, host: str, port: int) -> tuple[Any, ...]:
    if program == "http_get":
        return (f"http://{host}:{port}/",)
    return (host, port, "demo.test") if program == "nntp_article" else (host, port)


PROGRAMS = ("finger", "http_get", "smtp_reply", "nntp_article", "even_colon")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_refused_connection_is_one_line(world: World, program: str) -> None:
    sock, port = port_of_nobody()
    with sock:
        result = world.run(program, *arguments_for(program, "127.0.0.1", port))
    assert_one_line(result, program, "refused")


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_unknown_host_is_one_line(world: World, program: str) -> None:
    result = world.run(program, *arguments_for(program, "nowhere.demo.test", 1))
    assert_one_line(result, program, "nowhere.demo.test")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_garbled_reply_is_one_line(world: World, program: str) -> None:
    port = world.servers.garbled.port
    result = world.run(program, *arguments_for(program, "www.demo.test", port))
    assert_one_line(result, program, "")


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        pytest.param("http_get", ("https://{name}:{port}/",), id="http_get"),
        pytest.param("smtp_reply", ("--tls", "{name}", "{port}"), id="smtp_reply"),
        pytest.param("nntp_article", ("--tls", "{name}", "{port}", "demo.test"), id="nntp_article"),
    ],
)
@pytest.mark.parametrize(("name", "trusted"), [("wrong.demo.test", True), ("www.demo.test", False)])
def test_a_bad_certificate_is_one_line(
    world: World, program: str, arguments: tuple[str, ...], name: str, trusted: bool
) -> None:
    filled = [text.format(name=name, port=world.servers.https.port) for text in arguments]
    authority = world.authority
    if not trusted:
        from ae_tls.testing import CertificateAuthority

        authority = authority.with_name("stranger.pem")
        authority.write_text(CertificateAuthority().pem)
    result = world.run(program, "--ca-file", authority, *filled)
    assert_one_line(result, program, "certificate")


def test_a_url_that_is_none_is_one_line(world: World) -> None:
    assert_one_line(world.run("http_get", "ftp://www.demo.test/"), "http_get", "http or https")


def assert_one_line(result: tuple[int, str, str], program: str, text: str) -> None:
    status, out, err = result
    assert (status, out, err.count("\n")) == (1, "", 1), err
    assert err.startswith(f"{program}: ")
    assert text in err
