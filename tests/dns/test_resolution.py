"""The algorithm, fed with octets: no sockets, no clock, no loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ae_dns
from ae_dns import _wire_fast
from ae_dns._resolution import (
    Exchange,
    Reply,
    Resolution,
    Verdict,
    candidate_names,
    make_plan,
)
from ae_dns.testing import parse_records

A, MX = 1, 15


def question(name: str, rdtype: int = A) -> bytes:
    return _wire_fast.make_question(_wire_fast.encode_name(name), rdtype)


def exchange(
    name: str = "www.x.test",
    rdtype: int = A,
    plan: Sequence[tuple[Any, float]] = (("s1", 2), ("s2", 2)),
    **options: Any,
) -> Exchange:
    made = Exchange(question(name, rdtype), plan, options.pop("edns", True), **options)
    made.ident = b"id"
    assert made.next_step()
    return made


def reply_to(
    made: Exchange, *records: str, rcode: int = 0, tc: bool = False, soa: int | None = None
) -> bytes:
    message = dns.message.make_response(dns.message.from_wire(made.packet()))
    message.set_rcode(dns.rcode.Rcode(rcode))
    if tc:
        message.flags |= dns.flags.TC
    for rrset in parse_records(records):
        message.answer.append(rrset)
    if soa is not None:
        message.authority += parse_records([f"test. {soa} SOA a. b. 1 2 3 4 {soa}"])
    return message.to_wire(want_shuffle=False)


# ------------------------------------------------------------- one question


def test_the_plan_has_time_outs_outer_and_servers_inner() -> None:
    assert make_plan(["a", "b"], [1, 2]) == (("a", 1), ("b", 1), ("a", 2), ("b", 2))


def test_steps_follow_the_plan_to_its_end() -> None:
    made = exchange()
    assert (made.server, made.timeout) == ("s1", 2)
    assert made.next_step()
    assert made.server == "s2"
    assert not made.next_step()


def test_an_answer_ends_the_exchange() -> None:
    made = exchange()
    wire = reply_to(made, "www.x.test. A 192.0.2.1")
    assert made.judge(wire) is Verdict.ANSWERED
    assert made.reply is not None
    assert made.reply.read_addresses().values == ["192.0.2.1"]


def test_no_such_name_ends_the_exchange() -> None:
    made = exchange()
    assert made.judge(reply_to(made, rcode=3)) is Verdict.ANSWERED
    assert made.reply is not None
    assert made.reply.rcode == 3


@pytest.mark.parametrize("rcode", [2, 4, 5, 9])
def test_other_codes_go_on_with_the_plan_and_are_remembered(rcode: int) -> None:
    made = exchange()
    assert made.judge(reply_to(made, rcode=rcode)) is Verdict.NEXT_STEP
    assert made.rcode == rcode


@pytest.mark.parametrize(
    "what",
    ["a-query", "opcode", "other-name", "other-type", "other-class", "no-question", "short"],
)
def test_whatever_is_not_the_reply_changes_nothing(what: str) -> None:
    made = exchange()
    good = reply_to(made, "www.x.test. A 192.0.2.1")
    bad = bytearray(good)
    if what == "a-query":
        bad[2] &= 0x7F
    elif what == "opcode":
        bad[2] |= 0x28
    elif what == "other-name":
        bad[13] ^= 1
    elif what == "other-type":
        bad[12 + len(question("www.x.test")) - 3] = 28
    elif what == "other-class":
        bad[12 + len(question("www.x.test")) - 1] = 3
    elif what == "no-question":
        bad[5] = 0
    else:
        del bad[11:]
    assert made.judge(bytes(bad)) is Verdict.IGNORED
    assert made.judge(good) is Verdict.ANSWERED


def test_truncation_is_obeyed_whatever_follows_the_question() -> None:
    made = exchange()
    wire = reply_to(made, tc=True)[: 12 + len(question("www.x.test"))] + b"\xff" * 9
    assert made.judge(wire) is Verdict.SAME_STEP
    assert made.stream
    assert made.judge(wire) is Verdict.NEXT_STEP, "over TCP nothing may be truncated"


def test_truncation_with_another_question_is_not_obeyed() -> None:
    made = exchange()
    wire = bytearray(reply_to(made, tc=True))
    wire[13] ^= 1
    assert made.judge(bytes(wire)) is Verdict.IGNORED
    assert not made.stream


@pytest.mark.parametrize("bare", [True, False])
def test_formerr_repeats_the_step_without_edns_once(bare: bool) -> None:
    made = exchange()
    wire = reply_to(made, rcode=1)
    if bare:
        wire = wire[:4] + bytes(8)
    assert made.judge(wire) is Verdict.SAME_STEP
    assert dns.message.from_wire(made.packet()).edns == -1
    assert made.judge(wire) is Verdict.NEXT_STEP
    assert made.rcode == 1


def test_badvers_repeats_the_step_without_edns_once() -> None:
    made = exchange()
    message = dns.message.make_response(dns.message.from_wire(made.packet()))
    message.set_rcode(dns.rcode.BADVERS)
    assert made.judge(message.to_wire()) is Verdict.SAME_STEP
    assert dns.message.from_wire(made.packet()).edns == -1
    assert made.judge(message.to_wire()) is Verdict.NEXT_STEP
    assert made.rcode == 16


def test_garbage_behind_a_true_question_goes_on_with_the_plan() -> None:
    made = exchange()
    wire = bytearray(reply_to(made, "www.x.test. A 192.0.2.1"))
    wire[7] = 9
    assert made.judge(bytes(wire)) is Verdict.NEXT_STEP
    assert made.rcode is None


def test_random_case_is_insisted_on() -> None:
    made = exchange(random_bits=0b10101)
    assert b"WwW" in made.packet()
    wire = reply_to(made, "www.x.test. A 192.0.2.1")
    lower = wire[:12] + wire[12:22].lower() + wire[22:]
    assert made.judge(lower) is Verdict.IGNORED
    assert made.judge(wire) is Verdict.ANSWERED
    assert made.reply is not None
    assert made.reply.wire == lower, "and nobody sees the spelling"


def test_a_server_that_loses_the_case_is_asked_over_tcp() -> None:
    made = exchange(random_bits=0b111)
    wire = reply_to(made, "www.x.test. A 192.0.2.1")
    lower = wire[:12] + wire[12:22].lower() + wire[22:]
    made.timed_out()
    assert not made.stream, "silence alone is no reason"
    assert made.judge(lower) is Verdict.IGNORED
    made.timed_out()
    assert made.stream


def test_a_flood_of_wrong_packets_leads_to_tcp() -> None:
    few, many, guessed = exchange(), exchange(), exchange()
    few.timed_out(50)
    assert not few.stream
    many.timed_out(100)
    assert many.stream
    for _ in range(100):
        assert guessed.judge(b"id" + bytes(10)) is Verdict.IGNORED
    guessed.timed_out()
    assert guessed.stream


@given(st.binary(max_size=300))
def test_any_octets_give_a_verdict(junk: bytes) -> None:
    for rdtype in (A, MX, 255):
        made = exchange(rdtype=rdtype)
        head = b"id\x81\x80\0\1" + b"\0\1" * 3
        assert made.judge(junk) in Verdict
        assert made.judge(head + question("www.x.test", rdtype) + junk) in Verdict


# ------------------------------------------------------------- one lookup


def take(resolution: Resolution, *records: str, rcode: int = 0, soa: int | None = None) -> bool:
    """Answer the question of *resolution* with *records*."""
    made = Exchange(resolution.question, [("s", 1)], True)
    made.ident = b"id"
    verdict = made.judge(reply_to(made, *records, rcode=rcode, soa=soa))
    assert verdict is Verdict.ANSWERED
    assert isinstance(made.reply, Reply)
    return resolution.take(made.reply.read_addresses(), made.reply)


def resolution(*names: str) -> Resolution:
    return Resolution([_wire_fast.encode_name(name) for name in names], A)


def asked(made: Resolution) -> str:
    return _wire_fast.decode_name(made.question[:-4])


def test_an_answer_ends_the_lookup() -> None:
    made = resolution("x.test")
    assert take(made, "x.test. 60 A 192.0.2.1")
    assert made.reading is not None
    assert made.reading.values == ["192.0.2.1"]
    assert made.ttl == 60


def test_names_that_do_not_exist_lead_to_the_next_candidate() -> None:
    made = resolution("x.a.test", "x.b.test")
    assert not take(made, rcode=3, soa=9)
    assert asked(made) == "x.b.test"
    assert take(made, rcode=3, soa=9)
    assert isinstance(made.error(), ae_dns.NoSuchName)
    assert "'x.a.test'" in str(made.error())


def test_a_name_without_data_is_the_more_telling_failure() -> None:
    made = resolution("x.a.test", "x.b.test", "x.c.test")
    assert not take(made, rcode=3, soa=9)
    assert not take(made, soa=9)
    assert made.fail(2)
    assert isinstance(made.error(), ae_dns.NoData)


def test_a_failing_server_leads_to_the_next_candidate() -> None:
    made = resolution("x.a.test", "x.b.test")
    assert not made.fail(2)
    assert take(made, rcode=3, soa=9)
    error = made.error()
    assert isinstance(error, ae_dns.ServerFailed)
    assert error.rcode == 2


def test_silence_ends_the_lookup() -> None:
    made = resolution("x.a.test", "x.b.test")
    assert made.fail(None)
    assert isinstance(made.error(), ae_dns.QueryTimedOut)
    assert made.ends_search


def test_an_alias_inside_the_reply_needs_no_query() -> None:
    made = resolution("x.test")
    assert take(made, "x.test. 9 CNAME y.test.", "y.test. 60 A 192.0.2.1")
    assert made.reading is not None
    assert _wire_fast.decode_name(made.reading.name) == "y.test"
    assert made.ttl == 9


def test_an_alias_out_of_the_reply_is_asked_for_without_the_search_list() -> None:
    made = resolution("x.a.test", "x")
    assert not take(made, "x.a.test. 9 CNAME y.test.")
    assert asked(made) == "y.test"
    assert take(made, "y.test. 60 A 192.0.2.1")
    assert made.ttl == 9


def test_the_ttl_is_the_least_of_all_replies() -> None:
    made = resolution("x.test")
    assert not take(made, "x.test. 60 CNAME y.test.")
    assert take(made, "y.test. 5 A 192.0.2.1")
    assert made.ttl == 5


def test_an_alias_with_an_soa_is_known_to_lead_nowhere() -> None:
    made = resolution("x.test")
    assert take(made, "x.test. CNAME y.test.", soa=9)
    assert isinstance(made.error(), ae_dns.NoData)


def test_an_alias_that_leads_nowhere_ends_the_search() -> None:
    made = resolution("x.a.test", "x.b.test")
    assert not take(made, "x.a.test. CNAME y.test.")
    assert take(made, rcode=3, soa=9)
    assert made.ends_search
    assert isinstance(made.error(), ae_dns.NoSuchName)


def test_an_alias_to_a_name_that_does_not_exist() -> None:
    made = resolution("x.test")
    assert take(made, "x.test. CNAME y.test.", rcode=3, soa=9)
    assert isinstance(made.error(), ae_dns.NoSuchName)


def chain(first: int, last: int) -> list[str]:
    return [f"n{i}.test. CNAME n{i + 1}.test." for i in range(first, last)]


def test_sixteen_aliases_are_followed_inside_and_outside_the_reply_together() -> None:
    made = resolution("n0.test")
    assert not take(made, *chain(0, 6))
    assert asked(made) == "n6.test"
    assert take(made, *chain(6, 16), "n16.test. A 192.0.2.1")
    assert made.reading is not None


@pytest.mark.parametrize(
    "replies",
    [
        pytest.param([[*chain(0, 17), "n17.test. A 192.0.2.1"]], id="one-reply"),
        pytest.param([chain(0, 9), [*chain(9, 17)]], id="two-replies"),
        pytest.param([["n0.test. CNAME n0.test."]], id="itself"),
        pytest.param([["n0.test. CNAME n1.test.", "n1.test. CNAME n0.test."]], id="loop"),
        pytest.param([chain(i, i + 1) for i in range(17)], id="one-by-one"),
    ],
)
def test_endless_chains_end(replies: list[list[str]]) -> None:
    made = resolution("n0.test")
    for records in replies[:-1]:
        assert not take(made, *records)
    assert take(made, *replies[-1])
    assert "aliases" in str(made.error())
    assert type(made.error()) is ae_dns.ResolveError


def test_records_of_other_names_are_no_answer() -> None:
    made = resolution("x.test")
    assert take(made, "evil.test. A 192.0.2.66", soa=9)
    assert isinstance(made.error(), ae_dns.NoData)


# ------------------------------------------------------------- names to try


@pytest.mark.parametrize(
    ("name", "search", "ndots", "explicit", "expected"),
    [
        pytest.param("www", ["a", "b"], 1, None, ["www.a", "www.b", "www"], id="few-dots"),
        pytest.param("www.x", ["a", "b"], 1, None, ["www.x", "www.x.a", "www.x.b"], id="dots"),
        pytest.param("www.x", ["a"], 2, None, ["www.x.a", "www.x"], id="ndots"),
        pytest.param("www", ["a"], 0, None, ["www", "www.a"], id="ndots-0"),
        pytest.param("www.", ["a"], 1, None, ["www"], id="absolute"),
        pytest.param("www.", ["a"], 1, ["b"], ["www"], id="absolute-explicit"),
        pytest.param("www", ["a"], 1, ["b", "c"], ["www.b", "www.c"], id="explicit"),
        pytest.param("www.x.y", ["a"], 1, ["b"], ["www.x.y.b"], id="explicit-dots"),
        pytest.param("www", ["a"], 1, [], ["www"], id="explicit-empty"),
        pytest.param("www", [], 1, None, ["www"], id="no-search"),
        pytest.param("www", ["a."], 1, None, ["www.a", "www"], id="suffix-with-dot"),
        pytest.param("WWW", ["A"], 1, None, ["www.a", "www"], id="lower-case"),
        pytest.param("www", ["y." * 126], 1, None, ["www"], id="suffix-too-long"),
    ],
)
def test_candidate_names(
    name: str, search: list[str], ndots: int, explicit: list[str] | None, expected: list[str]
) -> None:
    names = candidate_names(name, search, ndots, explicit)
    assert [_wire_fast.decode_name(each) for each in names] == expected


def test_a_name_that_no_explicit_suffix_fits_is_impossible() -> None:
    with pytest.raises(ValueError):
        candidate_names("www", [], 1, ["y." * 126])
