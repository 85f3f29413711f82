"""What a calibration says: to whoever asked for it, and in the file that it leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from checker import caution, conformal, limits
from checker.calibrate import STOPPED_BY_CHECKER, UNREADABLE, Fit, Trial, rounded_up
from checker.clean import clean

LISTED = 10
"""Runs that are named in each list; the others are counted."""


def file(fit: Fit, source: str, date: str) -> str:
    """The limits file of a fit."""
    record = {**fit.record(source, date), "rules": limits.rules_digest(), "seal": limits.seal(fit.limits)}
    return _text(fit.limits, record)


def is_ours(path: Path) -> bool:
    """Whether a limits file is, to the letter, what a calibration left, so that nobody's work is lost with it."""
    try:
        found, text = limits.read(path), path.read_text(encoding="utf-8")
    except (limits.LimitsError, OSError, UnicodeDecodeError):
        return False
    record = found.calibration
    fitted = bool(record) and found.limits.keys() <= caution.SCALED.keys()
    return fitted and record.get("seal") == limits.seal(found.limits) and text == _text(found.limits, record)


def _text(found: limits.Limits, record: Mapping[str, Any]) -> str:
    head = (
        f"Written by `checker calibrate`: limits fitted to {record.get('runs')} runs that ended well. By hand, change\n"
        "what you like: it is then no longer overwritten without --force, and the promise no longer holds.\n"
        "What each limit means: checker explain RULE"
    )
    return limits.render(found, record, head)


def told(fit: Fit) -> Iterator[RenderableType]:
    """The whole calibration, from the runs to the promise."""
    yield _runs(fit)
    yield from _list("The shipped limits kill these, which ended well:", [run for run in fit.used if run.killed[0]])
    yield from _list("These cannot be read:", [run for run in fit.trials if run.left_out == UNREADABLE])
    yield from _chosen(fit)
    yield ""
    yield from _promise(fit)


def _runs(fit: Fit) -> Table:
    table = Table("runs", "number", "killed as shipped", "killed as fitted")
    shipped = conformal.killed_at(fit.scores, 0)
    table.add_row("ended well: used", str(len(fit.used)), str(shipped), str(fit.killed))
    for why, runs in fit.groups():
        judged = [run.killed for run in runs if run.killed]
        cells = [str(sum(killed[place] for killed in judged)) if judged else "-" for place in (0, fit.place)]
        table.add_row(clean(f"left out: {why}"), str(len(runs)), *cells)
    return table


def _list(what: str, runs: Sequence[Trial]) -> Iterator[str]:
    if runs:
        yield what
    for run in runs[:LISTED]:
        yield "  " + clean(f"{run.path}: {run.rule} at row {run.row}: {run.reason}" if run.rule else run.reason)
    if len(runs) > LISTED:
        yield f"  … and {len(runs) - LISTED} more"


def _chosen(fit: Fit) -> Iterator[str]:
    rows = sorted(run.rows for run in fit.used)
    yield f"The runs used have {rows[0]:,} to {rows[-1]:,} rows; half of them have {rows[len(rows) // 2]:,} or more."
    count = f"of {len(fit.used)} runs that ended well"
    shipped = conformal.killed_at(fit.scores, 0)
    allows = f"a rate of {rounded_up(fit.rate)} allows {fit.allowed}"
    if fit.place == 0:
        yield f"The shipped limits keep the promise as they are: they kill {shipped} {count}, and {allows}."
        return
    yield f"Caution {fit.caution:g}: a kill takes {fit.caution:g} times the evidence that it takes as shipped."
    yield f"The shipped limits kill {shipped} {count}, the fitted ones {fit.killed}; {allows}."


def _promise(fit: Fit) -> Iterator[str]:
    yield (
        "Promise: the next run that would end well if left alone is killed with a probability of at most "
        f"{rounded_up(fit.rate)}. No shape of curve is assumed. What is assumed: it is exchangeable with the runs "
        "used, that is, work of the same kind, ended well by the same measure, in no order that matters. The "
        "probability is over such histories and the next run together."
    )
    yield (
        "For this very history: if the runs are independent too, its rate is under "
        f"{rounded_up(Fraction(fit.ceiling))} with 95 % confidence."
    )
    unscaled = " and ".join(sorted(caution.UNSCALED))
    yield f"Not fitted: {unscaled}, which go by the clock; a recorded run does not hold what they see."
    censored = sum(run.left_out == STOPPED_BY_CHECKER for run in fit.trials)
    if censored:
        yield (
            f"The checker itself stopped {censored} of these runs. Nobody knows how they would have ended, and without "
            "them the history looks kinder to its limits than it was: the promise does not cover runs like them. Look "
            "at them and resume what was healthy; a run that then ends well counts."
        )
