"""What to try first where a configuration has a setting far outside of what is usual: the usual one instead."""

from __future__ import annotations

import math
from typing import NamedTuple

from checker.registry.planned import Value
from checker.report import usual
from checker.report.change import Look, Suggestions, setting, step_size, usual_rate
from checker.report.story import unit_of
from checker.series import median
from checker.wording import number, share, times

USED = 0.03
"""A rate that stays at more than this part of its peak still moves the weights."""


class Odd(NamedTuple):
    """A setting outside of its band: by how many powers of ten, and what to try instead."""

    decades: float
    change: dict[str, Value]
    idea: str
    told: str
    """A clause that says how far outside it is."""
    effect: str


def settings(look: Look, why: str, *, slow: bool = False, least: float = 0.0) -> Suggestions:
    """A suggestion for each odd setting, the one that is furthest outside first.

    They come before what a rule would try otherwise: of 44 failed runs of the tune split of `make bench-next` the first
    suggestion healed 18 before there were these, and 44 with them.

    Args:
        look: the run.
        why: what was found, the begin of each rationale.
        slow: whether the run learns nothing, rather than too wildly: then a schedule that keeps the rate low, and a
            rate that is too low, are odd as well.
        least: by how many powers of ten a setting must be outside.
    """
    found = [_high_rate(look), _momentum(look), _weight_decay(look), _spread(look), _dropout(look)]
    if slow:
        found += [_low_rate(look), _warm_up(look), _decay_end(look), _step_decay(look), _hard_clip(look)]
    for odd in sorted((odd for odd in found if odd and odd.decades >= least), key=lambda odd: -odd.decades):
        yield from setting(look, odd.change, odd.idea, why=f"{why}; {odd.told}", effect=odd.effect)


def _high_rate(look: Look) -> Odd | None:
    """With the clipping that belongs to steps of a usual size, where there was none: the two are one idea."""
    peak, band, new = look.number("optimizer.lr"), look.rates, step_size(look)
    if peak is None or band is None or new is None or band.decades(peak) <= 0:
        return None
    change: dict[str, Value] = {"optimizer.lr": new}
    idea = f"lower the learning rate from {number(peak)} to {number(new)}"
    if look.number("train.clip_norm") == 0:
        change["train.clip_norm"] = 1.0
        idea += " and clip gradients to norm 1 (it was off)"
    told = f"{number(peak)} is {times(peak / band.high)} the highest rate that is usual for {look.kind}{_lowest(look)}"
    return Odd(band.decades(peak), change, idea, told, "steps of a usual size: the loss falls, and stays down")


def _lowest(look: Look) -> str:
    """At which rate the train loss was lowest, as a clause, where that was on the way to the peak."""
    train, lr = look.history.train, look.history.lr
    if not train.levels or not lr.levels:
        return ""
    _, block = train.best()
    rate = lr.levels[lr.block_at(train.rows[block])]
    if rate >= 0.9 * look.history.lr_top or train.rows[block] > lr.rows[lr.levels.index(max(lr.levels))]:
        return ""
    return f"; the train loss was lowest at {unit_of(look.history)} {train.steps[block]}, at a rate of {number(rate)}"


def _low_rate(look: Look) -> Odd | None:
    peak, band, new = look.number("optimizer.lr"), look.rates, usual_rate(look)
    if peak is None or band is None or new is None or band.decades(peak) >= 0:
        return None
    idea = f"raise the learning rate from {number(peak)} to {number(new)}"
    told = f"the lowest rate that is usual for {look.kind} is {times(band.low / peak)} as high"
    return Odd(-band.decades(peak), {"optimizer.lr": new}, idea, told, "the loss leaves its start in the first steps")


def _momentum(look: Look) -> Odd | None:
    """Of Adam the first of two betas, of SGD the momentum."""
    betas, change = look.get("optimizer.betas"), dict[str, Value]()
    held = look.momentum
    if held is None or usual.memory(held) <= usual.LONG_MEMORY:
        return None
    if not usual.is_adam(look.kind):
        change, name = {"optimizer.momentum": 0.9}, "momentum"
    elif isinstance(betas, list | tuple):
        change, name = {"optimizer.betas": [0.9, *betas[1:]]}, "beta1"
    else:
        change, name = {"optimizer.beta1": 0.9}, "beta1"
    steps = round(usual.memory(held))
    told = f"{name} {held:.6g} averages over {steps} steps, so an update goes where the gradient pointed long ago"
    idea = f"{name} 0.9 instead of {held:.6g}"
    return Odd(math.log10(steps / usual.LONG_MEMORY), change, idea, told, "updates follow the last 10 gradients")


