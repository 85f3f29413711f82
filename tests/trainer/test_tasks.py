import math
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import data as sources
from trainer import named, spec, tasks
from trainer.data import IGNORED, Loader, Position
from trainer.run import Run

OPTIONS = spec.build({"train": {"steps": 1}}, where="test")


@pytest.fixture(scope="module")
def text():
    return sources.load(OPTIONS)


def task_of(name, data, *, padded=False, own=False, outputs=0):
    options = OPTIONS.model_copy(update={"task": name})
    return tasks.build(options, replace(data, task="" if own else name, padded=padded, outputs=outputs))


def batch(name, samples, generator):
    if name == "language":
        logits = torch.randn(samples, 5, 11, generator=generator)
        return logits, torch.randint(0, 11, (samples, 5), generator=generator)
    if name == "classification":
        return torch.randn(samples, 4, generator=generator), torch.randint(0, 4, (samples,), generator=generator)
    return torch.randn(samples, 1, generator=generator), torch.randn(samples, 1, generator=generator)


def pad(targets, generator):
    """Each sample but for its first token gets a random end of padding."""
    ends = torch.randint(1, targets.shape[1] + 1, (len(targets), 1), generator=generator)
    return targets.masked_fill(torch.arange(targets.shape[1]) >= ends, IGNORED)


