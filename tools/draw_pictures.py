"""Draw the pictures of the site, as SVG: ``hatch run docs:pictures [NAME ...] [RESULT.jsonl]``.

``eyeballs`` is drawn from a run on the virtual clock, ``speed`` from a result of ``bench/run.py``:
the one given, which is kept, or the one kept last; ``layers`` and ``event`` are drawings. All is
kept in ``docs/pictures``.
"""

from __future__ import annotations

import json
import socket
import sys
from html import escape
from pathlib import Path
from typing import Final

from ae_core.testing import virtual_time
from ae_socket import tcp_connect
from ae_socket.testing import ScriptedResolver, refused_address, silent_address

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs" / "pictures"
INK, PALE, GOOD, BAD, WAIT = "#334155", "#e2e8f0", "#0f766e", "#b91c1c", "#64748b"
#: What the chart of speed shows: a contest of ``bench/``, and its peers.
CONTEST, METRIC = "echo-reqresp-50", "cpu"
PEERS: Final = {
    "ae": "ae-handle, built-in loop",
    "ae-asyncio": "ae-handle on asyncio",
    "ae-uvloop": "ae-handle on uvloop",
    "asyncio-proto": "asyncio, a protocol",
    "asyncio-streams": "asyncio, streams",
    "uvloop-proto": "uvloop, a protocol",
    "uvloop-streams": "uvloop, streams",
    "tornado": "Tornado, IOStream",
    "twisted": "Twisted, LineReceiver",
    "gevent": "gevent, a socket",
    "trio": "trio, a stream",
    "anyio": "anyio, a stream",
}


