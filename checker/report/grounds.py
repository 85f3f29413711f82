"""Why a run is judged as it is: the mechanism with its traces, what was measured, and what speaks against. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import contract
from checker import mask, wording
from checker.finding import Finding
from checker.history import History
from checker.names import GRAD_NORM, TRAIN_LOSS, VAL_LOSS
from checker.report import explain, stacks
from checker.report.story import LOSSES, done, first, lowest, of_fold, unit_of
from checker.series import Series, median
from checker.wording import number

_ABOUT_TRAIN_LOSS = frozenset({"nonfinite", "hidden_nan", "explosion", "divergence", "drift"})

_BY_COMPARISON = frozenset(
    {
        "divergence",
        "drift",
        "explosion",
        "gradient_explosion",
        "loss_spike",
        "oscillation",
        "overfit",
        "plateau",
        "suspicious_improvement",
        "vanishing_gradient",
    }
)
"""Rules that hold a curve against its own past."""


class Cell(NamedTuple):
    quantity: str
    value: str
    step: str = "—"


def mechanism(history: History, main: Finding | None) -> Iterator[str]:
    """The rule's own reasoning, then what else moved at the onset: a cause leaves traces in more than one curve."""
    if main is None:
        yield "None: nothing that a rule looks for was true for long enough."
        return
    if of_fold(main):
        yield "A mean over folds is no number when one of them is none, so whatever is chosen by it is chosen blindly."
        return
    why = explain.paragraph(main.rule, "Why it matters")
    sound = list(_finite_since(history, main)) if main.rule == "nonfinite" else []
    if main.rule == "nonfinite" and (sound or main.against):
        yield f"If the value reached the weights: {why}"
    else:
        yield why[:1].upper() + why[1:]
    if sound:
        yield f"It may not have reached them: after the onset {' and '.join(sound)} came out finite."
    traces = list(_traces(history, main))
    if traces:
        yield "At the onset " + "; ".join(traces) + "."


def _finite_since(history: History, main: Finding) -> Iterator[str]:
    """What was computed from the weights after the onset and is a number."""
    others = ((GRAD_NORM, "gradient norm"), (VAL_LOSS, "validation loss"), (TRAIN_LOSS, "train loss"))
    for role, name in others:
        series = history.series[role]
        if series.last_row > main.first_row and not history.bad_now(role):
            yield f"the {name} ({number(series.last)}, {unit_of(history)} {series.last_step})"


def _traces(history: History, main: Finding) -> Iterator[str]:
    lr, grad = history.lr, history.grad
    if lr.levels:
        rate = lr.levels[lr.block_at(main.first_row)]
        top = "its peak" if rate >= 0.99 * history.lr_top else f"{wording.share(rate / history.lr_top)} of its peak"
        yield f"the learning rate was {number(rate)}" + (f" ({top})" if history.lr_top else "")
    usual, near = _usual(grad, main.first_row), _near(grad, main.first_row, 3)
    if usual and near:
        now = max(near)
        factor = wording.times(now / usual)
        yield f"the gradient norm was {number(now)}, {factor} its median until then ({number(usual)})"


def _usual(series: Series, row: int) -> float:
    """The median level before `row`; 0 while there are too few to say."""
    before = series.levels[: series.block_at(row)]
    return median(before) if len(before) >= 5 else 0.0


def _near(series: Series, row: int, behind: int = 0) -> list[float]:
    """The values of the five rows before `row` and of `behind` rows from it on, as finely as they are kept."""
    oldest = series.last_row - len(series.recent) + 1
    if row - 5 >= oldest:
        return [value for at, value in enumerate(series.recent, oldest) if row - 5 <= at < row + behind]
    return [value for at, value in zip(series.rows, series.levels, strict=True) if row - 5 <= at < row + behind]


def evidence(history: History, main: Finding | None, status: Mapping[str, Any]) -> Iterator[Cell]:
    """What was measured: the rule's own quantities, then the run's."""
    if main is not None:
        yield from _measured(main)
    for role, name in LOSSES:
        series = history.series[role]
        if series.count:
            last = (series.last, series.last_step)
            for which, (value, step) in (
                ("first", first(series)),
                ("lowest level", lowest(series)),
                ("last finite", last),
            ):
                yield Cell(f"{name}, {which}", number(value), _step(step))
    for series, name in ((history.lr, "learning rate, last"), (history.grad, "gradient norm, last finite")):
        if series.count:
            yield Cell(name, number(series.last), _step(series.last_step))
    yield from _saved(status, main)


def _measured(main: Finding) -> Iterator[Cell]:
    """A quantity `best` finds its step in `best_step`."""
    yield Cell("onset", f"row {main.first_row}", _step(main.first_step))
    yield Cell("called", f"row {main.row}", _step(main.step))
    quantities = {str(key): value for key, value in main.evidence.items() if value is not None}
    for key, value in quantities.items():
        if key.removesuffix("_step") == key or key.removesuffix("_step") not in quantities:
            name = mask.markdown(key.replace("_", " "), 60)
            yield Cell(name, wording.value(value), _step(quantities.get(f"{key}_step")))


