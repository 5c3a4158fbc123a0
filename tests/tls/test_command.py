"""``python -m ae_tls``: the report, the verdict, the exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ae_handle import Handle
from ae_socket import tcp_server
from ae_tls import Context, VerifyInfo, certificate_name
from ae_tls.__main__ import _target, main
from ae_tls.testing import CertificateAuthority, Leaf

Serve = Callable[..., str]


@pytest.fixture
def ca_file(tmp_path: Path, ca: CertificateAuthority) -> str:
    path = tmp_path / "ca.pem"
    path.write_text(ca.pem)
    return str(path)


@pytest.fixture
def serve(leaf: Leaf) -> Iterator[Serve]:
    """Listen on a free port of 127.0.0.1, in this thread's loop; gives HOST:PORT."""
    kept: list[Any] = []

    def listen(
        dialogue: Callable[[Handle], object] | None = None, context: Context | None = None
    ) -> str:
        context = context or Context(cert=leaf.chain, key=leaf.key, alpn=["h2", "imap"])

        def accepted(sock: Any, host: str, port: Any) -> None:
            handle = Handle(
                sock,
                tls_context=context,
                on_error=lambda handle, error: None,
                on_eof=lambda handle: None,
                on_tls_started=lambda handle, error: None,
                linger=0,
            )
            kept.append(handle)
            if dialogue is None:
                handle.start_tls("accept")
            else:
                dialogue(handle)

        server = tcp_server("127.0.0.1", 0, accepted)
        kept.append(server)
        return f"127.0.0.1:{server.address[1]}"

    yield listen
    for item in kept:
        if isinstance(item, Handle):
            item.destroy()
        else:
            item.cancel()


