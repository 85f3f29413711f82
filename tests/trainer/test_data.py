import pytest
import torch

from trainer import spec
from trainer.data import Loader, Position, Text


def test_the_text_is_the_same_every_time_and_split_by_bytes(small):
    one, two = Text.load(small().data), Text.load(small().data)
    assert torch.equal(one.train, two.train)
    assert (len(one.train), len(one.val), one.fingerprint) == (3500, 500, two.fingerprint)


def test_an_epoch_visits_every_window_once_and_flushes_its_tail(small):
    text = torch.arange(16 * 21 + 1)  # 21 windows in groups of 8: 8, 8, then 5 as 4 + 1
    loader = Loader(text, small(), Position())
    groups = [loader.next_group() for _ in range(3)]
    assert [[len(batch) for batch, _ in group] for group in groups] == [[4, 4], [4, 4], [4, 1]]
    assert loader.epoch_over
    starts = sorted(int(row[0]) for group in groups for tokens, _ in group for row in tokens)
    assert starts == [16 * window for window in range(21)]
    tokens, targets = groups[0][0]
    assert torch.equal(tokens + 1, targets)


def test_the_order_follows_from_seed_and_epoch(small):
    text = torch.arange(16 * 21 + 1)

    def first(seed, epoch):
        return Loader(text, small(seed=seed), Position(epoch)).next_group()[0][0][:, 0].tolist()

    assert first(1, 0) == first(1, 0)
    assert first(1, 0) != first(1, 1)
    assert first(1, 0) != first(2, 0)


def test_a_position_in_mid_epoch_goes_on_where_it_was(small):
    text = torch.arange(16 * 21 + 1)
    whole = Loader(text, small(), Position())
    expected = [whole.next_group() for _ in range(5)]
    part = Loader(text, small(), Position(0, 8))
    for group in expected[1:]:
        for (one, _), (two, _) in zip(group, part.next_group(), strict=True):
            assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"data": {"val_bytes": 4000}}, "data.val_bytes = 4000: the text has only 4000 bytes"),
        ({"model": {"context": 5000}}, "model.context = 5000: longer than the text"),
    ],
    ids=["all-validation", "context-too-long"],
)
def test_too_little_text_is_a_fault_of_the_spec(small, over, said):
    options = small(**over)
    with pytest.raises(spec.SpecError, match=said):
        _ = Loader(Text.load(options.data).train, options, Position()).windows
