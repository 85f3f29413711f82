"""`result.json`: what a finished run has come to, against what was asked of it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from contract import FORMAT, RESULT, Unreadable, decode_object, encode, now, replace
from trainer import spec
from trainer.log import RunLog

TIERS = ("must_pass", "should_pass", "could_pass")


def write(folder: Path, log: RunLog, options: spec.Spec, best: float | None) -> None:
    """Writes the result of a run whose best primary metric is `best`."""
    name, direction = options.metric.name, options.metric.direction
    tier, shortfalls = judge(options, best)
    document = {
        "v": FORMAT,
        "experiment_id": log.experiment.id,
        "run_id": log.run_id,
        "oracle_tier": tier,
        "primary_metric": {
            "name": name,
            "value": best,
            "direction": direction,
            "delta_vs_parent": _delta(folder.parent, options, best),
        },
        "secondary_metrics": {key: value for key, value in log.metrics.items() if key != name},
        "shortfalls": shortfalls,
        "evaluated_at": now(),
    }
    replace(folder / RESULT, encode(document, indent=1))


def judge(options: spec.Spec, best: float | None) -> tuple[str | None, list[str]]:
    """The highest tier reached with all below it, and what is missing for the others; None where none is declared."""
    asked = [(tier, limit) for tier in TIERS if (limit := getattr(options.tiers, tier)) is not None]
    sign = -1 if options.metric.direction == "min" else 1
    reached: str | None = "fail" if asked else None
    shortfalls: list[str] = []
    for tier, limit in asked:
        if best is not None and (best - limit) * sign >= 0:
            reached = tier if not shortfalls else reached
        else:
            value = "never measured" if best is None else f"{best:.6g}"
            shortfalls.append(f"{tier}: {options.metric.name} is {value}, asked was {limit:.6g}")
    return reached, shortfalls


def _delta(root: Path, options: spec.Spec, best: float | None) -> float | None:
    """How far this run is from its parent's value of the same metric."""
    if options.parent is None or best is None:
        return None
    path = root / options.parent / RESULT
    with suppress(OSError, Unreadable):
        metric: Any = decode_object(path.read_bytes(), str(path)).get("primary_metric")
        if isinstance(metric, dict) and metric.get("name") == options.metric.name:
            return best - metric["value"] if isinstance(metric.get("value"), float) else None
    return None
