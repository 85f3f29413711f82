"""What happened in a run, in sentences with numbers: from a judged case to the words of its diagnosis. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import contract
from checker import explain, judge, mask, wording
from checker.finding import Action, Finding, Severity
from checker.history import History
from checker.names import TRAIN_LOSS, VAL_LOSS
from checker.series import Series, median
from checker.wording import number

_ACTS = {
    "looked-again": "looked again: still true",
    "recovered-before-act": "looked again: no longer true, nothing was done",
    "observed": "would have asked the run to stop (observing only)",
    "requested": "asked the run to stop",
    "reasserted": "asked again: the request had vanished from the status file",
    "acknowledged": "the run answered",
    "stack-dump": "asked the process for its stacks",
    "sigterm": "sent SIGTERM",
    "sigkill": "sent SIGKILL",
    "stopped": "the run is gone",
    "unanswered": "gave up: the process outlived SIGKILL",
    "cannot": "could not act",
}
"""Journaled steps in words; an unknown one is shown by its own name."""

_LOSSES = ((TRAIN_LOSS, "train loss"), (VAL_LOSS, "validation loss"))


class Cell(NamedTuple):
    quantity: str
    value: str
    step: str = "—"


def ranked(case: judge.Case) -> list[Finding]:
    """The last word of every episode: what is still true first, then the most severe, then the earliest."""
    last = {(finding.rule, finding.episode): finding for finding in case.findings}
    still = {id(finding) for finding in case.open_findings()}

    def rank(finding: Finding) -> tuple[bool, int, bool, int]:
        return id(finding) not in still, -finding.severity.rank, finding.action is not Action.KILL, finding.row

    return sorted(last.values(), key=rank)


def place(row: int, step: int | None) -> str:
    return f"row {row}" if step is None else f"step {step}"


# ------------------------------------------------------------------------------------------------- what happened


def verdict(case: judge.Case, main: Finding | None, state: contract.State | None) -> str:
    """The whole diagnosis in one line."""
    rows = wording.count(case.history.index + 1, "row")
    if main is None:
        if case.history.index < 0:
            return "**Nothing to judge yet**: the log has no readable row."
        still = " so far" if state is None or not state.final else ""
        return f"**Healthy**: no anomaly was found in {rows}{still}."
    began, called = place(main.first_row, main.first_step), place(main.row, main.step)
    when = f"at {began}, called at once" if began == called else f"since {began}, called at {called}"
    over = "" if main in case.open_findings() else " It went away again."
    return f"**{main.rule}** ({main.severity}): {mask.markdown(main.summary)}; {when}.{over}"


def narrative(case: judge.Case, status: Mapping[str, Any], state: contract.State | None) -> str:
    """How the losses went, how far the run came, and how it stands."""
    history = case.history
    told = [_shape(history, role, name) for role, name in _LOSSES if history.series[role].count]
    return " ".join((*told, _extent(history), _ending(status, state, history)))


def _shape(history: History, role: str, name: str) -> str:
    series, bad = history.series[role], history.bad_now(role)
    start, at = _first(series)
    low, place_low = lowest(series)
    began = f"The {name} began at {number(start)} (step {at})"
    if low >= start:
        told = f"{began} and never got lower"
    else:
        told = f"The {name} fell from {number(start)} (step {at}) to its lowest, {number(low)} (step {place_low})"
    if place_low != series.last_step:
        told += f"; its last {'finite value' if bad else 'value'} was {number(series.last)} (step {series.last_step})"
    return f"{told}, then it was non-finite." if bad else f"{told}."


def _first(series: Series) -> tuple[float, int]:
    return (series.levels[0], series.steps[0]) if series.levels else (series.last, series.last_step)


def lowest(series: Series) -> tuple[float, int]:
    """The lowest value and its step; in a long run the lowest block, or the last value where that is lower."""
    found = min(zip(series.levels, series.steps, strict=True), default=(series.last, series.last_step))
    return min(found, (series.last, series.last_step))


def _extent(history: History) -> str:
    rows = f"{wording.count(history.index + 1, 'row')} up to {place(max(history.index, 0), history.step)}"
    planned = f" of {history.total_steps} planned" if history.total_steps and history.step is not None else ""
    part = f" ({wording.share(history.progress)})" if history.progress is not None else ""
    span = history.at - history.started_at if history.at is not None and history.started_at is not None else 0
    took = f" in {wording.duration(span)}" if span > 0 else ""
    again = f", {wording.count(history.restarts, 'restart')}" if history.restarts else ""
    return f"The log has {rows}{planned}{part}{took}{again}."


def _ending(status: Mapping[str, Any], state: contract.State | None, history: History) -> str:
    error = f", with: {mask.markdown(status['error'])}" if status.get("error") else ""
    if state is None:
        return "The run announced its end." if history.ended else "There is no status file, so its state is unknown."
    if state.final:
        return f"The run is over: {state}{error}."
    seen = status.get("heartbeat_at") or status.get("updated_at")
    return f"The run is {state}" + (f", last heard of at {wording.clock(seen)} UTC" if seen else "") + f"{error}."


def timeline(main: Finding | None, findings: Sequence[Finding], acts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """From the onset to the end, one line per event."""
    if main is None:
        return
    began, called = place(main.first_row, main.first_step), place(main.row, main.step)
    if main.first_row < main.row:
        yield f"{began} (row {main.first_row}): begin of what was found"
    doubt = next((item for item in findings if (item.rule, item.episode) == (main.rule, main.episode)), main)
    if doubt.row < main.row:
        yield f"{place(doubt.row, doubt.step)} (row {doubt.row}): first reported, {doubt.severity}"
    waited = main.row - main.first_row
    after = f", {wording.count(waited, 'row')} after its begin" if waited else ", in the first row that shows it"
    yield f"{called} (row {main.row}): called {main.severity}, action {main.action}{after}"
    first = wording.moment(acts[0].get("at")) if acts else None
    for act in acts:
        at = wording.moment(act.get("at"))
        since = (at - first).total_seconds() if at and first else 0.0
        when = f"{wording.duration(since)} later" if since > 0 else f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else "then"
        yield f"{when}: {_act(act)}"


def _act(act: Mapping[str, Any]) -> str:
    name = str(act.get("act", "act"))
    step = f" at step {number(act['step'])}" if isinstance(act.get("step"), int) else ""
    detail = next((act[key] for key in ("detail", "why", "reason", "error") if act.get(key)), None)
    why = f": {mask.markdown(detail)}" if detail else ""
    return f"{_ACTS.get(name) or mask.markdown(name)}{step}{why}"


def also(case: judge.Case, others: Sequence[Finding]) -> Iterator[str]:
    still = case.open_findings()
    for finding in others:
        over = "" if finding in still else "; gone again"
        where = place(finding.first_row, finding.first_step)
        yield f"{finding.rule} ({finding.severity}, since {where}{over}): {mask.markdown(finding.summary)}"


# ------------------------------------------------------------------------------------- why, on what, against what


def mechanism(history: History, main: Finding | None) -> Iterator[str]:
    """The rule's own reasoning, then what else moved at the onset: a cause leaves traces in more than one curve."""
    if main is None:
        yield "None: nothing that a rule looks for was true for long enough."
        return
    why = explain.paragraph(main.rule, "Why it matters")
    yield why[:1].upper() + why[1:]
    traces = list(_traces(history, main))
    if traces:
        yield "At the onset " + "; ".join(traces) + "."


