"""``python -m ae_http``: what it prints, where it writes, how it ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_http._progress import render, size_text


def command(*arguments: str, cwd: Path | None = None, **environment: str) -> tuple[int, bytes, str]:
    """Run the command in a fresh interpreter; return status, output and error output."""
    clean = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "ae_http", *arguments],
        check=False,
        cwd=cwd,
        env={**clean, **environment},
        capture_output=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr.decode()


def test_document_goes_to_the_output(nginx: Any) -> None:
    assert command(nginx.url + "/hello.txt") == (0, b"hello\n", "")
    address = nginx.url.removeprefix("http://")
    assert command(address + "/hello.txt") == (0, b"hello\n", "")


def test_head_only(nginx: Any) -> None:
    status, output, errors = command("--head", nginx.url + "/hello.txt")
    assert (status, errors) == (0, "")
    lines = output.decode().splitlines()
    assert lines[0] == "HTTP/1.1 200 OK"
    assert "Content-Length: 6" in lines
    assert lines[-1] == ""


def test_included_head(nginx: Any) -> None:
    output = command("-i", nginx.url + "/hello.txt")[1]
    assert output.startswith(b"HTTP/1.1 200 OK\n")
    assert output.endswith(b"\n\nhello\n")


def test_packed_document_is_unpacked_if_asked(nginx: Any) -> None:
    text = (nginx.root / "long.txt").read_bytes()
    assert command(nginx.url + "/long.txt")[1] == text
    output = command("--compressed", "-i", nginx.url + "/long.txt")[1]
    assert b"\nContent-Encoding: gzip\n" in output
    assert output.endswith(b"\n\n" + text)


def test_redirects_are_followed_if_asked(nginx: Any) -> None:
    status, output, _ = command(nginx.url + "/moved")
    assert (status, b"302 Found" in output) == (0, True)
    assert command("-L", nginx.url + "/moved") == (0, b"hello\n", "")


def test_bad_status_is_status_1(nginx: Any) -> None:
    status, output, errors = command(nginx.url + "/nothing")
    assert status == 1
    assert b"404" in output
    assert errors == f"ae_http: {nginx.url}/nothing: 404 Not Found\n"


def test_post_and_fields(nginx: Any, tmp_path: Path) -> None:
    assert command("-d", "abc", nginx.url + "/method")[1] == b"POST 3 "
    (tmp_path / "data").write_bytes(b"abcde")
    assert command("-d", f"@{tmp_path}/data", "-X", "PUT", nginx.url + "/method")[1] == b"PUT 5 "
    assert command("-H", "Range: bytes=0-1", nginx.url + "/hello.txt")[1] == b"he"


def test_file_is_complete_or_not_there(nginx: Any, tmp_path: Path) -> None:
    file = tmp_path / "x"
    assert command("-o", str(file), nginx.url + "/big.bin") == (0, b"", "")
    assert file.read_bytes() == (nginx.root / "big.bin").read_bytes()
    assert command("-O", nginx.url + "/hello.txt?x", cwd=tmp_path)[0] == 0
    assert (tmp_path / "hello.txt").read_bytes() == b"hello\n"
    assert command("-o", str(tmp_path / "y"), "http://127.0.0.1:1/")[0] == 1
    assert sorted(os.listdir(tmp_path)) == ["hello.txt", "x"]


def test_tls(nginx: Any, authority: Any, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(authority.pem)
    url = nginx.tls_url + "/hello.txt"
    assert command("--ca-file", str(tmp_path / "ca.pem"), url) == (0, b"hello\n", "")
    status, output, errors = command(url)
    assert (status, output) == (1, b"")
    assert errors.startswith(f"ae_http: {url}: ")
    assert errors.count("\n") == 1


def test_proxy_of_the_environment_is_used(nginx: Any) -> None:
    output = command("http://nowhere.invalid/hello.txt", http_proxy=nginx.url)[1]
    assert output == b"hello\n"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-m", "0", "http://a/"),
        ("-m", "x", "http://a/"),
        ("-H", "x", "http://a/"),
        ("-O", "http://a/"),
        ("--no-such", "http://a/"),
    ],
)
def test_wrong_command_is_status_2(arguments: tuple[str, ...]) -> None:
    status, output, errors = command(*arguments)
    assert (status, output) == (2, b"")
    assert "usage:" in errors


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("http://127.0.0.1:1/",), "refused"),
        (("ftp://a/",), "http or https"),
        (("-d", "@/no/such/file", "http://127.0.0.1:1/"), "No such file"),
        (("-H", "A: b\x01", "http://127.0.0.1:1/"), "control characters"),
    ],
)
def test_error_is_one_line_and_status_1(arguments: tuple[str, ...], text: str) -> None:
    status, output, errors = command(*arguments)
    assert (status, output) == (1, b"")
    assert text in errors
    assert errors.count("\n") == 1


def answering(answer: bytes, *arguments: str, **options: Any) -> Any:
    """Run the command on a server that says *answer*, whatever it is asked."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            sock, _ = listening.accept()
            with sock:
                sock.recv(65536)
                sock.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/x"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "ae_http", *arguments, url],
            check=False,
            timeout=60,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )
        thread.join()
    return done


