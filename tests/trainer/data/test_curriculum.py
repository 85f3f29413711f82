import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import spec
from trainer.data.curriculum import changes, difficulty
from trainer.data.loader import Loader
from trainer.data.plan import Position
from trainer.spec.train import Curriculum


class Scored:
    """Samples that are their own numbers, with scores."""

    def __init__(self, scores):
        self.all = None if scores is None else torch.tensor(scores, dtype=torch.float32)
        self.count = 10 if scores is None else len(scores)

    def __len__(self):
        return self.count

    def batch(self, numbers):
        return numbers, numbers

    def scores(self):
        return self.all


def options(steps=10, accumulate=1, **curriculum):
    train = {"steps": steps, "batch_size": 4, "accumulate": accumulate}
    return spec.build({"train": train, "curriculum": curriculum}, where="test")


def epochs(scores, chosen, steps):
    """What is served in each epoch, up to the last step."""
    loader, served, all_of_them = Loader(Scored(scores), chosen, Position()), [], []
    for step in range(1, steps + 1):
        served += [number for part in loader.next_group(step) for number in part.inputs.tolist()]
        if loader.epoch_over:
            all_of_them, served = [*all_of_them, served], []
    return all_of_them


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("linear", [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]),
        ("step", [0.2, 0.2, 0.6, 0.6, 1.0, 1.0]),
        ("constant", [0.2] * 6),
        ("exponential", [0.2 + 0.8 * math.expm1(3 * done) / math.expm1(3) for done in (0, 0.25, 0.5, 0.75, 1, 1)]),
    ],
)
def test_difficulty(kind, expected):
    plan = Curriculum(kind=kind, start=0.2, steps=5, stairs=2)
    assert [difficulty(plan, step, 100) for step in range(1, 7)] == pytest.approx(expected)


def test_what_is_too_hard_is_passed_over_and_the_epoch_is_shorter():
    scores = [number / 10 for number in range(101)]  # scaled: 0.01 of each number
    found = epochs(scores, options(kind="constant", start=0.2, steps=1), 40)
    assert found
    for epoch in found:
        assert sorted(epoch) == list(range(31))  # up to 0.2 + 0.1


def test_the_epoch_is_over_with_the_last_easy_sample():
    loader = Loader(Scored([0.0] * 4 + [1.0] * 100), options(kind="constant"), Position())
    loader.next_group(1)
    assert loader.epoch_over
    assert loader.position == Position(0, 104)


@pytest.mark.parametrize("scores", [[0.5] * 9, [0.0] * 9, [-3.0] * 9, [7.0]])
def test_equal_scores_show_everything(scores):
    assert sorted(epochs(scores, options(kind="constant"), 3)[0]) == list(range(len(scores)))


def test_at_full_difficulty_everything_is_shown():
    scores = [0.1 * number for number in range(50)]
    assert sorted(epochs(scores, options(start=1.0), 13)[0]) == list(range(50))


@settings(deadline=None, max_examples=40)
@given(
    scores=st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=60),
    kind=st.sampled_from(["linear", "exponential", "step", "constant"]),
    start=st.floats(0, 1),
    stop=st.integers(0, 15),
    accumulate=st.integers(1, 3),
)
def test_a_position_goes_on_where_it_was_and_no_batch_is_empty(scores, kind, start, stop, accumulate):
    chosen = options(20, accumulate, kind=kind, start=start)
    loader, positions, served = Loader(Scored(scores), chosen, Position()), [], []
    for step in range(1, 21):
        positions.append(loader.position)
        served.append([part.inputs.tolist() for part in loader.next_group(step)])
        assert all(served[-1])
        assert served[-1]
    again = Loader(Scored(scores), chosen, positions[stop])
    assert [[part.inputs.tolist() for part in again.next_group(step)] for step in range(stop + 1, 21)] == served[stop:]


@settings(deadline=None)
@given(stairs=st.integers(1, 12), steps=st.integers(1, 60) | st.none(), total=st.integers(1, 80))
def test_changes_are_the_steps_at_which_the_difficulty_jumps(stairs, steps, total):
    plan = {"kind": "step", "stairs": stairs, **({"steps": steps} if steps else {})}
    chosen = spec.build({"train": {"steps": total}, "curriculum": plan}, where="test")
    levels = [difficulty(chosen.curriculum, step, total) for step in range(1, total + 1)]
    jumps = [step for step in range(2, total + 1) if levels[step - 1] != levels[step - 2]]
    assert changes(chosen, total) == jumps


def test_without_stairs_there_are_no_changes():
    assert changes(options(kind="linear"), 10) == []
    assert changes(spec.build({"train": {"steps": 1}}, where="test"), 10) == []


@pytest.mark.parametrize(
    ("scores", "train", "said"),
    [
        (None, {"steps": 3}, r'curriculum: .*data.difficulty = "zlib"'),
        ([1.0], {"epochs": 3}, "set train.steps in place of train.epochs"),
        ([1.0, math.nan], {"steps": 3}, "the score of sample 1 is nan"),
        ([1.0, math.inf], {"steps": 3}, "the score of sample 1 is inf"),
    ],
    ids=["no-scores", "epochs", "nan", "infinite"],
)
def test_what_no_curriculum_can_be_made_of(scores, train, said):
    chosen = spec.build({"train": train, "curriculum": {}}, where="test")
    with pytest.raises(spec.SpecError, match=said):
        Loader(Scored(scores), chosen, Position())
