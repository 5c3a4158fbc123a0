"""Mutated input for everything that decodes what a stranger sent, or what a file says.

    python -m tools.fuzz.decoders [TARGET ...] [--count N] [--seconds S] [--seed N]

Each target has a few good inputs. They are cut, joined and changed by a seeded generator, and each
result is given to the decoder, which may refuse it with its own errors and with no others. A crash
is printed with the input that repeats it: make a test of it. With atheris at hand
``--atheris TARGET`` lets libFuzzer choose the input, guided by what it reaches.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final

from ae_core.logs import _spec
from ae_dns import _config, _wire_fast
from ae_dns._resolution import Exchange
from ae_handle import (
    NEED_MORE,
    BadMessage,
    Cbor,
    Json,
    Line,
    NetString,
    PackString,
    ReadBuffer,
    TlsDetect,
    TlsError,
)
from ae_http import _url
from ae_redis import Parser
from ae_socket import parse_host_port
from ae_tls._hello import HelloReader

#: Every so many inputs the memory of one is measured, which is slow.
MEMORY_EVERY: Final = 50
#: What mutations put in: ends, lengths, pointers, signs, digits, blanks.
ODD: Final = (
    b"", b"\0", b"\xff", b"\x7f\xff", b"\xff\xff\xff\xff", b"\xc0\x0c", b"\r\n", b"\n", b" ", b":",
    b",", b"-1", b"9" * 20, b"[", b"]", b"{", b'"', b"\\u", b"\xed\xa0\x80", b"$-1\r\n", b"\x9f",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A decoder: what it is given at first, what decodes, and how it may refuse."""

    seeds: tuple[bytes, ...]
    decode: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...] = (BadMessage,)


@dataclass
class Result:
    """What a run found: the slowest input in seconds of processor, the largest in bytes."""

    count: int = 0
    slowest: float = 0.0
    largest: int = 0
    crashes: list[str] = field(default_factory=list)


