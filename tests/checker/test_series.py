from __future__ import annotations

import statistics

import pytest
from curves import noisy_descent
from hypothesis import given
from hypothesis import strategies as st

from checker.gaps import Gaps
from checker.series import BLOCKS, CHUNK, RECENT, Series, median, running_median

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300)


def filled(values):
    series = Series()
    for i, value in enumerate(values):
        series.add(value, i, i)
    return series


@given(NUMBERS)
def test_the_median_is_the_median(values):
    assert median(values) == pytest.approx(statistics.median(values))


@given(NUMBERS, st.sampled_from([3, 5, 11]))
def test_the_running_median_looks_at_its_window(values, width):
    half = width // 2
    expected = [statistics.median(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]
    assert running_median(values, width) == pytest.approx(expected)


def test_a_short_run_is_kept_in_full():
    values = noisy_descent(BLOCKS - 1)
    assert list(filled(values).levels) == values


@pytest.mark.parametrize("count", [BLOCKS, 1000, 50_000])
def test_a_long_run_is_kept_at_one_per_cent(count):
    series = filled(noisy_descent(count))
    assert BLOCKS // 2 <= len(series.levels) < BLOCKS
    assert len(series.levels) == len(series.rows) == len(series.steps) == len(series.swings)
    assert series.count - series.rows[-1] <= series.width <= count / (BLOCKS // 2)
    assert series.start() > series.level() > 0


def test_memory_does_not_grow():
    series = filled(noisy_descent(100_000))
    assert len(series.recent) == RECENT
    assert len(series.raw) <= 2 * RECENT + CHUNK


@pytest.mark.parametrize("trend", [0.0, 0.5, -3.0])
def test_noise_is_blind_to_a_trend(trend):
    noise = filled([trend * i + value for i, value in enumerate(noisy_descent(100, 1.0, 1.0, 0.1))]).noise()
    assert noise == pytest.approx(0.1, rel=0.5)


def test_rewinding_forgets_what_came_after():
    series = filled(range(100))
    series.rewind(60)
    assert list(series.levels) == list(range(60))
    assert series.last == 59
    assert series.recent[-1] == 59


@pytest.mark.parametrize(("share", "expected"), [(0.5, 1.0), (0.9, 1.0), (0.99, 20.0)])
def test_a_quantile_of_gaps_is_known_within_a_fifth(share, expected):
    gaps = Gaps()
    for i in range(1000):
        gaps.add(20.0 if i % 50 == 0 else 1.0)
    assert gaps.quantile(share) == pytest.approx(expected, rel=0.2)
    assert gaps.longest == 20.0


@pytest.mark.parametrize("seconds", [0.0, -5.0, float("nan"), float("inf")])
def test_a_clock_that_went_back_says_nothing(seconds):
    gaps = Gaps()
    gaps.add(seconds)
    assert gaps.count == 0
