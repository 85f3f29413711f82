"""`make demo`: eight real trainings, seven of them broken on purpose, under the checker's eyes.

The sweep and the checker are two processes that know each other only through the folder `experiments/`. At the end this
script, a third one, reads the same files and says whether every fault was found by its own rule.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import contract
from checker.registry.catalog import entries

ZOO = Path(__file__).parent
LIMITS = ZOO.parent / "demo.limits.toml"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=Path, default=ZOO.parent, help="where the runs go (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time (default: %(default)s)")
    options = parser.parse_args()
    root: Path = options.experiments
    root.mkdir(parents=True, exist_ok=True)
    before = {path.name for path in root.glob("exp-*")}
    began = time.monotonic()
    watch(root, options.jobs)
    runs = [path for path in sorted(root.glob("exp-*")) if path.name not in before]
    return summary(runs, root, time.monotonic() - began)


def watch(root: Path, jobs: int) -> None:
    """Runs the zoo with the checker beside it until both are done."""
    sweep_command = [
        sys.executable,
        "-m",
        "trainer",
        "sweep",
        str(ZOO),
        "--jobs",
        str(jobs),
        "--experiments",
        str(root),
    ]
    with (root / "demo.log").open("wb") as log:
        sweep = subprocess.Popen(sweep_command, stdout=log, stderr=subprocess.STDOUT)
        try:
            watcher = [sys.executable, "-m", "checker", "watch", str(root), "--while-pid", str(sweep.pid)]
            watcher += ["--limits", str(LIMITS)]
            subprocess.run(watcher, check=True)
        finally:
            sweep.terminate()
            sweep.wait()


def read(path: Path) -> dict[str, Any]:
    return contract.decode_object(path.read_bytes(), str(path))


def findings(folder: Path) -> list[dict[str, Any]]:
    path = folder / contract.FINDINGS
    lines = path.read_text().splitlines() if path.exists() else []
    return [entry for entry in map(json.loads, lines) if entry.get("kind") == "finding"]


def summary(runs: list[Path], root: Path, seconds: float) -> int:
    """One line per run: what was staged, what was found, what became of it. Returns the exit code."""
    table = Table("experiment", "staged fault", "found", "at step", "state", "steps run", title="The zoo, as judged")
    states = {entry.id: entry.status for entry in entries(root)}
    wrong = 0
    for folder in runs:
        experiment, status = read(folder / contract.EXPERIMENT), read(folder / contract.STATUS)
        expected = experiment["config"].get("rehearsal", {}).get("expect") or ""
        said = [finding for finding in findings(folder) if finding["action"] != "none"]
        right = not said if not expected else any(finding["rule"] == expected for finding in said)
        if not expected:
            right = right and status["state"] == "completed"
        wrong += not right
        first = next((finding for finding in said if finding["rule"] == expected), said[0] if said else None)
        table.add_row(
            f"{folder.name} {experiment['name']}",
            expected or "none",
            f"[{'green' if right else 'red'}]{first['rule'] if first else 'nothing'}",
            str(first["step"]) if first else "",
            states[folder.name],
            f"{status.get('step')} of {status.get('total_steps')}",
        )
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table)
    console.print(f"{len(runs)} runs in {seconds:.0f} s. Read {root / contract.CHECKLIST}, then in each run's folder:")
    console.print(f"{contract.DIAGNOSIS} (what happened and why), {contract.NEXT} (what to try next).")
    if wrong or not runs:
        console.print(f"[red]{wrong} of {len(runs)} runs were not judged as staged.")
    return 1 if wrong or not runs else 0


if __name__ == "__main__":
    sys.exit(main())
