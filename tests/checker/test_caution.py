import dataclasses
import itertools
import math

import pytest
from curves import noisy_descent, rows

from checker import caution, judge
from checker.detectors import RULES
from checker.history import History

SHIPPED = {rule.name: rule.limits for rule in RULES}
PAIRS = [(rule, name) for rule, scales in caution.SCALED.items() for name in scales]


def numbers(value):
    return [times for _, times in value] if isinstance(value, tuple) else [value]


def test_caution_1_is_as_shipped():
    assert caution.limits(1) == {}
    for rule, name in PAIRS:
        assert caution.SCALED[rule][name](getattr(SHIPPED[rule], name), 1.0) == getattr(SHIPPED[rule], name)


def test_the_grid_begins_with_the_shipped_limits_and_rises():
    assert caution.GRID[0] == 1
    assert list(caution.GRID) == sorted(set(caution.GRID))


@pytest.mark.parametrize(("rule", "name"), PAIRS)
def test_every_scaled_limit_exists_and_rises_with_caution(rule, name):
    assert name in {field.name for field in dataclasses.fields(SHIPPED[rule])}
    steps = [getattr(caution.limits(one)[rule], name) for one in caution.GRID[1:]]
    values = [numbers(step) for step in (getattr(SHIPPED[rule], name), *steps)]
    for before, after in itertools.pairwise(values):
        assert all(math.isfinite(b) and a <= b for a, b in zip(before, after, strict=True))
    assert values[-1] > values[0]


def test_every_rule_that_kills_is_scaled_or_said_not_to_be():
    assert caution.SCALED.keys() <= caution.KILLERS
    assert {"stall", "budget"} == caution.UNSCALED


CURVES = {
    "healthy": {"train": noisy_descent()},
    "NaN": {"train": [*noisy_descent(100), *[float("nan")] * 30]},
    "NaN that leaves": {"train": [*noisy_descent(100), float("nan"), *noisy_descent(100, 0.7, 0.5)]},
    "diverged": {"train": [*noisy_descent(200), *[3.0 + 0.01 * i for i in range(100)]]},
    "exploded": {"train": [*noisy_descent(100), *[50.0] * 40]},
    "gradient": {"train": [*noisy_descent(100), *[1.4] * 40], "grad": [*[1.0] * 100, *[80.0] * 40]},
}


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES.keys())
def test_judged_all_at_once_is_judged_one_by_one(curve):
    together = [judge.Case(history := History(), limits=caution.limits(caution.GRID[0]), rules=caution.KILLING)]
    together += [judge.Case(history, limits=caution.limits(one), rules=caution.KILLING) for one in caution.GRID[1:]]
    alone = [judge.Case.open(limits=caution.limits(one)) for one in caution.GRID]
    for row in rows(**curve):
        judge.step_all(together, row)
        for case in alone:
            judge.step(case, row)
    assert [case.kill for case in together] == [case.kill for case in alone]


def test_caution_helps_what_one_value_would_have_killed():
    kills = []
    for one in caution.GRID[:3]:
        case = judge.Case.open(limits=caution.limits(one))
        for row in rows(**CURVES["NaN that leaves"]):
            judge.step(case, row)
        kills.append(case.kill.rule if case.kill else None)
    assert kills == ["nonfinite", None, None]
