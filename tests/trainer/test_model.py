from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from trainer import data as sources
from trainer import model, spec
from trainer.data import Data
from trainer.data.samples import Tensors
from trainer.run import Run

TEXT = Data(Tensors(torch.zeros(8, 4), torch.zeros(8)), None, "language", (4,), 16, "f", {}, text=True)
IMAGES = replace(TEXT, task="classification", inputs=(1, 5, 3), outputs=7, text=False)
ROWS = replace(IMAGES, task="regression", inputs=(6,), outputs=1)
OWN = replace(IMAGES, task="", outputs=0)

OWN_CODE = """
from types import SimpleNamespace

import torch
from torch import nn

number = 3


class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.inside = nn.Linear(6, width)
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.inside(x))


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = nn.LazyLinear(3)


class Half(Net):
    def __init__(self):
        super().__init__()
        self.inside.requires_grad_(False)


class Fixed(Net):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)


def broken():
    raise RuntimeError("no weights\\nat home")


def nothing():
    return "a model"
"""

LORA = {"rank": 2, "dropout": 0.5}


@pytest.fixture
def own_code(tmp_path, monkeypatch):
    (tmp_path / "own_models_of_test.py").write_text(OWN_CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return "own_models_of_test:"


def options_of(**model_table):
    return spec.build({"model": model_table, "train": {"steps": 1}}, where="test")


@pytest.mark.parametrize(
    ("table", "data", "inputs", "shape"),
    [
        ({"context": 4, "width": 8}, TEXT, torch.zeros(2, 4).long(), (2, 4, 16)),
        ({"context": 4, "width": 8}, TEXT, torch.zeros(2, 3).long(), (2, 3, 16)),
        ({"kind": "mlp", "layers": 3, "width": 5}, IMAGES, torch.zeros(2, 1, 5, 3), (2, 7)),
        ({"kind": "mlp"}, ROWS, torch.zeros(2, 6), (2, 1)),
        ({"kind": "cnn", "channels": [2]}, IMAGES, torch.zeros(2, 1, 5, 3), (2, 7)),
        ({"kind": "cnn", "channels": [2, 3, 4, 5]}, IMAGES, torch.zeros(2, 1, 5, 3), (2, 7)),
    ],
    ids=["gpt", "gpt-short", "mlp-of-images", "mlp-of-rows", "cnn", "cnn-deeper-than-its-image"],
)
def test_a_model_answers_in_the_shape_of_its_data(table, data, inputs, shape):
    built = model.build(options_of(**table), data)
    assert built(inputs).shape == shape


@pytest.mark.parametrize(
    ("table", "data", "said"),
    [
        ({}, ROWS, r"'gpt': learns from text, and data.kind gives numbers \(6\)"),
        ({"kind": "mlp"}, TEXT, "'mlp': learns from numbers, and data.kind gives text"),
        ({"kind": "cnn"}, TEXT, "'cnn': learns from numbers, and data.kind gives text"),
        ({"kind": "cnn"}, ROWS, r"channels x height x width; the data gives numbers \(6\)"),
        ({"kind": "mlp"}, OWN, "'mlp': your own data does not say how many"),
        ({"kind": "cnn"}, OWN, "'cnn': your own data does not say how many"),
    ],
    ids=["gpt-rows", "mlp-text", "cnn-text", "cnn-rows", "mlp-own", "cnn-own"],
)
def test_a_model_that_cannot_learn_from_the_data_is_a_fault_of_the_spec(table, data, said):
    with pytest.raises(spec.SpecError, match=said):
        model.build(options_of(**table), data)


def test_a_model_of_ones_own_gets_its_options(own_code):
    built = model.build(options_of(kind=f"{own_code}Net", options={"width": 9}), ROWS)
    assert built.inside.out_features == 9


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"kind": "Net", "options": {"wide": 9}}, r"\{'wide': 9\}: .*TypeError: .*unexpected keyword argument 'wide'"),
        ({"kind": "nothing"}, "gives str, not a torch.nn.Module"),
        ({"kind": "broken"}, r"own_models_of_test\.py:39: RuntimeError: no weights at home$"),
        ({"kind": "number"}, "is of type int, and cannot be called"),
        ({"kind": "Nett"}, "there is no 'Nett' in .*; did you mean Net"),
        ({"kind": "Lazy"}, "inside.weight has no shape yet; call a lazy layer once in __init__"),
    ],
    ids=["wrong-options", "no-module", "raises", "no-function", "no-such-name", "lazy"],
)
def test_what_is_wrong_with_a_model_of_ones_own_is_said(own_code, table, said):
    with pytest.raises(spec.SpecError, match=said):
        model.build(options_of(**table | {"kind": own_code + table["kind"]}), ROWS)


@pytest.mark.parametrize(
    ("kind", "trainable", "learning"),
    [
        ("Net", (), ["inside.weight", "inside.bias", "head.weight", "head.bias"]),
        ("Half", (), ["head.weight", "head.bias"]),
        ("Half", ("inside",), ["inside.weight", "inside.bias"]),
        ("Fixed", ("bias",), ["inside.bias", "head.bias"]),
    ],
    ids=["nothing-frozen", "a-frozen-part", "named-all-the-same", "all-frozen-but-named"],
)
def test_what_a_model_of_ones_own_has_frozen_stays_so_unless_it_is_named(own_code, kind, trainable, learning):
    built = model.build(options_of(kind=own_code + kind), ROWS)
    for _ in range(2):  # each leg sets it anew
        model.freeze(built, None, trainable)
        assert [name for name, weight in built.named_parameters() if weight.requires_grad] == learning


