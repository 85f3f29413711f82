"""Metrics of scikit-learn (an extra), by the names that a spec may give them. What is undefined is left out.

Undefined is the share of right ones among none, an AUROC where one class is missing, the R² of constant targets. Such
a number is no 0, and a row without it says so.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainer.errors import SpecError
from trainer.stages import Leg
from trainer.tasks import Task

Score = Callable[[Any, Any], float]
"""Of targets [samples] and logits [samples, outputs], as numpy arrays."""

CLASSIFICATION = (
    "precision", "recall", "f1", "mcc", "balanced_accuracy", "auroc", "auprc", "sensitivity", "specificity",
)  # fmt: skip
REGRESSION = ("mae", "rmse", "r2")
BINARY = ("sensitivity", "specificity")


def check(names: tuple[str, ...], task: str, outputs: int) -> None:
    """Whether these metrics can be had for this task.

    Raises:
        SpecError: they are another task's, or scikit-learn is not installed.
    """
    fit = {"classification": CLASSIFICATION, "regression": REGRESSION}.get(task, ())
    for name in names:
        if name not in fit:
            raise SpecError(f"evaluate.metrics: {name!r} is none of {task}, which has {', '.join(fit) or 'no more'}")
        if name in BINARY and outputs not in (0, 2):  # 0: only whoever wrote the data knows
            raise SpecError(f"evaluate.metrics: {name!r} is of two classes, and there are {outputs}; take recall")
    if names and importlib.util.find_spec("sklearn") is None:
        raise SpecError("evaluate.metrics: take scikit-learn: pip install 'training-checker[classical]'")


def check_spec(task: Task, legs: Sequence[Leg]) -> None:
    """Whether the metric that counts, and those asked for in each leg, can be had.

    Raises:
        SpecError: they cannot.
    """
    for leg in legs:
        check(leg.options.evaluate.metrics, task.name, leg.data.outputs)
    options = legs[0].options
    known = ["val_loss", *(f"val_{name}" for name in (*task.names, *options.evaluate.metrics))]
    if options.metric.name not in known and not options.callbacks.evaluation:
        what = f"a {task.name} task gives {', '.join(known)}; more by evaluate.metrics"
        raise SpecError(f"metric.name = {options.metric.name!r}: {what}")


def scores(names: tuple[str, ...], logits: Tensor, targets: Tensor) -> dict[str, float]:
    """The metrics that are defined; NaN where the logits hold one.

    Args:
        names: as a spec names them.
        logits: [samples, outputs] of a classification, or the values of a regression.
        targets: [samples], of a regression also [samples, values].
    """
    if not bool(logits.isfinite().all()):
        return dict.fromkeys(names, math.nan)
    found: dict[str, float] = {}
    for name in names:
        value = _value(name, targets.double().numpy() if name in REGRESSION else targets.numpy(), logits.double())
        if not math.isnan(value):
            found[name] = value
    return found


def _value(name: str, targets: Any, logits: Tensor) -> float:
    from sklearn.exceptions import UndefinedMetricWarning  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra, and seconds

    with warnings.catch_warnings():
        warnings.simplefilter("error", UndefinedMetricWarning)
        warnings.filterwarnings("error", message=".*(single label|[Oo]nly one class|constant).*")
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        try:
            return float(_scorers()[name](targets, logits))
        except (UndefinedMetricWarning, UserWarning, ValueError):
            return math.nan


def _scorers() -> Mapping[str, Callable[[Any, Tensor], float]]:
    from sklearn import metrics  # type: ignore[import-untyped]  # noqa: PLC0415 - as above

    def guessed(score: Callable[..., float], **options: Any) -> Callable[[Any, Tensor], float]:
        return lambda targets, logits: score(targets, logits.argmax(1).numpy(), **options)

    def valued(score: Callable[..., float]) -> Callable[[Any, Tensor], float]:
        return lambda targets, values: score(targets, values.reshape(targets.shape).numpy())

    return {
        "precision": guessed(_precision),
        "recall": guessed(metrics.recall_score, average="macro", zero_division=math.nan),
        "f1": guessed(metrics.f1_score, average="macro", zero_division=math.nan),
        "mcc": guessed(_matthews),
        "balanced_accuracy": guessed(_balanced),
        "auroc": _auroc,
        "auprc": _auprc,
        "sensitivity": guessed(metrics.recall_score, pos_label=1, zero_division=math.nan),
        "specificity": guessed(metrics.recall_score, pos_label=0, zero_division=math.nan),
        "mae": valued(metrics.mean_absolute_error),
        "rmse": valued(lambda targets, values: math.sqrt(metrics.mean_squared_error(targets, values))),
        "r2": valued(_r2),
    }


def _precision(targets: Any, guesses: Any) -> float:
    """The mean over the classes; undefined where one that occurs is never guessed, else giving up on it would pay."""
    from sklearn.metrics import precision_score  # type: ignore[import-untyped]  # noqa: PLC0415 - as above

    return float(precision_score(targets, guesses, average=None, zero_division=math.nan).mean())


def _balanced(targets: Any, guesses: Any) -> float:
    """The mean recall of the classes that occur; undefined where there is but one."""
    from sklearn.metrics import balanced_accuracy_score  # noqa: PLC0415 - as above

    return float(balanced_accuracy_score(targets, guesses)) if len(set(targets.tolist())) > 1 else math.nan


def _matthews(targets: Any, guesses: Any) -> float:
    """Undefined where only one class occurs on either side; scikit-learn calls that 0."""
    from sklearn.metrics import matthews_corrcoef  # noqa: PLC0415 - as above

    if len(set(targets.tolist())) < 2 or len(set(guesses.tolist())) < 2:
        return math.nan
    return float(matthews_corrcoef(targets, guesses))


def _r2(targets: Any, values: Any) -> float:
    """Of several values the mean over them; undefined where one of them never changes."""
    from sklearn.metrics import r2_score  # noqa: PLC0415 - as above

    changes = (targets.reshape(len(targets), -1) != targets.reshape(len(targets), -1)[:1]).any(0)
    return float(r2_score(targets, values, force_finite=False)) if changes.all() else math.nan


def _auroc(targets: Any, logits: Tensor) -> float:
    """One class against each other; of two classes the usual one."""
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - as above

    if len(set(targets.tolist())) < logits.shape[1]:
        return math.nan
    shares = torch.softmax(logits.double(), 1).numpy()
    if logits.shape[1] == 2:
        return float(roc_auc_score(targets, shares[:, 1]))
    return float(roc_auc_score(targets, shares, multi_class="ovo", average="macro"))


def _auprc(targets: Any, logits: Tensor) -> float:
    """Average precision; of several classes the mean over them."""
    from sklearn.metrics import average_precision_score  # noqa: PLC0415 - as above

    classes = logits.shape[1]
    if len(set(targets.tolist())) < classes:
        return math.nan
    shares = torch.softmax(logits.double(), 1).numpy()
    each = [average_precision_score(targets == number, shares[:, number]) for number in range(classes)]
    return float(each[1] if classes == 2 else sum(each) / classes)