@pytest.mark.parametrize("name", ["language", "classification", "regression"])
@settings(deadline=None)
@given(samples=st.integers(1, 9), seed=st.integers(0, 2**31), padded=st.booleans(), own=st.booleans())
def test_the_mean_is_that_of_the_losses_and_of_any_micro_batches(text, name, samples, seed, padded, own):
    generator = torch.Generator().manual_seed(seed)
    padded = padded and name == "language"
    task = task_of(name, text, padded=padded, own=own)
    logits, targets = batch(name, samples, generator)
    targets = pad(targets, generator) if padded else targets
    losses = task.losses(logits, targets)
    assert losses.shape == (samples,)
    torch.testing.assert_close(task.mean(logits, targets), losses.mean())
    cut = max(1, samples // 3)
    parts = zip(logits.split(cut), targets.split(cut), strict=True)
    shared = sum(task.mean(one, two) * (len(one) / samples) for one, two in parts)
    torch.testing.assert_close(shared, losses.mean())


@pytest.mark.parametrize(
    ("name", "outputs", "said"),
    [
        ("classification", 4, None),
        ("classification", 3, None),
        ("classification", 0, None),
        ("regression", 9, None),
        ("classification", 5, "model.kind: gives 4 logits; the data has 5 classes"),
        ("language", 256, "model.kind: gives 11 logits; the data has 256 classes"),
    ],
    ids=["as-many", "more", "own-data", "regression", "too-few", "too-few-bytes"],
)
def test_a_model_has_a_logit_for_each_class(text, name, outputs, said):
    task = task_of(name, text, outputs=outputs)
    for score in (task.mean, task.losses):
        with nullcontext() if said is None else pytest.raises(spec.SpecError, match=said):
            score(*batch(name, 3, torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("own", [False, True], ids=["documents", "own-data"])
def test_padding_is_counted_nowhere(text, own):
    generator = torch.Generator().manual_seed(3)
    task = task_of("language", text, padded=not own, own=own)
    logits, whole = batch("language", 4, generator)
    targets = pad(whole, generator)
    real = targets != IGNORED
    each = torch.nn.functional.cross_entropy(logits[real], whole[real], reduction="none")
    expected = [part.mean() for part in each.split(real.sum(1).tolist())]
    torch.testing.assert_close(task.losses(logits, targets), torch.stack(expected))
    sums = {name: value.item() for name, value in task.sums(logits, targets).items()}
    found = task.metrics(sums | {"samples": 4.0})
    assert found["bits_per_byte"] == pytest.approx(each.mean().item() / math.log(2), rel=1e-5)
    assert found["accuracy"] == pytest.approx((logits.argmax(2) == whole)[real].float().mean().item())
    garbled = torch.where(real[..., None], logits, torch.full_like(logits, 1e4))
    torch.testing.assert_close(task.losses(garbled, targets), task.losses(logits, targets))


def test_a_sample_of_nothing_but_padding_spoils_no_number(text):
    task = task_of("language", text, own=True)
    logits, targets = torch.randn(2, 3, 5), torch.full((2, 3), IGNORED)
    assert task.losses(logits, targets).tolist() == [0.0, 0.0]
    sums = {name: value.item() for name, value in task.sums(logits, targets).items()}
    assert task.metrics(sums | {"samples": 2.0}) == {}


def test_padded_documents_give_the_same_gradient_in_one_batch_or_in_many(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lines = ['{"body": "%s"}' % ("abcdefghijkl" * 3)[: 2 + 3 * number] for number in range(9)]  # noqa: UP031 - braces
    (tmp_path / "documents.jsonl").write_text("\n".join(lines))
    found = []
    for size, accumulate in ((8, 1), (3, 3), (2, 4)):
        run = Run(
            spec.build(
                {
                    "model": {"layers": 1, "heads": 1, "width": 8, "context": 24},
                    "data": {
                        "kind": "jsonl",
                        "path": str(tmp_path / "documents.jsonl"),
                        "text": "body",
                        "val_fraction": 0.12,
                    },
                    "train": {"steps": 2, "batch_size": size, "accumulate": accumulate},
                },
                where="test",
            )
        )
        loss = run.backward(Loader(run.leg.data.train, run.leg.options, Position()).next_group(1), 1)
        found.append((loss, [parameter.grad for parameter in run.model.parameters()]))
    for loss, gradients in found[1:]:
        torch.testing.assert_close(loss, found[0][0])
        for one, other in zip(gradients, found[0][1], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("values", "targets"),
    [
        (torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [4.0]])),
        (torch.tensor([1.0, 2.0]), torch.tensor([[0.0], [4.0]])),
        (torch.tensor([[1.0], [2.0]]), torch.tensor([0, 4])),
        (torch.tensor([[1.0], [2.0]]), torch.tensor([0.0, 4.0], dtype=torch.float64)),
        (torch.tensor([[1.0, 1.0], [2.0, 2.0]]), torch.tensor([[0.0, 2.0], [4.0, 0.0]])),
    ],
    ids=["column", "flat-values", "whole-numbers", "double", "two-values"],
)
def test_a_regression_answers_its_targets_whatever_their_shape(text, values, targets):
    task = task_of("regression", text)
    assert task.losses(values, targets).tolist() == [1.0, 4.0]
    values = values.requires_grad_()
    mean = task.mean(values, targets)
    mean.backward()
    assert (mean.item(), values.grad.dtype) == (2.5, torch.float32)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("name", ["language", "classification"])
def test_classes_may_be_any_whole_numbers(text, name, kind):
    task = task_of(name, text, own=True)
    logits, targets = batch(name, 3, torch.Generator().manual_seed(1))
    torch.testing.assert_close(task.mean(logits, targets.to(kind)), task.mean(logits, targets))
    assert task.sums(logits, targets.to(kind))["right"] == task.sums(logits, targets)["right"]


@pytest.mark.parametrize(
    ("name", "logits", "targets", "said"),
    [
        ("language", (2, 5), (2, 5), r"gives \(2, 5\) for targets of \(2, 5\), int64; wanted are \[samples, tok"),
        ("classification", (2, 3, 4), (2, 4), r"wanted are \[samples, classes\] and whole numbers \[samples\]"),
        ("classification", (3, 4), (2,), r"gives \(3, 4\) for targets of \(2,\)"),
        ("regression", (2, 2), (2, 1), "wanted are as many values as targets"),
    ],
    ids=["no-vocabulary", "dense", "other-samples", "too-many-values"],
)
def test_logits_that_do_not_fit_the_targets_are_explained(text, name, logits, targets, said):
    task = task_of(name, text, own=True)
    with pytest.raises(spec.SpecError, match=said):
        task.losses(torch.zeros(logits), torch.zeros(targets).long())


@pytest.mark.parametrize("name", ["language", "classification"])
def test_classes_that_are_no_whole_numbers_are_explained(text, name):
    task = task_of(name, text, own=True)
    logits, targets = batch(name, 2, torch.Generator().manual_seed(1))
    with pytest.raises(spec.SpecError, match=r"float32; wanted are .* and whole numbers"):
        task.mean(logits, targets.float())


def test_own_data_must_say_its_task(text):
    with pytest.raises(spec.SpecError, match="your own data does not say"):
        tasks.build(OPTIONS, replace(text, task=""))
    with pytest.raises(spec.SpecError, match="task = 'regression': the data is made for language"):
        tasks.build(OPTIONS.model_copy(update={"task": "regression"}), text)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda logits, targets: (logits[:, 0] - targets).abs(), None),
        (
            lambda logits, targets: (logits[:, 0] - targets).abs().mean(),
            r"a tensor of shape \(\); wanted is a loss for",
        ),
        (lambda _, targets: targets[:1].float(), r"a tensor of shape \(1,\); wanted is a loss for each of the 2"),
        (lambda *_: 0.5, "gives float; wanted is a loss for each"),
    ],
    ids=["per-sample", "mean", "too-few", "number"],
)
def test_a_task_of_ones_own_gives_a_loss_for_each_sample(text, monkeypatch, function, said):
    monkeypatch.setattr(tasks, "load", lambda _name, _where: function)
    task = tasks.build(OPTIONS.model_copy(update={"task": "own:losses"}), text)
    logits, targets = torch.tensor([[1.0], [2.0]]), torch.tensor([0.0, 5.0])
    if said is not None:
        with pytest.raises(spec.SpecError, match=said):
            task.mean(logits, targets)
        return
    assert task.losses(logits, targets).tolist() == [1.0, 3.0]
    assert task.mean(logits, targets).item() == 2.0
    assert (task.metrics({"samples": 2.0}), task.names) == ({}, ())


def test_a_task_of_ones_own_is_found_by_its_name(text):
    task = tasks.build(OPTIONS.model_copy(update={"task": "torch.nn.functional:l1_loss"}), text)
    assert task.name == "torch.nn.functional:l1_loss"
    assert named.load(task.name, "task") is torch.nn.functional.l1_loss
