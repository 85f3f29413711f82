"""What to try next, rule by rule, computed from the run's own configuration and from what was measured in it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import contract
from checker import names
from checker.finding import Finding, Severity
from checker.history import History
from checker.registry.planned import Value
from checker.report import odd, usual
from checker.report.change import (
    Look,
    Suggestion,
    Suggestions,
    clip,
    leave_fp16,
    lower_lr,
    raise_lr,
    scaled,
    setting,
    usual_rate,
    warm_up,
)
from checker.report.story import LOSSES, first, of_fold, unit_of
from checker.series import SMOOTH, Series, running_median
from checker.wording import duration, number, share

MOST = 4
"""More suggestions than this are a brochure."""

FAR = 0.3
"""Powers of ten: a setting must be so far outside of what is usual before a run without a fault is told."""

_EARLY = 0.1
"""A fault in this first part of a run points at warm-up before it points at the learning rate itself."""


Tried = Callable[[Mapping[str, Value]], bool]


def suggest(
    findings: Sequence[Finding],
    experiment: contract.Experiment,
    history: History,
    tried: Tried = lambda _: False,
) -> list[Suggestion]:
    """At most four suggestions, the one with the largest expected gain first.

    Args:
        findings: the one that matters most first; without a fault among them the run counts as healthy.
        experiment: its `config` decides which keys may be changed.
        history: the run.
        tried: whether a change of the configuration was tried before; it is then not suggested again, and nothing else
            about its settings either: what comes next for them follows from that trial.
    """
    faults: list[Finding | None] = [finding for finding in findings if finding.severity is not Severity.INFO]
    looks = [Look(history, experiment.config, fault, experiment.id) for fault in faults or [None]]
    chosen: list[Suggestion] = []
    done: set[str] = set()
    for look in looks:
        remedy = REMEDIES.get(look.finding.rule, _unknown) if look.finding else _healthy
        for suggestion in remedy(look):
            if suggestion.change and tried(suggestion.change):
                done |= suggestion.change.keys()
                continue
            taken = done.union(*(earlier.change for earlier in chosen))
            if not taken & suggestion.change.keys() and suggestion.idea not in {earlier.idea for earlier in chosen}:
                chosen.append(suggestion)
    return chosen[:MOST]


def _early(look: Look) -> str:
    """How early it happened, as a clause; empty when it was not early."""
    part = look.onset / look.length if look.length else 1.0
    return f"; that is {share(part)} into the run" if part < _EARLY else ""


def _nonfinite(look: Look) -> Suggestions:
    if look.finding and of_fold(look.finding):
        idea = "fit that fold alone with its parameters; look for a constant column, a class that it lacks, or overflow"
        yield Suggestion(idea, look.seen, effect="names the data or the parameters that give no number")
        return
    if look.finding and look.finding.evidence.get("metric") == names.VAL_LOSS:
        idea = "find the evaluation batch that gives NaN: an empty one, or a mean over 0 items"
        why = f"{look.seen}; the train loss was still {number(look.history.train.last)}"
        yield Suggestion(idea, why, effect="a fault of the measurement costs no training")
        return
    if look.evidence("finite_before") == 0:
        idea = "run one batch with anomaly detection on; look at inputs, labels and initial weights"
        why = f"{look.seen}; 0 finite values came before, so no update can be the cause"
        yield Suggestion(idea, why, effect="names the operation that makes the first NaN")
    yield from odd.settings(look, look.seen)
    yield from leave_fp16(look, f"{look.seen}; fp16 ends at 65504")
    yield from _smaller_steps(look)
    yield from clip(look)


def _smaller_steps(look: Look) -> Suggestions:
    """A lower peak, and then, where it happened early, a longer warm-up.

    In this order since the first healed 7 of 17 runs with a finding of this kind, the second none of 15 (tune split of
    `make bench-next`, before odd settings came first).
    """
    yield from lower_lr(look, 0.3, look.seen)
    if early := _early(look):
        yield from warm_up(look, look.seen + early)


def _hidden_nan(look: Look) -> Suggestions:
    yield from _nonfinite(look)
    idea = "log the loss as it is: filter no NaN, repeat no old value"
    yield Suggestion(idea, look.seen, effect="the next NaN is seen at the step at which it happens")


def _divergence(look: Look) -> Suggestions:
    yield from odd.settings(look, look.seen)
    yield from _smaller_steps(look)
    yield from clip(look)
    if not _early(look):
        yield from warm_up(look, look.seen)


def _explosion(look: Look) -> Suggestions:
    yield from odd.settings(look, look.seen)
    yield from lower_lr(look, 0.1, look.seen)
    yield from clip(look)
    yield from warm_up(look, look.seen + _early(look))
    yield from leave_fp16(look, look.seen)


def _gradient_explosion(look: Look) -> Suggestions:
    yield from odd.settings(look, look.seen)
    yield from clip(look)
    yield from leave_fp16(look, look.seen)
    yield from lower_lr(look, 0.3, look.seen)
    yield from warm_up(look, look.seen + _early(look))


def _overfit(look: Look) -> Suggestions:
    """By the part of the gap that each closed in six runs of the tune split of `make bench-next`.

    Data that are read four times more than 80 % in each, stopping 57 % on average, weight decay 45 %, dropout 33 %.
    """
    val = look.history.val
    best, place = val.best()
    at = int(look.evidence("best_step") or (val.steps[place] if val.steps else 0))
    where = f"{unit_of(look.history)} {at}"
    why = f"{look.seen}; validation loss {number(best)} at its best ({where}), {number(val.last)} at the end"
    if look.history.epoch is not None and look.history.epoch < 1:  # nothing was read twice, so nothing is recited
        yield from odd.settings(look, why)
    yield from _more_data(look, why)
    if at:
        yield from _stop(look, at, "validation loss", why)
    decay = look.number("optimizer.weight_decay")
    effect = "smaller weights fit less noise"
    if decay == 0:
        yield from setting(look, {"optimizer.weight_decay": 0.1}, "weight decay 0.1 (it was 0)", why=why, effect=effect)
    yield from scaled(look, {"optimizer.weight_decay": 3}, "raise weight decay", why=why, effect=effect)
    old = look.number("model.dropout")
    new = round(min((old or 0.0) + 0.1, 0.9), 4)
    idea = "0.1 more dropout" if old is None else f"dropout {number(new)} instead of {number(old)}"
    yield from setting(look, {"model.dropout": new}, idea, why=why, effect="the two losses part later")


def _more_data(look: Look, why: str) -> Suggestions:
    """So much that it is read four times: that often it is worth nearly as much as new data."""
    read = look.history.epoch
    factor, effect = 2.0, "more to learn, less to recite"
    if read is not None and read > 2 * usual.EPOCHS:
        factor = math.ceil(read / usual.EPOCHS)
        why = f"{why}; the data were read {number(math.floor(read))} times"
        effect = (
            f"read {usual.EPOCHS} times instead of {number(math.floor(read))}, data are worth nearly as much as new"
        )
    yield from scaled(look, {"data.max_bytes": factor}, "more training data:", why=why, effect=effect)


def _stop(look: Look, at: int, name: str, why: str) -> Suggestions:
    """To stop where a loss was best; rows are no unit that a configuration could know."""
    idea = f"stop at {unit_of(look.history)} {at}, where the {name} was best"
    if look.history.step is None:
        yield Suggestion(idea, why, effect="the same best model, earlier")
        return
    part = f" for {share(at / look.length)} of the planned steps" if look.length and at < look.length else ""
    yield from setting(look, {"train.steps": at}, idea, why=why, effect=f"the same best model{part}")


def _dead_lr(look: Look) -> Suggestions:
    lr, length = look.history.lr, look.length
    why = f"{look.seen}; its peak was {number(look.history.lr_top)}"
    if look.number("optimizer.lr") == 0 or (lr.count and look.history.lr_top == 0):
        effect, new = "the weights move at all", usual_rate(look) or 1e-3
        idea = f"a learning rate above 0, such as {number(new)}"
        yield from setting(look, {"optimizer.lr": new}, idea, why=why, effect=effect)
        return
    yield from odd.settings(look, why, slow=True)
    end, warm = look.number("schedule.decay_steps"), look.number("schedule.warmup_steps")
    if end and length and end < length:
        idea = f"let the decay end with the run: at step {length} instead of {number(end)}"
        effect = f"the {length - int(end)} steps behind the decay learn too"
        yield from setting(look, {"schedule.decay_steps": length}, idea, why=why, effect=effect)
    elif not look.has("schedule.decay_steps"):
        yield Suggestion("let the decay of the learning rate end with the run", why, effect="the last steps learn too")
    if not look.number("schedule.final_lr_ratio"):
        idea, effect = "decay to a tenth of the peak instead of 0", "the last steps still move the weights"
        yield from setting(look, {"schedule.final_lr_ratio": 0.1}, idea, why=why, effect=effect)
    if warm and length and warm > 0.2 * length:
        steps = max(1, round(0.05 * length))
        idea, effect = f"warm up over {steps} steps instead of {number(warm)}", "the full rate arrives in time"
        yield from setting(look, {"schedule.warmup_steps": steps}, idea, why=why, effect=effect)


def _plateau(look: Look) -> Suggestions:
    lr = look.history.lr
    if look.number("optimizer.lr") == 0 or (lr.levels and lr.levels[len(lr.levels) // 2] < 0.05 * look.history.lr_top):
        yield from _dead_lr(look)
    yield from odd.settings(look, look.seen, slow=True)
    yield from raise_lr(look, look.seen)
    effect = "falls further if capacity was the limit, stays if the optimizer was"
    yield from scaled(look, {"model.width": 2}, "widen the model", why=look.seen, effect=effect)
    idea = "learn one single batch by heart, on purpose"
    yield Suggestion(idea, look.seen, effect="a loss that stays up even there means a fault in model, labels or loss")


def _drift(look: Look) -> Suggestions:
    yield from odd.settings(look, look.seen)
    if look.get("schedule.kind") == "constant":
        idea, effect = "decay the learning rate along a cosine (it was constant)", "updates shrink towards the end"
        yield from setting(look, {"schedule.kind": "cosine"}, idea, why=look.seen, effect=effect)
    yield from lower_lr(look, 0.5, look.seen)
    idea, seed = "shuffle the data with another seed", look.number("seed")
    change = {} if seed is None else {"seed": int(seed) + 1}
    effect = "a rise at another step is the data, at the same step the optimizer"
    yield Suggestion(idea, look.seen, change, effect)


def _oscillation(look: Look) -> Suggestions:
    yield from odd.settings(look, look.seen)
    yield from lower_lr(look, 0.5, look.seen)
    effect = "gradient noise falls by a factor of 1.4"
    yield from scaled(
        look, {"train.accumulate": 2}, "average the gradient over more batches:", why=look.seen, effect=effect
    )
    yield from clip(look)


def _vanishing_gradient(look: Look) -> Suggestions:
    why = f"{look.seen}; {look.gradient}"
    yield from leave_fp16(look, f"{why}; fp16 rounds what is below 6e-8 to 0")
    yield from odd.settings(look, why, slow=True)
    effect = "a gradient that comes back means depth was the cause"
    yield from scaled(look, {"model.layers": 0.5}, "fewer layers:", why=why, effect=effect)
    yield from raise_lr(look, why)


def _stall(look: Look) -> Suggestions:
    usual = look.history.gap("train").quantile(0.99)
    why = look.seen + (f"; 99 % of its gaps between rows were under {duration(usual)}" if usual else "")
    rank = look.finding.evidence.get("rank") if look.finding else None
    if rank and look.finding and look.finding.evidence.get("rank_process") == "gone":
        idea = f"read the end of the output of rank {rank} and the kernel log of its machine, then {_resume(look)}"
        yield Suggestion(idea, why, effect="tells why the process ended; out of memory leaves a line there")
        return
    where = contract.rank_stacks(rank) if type(rank) is int and rank > 0 else contract.STACKS
    idea = f"read the main thread in {where}, then {_resume(look)}"
    yield Suggestion(idea, why, effect="names the call that never returned")
    workers = next((key for key, value in _numbers(look.config) if "workers" in key.lower() and value > 0), None)
    if workers:
        idea = "run the data loader in the training process, without workers"
        effect = "a deadlock between worker processes is gone; any other hang stays"
        yield Suggestion(idea, why, {workers: 0}, effect)


def _numbers(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Every number in a configuration, under its dotted key."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", value


def _resume(look: Look) -> str:
    """How to go on, as a command where the configuration is one of the trainer that comes with the checker."""
    ours = look.id and look.has("train.checkpoint_every")
    return f"resume: trainer run {look.id} --resume" if ours else "resume from the last checkpoint"


_MISTAKE = re.compile(
    r"(SpecError|TypeError|AttributeError|NameError|UnboundLocalError|KeyError|IndexError|ValueError|AssertionError|"
    r"ImportError|ModuleNotFoundError|SyntaxError|NotImplementedError|ZeroDivisionError)\b"
)
"""Errors of a program, which come again; one of the system (a full disk, a lost connection) may not."""


def _crash(look: Look) -> Suggestions:
    tick = look.history.tick
    error = (tick.error or "") if tick else ""
    why = look.seen + ("" if look.history.checkpoints else "; 0 checkpoints were announced in the log")
    if "out of memory" in error.lower() or "out of memory" in look.seen.lower():
        batch = look.number("train.batch_size")
        accumulate = int(look.number("train.accumulate") or 1)
        effect = "the same gradient in half the activation memory"
        if batch and batch > 1:
            half = {"train.batch_size": int(batch) // 2, "train.accumulate": 2 * accumulate}
            idea = f"batches of {int(batch) // 2} instead of {number(batch)}, accumulated over {2 * accumulate}"
            yield from setting(look, half, idea, why=why, effect=effect)
        else:
            yield Suggestion("half the batch, twice the gradient accumulation", why, effect=effect)
    if mistake := _MISTAKE.match(error):
        idea = f"correct what raised the {mistake[1]}, then {_resume(look)}"
        yield Suggestion(idea, why, effect="goes on where it was; with the same code it would end there again")
        return
    yield Suggestion(f"{_resume(look)} (nothing is known against the model)", why, effect="goes on where it was")


def _budget(look: Look) -> Suggestions:
    step = look.history.step or 0
    why = f"{look.seen}; {step} of {look.length} steps were done" if look.length else look.seen
    if step and look.length and step < look.length:
        idea = f"plan {step} steps, what the budget pays for, so that the schedule ends with it"
        yield from setting(look, {"train.steps": step}, idea, why=why, effect="a finished decay instead of a cut one")
    yield Suggestion(f"raise the budget, then {_resume(look)}", why, effect="the rest of the planned steps")


def _checkpoint_overdue(look: Look) -> Suggestions:
    effect = "a crash costs half as much"
    yield from scaled(look, {"train.checkpoint_every": 0.5}, "save more often: interval", why=look.seen, effect=effect)


def _throughput(look: Look) -> Suggestions:
    idea = "profile ten steps, and look for another process on the device"
    yield Suggestion(idea, look.seen, effect="names what the time goes to")


def _loss_spike(look: Look) -> Suggestions:
    yield from clip(look)


def _suspicious_improvement(look: Look) -> Suggestions:
    idea = "evaluate on data collected apart from the training set, and count rows that both sets share"
    yield Suggestion(idea, look.seen, effect="a leak shows as a loss far above the reported one")
    idea = "train with shuffled labels"
    yield Suggestion(idea, look.seen, effect="anything better than chance proves a leak")


def _healthy(look: Look) -> Suggestions:
    """A usual setting where one is far outside; else longer while it still learns, larger once it does not.

    Neither of the two where it has come back up.
    """
    if look.history.train.count >= 8:
        why = f"no rule found a fault; the train loss went from {number(first(look.history.train)[0])} to " + number(
            look.history.train.last
        )
        yield from odd.settings(look, why, slow=True, least=FAR)
    for role, name in LOSSES:
        if (risen := _risen(look.history.series[role])) is not None:
            yield from _back(look, name, look.history.series[role].last, *risen)
            return
    train = look.history.train
    smooth = running_median(train.levels, SMOOTH)
    if len(smooth) < 8 or not look.length:
        return
    before, last = smooth[-1 - len(smooth) // 4], smooth[-1]
    gained, whole = before - last, smooth[0] - last
    part = gained / whole if whole > 0 else 0.0
    why = f"train loss {number(before)} at step {train.steps[-1 - len(smooth) // 4]}, {number(last)} at the end"
    larger = "widen the model"
    if part > 0.02:
        why = f"{why}: {share(part)} of the whole gain came in the last quarter"
        yield from _longer(look, why)
        yield from scaled(look, {"model.width": 2}, larger, why=why, effect="a lower loss at the same step")
    else:
        why = f"{why}: only {share(max(part, 0.0))} of the whole gain came in the last quarter"
        yield from scaled(look, {"model.width": 2}, larger, why=why, effect="a lower floor, if capacity is the limit")
        yield from raise_lr(look, why)


def _risen(series: Series) -> tuple[float, int] | None:
    """The best level and its place in a curve that ended clearly above it: by more than its noise explains."""
    smooth = series.smooth()
    if len(smooth) < 8:
        return None
    best, block = series.best()
    rise = min(smooth[-1], series.level()) - best
    clear = max(0.1 * (max(smooth[: block + 1]) - best), 3 * series.spread(), 0.02 * abs(best))
    return (best, series.steps[block]) if rise > clear else None


def _back(look: Look, name: str, last: float, best: float, at: int) -> Suggestions:
    where = f"{unit_of(look.history)} {at}"
    why = f"the {name} ended at {number(last)}, {number(last - best)} above its best of {where} ({number(best)})"
    if name == dict(LOSSES)[names.TRAIN_LOSS]:
        yield from lower_lr(look, 0.3, why)
    yield from _stop(look, at, name, why)
    yield from lower_lr(look, 0.3, why)


def _longer(look: Look, why: str) -> Suggestions:
    steps, effect = 2 * (look.length or 0), "the loss falls on, as it still did at the end"
    change = {"train.steps": steps}
    if look.number("schedule.decay_steps"):
        change["schedule.decay_steps"] = steps
    yield from setting(look, change, f"train for {steps} steps instead of {look.length}", why=why, effect=effect)


def _unknown(_look: Look) -> Suggestions:
    """A rule that came without a remedy still has the advice in its docstring."""
    yield from ()


REMEDIES: dict[str, Callable[[Look], Suggestions]] = {
    "nonfinite": _nonfinite,
    "hidden_nan": _hidden_nan,
    "explosion": _explosion,
    "divergence": _divergence,
    "gradient_explosion": _gradient_explosion,
    "stall": _stall,
    "crash": _crash,
    "budget": _budget,
    "dead_lr": _dead_lr,
    "overfit": _overfit,
    "drift": _drift,
    "oscillation": _oscillation,
    "vanishing_gradient": _vanishing_gradient,
    "plateau": _plateau,
    "checkpoint_overdue": _checkpoint_overdue,
    "throughput": _throughput,
    "loss_spike": _loss_spike,
    "suspicious_improvement": _suspicious_improvement,
}
