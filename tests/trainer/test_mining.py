import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer import mining
from trainer.run import Run
from trainer.spec.train import Mining


@pytest.mark.parametrize(
    ("samples", "options", "expected"),
    [
        (8, {"keep_ratio": 1.0}, 8),
        (8, {"keep_ratio": 0.5}, 4),
        (9, {"keep_ratio": 0.5}, 5),
        (8, {"keep_ratio": 0.01}, 1),
        (8, {"keep_ratio": 0.01, "min_keep": 3}, 3),
        (2, {"keep_ratio": 0.5, "min_keep": 5}, 2),
        (100, {"keep_ratio": 0.07}, 7),
        (100, {"keep_ratio": 0.55}, 55),
    ],
    ids=["all", "half", "rounded-up", "one-at-least", "minimum", "fewer-than-the-minimum", "rounding", "rounding-2"],
)
def test_how_many_samples_are_kept(samples, options, expected):
    assert mining.kept(samples, Mining(**options)) == expected


@given(st.lists(st.floats(0, 9, width=32), min_size=1, max_size=20), st.floats(0.01, 1), st.integers(1, 9))
def test_exactly_the_hardest_give_a_gradient(values, ratio, least):
    options = Mining(keep_ratio=ratio, min_keep=least)
    losses = torch.tensor(values, requires_grad=True)
    found = mining.hardest(losses, options, 1)
    found.backward()
    count = mining.kept(len(values), options)
    assert max(math.ceil(len(values) * ratio - 1e-9), min(least, len(values))) == count
    assert found.item() == pytest.approx(sum(sorted(values)[-count:]) / count, rel=1e-5)
    taught = losses.grad > 0
    assert int(taught.sum()) == count
    assert losses[taught].min() >= losses[~taught].max() if count < len(values) else True
    assert losses.grad[taught].tolist() == pytest.approx([1 / count] * count)


def test_a_loss_that_is_no_number_is_never_passed_over():
    assert mining.hardest(torch.tensor([1.0, math.nan, 2.0]), Mining(keep_ratio=0.3), 1).isnan()


@pytest.mark.parametrize(("step", "expected"), [(1, 2.0), (3, 2.0), (4, 3.0)], ids=["first", "last-of-warmup", "after"])
def test_there_is_none_during_its_warmup(step, expected):
    options = Mining(keep_ratio=0.3, warmup_steps=3)
    assert mining.hardest(torch.tensor([1.0, 2.0, 3.0]), options, step).item() == expected


def test_a_run_learns_from_the_hardest_of_each_micro_batch(small):
    run = Run(small(model={"dropout": 0.0}, mining={"keep_ratio": 0.25}))
    group = run.loader.next_group(1)
    losses = [run.task.losses(run.model(micro.inputs), micro.targets).max().item() for micro in group]
    assert run.backward(group, 1).item() == pytest.approx(sum(losses) / 2, rel=1e-5)