def test_a_good_server_is_described(
    serve: Serve, ca_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([serve(), "--ca-file", ca_file, "--alpn", "imap"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "protocol:   TLSv1.3"
    assert lines[1].startswith("cipher:     TLS_AES_")
    assert lines[2].startswith("group:      ")
    assert lines[3] == "alpn:       imap"
    assert lines[4] == "resumption: yes"
    assert lines[5] == "0: www.example.org"
    assert "   names:   www.example.org, 127.0.0.1, ::1" in lines
    assert "   issuer:  CN=test CA" in lines
    assert "1: CN=test CA" in lines
    assert out.count("   verdict: ok") == 2
    assert "29 days left" in out
    assert lines[-1] == "verdict:    ok"


def test_an_untrusted_server_is_refused_in_one_line(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([serve()]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("ae_tls: 127.0.0.1: certificate verify failed: ")
    assert err.endswith("(untrusted)\n")


def test_an_untrusted_server_is_shown_if_asked_for(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([serve(), "--insecure"]) == 0
    out, _ = capsys.readouterr()
    assert "0: www.example.org" in out
    assert "   verdict: untrusted" in out
    assert out.splitlines()[-1].startswith("verdict:    untrusted: certificate verify failed")


def test_a_wrong_name_is_refused(
    ca: CertificateAuthority, serve: Serve, ca_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    leaf = ca.issue("other.example")
    target = serve(None, Context(cert=leaf.chain, key=leaf.key))
    assert main([target, "--ca-file", ca_file]) == 1
    assert capsys.readouterr().err.endswith("(wrong-name)\n")


HOSTILE = "x\x1b[2J\r\x9b\u202ey"
SHOWN = "x\\x1b[2J\\r\\x9b\\u202ey"


def test_what_a_server_chose_is_shown_with_escapes(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    ca = CertificateAuthority(f"CA {HOSTILE}")
    leaf = ca.issue("a\x1b[2J.example", common_name=HOSTILE)
    assert main([serve(None, Context(cert=leaf.chain, key=leaf.key)), "--insecure"]) == 0
    out, err = capsys.readouterr()
    assert all(line.isprintable() for line in out.splitlines())
    assert err == ""
    assert f"0: CN={SHOWN}" in out
    assert f"   issuer:  CN=CA {SHOWN}" in out
    assert "   names:   a\\x1b[2J.example" in out


def test_what_a_server_says_in_clear_is_shown_with_escapes(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    script = [(f"500 {HOSTILE}\r\n".encode(), b"x")]
    assert main([serve(play(script)), "--starttls", "smtp"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.rstrip("\n").isprintable()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk_is_no_verdict_on_the_server(serve: Serve) -> None:
    import threading

    import ae_core as ae

    target = serve()
    command = [sys.executable, "-m", "ae_tls", target, "--insecure"]
    done = ae.CondVar[None]()
    backend = ae.detect()
    found: list[subprocess.CompletedProcess[str]] = []

    def run() -> None:
        with open("/dev/full", "wb") as full:
            found.append(
                subprocess.run(
                    command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
                )
            )
        backend.call_threadsafe(done.send)

    thread = threading.Thread(target=run)
    thread.start()
    done.recv()
    thread.join()
    assert (found[0].returncode, found[0].stderr) == (
        74,
        "ae_tls: standard output: No space left on device\n",
    )


def test_nobody_there_is_one_line(capsys: pytest.CaptureFixture[str], serve: Serve) -> None:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        assert main([f"127.0.0.1:{port}"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "ae_tls: 127.0.0.1: " in err


def test_a_server_without_tls_is_one_line(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([serve(lambda handle: handle.push_write(b"220 hello\r\n"))]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.endswith("(protocol)\n")


# What a server says, and what it waits for before it starts TLS.
DIALOGUES: dict[str, list[tuple[bytes, bytes]]] = {
    "smtp": [
        (b"220-mail\r\n220 ready\r\n", b"EHLO ae-handle.invalid"),
        (b"250-mail\r\n250-STARTTLS\r\n250 HELP\r\n", b"STARTTLS"),
        (b"220 go ahead\r\n", b""),
    ],
    "imap": [
        (b"* OK ready\r\n", b"a1 STARTTLS"),
        (b"* CAPABILITY IMAP4rev2\r\na1 OK go\r\n", b""),
    ],
    "nntp": [(b"200 ready\r\n", b"STARTTLS"), (b"382 go\r\n", b"")],
    "pop3": [(b"+OK ready\r\n", b"STLS\r\n"), (b"+OK go\r\n", b"")],
    "ftp": [(b"220-an\r\n220 ready\r\n", b"AUTH TLS\r\n"), (b"234 go\r\n", b"")],
    "sieve": [
        (b'"IMPLEMENTATION" "x"\r\n"StartTLS"\r\nOK "ready"\r\n', b"STARTTLS\r\n"),
        (b'OK "go"\r\n', b""),
    ],
    "ldap": [
        (b"", b"1.3.6.1.4.1.1466.20037"),
        (b"\x30\x84\0\0\0\x10\2\1\1\x78\x84\0\0\0\7\x0a\1\0\4\0\4\0", b""),
    ],
    "postgres": [(b"", b"\0\0\0\x08\x04\xd2\x16\x2f"), (b"S", b"")],
    "mysql": [
        (
            b"\x20\0\0\0\x0a8.0.1\0" + bytes(13) + b"\xff\xff" + bytes(10),
            b"\1\0\x8a\0\0\0\0\0\1\x2d" + bytes(23),
        ),
    ],
    "xmpp": [
        (b"", b"<?xml version='1.0'?><stream:stream to="),
        (
            (
                b"<stream:stream xmlns:stream='http://etherx.jabber.org/streams'><stream:features>"
                b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>"
            ),
            b"<starttls",
        ),
        (b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", b""),
    ],
}


def play(script: list[tuple[bytes, bytes]]) -> Callable[[Handle], None]:
    """Say each text, wait until what follows it was heard, then start TLS."""

    def begin(handle: Handle) -> None:
        steps = list(script)

        def go_on(handle: Handle) -> None:
            while steps:
                text, wanted = steps[0]
                if text:
                    handle.push_write(text)
                    steps[0] = (b"", wanted)
                if wanted:
                    heard = bytes(handle.read_buffer)
                    if wanted not in heard:
                        return
                    handle.read_buffer.clear()
                    _, _, rest = heard.partition(wanted)
                    if rest.startswith(b"\x16"):  # MySQL's client begins TLS without an answer
                        handle.read_buffer.feed(rest)
                steps.pop(0)
            handle.on_read = None
            handle.start_tls("accept")

        handle.on_read = go_on
        go_on(handle)

    return begin


@pytest.mark.parametrize("protocol", DIALOGUES)
def test_starttls(
    serve: Serve, ca_file: str, capsys: pytest.CaptureFixture[str], protocol: str
) -> None:
    target = serve(play(DIALOGUES[protocol]))
    assert main([target, "--ca-file", ca_file, "--starttls", protocol]) == 0
    assert capsys.readouterr().out.endswith("verdict:    ok\n")


def test_starttls_of_xmpp_with_an_end_tag(serve: Serve, ca_file: str) -> None:
    script = DIALOGUES["xmpp"][:2]
    script.append((b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'></proceed>", b""))
    assert main([serve(play(script)), "--ca-file", ca_file, "--starttls", "xmpp"]) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host", ("host", None)),
        ("host:443", ("host", "443")),
        ("host:https", ("host", "https")),
        ("[::1]:443", ("::1", "443")),
        ("[::1]", ("::1", None)),
        ("::1", ("::1", None)),
    ],
)
def test_targets(text: str, expected: tuple[str, str | None]) -> None:
    assert _target(text) == expected


@pytest.mark.parametrize(
    ("protocol", "script", "complaint"),
    [
        ("smtp", [(b"554 no\r\n", b"x")], "expected a 220 reply"),
        ("smtp", [(b"220 x\r\n", b"EHLO"), (b"250 HELP\r\n", b"x")], "does not offer STARTTLS"),
        ("imap", [(b"* BYE\r\n", b"x")], "expected an IMAP greeting"),
        ("imap", [(b"* OK\r\n", b"a1"), (b"a1 BAD\r\n", b"x")], "does not offer STARTTLS"),
        ("nntp", [(b"400 no\r\n", b"x")], "expected a 200 or 201"),
        ("nntp", [(b"200 x\r\n", b"STARTTLS"), (b"500 what\r\n", b"x")], "does not offer STARTTLS"),
        ("pop3", [(b"-ERR no\r\n", b"x")], "expected a POP3 greeting"),
        ("pop3", [(b"+OK\r\n", b"STLS"), (b"-ERR\r\n", b"x")], "does not offer STLS"),
        ("ftp", [(b"220 x\r\n", b"AUTH"), (b"502 no\r\n", b"x")], "expected a 234 reply"),
        ("sieve", [(b'NO "x"\r\n', b"x")], "expected the capabilities"),
        ("sieve", [(b'"SASL" "x"\r\nOK\r\n', b"x")], "does not offer STARTTLS"),
        (
            "ldap",
            [(b"", b"1466"), (b"\x30\x0c\2\1\1\x78\7\x0a\1\x02\4\0\4\0", b"x")],
            "refuses StartTLS with result 2",
        ),
        ("ldap", [(b"", b"1466"), (b"\x30\x03\2\1\1", b"x")], "too short"),
        ("ldap", [(b"", b"1466"), (b"HTTP/1.1 400", b"x")], "no LDAP message"),
        ("postgres", [(b"", b"\x04\xd2"), (b"N", b"x")], "does not offer TLS"),
        ("mysql", [(b"\3\0\0\0\xff\x10\x04", b"x")], "expected MySQL's handshake"),
        ("mysql", [(b"\x17\0\0\0\x0a8.0.1\0" + bytes(16), b"x")], "does not offer TLS"),
        (
            "xmpp",
            [(b"<stream:features></stream:features>", b"x")],
            "does not offer STARTTLS",
        ),
        (
            "xmpp",
            [
                (b"<stream:features>urn:ietf:params:xml:ns:xmpp-tls</stream:features>", b"<start"),
                (b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", b"x"),
            ],
            "refuses STARTTLS",
        ),
    ],
)
def test_a_server_that_does_not_start_tls_is_one_line(
    serve: Serve,
    capsys: pytest.CaptureFixture[str],
    protocol: str,
    script: list[tuple[bytes, bytes]],
    complaint: str,
) -> None:
    assert main([serve(play(script)), "--starttls", protocol]) == 1
    err = capsys.readouterr().err
    assert complaint in err
    assert err.count("\n") == 1


def test_injected_text_is_never_taken_for_tls(
    serve: Serve, ca_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    script = DIALOGUES["nntp"]
    injected = [script[0], (script[1][0] + b"200 evil\r\n", b"")]
    assert main([serve(play(injected)), "--ca-file", ca_file, "--starttls", "nntp"]) == 1
    assert capsys.readouterr().err.endswith("(protocol)\n")


@pytest.mark.parametrize(
    "words", [[], ["a b"], ["host:port:"], ["[::1"], ["[::1]x"], [":443"], ["h", "--starttls", "x"]]
)
def test_a_wrong_command_is_explained(
    words: list[str], capsys: pytest.CaptureFixture[str], serve: Serve
) -> None:
    if words in (["a b"], ["host:port:"]):
        # these parse, and fail as names
        assert main(words) == 1
        return
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage: python -m ae_tls" in capsys.readouterr().err


def test_it_runs_as_a_module(serve: Serve) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "AE_STRICT"}
    done = subprocess.run(
        [sys.executable, "-m", "ae_tls", "[::1]:1"],
        capture_output=True,
        text=True,
        check=False,
        env=environ,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("ae_tls: ::1: ")
    assert done.stderr.count("\n") == 1


def test_json_has_all_that_the_report_has(
    serve: Serve, ca_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([serve(), "--ca-file", ca_file, "--alpn", "h2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["protocol"], report["alpn"], report["verdict"]) == ("TLSv1.3", "h2", "ok")
    assert report["resumption"] is True
    assert report["certificates"][0]["verdict"] == "ok"
    assert "127.0.0.1" in report["certificates"][0]["names"]


def test_json_of_a_server_that_is_not_trusted_has_the_reason(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([serve(), "--insecure", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "untrusted"
    assert report["message"]


def test_a_client_certificate_is_shown(
    serve: Serve, ca: CertificateAuthority, leaf: Leaf, ca_file: str, tmp_path: Path
) -> None:
    client = ca.issue("client.example.org")
    path = tmp_path / "client.pem"
    path.write_text(client.cert_pem + client.key_pem)
    shown: list[str] = []

    def seen(info: VerifyInfo) -> bool:
        if info.depth == 0:
            shown.append(certificate_name(info.certificate))
        return info.ok

    context = Context(
        cert=leaf.chain, key=leaf.key, ca_cert=ca.pem, verify=True, verify_callback=seen
    )
    target = serve(None, context)
    assert main([target, "--ca-file", ca_file]) == 0
    assert shown == []
    assert main([target, "--ca-file", ca_file, "--cert", str(path)]) == 0
    assert "client.example.org" in shown[0]


@pytest.mark.parametrize("seconds", ["0", "-1", "1e9", "nan"])
def test_a_time_out_that_is_none_is_refused(
    seconds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["127.0.0.1:1", f"--timeout={seconds}"])
    assert f"expected seconds above 0, got '{seconds}'" in capsys.readouterr().err


def test_a_server_that_keeps_silent_costs_the_timeout(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    target = serve(lambda handle: None)
    assert main([target, "--timeout", "0.05"]) == 124
    assert "not done within 0.05 s" in capsys.readouterr().err