@pytest.mark.parametrize("status", ["200", "404"])
def test_what_a_server_chose_is_shown_with_escapes(status: str) -> None:
    hostile = "\x1b[2J\x9b\u202e"
    head = f"HTTP/1.1 {status} R{hostile}\r\nX-A: v{hostile}\r\nContent-Length: 0\r\n\r\n"
    done = answering(head.encode(), "-i")
    for text in (done.stdout, done.stderr):
        assert all(line.isprintable() for line in text.decode().splitlines())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("body", [b"x", b"x" * 1_000_000])
def test_full_disk_is_no_error_of_the_connection(body: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with open("/dev/full", "wb") as full:
        done = answering(head + body, stdout=full)
    assert (done.returncode, done.stderr) == (
        74,
        b"ae_http: standard output: No space left on device\n",
    )


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe says so there in another way")
def test_pipe_that_nobody_reads_ends_the_command_without_a_word() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    reader, writer = os.pipe()
    os.close(reader)
    done = answering(head + b"x" * 1_000_000, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_progress_bar_on_a_terminal(nginx: Any, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
    program = """
import sys
import ae_http.__main__ as command
command._REDRAW = 0.0
sys.exit(command.main(["-o", sys.argv[2], sys.argv[1]]))
"""
    ours, theirs = pty.openpty()
    try:
        arguments = [sys.executable, "-c", program, nginx.url + "/big.bin", str(tmp_path / "x")]
        process = subprocess.Popen(arguments, stderr=theirs)
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # EIO: the other end is closed
                break
            if not piece:
                break
            shown += piece
        assert process.wait(60) == 0
    finally:
        os.close(ours)
    states = shown.decode().strip().split("\r")
    assert len(states) > 3
    assert states[-1].startswith("100% [####")
    assert "2.9 MiB of 2.9 MiB" in states[-1]


@given(
    done=st.integers(0, 1 << 45),
    total=st.none() | st.integers(0, 1 << 45),
    seconds=st.floats(0, 1e6),
    width=st.integers(1, 300),
)
def test_bar_fits_on_its_line(done: int, total: int | None, seconds: float, width: int) -> None:
    line = render(done, total, seconds, width)
    assert len(line) <= width
    assert "\n" not in line


def test_sizes_for_people() -> None:
    assert [size_text(size) for size in (0, 1023, 1024, 1 << 20, 3 << 40)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.0 MiB",
        "3.0 TiB",
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be interrupted there")
def test_interrupted_download_leaves_no_file(tmp_path: Path) -> None:
    import signal

    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/x"
        arguments = [sys.executable, "-m", "ae_http", "-o", str(tmp_path / "x"), url]
        process = subprocess.Popen(arguments, stderr=subprocess.PIPE)
        server, _ = listening.accept()
        with server:
            server.recv(65536)
            server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
            while not os.listdir(tmp_path):
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            errors = process.communicate(timeout=60)[1]
    assert (process.returncode, errors) == (130, b"")
    assert os.listdir(tmp_path) == []


def test_file_name_that_cannot_be_one(tmp_path: Path) -> None:
    status, _, errors = command("-O", "http://127.0.0.1:1/a%00b", cwd=tmp_path)
    assert status == 1
    assert errors.count("\n") == 1