def test_a_model_of_ones_own_that_has_frozen_itself_is_told(own_code):
    built = model.build(options_of(kind=f"{own_code}Fixed"), ROWS)
    with pytest.raises(spec.SpecError, match=r"requires_grad = False; name those to train in train\.trainable"):
        model.freeze(built, None, ())


class Answers(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, inputs):
        return self.answer(inputs)


class WithTargets(nn.Module):
    def forward(self, inputs, targets=None):
        return {"logits": inputs, "loss": targets.sum()}


@pytest.mark.parametrize(
    ("network", "loss"),
    [
        (Answers(lambda x: x), None),
        (Answers(lambda x: {"logits": x}), None),
        (Answers(lambda x: {"logits": x, "loss": x.sum()}), 6.0),
        (Answers(lambda x: SimpleNamespace(logits=x)), None),
        (Answers(lambda x: SimpleNamespace(logits=x, loss=x.sum())), 6.0),
        (Answers(lambda x: SimpleNamespace(logits=x, loss=None)), None),
        (WithTargets(), 12.0),
    ],
    ids=["tensor", "mapping", "mapping-loss", "object", "object-loss", "object-no-loss", "with-targets"],
)
def test_a_model_may_answer_in_several_ways(network, loss):
    logits, own = model.asked(network)(network, torch.ones(2, 3), torch.full((2, 3), 2.0))
    assert torch.equal(logits, torch.ones(2, 3))
    assert (None if own is None else own.item()) == loss


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x: (x, x), "gives a tuple without logits"),
        (lambda x: {"loss": x.sum()}, "gives a dict without logits"),
        (lambda _: SimpleNamespace(logits=[1.0]), "without logits that are a tensor"),
        (lambda _: None, "gives a NoneType without logits"),
    ],
    ids=["tuple", "loss-alone", "list", "none"],
)
def test_an_answer_without_logits_is_explained(answer, said):
    network = Answers(answer)
    with pytest.raises(spec.SpecError, match=said):
        model.asked(network)(network, torch.ones(2, 3), torch.ones(2))


def test_exactly_what_matches_is_trained():
    built = model.build(options_of(context=4, width=8), TEXT)
    model.freeze(built, None, (r"head", r"^norm\."))
    learning = {name for name, parameter in built.named_parameters() if parameter.requires_grad}
    assert learning == {"head.weight", "norm.weight", "norm.bias"}
    model.freeze(built, None, ())
    assert all(parameter.requires_grad for parameter in built.parameters())
    with pytest.raises(spec.SpecError, match=r"trainable = haed: leaves nothing to train; there are token\.weight, "):
        model.freeze(built, None, ("haed",))
    assert all(parameter.requires_grad for parameter in built.parameters())
    with pytest.raises(spec.SpecError, match="model: has no parameters"):
        model.freeze(nn.Identity(), None, ())


def test_a_lora_can_be_trained_in_part_alone(small):
    options = small(lora=LORA, train={"trainable": ["query"]})
    learning = {name for name, item in Run(options).model.named_parameters() if item.requires_grad}
    assert learning == {f"blocks.0.query_key_value.lora_{part}" for part in ("down", "up")}
    with pytest.raises(spec.SpecError, match=r"trainable = token: leaves nothing to train; there are blocks\.\S+lora_"):
        Run(small(lora=LORA, train={"trainable": ["token"]}))


# -------------------------------------------------------------------------------------------------------------- LoRA


@pytest.mark.parametrize("targets", [["."], ["query"], ["head"]], ids=["all", "attention", "head"])
def test_a_lora_answers_at_first_exactly_as_its_base(small, targets):
    plain = small(model={"dropout": 0.0})
    data = sources.load(plain)
    built = []
    for options in (plain, small(model={"dropout": 0.0}, lora={**LORA, "targets": targets})):
        torch.manual_seed(5)
        built.append(model.build(options, data))
    base, adapted = built
    inputs = torch.randint(0, 256, (3, 16))
    assert torch.equal(base(inputs), adapted(inputs))
    names = set(adapted.state_dict()) - set(base.state_dict())
    assert set(base.state_dict()) < set(adapted.state_dict())
    assert {name.rpartition(".")[2] for name in names} == {"lora_down", "lora_up"}


@pytest.mark.parametrize("kind", ["adamw", "lion"])
def test_only_the_updates_of_a_lora_learn(small, kind):
    run = Run(small(lora=LORA, optimizer={"kind": kind, "weight_decay": 0.5}))
    before = {name: weight.clone() for name, weight in run.model.state_dict().items()}
    run.log = SimpleNamespace(step=lambda *_, **__: None)
    for _ in range(3):
        run.advance()
    moved = {name for name, weight in run.model.state_dict().items() if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if "lora_" in name}
    learning = {id(item) for group in run.optimizer.param_groups for item in group["params"]}
    assert learning == {id(item) for name, item in run.model.named_parameters() if "lora_" in name}


def test_a_lora_has_the_number_format_of_its_base():
    base = nn.Sequential(nn.Linear(3, 2, dtype=torch.float64))
    model.adapt(base, spec.build({"lora": {}, "train": {"steps": 1}}, where="").lora)
    assert base(torch.ones(1, 3, dtype=torch.float64)).dtype == torch.float64
    assert base[0].lora_up.dtype == torch.float64


@pytest.mark.parametrize("network", [nn.Sequential(nn.Conv2d(1, 1, 1)), nn.Linear(2, 2)], ids=["conv", "bare"])
def test_a_lora_of_nothing_is_explained(network):
    lora = spec.build({"lora": {"targets": [".*"]}, "train": {"steps": 1}}, where="").lora
    with pytest.raises(spec.SpecError, match=r"lora\.targets = \.\*: match no linear layer; there are none"):
        model.adapt(network, lora)
