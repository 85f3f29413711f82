import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data import order
from trainer.data.order import Order, shuffled


def too_uneven(counts, expected):
    """Whether a chi-square test would see by six standard deviations that the counts are not all as expected."""
    freedom = len(counts) - 1
    chi = sum((count - expected) ** 2 / expected for count in counts)
    return (chi - freedom) / math.sqrt(2 * freedom) > 6


@settings(deadline=None)
@given(count=st.integers(1, 20_000), key=st.text(max_size=5))
def test_every_number_comes_once(count, key):
    assert torch.equal(shuffled(torch.arange(count), count, key).sort().values, torch.arange(count))


@given(count=st.integers(1, 300))
def test_the_network_alone_loses_no_number_either(count):
    before, order._BLOCK = order._BLOCK, 0
    try:
        assert sorted(shuffled(torch.arange(count), count, "key").tolist()) == list(range(count))
    finally:
        order._BLOCK = before


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_all_short_orders_are_equally_likely(count):
    trials = 6000
    seen = Counter(tuple(shuffled(torch.arange(count), count, str(key)).tolist()) for key in range(trials))
    every = list(itertools.permutations(range(count)))
    assert not too_uneven([seen[one] for one in every], trials / len(every))


@pytest.mark.parametrize("count", [4096, 4097, 10_000, 65_536, 1_000_003, 2**40 + 1])
def test_a_long_order_looks_random(count):
    ranges, steps, firsts = torch.zeros(64), torch.zeros(64), torch.zeros(64)
    for key in range(100):
        numbers = shuffled(torch.arange(1000), count, str(key))
        ranges += torch.bincount(numbers * 64 // count, minlength=64)
        steps += torch.bincount((numbers[1:] - numbers[:-1]) % count * 64 // count, minlength=64)
        firsts[int(shuffled(torch.arange(1), count, str(key))) * 64 // count] += 1
    for counts in (ranges, steps, firsts):
        assert not too_uneven(counts.tolist(), float(counts.sum()) / 64)


def test_a_part_of_an_order_is_the_same_wherever_it_is_asked_for():
    whole = Order(10_000, "key").numbers(0, 10_000)
    assert len(whole.unique()) == 10_000
    one = Order(10_000, "key")
    for begin, end in [(0, 7), (4090, 4100), (9000, 9999), (3, 9), (4096, 8192), (9990, 20_000)]:
        assert torch.equal(one.numbers(begin, end), whole[begin:end])


def test_the_order_is_the_same_on_every_machine_and_with_every_version_of_torch():
    assert shuffled(torch.arange(5), 10, "key").tolist() == [6, 8, 0, 1, 4]
    assert shuffled(torch.arange(5), 10**9, "key").tolist() == [252489835, 864692862, 570219288, 116684942, 142454589]
