"""The harness of the benchmarks: its results from rounds, its report and its exit code.

No test asserts a measured figure: on a loaded machine each test would measure the others.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import __main__ as command
from benchmarks import machine
from benchmarks.figure import Figure, Result, Round, Target, alternating, percentile
from benchmarks.figures import all_figures, chosen
from benchmarks.history import worst
from benchmarks.progress import Progress
from benchmarks.run import measure
from benchmarks.stores import Stores

#: The project's targets. Other figures may be reported without a target; these may not.
TARGETS = {
    "lock-acquire": "≤ 1.25",
    "lock-cycle": "≤ 1.5",
    "intake": "≤ 1.5",
    "commit": "≤ 1.7",
    "batch": "≤ 1.05",
    "throughput": "≥ 1.5",
    "cold-start": "≤ 1.9",
    "history": "≥ 0.5",
    "history-adversarial": "≤ 11",
    "safety": "≤ 30",
    "safety-adversarial": "≤ 96",
    "p99-lock": "< 10",
    "p99-lock-memory": "< 1",
    "p99-configuration": "< 20",
    "p99-history": "< 5",
    "p99-job": "< 15",
    "p99-response": "< 50",
}

type Measure = Callable[[Stores], Iterator[Round]]


def figure(name: str, *rounds: Round, target: Target | None = None, unit: str = "ms") -> Figure:
    """A figure that yields these rounds again and again."""

    def endless(_stores: Stores) -> Iterator[Round]:
        while True:
            yield from rounds

    return Figure(name, f"title of {name}", "our side", "the other side", target, endless, unit, len(rounds) or 3)


def failing(name: str, error: Exception) -> Figure:
    def measured(_stores: Stores) -> Iterator[Round]:
        yield Round(1.0, 1.0)
        raise error

    return Figure(name, f"title of {name}", "", "", Target("≤", 1), measured)


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, Path]:
    """The folder of the whole report, and the folder of a look."""
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(command, "LOOKS", tmp_path / "looks")
    monkeypatch.setattr(machine, "load", lambda: 0.0)
    return tmp_path / "results", tmp_path / "looks"


def test_the_ratio_is_taken_within_each_round_and_its_median_is_the_figure() -> None:
    # The machine was ten times slower in the second round, on both sides.
    rounds = (Round(2, 1), Round(30, 10), Round(4, 1))
    result = Result(figure("slow", *rounds, target=Target("≤", 3)), rounds)
    assert result.values == [2, 3, 4]
    assert (result.value, result.spread, result.met) == (3, (2.5, 3.5), True)
    assert result.ours / (result.against or 0) == 4  # the ratio of both sides' medians


def test_without_another_side_the_median_of_ours_is_the_figure() -> None:
    rounds = (Round(5), Round(1), Round(9))
    result = Result(figure("alone", *rounds, target=Target("<", 5)), rounds)
    assert (result.value, result.against, result.met) == (5, None, False)


@pytest.mark.parametrize(
    ("relation", "just_met", "just_missed"), [("≤", 1.25, 1.2501), ("<", 9.99, 10), ("≥", 0.5, 0.4999)]
)
def test_a_target_is_met_up_to_its_edge(relation: str, just_met: float, just_missed: float) -> None:
    target = Target(relation, {"≤": 1.25, "<": 10, "≥": 0.5}[relation])  # type: ignore[arg-type]
    assert target.met(just_met)
    assert not target.met(just_missed)


def test_both_sides_take_turns_and_neither_always_begins() -> None:
    called: list[str] = []
    round_ = alternating(lambda: called.append("ours"), lambda: called.append("theirs"), 4)
    assert called == ["theirs", "ours", "ours", "theirs"] * 2
    assert round_.ours > 0
    assert round_.against is not None


def test_a_percentile_is_a_value_that_was_seen() -> None:
    values = [float(value) for value in range(200, 0, -1)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 100, 198, 200]
    assert percentile([7.0], 0.99) == 7


def test_a_figure_is_closed_when_it_has_rounds_enough() -> None:
    closed, held = [], []

    def endless() -> Iterator[Round]:
        try:
            while True:
                yield Round(1, 2)
        finally:
            closed.append(True)

    def measured(_stores: Stores) -> Iterator[Round]:
        held.append(endless())  # so that the garbage collector does not close it
        return held[-1]

    few = Figure("few", "few", "", "", None, measured, rounds=5)
    slow = Figure("slow", "slow", "", "", None, measured, rounds=1000, seconds=0)
    with Stores() as stores:
        results = measure([few, slow], stores, io.StringIO())
    assert [len(result.rounds) for result in results] == [5, 3]
    assert closed == [True, True]


def test_the_report_says_what_was_measured_on_what(folders: tuple[Path, Path]) -> None:
    results, _ = folders
    figures = [
        figure("ratio", Round(3, 2, "the best was <b>"), target=Target("≤", 1.25)),
        figure("large", Round(3, 2), target=Target("≥", 1.5), unit="per second"),
        figure("bytes", Round(700), unit="bytes"),
    ]
    assert command.main([], figures) == 0
    report = json.loads((results / "results.json").read_text())
    assert {"processor", "memory", "Python", "packages", "stores", "measured", "load before"} <= set(report["machine"])
    assert re.search(r"pg8000 \d", report["machine"]["packages"])
    ratio, large, size = report["figures"]
    assert (ratio["median"], ratio["quartiles"], ratio["met"], ratio["rounds"][0]) == (1.5, [1.5, 1.5], False, [3, 2])
    assert (large["met"], size["median"], size["met"], size["kind"]) == (True, 700, None, "value")
    text = (results / "results.md").read_text()
    for line in (
        "| title of ratio | 3.00 ms | 2.00 ms | 1.50 | 1.50 … 1.50 | ≤ 1.25 | NO |",
        "| title of bytes | 700 bytes | – | 700 bytes | 700 … 700 | – | – |",
        "- `ratio`: the best was <b>",
    ):
        assert line in text.splitlines()


def test_the_picture_has_each_ratio_and_no_script(folders: tuple[Path, Path]) -> None:
    figures = [
        figure("<a & b>", Round(1, 1), target=Target("≤", 2)),
        figure("missed", Round(9, 1), target=Target("≤", 1.25)),
        figure("no ratio", Round(9), target=Target("<", 10)),
        figure("no target", Round(9, 1)),
    ]
    assert command.main([], figures) == 0
    picture = ET.parse(folders[0] / "results.svg").getroot()
    texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["target", "title of <a & b>", "✓ 1.00 (≤ 2)", "title of missed", "✗ 9.00 (≤ 1.25)"]
    assert not list(picture.iter("{http://www.w3.org/2000/svg}script"))
    styles = "".join(picture.itertext())
    assert "prefers-color-scheme: dark" in styles
    width = float(picture.attrib["width"])
    for bar in picture.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(bar.attrib["x"]) + float(bar.attrib["width"]) < width


def test_a_report_of_a_machine_that_others_use_replaces_none(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It does if the caller names the folder."""
    results, looks = folders
    monkeypatch.setattr(machine, "load", lambda: (os.cpu_count() or 1) + 1.0)
    assert command.main([], [figure("lock", Round(1, 1))]) == 0
    assert "don't believe this" in capsys.readouterr().err
    assert (looks / "results.json").exists()
    assert not results.exists()
    assert command.main(["--results", str(results)], [figure("lock", Round(1, 1))]) == 0
    assert (results / "results.json").exists()


