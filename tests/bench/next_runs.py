"""What `next.py` trains: healthy bases, the same with one fault of the configuration, and random changes of those.

Everything is drawn from generators seeded by names, so the same runs come out on every machine. Tune and test share no
base: other widths, contexts, lengths, batch sizes, rates and seeds. What was learned on the one half (which remedy
comes first, how large a change is) is scored on the other.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from trainer.spec import Document, SpecError, build, laid_over, parsed_setting

SPLITS = ("tune", "test")
BASES = {"tune": 8, "test": 4}


class Sizes(NamedTuple):
    """What bases of a split are drawn from."""

    layers: tuple[int, ...]
    width: tuple[int, ...]
    context: tuple[int, ...]
    batch: tuple[int, ...]
    steps: tuple[int, ...]


SIZES = {
    "tune": Sizes((1, 2), (32, 64), (32, 64), (8, 16), (200, 300)),
    "test": Sizes((1, 2, 3), (40, 48), (40, 48), (6, 12), (180, 260, 360)),
}

KINDS = ("adamw", "sgd", "adam", "adamw")
RATES = {"adamw": (1e-3, 8e-3), "adam": (1e-3, 8e-3), "sgd": (0.15, 0.6)}
"""Rates at which such a model learns well; SGD with momentum 0.9."""


class Broken(NamedTuple):
    """One configuration with one fault, and the healthy one that it departs from."""

    name: str
    fault: str
    base: Document
    config: Document


def generator(*names: object) -> random.Random:
    return random.Random("/".join(map(str, names)))


def between(rng: random.Random, low: float, high: float) -> float:
    """Log-uniform, with three digits."""
    return float(f"{low * (high / low) ** rng.random():.3g}")


def base(split: str, number: int) -> Document:
    """A healthy configuration; every fourth trains with SGD, every fourth with Adam, the others with AdamW."""
    rng, sizes, kind = generator(split, number), SIZES[split], KINDS[number % len(KINDS)]
    steps = rng.choice(sizes.steps)
    warm = rng.choice((0.05, 0.1, 0.15))
    return {
        "seed": rng.randrange(1, 1000) * 2 + (split == "test"),
        "device": "cpu",
        "model": {
            "layers": rng.choice(sizes.layers), "heads": 2, "width": rng.choice(sizes.width),
            "context": rng.choice(sizes.context), "dropout": rng.choice((0.0, 0.0, 0.05)),
        },
        "data": {"max_bytes": 400_000, "val_bytes": 8_000},
        "optimizer": {
            "kind": kind, "lr": between(rng, *RATES[kind]), "momentum": 0.9,
            "weight_decay": 0.0 if kind != "adamw" else rng.choice((0.0, 0.01, 0.1)),
            "betas": rng.choice(([0.9, 0.95], [0.9, 0.99], [0.9, 0.999])),
        },
        "schedule": {
            "kind": rng.choice(("cosine", "constant", "linear", "cosine")), "warmup_steps": round(warm * steps),
            "final_lr_ratio": rng.choice((0.0, 0.1)),
        },
        "train": {
            "steps": steps, "batch_size": rng.choice(sizes.batch), "clip_norm": rng.choice((0.5, 1.0, 1.0, 2.0)),
            "eval_every": max(5, steps // 20), "eval_batches": 4, "checkpoint_every": 0,
            "precision": "bf16" if rng.random() < 0.15 else "fp32",
        },
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- faults

Change = dict[str, Any]
"""Dotted keys and what they are set to."""


def _rate(base: Document, factor: float) -> Change:
    return {"optimizer.lr": float(f"{base['optimizer']['lr'] * factor:.3g}")}


def _lr_high(rng: random.Random, base: Document) -> Change:
    return _rate(base, between(rng, 30, 3000))


def _no_clip(rng: random.Random, base: Document) -> Change:
    return {"train.clip_norm": 0.0, **_rate(base, between(rng, 10, 1000))}


def _no_warmup(rng: random.Random, base: Document) -> Change:
    return {"schedule.warmup_steps": 0, **_rate(base, between(rng, 10, 300))}


def _constant_high(rng: random.Random, base: Document) -> Change:
    return {"schedule.kind": "constant", **_rate(base, between(rng, 10, 300))}


def _lr_low(rng: random.Random, base: Document) -> Change:
    return _rate(base, between(rng, 1e-5, 1e-2))


def _lr_zero(rng: random.Random, base: Document) -> Change:
    del rng, base
    return {"optimizer.lr": 0.0}


def _decay_early(rng: random.Random, base: Document) -> Change:
    steps = base["train"]["steps"]
    end = max(4, round(steps * between(rng, 0.02, 0.2)))
    return {
        "schedule.kind": rng.choice(("cosine", "linear")),
        "schedule.decay_steps": end,
        "schedule.warmup_steps": min(base["schedule"]["warmup_steps"], end // 3),
        "schedule.final_lr_ratio": rng.choice((0.0, 0.0, 0.001)),
    }


def _warmup_long(rng: random.Random, base: Document) -> Change:
    return {"schedule.warmup_steps": round(base["train"]["steps"] * between(rng, 2, 100))}


def _init_large(rng: random.Random, _base: Document) -> Change:
    return {"model.init_std": between(rng, 0.5, 30)}


def _init_small(rng: random.Random, _base: Document) -> Change:
    return {"model.init_std": between(rng, 1e-7, 1e-3)}


def _fp16_overflow(rng: random.Random, base: Document) -> Change:
    cause = _rate(base, between(rng, 100, 1000)) if rng.random() < 0.7 else {"model.init_std": between(rng, 10, 100)}
    return {"train.precision": "fp16", **cause}


def _little_data(rng: random.Random, base: Document) -> Change:
    return {
        "data.max_bytes": round(between(rng, 3_000, 12_000)),
        "data.val_bytes": 1_000,
        "train.steps": base["train"]["steps"] * rng.choice((1, 2)),
        "model.dropout": 0.0,
        "optimizer.weight_decay": 0.0,
    }


def _momentum(rng: random.Random, base: Document) -> Change:
    if base["optimizer"]["kind"] == "sgd":
        return {"optimizer.momentum": 1 - between(rng, 1e-4, 5e-3)}
    return {"optimizer.betas": [1 - between(rng, 1e-5, 5e-3), base["optimizer"]["betas"][1]]}


def _weight_decay(rng: random.Random, base: Document) -> Change:
    if base["optimizer"]["kind"] == "adamw":  # decoupled: each step takes lr times this
        return {"optimizer.weight_decay": between(rng, 10, 1000)}
    return {"optimizer.weight_decay": between(rng, 0.1, 30)}


def _dropout(rng: random.Random, _base: Document) -> Change:
    return {"model.dropout": 1 - between(rng, 0.03, 0.3)}


def _hard_clip(rng: random.Random, _base: Document) -> Change:
    return {"train.clip_norm": between(rng, 1e-6, 1e-3)}


def _step_decay(rng: random.Random, _base: Document) -> Change:
    return {
        "schedule.kind": "step",
        "schedule.step_size": rng.randrange(2, 10),
        "schedule.gamma": between(rng, 0.05, 0.5),
    }


def _mild(rng: random.Random, base: Document) -> Change:
    return _rate(base, between(rng, 3, 30))


def _one_window(rng: random.Random, base: Document) -> Change:
    return {"train.batch_size": 1, "train.clip_norm": 0.0, **_rate(base, between(rng, 2, 20))}


def _second_beta(rng: random.Random, base: Document) -> Change:
    if base["optimizer"]["kind"] == "sgd":  # has none: no momentum at all at a tiny rate
        return {"optimizer.momentum": 0.0, **_rate(base, between(rng, 1e-3, 1e-1))}
    return {"optimizer.betas": [base["optimizer"]["betas"][0], between(rng, 0.01, 0.5)], **_rate(base, 5)}


def _two(rng: random.Random, base: Document) -> Change:
    names = rng.sample(sorted(FAULTS), 2)
    return FAULTS[names[0]](rng, base) | FAULTS[names[1]](rng, base)


FAULTS: dict[str, Callable[[random.Random, Document], Change]] = {
    "lr too high": _lr_high,
    "high lr, no clipping": _no_clip,
    "high lr, no warm-up": _no_warmup,
    "constant high lr": _constant_high,
    "lr too low": _lr_low,
    "lr zero": _lr_zero,
    "decay too early": _decay_early,
    "warm-up too long": _warmup_long,
    "init too large": _init_large,
    "init too small": _init_small,
    "fp16 overflow": _fp16_overflow,
    "little data": _little_data,
    "momentum too high": _momentum,
    "weight decay too high": _weight_decay,
    "dropout too high": _dropout,
    "clipping too hard": _hard_clip,
    "step decay too fast": _step_decay,
}
"""One fault each, or two settings that make one fault together; strengths are drawn from mild to absurd."""


UNSEEN: dict[str, Callable[[random.Random, Document], Change]] = {
    "two faults": _two,
    "lr mildly too high": _mild,
    "batch of one, no clipping": _one_window,
    "beta2 too low, or no momentum": _second_beta,
}
"""Faults of the test split alone: no remedy was looked at with one of them before it was scored."""

OF = {"tune": FAULTS, "test": FAULTS | UNSEEN}


def nested(change: Mapping[str, Any]) -> Document:
    """Dotted keys as the tables of a spec."""
    document: Document = {}
    for key, value in change.items():
        section, _, last = key.rpartition(".")
        table = document.setdefault(section, {}) if section else document
        table[last] = value
    return document


def broken(split: str) -> list[Broken]:
    """Every base of a split with every fault once; two faults may exclude each other, and are drawn again."""
    found = []
    for number in range(BASES[split]):
        healthy = base(split, number)
        for fault, draw in OF[split].items():
            rng = generator(split, number, fault)
            change = draw(rng, healthy)
            while not allowed(healthy, change):
                change = draw(rng, healthy)
            name = f"{split}-{number:02d}-{fault.replace(' ', '-').replace(',', '')}"
            found.append(Broken(name, fault, healthy, laid_over(healthy, nested(change))))
    return found


# -------------------------------------------------------------------------------------------------- random changes


def _other(rng: random.Random, old: object, choices: tuple[Any, ...]) -> Any:
    return rng.choice([choice for choice in choices if choice != old])


def _scaled(rng: random.Random, old: float, most: float) -> float:
    return float(f"{(old or 1e-3) * between(rng, 1 / most, most):.3g}")


def _steps_of(rng: random.Random, config: Document, low: float, high: float) -> int:
    return max(1, round((config["train"]["steps"] or 1) * (low + (high - low) * rng.random())))


SPACE: dict[str, Callable[[random.Random, Any, Document], Any]] = {
    "optimizer.lr": lambda rng, old, _: _scaled(rng, old, 100),
    "optimizer.weight_decay": lambda rng, old, _: _other(rng, old, (0.0, 0.001, 0.01, 0.1, 1.0)),
    "optimizer.momentum": lambda rng, old, _: _other(rng, old, (0.0, 0.5, 0.9, 0.95, 0.99)),
    "optimizer.betas": lambda rng, old, _: _other(rng, old, ([0.9, 0.95], [0.9, 0.99], [0.9, 0.999], [0.8, 0.95])),
    "schedule.kind": lambda rng, old, _: _other(rng, old, ("constant", "cosine", "linear")),
    "schedule.warmup_steps": lambda rng, _, config: _steps_of(rng, config, 0.0, 0.3),
    "schedule.decay_steps": lambda rng, _, config: _steps_of(rng, config, 0.3, 1.0),
    "schedule.final_lr_ratio": lambda rng, old, _: _other(rng, old, (0.0, 0.01, 0.1, 0.3)),
    "schedule.step_size": lambda rng, _, config: _steps_of(rng, config, 0.0, 0.5),
    "train.clip_norm": lambda rng, old, _: _other(rng, old, (0.0, 0.1, 0.3, 1.0, 3.0)),
    "train.precision": lambda rng, old, _: _other(rng, old, ("fp32", "bf16", "fp16")),
    "train.steps": lambda rng, _, config: _steps_of(rng, config, 0.25, 2.0),
    "train.accumulate": lambda rng, old, _: _other(rng, old, (1, 2, 4)),
    "model.dropout": lambda rng, old, _: _other(rng, old, (0.0, 0.1, 0.2, 0.3)),
    "model.init_std": lambda rng, old, _: _scaled(rng, old, 100),
    "model.layers": lambda rng, old, _: _other(rng, old, (1, 2, 3)),
    "model.width": lambda rng, old, _: rng.choice((old // 2, old * 2)),
    "data.max_bytes": lambda rng, old, _: round(_scaled(rng, old, 100)),
}
"""Every key that a remedy ever changes for such a run, and the values that one would try: each is as likely as another.

