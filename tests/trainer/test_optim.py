import pytest
import torch

from trainer import optim
from trainer.spec.optimizer import Optimizer, Schedule

TOTAL = 100


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"kind": "constant"}, {1: 1.0, 50: 1.0, 100: 1.0, 500: 1.0}),
        ({"kind": "constant", "warmup_steps": 10}, {1: 0.1, 5: 0.5, 10: 1.0, 11: 1.0}),
        ({"kind": "linear", "final_lr_ratio": 0.0}, {50: 0.5, 100: 0.0, 150: 0.0}),
        (
            {"kind": "linear", "warmup_steps": 20, "final_lr_ratio": 0.2},
            {10: 0.5, 20: 1.0, 60: 0.6, 100: 0.2, 999: 0.2},
        ),
        ({"kind": "cosine", "final_lr_ratio": 0.1}, {50: 0.55, 100: 0.1, 101: 0.1}),
        ({"kind": "cosine", "warmup_steps": 10, "final_lr_ratio": 0.0}, {1: 0.1, 10: 1.0, 55: 0.5, 100: 0.0}),
        ({"kind": "cosine", "decay_steps": 15, "final_lr_ratio": 0.0}, {15: 0.0, 16: 0.0, 100: 0.0}),
        ({"kind": "step", "step_size": 30, "gamma": 0.5}, {29: 1.0, 30: 0.5, 60: 0.25, 100: 0.125}),
        ({"kind": "cosine", "warmup_steps": 100}, {50: 0.5, 100: 1.0, 101: 0.1}),
    ],
    ids=["constant", "warmup", "linear", "linear-warmup", "cosine", "cosine-warmup", "early-end", "step", "all-warmup"],
)
def test_the_learning_rate_at_a_step(options, expected):
    schedule = Schedule(**options)
    found = {step: optim.learning_rate(step, 1.0, schedule, TOTAL) for step in expected}
    assert found == pytest.approx(expected)


def test_after_the_decay_to_zero_the_rate_is_exactly_zero():
    schedule = Schedule(kind="cosine", decay_steps=15, final_lr_ratio=0.0)
    assert optim.learning_rate(16, 0.003, schedule, TOTAL) == 0.0


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd", "lion"])
def test_only_matrices_decay(kind):
    model = torch.nn.Linear(3, 2)
    built = optim.build(model, Optimizer(kind=kind, weight_decay=0.3))
    decay = {id(item): group["weight_decay"] for group in built.param_groups for item in group["params"]}
    assert (decay[id(model.weight)], decay[id(model.bias)]) == (0.3, 0.0)
