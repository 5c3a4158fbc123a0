"""What is imported, and when."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ae_dns.testing import NameServer

HEAVY = {"dns", "idna", "asyncio", "ssl", "dataclasses", "inspect"}


def loaded_after(code: str) -> set[str]:
    program = f"{code}\nimport sys; print(*sys.modules)"
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_importing_costs_little() -> None:
    assert loaded_after("import ae_dns") & HEAVY == set()
    assert loaded_after("import ae_dns; ae_dns.resolver()") & HEAVY == set()
    added = loaded_after("import ae_dns") - loaded_after("import ae_socket")
    assert added & {"secrets", "random", "hashlib", "hmac"} == set()


@pytest.mark.parametrize(("lookup", "expected"), [("a", set()), ("mx", {"dns", "idna"})])
def test_dnspython_comes_with_the_first_reply_that_needs_it(
    lookup: str, expected: set[str]
) -> None:
    code = f"""
import threading, socket, ae_core as ae, ae_dns
udp = socket.socket(type=socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 0))
def serve():
    query, source = udp.recvfrom(4096)
    rdata = bytes((192, 0, 2, 1)) if {lookup!r} == "a" else b"\\0\\1\\1m\\0"
    end = query.index(b"\\0", 12) + 5
    record = b"\\xc0\\x0c" + query[end - 4 : end] + b"\\0\\0\\0\\x3c\\0"
    record += bytes((len(rdata),)) + rdata
    udp.sendto(query[:2] + b"\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0" + query[12:end] + record, source)
threading.Thread(target=serve).start()
resolver = ae_dns.Resolver(servers=["127.0.0.1:%d" % udp.getsockname()[1]])
assert len(resolver.{lookup}("x.test").recv(20)) == 1
udp.close()
"""
    assert loaded_after(code) & {"dns", "idna"} == expected


def test_the_testing_module_is_no_part_of_the_package() -> None:
    assert NameServer.__module__ == "ae_dns.testing"
    assert "dns" in loaded_after("import ae_dns.testing")
