"""The ``tls_detect`` and ``tls_autostart`` frame types (HANDLE-88)."""

from __future__ import annotations

import pytest

from ae_handle import NEED_MORE, ReadBuffer, TlsAutostart, TlsDetect


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        ("1603010010", (3, 1)),
        ("16030400", (3, 4)),
        ("1603034000", (3, 3)),
        ("802e01030100", (3, 1)),
        ("ff0001040300", (4, 3)),
        ("1602", None),
        ("16030141", None),
        ("1503", None),
        ("474554", None),
        ("7f", None),
        ("00", None),
        ("802e02", None),
        ("802e0102", None),
        ("", NEED_MORE),
        ("16", NEED_MORE),
        ("1603", NEED_MORE),
        ("160301", NEED_MORE),
        ("80", NEED_MORE),
        ("802e", NEED_MORE),
        ("802e01", NEED_MORE),
        ("802e0103", NEED_MORE),
    ],
)
def test_the_first_octets_decide(octets: str, expected: object) -> None:
    data = bytes.fromhex(octets)
    for read in (TlsDetect(), TlsAutostart("accept")):
        buf = ReadBuffer(data)
        assert read(buf) == expected
        assert bytes(buf) == data  # nothing is consumed


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match='expected "connect" or "accept", got \'server\''):
        TlsAutostart("server")  # type: ignore[arg-type]
