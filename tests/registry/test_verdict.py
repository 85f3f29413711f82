"""Loop verdicts: in their order, over every run that is over."""

import pytest
from experiments_on_disk import TIERS, add, plan

from checker.registry.catalog import entries
from checker.registry.policy import Loop
from checker.registry.verdict import EXIT, Verdict, judge

MAX = {"name": "accuracy", "direction": "max"}


def verdict(root, **policy):
    return judge(entries(root), Loop(**policy))


def runs(root, *values, state="completed", start=1, **fields):
    for number, value in enumerate(values, start):
        add(root, f"exp-{number:03d}", value=value, state=state, **fields)


def test_nothing_yet_goes_on(tmp_path):
    assert verdict(tmp_path).verdict is Verdict.CONTINUE


def test_runs_that_still_improve_go_on(tmp_path):
    runs(tmp_path, 5.0, 4.0, 3.0, 2.5, tiers=TIERS)
    found = verdict(tmp_path)
    assert (found.verdict, found.best, found.value, found.runs) == (Verdict.CONTINUE, "exp-004", 2.5, 4)


@pytest.mark.parametrize(
    ("value", "tier", "hit"),
    [(2.1, "must_pass", False), (2.0, "must_pass", True), (1.2, "could_pass", False), (0.9, "should_pass", True)],
)
def test_a_tier_that_is_asked_for_or_a_higher_one_is_the_target(tmp_path, value, tier, hit):
    runs(tmp_path, value, tiers=TIERS)
    assert (verdict(tmp_path, stop_on_tier=tier).verdict is Verdict.TARGET_HIT) == hit


def test_a_killed_run_hits_no_target(tmp_path):
    runs(tmp_path, 0.5, state="killed", tiers=TIERS)
    assert verdict(tmp_path).verdict is Verdict.CONTINUE


@pytest.mark.parametrize("state", ["completed", "killed", "failed", "aborted"])
def test_every_run_that_is_over_counts(tmp_path, state):
    runs(tmp_path, *(5.0 - number / 2 for number in range(10)), state=state, result=False)
    found = verdict(tmp_path)
    assert found.verdict is Verdict.BUDGET_EXHAUSTED
    assert found.reason == f"10 runs are over (10 {state}); the policy allows 10."
    assert verdict(tmp_path, max_iterations=11).verdict is not Verdict.BUDGET_EXHAUSTED


@pytest.mark.parametrize("state", ["running", "pending"])
def test_a_run_that_is_not_over_does_not_count(tmp_path, state):
    runs(tmp_path, *[1.0] * 10, state=state)
    assert verdict(tmp_path).verdict is Verdict.CONTINUE


def test_hours_can_be_a_budget(tmp_path):
    runs(tmp_path, 5.0, 4.0)
    assert verdict(tmp_path, max_hours=2.5).verdict is Verdict.CONTINUE
    assert verdict(tmp_path, max_hours=2.0).verdict is Verdict.BUDGET_EXHAUSTED


PLATEAUS = {
    "too few": ([2.0, 2.0, 2.0], "min", False),
    "nothing gained": ([2.0, 2.0, 2.0, 2.0], "min", True),
    "less than one per cent": ([2.0, 1.999, 1.99, 1.985], "min", True),
    "one big gain breaks it": ([2.0, 2.0, 1.9, 2.0], "min", False),
    "getting worse is no gain": ([1.0, 5.0, 7.0, 9.0], "min", True),
    "an early best": ([5.0, 1.0, 3.0, 2.9, 2.8], "min", True),
    "higher is better": ([0.5, 0.6, 0.7, 0.8], "max", False),
    "higher would be better": ([0.8, 0.7, 0.6, 0.5], "max", True),
    "NaN is no gain": ([2.0, "NaN", "NaN", "NaN"], "min", True),
    "nothing but NaN": (["NaN"] * 4, "min", False),
    "negative": ([-1.0, -1.0, -1.0, -2.0], "min", False),
}


@pytest.mark.parametrize(("values", "direction", "plateau"), PLATEAUS.values(), ids=PLATEAUS.keys())
def test_plateau(tmp_path, values, direction, plateau):
    runs(tmp_path, *values, metric={"name": "score", "direction": direction})
    assert (verdict(tmp_path).verdict is Verdict.PLATEAU) == plateau


def test_killed_runs_are_no_improvement(tmp_path):
    runs(tmp_path, 2.0)
    runs(tmp_path, 2.0, 2.0, 2.0, state="killed", start=2)
    assert verdict(tmp_path).verdict is Verdict.PLATEAU


def test_another_metric_begins_anew(tmp_path):
    runs(tmp_path, 2.0, 2.0, 2.0, 2.0)
    runs(tmp_path, 0.5, start=5, metric=MAX)
    assert verdict(tmp_path).verdict is Verdict.CONTINUE


def test_the_target_goes_before_the_budget_and_that_before_the_plateau(tmp_path):
    runs(tmp_path, *[5.0] * 10, tiers=TIERS)
    assert verdict(tmp_path).verdict is Verdict.BUDGET_EXHAUSTED
    runs(tmp_path, 0.9, start=11, tiers=TIERS)
    assert verdict(tmp_path).verdict is Verdict.TARGET_HIT


def test_the_same_hypothesis_again_is_a_dead_end(tmp_path):
    runs(tmp_path, 5.0, hypothesis="Lower the learning rate to 0.1.")
    runs(tmp_path, 4.0, start=2, hypothesis="widen the model")
    assert verdict(tmp_path).verdict is Verdict.CONTINUE
    runs(tmp_path, 3.0, start=3, hypothesis="lower the learning rate to 0.1")
    found = verdict(tmp_path)
    assert found.verdict is Verdict.DEAD_END
    assert found.reason == "exp-003 tried what exp-001 had tried: their hypotheses are 100% alike."
    assert verdict(tmp_path, plateau_runs=2, dead_end_similarity=1.0).verdict is Verdict.DEAD_END


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("скорость 0.1 лучше", "ширина 0.1 хуже"),
        ("the best lr is < 0.1", "the best lr is > 0.1"),
        ("width 32 and depth 64", "width 64 and depth 32"),
    ],
    ids=["other script", "a sign", "another order"],
)
def test_what_only_looks_alike_is_no_dead_end(tmp_path, one, other):
    runs(tmp_path, 5.0, hypothesis=one, config={"width": 32, "depth": 64})
    runs(tmp_path, 3.0, start=2, hypothesis=other, config={"width": 64, "depth": 32})
    assert verdict(tmp_path).verdict is Verdict.CONTINUE


def test_when_every_planned_idea_has_been_tried_there_is_nothing_left(tmp_path):
    first = add(tmp_path, "exp-001", value=5.0)
    plan(first, ("exp-001.1", "raise the rate", "[optimizer]\nlr = 0.5"), ("exp-001, by hand", "look at it", ""))
    assert verdict(tmp_path).verdict is Verdict.CONTINUE
    add(tmp_path, "exp-002", value=4.0, parent="exp-001", config={"optimizer": {"lr": 0.5}})
    found = verdict(tmp_path)
    assert (found.verdict, found.reason) == (Verdict.DEAD_END, "All 1 planned ideas have been tried.")
    add(tmp_path, "exp-003", state="pending")
    assert verdict(tmp_path).verdict is Verdict.CONTINUE


def test_every_verdict_has_an_exit_code_of_its_own():
    assert sorted(EXIT) == sorted(Verdict)
    assert len(set(EXIT.values())) == len(Verdict)
    assert EXIT[Verdict.CONTINUE] == 0
    assert not set(EXIT.values()) & {1, 2}
