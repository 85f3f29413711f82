import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

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
        (
            {"kind": "wsd", "warmup_steps": 10, "decay_fraction": 0.2, "final_lr_ratio": 0.0},
            {1: 0.1, 10: 1.0, 80: 1.0, 90: 0.5, 100: 0.0, 200: 0.0},
        ),
        (
            {"kind": "wsd", "warmup_steps": 90, "decay_fraction": 0.5, "final_lr_ratio": 0.2},
            {45: 0.5, 90: 1.0, 95: 0.6, 100: 0.2},
        ),
        (
            {"kind": "one-cycle", "pct_start": 0.25, "div_factor": 10, "final_div_factor": 100},
            {1: 0.1, 13: 0.55, 25: 1.0, 100: 0.001, 101: 0.001},
        ),
        ({"kind": "one-cycle", "decay_steps": 50, "div_factor": 10}, {1: 0.1, 15: 1.0, 50: 1e-5, 100: 1e-5}),
    ],
    ids=[
        "constant", "warmup", "linear", "linear-warmup", "cosine", "cosine-warmup", "early-end", "step", "all-warmup",
        "wsd", "wsd-falls-after-its-warmup", "one-cycle", "one-cycle-ends-early",
    ],
)  # fmt: skip
def test_the_learning_rate_at_a_step(options, expected):
    schedule = Schedule(**options)
    found = {step: optim.learning_rate(step, 1.0, schedule, TOTAL) for step in expected}
    assert found == pytest.approx(expected)


def test_after_the_decay_to_zero_the_rate_is_exactly_zero():
    schedule = Schedule(kind="cosine", decay_steps=15, final_lr_ratio=0.0)
    assert optim.learning_rate(16, 0.003, schedule, TOTAL) == 0.0


@st.composite
def schedules(draw):
    kind = draw(st.sampled_from(["constant", "cosine", "linear", "step", "one-cycle", "wsd"]))
    warmup = 0 if kind == "one-cycle" else draw(st.integers(0, 60))
    return Schedule(
        kind=kind,
        warmup_steps=warmup,
        decay_steps=draw(st.none() | st.integers(warmup + 1, 200)),
        final_lr_ratio=draw(st.floats(0, 1)),
        step_size=draw(st.integers(1, 50)),
        gamma=draw(st.floats(0.01, 1)),
        decay_fraction=draw(st.floats(0.01, 1)),
        pct_start=draw(st.floats(0.01, 0.99)),
    )


@given(schedules(), st.integers(1, 150), st.floats(1e-6, 10))
def test_a_rate_is_never_negative_nor_above_its_peak_and_ends_as_declared(schedule, total, peak):
    rates = [optim.learning_rate(step, peak, schedule, total) for step in range(1, total + 1)]
    told = optim.declared(peak, schedule, total)
    assert min(rates) >= 0.0
    assert max(rates) <= told["peak_lr"] * (1 + 1e-12)
    assert rates[-1] == told["final_lr"]


@given(schedules(), st.integers(1, 150), st.floats(1e-6, 10))
def test_a_warmup_rises_in_a_straight_line_and_arrives_exactly(schedule, total, peak):
    assume(schedule.warmup_steps)
    rates = [optim.learning_rate(step, peak, schedule, total) for step in range(1, schedule.warmup_steps + 1)]
    assert rates[-1] == peak
    assert rates == pytest.approx([peak * step / schedule.warmup_steps for step in range(1, len(rates) + 1)])


@settings(deadline=None)  # the first step of an optimizer imports half of torch
@given(
    total=st.integers(1, 120),
    pct_start=st.floats(0.01, 0.99),
    div_factor=st.floats(1, 100),
    final_div_factor=st.floats(1, 1e5),
)
def test_one_cycle_is_the_one_of_torch(total, pct_start, div_factor, final_div_factor):
    assume(pct_start * total != 1)  # there torch divides by zero
    schedule = Schedule(kind="one-cycle", pct_start=pct_start, div_factor=div_factor, final_div_factor=final_div_factor)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.1, total, pct_start=pct_start, div_factor=div_factor, final_div_factor=final_div_factor
    )
    for step in range(1, total + 1):
        assert optim.learning_rate(step, 0.1, schedule, total) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        if step < total:
            theirs.step()


@pytest.mark.parametrize(
    ("options", "final"),
    [
        ({"kind": "constant"}, 1.0),
        ({"kind": "cosine", "final_lr_ratio": 0.0, "decay_steps": 60}, 0.0),
        ({"kind": "linear", "final_lr_ratio": 0.0, "decay_steps": 200}, 0.5),
        ({"kind": "constant", "warmup_steps": 200}, 0.5),
    ],
    ids=["constant", "decayed-before-the-end", "ends-in-mid-decay", "ends-in-mid-warmup"],
)
def test_what_is_declared_is_the_rate_of_the_last_step(options, final):
    assert optim.declared(1.0, Schedule(**options), TOTAL)["final_lr"] == final


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd", "lion"])
def test_only_matrices_decay(kind):
    model = torch.nn.Linear(3, 2)
    built = optim.build(model, Optimizer(kind=kind, weight_decay=0.3))
    decay = {id(item): group["weight_decay"] for group in built.param_groups for item in group["params"]}
    assert (decay[id(model.weight)], decay[id(model.bias)]) == (0.3, 0.0)
