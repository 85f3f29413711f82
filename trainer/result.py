"""`result.json` and `result.md`: what a finished run has come to, against what was asked of it and against its parent.

Standard library only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from contract import (
    FORMAT,
    RESULT,
    RESULT_PAGE,
    STATUS,
    Experiment,
    State,
    Unreadable,
    encode,
    gain,
    now,
    number_in,
    number_out,
    replace,
    run_state,
    tier,
)
from trainer.document import read_object

Document = dict[str, Any]


def write(
    folder: Path,
    experiment: Experiment,
    *,
    run_id: str,
    value: float | None,
    secondary: Mapping[str, float],
    fingerprints: Mapping[str, Any],
    checkpoint: Mapping[str, Any] | None = None,
) -> Document:
    """Writes both files of a completed run and returns what `result.json` holds.

    Args:
        folder: the run folder; the parent lies beside it.
        experiment: the record of what was asked.
        run_id: the attempt that came to this result.
        value: the primary metric, best of the run; None when it was never measured. NaN is kept and misses every tier.
        secondary: other metrics.
        fingerprints: of what really ran: `config`, `code`, `data`.
        checkpoint: `path` relative to the folder, `sha256`, `step` of the checkpoint that holds the value.

    Raises:
        OSError: the folder cannot be written.
    """
    name, direction = experiment.metric.get("name", ""), experiment.metric.get("direction", "min")
    reached, shortfalls = tier(experiment.tiers, value, direction, name=name or "the metric")
    baseline, unfinished = _value_of(folder.parent / experiment.parent, name) if experiment.parent else (None, None)
    compared = value is not None and baseline is not None and math.isfinite(value) and math.isfinite(baseline)
    document = {
        "v": FORMAT,
        "experiment_id": experiment.id,
        "run_id": run_id,
        "status": str(State.COMPLETED),
        "oracle_tier": reached,
        "primary_metric": {
            "name": name,
            "value": None if value is None else number_out(value),
            "direction": direction,
            "delta_vs_parent": value - baseline if compared and value is not None and baseline is not None else None,
            "gain_vs_parent": gain(value, baseline, direction)
            if compared and value is not None and baseline is not None
            else None,
        },
        "parent": experiment.parent,
        "parent_state": unfinished,
        "secondary_metrics": {key: number_out(item) for key, item in secondary.items() if key != name},
        "shortfalls": shortfalls,
        "checkpoint": dict(checkpoint) if checkpoint else None,
        "fingerprints": dict(fingerprints),
        "evaluated_at": now(),
    }
    replace(folder / RESULT, encode(document, indent=1))
    replace(folder / RESULT_PAGE, page(document).encode("utf-8", "backslashreplace"))
    return document


def _value_of(folder: Path, name: str) -> tuple[float | None, str | None]:
    """The metric called `name` of another experiment, and its state when that is not completed.

    What is not completed has no result, but it may have come to a best value, which `checker list` shows as well.
    """
    with suppress(OSError, Unreadable):
        status = read_object(folder / STATUS)
        if run_state(status) is not State.COMPLETED:
            best = status.get("best_metrics")
            value = number_in(best.get(name)) if isinstance(best, dict) else None
            return value if value is not None and math.isfinite(value) else None, str(run_state(status))
    with suppress(OSError, Unreadable):
        document = read_object(folder / RESULT)
        metric: Any = document.get("primary_metric")
        completed = document.get("status", State.COMPLETED) == State.COMPLETED
        if completed and isinstance(metric, dict) and metric.get("name") == name:
            return number_in(metric.get("value")), None
    return None, None


def page(document: Mapping[str, Any]) -> str:
    """`result.md`: the facts as front matter for programs, the same as sentences for people."""
    metric = document["primary_metric"]
    secondary = document["secondary_metrics"]
    return "\n".join([
        "---",
        f"exp_id: {_word(document['experiment_id'])}",
        f"oracle_tier: {document['oracle_tier'] or 'null'}",
        "primary_metric:",
        f"  name: {_quoted(metric['name'])}",
        f"  value: {_yaml(metric['value'])}",
        f"  delta_vs_parent: {_yaml(metric['delta_vs_parent'])}",
        "secondary_metrics:" if secondary else "secondary_metrics: {}",
        *(f"  {_quoted(name)}: {_yaml(value)}" for name, value in secondary.items()),
        f"evaluated_at: {document['evaluated_at']}",
        "---",
        "",
        f"# Result: {_shown(document['experiment_id'])}",
        "",
        "## Primary metric",
        "",
        f"{_sentence(document)}",
        "",
        "## Shortfalls",
        "",
        *([f"- {_shown(item)}" for item in document["shortfalls"]] or [_none_missing(document)]),
        *(["", "## Secondary metrics", ""] if secondary else []),
        *(f"- {_shown(name)} = {_number(value)}" for name, value in secondary.items()),
        "",
    ])  # fmt: skip


def _sentence(document: Mapping[str, Any]) -> str:
    metric = document["primary_metric"]
    better = "higher" if metric["direction"] == "max" else "lower"
    if metric["value"] is None:
        return f"{_shown(metric['name']) or 'The metric'} was never measured."
    told = f"{_shown(metric['name'])} = {_number(metric['value'])} ({better} is better)"
    change, parent = metric["gain_vs_parent"], _shown(document["parent"] or "")
    parent += f" ({document['parent_state']})" if document.get("parent_state") else ""
    if change is not None:
        told += f", {abs(change):.4g} {'better' if change > 0 else 'worse'} than" if change else ", the same as"
        told += f" its parent {parent}"
    elif parent:
        told += f"; its parent {parent} has no value to compare with"
    reached = document["oracle_tier"]
    return f"{told}." + (f" Tier: {reached}." if reached else "")


def _none_missing(document: Mapping[str, Any]) -> str:
    return "None." if document["oracle_tier"] else "No tiers were declared, so nothing can be missed."


def _number(value: object) -> str:
    number = number_in(value)
    return "never measured" if number is None else f"{number:.6g}"


def _yaml(value: object) -> str:
    number = number_in(value)
    if number is None:
        return "null"
    if math.isfinite(number):
        mantissa, exponent, power = repr(number).partition("e")
        point = ".0" if exponent and "." not in mantissa else ""  # to YAML, 1e-09 is a text
        return f"{mantissa}{point}{exponent}{power}"
    return ".nan" if math.isnan(number) else ".inf" if number > 0 else "-.inf"


def _word(text: str) -> str:
    """An id such as `exp-001` as it is; anything that YAML might take for something else in quotes."""
    return text if re.fullmatch(r"[A-Za-z]+-[A-Za-z0-9_.-]+", text) else _quoted(text)


def _quoted(text: str) -> str:
    """`text` as a YAML string in double quotes, which is what JSON writes."""
    return encode(text).decode()


def _shown(text: str) -> str:
    """`text` on one line, as Markdown shows it: a metric's name may hold pipes and tags."""
    return re.sub(r"([\\`*{}\[\]<>|#&~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", " ".join(str(text).split()))
