"""Runs and cases made by hand, for tests of what is said about them."""

import math

import contract
from checker import judge
from checker.events import Plan, Row
from checker.finding import Action, Finding, Severity

CONFIG = {
    "model": {"kind": "gpt", "layers": 4, "width": 64, "dropout": 0.1, "init_std": 0.02},
    "data": {"kind": "stdlib-text", "max_bytes": 1_000_000},
    "optimizer": {"kind": "adamw", "lr": 0.009, "weight_decay": 0.1},
    "schedule": {"kind": "cosine", "warmup_steps": 0, "decay_steps": 400, "final_lr_ratio": 0.0},
    "train": {"steps": 1000, "batch_size": 16, "accumulate": 1, "clip_norm": 0.0, "precision": "fp16"}
    | {"checkpoint_every": 100},
}

NAN = float("nan")


def falling(count, start=4.0, end=1.0, pace=100, jitter=0.0):
    return [end + (start - end) * math.exp(-i / pace) + jitter * math.sin(i * i) for i in range(count)]


def experiment(**fields):
    return contract.Experiment(**{"id": "exp-001", "created_at": "2026-01-01T00:00:00+00:00", **fields})


def case_of(losses, plan=None, **more):
    """A judged case; `more` are columns as long as `losses`, None where a row has no value."""
    case = judge.Case.open(Plan(plan) if plan else None)
    for index, loss in enumerate(losses):
        values = {"train_loss": loss, **{name: column[index] for name, column in more.items()}}
        values = {name: value for name, value in values.items() if value is not None}
        judge.step(case, Row(index, index + 1, values, step=index, at=1.7e9 + index / 2, run_id="r1"))
    return case


def finding(rule, **fields):
    usual = {
        "severity": Severity.CRITICAL,
        "action": Action.KILL,
        "row": 90,
        "step": 90,
        "first_row": 80,
        "first_step": 80,
    }
    return Finding(**{"rule": rule, "summary": f"{rule} was seen", "run_id": "r1", **usual, **fields})


def with_finding(case, found):
    """`case` as if a rule had found something that is still true."""
    case.findings.append(found)
    case.episodes[found.rule] = judge.Episode(number=found.episode, told=found.severity)
    return case
