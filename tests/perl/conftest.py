"""What the tests against Perl's AnyEvent need: the interpreter, its modules, a certificate."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

MODULES = ("AnyEvent", "EV", "JSON::XS", "CBOR::XS", "Net::SSLeay")


@pytest.fixture(scope="session")
def perl() -> str:
    """The Perl interpreter, with the original and what it needs."""
    path = shutil.which("perl")
    if path is None:
        pytest.skip("perl is not installed")
    for module in MODULES:
        command = [path, f"-M{module}", "-e1"]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip(f"perl's {module} is not installed")
    return path


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for "peer.test" and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl program is not installed")
    directory = tmp_path_factory.mktemp("certificate")
    cert, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=peer.test", "-addext", "subjectAltName=DNS:peer.test"),
            *("-keyout", key, "-out", cert),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key