def _weight_decay(look: Look) -> Odd | None:
    """By what it takes from a weight in a step, at a usual rate: a rate that is too high is odd by itself."""
    decay, decoupled = look.number("optimizer.weight_decay"), look.kind.lower() == "adamw"
    if not decay or look.rates is None:  # what decay means is known for known optimizers alone
        return None
    known = [rate for rate in (usual_rate(look), look.number("optimizer.lr")) if rate]
    strength = decay * min(known, default=1e-3) if decoupled else decay
    band, new = (usual.DECOUPLED, usual.USUAL_DECOUPLED) if decoupled else (usual.COUPLED, usual.USUAL_COUPLED)
    if band.decades(strength) <= 0:
        return None
    idea = f"weight decay {number(new)} instead of {number(decay)}"
    told = f"weight decay {number(decay)} pulls {times(strength / band.high)} as hard as the strongest that is usual"
    if decoupled:
        told = f"weight decay {number(decay)} takes {share(strength)} of each weight away per step"
    return Odd(band.decades(strength), {"optimizer.weight_decay": new}, idea, told, "weights keep what they learn")


def _spread(look: Look) -> Odd | None:
    spread, new = look.number("model.init_std"), usual.USUAL_SPREAD
    if not spread or not (decades := usual.SPREAD.decades(spread)):
        return None
    idea = f"initial weights of spread {number(new)} instead of {number(spread)}"
    told = (
        f"initial weights are spread by {number(spread)}; the first train loss was {number(look.history.train.start())}"
    )
    return Odd(abs(decades), {"model.init_std": new}, idea, told, "signals and gradients keep their size by layer")


def _dropout(look: Look) -> Odd | None:
    """By how little it lets through; where no data are read twice there is nothing that it could prevent."""
    dropout, most = look.number("model.dropout"), usual.DROPOUT
    read = look.history.epoch
    new = 0.0 if read is not None and read < 1 else usual.USUAL_DROPOUT
    if dropout is None or not most < dropout < 1:
        return None
    idea = f"dropout {number(new)} instead of {number(dropout)}"
    told = f"dropout {number(dropout)} lets {share(1 - dropout)} of the signals through"
    decades = math.log10((1 - most) / (1 - dropout))
    return Odd(decades, {"model.dropout": new}, idea, told, "the model is trained as it is used")


def _hard_clip(look: Look) -> Odd | None:
    """Against the norms that were measured; Adam divides by the size of its gradients, so it does not notice."""
    limit, norms = look.number("train.clip_norm"), look.history.grad.levels
    if not limit or not norms or look.rates is None or usual.is_adam(look.kind):
        return None
    norm = median(norms)
    if limit >= usual.CLIPPED * norm:
        return None
    idea = f"clip gradients to norm 1 instead of {number(limit)}"
    told = f"gradients of median norm {number(norm)} were clipped to {number(limit)}"
    decades = math.log10(usual.CLIPPED * norm / limit)
    return Odd(decades, {"train.clip_norm": 1.0}, idea, told, f"steps {times(min(norm, 1.0) / limit)} as large")


def _step_decay(look: Look) -> Odd | None:
    """By what is left of the rate half-way through the run."""
    every, gamma, length = look.number("schedule.step_size"), look.number("schedule.gamma"), look.length
    if look.get("schedule.kind") != "step" or not every or not gamma or not length or gamma >= 1:
        return None
    lost = -math.log10(gamma) * (length // 2 // every)
    if lost <= -math.log10(USED):
        return None
    drops = max(1, round(math.log(usual.LEFT) / math.log(gamma)))
    new = max(1, length // (drops + 1))
    idea = f"decay every {new} steps instead of every {number(every)}"
    told = f"times {number(gamma)} every {number(every)} steps leaves {10**-lost:.2g} of the rate at half of the run"
    return Odd(lost, {"schedule.step_size": new}, idea, told, "the second half of the run learns too")


def _warm_up(look: Look) -> Odd | None:
    warm, length = look.number("schedule.warmup_steps"), look.length
    if not warm or not length or warm <= 0.5 * length:
        return None
    new = max(1, round(0.05 * length))
    idea = f"warm up over {new} steps instead of {number(warm)}"
    told = (
        f"the warm-up of {number(warm)} steps is {times(warm / length)} the run, so the peak rate comes late or never"
    )
    return Odd(
        math.log10(4 * warm / length), {"schedule.warmup_steps": new}, idea, told, "the full rate arrives in time"
    )


def _decay_end(look: Look) -> Odd | None:
    end, length = look.number("schedule.decay_steps"), look.length
    if not end or not length or end >= 0.5 * length or look.get("schedule.kind") == "constant":
        return None
    if (look.history.step or 0) <= end or (look.number("schedule.final_lr_ratio") or 0.0) > USED:
        return None
    idea = f"let the decay end with the run: at step {length} instead of {number(end)}"
    told = f"the learning rate had decayed at step {number(end)} of {length}"
    effect = f"the {length - int(end)} steps behind the decay learn too"
    return Odd(math.log10(length / end), {"schedule.decay_steps": length}, idea, told, effect)