def frames(make: Callable[[], Any]) -> Callable[[bytes], object]:
    """Return what reads items of one frame type, in two pieces, to the end or the first error."""

    def decode(wire: bytes) -> None:
        reader = make()
        buf = ReadBuffer()
        for piece in (wire[: len(wire) // 2], wire[len(wire) // 2 :]):
            buf.feed(piece)
            while before := len(buf):
                if reader(buf) is NEED_MORE or len(buf) == before:
                    break

    return decode


QUESTION: Final = _wire_fast.make_question(b"\1x\4test\0", 1)
REPLY: Final = b"id\x81\x80\0\1\0\2\0\1\0\0" + QUESTION
RECORDS: Final = (
    b"\xc0\x0c\0\5\0\1\0\0\0\x3c\0\4\1y\xc0\x0e\xc0\x22\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4"
    b"\xc0\x0e\0\6\0\1\0\0\0\x3c\0\x16\0\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\5"
)


def dns(wire: bytes) -> None:
    exchange = Exchange(QUESTION, [("s", 1)], True, stream=True)
    exchange.ident = b"id"
    exchange.next_step()
    exchange.judge(b"id" + wire[2:])
    if exchange.reply is not None:
        exchange.reply.lifetime()
        exchange.reply.read_addresses()
        exchange.reply.read(None)


def text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda wire: parse(wire.decode("utf-8", "surrogateescape"))


HELLO: Final = bytes.fromhex(
    "160301004f0100004b0303" + "11" * 32 + "0000021301010000200000000e000c0000096c6f63616c686f7374"
    "002b0003020304000a00040002001d"
)

TARGETS: Final = {
    "dns": Target((REPLY + RECORDS, REPLY), dns, ()),
    "json": Target((b'{"a": [1, -2.5e3, "\\u00e9", null]} [true] ', b"12 "), frames(Json)),
    "cbor": Target((b"\xa2aa\x82\x01\xfb?\xf0" + bytes(6) + b"ab\xf6\x9f\xff",), frames(Cbor)),
    "line": Target((b"one\r\ntwo\n\n",), frames(Line)),
    "netstring": Target((b"5:hello,0:,",), frames(NetString)),
    "packstring": Target((b"\0\0\0\5hello\0\0\0\0",), frames(lambda: PackString("N"))),
    "packstring-ber": Target((b"\5hello\x81\0" + b"x" * 128,), frames(lambda: PackString("w"))),
    "tls-detect": Target((b"\x16\x03\x01\x02\0\1", b"\x80\x2e\1"), frames(TlsDetect)),
    "tls-hello": Target((HELLO,), lambda wire: HelloReader().feed(wire), (TlsError,)),
    "resp": Target(
        (b"*2\r\n$3\r\nfoo\r\n:42\r\n", b"%1\r\n+a\r\n~1\r\n_\r\n", b">2\r\n+a\r\n,1.5\r\n"),
        lambda wire: Parser().feed(wire),
        (),
    ),
    "resolv.conf": Target(
        (b"nameserver 192.0.2.1\nsearch a.b c\noptions ndots:2 timeout:3 rotate\n",),
        text(_config.parse_resolv_conf),
        (),
    ),
    "host-port": Target((b"[::1]:80", b"host:http", b"h 25"), text(parse_host_port), ()),
    "log-spec": Target(
        (b"filter=warn,cap=note db.pool=+%f", b"log=file=/x"), text(_spec.parse), (ValueError,)
    ),
    "url": Target(
        (b"https://u@h.example:8443/a/b?c=d#e", b"http://[::1]/"),
        text(_url.parse_url),
        (ValueError,),
    ),
}  # fmt: skip


def mutated(roll: random.Random, seeds: tuple[bytes, ...]) -> bytes:
    wire = bytearray(b"".join(roll.choices(seeds, k=roll.choice((1, 1, 1, 2, 5)))))
    for _ in range(roll.choice((1, 1, 2, 4, 10))):
        at = roll.randrange(len(wire) + 1)
        match roll.randrange(5):
            case 0:
                wire[at : at + roll.randrange(4)] = roll.choice(ODD)
            case 1:
                del wire[at : at + roll.randrange(20)]
            case 2:
                wire[at:at] = wire[at : at + roll.randrange(40)] * roll.choice((1, 2, 20))
            case 3:
                wire[at : at + 1] = roll.randbytes(1)
            case _:
                del wire[at:]
        if len(wire) > 65_535:
            del wire[65_535:]
    return bytes(wire)


def fuzz(name: str, count: int, seed: int, seconds: float = float("inf")) -> Result:
    """Give *count* inputs to a target, for *seconds* at most."""
    target = TARGETS[name]
    roll = random.Random(f"{name} {seed}")
    result = Result()
    end = time.monotonic() + seconds
    while result.count < count and time.monotonic() < end:
        result.count += 1
        wire = mutated(roll, target.seeds)
        began = time.process_time()
        try:
            target.decode(wire)
        except target.refusals:
            pass
        except Exception as error:
            result.crashes.append(f"{error!r} of {wire[:200].hex()}")
            if len(result.crashes) >= 10:
                break
        took = time.process_time() - began
        if took > 0.005:  # who came in between?
            took = min(took, again(target, wire))
        result.slowest = max(result.slowest, took)
        if result.count % MEMORY_EVERY == 0:
            result.largest = max(result.largest, memory(target, wire))
    return result


def again(target: Target, wire: bytes) -> float:
    least = float("inf")
    for _ in range(3):
        began = time.process_time()
        try:
            target.decode(wire)
        except Exception:
            continue
        finally:
            least = min(least, time.process_time() - began)
    return least


def memory(target: Target, wire: bytes) -> int:
    tracemalloc.start()
    try:
        target.decode(wire)
    except Exception:
        return tracemalloc.get_traced_memory()[1]
    else:
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def guided(name: str) -> None:
    """Let atheris look for input; it never returns."""
    atheris = import_module("atheris")
    target = TARGETS[name]

    def one(wire: bytes) -> None:
        try:
            target.decode(wire)
        except target.refusals:
            return

    atheris.instrument_all()
    atheris.Setup(sys.argv[:1], one)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], metavar="TARGET")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--atheris", metavar="TARGET", choices=list(TARGETS))
    options = parser.parse_args()
    if options.atheris:
        guided(options.atheris)
    bad = 0
    for name in options.targets or TARGETS:
        result = fuzz(name, options.count, options.seed, options.seconds)
        bad += bool(result.crashes)
        print(
            f"{name:15} {result.count:>9,} inputs, slowest {1000 * result.slowest:6.2f} ms, "
            f"largest {result.largest / 1024:8.1f} KiB, {len(result.crashes)} crashes"
        )
        for crash in result.crashes:
            print("   ", crash)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
