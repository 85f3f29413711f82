"""The loss curve as a small picture: what fell, where it broke, where that was noticed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from checker.finding import Finding
from checker.history import History
from checker.mask import xml
from checker.names import TRAIN_LOSS, VAL_LOSS
from checker.series import Series
from checker.wording import number, place

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 62, 618, 40, 222
"""The corners of the plot inside the picture; the margins hold the ticks and the legend."""

_LOG_RANGE = 10.0
"""A positive loss that spans more than this is drawn on a logarithmic axis."""

_LARGEST = 1e300
"""Values are cut here, so that the difference of two of them is still a number."""

_STYLE = """
svg{--ground:#fff;--ink:#24292f;--faint:#6e7781;--grid:#e6e8eb;--train:#0969da;--val:#bf6a02;--bad:#cf222e;--warn:#9a6700}
@media(prefers-color-scheme:dark){svg{--ground:#0d1117;--ink:#e6edf3;--faint:#8d96a0;--grid:#262c36;--train:#58a6ff;
--val:#e3a04f;--bad:#ff7b72;--warn:#d29922}}
text{font:11px ui-sans-serif,system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;fill:var(--faint)}
.ground{fill:var(--ground)}.grid{stroke:var(--grid)}.key{fill:var(--ink)}
.line{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}
.train{stroke:var(--train)}.val{stroke:var(--val)}.dot{stroke-width:1.8;fill:var(--ground)}
.onset{stroke-dasharray:4 3}.critical{stroke:var(--bad)}.warning{stroke:var(--warn)}.info{stroke:var(--faint)}
text.critical{fill:var(--bad);stroke:none}text.warning{fill:var(--warn);stroke:none}text.info{stroke:none}.called{stroke-width:2}
""".strip()


class Point(NamedTuple):
    x: float
    y: float


class Line(NamedTuple):
    name: str
    kind: str
    points: list[Point]


class Axis(NamedTuple):
    """One direction of the plot: values from `low` to `high` land between two pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        here = math.log10(max(value, self.low)) if self.log else value
        share = (here - low) / (high - low) if high > low else 0.5
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)


def svg(history: History, findings: Sequence[Finding]) -> str:
    """The picture of a run; `findings` with the one that matters most first."""
    by_row = _by_row(history)
    lines = [
        Line(name, kind, points)
        for role, name, kind in ((TRAIN_LOSS, "train loss", "train"), (VAL_LOSS, "val loss", "val"))
        if (points := _points(history.series[role], by_row=by_row))
    ]
    last = _last_x(history, by_row=by_row)
    nothing = "no finite loss was logged" if history.folds is None else "the scores of folds are no curve"
    x, y = _axes(lines, _end(lines, findings, last, by_row=by_row))
    body = [*_grid(x, y), _text(RIGHT, BOTTOM + 33, _ends_at(last, x, "row" if by_row else "step"), "end")]
    for line in lines:
        body += _drawn(line, x, y)
    body += _legend(lines)
    if findings:
        body += _marks(findings[0], x, by_row=by_row)
    if not lines:
        body.append(_text((LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2, nothing, "middle"))
    return "\n".join((*_head(lines, findings, nothing), *body, "</svg>\n"))


# ---------------------------------------------------------------------------------------------------- from values


def _by_row(history: History) -> bool:
    """Whether steps are no good as an axis: there are none, or every epoch counts them from 0."""
    if history.step is None:
        return True
    return any(b < a for series in (history.train, history.val) for a, b in itertools.pairwise(series.steps))


def _points(series: Series, *, by_row: bool) -> list[Point]:
    places = series.rows if by_row else series.steps
    closed = [Point(x, y) for x, y in zip(places, series.levels, strict=True)]
    return [
        Point(x, max(-_LARGEST, min(y, _LARGEST))) for x, y in closed + _tail(series, by_row=by_row) if math.isfinite(y)
    ]


def _tail(series: Series, *, by_row: bool) -> list[Point]:
    """The raw values after the last closed block, spread evenly up to the last one."""
    end = series.last_row if by_row else series.last_step
    places = series.rows if by_row else series.steps
    begin = places[-1] if places else end
    left = len(series.recent) if not places else sum(1 for _ in series.recent if end > begin)
    per_value = (end - places[0]) / max(series.count - series.width, 1) if places else 0.0
    known = min(left, round((end - begin) / per_value)) if per_value > 0 else min(left, 1)
    values = list(series.recent)[len(series.recent) - known :]
    return [Point(end - per_value * (known - 1 - i), value) for i, value in enumerate(values)]


def _last_x(history: History, *, by_row: bool) -> float:
    """Where the run stands, which is behind its last finite loss when it ends in NaN."""
    if by_row or history.step is None:
        return float(max(history.index, 0))
    return float(history.step)


def _end(lines: Sequence[Line], findings: Sequence[Finding], last: float, *, by_row: bool) -> float:
    """Where the axis ends: a long tail of NaN behind an early end would squeeze everything that can be seen."""
    reach = max((line.points[-1].x for line in lines), default=last)
    if findings:
        reach = max(reach, _place(findings[0].row, findings[0].step, by_row=by_row))
    return last if last <= 4 * reach else 1.25 * reach


def _ends_at(last: float, x: Axis, unit: str) -> str:
    return f"last {unit} {int(last)}" + (" →" if last > x.high else "")


def _place(row: int, step: int | None, *, by_row: bool) -> float:
    return float(row if by_row or step is None else step)


def _axes(lines: Sequence[Line], last: float) -> tuple[Axis, Axis]:
    xs = [point.x for line in lines for point in line.points] + [last]
    ys = [point.y for line in lines for point in line.points] or [0.0, 1.0]
    low, high = min(ys), max(ys)
    log = low > 0 and high / _LOG_RANGE > low
    if log:
        low = max(low, 1 / _LARGEST)
        air = min((high / low) ** 0.05, 100.0) if high / low < math.inf else 100.0
        low, high = low / air, high * air
    else:
        air = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        low, high = low - air, high + air
    # The first block of a long run ends a little after its first step.
    begin = 0.0 if 0 < min(xs) < 0.05 * max(xs) else min(xs)
    return Axis(begin, max(xs), LEFT, RIGHT), Axis(low, high, BOTTOM, TOP, log)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) between `low` and `high`."""
    if not high > low:
        return [low]
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    size = next((m * power for m in (1, 2, 5) if raw <= m * power), 10 * power)
    first, last = math.ceil(low / size), math.floor(high / size)
    return [index * size for index in range(first, last + 1)]


def log_ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """Powers of ten between `low` and `high`, thinned out when many, with 2 and 5 times them when few."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    if last - first < 2:
        return [m * 10.0**p for p in range(first - 1, last + 1) for m in (1, 2, 5) if low <= m * 10.0**p <= high]
    every = -(-(last - first + 1) // wanted)
    return [10.0**power for power in range(first, last + 1, every)]


# ------------------------------------------------------------------------------------------------------- to marks


def _head(lines: Sequence[Line], findings: Sequence[Finding], nothing: str) -> Iterable[str]:
    told = ", ".join(f"{line.name} {number(line.points[0].y)} to {number(line.points[-1].y)}" for line in lines)
    broke = f"; {findings[0].rule} since {place(findings[0].first_row, findings[0].first_step)}" if findings else ""
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    yield f"<title>{xml((told or nothing) + broke)}</title>"
    yield f"<style>{_STYLE}</style>"
    yield f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'


def _grid(x: Axis, y: Axis) -> Iterable[str]:
    for value in log_ticks(y.low, y.high) if y.log else ticks(y.low, y.high):
        at = y.at(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield _text(LEFT - 8, at + 4, number(value), "end")
    for value in ticks(x.low, x.high, 6):
        if value == int(value):
            yield _text(x.at(value), BOTTOM + 18, _whole(int(value)), "middle")
    yield f'<line class="grid" x1="{RIGHT}" x2="{RIGHT}" y1="{TOP}" y2="{BOTTOM}"/>'


def _whole(value: int) -> str:
    """A step as an axis shows it: 20k rather than 20000."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if abs(value) >= 10 * size or (abs(value) >= size and value % (size // 10) == 0):
            return f"{value / size:g}{letter}"
    return str(value)


def _drawn(line: Line, x: Axis, y: Axis) -> Iterable[str]:
    path = " ".join(f"{x.at(point.x):.1f},{y.at(point.y):.1f}" for point in line.points)
    last = line.points[-1]
    yield f'<polyline class="line {line.kind}" points="{path}"/>'
    yield f'<circle class="dot {line.kind}" cx="{x.at(last.x):.1f}" cy="{y.at(last.y):.1f}" r="3"/>'


def _legend(lines: Sequence[Line]) -> Iterable[str]:
    at = float(LEFT)
    for line in lines:
        label = f"{line.name} {number(line.points[-1].y)}"
        yield f'<line class="line {line.kind}" x1="{at:.1f}" x2="{at + 16:.1f}" y1="18" y2="18"/>'
        yield _text(at + 22, 22, label, "start", "key")
        at += 22 + 6.2 * len(label) + 20


def _marks(finding: Finding, x: Axis, *, by_row: bool) -> Iterable[str]:
    """The onset as a dashed line with the rule's name, and a solid tick where it was called."""
    onset = _place(finding.first_row, finding.first_step, by_row=by_row)
    called = _place(finding.row, finding.step, by_row=by_row)
    kind = finding.severity
    at, then = x.at(onset), x.at(called)
    yield f'<line class="onset {kind}" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP - 8}" y2="{BOTTOM}"/>'
    yield f'<path class="called {kind}" fill="none" d="M{then:.1f} {BOTTOM - 6}V{BOTTOM + 4}"/>'
    left = at > (LEFT + RIGHT) / 2
    where = f"{finding.rule} {onset:.0f}, called " + (f"{called:.0f}" if called != onset else "at once")
    yield _text(at - 5 if left else at + 5, TOP - 1, where, "end" if left else "start", kind)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{xml(text, 80)}</text>'
