"""The parsers against Perl's AnyEvent, where it is installed: the same, but for what is listed."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ae_socket import (
    format_address,
    format_ipv6,
    parse_address,
    parse_host_port,
    parse_ipv4,
    parse_ipv6,
)

ORACLE = """
use AnyEvent::Socket; use JSON::PP;
$| = 1; no warnings;
my $json = JSON::PP->new->ascii;
while (my $line = <STDIN>) {
    my $text = $json->decode($line)->[0];
    my @split = eval { parse_hostport $text, 443 };
    my @packed = map { my $r = eval { $_->($text) }; defined $r ? unpack "H*", $r : undef }
        \\&parse_ipv4, \\&parse_ipv6, \\&parse_address;
    my $octets = join "", map chr, @{ $json->decode(scalar <STDIN>) };
    print $json->encode([[@split], @packed, format_ipv6 $octets, format_address $octets]), "\\n";
}
"""


@pytest.fixture(scope="module")
def perl() -> object:
    if shutil.which("perl") is None:
        pytest.skip("perl is not installed")
    probe = ["perl", "-MAnyEvent::Socket", "-MJSON::PP", "-e1"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("Perl's AnyEvent is not installed (libanyevent-perl)")
    with subprocess.Popen(
        ["perl", "-e", ORACLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin
        yield child
        child.stdin.close()


pieces = st.sampled_from(
    ["10.0.0.1", "127.1", "::1", "fe80::a", "2001:db8::", "1:2:3:4:5:6:7:8", "::", "[", "]", ":",
     " ", "host", "www.x.org", "80", "smtp", "#", "0x7f", "017", ".", "256", "::ffff:1.2.3.4",
     "unix/", "/tmp/x", "a_b", "-", "g", "=", "65535", "ffff", "%eth0"]
)  # fmt: skip


def deviates(text: str) -> bool:
    """Say whether *text* is one of those that are read differently on purpose."""
    return (
        "%" in text  # scope ids are kept
        or "#" in text  # never part of a name
        or text[-1:].isspace()  # "host ": no default is put there
    )


@settings(max_examples=400)
@given(st.lists(pieces, max_size=5).map("".join), st.binary(min_size=16, max_size=16))
def test_parsers_agree_with_upstream(perl: subprocess.Popen[str], text: str, octets: bytes) -> None:
    assert perl.stdin
    assert perl.stdout
    # Half of the octets zero: that is where the formats differ.
    octets = bytes(octet if octet & 1 else 0 for octet in octets)
    perl.stdin.write(json.dumps([text]) + "\n" + json.dumps(list(octets)) + "\n")
    perl.stdin.flush()
    split, ipv4, ipv6, address, text6, any_text = json.loads(perl.stdout.readline())

    def hexadecimal(packed: bytes | None) -> str | None:
        return packed.hex() if packed is not None else None

    assert format_ipv6(octets) == text6
    assert format_address(octets) == any_text
    assert hexadecimal(parse_ipv4(text)) == ipv4
    assert hexadecimal(parse_address(text)) == address or text.count(":") == 8
    # Eight groups and a "::" that stands for none: upstream takes it, RFC 4291 does not.
    if parse_ipv6(text) is None and ipv6 is not None:
        assert len([group for group in text.split(":") if group]) + text.count(".") // 3 >= 8
    else:
        assert hexadecimal(parse_ipv6(text)) == ipv6
        if not deviates(text):
            assert list(parse_host_port(text, 443) or ()) == [str(part) for part in split]
