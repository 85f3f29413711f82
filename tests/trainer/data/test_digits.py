import sys

import pytest
import torch

from trainer import data, spec


def digits(**over):
    return data.load(spec.build({"data": {"kind": "digits", **over}, "train": {"steps": 1}}, where="test"))


def test_images_from_0_to_1_in_ten_classes():
    found = digits()
    assert (len(found.train), len(found.val)) == (1438, 359)
    assert (found.task, found.inputs, found.outputs, found.text) == ("classification", (1, 8, 8), 10, False)
    inputs, targets = found.train.batch(torch.arange(1438))
    assert (inputs.shape, inputs.dtype) == ((1438, 1, 8, 8), torch.float32)
    assert (inputs.min(), inputs.max()) == (0, 1)
    assert (targets.dtype, targets.unique().tolist()) == (torch.int64, list(range(10)))


def test_the_split_follows_from_its_own_seed():
    one, two, other = digits(), digits(), digits(split_seed=1)
    assert one.fingerprint == two.fingerprint != other.fingerprint
    assert torch.equal(one.val.inputs, two.val.inputs)
    assert not torch.equal(one.val.inputs, other.val.inputs)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(spec.SpecError, match=r"training-checker\[classical\]"):
        digits()
