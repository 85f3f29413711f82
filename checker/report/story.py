"""What happened in a run, in sentences with numbers: from a judged case to the words of its diagnosis. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import contract
from checker import judge, mask, ranks, wording
from checker.events import Life
from checker.finding import SWEEP, Action, Finding, Severity
from checker.folds import Folds
from checker.history import History
from checker.names import TRAIN_LOSS, VAL_LOSS
from checker.series import Series
from checker.wording import in_rows, number, place

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
    "workers-sigterm": "sent SIGTERM to the processes that it had left behind",
    "workers-sigkill": "sent SIGKILL to the processes that it had left behind",
    "suspended": "waited",
    "stopped": "the run is gone",
    "unanswered": "gave up: the process outlived SIGKILL",
    "cannot": "could not act",
}
"""Journaled steps in words; an unknown one is shown by its own name."""

_SHOWN_RANKS = 4
"""Lost ranks that are told of."""

LOSSES = ((TRAIN_LOSS, "train loss"), (VAL_LOSS, "validation loss"))


def ranked(case: judge.Case) -> list[Finding]:
    """The last word of every episode: what is still true first, then the most severe, then the earliest."""
    last: dict[tuple[str, int], Finding] = {}
    for finding in case.findings:  # among equals, the one whose last word came first
        last.pop((finding.rule, finding.episode), None)
        last[finding.rule, finding.episode] = finding
    found: Iterable[Finding] = last.values()
    if case.history.step is None:  # rules then count rows, and a row should not be called a step
        found = map(_in_rows, found)

    def rank(finding: Finding) -> tuple[bool, int, bool, int]:
        return not still(case, finding), -finding.severity.rank, finding.action is not Action.KILL, finding.row

    return sorted(found, key=rank)


def _in_rows(finding: Finding) -> Finding:
    against = tuple(map(in_rows, finding.against))
    return replace(finding, step=None, first_step=None, summary=in_rows(finding.summary), against=against)


def still(case: judge.Case, finding: Finding) -> bool:
    """Whether what was found is true to this day."""
    episode = case.episodes.get(finding.rule)
    return episode is not None and episode.number == finding.episode and episode.told is not None


def unit_of(history: History) -> str:
    """What a run without steps is counted in."""
    return "row" if history.step is None else "step"


# ------------------------------------------------------------------------------------------------- what happened


def verdict(case: judge.Case, main: Finding | None, state: contract.State | None) -> str:
    """The whole diagnosis in one line."""
    rows = wording.count(case.history.index + 1, "row")
    if main is None:
        if case.history.index < 0:
            return "**Nothing to judge yet**: the log has no readable row."
        so_far = " so far" if state is None or not state.final else ""
        return f"**Healthy**: no anomaly was found in {rows}{so_far}."
    began, called = place(main.first_row, main.first_step), place(main.row, main.step)
    when = f"at {began}, called at once" if began == called else f"since {began}, called at {called}"
    doubt = _first_word(main, case.findings)
    if began == called and doubt.severity is not main.severity:
        when = f"at {began}, first reported as {doubt.severity}, called {main.severity} later"
    over = "" if still(case, main) else " It went away again."
    return f"**{main.rule}** ({main.severity}): {mask.markdown(main.summary)}; {when}.{over}"


def _first_word(main: Finding, findings: Sequence[Finding]) -> Finding:
    """The first report of what `main` is the last word on."""
    return next((item for item in findings if (item.rule, item.episode) == (main.rule, main.episode)), main)


def process_gone(case: judge.Case) -> bool:
    """Whether the process is gone, whatever its status still says."""
    tick = case.history.tick
    crashed = any(finding.rule == "crash" for finding in case.open_findings())
    return crashed or (tick is not None and tick.life is Life.GONE)


def state_of(status: Mapping[str, Any] | None, acts: Sequence[Mapping[str, Any]]) -> contract.State | None:
    """The state of the run; one that had to be killed can no longer say so itself."""
    if status is None:
        return None
    state = contract.run_state(status)
    this_run = f"{status.get('run_id') or 'run'}/"
    killed = any(act.get("act") == "sigkill" and str(act.get("finding")).startswith(this_run) for act in acts)
    return contract.State.KILLED if killed and state is contract.State.RUNNING else state


def narrative(case: judge.Case, status: Mapping[str, Any], state: contract.State | None) -> str:
    """How the losses went, how far the run came, and how it stands."""
    history = case.history
    told = [_shape(history, role, name) for role, name in LOSSES if history.series[role].count]
    if history.folds is not None:
        told.append(_folds(history.folds))
    gone = process_gone(case)
    return " ".join(
        (*told, _extent(history, state), _ending(status, state, history, gone=gone), *_ranks(history, state))
    )


def _ranks(history: History, state: contract.State | None) -> Iterator[str]:
    """Ranks that were lost before a run was stopped: a launcher stops the others when one of them dies."""
    if history.tick is not None and state is contract.State.KILLED:
        for rank in ranks.before(history.tick, 0.0)[:_SHOWN_RANKS]:
            yield mask.markdown(f"Before that {ranks.called(rank)} {ranks.ended(rank)}.")


def _folds(folds: Folds) -> str:
    """How much a cross-validation, or a search by one, has behind it."""
    each = f", {folds.each} per cross-validation" if folds.each else ""
    means = f"; {wording.count(folds.means, 'evaluation')} summed them up" if folds.means else ""
    return f"{wording.count(folds.count, 'fold')} ended{each}{means}."


def _shape(history: History, role: str, name: str) -> str:
    series, bad = history.series[role], history.bad_now(role)
    start, at = first(series)
    low, low_at = lowest(series)
    unit = unit_of(history)
    if series.count == 1:
        told = f"The {name} has one finite value, {number(start)} ({unit} {at})"
    elif low >= start:
        told = f"The {name} began at {number(start)} ({unit} {at}) and never got lower"
    else:
        told = (
            f"The {name} fell from {number(start)} ({unit} {at}) to its lowest level, {number(low)} ({unit} {low_at})"
        )
    if series.count > 1 and low_at != series.last_step:
        told += f"; its last {'finite value' if bad else 'value'} was {number(series.last)} ({unit} {series.last_step})"
    return f"{told}, then it was non-finite." if bad else f"{told}."


def first(series: Series) -> tuple[float, int]:
    return (series.levels[0], series.steps[0]) if series.levels else (series.last, series.last_step)


def lowest(series: Series) -> tuple[float, int]:
    """The lowest value and its step; in a long run the lowest block, or the last value where that is lower."""
    found = min(zip(series.levels, series.steps, strict=True), default=(series.last, series.last_step))
    return min(found, (series.last, series.last_step))


def done(history: History, state: contract.State | None) -> float | None:
    """The share of the planned training that is done.

    None for a completed run in its last epoch: epochs are counted from 0 or from 1, and 98 % might be all of them.
    """
    by_epoch = not (history.total_steps and history.step is not None)
    if by_epoch and history.total_epochs and history.epoch is not None:
        over = state is contract.State.COMPLETED or (state is None and history.ended)
        return None if over and history.epoch + 1 >= history.total_epochs else history.progress
    return history.progress


def _extent(history: History, state: contract.State | None) -> str:
    if history.index < 0:
        return "The log has no readable row."
    rows = f"{wording.count(history.index + 1, 'row')} up to {place(max(history.index, 0), history.step)}"
    planned = f" of {history.total_steps} planned" if history.total_steps and history.step is not None else ""
    share = done(history, state)
    part = f" ({wording.share(share)})" if share is not None else ""
    span = history.at - history.started_at if history.at is not None and history.started_at is not None else 0
    took = f" in {wording.duration(span)}" if span > 0 else ""
    if history.restarts:  # the clock of the earlier attempts is not known any more
        last = f", the last one{took}" if took else ""
        return f"The log has {rows}{planned}{part}, written in {history.restarts + 1} attempts{last}."
    return f"The log has {rows}{planned}{part}{took}."


def _ending(status: Mapping[str, Any], state: contract.State | None, history: History, *, gone: bool) -> str:
    asked = _asked(status, state, history)
    error = f", with: {mask.markdown(status['error'])}" if status.get("error") else ""
    if state is None:
        return "The run announced its end." if history.ended else "There is no status file, so its state is unknown."
    if state.final:
        return f"The run is over: {state}{error}.{asked}"
    seen = status.get("heartbeat_at") or status.get("updated_at")
    stands = f"The status of the run says {state}, but its process is gone" if gone else f"The run is {state}"
    return stands + (f", last heard of at {wording.clock(seen)} UTC" if seen else "") + f"{error}.{asked}"


def _asked(status: Mapping[str, Any], state: contract.State | None, history: History) -> str:
    """Who else asked the run to stop: what the checker asks for is told with its finding, if it has one."""
    with suppress(TypeError):
        kill = contract.Kill.parse(status.get("kill"))
        if kill is not None and (kill.requested_by != "checker" or kill.rule == SWEEP):
            other = kill.run_id not in (None, status.get("run_id"))
            passed = kill.run_id is None and history.restarts > 0 and state is contract.State.COMPLETED
            who = "An earlier attempt" if other or passed else "It"
            by, why = mask.markdown(kill.requested_by, 60), mask.markdown(kill.reason, 400)
            return f" {who} was asked to stop by {by}: {why}."
    return ""


def timeline(main: Finding | None, findings: Sequence[Finding], acts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """From the onset to the end, one line per event."""
    if main is None:
        return
    if main.first_row < main.row:
        yield f"{place(main.first_row, main.first_step, both=True)}: begin of what was found"
    doubt = _first_word(main, findings)
    if doubt.row < main.row or doubt.severity is not main.severity:
        step = doubt.step if main.step is not None else None
        yield f"{place(doubt.row, step, both=True)}: first reported, {doubt.severity}"
    waited = main.row - main.first_row
    same = doubt.row == main.row and doubt.severity is not main.severity
    after = f", {wording.count(waited, 'row')} after its begin" if waited else ", in the first row that shows it"
    if same:
        after = ", with no new row since the first report"
    yield f"{place(main.row, main.step, both=True)}: called {main.severity}, action {main.action}{after}"
    begin = wording.moment(acts[0].get("at")) if acts else None
    for act in acts:
        at = wording.moment(act.get("at"))
        since = (at - begin).total_seconds() if at and begin else 0.0
        when = f"{wording.duration(since)} later" if since > 0 else f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else "then"
        yield f"{when}: {_act(act)}"


def _act(act: Mapping[str, Any]) -> str:
    name = str(act.get("act", "act"))
    step = f" at step {number(act['step'])}" if isinstance(act.get("step"), int) else ""
    detail = next((act[key] for key in ("detail", "why", "reason", "error") if act.get(key)), None)
    why = f": {mask.markdown(detail)}" if detail else ""
    return f"{_ACTS.get(name) or mask.markdown(name)}{step}{why}"


def also(case: judge.Case, others: Sequence[Finding]) -> Iterator[str]:
    for finding in others:
        over = "" if still(case, finding) else "; gone again"
        where = place(finding.first_row, finding.first_step)
        yield f"{finding.rule} ({finding.severity}, since {where}{over}): {mask.markdown(finding.summary)}"


def callbacks(status: Mapping[str, Any]) -> Iterator[str]:
    """Functions of the user's that failed, as the trainer tells it: one line each, with the last error."""
    found = status.get("callback_errors")
    last: dict[tuple[str, str], tuple[int, str]] = {}
    for item in found if isinstance(found, list) else []:
        if isinstance(item, Mapping):
            key = str(item.get("callback")), str(item.get("stage"))
            last[key] = last.get(key, (0, ""))[0] + 1, str(item.get("error"))
    for (name, stage), (count, error) in last.items():
        times = "" if count == 1 else f" {count} times"
        yield f"callback {mask.markdown(name, 100)} failed{times} at {mask.markdown(stage, 40)}: {mask.markdown(error)}"


def caption(history: History, main: Finding | None) -> str:
    over = f"loss over {unit_of(history)}s"
    if history.folds is not None and not history.train.count:
        return "no curve: the scores of folds"
    return f"{over}, {main.rule} marked" if main else over


def of_fold(finding: Finding) -> bool:
    """Whether it is about a score of a fold: what a rule says of one long training is then beside the point."""
    return "fold" in finding.evidence


def is_fault(finding: Finding) -> bool:
    return finding.severity is not Severity.INFO
