"""Golden runs: one folder per rule, judged again by every test run.

`python tests/runs/record.py` writes what the rules say today into each `expected.json`; the difference is to be read
like a diff of code before it is committed. With `--make` the folders that are made from curves are written anew as
well; the others (crash, dead_lr, divergence, gradient_explosion, healthy, nonfinite, overfit, stall) are real trainings
of the zoo and stay as they are: `python tests/runs/record.py --adopt FOLDER NAME` takes one in.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

RUNS = Path(__file__).parent
sys.path.insert(0, str(RUNS.parent))

from curves import noisy_descent, rows  # noqa: E402  # the path above leads to it

import contract  # noqa: E402
from checker import replay  # noqa: E402

KEPT = (contract.METRICS, contract.STATUS, contract.EXPERIMENT, contract.FINDINGS)
SWINGS = [1.0 + (0.9 if i % 2 else -0.6) for i in range(80)]
SAVED = [(i, {"event": "checkpoint_saved"}) for i in range(20, 100, 20)]

MADE = {
    "checkpoint_overdue": {"train": "2.0-0.001x99~0.01", "seconds": 30.0, "events": SAVED},
    "budget": {"train": "2.0-0.01x60~0.01", "seconds": 10.0},
    "drift": {"train": "2.0-0.014x100~0.02 0.6+0.0025x160~0.02"},
    "explosion": {"train": "2.0-0.01x100~0.01 5.0*1.5x30"},
    "hidden_nan": {"train": "2.0-0.01x20~0.01 0.0x30", "grad": "1.0x20~0.1 " + "nan " * 30},
    "loss_spike": {"train": "2.0-0.01x60~0.01 9.0 1.4-0.001x60~0.01"},
    "oscillation": {"train": [*noisy_descent(120, 2.0, 0.9, 0.01), *SWINGS]},
    "plateau": {"train": "2.3026x250~0.005"},
    "suspicious_improvement": {"train": "2.0x60~0.01 0.001x40"},
    "throughput": {"train": noisy_descent(), "seconds": [1.0] * 150 + [3.0] * 150},
    "vanishing_gradient": {"train": "2.3x100~0.001", "grad": "1.0x5 1e-6x94"},
}
TICKS = {
    "checkpoint_overdue": {"state": "running", "phase": "train"},
    "budget": {"state": "running", "phase": "train", "step": 60},
}


def make(name, series):
    """Writes the folder of a run whose rows are a curve."""
    folder = RUNS / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    made = rows(**series)
    for row in made:
        document = {"step": row.step, "timestamp": row.at, "event": row.event, "metrics": dict(row.values)}
        contract.append_line(folder / contract.METRICS, document)
    if name in TICKS:
        at = made[-1].at + (3000.0 if name == "checkpoint_overdue" else 1.0)
        tick = {"v": 1, "kind": "tick", "after_row": len(made) - 1, "now": at, "life": "unknown", **TICKS[name]}
        contract.append_line(folder / contract.FINDINGS, tick)
    if name == "budget":
        plan = {"v": 1, "id": "exp-001", "created_at": "", "budget": {"wall_minutes": 5.0}}
        contract.replace(folder / contract.EXPERIMENT, contract.encode(plan))


def adopt(source, name):
    """Takes a real run in; paths and hosts of the machine where it ran are left out."""
    folder = RUNS / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for kept in KEPT:
        if (source / kept).exists():
            shutil.copy(source / kept, folder / kept)
    status = contract.decode_object((folder / contract.STATUS).read_bytes(), contract.STATUS)
    status["process"] = {**status["process"], "host": "somewhere", "boot_id": None}
    contract.replace(folder / contract.STATUS, contract.encode(status, indent=1))
    for path in (folder / contract.FINDINGS, folder / contract.EXPERIMENT):
        text = path.read_text()
        host, boot = contract.this_process().host, contract.boot_id() or "-"
        path.write_text(text.replace(f'"host":"{host}"', '"host":"somewhere"').replace(boot, "boot"))


LEFT_OUT = ("path", "unreadable_lines")


def judged(folder):
    """What `checker replay --json` says of a folder, but for its path and the lines nobody could read."""
    document = replay.read(folder).document()
    return json.loads(contract.encode({key: value for key, value in document.items() if key not in LEFT_OUT}))


def main():
    if "--adopt" in sys.argv:
        adopt(Path(sys.argv[-2]), sys.argv[-1])
    if "--make" in sys.argv:
        for name, series in MADE.items():
            make(name, series)
    for folder in sorted(path for path in RUNS.iterdir() if (path / contract.METRICS).exists()):
        contract.replace(folder / "expected.json", contract.encode(judged(folder), indent=1) + b"\n")


if __name__ == "__main__":
    main()