def test_a_target_that_is_missed_is_told_and_is_no_failure(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([], [figure("slow", Round(2, 1), target=Target("≤", 1.25))]) == 0
    assert re.search(r"^title of slow .* ≤ 1.25 +NO$", capsys.readouterr().out, re.MULTILINE)


def test_a_figure_that_could_not_be_measured_fails_the_run_by_its_name(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    figures = [failing("broken", RuntimeError("no such server")), figure("sound", Round(1, 2))]
    assert command.main([], figures) == 1
    shown = capsys.readouterr()
    assert shown.err.splitlines()[-1] == "benchmarks: could not be measured: broken"
    assert re.search(r"^title of broken .* not measured ", shown.out, re.MULTILINE)
    assert re.search(r"^title of sound .* 0.50 ", shown.out, re.MULTILINE)
    assert "- `broken`: RuntimeError: no such server" in (folders[0] / "results.md").read_text()
    broken, sound = json.loads((folders[0] / "results.json").read_text())["figures"]
    assert broken["error"] == "RuntimeError: no such server"
    assert sound["median"] == 0.5


def test_a_figure_without_a_round_could_not_be_measured(folders: tuple[Path, Path]) -> None:
    empty = Figure("empty", "empty", "", "", None, lambda _stores: (round_ for round_ in ()))
    assert command.main([], [empty]) == 1


def test_only_the_named_figures_are_measured(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    figures = [figure(name, Round(1, 1)) for name in ("lock", "lock-cycle", "locks", "commit", "batch")]
    assert [found.name for found in chosen(figures, ["lock", "batch"])] == ["lock", "lock-cycle", "batch"]
    assert command.main(["--only", "commit", "--only", "batch"], figures) == 0
    report = json.loads((folders[1] / "results.json").read_text())
    assert [found["name"] for found in report["figures"]] == ["commit", "batch"]


@pytest.mark.parametrize("look", [["--quick"], ["--only", "lock"], ["--quick", "--only", "lock"]])
def test_a_look_leaves_the_report_as_it_is(folders: tuple[Path, Path], look: list[str]) -> None:
    results, looks = folders
    assert command.main(look, [figure("lock", Round(1, 1))]) == 0
    assert not results.exists()
    assert (looks / "results.md").is_file()


def test_a_name_that_is_unknown_is_told_with_those_that_are_known(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--only", "lick"], [figure("lock", Round(1, 1)), figure("commit", Round(1, 1))]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "benchmarks: no figure is called 'lick'; there are:",
        "  lock",
        "  commit",
    ]
    assert not any(folder.exists() for folder in folders)


def test_an_interruption_ends_it_without_a_report(folders: tuple[Path, Path]) -> None:
    def interrupted(_stores: Stores) -> Iterator[Round]:
        yield Round(1, 1)
        raise KeyboardInterrupt

    assert command.main([], [Figure("long", "long", "", "", None, interrupted)]) == 130
    assert not folders[0].exists()


def test_the_list_has_every_figure_with_its_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list"], [figure("lock", Round(1, 1), target=Target("≤", 1.25))]) == 0
    assert capsys.readouterr().out.split() == ["lock", "title", "of", "lock", "(≤", "1.25)"]


def test_progress_moves_on_a_terminal_and_is_a_line_a_figure_elsewhere() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, moves in ((Terminal(), True), (io.StringIO(), False)):
        progress = Progress(2, stream)
        for name in ("first", "second"):
            progress.begins(name)
            progress.round(name, 1, 2)
            progress.ends(name, "1.00")
        shown = stream.getvalue()
        assert ("\r" in shown, "█" in shown) == (moves, moves)
        assert re.findall(r"\[(\d)/2 +0:\d\d\] (\w+) +1.00\n", shown) == [("1", "first"), ("2", "second")]


def test_every_figure_of_the_issue_has_its_target() -> None:
    targets = {found.name: str(found.target) for found in all_figures()}
    assert {name: targets.get(name) for name in TARGETS} == TARGETS


def test_the_worst_of_many_kinds_is_not_the_unluckiest() -> None:
    lucky = {"unlucky": [(30.0, 1.0), (10.0, 1.0), (10.0, 1.0)], "worst": [(12.0, 1.0)] * 3, "small": [(9.0, 1.0)] * 3}
    kinds = {name: partial(next, iter(pairs)) for name, pairs in lucky.items()}
    assert list(worst(kinds)) == [Round(12e3, 1e3, "the worst is 'worst'")] * 3
