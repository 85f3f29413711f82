"""One training of the real trainer under the checker's eyes, and what came of it.

The trainer is `trainer.launch`, on a folder of its own, as the command line calls it. After every step the checker's
own `Run` takes a turn in the same process, in the mode in which it acts: what it would stop it stops, through the
status file, at the same step on every machine. When the run is over `checker once` judges the folder and writes the
pages.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sysconfig  # torch reads the number of threads when it is imported

import torch

import contract
import trainer.launch
from checker import cli, replay
from checker.finding import Severity
from checker.run import Run as Watched
from checker.terms import Moment
from trainer import spec
from trainer.checkpoints import files
from trainer.data.text import Windows
from trainer.launch import Order, launch
from trainer.log import RunLog
from trainer.run import Run

CLOCK = frozenset({"stall", "crash", "throughput", "checkpoint_overdue", "budget"})
"""Rules that go by the clock say something about the machine here, not about the configuration."""

HELD_OUT = 32_000
"""Bytes of text that no run has seen, the same for all: what a run has come to must not depend on its own data."""


@dataclass(frozen=True)
class Outcome:
    """What a run has come to."""

    folder: str
    state: str
    killed_by: str
    alerts: tuple[str, ...]
    """Rules that warned or worse at any time, those of the clock left out."""
    open: tuple[str, ...]
    """Those of them whose finding still stood at the end."""
    loss: float
    """Of the last weights, on text that no run has seen; infinite where they were not finite."""
    steps: int


class _WatchedLog(RunLog):
    """The trainer's log; before each step the checker takes its turn."""

    def should_stop(self, step: int | None = None) -> contract.Kill | None:
        if not hasattr(self, "watched"):
            self.watched = Watched(self.folder, self.folder.name)
        self.watched.turn(Moment.now(), beat=False)
        return super().should_stop(step)

    def close(self, *arguments: Any, **more: Any) -> None:
        super().close(*arguments, **more)
        if hasattr(self, "watched"):
            self.watched.close()


def config(folder: Path) -> spec.Document:
    """The whole configuration of a run, as `experiment.json` tells it."""
    found: spec.Document = contract.decode_object((folder / contract.EXPERIMENT).read_bytes(), contract.EXPERIMENT)[
        "config"
    ]
    return found


def planned(order: Order) -> spec.Spec:
    """The spec that `launch` would train."""
    if order.target.is_dir():
        return spec.build(config(order.target), where="", overlay=order.overlay, settings=order.settings)
    return spec.load(order.target, overlay=order.overlay, settings=order.settings)


WORDS = {"name", "hypothesis", "rationale", "parent"}


def train(order: Order, runs: Path) -> Outcome:
    """Carries `order` out and has the checker judge it; a training that was done before is not done again.

    Raises:
        SpecError: there is no such change, or the trainer refuses it.
    """
    options = planned(order)
    root = runs / contract.config_hash(options.model_dump(mode="json", exclude=WORDS))
    folder = root / "exp-001"
    if not (root / "done").exists():
        if root.exists():
            root = Path(f"{root}.{os.getpid()}")  # somebody else is at it, or was interrupted
            folder = root / "exp-001"
        trainer.launch.RunLog = _WatchedLog
        torch.set_num_threads(1)
        with contextlib.redirect_stdout(io.StringIO()):
            launch(replace(order, experiments=root))
        (root / "done").touch()
    return outcome(folder)


def judged(folder: Path) -> None:
    """`checker once`: findings, diagnosis and `next.md`, all anew."""
    (folder / contract.NEXT).unlink(missing_ok=True)
    with contextlib.redirect_stdout(io.StringIO()):
        cli.main(["once", str(folder.parent)])


def changes(folder: Path) -> list[str]:
    """The names of the numbered suggestions in `next.md`, in their order."""
    path = folder / contract.NEXT
    text = path.read_text("utf-8") if path.exists() else ""
    return re.findall(r"^## (\S+\.\d+)\s*$", text, re.MULTILINE)


def outcome(folder: Path) -> Outcome:
    status = contract.StatusFile(folder).read() or {}
    case = replay.read(folder).case
    alerts = {finding.rule for finding in case.findings if finding.severity is not Severity.INFO} - CLOCK
    still = {finding.rule for finding in case.open_findings() if finding.severity is not Severity.INFO} - CLOCK
    killed = str(contract.run_state(status)) == contract.State.KILLED
    return Outcome(
        folder=str(folder),
        state=str(contract.run_state(status)),
        killed_by=case.kill.rule if killed and case.kill else "",
        alerts=tuple(sorted(alerts)),
        open=tuple(sorted(still)),
        loss=held_out_loss(folder),
        steps=case.history.step or 0,
    )


def held_out_loss(folder: Path) -> float:
    """The loss of the weights that the run ended with; infinite where it saved none at its end."""
    path = folder / "checkpoints/last.pt"
    if not path.exists():
        return float("inf")
    options = spec.build(config(folder), where=str(folder))
    run = Run(options)
    run.model.load_state_dict(files.load(path)["model"])
    loss = run.evaluator(run.model, Windows(held_out(), options.context), "val_")["val_loss"]
    return loss if loss == loss else float("inf")  # noqa: PLR0124 - NaN


@cache
def held_out() -> torch.Tensor:
    """Text of a package of the standard library; the trainer reads only the top-level modules."""
    text = b"".join(
        path.read_bytes() for path in sorted((Path(sysconfig.get_paths()["stdlib"]) / "email").glob("*.py"))
    )
    return torch.frombuffer(bytearray(text[:HELD_OUT]), dtype=torch.uint8)
