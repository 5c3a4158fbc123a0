"""The scorecard has a row for each promise, and says of each whether it holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
for library in ("cbor2", "dns", "OpenSSL", "trustme"):
    pytest.importorskip(library)


@pytest.fixture
def scorecard(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    for name in [name for name in sys.modules if name.split(".")[0] == "tools"]:
        monkeypatch.delitem(sys.modules, name)
    from tools.scorecard import __main__

    return __main__


def test_every_promise_has_a_row(scorecard: Any) -> None:
    assert [row.number for row in scorecard.ROWS] == list(range(1, 36))


def test_a_row_is_green_only_if_all_that_it_states_holds(scorecard: Any) -> None:
    finding = scorecard.Finding
    assert finding("figure", True).verdict == "green"
    assert finding("figure", False).verdict == "red"
    assert finding("figure", True, "half of it").verdict == "red"


def test_a_row_that_cannot_be_measured_is_red(
    scorecard: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(length: str) -> Any:
        raise OSError("no such tool")

    row = scorecard.Row(36, "x", "gate", measure)
    found = scorecard.measure(row, "full")
    assert (found["verdict"], found["length"]) == ("red", "full")
    assert "no such tool" in found["figure"]
    assert "OSError" in capsys.readouterr().err


def test_rows_are_chosen_by_number_and_by_what_a_landing_has_time_for(scorecard: Any) -> None:
    def numbers(*how: Any) -> list[int]:
        return [row.number for row in scorecard.chosen(*how)]

    assert numbers("2,34-35", "full") == [2, 34, 35]
    assert 15 in numbers(None, "gate")
    assert 35 not in numbers(None, "gate")
    assert len(numbers(None, "nightly")) == 35


def test_the_page_names_what_falls_short_and_what_was_not_measured(scorecard: Any) -> None:
    found = scorecard.measure(
        scorecard.Row(
            3, "x", "g", lambda _: scorecard.Finding("7 of 9", True, "two", flaky=("t",))
        ),
        "full",
    )
    page = scorecard.page({"rows": [found], "versions": {"Python": "3"}})
    assert "0 of 35 rows are green, 1 are red, 34 were not measured yet." in page
    assert "7 of 9. Falls short: two" in page
    assert "| not measured |" in page
    assert "- `t`" in page


def test_the_page_that_is_there_is_that_of_the_record(scorecard: Any) -> None:
    record = json.loads((ROOT / "scorecard.json").read_text("utf-8"))
    assert (ROOT / "docs/scorecard.md").read_text("utf-8") == scorecard.page(record)


def test_nothing_but_a_decoders_own_errors_comes_of_mutated_input(scorecard: Any) -> None:
    from tools.fuzz.decoders import TARGETS, fuzz

    for name in TARGETS:
        assert fuzz(name, 300, 1).crashes == [], name


def test_an_error_of_others_and_its_input_are_told(
    scorecard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tools.fuzz import decoders

    def decode(wire: bytes) -> object:
        return wire[1000]

    monkeypatch.setitem(decoders.TARGETS, "bad", decoders.Target((b"abc",), decode))
    result = decoders.fuzz("bad", 1000, 1)
    assert len(result.crashes) == 10
    assert result.crashes[0].startswith("IndexError")


# ------------------------------------------------------------- runs of the whole suite


@pytest.fixture
def suite(tmp_path: Path, scorecard: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A checkout with a small suite: ``suite(*arguments)`` runs it and returns the ledger."""
    from tools.scorecard import runs

    place, record = tmp_path / "checkout", tmp_path / "runs.jsonl"
    (place / "tests").mkdir(parents=True)
    (place / "pytest.ini").write_text("[pytest]\ntestpaths = tests\n")
    (place / "tests/test_it.py").write_text(
        "import os, pathlib\n"
        "def test_first_time():\n"
        "    mark = pathlib.Path(os.environ['MARK'])\n"
        "    seen = mark.exists()\n"
        "    mark.touch()\n"
        "    assert seen\n"
        "def test_always(): pass\n"
        "def test_never(): assert 'NEVER' not in os.environ\n"
        "def test_crash():\n"
        "    if 'CRASH' in os.environ: os._exit(9)\n"
    )
    git(place, "init", "-q")
    git(place, "add", ".")
    git(place, "commit", "-q", "-m", "a suite")
    for name, value in {
        "SCORECARD_RUNS": str(record),
        "MARK": str(tmp_path / "mark"),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # takes half the time
    }.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str, order: str = "-ppytest_randomly") -> list[dict[str, Any]]:
        command = [sys.executable, "-m", "pytest", order, "-ptools.scorecard.runs", *arguments]
        command += ["-o", f"cache_dir={tmp_path / 'cache'}"]
        subprocess.run(command, cwd=place, check=False, capture_output=True, timeout=60)
        found: list[dict[str, Any]] = runs.read(record)
        return found

    run.place = place  # type: ignore[attr-defined]
    return run


