import pytest
import torch

from trainer import data, spec


def test_the_text_is_the_same_every_time_and_split_by_bytes(small):
    one, two = data.load(small()), data.load(small())
    assert torch.equal(one.train.text, two.train.text)
    assert (len(one.train.text), len(one.val.text), one.fingerprint) == (3500, 500, two.fingerprint)
    assert (one.task, one.inputs, one.outputs, one.text) == ("language", (16,), 256, True)


def test_windows_share_a_byte_and_the_target_is_one_byte_later(small):
    train = data.load(small()).train
    inputs, targets = train.batch(torch.tensor([1, 0]))
    text = train.text.long()
    assert torch.equal(inputs, torch.stack([text[16:32], text[:16]]))
    assert torch.equal(targets, torch.stack([text[17:33], text[1:17]]))
    assert len(train) == 3499 // 16


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"data": {"val_bytes": 4000}}, "data.val_bytes = 4000: the text has only 4000 bytes"),
        ({"model": {"context": 5000}}, "model.context = 5000: longer than the text"),
        ({"model": {"kind": "mlp"}}, "model.kind = 'mlp': sees no text"),
    ],
    ids=["all-validation", "context-too-long", "no-context"],
)
def test_too_little_text_is_a_fault_of_the_spec(small, over, said):
    with pytest.raises(spec.SpecError, match=said):
        data.load(small(**over))


def test_another_split_is_other_data(small):
    one, two = (data.load(small(data={"val_bytes": size})) for size in (500, 400))
    assert one.fingerprint != two.fingerprint
