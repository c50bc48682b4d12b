"""All figures, in the order of the report."""

from __future__ import annotations

from importlib import import_module

from benchmarks.figure import Figure

#: Each module has `FIGURES`. A line here adds it to the report.
MODULES = (
    "locks",
    "contention",
    "redlock",
    "intake",
    "cold_start",
    "commits",
    "batches",
    "bursts",
    "throughput",
    "history",
    "safety",
    "seeds",
    "scale",
)


def all_figures() -> list[Figure]:
    figures = [figure for name in MODULES for figure in import_module(f"benchmarks.{name}").FIGURES]
    names = [figure.name for figure in figures]
    assert len(set(names)) == len(names), names
    return figures


def chosen(figures: list[Figure], names: list[str]) -> list[Figure]:
    """The figures of these names. `history` also chooses all `history-…`. Raises ValueError."""
    for name in names:
        if not any(_is_called(figure, name) for figure in figures):
            raise ValueError(f"no figure is called {name!r}")
    return [figure for figure in figures if not names or any(_is_called(figure, name) for name in names)]


def _is_called(figure: Figure, name: str) -> bool:
    return figure.name == name or figure.name.startswith(f"{name}-")