Left out are the seed (a reference of its own) and what cannot heal (checkpoints, workers).
"""


def random_change(name: str, config: Document) -> Change:
    """One key of `SPACE` changed at random, in a way that the spec allows and that does something.

    A change without effect would make the baseline look weak, so keys that nobody reads are no choice.
    """
    rng = generator("random", name)
    keys = [key for key in SPACE if key not in idle(config)]
    while True:
        key = rng.choice(keys)
        section, _, last = key.partition(".")
        change = {key: SPACE[key](rng, config[section][last], config)}
        if allowed(config, change):
            return change


def idle(config: Document) -> set[str]:
    """Keys that do nothing with this optimizer and this schedule."""
    unread = {"optimizer.betas"} if config["optimizer"]["kind"] == "sgd" else {"optimizer.momentum"}
    if config["schedule"]["kind"] in ("constant", "step"):
        unread |= {"schedule.decay_steps", "schedule.final_lr_ratio"}
    return unread if config["schedule"]["kind"] == "step" else unread | {"schedule.step_size"}


def allowed(config: Document, change: Mapping[str, Any]) -> bool:
    try:
        build(laid_over(config, nested(change)), where="change")
    except SpecError:
        return False
    return True


def settings(change: Mapping[str, Any]) -> list[str]:
    """The change as `--set` takes it."""
    told = [f"{key}={value}" for key, value in change.items()]
    assert all(parsed_setting(setting) for setting in told)
    return told
