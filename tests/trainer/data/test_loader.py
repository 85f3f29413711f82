import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import spec
from trainer.data.loader import Loader
from trainer.data.plan import Position
from trainer.data.samples import Tensors

BASE = {"train": {"steps": 12, "batch_size": 4, "accumulate": 2}}


def options(**over):
    return spec.build(spec.laid_over(BASE, over), where="test")


def numbered(count):
    return Tensors(torch.arange(count), torch.arange(count) * 10)


def served(loader, steps):
    return [[(part.inputs.tolist(), part.share) for part in loader.next_group(step)] for step in steps]


def test_an_epoch_visits_every_sample_once_and_flushes_its_tail():
    loader = Loader(numbered(21), options(), Position())
    groups = [loader.next_group(step) for step in (1, 2, 3)]
    assert [[len(part.inputs) for part in group] for group in groups] == [[4, 4], [4, 4], [4, 1]]
    assert [part.share for part in groups[-1]] == [4 / 5, 1 / 5]
    assert (loader.epoch_over, loader.groups_per_epoch) == (True, 3)
    assert sorted(number for group in groups for part in group for number in part.inputs.tolist()) == list(range(21))
    assert all(torch.equal(part.inputs * 10, part.targets) for group in groups for part in group)
    assert loader.position == Position(0, 21)
    loader.next_group(4)
    assert loader.position == Position(1, 8)


def test_the_order_follows_from_seed_and_epoch():
    def first(seed, epoch):
        return served(Loader(numbered(1000), options(seed=seed), Position(epoch)), [1])

    assert first(1, 0) == first(1, 0)
    assert first(1, 0) != first(1, 1)
    assert first(1, 0) != first(2, 0)


@settings(deadline=None)
@given(
    count=st.integers(1, 60),
    batch=st.integers(1, 9),
    accumulate=st.integers(1, 4),
    world=st.integers(1, 5),
)
def test_ranks_share_each_micro_batch_whatever_the_sizes(count, batch, accumulate, world):
    chosen = options(train={"batch_size": batch, "accumulate": accumulate})
    alone = Loader(numbered(count), chosen, Position())
    ranks = [Loader(numbered(count), chosen, Position(), rank=rank, world=world) for rank in range(world)]
    for step in range(1, 8):
        whole = alone.next_group(step)
        parts = [rank.next_group(step) for rank in ranks]
        assert {len(group) for group in parts} == {len(whole)}
        assert sum(part.share for group in parts for part in group) == pytest.approx(1)
        for number, micro in enumerate(whole):
            together = [group[number] for group in parts]
            counted = [number for part in together if part.share for number in part.inputs.tolist()]
            assert sorted(counted) == sorted(micro.inputs.tolist())
            assert all(len(part.inputs) == 1 for part in together if not part.share)
        assert all(rank.position == alone.position for rank in ranks)


@settings(deadline=None)
@given(count=st.integers(1, 50), stop=st.integers(0, 20), accumulate=st.integers(1, 3))
def test_a_position_goes_on_where_it_was(count, stop, accumulate):
    chosen = options(train={"accumulate": accumulate})
    whole = Loader(numbered(count), chosen, Position())
    served(whole, range(1, stop + 1))
    again = Loader(numbered(count), chosen, Position(whole.position.epoch, whole.position.index))
    assert served(again, range(stop + 1, stop + 8)) == served(whole, range(stop + 1, stop + 8))
