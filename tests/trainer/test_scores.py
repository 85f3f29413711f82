import math
import warnings

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("sklearn", reason="an extra")

from sklearn import metrics

from trainer import scores
from trainer.errors import SpecError


def softmax(logits):
    return torch.softmax(logits.double(), 1).numpy()


def several(score, **options):
    return lambda targets, logits: score(targets, logits.argmax(1).numpy(), **options)


def area(targets, logits):
    shares = softmax(logits)
    return metrics.roc_auc_score(targets, shares[:, 1] if shares.shape[1] == 2 else shares, multi_class="ovo")


def average_precision(targets, logits):
    shares = softmax(logits)
    if shares.shape[1] == 2:
        return metrics.average_precision_score(targets, shares[:, 1])
    return metrics.average_precision_score(torch.nn.functional.one_hot(torch.tensor(targets)).numpy(), shares)


CLASSES = {
    "precision": several(metrics.precision_score, average="macro"),
    "recall": several(metrics.recall_score, average="macro"),
    "f1": several(metrics.f1_score, average="macro"),
    "mcc": several(metrics.matthews_corrcoef),
    "balanced_accuracy": several(metrics.balanced_accuracy_score),
    "auroc": area,
    "auprc": average_precision,
    "sensitivity": several(metrics.recall_score, pos_label=1),
    "specificity": several(metrics.recall_score, pos_label=0),
}
VALUES = {
    "mae": metrics.mean_absolute_error,
    "rmse": lambda targets, values: math.sqrt(metrics.mean_squared_error(targets, values)),
    "r2": metrics.r2_score,
}


def test_every_metric_is_compared():
    assert tuple(CLASSES) == scores.CLASSIFICATION
    assert tuple(VALUES) == scores.REGRESSION


@settings(deadline=None, max_examples=30)  # the first one imports scikit-learn
@given(samples=st.integers(8, 60), classes=st.integers(2, 5), seed=st.integers(0, 2**31))
def test_a_classification_has_the_scores_of_scikit_learn(samples, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, classes, generator=generator)
    targets = torch.randint(0, classes, (samples,), generator=generator)
    assume(len(targets.unique()) == len(logits.argmax(1).unique()) == classes)
    names = tuple(name for name in scores.CLASSIFICATION if classes == 2 or name not in scores.BINARY)
    expected = {name: CLASSES[name](targets.numpy(), logits) for name in names}
    assert scores.scores(names, logits, targets) == pytest.approx(expected)


@settings(deadline=None, max_examples=30)
@given(samples=st.integers(2, 60), wide=st.integers(0, 3), seed=st.integers(0, 2**31), offset=st.sampled_from([0, 1e4]))
def test_a_regression_has_the_scores_of_scikit_learn(samples, wide, seed, offset):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randn((samples, wide) if wide else (samples,), generator=generator) + offset
    values = targets + torch.randn(targets.shape, generator=generator)
    expected = {name: score(targets.double(), values.double()) for name, score in VALUES.items()}
    found = scores.scores(scores.REGRESSION, values if wide != 1 else values.flatten(), targets)
    assert found == pytest.approx(expected)


def logits_for(guesses, classes):
    return torch.nn.functional.one_hot(torch.tensor(guesses), classes).float()


BINARY = set(scores.CLASSIFICATION)
ALL = BINARY - set(scores.BINARY)


