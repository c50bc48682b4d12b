"""The picture for docs/performance.md: a bar for each ratio. Its length is the ratio's share of the target."""

from __future__ import annotations

from html import escape

from benchmarks.figure import Result
from benchmarks.report import number

_ROW, _LEFT, _UNIT, _WIDTH = 30, 330, 240, 860
_STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328 }
.quiet { fill: #59636e }
.met { fill: #1a7f37 }
.missed { fill: #bc4c00 }
.line { stroke: #59636e; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .quiet { fill: #9198a1 }
  .met { fill: #3fb950 }
  .missed { fill: #f0883e }
  .line { stroke: #9198a1 }
}"""


def picture(results: list[Result]) -> str:
    """SVG of the ratios with a target: first those with an upper bound, then those with a lower one."""
    shown = [result for result in results if result.is_ratio and result.figure.target]
    shown.sort(key=lambda result: result.figure.target is not None and result.figure.target.relation == "≥")
    height = _ROW * (len(shown) + 2)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="Each figure beside its target">',
        f"<style>{_STYLE}\n</style>",
        f'<text class="quiet" x="{_LEFT + _UNIT}" y="20" text-anchor="middle">target</text>',
        f'<line class="line" x1="{_LEFT + _UNIT}" x2="{_LEFT + _UNIT}" y1="26" y2="{height - _ROW // 2}"/>',
    ]
    for index, result in enumerate(shown):
        lines += _bar(result, _ROW * (index + 1))
    return "\n".join([*lines, "</svg>", ""])


def _bar(result: Result, y: int) -> list[str]:
    target = result.figure.target
    assert target is not None
    length = min(result.value / target.value, 1.6) * _UNIT
    kind, mark = ("met", "✓") if result.met else ("missed", "✗")
    label = f"{mark} {number(result.value)} ({target})"
    return [
        f'<text x="{_LEFT - 10}" y="{y + 19}" text-anchor="end">{escape(result.figure.title)}</text>',
        f'<rect class="{kind}" x="{_LEFT}" y="{y + 6}" width="{length:.0f}" height="18" rx="3"/>',
        f'<text x="{_LEFT + max(length, _UNIT) + 8:.0f}" y="{y + 19}">{escape(label)}</text>',
    ]
