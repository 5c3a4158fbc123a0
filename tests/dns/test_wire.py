"""The fast codec, with dnspython as the oracle."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

import dns.exception
import dns.message
import dns.name
import dns.version
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_dns import _wire_fast, _wire_full
from ae_dns._wire_fast import AAAA, A, Reading

PACKETS = 10_000  # in each of ten parts


# ------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        pytest.param("www.Example.ORG", b"\3www\7example\3org\0", id="lower-case"),
        pytest.param("www.example.org.", b"\3www\7example\3org\0", id="absolute"),
        pytest.param(".", b"\0", id="root"),
        pytest.param("x", b"\1x\0", id="one-label"),
        pytest.param("a\\.b.c", b"\3a.b\1c\0", id="escaped-dot"),
        pytest.param("a\\065.c", b"\2aa\1c\0", id="escaped-number"),
        pytest.param("_http._tcp.x-y", b"\5_http\4_tcp\3x-y\0", id="service"),
        pytest.param("x" * 63, b"\x3f" + b"x" * 63 + b"\0", id="longest-label"),
    ],
)
def test_encode_name(text: str, wire: bytes) -> None:
    assert _wire_fast.encode_name(text) == wire


@pytest.mark.parametrize(
    "text",
    ["", "..", "a..b", ".a", "a..", "x" * 64, "a." * 128, "a\\", "a\\25", "a\\256", "b\xfccher"],
)
def test_impossible_names_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        _wire_fast.encode_name(text)


labels = st.binary(min_size=1, max_size=63)


@given(st.lists(labels, max_size=8).filter(lambda ls: sum(len(x) + 1 for x in ls) < 255))
def test_names_read_like_dnspythons(parts: list[bytes]) -> None:
    name = dns.name.Name([*parts, b""])
    text = _wire_fast.decode_name(name.to_wire() or b"")
    assert text == name.to_text(omit_final_dot=True)
    if parts:
        assert _wire_fast.encode_name(text) == (name.to_wire() or b"").lower()


# ------------------------------------------------------------- queries


@pytest.mark.parametrize("edns", [True, False])
@pytest.mark.parametrize("trust_ad", [True, False])
def test_queries_mean_what_dnspython_reads(edns: bool, trust_ad: bool) -> None:
    question = _wire_fast.make_question(_wire_fast.encode_name("www.example.org"), AAAA)
    message = dns.message.from_wire(_wire_fast.build_query(b"\x12\x34", question, edns, trust_ad))
    assert message.id == 0x1234
    assert message.question[0].to_text() == "www.example.org. IN AAAA"
    assert dns.flags.to_text(message.flags) == ("RD AD" if trust_ad else "RD")
    assert (message.edns, message.payload) == ((0, 1232) if edns else (-1, 0))
    assert message.opcode() == 0


def test_case_is_randomized_by_random_bits_and_only_in_the_name() -> None:
    question = _wire_fast.make_question(_wire_fast.encode_name("ab-1.cd"), 97)
    assert _wire_fast.randomize_case(question, 0) == question
    assert _wire_fast.randomize_case(question, 0b1111) == b"\4AB-1\2CD\0\0\x61\0\1"
    assert _wire_fast.randomize_case(question, 0b1010) == b"\4aB-1\2cD\0\0\x61\0\1"


# ------------------------------------------------------------- recognising replies

QUESTION = _wire_fast.make_question(_wire_fast.encode_name("www.example.org"), A)


def reply(question: bytes = QUESTION, flags: bytes = b"\x81\x80", counts: bytes = b"\0\1") -> bytes:
    return b"id" + flags + counts + bytes(6) + question


@pytest.mark.parametrize(
    ("wire", "exact", "expected"),
    [
        pytest.param(reply(), False, True, id="reply"),
        pytest.param(reply(), True, True, id="exact"),
        pytest.param(reply(QUESTION.upper()), False, True, id="other-case"),
        pytest.param(reply(QUESTION.upper()), True, False, id="other-case-exact"),
        pytest.param(reply(flags=b"\x01\x80"), False, False, id="a-query"),
        pytest.param(reply(flags=b"\x89\x80"), False, False, id="opcode"),
        pytest.param(reply(counts=b"\0\0"), False, False, id="no-question"),
        pytest.param(reply(counts=b"\0\2"), False, False, id="two-questions"),
        pytest.param(reply(QUESTION[:-3] + b"\x1c\0\1"), False, False, id="type"),
        pytest.param(reply(QUESTION[:-1] + b"\3"), False, False, id="class"),
        pytest.param(reply(QUESTION.replace(b"www", b"wwx")), False, False, id="name"),
        pytest.param(reply()[:-1], False, False, id="short"),
        pytest.param(b"", False, False, id="empty"),
        pytest.param(b"id\x81\x81" + bytes(8), False, True, id="bare-formerr"),
        pytest.param(b"id\x81\x82" + bytes(8), False, True, id="bare-servfail"),
        pytest.param(b"id\x81\x81" + bytes(9), False, False, id="formerr-with-more"),
    ],
)
def test_is_reply_to(wire: bytes, exact: bool, expected: bool) -> None:
    assert _wire_fast.is_reply_to(wire, QUESTION, exact) is expected


def test_types_are_not_compared_without_case() -> None:
    asked = _wire_fast.make_question(b"\0", 65)
    assert not _wire_fast.is_reply_to(reply(_wire_fast.make_question(b"\0", 97)), asked, False)


# ------------------------------------------------------------- the oracle
#
# A generator of packets that look like what servers send, with everything that may
# occur in them: compression of all kinds, aliases in order and out of order, loops,
# duplicates, odd records, EDNS with and without options. Half of them are then mutated.


class Generator:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.odd = False

    def name(self, wire: bytes, offsets: list[int], question: bytes) -> bytes:
        roll = self.random.random()
        if roll < 0.45:
            return b"\xc0\x0c"
        if roll < 0.75 and offsets:
            target = self.random.choice(offsets)
            prefix = self.random.choice([b"", b"", b"\2ns", b"\1a\1b", b"\x3f" + b"y" * 63])
            return prefix + (0xC000 | target).to_bytes(2, "big")
        if roll < 0.85:
            return question[:-4]
        return self.random.choice([b"\0", b"\1x\4TEST\0", b"\3wWw\7example\3org\0", question[:-4]])

    def packet(self) -> tuple[bytes, bytes, int]:
        roll = self.random
        odd = self.odd = roll.random() < 0.5
        rdtype = roll.choice([A, A, AAAA])
        label = b"q%d" % roll.randrange(10**6)
        tail = roll.choice([b"\5bench\4test\0", b"\7example\3org\0", b"\1x\0", b"\0"])
        question = _wire_fast.make_question(bytes((len(label),)) + label + tail, rdtype)
        counts = [0, 0, 0]
        wire = bytearray(12) + question
        offsets = [12, 12 + 1 + len(label)]
        chain = b"\xc0\x0c"
        for section, most in enumerate((4, 2, 3)):
            for _ in range(roll.choice([0, 1, 1, most])):
                counts[section] += 1
                start = len(wire)
                if section == 0 and not (odd and roll.random() < 0.3):
                    owner = chain
                else:
                    owner = self.name(bytes(wire), offsets, question)
                kind, rdata = self.record(section, rdtype, wire, owner, offsets, question)
                if kind == 41:
                    owner = b"\0"
                ttl = roll.choice([0, 1, 300, 86400, 0x7FFFFFFF] + odd * [0x80000000])
                rdclass = 1232 if kind == 41 else roll.choice([1] * 9 + odd * [3, 255])
                if kind == 41:
                    ttl = roll.choice([0, 0x8000] + odd * [0x01000000, 0x00010000])
                wire += owner + kind.to_bytes(2, "big") + rdclass.to_bytes(2, "big")
                wire += ttl.to_bytes(4, "big") + len(rdata).to_bytes(2, "big")
                if kind == 5 and section == 0:
                    chain = (0xC000 | len(wire)).to_bytes(2, "big")
                if kind in (2, 5, 6):
                    offsets.append(len(wire))
                wire += rdata
                offsets.append(start)
        rcode = roll.choice([0, 0, 0, 0, 3])
        wire[0:4] = b"id" + bytes((0x81, 0x80 | rcode))
        wire[4:6] = b"\0\1"
        for i, count in enumerate(counts):
            wire[6 + 2 * i : 8 + 2 * i] = count.to_bytes(2, "big")
        return bytes(wire), question, rdtype

    def record(
        self,
        section: int,
        rdtype: int,
        wire: bytearray,
        owner: bytes,
        offsets: list[int],
        question: bytes,
    ) -> tuple[int, bytes]:
        roll, odd = self.random, self.odd
        if section == 0:
            kind = roll.choice([rdtype] * 6 + [5, 5, 5] + odd * [A, AAAA, 16, 46])
        elif section == 1:
            kind = roll.choice([2, 2, 6] + odd * [43, A])
        else:
            kind = roll.choice([41, 41, A, AAAA] + odd * [2, 250])
        if kind == A:
            return kind, bytes((192, 0, 2, roll.randrange(3 if odd else 256)))
        if kind == AAAA:
            first = roll.choice([b"\x20\x01" + bytes(8), bytes(10), bytes(8) + b"\xff\xff"])
            return kind, first + roll.randbytes(2) + bytes(16 - 4 - len(first)) + b"\0\1"
        if kind == 41:
            return kind, roll.choice([b"", b""] + odd * [b"\0\x0f\0\2\0\1", b"\0\x0a\0\1"])
        if kind == 6:
            one = self.name(bytes(wire), offsets, question)
            two = self.name(bytes(wire), offsets, question)
            return kind, one + two + b"".join(
                roll.choice([0, 30, 0x90000000]).to_bytes(4, "big") for _ in range(5)
            )
        if kind in (2, 5):
            return kind, self.name(bytes(wire), offsets, question)
        if kind == 16:
            return kind, b"\3abc"
        return kind, roll.randbytes(roll.randrange(20))

    def mutated(self, wire: bytes) -> bytes:
        roll = self.random
        packet = bytearray(wire)
        for _ in range(roll.choice([1, 1, 2, 5])):
            what = roll.randrange(5)
            at = roll.randrange(4, len(packet)) if len(packet) > 4 else 0
            if what == 0:
                packet[at] = roll.randrange(256)
            elif what == 1:
                packet[at] ^= 1 << roll.randrange(8)
            elif what == 2:
                del packet[at:]
                packet = packet if len(packet) >= 12 else bytearray(wire[:12])
            elif what == 3:
                packet[at:at] = roll.randbytes(roll.choice([1, 2, 4]))
            else:
                other = roll.randrange(4, len(packet)) if len(packet) > 4 else 0
                packet[at : at + 2] = packet[other : other + 2]
        return bytes(packet)


def packets(seed: int, count: int) -> Iterator[tuple[bytes, bytes, int]]:
    generator = Generator(seed)
    for i in range(count):
        wire, question, rdtype = generator.packet()
        yield (generator.mutated(wire) if i & 1 else wire), question, rdtype


def oracle(wire: bytes, question: bytes) -> Reading | None:
    """What dnspython makes of it; ``None`` if it refuses."""
    try:
        message = dns.message.from_wire(wire, ignore_trailing=True, one_rr_per_rrset=True)
    except (dns.exception.DNSException, ValueError, IndexError):
        return None
    rdtype = question[-4] << 8 | question[-3]
    name = dns.name.from_wire(question, 0)[0]
    ttl = _wire_fast.MAX_TTL
    seen = [name]
    endless = False
    while True:
        own = [each for each in message.answer if each.name == name and each.rdclass == 1]
        found = [each for each in own if each.rdtype == rdtype]
        if found:
            ttl = min(ttl, *(each.ttl for each in found))
            break
        aliases = [each for each in own if each.rdtype == 5]
        if not aliases:
            break
        ttl = min(ttl, aliases[0].ttl)
        name = next(iter(aliases[0])).target
        endless = name in seen or len(seen) > _wire_fast.MAX_HOPS
        seen.append(name)
        if endless:
            found = []
            break
    values: dict[str, None] = {}
    for each in found:
        packed = next(iter(each)).to_wire()
        family = socket.AF_INET if rdtype == A else socket.AF_INET6
        values[socket.inet_ntop(family, packed)] = None
    negative = None
    for each in message.authority:
        if each.rdtype == 6 and negative is None:
            negative = min(each.ttl, next(iter(each)).minimum, _wire_fast.MAX_TTL)
    wire_name = name.canonicalize().to_wire() or b""
    return Reading(
        int(message.rcode()), len(seen) - 1, wire_name, list(values), ttl, negative, endless
    )


def thorough(wire: bytes, question: bytes) -> Reading | None:
    try:
        return _wire_full.addresses(_wire_full.parse(wire, question), question)
    except _wire_full.MalformedReply:
        return None


@pytest.mark.skipif(
    (dns.version.MAJOR, dns.version.MINOR, dns.version.MICRO) < (2, 9, 1),
    reason="dnspython before 2.9.1 reads names that run through their own pointer",
)
@pytest.mark.parametrize("part", range(10))
def test_both_codecs_agree_with_dnspython_on_generated_and_mutated_packets(part: int) -> None:
    """0 differences, 0 other exceptions, and the fast path is worth having."""
    seed = random.SystemRandom().randrange(2**32)
    fast_ones = recognised = refused = 0
    for wire, question, rdtype in packets(seed, PACKETS):
        if not _wire_fast.is_reply_to(wire, question, False) or wire[2] & 2:
            continue
        recognised += 1
        fast = _wire_fast.read_addresses(wire, question, rdtype)
        slow = thorough(wire, question)
        judge = oracle(wire, question)
        if fast is not None:
            fast_ones += 1
            assert fast == slow == judge, f"seed {seed}: {wire.hex()}"
        elif judge is not None:
            assert slow == judge, f"seed {seed}: {wire.hex()}"
        else:
            refused += 1
    assert recognised > PACKETS / 2
    assert fast_ones > PACKETS / 10
    print(f"\n{recognised} replies, seed {seed}: {fast_ones} decided fast, {refused} refused")


@given(st.binary(max_size=600))
def test_no_octets_at_all_escape(junk: bytes) -> None:
    wire = reply() + junk
    for ancount in range(3):
        packet = wire[:6] + bytes((0, ancount)) + wire[8:]
        fast = _wire_fast.read_addresses(packet, QUESTION, A)
        slow = thorough(packet, QUESTION)
        judge = oracle(packet, QUESTION)
        assert fast is None or fast == slow == judge
        assert judge is None or slow == judge


# ------------------------------------------------------------- what the fast path must decide


def answer(*records: bytes, authority: bytes = b"", additional: bytes = b"") -> bytes:
    counts = (1, len(records), int(bool(authority)), int(bool(additional)))
    head = b"id\x81\x80" + b"".join(count.to_bytes(2, "big") for count in counts)
    return head + QUESTION + b"".join(records) + authority + additional


ADDRESS = b"\xc0\x0c\0\1\0\1\0\0\1\x2c\0\4\xc0\0\2\x01"
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"


def test_an_ordinary_reply_is_decided() -> None:
    reading = _wire_fast.read_addresses(answer(ADDRESS, additional=OPT), QUESTION, A)
    assert reading == Reading(0, 0, QUESTION[:-4], ["192.0.2.1"], 300, None)


def test_an_alias_is_followed() -> None:
    alias = b"\xc0\x0c\0\5\0\1\0\0\0\x1e\0\4\1b\xc0\x10"
    at = 12 + len(QUESTION) + 12
    address = (0xC000 | at).to_bytes(2, "big") + ADDRESS[2:]
    reading = _wire_fast.read_addresses(answer(alias, address), QUESTION, A)
    assert reading == Reading(0, 1, b"\1b\7example\3org\0", ["192.0.2.1"], 30, None)


def test_the_negative_ttl_is_the_lesser_of_the_soas_own_and_its_minimum() -> None:
    soa = b"\xc0\x10\0\6\0\1\0\0\0\x3c\0\x18\xc0\x10\xc0\x10" + bytes(16) + b"\0\0\0\x1e"
    reading = _wire_fast.read_addresses(answer(authority=soa), QUESTION, A)
    assert reading is not None
    assert (reading.values, reading.negative_ttl) == ([], 30)


def test_an_address_that_is_there_twice_counts_once() -> None:
    reading = _wire_fast.read_addresses(answer(ADDRESS, ADDRESS), QUESTION, A)
    assert reading is not None
    assert reading.values == ["192.0.2.1"]


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(answer(b"\1x\0" + ADDRESS[2:]), id="foreign-owner"),
        pytest.param(answer(ADDRESS[:3] + b"\x10" + ADDRESS[4:]), id="other-type"),
        pytest.param(
            answer(ADDRESS, additional=b"\0\0\x29\4\xd0\1\0\0\0\0\0"), id="extended-rcode"
        ),
        pytest.param(answer(b"\xc0\x0c\0\5\0\1\0\0\0\x1e\0\2\xc0\x0c"), id="alias-of-itself"),
        pytest.param(answer(ADDRESS[:-1]), id="short"),
        pytest.param(answer(b"\xc0\xff" + ADDRESS[2:]), id="pointer-forward"),
    ],
)
def test_anything_unusual_is_left_undecided(wire: bytes) -> None:
    assert _wire_fast.read_addresses(wire, QUESTION, A) is None


@pytest.mark.parametrize("kind", [64, 65, 127, 128, 191])
def test_labels_of_unknown_kinds_are_left_undecided(kind: int) -> None:
    """RFC 1035 reserves them, RFC 6891 gives them up."""
    wire = bytes((kind,)) + b"x" * kind + b"\0"
    with pytest.raises(_wire_fast.Undecided):
        _wire_fast.read_name(wire, 0)
    with pytest.raises(_wire_fast.Undecided):
        _wire_fast.skip_name(wire, 0, {_wire_fast.LEFT: 1000})
    longest = b"\x3f" + b"x" * 63 + b"\0"
    assert _wire_fast.read_name(longest, 0) == (longest, 65)
    assert _wire_fast.skip_name(longest, 0, {_wire_fast.LEFT: 1000}) == 65


def test_a_pointer_may_lead_into_a_name_but_not_past_its_own_beginning() -> None:
    wire = b"\3www\4test\0\1a\xc0\4"
    assert _wire_fast.read_name(wire, 10) == (b"\1a\4test\0", 14)
    for target in (10, 11, 12):
        with pytest.raises(_wire_fast.Undecided):
            _wire_fast.read_name(wire[:13] + bytes((target,)) + bytes(5), 10)


def test_an_opt_record_that_is_not_the_roots_makes_the_reply_malformed() -> None:
    for owner, good in ((b"\0", True), (b"\1x\0", False), (b"\xc0\x0c", False)):
        wire = answer(ADDRESS, additional=owner + OPT[1:])
        if good:
            assert _wire_full.parse(wire, QUESTION).rcode == 0
        else:
            with pytest.raises(_wire_full.MalformedReply, match="OPT"):
                _wire_full.parse(wire, QUESTION)


@pytest.mark.parametrize(("rdtype", "size"), [(A, 0x0104), (A, 5), (AAAA, 0x0200), (AAAA, 15)])
def test_an_address_of_another_size_is_none(rdtype: int, size: int) -> None:
    question = QUESTION[:-4] + bytes((0, rdtype, 0, 1))
    record = b"\xc0\x0c" + bytes((0, rdtype, 0, 1, 0, 0, 0, 60)) + size.to_bytes(2, "big")
    wire = answer()[:6] + b"\0\1\0\0\0\0" + question + record + bytes(size)
    message = _wire_full.parse(wire, question)
    assert _wire_full.addresses(message, question).values == []
    assert _wire_full.read(message, question, (rdtype,)).values == []


@pytest.mark.parametrize(
    ("wire", "at"),
    [
        pytest.param(b"\xc0\2\3www\4test\0", 0, id="to-what-follows"),
        pytest.param(b"\3www\4test\0\xc0\x0c\1x\0", 10, id="to-right-behind-it"),
        pytest.param(b"\0\xc0\1", 1, id="to-itself"),
        pytest.param(b"\0\0\xc0\1a\xc0\2", 3, id="to-a-pointer-that-ends-in-it"),
    ],
)
def test_a_name_leads_backwards_only(wire: bytes, at: int) -> None:
    with pytest.raises(_wire_fast.Undecided):
        _wire_fast.read_name(wire, at)
    assert _wire_fast.read_name(b"\3www\4test\0\xc0\0", 10) == (b"\3www\4test\0", 12)


def test_a_name_that_a_pointer_makes_too_long_is_for_the_thorough_reader() -> None:
    question = b"\3aaa" * 40 + b"\0" + b"\0\1\0\1"  # a name of 161 bytes
    address = b"\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1"

    def reply(length: int) -> bytes:
        """Make one with an additional record whose name is so long, by a pointer."""
        labels = (length - 161) // 2
        header = bytes((0, 0, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 2))
        owner = b"\1b" * labels + b"\xc0\x0c"
        return header + question + b"\xc0\x0c" + address + 2 * (owner + address)

    assert _wire_fast.read_addresses(reply(255), question, A) is not None
    assert _wire_fast.read_addresses(reply(257), question, A) is None
    dns.message.from_wire(reply(255))
    with pytest.raises(dns.name.NameTooLong):
        dns.message.from_wire(reply(257))


@pytest.mark.parametrize(("names", "decided"), [(29, True), (30, False)])
def test_so_many_names_that_begin_inside_another_are_followed_and_no_more(
    names: int, decided: bool
) -> None:
    """Each costs its length and 32: those of 119, 117, ... bytes are 3,567 for 29 of them."""
    wire = answer(ADDRESS)
    at = len(wire) + 11
    servers = b"\0\0\2\0\1\0\0\0\x3c" + bytes((0, 2 * 60 + 1)) + b"\1x" * 60 + b"\0"
    for _ in range(names):
        at += 2
        servers += (0xC000 | at).to_bytes(2, "big") + b"\0\2\0\1\0\0\0\x3c\0\1\0"
    wire = wire[:8] + (1 + names).to_bytes(2, "big") + wire[10:] + servers
    expected = thorough(wire, QUESTION)
    assert expected is not None
    assert expected.values == ["192.0.2.1"]
    assert _wire_fast.read_addresses(wire, QUESTION, A) == (expected if decided else None)
