"""One change of a configuration, worded and computed: the bricks that remedies are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from checker import wording
from checker.finding import Finding
from checker.history import History
from checker.registry.planned import Value
from checker.report import usual
from checker.series import median
from checker.wording import place


@dataclass(frozen=True)
class Suggestion:
    """One experiment worth running: one change, so that its result means something."""

    idea: str
    rationale: str
    change: Mapping[str, Value] = field(default_factory=dict)
    """Dotted configuration keys; only those that the run's own configuration has."""
    effect: str = ""


Suggestions = Iterator[Suggestion]


@dataclass(frozen=True)
class Look:
    """What a remedy may look at."""

    history: History
    config: Mapping[str, Any]
    finding: Finding | None = None
    id: str = ""
    """The experiment, as a command names it."""

    def get(self, key: str) -> Any:
        """The configuration's value under a dotted key, or None."""
        found: Any = self.config
        for part in key.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found

    def has(self, key: str) -> bool:
        section, _, last = key.rpartition(".")
        found = self.get(section) if section else self.config
        return isinstance(found, Mapping) and last in found

    def number(self, key: str) -> float | None:
        value = self.get(key)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def evidence(self, *names: str) -> float | None:
        """The first of some quantities that the finding measured."""
        measured = self.finding.evidence if self.finding else {}
        return next((float(measured[name]) for name in names if isinstance(measured.get(name), int | float)), None)

    @property
    def onset(self) -> int:
        return (self.finding.first_step or 0) if self.finding else 0

    @property
    def onset_place(self) -> str:
        return place(self.finding.first_row, self.finding.first_step) if self.finding else "its end"

    @property
    def rate(self) -> float | None:
        """The learning rate at the onset; the last one where nothing was found."""
        lr = self.history.lr
        if not lr.count:
            return None
        if self.finding is None or not lr.levels or self.finding.first_row > lr.rows[-1]:
            return lr.last
        return lr.levels[lr.block_at(self.finding.first_row)]

    @property
    def warming_up(self) -> bool:
        """Whether the onset lies within the warm-up, at a learning rate that is still below its peak."""
        steps = self.number("schedule.warmup_steps")
        return self.finding is not None and self.finding.first_step is not None and self.onset < (steps or 0)

    @property
    def kind(self) -> str:
        """The optimizer, as the configuration calls it."""
        return str(self.get("optimizer.kind") or "")

    @property
    def momentum(self) -> float | None:
        """What the optimizer keeps of its last update: the first beta of Adam, the momentum of SGD."""
        if not usual.is_adam(self.kind):
            return self.number("optimizer.momentum")
        betas = self.get("optimizer.betas")
        first = betas[0] if isinstance(betas, list | tuple) and betas else self.get("optimizer.beta1")
        return first if isinstance(first, int | float) else None

    @property
    def rates(self) -> usual.Band | None:
        """Learning rates that are usual for the optimizer; None where it is not known."""
        return usual.rates(self.kind, self.momentum or 0.0)

    @property
    def length(self) -> int | None:
        """How many steps were planned."""
        planned = self.number("train.steps") or self.history.total_steps
        return int(planned) if planned else None

    @property
    def seen(self) -> str:
        """What was found and since when, with the learning rate of that moment: what every rationale starts with."""
        if self.finding is None:
            return ""
        at_rate = "" if self.rate is None else f", at learning rate {wording.number(self.rate)}"
        return f"{self.finding.summary} (since {self.onset_place}{at_rate})"

    @property
    def gradient(self) -> str:
        """What the gradient norm did."""
        grad = self.history.grad
        if not grad.count:
            return "the gradient norm was not logged"
        usual = median(grad.levels) if grad.levels else grad.last
        return f"the gradient norm ended at {wording.number(grad.last)}, its median was {wording.number(usual)}"


def setting(look: Look, change: Mapping[str, Value], idea: str, *, why: str, effect: str) -> Suggestions:
    """The keys of `change` set to its values; nothing when the run had just those."""
    if any(look.get(key) != value for key, value in change.items()):
        yield Suggestion(idea, why, change if all(map(look.has, change)) else {}, effect)


def scaled(look: Look, factors: Mapping[str, float], idea: str, *, why: str, effect: str) -> Suggestions:
    """One key times its factor where its value is known and above 0, the same in words where it is not."""
    ((key, factor),) = factors.items()
    old = look.number(key)
    if old is None:
        yield Suggestion(f"{idea} to about {factor:g}x", why, effect=effect)
        return
    new = _times(old, factor, whole=isinstance(old, int) and not key.startswith("optimizer."))
    if old > 0 and new != old:
        yield Suggestion(f"{idea} from {wording.number(old)} to {wording.number(new)}", why, {key: new}, effect)