def _traces(history: History, main: Finding) -> Iterator[str]:
    lr, grad = history.lr, history.grad
    if lr.levels:
        rate = lr.levels[lr.block_at(main.first_row)]
        top = "its peak" if rate >= 0.99 * history.lr_top else f"{wording.share(rate / history.lr_top)} of its peak"
        yield f"the learning rate was {number(rate)}" + (f" ({top})" if history.lr_top else "")
    usual, near = _usual(grad, main.first_row), _near(grad, main.first_row, 3)
    if usual and near:
        now = max(near)
        yield f"the gradient norm was {number(now)}, {wording.times(now / usual)} its median until then ({number(usual)})"


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
        yield Cell("onset", f"row {main.first_row}", _step(main.first_step))
        yield Cell("called", f"row {main.row}", _step(main.step))
        measured = {str(key): value for key, value in main.evidence.items() if value is not None}
        for key, value in measured.items():
            if key.endswith("_step") and key.removesuffix("_step") in measured:
                continue
            yield Cell(
                mask.markdown(key.replace("_", " "), 60), wording.value(value), _step(measured.get(f"{key}_step"))
            )
    for role, name in _LOSSES:
        series = history.series[role]
        if series.count:
            for which, (value, step) in (("first", _first(series)), ("lowest", lowest(series))):
                yield Cell(f"{name}, {which}", number(value), _step(step))
            yield Cell(f"{name}, last finite", number(series.last), _step(series.last_step))
    if history.lr.count:
        yield Cell("learning rate, last", number(history.lr.last), _step(history.lr.last_step))
    if history.grad.count:
        yield Cell("gradient norm, last finite", number(history.grad.last), _step(history.grad.last_step))
    best_metrics = status.get("best_metrics")
    for name, value in list(best_metrics.items())[:8] if isinstance(best_metrics, Mapping) else ():
        if contract.number_in(value) is not None:
            yield Cell(f"best {mask.markdown(name, 60)} (status file)", number(contract.number_in(value) or 0.0))


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
    if usual and main.rule in ("nonfinite", "hidden_nan", "divergence", "drift"):
        before = _near(history.grad, main.first_row)
        if len(before) == 5 and max(before) < 2 * usual:  # blocks hide a single row, so only where rows are kept
            yield (
                f"the gradient norm did not rise before the onset ({number(max(before))}, median {number(usual)}): "
                "a single bad batch or a fault in the loss fits as well as too large a step"
            )
    if main.first_row < 20:
        yield f"only {wording.count(main.first_row, 'row')} came before the onset: there is little to compare with"
    if history.restarts:
        yield f"the run was restarted ({history.restarts}x); a restart can move a curve by itself"
    if history.regime_row >= 0:
        text = mask.markdown(history.regime_text) or "no text"
        yield f"a change of regime was declared at row {history.regime_row} ({text})"


def _quiet(history: History, state: contract.State | None) -> Iterator[str]:
    if history.index < 50:
        yield f"{wording.count(history.index + 1, 'row')} are few: most rules need 20 to 50 before they say anything"
    if state is contract.State.COMPLETED and history.progress is not None and history.progress < 0.98:
        yield f"the run counts as completed after {wording.share(history.progress)} of what was planned"


def blind(lines: Sequence[str], unreadable: Sequence[Any], total: int) -> Iterator[str]:
    """What the rules could not see, with the lines of the log that nobody could read."""
    yield from map(mask.markdown, lines)
    for item in unreadable[:5]:
        yield f"{contract.METRICS}:{item.line}: {mask.markdown(item.reason)}"
    if max(total, len(unreadable)) > 5:
        yield f"{max(total, len(unreadable)) - 5} more unreadable lines"
    if not lines and not unreadable and not total:
        yield "Nothing: every rule had what it needs."


def caption(main: Finding | None) -> str:
    return f"loss over steps, {main.rule} marked" if main else "loss over steps"


def is_fault(finding: Finding) -> bool:
    return finding.severity is not Severity.INFO
