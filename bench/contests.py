"""How a number is made: peers in turn, round after round, medians and ratios.

The peer that starts shifts each round; the value is the median over the rounds, the ratio the
median of the per-round ratios to the baseline peer. One JSON line per result.
"""

from __future__ import annotations

__all__ = ("BASE", "HIGH", "LOW", "Contests", "driven")

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import peers
import processes
from peers import BEFORE
from processes import CERTS, Metrics, Server, load

BASE: Final = "asyncio-proto"
LOW: Final = {"*": "low"}
HIGH: Final = {"*": "high", "cpu": "low"}

Measure = Callable[[str], Metrics]


def note(*words: object) -> None:
    print(*words, file=sys.stderr, flush=True)


def _short(x: float) -> float:
    return float(f"{x:.5g}")


class Contests:
    """Runs contests and reports them.

    Args:
        rounds: How often each peer is measured.
        seconds: Length of one measured window.
        idle: Connections of the memory scenario.
        only: Run only contests whose name starts so.
        chosen: Only these peers; the baseline is not added.
        before: Another tree of this repository. Each chosen peer is measured with the packages of
            that tree, too, and its ratio is the one to them.
        out: File that gets the JSON lines too.
    """

    def __init__(
        self,
        *,
        rounds: int,
        seconds: float,
        idle: int,
        only: str = "",
        chosen: set[str] | None = None,
        out: Path | None = None,
        before: Path | None = None,
    ) -> None:
        self.rounds = rounds
        self.seconds = seconds
        self.idle = idle
        self.chosen = chosen
        self._only = only
        self._out = out
        self._before = before
        processes.before = before

    def having(self, role: str, *, tls: bool = False) -> list[str]:
        """The installed and chosen peers that offer *role*, the baseline first."""
        unfit = "no_tls" if tls else "tls_only"
        offered = [
            n for n, spec in peers.everything().items() if role in spec and not spec.get(unfit)
        ]
        return sorted(self.chosen_of(offered), key=lambda n: (n != BASE, n))

    def chosen_of(self, names: Iterable[str]) -> list[str]:
        """Those of *names* that were chosen; each also with another tree, if there is one."""
        chosen = [n for n in names if not self.chosen or n in self.chosen]
        return [each for n in chosen for each in (n, n + BEFORE)] if self._before else chosen

    def contest(
        self,
        scenario: str,
        names: list[str],
        measure: Measure,
        better: dict[str, str],
        *,
        limit: float = 60.0,
        rounds: int | None = None,
    ) -> None:
        """Alternate ``measure(name)`` over the peers and report the medians."""
        if not scenario.startswith(self._only):
            return
        got: dict[str, list[Metrics]] = {name: [] for name in names}
        dead: dict[str, str] = {}
        started = time.monotonic()
        rounds = rounds or self.rounds
        for done in range(1, rounds + 1):
            first = (done - 1) % max(len(names), 1)
            self._round(scenario, names[first:] + names[:first], measure, got, dead)
            spent = time.monotonic() - started
            if done < rounds and spent + spent / done > limit:
                note(f"  {scenario} stopped after {done} rounds (time)")
                break
        for name in names:
            if name in dead or not got[name]:
                self.failed(scenario, name, dead.get(name, "no result"))
            else:
                base = name.removesuffix(BEFORE) + BEFORE if self._before else BASE
                self._report(scenario, name, got[name], got.get(base) or [], better)
        note(f"{scenario}: {time.monotonic() - started:.0f} s")

    def _round(
        self,
        scenario: str,
        names: list[str],
        measure: Measure,
        got: dict[str, list[Metrics]],
        dead: dict[str, str],
    ) -> None:
        for name in names:
            if name in dead:
                continue
            try:
                got[name].append(measure(name))
            except subprocess.TimeoutExpired as error:
                dead[name] = f"timed out after {error.timeout:g} s"
            except Exception as error:
                dead[name] = f"{type(error).__name__}: {str(error)[:200]}"
            if name in dead:
                note(f"  {scenario} {name} failed: {dead[name]}")

    def _report(
        self,
        scenario: str,
        name: str,
        rows: list[Metrics],
        base: list[Metrics],
        better: dict[str, str],
    ) -> None:
        for metric, (_, unit) in rows[0].items():
            values = [row[metric][0] for row in rows]
            record: dict[str, Any] = {
                "scenario": scenario,
                "peer": name,
                "metric": metric,
                "value": _short(statistics.median(values)),
                "unit": unit,
                "rounds": len(values),
                "min": _short(min(values)),
                "max": _short(max(values)),
                "better": better.get(metric, better["*"]),
            }
            pairs = zip(values, base, strict=False)
            ratios = [v / b[metric][0] for v, b in pairs if metric in b and b[metric][0]]
            if ratios:
                record["ratio"] = _short(statistics.median(ratios))
            self._emit(record)

    def failed(self, scenario: str, name: str, why: str) -> None:
        """Report that *name* has no result, and why."""
        self._emit(
            {"scenario": scenario, "peer": name, "metric": "failed", "value": None, "unit": why}
        )

    def _emit(self, record: dict[str, Any]) -> None:
        line = json.dumps(record)
        print(line, flush=True)
        if self._out:
            with self._out.open("a") as file:
                file.write(line + "\n")

    def with_servers(
        self, role: str, body: Callable[[dict[str, Server]], None], *, tls: bool = False
    ) -> None:
        """Start every peer's server once, keep the idle ones waiting, hand them to *body*."""
        options = {"tls": CERTS} if tls else {}
        up: dict[str, Server] = {}
        try:
            for name in self.having(role, tls=tls):
                try:
                    up[name] = Server(name, role, **options)
                except Exception as error:
                    note(f"  {role} {name} does not start: {error}")
                    self.failed(role + ("-tls" if tls else ""), name, str(error)[:200])
            body(up)
            used = {name: server.cpu() for name, server in up.items()}
            time.sleep(0.3)
            for name, server in up.items():
                if server.cpu() - used[name] > 0.03:  # it would have slowed all the others down
                    note(f"  WARNING: {name} is busy with nothing to do: mend it and run again")
        finally:
            for server in up.values():
                server.close()


def driven(
    up: dict[str, Server],
    metric: str,
    mode: str,
    *arguments: float,
    tls: bool = False,
    giga: bool = False,
) -> Measure:
    """Make a measure that loads one server: its rate, and processor time per operation or GB."""

    def measure(name: str) -> Metrics:
        server = up[name]
        words = [*arguments, *(["tls"] if tls else [])]
        result = load(mode, server.port, *words, pid=server.process.pid)
        # Its hang-ups must not fall into the next window.
        time.sleep(0.02 + (arguments[0] * 4e-4 if mode == "echo" else 0))
        ops = result["ops"] / 1e9 if giga else result["ops"]
        return {
            metric: (ops / result["secs"], "GB/s" if giga else "1/s"),
            "cpu": (result["cpu"] / ops * (1e3 if giga else 1e6), "ms/GB" if giga else "us/op"),
        }

    return measure