@pytest.mark.parametrize("strict", [True, False], ids=["warnings-raise", "warnings-pass"])
@pytest.mark.parametrize(
    ("targets", "guesses", "classes", "undefined"),
    [
        ([0, 1, 0, 1], [0, 1, 1, 1], 2, set()),
        ([0, 1, 0, 1], [0, 0, 0, 0], 2, {"precision", "mcc"}),
        ([0, 0, 0], [0, 0, 0], 2, {"mcc", "balanced_accuracy", "auroc", "auprc", "sensitivity"}),
        ([0, 0, 0], [0, 1, 0], 2, {"mcc", "balanced_accuracy", "auroc", "auprc", "sensitivity"}),
        ([1, 1, 1], [1, 1, 1], 2, {"mcc", "balanced_accuracy", "auroc", "auprc", "specificity"}),
        ([0, 1, 2, 1], [0, 1, 2, 2], 3, set()),
        ([0, 1, 1], [0, 1, 1], 3, {"auroc", "auprc"}),
        ([0, 1, 1], [0, 1, 2], 3, {"auroc", "auprc"}),
        ([0, 1, 2], [0, 1, 1], 3, {"precision"}),
        ([2], [2], 3, {"mcc", "balanced_accuracy", "auroc", "auprc"}),
    ],
    ids=[
        "all-defined", "no-positives-guessed", "one-class", "one-class-guessed-as-two", "one-class-the-other",
        "three-classes", "fewer-classes-than-in-training", "guesses-of-a-class-that-does-not-occur", "a-class-given-up",
        "one-sample",
    ],
)  # fmt: skip
def test_what_is_undefined_is_absent(targets, guesses, classes, undefined, strict):
    names = tuple(sorted(BINARY if classes == 2 else ALL))
    with warnings.catch_warnings():
        if not strict:
            warnings.simplefilter("always")
        with warnings.catch_warnings(record=True) as told:
            found = scores.scores(names, logits_for(guesses, classes), torch.tensor(targets))
    assert set(names) - set(found) == undefined
    assert told == []
    assert all(math.isfinite(value) for value in found.values())


@pytest.mark.parametrize(
    ("targets", "undefined"),
    [
        ([1.0, 2.0], set()),
        ([[1.0], [2.0]], set()),
        ([3.0, 3.0], {"r2"}),
        ([[3.0], [3.0]], {"r2"}),
        ([[1.0, 3.0], [2.0, 3.0]], {"r2"}),
        ([1.0], {"r2"}),
    ],
    ids=["defined", "column", "constant", "constant-column", "one-of-two-constant", "one-sample"],
)
def test_of_constant_targets_there_is_no_r2(targets, undefined):
    found = scores.scores(scores.REGRESSION, torch.zeros_like(torch.tensor(targets)), torch.tensor(targets))
    assert set(scores.REGRESSION) - set(found) == undefined


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_no_numbers_make_every_score_nan(bad):
    found = scores.scores(("f1", "auroc"), torch.tensor([[0.0, bad], [1.0, 0.0]]), torch.tensor([0, 1]))
    assert found.keys() == {"f1", "auroc"}
    assert all(math.isnan(value) for value in found.values())


@pytest.mark.parametrize(
    ("names", "task", "outputs"),
    [
        ((), "language", 256),
        (scores.CLASSIFICATION, "classification", 2),
        (("f1",), "classification", 7),
        (("sensitivity",), "classification", 0),
        (scores.REGRESSION, "regression", 1),
    ],
    ids=["none", "two-classes", "seven", "only-the-user-knows", "regression"],
)
def test_scores_that_can_be_had_are_taken(names, task, outputs):
    scores.check(names, task, outputs)


@pytest.mark.parametrize(
    ("names", "task", "outputs", "said"),
    [
        (("f1",), "language", 256, "'f1' is none of language, which has no more"),
        (("f1",), "my.own:task", 0, "'f1' is none of my.own:task, which has no more"),
        (("r2",), "classification", 2, "'r2' is none of classification, which has precision, recall"),
        (("mae", "mcc"), "regression", 1, "'mcc' is none of regression, which has mae, rmse, r2"),
        (("specificity",), "classification", 3, "'specificity' is of two classes, and there are 3; take recall"),
    ],
    ids=["language", "own", "values-of-classes", "classes-of-values", "three-classes"],
)
def test_scores_of_another_task_are_refused(names, task, outputs, said):
    with pytest.raises(SpecError, match=said):
        scores.check(names, task, outputs)


def test_without_scikit_learn_it_is_said_where_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(SpecError, match="pip install 'training-checker"):
        scores.check(("f1",), "classification", 3)
