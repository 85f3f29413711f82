"""What became of a run, in hindsight and at full resolution: the label that a checker is scored against.

A label needs two witnesses: what was done to the run, and how it ended compared with its twin, the same run without
the fault. A fault that did no harm is no fault: such a run must be left alone. What lies between is not scored, and
counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

Curve = np.ndarray

UNSCORED: Final = "unclear"
SHIFTED: Final = "shifted"
"""A healthy run whose printed loss rose for good, or whose validation did for a while: harder data, noisier labels, an
adversary. It must not be killed. Whether a person wants to hear of it is a matter of taste: alerts are counted apart.
"""

CHANGES: Final = frozenset({"data-mix", "curriculum", "mining", "noisy-labels", "more-data-noise", "batch-ramp"})
"""Stories after which the printed loss measures something else than before."""


@dataclass(frozen=True)
class Fate:
    """One run as it really went: one value per step (the last pass, where a resume made two) and per evaluation."""

    train: Curve
    val: Curve
    val_steps: Curve
    sound: bool
    """The weights are finite at the end."""


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a program's objective does and its log shows."""

    falls: bool
    """The loss of this objective is meant to fall."""
    shows_lr: bool
    shows_val: bool


@dataclass(frozen=True)
class Label:
    label: str
    onset: int | None = None
    """Step, counted from 1."""
    reason: str = ""


def smooth(curve: Curve, width: int) -> Curve:
    """The running median of odd `width`, over what there is at the ends."""
    half = width // 2
    padded = np.pad(curve, half, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)


def noise(curve: Curve) -> float:
    """The deviation of values from their neighbours, whatever the trend."""
    bends = np.abs(curve[:-2] - 2 * curve[1:-1] + curve[2:])
    return float(np.median(bends) / 1.652) if len(bends) else 0.0


def _stays_above(curve: Curve, line: float) -> int:
    """The first index from which `curve` stays above `line`."""
    below = np.flatnonzero(~(curve > line))
    return int(below[-1]) + 1 if len(below) else 0


