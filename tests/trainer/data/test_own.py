import sys

import pytest
import torch

from trainer import data, spec
from trainer.run import Run

CODE = """
import torch
class Squares:
    def __init__(self, first, count): self.first, self.count = first, count
    def __len__(self): return self.count
    def __getitem__(self, number):
        if number >= self.count: raise IndexError(number)
        x = torch.tensor([float(self.first + number)])
        return x, x * x
class Scored(Squares):
    def scores(self): return torch.arange(self.count)
class Noise(Squares):
    def __getitem__(self, number): return torch.randn(2), 1
class Ragged(Squares):
    def __getitem__(self, number): return torch.zeros(number + 1), torch.zeros(1)
class Lonely(Squares):
    def __getitem__(self, number): return torch.zeros(1)
class Broken(Squares):
    def __getitem__(self, number):
        if number == 3: raise RuntimeError("cut off")
        return super().__getitem__(number)
def load(kind="Squares", first=0, count=10): return globals()[kind](first, count), Squares(100, 4)
class Tokens(Squares):
    def __getitem__(self, number): return torch.arange(8) % 5, torch.arange(1, 9) % 5
def words(): return Tokens(0, 6), Tokens(0, 3)
def alone(): return [1]
def broken(): raise KeyError("no such file")
"""


@pytest.fixture(autouse=True)
def my_data(tmp_path, monkeypatch):
    (tmp_path / "my_data.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_data", None)


def own(name="load", workers=0, **keys):
    document = {"data": {"kind": f"my_data:{name}", "options": keys}, "train": {"steps": 1}}
    return data.load(spec.build({**document, "loading": {"workers": workers}}, where="test"))


def test_what_is_returned_is_served():
    found = own(first=3)
    assert (len(found.train), len(found.val), found.task, found.inputs, found.outputs) == (10, 4, "", (1,), 0)
    inputs, targets = found.train.batch(torch.tensor([2, 0]))
    assert (inputs.tolist(), targets.tolist()) == ([[5], [3]], [[25], [9]])
    assert found.train.scores() is None


@pytest.mark.parametrize(
    ("name", "task", "model", "outputs"),
    [
        ("load", "regression", {"kind": "mlp", "width": 4}, 1),
        ("words", "language", {"kind": "gpt", "layers": 1, "heads": 1, "width": 4, "context": 8}, 5),
    ],
    ids=["numbers", "tokens"],
)
def test_a_built_in_model_learns_from_it_once_it_is_told_the_outputs(name, task, model, outputs):
    document = {"data": {"kind": f"my_data:{name}", "outputs": outputs}, "train": {"steps": 1, "batch_size": 2}}
    run = Run(spec.build({**document, "task": task, "model": model}, where="test"))
    assert run.backward(run.loader.next_group(1), 1).isfinite()
    assert run.model.head.out_features == outputs


def test_its_own_scores_count():
    assert own(kind="Scored").train.scores().tolist() == list(range(10))


def test_the_fingerprint_follows_from_content_and_options():
    prints = [own().fingerprint, own().fingerprint, own(first=1).fingerprint, own(count=11).fingerprint]
    assert [one == prints[0] for one in prints] == [True, True, False, False]


def test_random_samples_have_one_fingerprint_and_leave_the_random_numbers_alone():
    before = torch.get_rng_state()
    assert own(kind="Noise").fingerprint == own(kind="Noise").fingerprint
    assert torch.equal(before, torch.get_rng_state())
    inputs, targets = own(kind="Noise").train.batch(torch.tensor([0, 1, 2]))
    assert (inputs.shape, targets.tolist()) == ((3, 2), [1, 1, 1])


@pytest.mark.parametrize(
    ("name", "keys", "said"),
    [
        ("load", {"kind": "Lonely"}, r"train\[0\] is Tensor .*not a pair of tensors"),
        ("load", {"kind": "Broken"}, r"train\[3\]: .*my_data.py:\d+: RuntimeError: cut off"),
        ("load", {"count": 0}, "train has no samples"),
        ("load", {"size": 3}, "TypeError: load.. got an unexpected keyword argument 'size'"),
        ("alone", {}, "returned list .*not a pair"),
        ("broken", {}, r"my_data.py:\d+: KeyError: 'no such file'"),
        ("lode", {}, "did you mean load?"),
    ],
    ids=["no-pair", "broken-sample", "empty", "options", "no-split", "fails", "no-such-name"],
)
def test_what_cannot_be_learned_from(name, keys, said):
    with pytest.raises(spec.SpecError, match=said) as told:
        own(name, **keys)
    assert f"my_data:{name}" in str(told.value)


def test_samples_of_different_shapes_make_no_batch():
    with pytest.raises(RuntimeError, match=r"train: samples \[0, 1\] do not make a batch"):
        own(kind="Ragged").train.batch(torch.tensor([0, 1]))


def test_a_sample_that_breaks_later_is_named():
    train = own().train
    train.items.count = 1
    with pytest.raises(IndexError) as told:
        train.batch(torch.tensor([0, 7]))
    assert told.value.__notes__ == ["while train[7] was read"]
