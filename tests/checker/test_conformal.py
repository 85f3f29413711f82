import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checker import backtest
from checker.conformal import allowed, fit, killed_at, needed, promisable, score

PLACES = 6
RATES = [Fraction(text) for text in ("0.01", "0.02", "0.05", "0.1", "0.3", "0.5")]


@pytest.mark.parametrize(
    ("rate", "runs"),
    [("0.5", 1), ("0.3", 3), ("0.1", 9), ("0.05", 19), ("0.03", 33), ("0.01", 99), ("0.007", 142), ("0.001", 999)],
)
def test_so_many_runs_it_takes_and_not_one_fewer(rate, runs):
    assert needed(Fraction(rate)) == runs
    assert allowed(runs, Fraction(rate)) == 0
    assert allowed(runs - 1, Fraction(rate)) == -1


@pytest.mark.parametrize(
    ("runs", "rate", "kills"),
    [
        pytest.param(0, "0.5", -1, id="no runs, no promise"),
        pytest.param(98, "0.01", -1, id="one run short"),
        pytest.param(198, "0.01", 0, id="one run short of a second"),
        pytest.param(199, "0.01", 1, id="two of two hundred, the next one included"),
        pytest.param(99, "0.07", 6, id="where floats would lose one"),
        pytest.param(158, "0.05", 6, id="rounded down"),
    ],
)
def test_so_many_of_them_may_be_killed(runs, rate, kills):
    assert allowed(runs, Fraction(rate)) == kills


@given(st.integers(1, 5000), st.integers(0, 50))
def test_what_can_be_promised_is_promised_with_these_runs_and_no_smaller_rate(runs, killed):
    rate = promisable(runs, killed)
    assert allowed(runs, rate) == killed
    assert allowed(runs, rate - Fraction(1, 10**9)) < killed


@pytest.mark.parametrize(
    ("killed", "place"),
    [
        pytest.param([False] * 4, 0, id="never killed"),
        pytest.param([True, False, False, False], 1, id="as shipped only"),
        pytest.param([False, True, False, False], 2, id="not as shipped, and yet with more caution: counts as killed"),
        pytest.param([True] * 4, 4, id="always killed"),
        pytest.param([False, False, False, True], 4, id="killed at the end of the grid"),
    ],
)
def test_a_run_counts_as_killed_wherever_more_caution_kills_it(killed, place):
    assert score(killed) == place


@given(st.lists(st.integers(0, PLACES), max_size=60))
def test_more_caution_never_kills_more(scores):
    kills = [killed_at(scores, place) for place in range(PLACES)]
    assert kills == sorted(kills, reverse=True)


@pytest.mark.parametrize(
    ("scores", "place"),
    [
        pytest.param([0] * 8, None, id="too few"),
        pytest.param([0] * 9, 0, id="as shipped"),
        pytest.param([3, *[0] * 8], 3, id="none may be killed"),
        pytest.param([3, *[0] * 18], 0, id="one may be killed"),
        pytest.param([3, 2, *[0] * 17], 2, id="one may be killed, the other governs"),
        pytest.param([PLACES, *[0] * 8], None, id="one that is always killed"),
    ],
)
def test_the_least_caution_that_keeps_one_in_ten(scores, place):
    assert fit(scores, Fraction("0.1"), PLACES) == place


def false_kill(past, following, rate):
    """Whether the next run is killed under what the past ones led to; a refusal kills nothing."""
    place = fit(past, rate, PLACES)
    return place is not None and following > place


@given(st.lists(st.integers(0, PLACES), min_size=1, max_size=80), st.sampled_from(RATES))
def test_the_promise_holds_exactly_for_any_runs_in_any_order(scores, rate):
    """The theorem itself: each of the runs is as likely as any other to be the next one."""
    kills = sum(false_kill(scores[:i] + scores[i + 1 :], following, rate) for i, following in enumerate(scores))
    assert kills <= rate * len(scores)


def even(_):
    return lambda chance: chance.randint(0, PLACES)


def never(_):
    return lambda _: 0


def rare_and_far(_):
    return lambda chance: PLACES - 1 if chance.random() < 0.03 else 0


def few_and_near(_):
    return lambda chance: 1 if chance.random() < 0.15 else 0


def exchangeable_not_independent(chance):
    share = chance.random() / 5
    return lambda chance: 2 if chance.random() < share else 0


KINDS = [never, even, rare_and_far, few_and_near, exchangeable_not_independent]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("runs", "rate"), [(20, "0.05"), (45, "0.05"), (30, "0.1"), (100, "0.1")])
def test_the_realised_rate_of_false_kills_stays_under_the_promised_one(kind, runs, rate):
    chance, rounds, kills = random.Random(7), 2000, 0
    for _ in range(rounds):
        draw = kind(chance)
        kills += false_kill([draw(chance) for _ in range(runs)], draw(chance), Fraction(rate))
    luck = 4 * (float(rate) * (1 - float(rate)) / rounds) ** 0.5
    assert kills / rounds <= float(rate) + luck


def test_for_one_history_the_rate_is_under_its_bound_in_19_of_20():
    shares = [0.7, 0.1, 0.08, 0.06, 0.04, 0.02]  # of the scores 0 to 5
    chance, rounds, under, rate, runs = random.Random(5), 1000, 0, Fraction("0.1"), 60
    bound = backtest.interval(allowed(runs, rate), runs, 0.9)[1]
    for _ in range(rounds):
        place = fit(chance.choices(range(PLACES), shares, k=runs), rate, PLACES)
        under += sum(shares[place + 1 :]) <= bound
    assert under / rounds >= 0.95 - 0.03
