"""Curves in a string, as in Prometheus' rule tests: `"2.0-0.01x100 nan"` starts at 2.0, falls by 0.01 a hundred times,
then there is one NaN. `~0.1` after the count adds noise of that size (seeded), `_` is a missing value.
"""

from __future__ import annotations

import math
import random
import re

from checker import judge
from checker.events import Plan, Row, Tick
from checker.finding import Action
from checker.names import GRAD_NORM, LR, TRAIN_LOSS, VAL_LOSS
from contract import Experiment

_PIECE = re.compile(
    r"(?P<start>[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
    r"(?:(?P<factor>\*\d+(?:\.\d+)?(?:e[+-]?\d+)?)|(?P<slope>[+-]\d+(?:\.\d+)?(?:e[+-]?\d+)?))?"
    r"(?:x(?P<count>\d+))?(?:~(?P<noise>\d+(?:\.\d+)?))?$"
)


def curve(text, seed=0):
    """The values of a curve in a string; `1.0*0.99x50` is geometric."""
    chance = random.Random(seed)
    values = []
    for piece in text.split():
        if piece == "_":
            values.append(None)
            continue
        if piece.lstrip("+-") in {"nan", "inf"}:
            values.append(float(piece))
            continue
        match = _PIECE.match(piece)
        assert match, f"not a piece of a curve: {piece!r}"
        start, noise = float(match["start"]), float(match["noise"] or 0)
        for i in range(int(match["count"] or 0) + 1):
            value = (
                start * float(match["factor"][1:]) ** i if match["factor"] else start + i * float(match["slope"] or 0)
            )
            values.append(value + chance.gauss(0, noise))
    return values


def rows(train=None, val=None, lr=None, grad=None, *, val_every=1, seconds=1.0, epochs=False, events=(), start=0):
    """Rows of a run; each series is a curve in a string or a list. `events` are (row, fields) pairs to mix in."""
    series = {TRAIN_LOSS: train, VAL_LOSS: val, LR: lr, GRAD_NORM: grad}
    lists = {
        name: curve(text, seed=len(name)) if isinstance(text, str) else list(text)
        for name, text in series.items()
        if text is not None
    }
    length = max(len(values) * (val_every if name == VAL_LOSS else 1) for name, values in lists.items())
    extra = dict(events)
    made, clock = [], 1e9
    for i in range(length):
        values = {}
        for name, numbers in lists.items():
            at, left = divmod(i, val_every if name == VAL_LOSS else 1)
            if name == VAL_LOSS and (left != (val_every - 1) or at >= len(numbers)):
                continue
            if at < len(numbers) and numbers[at] is not None:
                values[name] = numbers[at]
        clock += seconds[i] if isinstance(seconds, list) else seconds
        fields = {"step": start + i, "at": clock, "epoch": float(i) if epochs else None, **extra.get(i, {})}
        made.append(Row(index=i, line=i + 1, values=values, **fields))
    return made


def experiment(**fields):
    return Plan(Experiment(id="exp-001", created_at="", **fields))


def play(events, plan=None):
    case = judge.Case.open(plan)
    for event in events:
        judge.step(case, event)
    return case


def told(case, rule=None):
    """What was said aloud: (rule, action) of every finding that is more than a note."""
    return [
        (finding.rule, str(finding.action))
        for finding in case.findings
        if finding.action is not Action.NONE and rule in {None, finding.rule}
    ]


def only(case, rule):
    """The findings of one rule."""
    return [finding for finding in case.findings if finding.rule == rule]


def tick(now, **fields):
    return Tick(now=now, **{"state": "running", **fields})


def noisy_descent(n=300, start=2.5, floor=0.6, noise=0.05, seed=3):
    """The curve of a healthy run: exponential descent with noise in proportion."""
    chance = random.Random(seed)
    return [floor + (start - floor) * math.exp(-4 * i / n) + chance.gauss(0, noise) for i in range(n)]
