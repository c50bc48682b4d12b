"""Measure figures, one after the other."""

from __future__ import annotations

import sys
import time
import traceback
from contextlib import closing
from typing import TextIO

from benchmarks.figure import Figure, Result, Round
from benchmarks.progress import Progress
from benchmarks.report import number
from benchmarks.stores import Stores

LEAST_ROUNDS = 3


def measure(figures: list[Figure], stores: Stores, stream: TextIO = sys.stderr) -> list[Result]:
    """Measure each figure. One that fails is reported with its error, and the next one follows."""
    progress, results = Progress(len(figures), stream), []
    for figure in figures:
        progress.begins(figure.name)
        result = _measured(figure, stores, progress)
        results.append(result)
        progress.ends(figure.name, f"could not be measured: {result.error}" if result.error else _outcome(result))
    return results


def _measured(figure: Figure, stores: Stores, progress: Progress) -> Result:
    rounds: list[Round] = []
    most = LEAST_ROUNDS if stores.quick else figure.rounds
    try:
        with closing(figure.measure(stores)) as measured:  # type: ignore[type-var]
            end = None
            for round_ in measured:
                # The set-up of the first round doesn't count.
                end = end or time.monotonic() + figure.seconds
                rounds.append(round_)
                progress.round(figure.name, len(rounds), most)
                if len(rounds) >= most or (len(rounds) >= LEAST_ROUNDS and time.monotonic() > end):
                    break
        if not rounds:
            raise RuntimeError("no round was measured")
    except Exception as error:  # noqa: BLE001  the report has the error, and the exit code says so
        traceback.print_exc()
        return Result(figure, error=f"{type(error).__name__}: {error}".splitlines()[0])
    return Result(figure, tuple(rounds))


def _outcome(result: Result) -> str:
    target = f" ({result.figure.target})" if result.figure.target else ""
    return f"{number(result.value)}{'' if result.is_ratio else ' ' + result.figure.unit}{target}"
