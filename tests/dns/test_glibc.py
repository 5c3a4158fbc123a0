"""Compared with glibc on more than 150 scripted configurations: equal, or known and explained.

``python -m pytest -s tests/dns/test_glibc.py`` prints the figures.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

# Addresses that differ: case (a pattern), and why.
ADDRESSES_DIFFER = {
    "*/mixed.a.test": "glibc orders by RFC 3484; RFC 6724 has unique local addresses last",
    "edns0-old-server/host": "glibc gives up where a server does not know EDNS; we ask without",
    "hosts/localhost": "localhost is not looked up (RFC 6761); IPv4 first, as upstream has it",
    "hosts/dotted.test": "the hosts file may end names with a dot (upstream's case A81.1)",
    "hosts/both.": "a name with a final dot is the same name, in the hosts file as well",
}
# The same addresses, but other names asked for on the way.
QUERIES_DIFFER = {
    "*/away.a.test": "we follow an alias that leads out of a reply (DNS-21), glibc does not",
    "silent/host": "glibc asks for the bare name when nobody answered for the first; nobody will",
}


def why_not() -> str | None:
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return "compares with glibc"
    for program in ("unshare", "getent", "ip", "mount"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    done = subprocess.run(["unshare", "-rnm", "true"], capture_output=True, check=False)
    return None if done.returncode == 0 else "no namespaces here (unshare -rnm)"


def explained(case: str, table: dict[str, str]) -> bool:
    return any(fnmatch(case, pattern) for pattern in table)


def test_glibc_and_we_agree(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    script = Path(__file__).with_name("glibc.py")
    command = ["unshare", "-rnm", sys.executable, "-W", "error", str(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    results: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    addresses = [each for each in results if each["glibc"] != each["ours"]]
    queries = [
        each
        for each in results
        if each["glibc"] == each["ours"] and each["glibc_asked"] != each["ours_asked"]
    ]
    equal = len(results) - len(addresses) - len(queries)
    print(f"\n{len(results)} configurations: {equal} equal in addresses, order and names asked for")
    for title, found, table in (
        ("other addresses", addresses, ADDRESSES_DIFFER),
        ("other names asked for", queries, QUERIES_DIFFER),
    ):
        for pattern, text in table.items():
            number = sum(fnmatch(each["case"], pattern) for each in found)
            print(f"{number:4} {title}: {pattern}: {text}")
            assert number, f"{pattern} does not differ any more"
    assert [each for each in addresses if not explained(each["case"], ADDRESSES_DIFFER)] == []
    assert [each for each in queries if not explained(each["case"], QUERIES_DIFFER)] == []
    assert equal >= 150
    record_property("cases", equal)
