"""Everything a run has told so far, folded into bounded memory: what the rules look at."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Final

from checker.events import Flat, Plan, Row, Tick
from checker.folds import FOLD_END, Folds
from checker.gaps import Gaps
from checker.names import ALIASES, GRAD_NORM, LR, ROLES, SUMMARY_MARKS, TOKENS, TRAIN_LOSS, VAL_LOSS
from checker.series import EMPTY, Series

MAX_NAMES = 256
"""Metrics watched for non-finite values; beyond these a name is only counted on, so memory stays bounded."""

NOT_MEASURED = frozenset({"checkpoint_saved", "training_start", "training_end", "phase", "regime_change", "note"})
"""Events whose metrics repeat what other rows measured (the best value, say): they are no points of a curve."""

_MOST: Final = sys.float_info.max
"""The largest finite number: a comparison costs less than a function that is asked whether a value is finite."""

MIN_BEFORE_NULL = 5
"""Numbers that must have stood where a null counts as a hidden NaN."""

MIN_AGREED = 5
"""Rows after which two clocks are taken to mean the same."""


@dataclass(slots=True)
class Streak:
    """Consecutive rows in which something held, for one metric."""

    count: int = 0
    first_row: int = -1
    first_step: int | None = None
    total: int = 0
    ended: int = 0
    """How often the streak was broken by a normal value."""
    longest: int = 0

    def hit(self, row: int, step: int | None) -> None:
        if not self.count:
            self.first_row, self.first_step = row, step
        self.count += 1
        self.total += 1
        self.longest = max(self.longest, self.count)

    def miss(self) -> None:
        if self.count:
            self.ended += 1
            self.count = 0

    def set(self, row: int, step: int | None, *, now: bool) -> None:
        if now:
            self.hit(row, step)
        elif self.count:
            self.miss()


@dataclass(slots=True)
class Bad:
    """The non-finite values of one metric."""

    streak: Streak = field(default_factory=Streak)
    nan: int = 0
    """NaN (not infinite) values in the present streak."""
    nulls: int = 0
    """Nulls among all of them."""
    finite_before: int = 0
    """Finite values seen before the present streak."""
    last: float | None = None


@dataclass(slots=True)
class Curve:
    """A metric that plays a role: where its finite values go."""

    role: str
    series: Series
    zeros: Streak
    top: float = _MOST
    """A value beyond it is remarkable; every value is while a streak is going on, or once one was not finite."""
    repeats: bool = False
    """A value that repeats the last one is remarkable."""


class History:
    """One run. Rows are folded in one at a time; a rule reads what it needs and never writes."""

    __slots__ = (
        "_agreed",
        "_counts_tokens",
        "_curves",
        "_elapsed",
        "_last_step",
        "_monitored",
        "_sign",
        "_sparse",
        "_summaries",
        "at",
        "bad",
        "checkpoints",
        "ended",
        "epoch",
        "folds",
        "frozen",
        "gaps",
        "index",
        "last_checkpoint",
        "lr_top",
        "metric_names",
        "monitor",
        "pace",
        "phase",
        "plan",
        "regime_row",
        "regime_text",
        "restarts",
        "run_id",
        "series",
        "started_at",
        "step",
        "tick",
        "tokens",
        "total_epochs",
        "total_steps",
        "unreadable",
        "zero",
    )  # fmt: skip

    def __init__(self, plan: Plan | None = None) -> None:
        self.plan = plan or Plan()
        self.index = -1
        """The last row folded in."""
        self.step: int | None = None
        self.epoch: float | None = None
        self.at: float | None = None
        self.run_id: str | None = None
        self.phase = "train"
        self.ended = False
        self.restarts = 0
        self.unreadable = 0
        self.total_steps = self.plan.experiment.total_steps
        self.total_epochs = self.plan.experiment.total_epochs
        self.series = {role: Series(swings=role == TRAIN_LOSS) for role in ROLES}
        declared = self.plan.experiment.metric
        self._monitored = declared.get("name")
        self._counts_tokens = "tokens" in self.plan.experiment.budget
        self.tokens = 0.0
        """Tokens trained on so far; counted where the budget speaks of them."""
        self._sign = -1.0 if declared.get("direction") == "max" else 1.0
        self.monitor = Series(swings=False) if self._monitored else EMPTY
        """The declared primary metric where it is none of the roles, turned so that lower is better."""
        self.zero = {role: Streak() for role in ROLES}
        """Rows in which a metric was exactly 0."""
        self.bad: dict[str, Bad] = {}
        self.frozen = Streak()
        """Rows that repeat the train loss before them exactly."""
        self.folds: Folds | None = None
        """The folds of a run that is made of them."""
        self.lr_top = 0.0
        self.regime_row = -1
        self.regime_text = ""
        self.checkpoints = 0
        self.last_checkpoint: float | None = None
        self.started_at: float | None = None
        self.gaps: dict[str, Gaps] = {}
        self._elapsed: float | None = None
        self._agreed = 0
        """Rows in a row between which the process counted as much time as the calendar."""
        self.pace = EMPTY
        """Seconds per step."""
        self.metric_names: dict[str, bool] = {}
        """Whether the first value under each name was a finite number."""
        self.tick: Tick | None = None
        self._curves: dict[str, Curve | None] = {}
        """The curve that each name stands for, None for those that play no role."""
        self._summaries = False
        self._sparse: set[str] = set()
        self._last_step: tuple[int, float] | None = None

    # ---------------------------------------------------------------------------------------------------- folding

    def fold(self, row: Row) -> bool:
        """Takes the next row in. True when the rules should look: something moved by more than a value on a curve."""
        step = row.step
        if type(row) is Flat and self.step is not None and step is not None and step >= self.step:
            self.index, self.step = row.index, step  # all that `_place` would find
            return not (self._summaries and _is_summary(row.values)) and self._measured(row)
        look = self._place(row)
        if row.event != "step":
            look = self._event(row) or look
            if row.event in NOT_MEASURED or self._scores(row):
                return look
        if self._summaries and _is_summary(row.values):
            return look
        return self._measured(row) or look

    def _measured(self, row: Row) -> bool:
        """Puts each value where it belongs. This loop is what a row costs."""
        look, index, values, curves = False, self.index, row.values, self._curves
        step = index if self.step is None else self.step
        for name, value in values.items():
            try:
                curve = curves[name]
            except KeyError:
                if self._learn(values):
                    return look
                curve = curves[name]
            if curve is None:
                look = self._other(name, value, row) or look
                continue
            series = curve.series
            if not value or not -_MOST <= value <= curve.top or (value == series.last and curve.repeats):
                look = self._remarkable(curve, value, row) or look
                continue
            series.last, series.last_row, series.last_step = value, index, step  # what `Series.add` does
            raw = series.raw
            raw.append(value)
            if len(raw) >= series.full and series.close_chunk():
                look = True
        return look

    def _other(self, name: str, value: float | None, row: Row) -> bool:
        """A value that is no point of the four curves."""
        if value is None or not isfinite(value):
            return self._non_finite(name, value, row)
        if name in self.bad:
            self._recover(name)
        if self._counts_tokens and name.lower() in TOKENS:
            self.tokens = value
        if name == self._monitored:
            self.monitor.add(self._sign * value, row.index, row.index if self.step is None else self.step)
        return False

    def _place(self, row: Row) -> bool:
        """Where and when the row stands; a new process or an earlier step rewinds the curves."""
        self.index = row.index
        look = False
        resumed = row.run_id is not None and self.run_id is not None and row.run_id != self.run_id
        if row.run_id is not None:
            self.run_id = row.run_id
        if row.step is not None and (resumed or not self._late(row)):
            back = self.step is not None and row.step < self.step
            if back and (resumed or not (row.epoch is not None and self.epoch is not None and row.epoch > self.epoch)):
                self._rewind(row.step)
                look = True
            self.step = row.step
        if resumed:
            self.restarts += 1
            self.ended = False
        if row.epoch is not None:
            self.epoch = row.epoch
        if row.total_steps is not None and self.total_steps is None:
            self.total_steps = row.total_steps
        if row.total_epochs is not None and self.total_epochs is None:
            self.total_epochs = row.total_epochs
        self._clock(row, resumed=resumed)
        return look

    def _late(self, row: Row) -> bool:
        """Whether a row tells of a step that the run has left behind: a checkpoint is written beside the training.

        It takes nothing back. Curves that ended there would lose the very evaluation that the checkpoint was made for.
        """
        behind = self.step is not None and row.step is not None and row.step < self.step
        return behind and row.event == "checkpoint_saved"

    def _clock(self, row: Row, *, resumed: bool) -> None:
        """Learns how long this run pauses in each phase, and how long a step takes."""
        if row.at is None:
            return
        if self.started_at is None or resumed:
            self.started_at = row.at
            self._last_step = None
        elif self.at is not None:
            self.gap(self.phase).add(self._pause(row, row.at - self.at))
        if row.event == "step" and row.step is not None:
            if self._last_step is not None and row.step > self._last_step[0] and row.at > self._last_step[1]:
                seconds = (row.at - self._last_step[1]) / (row.step - self._last_step[0])
                if self.pace is EMPTY:
                    self.pace = Series(swings=False)
                self.pace.add(seconds, row.index, row.step)
            self._last_step = (row.step, row.at)
        self.at, self._elapsed = row.at, row.elapsed

    def _pause(self, row: Row, gap: float) -> float:
        """How long the run paused: without the time in which its machine slept, if it counts its own time as well.

        The clock of a process stops while the machine sleeps. A nap that was taken for a pause would hide a hang for
        one and a half times as long. Some write the duration of a step under the same name; that never agrees.
        """
        worked = -1.0 if row.elapsed is None or self._elapsed is None else row.elapsed - self._elapsed
        if abs(gap - worked) <= 0.1 * gap + 0.01:
            self._agreed += 1
            return gap
        slept = self._agreed >= MIN_AGREED and 0 <= worked < gap - 1
        self._agreed = 0
        return worked if slept else gap

    def gap(self, phase: str) -> Gaps:
        known = self.gaps.get(phase)
        if known is None:
            known = self.gaps[phase] = Gaps()
        return known

    def _rewind(self, step: int) -> None:
        for series in (*self.series.values(), self.monitor):
            series.rewind(step)
        for bad in self.bad.values():
            bad.streak.miss()
        for streak in (self.frozen, *self.zero.values()):
            streak.miss()

    def _event(self, row: Row) -> bool:
        if row.event == "regime_change":
            self.regime_row, self.regime_text = row.index, row.text or ""
        elif row.event == "phase" and row.phase:
            self.phase = row.phase
        elif row.event == "checkpoint_saved":
            self.checkpoints += 1
            if self.last_checkpoint is not None and row.at is not None:
                self.gap("between_checkpoints").add(row.at - self.last_checkpoint)
            self.last_checkpoint = row.at
        elif row.event == "training_start":
            self.ended = False
            self.phase = "train"
        elif row.event == "training_end":
            self.ended = True
        return True

    def _scores(self, row: Row) -> bool:
        """Takes a row of scores that are no points of a curve. True when it was one.

        Scores of different folds belong to different models, and so do the means over the folds of different trials: an
        evaluation that follows a fold without a train loss in between is such a mean.
        """
        if row.event == FOLD_END:
            self.folds = self.folds or Folds()
        elif self.folds is None or row.event != "evaluation" or self.train.last_row > self.folds.last_row:
            return False
        self.folds.take(row)
        return True

    def _learn(self, values: Mapping[str, float | None]) -> bool:
        """Decides which of the names in a row play a role; once taken, a role is not given away.

        Returns:
            Whether the row is a closing summary, of which nothing more is a point of a curve.
        """
        names = [name for name in values if name not in self._curves]
        taken = {curve.role for curve in self._curves.values() if curve}
        self._summaries = self._summaries or any(mark in names for mark in SUMMARY_MARKS)
        for name in sorted(names, key=lambda name: ALIASES.get(name.lower(), ("", 99))[1]):
            role = ALIASES.get(name.lower(), (None, 0))[0]
            self._curves[name] = None if role is None or role in taken else self._curve(role)
            if role:
                taken.add(role)
            if len(self.metric_names) < MAX_NAMES:
                self.metric_names[name] = (value := values[name]) is not None and isfinite(value)
        return self._summaries and _is_summary(values)

    def _curve(self, role: str) -> Curve:
        curve = Curve(role, self.series[role], self.zero[role], repeats=role == TRAIN_LOSS)
        self._watch(curve)
        return curve

    def _watch(self, curve: Curve) -> None:
        """Sets the value above which `curve` is looked at more closely."""
        role = curve.role
        if role in self.bad or curve.zeros.count or (role == TRAIN_LOSS and self.frozen.count):
            curve.top = -math.inf
        else:
            curve.top = self.lr_top if role == LR else _MOST

    def _remarkable(self, curve: Curve, value: float | None, row: Row) -> bool:
        """Takes in a value that may be more than one more point of its curve; True when the rules should look."""
        role, zeros, index, step = curve.role, curve.zeros, row.index, row.index if self.step is None else self.step
        if value is None or not isfinite(value):
            return self._non_finite(role, value, row)
        if role in self.bad:
            self._recover(role)
        if role == TRAIN_LOSS and curve.series.count:
            self.frozen.set(index, step, now=value == curve.series.last)
        elif role == LR:
            self.lr_top = max(self.lr_top, value)
        zeros.set(index, step, now=value == 0.0)
        self._watch(curve)
        return curve.series.add(value, index, step)

    def _recover(self, name: str) -> None:
        bad = self.bad[name]
        if bad.streak.count:
            bad.streak.miss()
            bad.nan = 0
        bad.finite_before += 1

    def _non_finite(self, name: str, value: float | None, row: Row) -> bool:
        """Counts a non-finite value.

        Many writers turn NaN into null, so a null counts where a number has always stood before. In a table with empty
        cells nulls come and go; there they count for nothing.
        """
        series = self.series.get(name)
        seen = series.count if series is not None else int(self.metric_names.get(name, False))
        bad = self.bad.get(name)
        if value is None:
            if seen < MIN_BEFORE_NULL or (bad is not None and bad.nulls and bad.streak.ended):
                self._sparse.add(name)
            if name not in (TRAIN_LOSS, GRAD_NORM) or name in self._sparse:
                return False
        if bad is None:
            if len(self.bad) >= MAX_NAMES:
                return False
            bad = self.bad[name] = Bad(finite_before=seen)
            for curve in self._curves.values():
                if curve is not None and curve.role == name:
                    self._watch(curve)
        bad.streak.hit(row.index, self.step)
        bad.nulls += value is None
        bad.last = value
        bad.nan += value is not None and math.isnan(value)
        return True

    # -------------------------------------------------------------------------------------------------- questions

    @property
    def train(self) -> Series:
        return self.series[TRAIN_LOSS]

    @property
    def val(self) -> Series:
        return self.series[VAL_LOSS]

    @property
    def lr(self) -> Series:
        return self.series[LR]

    @property
    def grad(self) -> Series:
        return self.series[GRAD_NORM]

    def era(self, series: Series) -> int:
        """The first block of `series` after the last change of regime: older levels are no yardstick."""
        row = self.era_row
        return series.block_at(row) if row >= 0 and series.levels else 0

    @property
    def era_row(self) -> int:
        """The row of the last change of regime, -1 for none.

        It was declared, or a fold ended, after which another model is trained.
        """
        return self.regime_row if self.folds is None else max(self.regime_row, self.folds.last_row)

    def bad_now(self, name: str) -> Bad | None:
        """The non-finite values of `name`, if its last value was one."""
        bad = self.bad.get(name)
        return bad if bad is not None and bad.streak.count else None

    @property
    def per_epoch(self) -> bool:
        """Whether the train loss is logged about once per epoch."""
        return self.epoch is not None and self.train.count > 1 and self.epoch >= 0.5 * self.train.count

    @property
    def planned_rows(self) -> float:
        """How many rows the log will have when the plan is done; where there is no plan, how many it has."""
        done = self.progress
        return (self.index + 1) / done if done and done < 1 else float(self.index + 1)

    @property
    def progress(self) -> float | None:
        """The share of the planned training that is done; None when nobody declared how long it is."""
        if self.total_steps and self.step is not None:
            return self.step / self.total_steps
        if self.total_epochs and self.epoch is not None:
            return self.epoch / self.total_epochs
        return None


def _is_summary(values: Mapping[str, float | None]) -> bool:
    return any(mark in values for mark in SUMMARY_MARKS)
