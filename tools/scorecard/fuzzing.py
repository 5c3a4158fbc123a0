"""Row 3: the DNS decoder under mutated packets, by ``tools/fuzz``."""

from __future__ import annotations

from tools.fuzz.decoders import fuzz
from tools.scorecard.finding import Finding, Length, main


def measure(length: Length, seed: int = 3) -> Finding:
    count = {"gate": 2_000, "full": 100_000, "nightly": 10_000_000}[length]
    result = fuzz("dns", count, seed)
    figure = (
        f"{result.count} packets: {len(result.crashes)} errors of others, slowest "
        f"{1000 * result.slowest:.1f} ms, at most {result.largest / 1024:.0f} KiB"
    )
    if result.crashes:
        figure += f": {result.crashes[0]}"
    good = not result.crashes and result.slowest <= 0.020 and result.largest <= 1 << 20
    short = "no hour of atheris" if length == "nightly" else ""
    return Finding(figure, good, short, "none", seed)


if __name__ == "__main__":
    main(measure)