def _end(curve: Curve) -> float:
    return float(np.median(curve[-max(5, len(curve) // 20) :]))


def _start(curve: Curve) -> float:
    return float(np.median(curve[: max(3, len(curve) // 100)]))


def broken(fate: Fate) -> Label | None:
    """NaN that stayed, in the loss or in the weights."""
    bad = ~np.isfinite(fate.train)
    if not bad[-1] and fate.sound:
        return None
    first = _stays_above(bad.astype(float), 0.5) if bad[-1] else int(np.flatnonzero(bad)[0]) if bad.any() else None
    return Label("nan", len(bad) if first is None else first + 1, "weights or loss not finite to the end")


def overfit(fate: Fate) -> Label | None:
    """The validation loss ends 10 % above its minimum, beyond its noise, while the train loss falls."""
    val = fate.val[np.isfinite(fate.val)]
    if len(val) < 10 or len(val) < len(fate.val):
        return None
    level = smooth(val, 3)
    at, best = int(level.argmin()), float(level.min())
    excess, unit = float(np.median(val[-3:])) - best, max(abs(best), 0.5 * (float(level[0]) - best))
    fell = _end(fate.train) < float(np.median(fate.train[max(0, int(fate.val_steps[at]) - 20) :][:40]))
    if excess <= max(0.05 * unit, 2 * noise(val)) or not fell:
        return None
    if excess <= 0.10 * unit:
        return Label(UNSCORED, None, "validation loss 5 to 10 % above its best")
    onset = _stays_above(level, best + 0.10 * unit)
    return Label("overfit", int(fate.val_steps[min(onset, len(val) - 1)]) + 1, f"val {excess / unit:.0%} above best")


def diverged(fate: Fate) -> Label | None:
    """Over half of the drop is lost, half above the best, and not regained; or far above the start."""
    level = smooth(fate.train, max(5, len(fate.train) // 50) | 1)
    start, end, at = _start(fate.train), _end(fate.train), int(level.argmin())
    best = float(level[at])
    gained = max(start - best, 0.0)
    learned = gained > 0.1 * abs(start)
    line = best + 0.5 * gained if learned else start + 0.5 * abs(start)
    if learned and best > 0:
        line = max(line, 1.5 * best)
    if end <= line or end - best <= 3 * max(noise(fate.train[: at + 20]), noise(fate.train[: len(level) // 2])):
        return None
    name = "explosion" if end > 5 * abs(start) else "diverged"
    onset = max(_stays_above(level, line), at if learned else 0)
    return Label(name, onset + 1, f"start {start:.4g}, best {best:.4g}, end {end:.4g}")


def drifted(fate: Fate) -> Label | None:
    """A fifth of the gain is lost and not regained, a tenth above the best."""
    level = smooth(fate.train, max(5, len(fate.train) // 20) | 1)
    start, end, best = _start(fate.train), _end(fate.train), float(level.min())
    gained, excess = start - best, end - best
    if excess < max(0.2 * gained, 0.1 * abs(best), 2 * noise(fate.train)) or gained < 0.3 * abs(start):
        return None
    onset = _stays_above(level, best + 0.5 * excess)
    return Label("drift", onset + 1, f"start {start:.4g}, best {best:.4g}, end {end:.4g}")


def oscillated(fate: Fate, twin: Fate, begin: int) -> Label | None:
    """Swings three times those before and those of the twin, on a higher level, from a moment well inside the run."""
    tail = len(fate.train) // 4
    if begin < 20:
        return None
    before = noise(fate.train[max(0, begin - tail) : begin])
    now, calm = noise(fate.train[-tail:]), noise(twin.train[-tail:])
    gained = _start(twin.train) - _end(twin.train)
    if now < 3 * max(before, calm) or _end(fate.train) < _end(twin.train) + 0.1 * gained:
        return None
    return Label("oscillation", begin + 1, f"noise {before:.3g} before, {now:.3g} after, {calm:.3g} in its twin")


def flat(fate: Fate, twin: Fate) -> Label | None:
    """It gained less than a tenth of what its twin did, and nothing any more in its second half."""
    start, end = _start(fate.train), _end(fate.train)
    reached = _start(twin.train) - _end(twin.train)
    if reached < 0.2 * abs(_start(twin.train)) or start - end > 0.1 * reached:
        return None
    half = len(fate.train) // 2
    middle = float(np.median(fate.train[half : half + max(5, half // 10)]))
    if middle - end > 0.02 * abs(start):
        return None
    return Label("plateau", 1, f"start {start:.4g}, end {end:.4g}")


def harm(fate: Fate, twin: Fate) -> float:
    """How much worse it ended than its twin, in units of what the twin gained."""
    gained = _start(twin.train) - _end(twin.train)
    return (_end(fate.train) - _end(twin.train)) / max(gained, 0.02 * abs(_end(twin.train)), 1e-9)


def _same(fate: Fate, twin: Fate) -> bool:
    """Whether it ended within 2 % of its twin, or within what chance does to the last twentieth; spikes count."""
    tail = max(5, len(fate.train) // 20)
    room = max(0.02 * abs(_end(twin.train)), 3 * noise(twin.train[-tail:]) / float(np.sqrt(tail)))
    apart = float(fate.train[-tail:].mean() - twin.train[-tail:].mean())
    return _end(fate.train) - _end(twin.train) <= room and apart <= max(room, 0.1 * abs(_end(twin.train)))


def spoiled(fate: Fate) -> bool:
    """Whether the validation loss lost a quarter of what it had gained, or says nothing."""
    val = fate.val
    if len(val) < 5 or not np.isfinite(val).all():
        return True
    level = smooth(val, 3)
    return float(np.median(val[-3:])) - float(level.min()) > 0.25 * max(float(level[0] - level.min()), 0.0)


def of_faulty(fate: Fate, twin: Fate, fault: str, begin: int, traits: Traits) -> Label:
    """The label of a run with a fault.

    Args:
        fate: The run itself.
        twin: The same run without the fault.
        fault: The name of the story.
        begin: The step at which the fault sets in, counted from 0.
        traits: What the program does and shows.
    """
    found = broken(fate)
    if found:
        return found
    if broken(twin) or diverged(twin):
        return Label(UNSCORED, None, "the twin without the fault failed as well")
    fate = _mended(fate)
    return (
        _ran_away(fate, twin)
        or _lost_its_rate(fate, twin, fault, begin, traits)
        or flat(fate, twin)
        or _seen_overfit(fate, traits)
        or _swung_or_sank(fate, twin, begin)
        or _as_its_twin(fate, twin)
    )


def _ran_away(fate: Fate, twin: Fate) -> Label | None:
    found = diverged(fate)
    if found is None or harm(fate, twin) <= 0.25:
        return None
    if spoiled(fate):
        return found
    return Label(UNSCORED, None, "the train loss rose for good, the validation loss did not")


def _lost_its_rate(fate: Fate, twin: Fate, fault: str, begin: int, traits: Traits) -> Label | None:
    if fault not in ("lr-zero", "schedule-too-short"):
        return None
    if harm(fate, twin) < 0.05:
        return Label(UNSCORED, None, "dead learning rate, next to no harm")
    shown = traits.shows_lr
    return Label("dead_lr" if shown else UNSCORED, begin + 1, "" if shown else "the log has no learning rate")


def _swung_or_sank(fate: Fate, twin: Fate, begin: int) -> Label | None:
    found = oscillated(fate, twin, begin) or drifted(fate) if harm(fate, twin) > 0.1 else None
    if found is None or spoiled(fate):
        return found
    return Label(UNSCORED, None, f"{found.label}, and the validation loss is well")


def _as_its_twin(fate: Fate, twin: Fate) -> Label:
    worse = harm(fate, twin)
    if _same(fate, twin):
        return Label("harmless", None, f"ended {worse:+.1%} of the gain from its twin")
    return Label(UNSCORED, None, f"worse than its twin by {worse:.1%} of the gain, and no class fits")


def of_healthy(fate: Fate, story: str, traits: Traits) -> Label:
    """The label of a run without a fault."""
    if broken(fate):
        return Label(UNSCORED, None, "no fault was put in, and it ended with NaN")
    rose = diverged(fate) or drifted(fate)
    if not traits.falls:
        moved = rose or overfit(fate) or _was_overfit(fate)
        return Label(SHIFTED, None, "this objective's loss rises") if moved else Label("healthy")
    if rose and story in CHANGES and not (diverged(fate) and _end(fate.val) > fate.val[0]):
        return Label(SHIFTED, None, "the data changed: " + rose.reason)
    if rose or _end(fate.val) > fate.val[0] + 0.5 * abs(fate.val[0]):
        return Label(UNSCORED, None, "no fault was put in, and it ended badly")
    found = _seen_overfit(fate, traits)
    if found:
        return found
    if _start(fate.train) - _end(fate.train) < 0.02 * abs(_start(fate.train)):
        return Label(UNSCORED, None, "no fault was put in, and it learned nothing")
    if _was_overfit(fate):
        return Label(SHIFTED, None, "the validation loss rose by 10 % for a tenth of the run, and came back")
    return Label("healthy")


def _seen_overfit(fate: Fate, traits: Traits) -> Label | None:
    found = overfit(fate)
    if found and not traits.shows_val:
        return Label(UNSCORED, None, "overfit, and the log has no validation loss")
    return found


def _was_overfit(fate: Fate) -> bool:
    level = smooth(fate.val, 3)
    best = np.minimum.accumulate(level)
    return bool((level - best > np.maximum(0.1 * np.abs(best), 3 * noise(fate.val))).mean() > 0.1)


def _mended(fate: Fate) -> Fate:
    """The same with gaps in the train loss filled: a NaN that did not stay is no reason to see nothing else."""
    good = np.isfinite(fate.train)
    if good.all():
        return fate
    return replace(fate, train=np.interp(np.arange(len(good)), np.flatnonzero(good), fate.train[good]))
