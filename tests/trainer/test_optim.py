import copy
import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trainer import optim
from trainer.errors import SpecError
from trainer.model.gpt import GPT
from trainer.optim import named_state
from trainer.optim.lion import Lion
from trainer.spec.model import Gpt
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


KINDS = ["adamw", "adam", "sgd", "lion", "muon"]
needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="Muon comes with torch 2.9")
EVERY_KIND = [pytest.param(kind, marks=needs_muon if kind == "muon" else ()) for kind in KINDS]


@pytest.fixture
def gpt():
    """A model with an embedding, a matrix in each place, norms and biases."""
    return GPT(Gpt(layers=1, heads=2, width=8, context=4), 16)


def step(model, optimizer, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 16, (2, 4), generator=generator)
    torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def names_in(model, optimizer):
    """Which group each parameter is in: its names, rate, and decay."""
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    return [
        ([known[id(item)] for item in group["params"]], group["lr_scale"], group["weight_decay"])
        for group in optimizer.param_groups
    ]


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_only_matrices_decay(kind, gpt):
    built = optim.build(gpt, Optimizer(kind=kind, weight_decay=0.3))
    found = {name: decay for names, _, decay in names_in(gpt, built) for name in names}
    assert found == {name: 0.3 if item.ndim > 1 else 0.0 for name, item in gpt.named_parameters()}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_what_does_not_learn_is_in_no_group(kind, gpt):
    gpt.token.weight.requires_grad_(requires_grad=False)
    found = names_in(gpt, optim.build(gpt, Optimizer(kind=kind)))
    names = [name for group, _, _ in found for name in group]
    assert sorted(names) == sorted(name for name, _ in gpt.named_parameters() if name != "token.weight")


GROUPS = (
    {"match": r"head", "lr_scale": 0.1},
    {"match": r"norm\.", "lr_scale": 0.5, "weight_decay": 0.7},
    {"match": r"weight$|bias$", "lr_scale": 2.0},
)


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_the_first_group_that_matches_a_name_counts(kind, gpt):
    built = optim.build(gpt, Optimizer(kind=kind, groups=GROUPS, weight_decay=0.3))
    found = {name: (scale, decay) for names, scale, decay in names_in(gpt, built) for name in names}
    assert found["head.weight"] == (0.1, 0.3)
    assert found["norm.weight"] == found["norm.bias"] == (0.5, 0.7)  # asked for by name, so vectors decay as well
    assert found["blocks.0.perceptron_in.weight"] == (2.0, 0.3)
    assert found["blocks.0.perceptron_in.bias"] == (2.0, 0.0)
    optim.set_learning_rate(built, 0.5)
    assert {group["lr"] for group in built.param_groups} == {0.05, 0.25, 1.0}


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (
            [{"match": "haed"}],
            r"groups\.0\.match = 'haed': matches no parameter that is left; there are token.weight, ",
        ),
        ([{"match": "head"}, {"match": "head"}], r"groups\.1\.match = 'head': matches no parameter that is left"),
        ([{"match": "."}, {"match": "head"}], r"groups\.1\.match = 'head': .* there are none"),
    ],
    ids=["no-such-name", "taken-already", "nothing-left"],
)
def test_a_group_of_nothing_is_a_fault_that_names_the_parameters(kind, gpt, groups, said):
    with pytest.raises(SpecError, match=said):
        optim.build(gpt, Optimizer(kind=kind, groups=groups))


@needs_muon
def test_muon_takes_the_matrices_inside_and_leaves_the_rest_to_adamw(gpt):
    muon, adamw = optim.build(gpt, Optimizer(kind="muon")).optimizers
    assert (type(muon), type(adamw)) == (torch.optim.Muon, torch.optim.AdamW)
    assert [names for names, _, _ in names_in(gpt, muon)] == [
        [f"blocks.0.{name}.weight" for name in ("query_key_value", "attention_out", "perceptron_in", "perceptron_out")]
    ]
    assert {"token.weight", "position.weight", "head.weight"} < {
        name for names, _, _ in names_in(gpt, adamw) for name in names
    }


@needs_muon
def test_muon_without_anything_inside_is_explained():
    with pytest.raises(SpecError, match="no matrix inside; take adamw"):
        optim.build(torch.nn.Linear(3, 2), Optimizer(kind="muon"))