def hung(main: Finding | None, folder: Path) -> Iterator[Cell]:
    """Where a hung program stands, if it left its stacks; first the rank that the others wait for, if there is one."""
    if main is None or main.rule != "stall":
        return
    named = main.evidence.get("rank")
    ranks = (named, 0) if type(named) is int and named > 0 else (0,)
    for rank in ranks:
        who = f"main thread of rank {rank}" if len(ranks) > 1 else "main thread"
        for depth, frame in enumerate(stacks.frames(folder, rank)):
            yield Cell(f"{who} stands in" if not depth else "called from", mask.markdown(frame))


def _saved(status: Mapping[str, Any], main: Finding | None) -> Iterator[Cell]:
    """What the trainer keeps: best values, and the checkpoint to go back to."""
    best = status.get("best_metrics")
    for name, item in list(best.items())[:8] if isinstance(best, Mapping) else ():
        value = contract.number_in(item)
        if value is not None:
            yield Cell(f"best {mask.markdown(name, 60)} (status file)", number(value))
    listed = status.get("checkpoints")
    known = [item for item in listed if isinstance(item, Mapping)] if isinstance(listed, list) else []
    onset = main.first_step if main else None
    sound = [item for item in known if onset is None or (contract.number_in(item.get("step")) or 0) < onset]
    if sound:
        name = "last checkpoint" if onset is None else "last checkpoint before the onset"
        yield Cell(name, mask.markdown(sound[-1].get("path", "—")), _step(sound[-1].get("step")))


def _step(step: object) -> str:
    return number(step) if isinstance(step, int | float) else "—"


def against(history: History, main: Finding | None, state: contract.State | None) -> Iterator[str]:
    """What speaks for another cause, or for no fault at all; said plainly when nothing does."""
    told = [mask.markdown(doubt) for doubt in main.against] if main else []
    told += _considered(history, main) if main else _quiet(history, state)
    nothing = "Nothing: no measured quantity speaks "
    yield from told or [nothing + ("for another cause." if main else "against it.")]


def _considered(history: History, main: Finding) -> Iterator[str]:
    usual = _usual(history.grad, main.first_row)
    if usual and main.rule in _ABOUT_TRAIN_LOSS:
        before = _near(history.grad, main.first_row)
        if len(before) == 5 and max(before) < 2 * usual:  # blocks hide a single row, so only where rows are kept
            yield (
                f"the gradient norm did not rise before the onset ({number(max(before))}, median {number(usual)}): "
                "a single bad batch or a fault in the loss fits as well as too large a step"
            )
    if main.rule in _ABOUT_TRAIN_LOSS or main.rule == "gradient_explosion":
        yield from _sound_validation(history, main)
    if main.first_row < 20 and main.rule in _BY_COMPARISON:
        yield f"only {wording.count(main.first_row, 'row')} came before the onset: there is little to compare with"
    if history.restarts:
        yield f"the run was restarted ({history.restarts}x); a restart can move a curve by itself"
    if history.regime_row >= 0:
        text = mask.markdown(history.regime_text) or "no text"
        yield f"a change of regime was declared at row {history.regime_row} ({text})"


def _sound_validation(history: History, main: Finding) -> Iterator[str]:
    """Two losses of one model part when the logging of one is at fault, or its data."""
    train, val, unit = history.train, history.val, unit_of(history)
    if val.count < 2 or val.last_row <= main.first_row or history.bad_now(VAL_LOSS):
        return
    low, low_at = lowest(val)
    told = (
        f"the validation loss did not follow: it is {number(val.last)} ({unit} {val.last_step}), its lowest is "
        f"{number(low)} ({unit} {low_at})"
    )
    rose, bottom = val.last - low, lowest(train)[0] if train.count else 0.0
    if rose < 0.1 * abs(low):
        yield f"{told}. The model may be sound and the logged train loss, or the batches behind it, at fault"
    elif rose < 0.1 * (train.last - bottom) and not history.bad_now(TRAIN_LOSS):
        yield (
            f"{told}, while the train loss went from {number(bottom)} to {number(train.last)}. "
            "The damage to the model may be smaller than the train loss says"
        )


def _quiet(history: History, state: contract.State | None) -> Iterator[str]:
    if history.index < 50 and (history.folds is None or history.train.count):  # no rule counts rows of folds
        yield f"{wording.count(history.index + 1, 'row')} are few: most rules need 20 to 50 before they say anything"
    share = done(history, state)
    if state is contract.State.COMPLETED and share is not None and share < 0.98:
        yield f"the run counts as completed after {wording.share(share)} of what was planned"


def blind(lines: Sequence[str], unreadable: Sequence[Any], total: int) -> Iterator[str]:
    """What the rules could not see, with the lines of the log that nobody could read."""
    yield from map(mask.markdown, lines)
    for item in unreadable[:5]:
        where = f"{contract.METRICS}:{item.line}: " if item.line else ""  # line 0: it is about the file as a whole
        yield f"{where}{mask.markdown(item.reason)}"
    if max(total, len(unreadable)) > 5:
        yield f"{max(total, len(unreadable)) - 5} more unreadable lines"
    if not lines and not unreadable and not total:
        yield "Nothing: every rule had what it needs."
