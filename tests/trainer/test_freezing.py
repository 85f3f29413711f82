import copy
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from trainer import spec
from trainer.run import Run


@pytest.fixture
def steps_of(small):
    """Takes some steps of a run; returns it, the weights before each of them and at the end, and what was announced."""

    def take(count, **tables):
        run = Run(small(**tables))
        told = []
        run.log = SimpleNamespace(step=lambda *_, **__: None, regime_change=told.append)
        weights = []
        for _ in range(count):
            weights.append({name: weight.detach().clone() for name, weight in run.model.named_parameters()})
            run.advance()
        return run, [*weights, {name: weight.detach() for name, weight in run.model.named_parameters()}], told

    return take


def moved(weights, name):
    """The steps that moved a parameter."""
    return [step for step, (one, two) in enumerate(pairwise(weights), 1) if not torch.equal(one[name], two[name])]


@pytest.mark.parametrize("kind", ["adamw", "sgd", "lion"])
def test_a_frozen_parameter_moves_from_exactly_the_step_after(steps_of, kind):
    frozen = [{"match": "blocks", "until_step": 2}, {"match": "attention_out", "until_step": 4}]
    run, weights, told = steps_of(5, frozen=frozen, optimizer={"kind": kind, "weight_decay": 0.5})
    assert moved(weights, "head.weight") == [1, 2, 3, 4, 5]
    assert moved(weights, "blocks.0.perceptron_in.weight") == [3, 4, 5]
    assert moved(weights, "blocks.0.attention_out.weight") == [5]  # the longest of those that match
    assert told == ["15 of 17 parameter tensors learn from here on", "17 of 17 parameter tensors learn from here on"]
    assert all(parameter.requires_grad for parameter in run.model.parameters())


def test_the_moments_of_adam_begin_when_a_parameter_does(steps_of):
    run, weights, _ = steps_of(
        4, frozen=[{"match": "head", "until_step": 3}], schedule={"kind": "constant"}, optimizer={"weight_decay": 0.0}
    )
    counts = {name: run.optimizer.state[item]["step"].item() for name, item in run.model.named_parameters()}
    assert (counts["head.weight"], counts["token.weight"]) == (1.0, 4.0)
    first = (weights[4]["head.weight"] - weights[3]["head.weight"]).abs()
    assert first.max().item() == pytest.approx(1e-2, rel=1e-3)  # a first step of Adam is as long as the rate


def test_a_resumed_run_has_frozen_what_it_had(steps_of, small):
    tables = {"model": {"dropout": 0.0}, "frozen": [{"match": "blocks", "until_step": 3}]}
    run, _, _ = steps_of(2, **tables)
    other = Run(small(**tables))
    other.load_state_dict(copy.deepcopy(run.state_dict()))
    other.log = run.log
    frozen = {name for name, item in other.model.named_parameters() if not item.requires_grad}
    assert frozen == {name for name, _ in other.model.named_parameters() if name.startswith("blocks")}
    for one in (run, other):
        for _ in range(3):
            one.advance()
    for name, weight in run.model.state_dict().items():
        assert torch.equal(weight, other.model.state_dict()[name]), name


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        (
            {"frozen": [{"match": "haed", "until_step": 1}]},
            "'haed' matches no parameter that is trained; there are tok",
        ),
        ({"frozen": [{"match": ".", "until_step": 1}]}, "frozen: leaves nothing to train in the first step"),
        (
            {"frozen": [{"match": "head", "until_step": 1}], "train": {"trainable": ["head"]}},
            "frozen: leaves nothing to train in the first step",
        ),
        (
            {"frozen": [{"match": "token", "until_step": 1}], "train": {"trainable": ["head"]}},
            "'token' matches no parameter that is trained; there are head.weight$",
        ),
    ],
    ids=["no-such-name", "everything", "all-that-is-trainable", "not-trainable-anyway"],
)
def test_what_cannot_be_frozen_is_explained(small, tables, said):
    with pytest.raises(spec.SpecError, match=said):
        Run(small(**tables))