class Drawing:
    """Shapes with text, in a frame that has a background of its own, for dark pages, too."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._size = (width, height)
        self._parts = [f"<title>{escape(title)}</title>"]
        self.box(0, 0, width, height, "", fill="#ffffff")

    def box(
        self, x: float, y: float, width: float, height: float, text: str, *, fill: str = PALE
    ) -> None:
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" '
            f'fill="{fill}"/>'
        )
        lines = text.split("\n") if text else []
        for index, line in enumerate(lines):
            down = y + height / 2 + 5 + 18 * (index - (len(lines) - 1) / 2)
            self.text(x + width / 2, down, line, anchor="middle", bold=index == 0)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        anchor: str = "start",
        fill: str = INK,
        bold: bool = False,
    ) -> None:
        weight = ' font-weight="600"' if bold else ""
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{fill}"{weight}>'
            f"{escape(text)}</text>"
        )

    def line(self, x: float, y: float, to_x: float, to_y: float, *, arrow: bool = False) -> None:
        end = ' marker-end="url(#arrow)"' if arrow else ""
        self._parts.append(
            f'<line x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}" stroke="{WAIT}"{end}/>'
        )

    def save(self, name: str) -> None:
        width, height = self._size
        text = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            'role="img" font-family="system-ui, sans-serif" font-size="14">\n'
            '<defs><marker id="arrow" markerWidth="8" markerHeight="8" refX="7" refY="3" '
            f'orient="auto"><path d="M0,0 L7,3 L0,6 z" fill="{WAIT}"/></marker></defs>\n'
        )
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{name}.svg").write_text(text + "\n".join(self._parts) + "\n</svg>\n", "utf-8")


def draw_layers() -> None:
    drawing = Drawing(720, 290, "The packages: each stands on those below it")
    drawing.box(20, 20, 180, 50, "ae-tls\nOpenSSL", fill="#fde68a")
    drawing.box(20, 85, 330, 50, "ae-handle\nqueues, frame types, servers", fill="#bfdbfe")
    drawing.box(365, 85, 150, 50, "ae-dns\nresolver", fill="#bfdbfe")
    drawing.box(20, 150, 495, 50, "ae-socket\nconnect, serve, addresses", fill="#c7d2fe")
    drawing.box(530, 85, 170, 115, "ae-guests\nasyncio and trio\nas guests", fill="#bbf7d0")
    drawing.box(20, 215, 680, 55, "ae-core\nwatchers, condition variables, coroutines, nine loops")
    drawing.save("layers")


def draw_event() -> None:
    drawing = Drawing(720, 230, "One event's way, from the kernel to the callback and back")
    steps = [
        "kernel\nreadable",
        "backend\nepoll, asyncio ...",
        "ae-core\nguarded call",
        "handle\nrecv, decrypt",
        "first reader\na whole item?",
    ]
    for index, text in enumerate(steps):
        x = 10 + 142 * index
        drawing.box(x, 30, 128, 60, text)
        if index:
            drawing.line(x - 14, 60, x, 60, arrow=True)
    drawing.line(642, 90, 642, 140, arrow=True)
    drawing.box(430, 140, 280, 60, "your callback, or your await", fill="#bbf7d0")
    drawing.line(430, 170, 300, 170, arrow=True)
    drawing.box(20, 140, 280, 60, "what you have written\nis sent in one go", fill="#bfdbfe")
    drawing.save("event")


def attempts() -> tuple[list[tuple[float, str]], float]:
    """Connect to four addresses on the virtual clock; return each start, and the end."""
    starts: list[float] = []
    with virtual_time() as clock, socket.create_server(("127.0.0.1", 0)) as server:
        with silent_address() as first, refused_address() as second, silent_address() as third:
            targets = [first, second, third, server.getsockname()[:2]]
            resolver = ScriptedResolver({"www.example.com": targets})
            connecting = tcp_connect(
                "www.example.com",
                80,
                on_prepare=lambda sock: starts.append(clock.elapsed),
                resolver=resolver,
            )
            connecting.recv().close()
            return list(zip(starts, ("silent", "refused", "silent", "open"), strict=True)), (
                clock.elapsed
            )


def draw_eyeballs() -> None:
    begun, end = attempts()
    scale = 560 / 0.8
    drawing = Drawing(720, 250, "Happy Eyeballs: attempts to connect over time")
    for tick in range(0, 801, 200):
        x = 130 + tick / 1000 * scale
        drawing.line(x, 30, x, 205)
        drawing.text(x, 228, f"{tick} ms", anchor="middle", fill=WAIT)
    fates = {"silent": (WAIT, "no answer, given up"), "refused": (BAD, "refused")}
    fates["open"] = (GOOD, "connected: the others are given up")
    for index, (start, kind) in enumerate(begun):
        x, y = 130 + start * scale, 40 + 42 * index
        colour, text = fates[kind]
        width = max((end - start) * scale, 8) if kind == "silent" else 8
        drawing.text(20, y + 17, f"address {index + 1}")
        drawing.box(x, y, width, 26, "", fill=colour)
        if kind == "silent":
            drawing.text(x + 8, y + 18, text, fill="#ffffff")
        else:
            anchor = "start" if x < 400 else "end"
            drawing.text(x + (14 if anchor == "start" else -6), y + 18, text, anchor=anchor)
    drawing.save("eyeballs")


# ---------------------------------------------------------------------- speed


def read_contest(path: Path) -> dict[str, str]:
    """Return the lines of the contest in a result of ``bench/run.py``, by peer; the newest count.

    Raises:
        SystemExit: It has none of the peers that the chart shows.
    """
    found = {}
    for line in path.read_text("utf-8").splitlines():
        record = json.loads(line)
        if (record["scenario"], record["metric"]) == (CONTEST, METRIC) and record["peer"] in PEERS:
            found[record["peer"]] = line
    if not found:
        raise SystemExit(f"{path}: no {METRIC} of {CONTEST}; hatch run bench:run --out FILE echo")
    return found


def draw_speed() -> None:
    costs = {
        peer: float(json.loads(line)["value"])
        for peer, line in read_contest(FOLDER / "speed.jsonl").items()
    }
    drawing = Drawing(720, 40 + 36 * len(costs), "Microseconds of the processor for each line")
    most = max(costs.values())
    for index, (peer, cost) in enumerate(sorted(costs.items(), key=lambda item: item[1])):
        y = 20 + 36 * index
        length = 380 * cost / most
        drawing.text(20, y + 18, PEERS[peer])
        fill = GOOD if peer.startswith("ae") else WAIT
        drawing.box(250, y, length, 26, "", fill=fill)
        drawing.text(260 + length, y + 18, f"{cost:.1f} µs")
    drawing.save("speed")


def keep_result(path: Path) -> None:
    """Keep, for the chart, what *path* says of the contest."""
    lines = read_contest(path).values()
    (FOLDER / "speed.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")


PICTURES: Final = {
    "layers": draw_layers,
    "event": draw_event,
    "eyeballs": draw_eyeballs,
    "speed": draw_speed,
}


def main() -> int:
    names = []
    for word in sys.argv[1:]:
        if word.endswith(".jsonl"):
            keep_result(Path(word))
        else:
            names.append(word)
    for name in names or PICTURES:
        PICTURES[name]()
        print(FOLDER / f"{name}.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
