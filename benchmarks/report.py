"""The report: a table for the terminal and for Markdown, and all data as JSON."""

from __future__ import annotations

from typing import Any

from benchmarks.figure import Result

HEAD = ("figure", "ours", "held against", "median", "quartiles", "target", "met")


def number(value: float) -> str:
    """The number with three significant digits."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def row(result: Result) -> tuple[str, ...]:
    figure = result.figure
    target = str(figure.target) if figure.target else "–"
    if not result.rounds:
        return (figure.title, "–", "–", "not measured", "–", target, "–")
    low, high = result.spread
    unit = "" if result.is_ratio else f" {figure.unit}"
    ours = f"{number(result.ours)} {figure.unit}"
    against = "–" if result.against is None else f"{number(result.against)} {figure.unit}"
    met = {True: "yes", False: "NO", None: "–"}[result.met]
    return (
        figure.title,
        ours,
        against,
        f"{number(result.value)}{unit}",
        f"{number(low)} … {number(high)}",
        target,
        met,
    )


def table(results: list[Result]) -> str:
    """The table for a terminal."""
    rows = [HEAD, *map(row, results)]
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(HEAD))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in rows
    ]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:]])


def markdown(results: list[Result], machine: dict[str, str]) -> str:
    """The whole report: `results.md`."""
    lines = ["# What was measured", "", "`make bench` writes this page.", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {text} |" for name, text in machine.items()]
    lines += ["", f"| {' | '.join(HEAD)} |", f"|---|{'---:|' * (len(HEAD) - 1)}"]
    lines += [f"| {' | '.join(row(result))} |" for result in results]
    lines += ["", "## The two sides", "", "| name | ours | held against | rounds |", "|---|---|---|---:|"]
    for result in results:
        figure = result.figure
        lines.append(f"| `{figure.name}` | {figure.ours} | {figure.against or '–'} | {len(result.rounds)} |")
    noted = [result for result in results if result.notes]
    lines += ["", "## Notes", ""] if noted else []
    lines += [f"- `{result.figure.name}`: {note}" for result in noted for note in result.notes]
    failed = [result for result in results if result.error]
    lines += ["", "## Not measured", ""] if failed else []
    lines += [f"- `{result.figure.name}`: {result.error}" for result in failed]
    return "\n".join(lines) + "\n"


def document(results: list[Result], machine: dict[str, str]) -> dict[str, Any]:
    """The report as data, with each round: `results.json`."""
    return {"machine": machine, "figures": [_figure(result) for result in results]}


def _figure(result: Result) -> dict[str, Any]:
    figure = result.figure
    told: dict[str, Any] = {
        "name": figure.name,
        "title": figure.title,
        "ours": figure.ours,
        "against": figure.against,
        "unit": figure.unit,
        "target": str(figure.target) if figure.target else None,
    }
    if not result.rounds:
        return told | {"error": result.error}
    low, high = result.spread
    return told | {
        "kind": "ratio" if result.is_ratio else "value",
        "median": result.value,
        "quartiles": [low, high],
        "least": min(result.values),
        "most": max(result.values),
        "median_ours": result.ours,
        "median_against": result.against,
        "met": result.met,
        "rounds": [[round_.ours, round_.against] for round_ in result.rounds],
        "notes": result.notes,
    }
