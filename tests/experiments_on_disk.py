"""Folders of experiments as trainer, checker and people leave them, in a line each."""

from __future__ import annotations

import hashlib
import json

import contract

METRIC = {"name": "val_loss", "direction": "min"}
TIERS = {"must_pass": 2.0, "should_pass": 1.5, "could_pass": 1.0}
CODE = {"commit": "c0ffee", "dirty": None}
DATA = {"hash": "da7a", "samples": 10}


def put(folder, name, document):
    (folder / name).write_text(json.dumps(document, allow_nan=True))


def prints(config):
    return {"config": contract.config_hash(config), "code": CODE, "data": DATA}


def add(root, name, *, state="completed", value=None, parent=None, config=None, metric=METRIC, result=True, **fields):
    """One experiment: its record, its status and, when it is completed, its result and a checkpoint."""
    folder = root / name
    folder.mkdir(parents=True)
    config = {"optimizer": {"lr": 0.1}} if config is None else config
    number = int("".join(filter(str.isdigit, name)) or 0)
    about = {
        "v": 1, "id": name, "created_at": f"2026-11-21T10:{number // 60:02d}:{number % 60:02d}+00:00", "parent": parent,
        "hypothesis": f"idea of {name}", "config": config, "metric": metric, "fingerprints": prints(config), **fields,
    }  # fmt: skip
    put(folder, contract.EXPERIMENT, about)
    if state == "pending":
        return folder
    best = {} if value is None else {metric["name"]: value}
    status = {"experiment_id": name, "run_id": f"run-{name}", "state": state, "best_metrics": best}
    put(folder, contract.STATUS, {**status, "wall_time_seconds": 3600.0})
    (folder / contract.METRICS).write_text('{"step": 1, "loss": 2.0}\n')
    if state == "completed" and result:
        finish(folder, about, value)
    return folder


def finish(folder, about, value):
    """What a run leaves behind when it completes."""
    sha256 = checkpoint(folder, "best")
    metric, name = about["metric"], about["id"]
    tier, shortfalls = contract.tier(about.get("tiers", {}), contract.number_in(value), metric["direction"])
    put(folder, contract.RESULT, {
        "v": 1, "experiment_id": name, "run_id": f"run-{name}", "status": "completed", "oracle_tier": tier,
        "primary_metric": {**metric, "value": value}, "secondary_metrics": {"train_loss": 1.0},
        "shortfalls": shortfalls,
        "checkpoint": {"path": "checkpoints/best.pt", "sha256": sha256}, "fingerprints": about["fingerprints"],
    })  # fmt: skip
    (folder / contract.RESULT_PAGE).write_text("# Result\n")
    (folder / contract.DIAGNOSIS).write_text("# Diagnosis\n")


def checkpoint(folder, name, content=b"weights"):
    """A checkpoint with its hash; returns the hash."""
    path = folder / contract.CHECKPOINTS / f"{name}.pt"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content + folder.name.encode())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(f"{path.name}.sha256").write_text(f"{sha256}  {path.name}\n")
    return sha256


NOON = "2026-11-21T12:00:00+00:00"


def evaluate(folder, value, *, metric="val_loss", direction=None, data="validation", at=NOON, **more):
    """An evaluation of a checkpoint, as `trainer eval` attaches it."""
    path = folder / contract.CHECKPOINTS / "best.pt"
    config = json.loads((folder / contract.EXPERIMENT).read_text())["config"]
    entry = {
        "v": 1, "id": f"eval-{value}", "at": at, "experiment_id": folder.name,
        "checkpoint": {"path": "checkpoints/best.pt", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
        "data": {"name": data, "hash": f"hash of {data}", "samples": 5},
        "metric": {"name": metric, "direction": direction}, "metrics": {metric: value},
        "fingerprints": {"config": contract.config_hash(config)}, **more,
    }  # fmt: skip
    contract.append_line(folder / contract.EVALUATIONS, entry)


def find(folder, rule, *, severity="critical", metric="train_loss", step=10):
    """A finding in the journal."""
    entry = {"v": 1, "kind": "finding", "rule": rule, "severity": severity, "action": "kill", "row": step, "step": step}
    entry |= {"first_step": step, "summary": f"{metric} {rule}", "evidence": {"metric": metric}, "episode": 0}
    contract.append_line(folder / contract.FINDINGS, entry)


def plan(folder, *sections):
    """A `next.md`: (name, idea, toml) each."""
    parts = ["# Next experiments\n"]
    for name, idea, toml in sections:
        parts.append(f"## {name}\n\n- {idea}\n- Rationale: why not\n" + (f"\n```toml\n{toml}\n```\n" if toml else ""))
    (folder / contract.NEXT).write_text("\n".join(parts))
