"""`python -m benchmarks`: measure, show a table, write the report. `make bench` calls it."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from benchmarks import machine, report
from benchmarks.figure import Figure, Result
from benchmarks.figures import all_figures, chosen
from benchmarks.picture import picture
from benchmarks.run import measure
from benchmarks.stores import AWS, Stores

_DESCRIPTION = """Measure how fast it is, each figure beside a peer or a limit in the same run. All figures take about
six minutes. Run nothing else on the machine meanwhile.

Exit code 0 if each figure was measured, also if it misses its target; else 1. 2: wrong usage; 130: interrupted."""

RESULTS = Path("benchmarks")
#: The folder for a part of the report, or for one from a busy machine: neither replaces the whole report.
LOOKS = Path(".local/benchmarks")


def main(arguments: list[str] | None = None, figures: list[Figure] | None = None) -> int:
    """Returns the exit code. Without `figures`, all are measured."""
    figures = all_figures() if figures is None else figures
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        asked = chosen(figures, options.only)
    except ValueError as error:
        print(f"benchmarks: {error}; there are:", *(figure.name for figure in figures), sep="\n  ", file=sys.stderr)
        return 2
    if options.list:
        for figure in asked:
            print(f"{figure.name:28} {figure.title}{f' ({figure.target})' if figure.target else ''}")
        return 0
    whole = not options.only and not options.quick
    try:
        before = machine.load()
        if before > (os.cpu_count() or 1):
            print(f"benchmarks: others use this machine (load {before:.0f}): don't believe this", file=sys.stderr)
            whole = False
        with Stores(quick=options.quick) as stores:
            results = measure(asked, stores)
            measured_on = machine.describe(stores.versions) | {"load before": f"{before:.1f}"}
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(report.table(results))
    folder = options.results or (RESULTS if whole else LOOKS)
    write(folder, results, measured_on)
    print(f"\nWritten to {folder}: results.md, results.json, results.svg")
    failed = [result.figure.name for result in results if result.error]
    if failed:
        print(f"benchmarks: could not be measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def write(folder: Path, results: list[Result], measured_on: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text(report.markdown(results, measured_on))
    (folder / "results.json").write_text(json.dumps(report.document(results, measured_on), indent=1) + "\n")
    (folder / "results.svg").write_text(picture(results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this figure; may be repeated")
    parser.add_argument("--list", action="store_true", help="only list the figures")
    parser.add_argument("--quick", action="store_true", help="three rounds of each: a look, not a measurement")
    parser.add_argument(
        "--results",
        type=Path,
        help=f"the folder for the report (default: {RESULTS}; with --only or --quick, or where others use the"
        f" machine, {LOOKS})",
    )
    return parser


def _isolate_from_aws() -> None:
    """Keep a developer's profiles and credentials out."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN"):
        os.environ.pop(name, None)
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    os.environ.update(AWS)


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the clean-up
    raise KeyboardInterrupt


if __name__ == "__main__":
    for stopping in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(stopping, _stop)
    _isolate_from_aws()
    sys.exit(main())
