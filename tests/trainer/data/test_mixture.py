import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import data, spec
from trainer.data.loader import Loader
from trainer.data.mixture import Mixture
from trainer.data.plan import Position
from trainer.data.samples import Tensors

SKEWED = (("a", 9.0), ("b", 0.1))


def options(sources=None, **train):
    document = {"train": {"steps": 9, "batch_size": 8, **train}, "model": {"kind": "mlp"}}
    return spec.build({**document, **({"data": {"kind": "mixture", "sources": sources}} if sources else {})}, where="t")


def mixed(sizes, weights):
    """Each sample is its source and its number there."""
    parts = [Tensors(torch.full((size,), source), torch.arange(size)) for source, size in enumerate(sizes)]
    return Mixture(tuple(parts), weights)


def drawn(samples, seed, epochs):
    found = [samples.batch(samples.order(seed, epoch).numbers(0, len(samples))) for epoch in range(epochs)]
    return [torch.cat(each).tolist() for each in zip(*found, strict=True)]


def file(folder, name, labels):
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps({"x": number, "t": label}) + "\n" for number, label in enumerate(labels)))
    return {"kind": "jsonl", "path": str(path), "features": ["x"], "target": "t", "val_fraction": 0.5}


@settings(deadline=None, max_examples=25)
@given(
    sizes=st.lists(st.integers(3, 300), min_size=2, max_size=4),
    weights=st.lists(st.floats(0.05, 20), min_size=4, max_size=4),
)
def test_sources_are_drawn_from_by_weight_and_gone_through_again_and_again(sizes, weights):
    weights, epochs = weights[: len(sizes)], 3
    sources, numbers = drawn(mixed(sizes, weights), 1, epochs)
    assert len(sources) == epochs * sum(sizes)
    for source, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
        mine = [number for of, number in zip(sources, numbers, strict=True) if of == source]
        expected = len(sources) * weight / sum(weights)
        assert abs(len(mine) - expected) <= 0.03 * len(sources) + 100  # the last block is under way
        counts = torch.bincount(torch.tensor(mine, dtype=torch.int64), minlength=size) if mine else torch.zeros(1)
        assert int(counts.max() - counts.min()) <= 1 + 4096 // size  # never far ahead of each other


def test_draws_are_exact_over_whole_blocks():
    sources, _ = drawn(mixed([4096, 4096], [3.0, 1.0]), 1, 2)
    assert (sources.count(0), sources.count(1)) == (3 * 4096, 4096)


def test_a_source_of_little_weight_is_seen_whole_in_the_end():
    sources, numbers = drawn(mixed([1000, 50], [1.0, 0.02]), 1, 4)
    assert {number for of, number in zip(sources, numbers, strict=True) if of == 1} == set(range(50))


def test_draws_follow_from_the_seed_and_the_place_alone():
    samples = mixed([500, 70], [1.0, 2.0])
    loader = Loader(samples, options(), Position())
    expected = [loader.next_group(step)[0] for step in range(1, 200)]
    fresh = Loader(samples, options(), Position(1, 8 * 20))
    at = -(-570 // 8) + 20
    assert torch.equal(fresh.next_group(1)[0].targets, expected[at].targets)
    assert drawn(samples, 1, 1) != drawn(samples, 2, 1)


def test_every_rank_sees_every_source():
    sources, _ = drawn(mixed([1000, 1000], [1.0, 1.0]), 1, 1)
    assert 300 < sum(sources[::2]) < 700


def test_labels_are_united_and_all_held_out_parts_examined(tmp_path):
    sources = [file(tmp_path, "a", "xyxy"), {**file(tmp_path, "b", "zyzyzy"), "weight": 3.0}]
    found = data.load(options(sources))
    assert (found.task, found.outputs, found.facts["labels"]) == ("classification", 3, ["x", "y", "z"])
    assert (len(found.train), len(found.val)) == (5, 5)
    assert [item["weight"] for item in found.facts["sources"]] == [0.25, 0.75]
    inputs, targets = found.train.batch(torch.arange(5))
    a, b = inputs[:2].flatten().long().tolist(), inputs[2:].flatten().long().tolist()
    assert targets.tolist() == ["xyz".index("xyxy"[x]) for x in a] + ["xyz".index("zyzyzy"[x]) for x in b]


def test_the_fingerprint_follows_from_all_sources_and_weights(tmp_path):
    one, two = file(tmp_path, "a", "xyxy"), file(tmp_path, "b", "xyxyxy")
    prints = [
        data.load(options(sources)).fingerprint
        for sources in ([one, two], [one, two], [two, one], [one, {**two, "weight": 2.0}], [one, one])
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


def test_one_label_in_each_source_is_fine_where_they_differ(tmp_path):
    found = data.load(options([file(tmp_path, "a", "xxx"), file(tmp_path, "b", "yyy")]))
    assert found.outputs == 2


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ([1.5, 2.5, 3.5, 4.0], "data.sources.1: its task is 'regression', that of data.sources.0 'classification'"),
        ({"kind": "digits"}, r"data.sources.1: its inputs is \(1, 8, 8\), that of data.sources.0 \(1,\)"),
        ({"kind": "csv", "path": "none.csv", "features": ["x"], "target": "t"}, "data.sources.1.path = 'none.csv'"),
    ],
    ids=["task", "shape", "missing"],
)
def test_sources_that_do_not_agree(tmp_path, other, said):
    other = other if isinstance(other, dict) else file(tmp_path, "b", other)
    with pytest.raises(spec.SpecError, match=said):
        data.load(options([file(tmp_path, "a", "xyxy"), other]))


def test_a_curriculum_over_a_mixture_never_has_an_empty_batch(tmp_path):
    sources = [{**file(tmp_path, name, "xy" * 4), "difficulty": "x", "weight": weight} for name, weight in SKEWED]
    document = {"train": {"steps": 50, "batch_size": 3}, "curriculum": {}, "model": {"kind": "mlp"}}
    chosen = spec.build({**document, "data": {"kind": "mixture", "sources": sources}}, where="test")
    loader = Loader(data.load(chosen).train, chosen, Position())
    for step in range(1, 51):
        assert all(len(part.inputs) for part in loader.next_group(step))
