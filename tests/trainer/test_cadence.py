from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.cadence import should_checkpoint

TABLE = {
    "the tenth epoch": ((9, 100), {}, True),
    "the twentieth epoch": ((19, 100), {}, True),
    "one before the tenth": ((8, 100), {}, False),
    "in between": ((5, 100), {}, False),
    "the first of many": ((0, 100), {}, False),
    "the last of a hundred": ((99, 100), {}, True),
    "the last of seven": ((6, 7), {}, True),
    "one before the last of seven": ((5, 7), {}, False),
    "the only one": ((0, 1), {}, True),
    "the best": ((3, 100), {"is_best": True}, True),
    "the best of none planned": ((0, 0), {"is_best": True}, True),
    "the best beyond the plan": ((120, 100), {"is_best": True}, True),
    "none planned": ((0, 0), {}, False),
    "none planned, where it would be due": ((9, 0), {}, False),
    "before the first": ((-1, 100), {}, False),
    "before the first, at every one": ((-1, 100), {"every": 1}, False),
    "just beyond the plan": ((100, 100), {}, False),
    "beyond the plan, where it would be due": ((109, 100), {}, False),
    "every one": ((5, 100), {"every": 1}, True),
    "every 0 is every one": ((5, 100), {"every": 0}, True),
    "every -3 is every one": ((5, 100), {"every": -3}, True),
    "rarer than the plan is long": ((5, 20), {"every": 50}, False),
    "rarer than the plan is long, the last": ((19, 20), {"every": 50}, True),
}


@pytest.mark.parametrize(("epochs", "named", "due"), TABLE.values(), ids=TABLE.keys())
def test_when_a_checkpoint_is_due(epochs, named, due):
    assert should_checkpoint(*epochs, **named) is due


@given(total=st.integers(-5, 300), every=st.integers(-5, 400), best=st.sets(st.integers(-10, 320)))
def test_a_run_never_works_longer_than_agreed_without_a_checkpoint(total, every, best):
    saved = [epoch for epoch in range(-10, 320) if should_checkpoint(epoch, total, every=every, is_best=epoch in best)]
    assert best & set(range(-10, 320)) <= set(saved)
    planned = [epoch for epoch in saved if epoch not in best]
    assert all(0 <= epoch < total for epoch in planned)
    if total > 0:
        assert total - 1 in saved
        inside = [-1, *(epoch for epoch in saved if 0 <= epoch < total)]
        assert all(later - earlier <= max(every, 1) for earlier, later in pairwise(inside))
    if not best:
        assert len(saved) == -(-max(total, 0) // max(every, 1))