def test_a_torch_without_muon_is_explained(gpt, monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(SpecError, match=r"torch \S+ has none; it comes with torch 2.9"):
        optim.build(gpt, Optimizer(kind="muon"))


@given(
    gradients=st.lists(st.floats(-3, 3).filter(lambda value: abs(value) > 1e-3), min_size=1, max_size=8),
    betas=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)),
    decay=st.floats(0, 0.5),
)
def test_lion_is_the_formula_of_the_paper(gradients, betas, decay):
    weight = torch.nn.Parameter(torch.tensor([0.5], dtype=torch.float64))
    lion = Lion([{"params": [weight]}], lr=0.01, betas=betas, weight_decay=decay)
    expected, momentum = 0.5, 0.0
    for gradient in gradients:
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        lion.step()
        mixed = betas[0] * momentum + (1 - betas[0]) * gradient
        assume(abs(mixed) > 1e-9)  # a sum that nearly vanishes has the sign of its rounding
        expected -= 0.01 * (math.copysign(1, mixed) + decay * expected)
        momentum = betas[1] * momentum + (1 - betas[1]) * gradient
    assert weight.item() == pytest.approx(expected, abs=1e-9)


def test_lion_leaves_alone_what_has_no_gradient():
    moved, still = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    lion = Lion([{"params": [moved, still]}], lr=0.1, weight_decay=0.5)
    moved.grad = torch.tensor([1.0, 0.0])
    lion.step()
    assert still.tolist() == [1.0, 1.0]
    assert moved.tolist() == pytest.approx([0.85, 0.95])
    assert list(lion.state) == [moved]


def frozen_at_first(model, optimizer):
    """Two steps without the first block, two with it."""
    for number in range(4):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(number >= 2 or not name.startswith("blocks"))
        step(model, optimizer, number)


def always(model, optimizer):
    for number in range(3):
        step(model, optimizer, number)


def still_frozen(model, optimizer):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith("blocks"))
    always(model, optimizer)


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("past", [always, frozen_at_first, still_frozen], ids=lambda past: past.__name__)
def test_an_optimizer_goes_on_from_its_state_by_names(kind, past, gpt):
    options = Optimizer(kind=kind, groups=GROUPS, lr=0.01)
    optimizer = optim.build(gpt, options)
    past(gpt, optimizer)
    other = copy.deepcopy(gpt).requires_grad_(requires_grad=True)
    resumed = optim.build(other, options)
    for name, parameter in other.named_parameters():
        parameter.requires_grad_(gpt.get_parameter(name).requires_grad)
    named_state.load(other, resumed, copy.deepcopy(named_state.by_name(gpt, optimizer)))
    for number in range(7, 10):
        step(gpt, optimizer, number)
        step(other, resumed, number)
    for name, weight in gpt.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name


def by_name(model, **options):
    optimizer = optim.build(model, Optimizer(**options))
    step(model, optimizer)
    return optimizer, named_state.by_name(model, optimizer)


def test_a_state_finds_its_parameters_by_name_whatever_their_groups(gpt):
    _, saved = by_name(gpt, groups=[{"match": "head"}, {"match": "token"}])
    optimizer, _ = by_name(gpt, groups=[{"match": "token"}, {"match": "head", "lr_scale": 0.5}], weight_decay=0.9)
    named_state.load(gpt, optimizer, saved)
    for name, parameter in gpt.named_parameters():
        assert torch.equal(optimizer.state[parameter]["exp_avg"], saved["state"][name]["exp_avg"]), name
    assert {(group["lr_scale"], group["weight_decay"]) for group in optimizer.param_groups} == {
        (1.0, 0.9), (0.5, 0.9), (1.0, 0.0),
    }  # fmt: skip


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("other", EVERY_KIND)
def test_a_state_of_another_kind_of_optimizer_is_refused(kind, other, gpt):
    optimizer, _ = by_name(gpt, kind=kind)
    _, saved = by_name(gpt, kind=other)
    if kind == other or {kind, other} == {"adam", "adamw"}:
        named_state.load(gpt, optimizer, saved)
        return
    with pytest.raises(ValueError, match="another kind of optimizer"):
        named_state.load(gpt, optimizer, saved)


def test_a_state_of_another_model_is_refused(gpt):
    _, saved = by_name(gpt)
    wider = GPT(Gpt(layers=1, heads=2, width=10, context=4), 16)
    deeper = GPT(Gpt(layers=2, heads=2, width=8, context=4), 16)
    with pytest.raises(ValueError, match=r"the state of \S+ has the shape"):
        named_state.load(wider, optim.build(wider, Optimizer()), saved)
    with pytest.raises(ValueError, match=r"of other parameters: blocks\.1"):
        named_state.load(deeper, optim.build(deeper, Optimizer()), saved)


def test_a_long_list_of_names_is_cut():
    deep = GPT(Gpt(layers=2, heads=2, width=8, context=4), 16)
    with pytest.raises(SpecError, match=r"there are token\.weight, .* and 9 more$"):
        optim.build(deep, Optimizer(groups=[{"match": "haed"}]))
