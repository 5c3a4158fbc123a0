"""``python -m ae_dns`` against a scripted server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

import ae_core as ae
import ae_dns
from ae_dns.__main__ import _endpoint, main
from ae_dns.testing import DROP, TRUNCATE, NameServer, rcode


def run(*arguments: str) -> int:
    try:
        return main(arguments)
    except SystemExit as end:
        return int(end.code or 0)


def test_an_answer(server: NameServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("www.demo.test", f"@{server.endpoint}") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(";; NOERROR, flags qr rd ra, id ")
    assert ";www.demo.test. IN A" in lines
    assert "www.demo.test. 60 IN A 192.0.2.80" in lines
    assert lines[-1].startswith(";; 1 query, ")
    assert f", {server.endpoint} udp, " in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        pytest.param(["demo.test", "mx"], "demo.test MX udp", id="type"),
        pytest.param(["192.0.2.80"], "80.2.0.192.in-addr.arpa PTR udp", id="reverse"),
        pytest.param(["www.demo.test", "--tcp"], "www.demo.test A tcp", id="tcp"),
    ],
)
def test_what_is_asked(server: NameServer, arguments: list[str], query: str) -> None:
    assert run(f"@{server.endpoint}", *arguments) == 0
    assert server.asked() == [query]


def test_no_edns(server: NameServer) -> None:
    assert run(f"@{server.endpoint}", "www.demo.test", "--no-edns") == 0
    assert server.queries[0].message.edns == -1


@pytest.mark.parametrize(
    ("name", "steps", "status", "text"),
    [
        pytest.param("nothing.test", [], 3, "no such name", id="nxdomain"),
        pytest.param("six.demo.test", [], 3, "no such record", id="no-data"),
        pytest.param("x.test", [rcode("SERVFAIL")] * 3, 1, "code 2", id="servfail"),
        pytest.param("x.test", [rcode("REFUSED")] * 3, 1, "code 5", id="refused"),
        pytest.param("x.test", [DROP] * 3, 124, "in time", id="silence"),
        pytest.param("a..b", [], 1, "empty label", id="impossible"),
    ],
)
def test_exit_status(
    server: NameServer,
    capsys: pytest.CaptureFixture[str],
    name: str,
    steps: list[int],
    status: int,
    text: str,
) -> None:
    server.script("x.test", "*", *steps)
    assert run(name, f"@{server.endpoint}", "--timeout", "0.05") == status
    assert text in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [[], ["a", "b", "c"], ["a", "NOTYPE"], ["a", "--bogus"], ["a", "@[::1"], ["a", "--timeout=x"]],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert run(*arguments) == 2
    assert capsys.readouterr().err


def test_trace_shows_every_step(server: NameServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.script("www.demo.test", "A", DROP, TRUNCATE)
    assert run("www.demo.test", f"@{server.endpoint}", "--trace", "--timeout", "0.05") == 0
    lines = capsys.readouterr().out.splitlines()
    steps = [line.split("ms  ")[1] for line in lines if "ms  " in line]
    assert [step.split(" www")[0] for step in steps] == [
        *("sent", "timed out", "sent", "received", "sent", "received"),
    ]
    assert "udp), " in steps[3]
    assert "over TCP" in steps[3]
    assert "tcp), " in steps[5]


def test_a_server_whose_name_cannot_be_resolved_is_a_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ae_dns.install()  # knows without asking that nothing below "invalid" exists
    assert run("www.demo.test", "@ns.invalid") == 1
    assert "ns.invalid" in capsys.readouterr().err


def test_json_says_of_servers_that_do_not_answer_that_there_is_no_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with NameServer() as gone:
        endpoint = gone.endpoint
    assert run("www.demo.test", f"@{endpoint}", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["rcode"], found["answers"], found["server"]) == (None, [], None)
    assert "no server could be asked" in found["error"]


def test_trace_shows_failures(capsys: pytest.CaptureFixture[str]) -> None:
    with NameServer() as gone:
        endpoint = gone.endpoint
    assert run("www.demo.test", f"@{endpoint}", "--trace") == 1
    assert "failed www.demo.test" in capsys.readouterr().out


def test_a_server_may_be_a_plain_address_or_a_name(
    server: NameServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("a..b", "@127.0.0.1") == 1
    assert run("www.demo.test", f"@localhost:{server.address[1]}") == 0
    assert run("www.demo.test", "--json", f"@{server.endpoint}", "SOA") == 3


def test_json(server: NameServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("alias.demo.test", "AAAA", f"@{server.endpoint}", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rcode"] == "NOERROR"
    assert [answer["data"] for answer in found["answers"]] == ["www.demo.test.", "2001:db8::80"]
    assert (found["server"], found["transport"], found["queries"]) == (server.endpoint, "udp", 1)
    assert run("nothing.test", f"@{server.endpoint}", "--json") == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["rcode"], found["answers"]) == ("NXDOMAIN", [])
    assert "no such name" in found["error"]


def test_the_time_shown_is_that_of_the_queries(
    server: NameServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that of starting, of loading dnspython, nor of printing."""
    times = iter([100.0, 100.25, 160.0, 170.0])
    monkeypatch.setattr("ae_dns.__main__.time", SimpleNamespace(monotonic=lambda: next(times)))
    assert run("www.demo.test", f"@{server.endpoint}", "--json") == 0
    assert json.loads(capsys.readouterr().out)["milliseconds"] == 250.0


def test_what_is_known_without_a_server_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("localhost", "AAAA", "@127.0.0.1:9", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [answer["data"] for answer in found["answers"]] == ["::1"]
    assert (found["queries"], found["server"], found["milliseconds"]) == (0, None, 0.0)
    assert run("localhost", "MX", "@127.0.0.1:9") == 3
    assert run("x.invalid", "@127.0.0.1:9") == 3


def test_the_scope_of_a_server_is_kept() -> None:
    assert _endpoint(("fe80::1", 53, 0, 7)) == "[fe80::1%7]:53"
    assert _endpoint(("fe80::1", 53, 0, 0)) == "[fe80::1]:53"
    assert _endpoint(("192.0.2.1", 53)) == "192.0.2.1:53"


def test_what_a_server_chose_is_shown_with_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    octets = bytes(n for n in range(256) if n not in b'"\\')
    text = "".join(f"\\{n:03}" for n in octets)
    zone = f'x.test. 60 IN TXT "{text}"\nx.test. 60 IN CNAME \\027\\155\\127.y.test.\n'
    zone += f'y.test. 60 IN URI 1 1 "{text[: 31 * 4]}\\127"\n'
    with NameServer(zone) as server:
        for name, rdtype in (("x.test", "TXT"), ("x.test", "A"), ("y.test", "URI")):
            for option in ("--json", "--trace"):
                run(name, rdtype, f"@{server.endpoint}", option)
                out, err = capsys.readouterr()
                assert all(line.isprintable() for line in out.splitlines())
                assert err == ""
                if option == "--json":
                    json.loads(out)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("option", ["--json", "--trace", "--help"])
def test_full_disk_is_no_answer_of_a_server(server: NameServer, option: str) -> None:
    command = [sys.executable, "-m", "ae_dns", "www.demo.test", f"@{server.endpoint}", option]
    with open("/dev/full", "wb") as full:
        status = ae.run_cmd(command, stdout=full, stderr=(errors := bytearray())).recv()
    assert (os.waitstatus_to_exitcode(status), bytes(errors)) == (
        74,
        b"ae_dns: standard output: No space left on device\n",
    )


def test_it_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "ae_dns", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "Exit status" in done.stdout
