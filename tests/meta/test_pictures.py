"""The site's chart of speed is drawn from a result of the bench."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tools import draw_pictures

ROOT = Path(__file__).resolve().parents[2]
OTHER = {"scenario": "timers", "peer": "ae", "metric": "cpu", "value": 1.0}


def result(path: Path, **costs: float) -> Path:
    records = [OTHER]
    for peer, value in costs.items():
        name = peer.replace("_", "-")
        for metric in ("lines", draw_pictures.METRIC):
            record = {"scenario": draw_pictures.CONTEST, "peer": name, "metric": metric}
            records.append({**record, "value": value})
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_the_chart_that_is_kept_shows_the_result_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = draw_pictures.FOLDER
    (tmp_path / "speed.jsonl").write_bytes((kept / "speed.jsonl").read_bytes())
    monkeypatch.setattr(draw_pictures, "FOLDER", tmp_path)
    draw_pictures.draw_speed()
    assert (tmp_path / "speed.svg").read_text() == (kept / "speed.svg").read_text("utf-8")


def test_one_command_draws_the_chart_from_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = result(tmp_path / "run.jsonl", ae=8.0, asyncio_streams=16.0, python_bare=1.0)
    monkeypatch.setattr(draw_pictures, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["draw_pictures", "speed", str(file)])
    assert draw_pictures.main() == 0
    drawn = (tmp_path / "speed.svg").read_text()
    assert drawn.index("8.0 µs") < drawn.index("16.0 µs")
    assert "ae-handle, built-in loop" in drawn
    assert "python-bare" not in (tmp_path / "speed.jsonl").read_text()
    assert not (tmp_path / "layers.svg").exists()


def test_a_result_without_the_contest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no cpu of echo-reqresp-50; hatch run bench:run"):
        draw_pictures.keep_result(result(tmp_path / "run.jsonl"))


def test_the_peers_of_the_chart_are_peers_of_the_bench() -> None:
    code = "".join(path.read_text() for path in (ROOT / "bench/peers").glob("*.py"))
    kept = (draw_pictures.FOLDER / "speed.jsonl").read_text("utf-8")
    shown = {json.loads(line)["peer"] for line in kept.splitlines()}
    assert shown <= set(draw_pictures.PEERS)
    assert all(peer.split("-")[0] in code for peer in draw_pictures.PEERS)