def git(place: Path, *words: str) -> None:
    who = ("-c", "user.name=x", "-c", "user.email=x@x.test")
    subprocess.run(["git", *who, *words], cwd=place, check=True, capture_output=True)


def test_a_whole_run_is_written_into_the_ledger_with_what_was_flaky(
    suite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEVER", "1")
    [run] = suite("--randomly-seed=7")
    first, never = "tests/test_it.py::test_first_time", "tests/test_it.py::test_never"
    assert (run["ended"], run["passed"], run["seed"], run["flaky"]) == (True, 2, 7, [])
    assert sorted(run["failed"]) == [first, never]
    [again] = suite("--last-failed")
    assert again["flaky"] == [first]
    assert {**again, "flaky": []} == run


def test_a_run_that_does_not_end_stays_in_the_ledger_as_such(
    suite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("CRASH", "1")
        [run] = suite()
        assert not run["ended"]
    old, new = suite()
    assert (old, new["ended"]) == (run, True)


def test_a_part_of_the_suite_and_a_checkout_with_changes_are_no_whole_run(suite: Any) -> None:
    assert suite("tests") == suite("-k", "always") == suite(order="-q") == []
    with open(suite.place / "tests/test_it.py", "a") as file:
        file.write("\n")
    assert suite() == []


def test_twenty_clean_runs_on_a_busy_machine_make_the_row_green(scorecard: Any) -> None:
    from tools.scorecard import flakiness, runs

    def made(**changes: Any) -> dict[str, Any]:
        run = {"meaning": runs.MEANING, "ended": True, "load": 2.5, "cpus": 2, "seed": 1}
        return {**run, "date": "2026-11-29 10:00", "failed": [], "flaky": [], **changes}

    def verdict(*ledger: dict[str, Any]) -> str:
        found: str = flakiness.judge(list(ledger)).verdict
        return found

    clean = [made()] * 20
    assert verdict(*clean) == "green"
    assert verdict() == verdict(*clean[1:]) == "red"
    flaky = made(failed=["t"], flaky=["t"])
    assert flakiness.judge([flaky, *clean[1:]]).flaky == ("t",)
    for bad in (flaky, made(failed=["t"]), made(ended=False, load=0.0)):
        assert verdict(bad, *clean[1:]) == verdict(*clean[1:], bad) == "red"
        assert verdict(bad, *clean) == "green", "it is older than twenty runs"
    for other in (made(load=1.5), made(meaning=runs.MEANING - 1)):
        assert verdict(other, *clean[1:]) == "red"
        assert verdict(*clean, other) == "green"


# ------------------------------------------------------------- tests that are flaky


def test_a_test_that_fails_and_passes_when_repeated_is_named(
    scorecard: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tools.scorecard import finding

    monkeypatch.setattr(finding, "ROOT", tmp_path)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # takes half the time
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_randomly")
    (tmp_path / "pytest.ini").write_text("[pytest]\njunit_family = xunit1\n")
    (tmp_path / "test_it.py").write_text(
        "import pathlib\n"
        "def test_first_time():\n"
        "    mark = pathlib.Path(__file__).with_name('mark')\n"
        "    seen = mark.exists()\n"
        "    mark.touch()\n"
        "    assert seen, 'not yet'\n"
        "def test_never(record_property):\n"
        "    record_property('cases', 7)\n"
        "    assert False\n"
        "def test_always(record_property):\n"
        "    record_property('cases', 5)\n"
    )
    found = finding.suite("test_it.py")
    assert (found.verdict, found.flaky) == ("red", ("test_it.py::test_first_time",))
    assert "1 passed, 2 failed, 0 skipped; 12 cases" in found.figure
    assert "not yet" in found.figure
    assert finding.suite("test_it.py::test_always", cases=5).verdict == "green"
    assert finding.suite("test_it.py::test_always", cases=6).verdict == "red"