def _times(old: float, factor: float, *, whole: bool) -> float:
    """Counts stay whole; for anything else two significant digits are all that such a guess is worth."""
    return max(1, round(old * factor)) if whole else float(f"{old * factor:.2g}")


def usual_rate(look: Look) -> float | None:
    """The learning rate that such a run would begin with; None where the optimizer is not known."""
    layers, width = look.number("model.layers"), look.number("model.width")
    weights = 12 * layers * width**2 if layers and width else None  # a transformer's, embeddings left out
    rate = usual.rate(look.kind, look.momentum or 0.0, weights)
    return None if rate is None else float(f"{rate:.2g}")


def step_size(look: Look) -> float | None:
    """A learning rate to try after one far too high: the usual one, or a lower one where that was too much already."""
    new = usual_rate(look)
    if new is not None and look.warming_up and look.rate:
        new = min(new, float(f"{0.3 * look.rate:.2g}"))
    return new


def lower_lr(look: Look, factor: float, why: str) -> Suggestions:
    """A lower peak: a part of the present one, or of the rate at which it happened where that was on the way up."""
    idea, peak = "lower the learning rate", look.number("optimizer.lr")
    if look.warming_up and peak and look.rate and look.rate < peak:
        new = float(f"{look.rate * max(factor, 0.3):.2g}")
        words = f"{idea} from {wording.number(peak)} to {wording.number(new)}"
        effect = f"the rate of {look.onset_place} ({wording.number(look.rate)}) was too much and is never reached"
        yield from setting(look, {"optimizer.lr": new}, words, why=why, effect=effect)
        return
    effect = f"updates {wording.times(1 / factor)} smaller; if their size is the cause, " + (
        f"the run passes {look.onset_place}" if look.finding else "the loss stays near its best"
    )
    yield from scaled(look, {"optimizer.lr": factor}, idea, why=why, effect=effect)


def raise_lr(look: Look, why: str) -> Suggestions:
    """Three times the present rate, or the usual one where that is more; one far too low is odd by itself."""
    old, usually = look.number("optimizer.lr"), usual_rate(look)
    if old and usually and usually > 3 * old:
        idea = f"raise the learning rate from {wording.number(old)} to {wording.number(usually)}"
        effect = (
            f"updates {wording.times(usually / old)} larger, as is usual for {look.kind}: the loss leaves its level"
        )
        return setting(look, {"optimizer.lr": usually}, idea, why=why, effect=effect)
    effect = "updates 3x larger; the loss falls again within some hundred steps, or step size is not the limit"
    return scaled(look, {"optimizer.lr": 3}, "raise the learning rate", why=why, effect=effect)


def clip(look: Look) -> Suggestions:
    """Gradient clipping where there was none, harder clipping where there was."""
    old = look.number("train.clip_norm")
    new = float(f"{old / 2:.2g}") if old else 1.0
    was = "" if old is None else f" instead of {wording.number(old)}" if old else " (it was off)"
    idea = f"clip gradients to norm {wording.number(new)}{was}"
    effect = f"no batch moves the weights further than a gradient of norm {wording.number(new)} does"
    return setting(look, {"train.clip_norm": new}, idea, why=f"{look.seen}; {look.gradient}", effect=effect)


def warm_up(look: Look, why: str) -> Suggestions:
    """A longer warm-up: twice as long, and at least a twentieth of the run."""
    old, length = look.number("schedule.warmup_steps"), look.length
    steps = max(2 * int(old or 0), round(0.05 * (length or 0)), 10)
    if length and steps >= length / 2:
        return
    idea = f"warm up over {steps} steps" + ("" if old is None else f" instead of {wording.number(old)}")
    effect = "the optimizer has seen typical gradients before the full step size arrives"
    yield from setting(look, {"schedule.warmup_steps": steps}, idea, why=why, effect=effect)


def leave_fp16(look: Look, why: str) -> Suggestions:
    if look.get("train.precision") == "fp16":
        effect = "bf16 has the range of fp32: an overflow or underflow is gone, any other cause stays"
        yield from setting(look, {"train.precision": "bf16"}, "train in bf16 instead of fp16", why=why, effect=effect)
