"""Optuna's pruners, the package itself: median, successive halving, patient.

Source: optuna.pruners (5.0): MedianPruner with 5 start-up trials and no warm-up; SuccessiveHalvingPruner with
reduction factor 4 and `auto` resource; PatientPruner around the median pruner, whose patience has no default: 10 is
our choice. The runs of one program are the trials of one in-memory study, in the order of their names; a trial reports
its monitored value at most once per per cent of the plan, because trials must report at comparable steps. A pruned
trial is told as pruned, one that ends in NaN as failed, the others as complete, and only those are compared with, as
in a real study.

A pruner asks whether a trial will be the best, not whether it is broken: its stops of healthy runs are meant, and
stand in the table because pruners are what people run for this purpose.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from peers.base import Feed, Peer, Point, Setup, monitored


def _median(optuna: Any, *, startup: int = 5, warmup: int = 0) -> Any:
    return optuna.pruners.MedianPruner(n_startup_trials=startup, n_warmup_steps=warmup)


def _halving(optuna: Any, *, factor: int = 4, rate: int = 0) -> Any:
    return optuna.pruners.SuccessiveHalvingPruner(reduction_factor=factor, min_early_stopping_rate=rate)


def _patient(optuna: Any, *, patience: int = 10, startup: int = 5, warmup: int = 0) -> Any:
    return optuna.pruners.PatientPruner(_median(optuna, startup=startup, warmup=warmup), patience=patience)


def _trial(optuna: Any, pruner: Any, program: dict[str, Any]) -> Any:
    """The next trial of the program's study; the one before, if it was not pruned, is complete."""
    if "study" not in program:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        program["study"] = optuna.create_study(pruner=pruner, direction="minimize")
    study = program["study"]
    if program.get("trial") is not None:
        # A trial that ends in NaN has failed and is no yardstick, as in `study.optimize`.
        last = program["last"]
        state = optuna.trial.TrialState.COMPLETE if math.isfinite(last) else optuna.trial.TrialState.FAIL
        study.tell(program["trial"], last if math.isfinite(last) else None, state=state)
    program["trial"], program["last"] = study.ask(), math.nan
    return program["trial"]


def _quiet(call: Callable[[], Any]) -> Any:
    """What `call` returns, without the package's warnings: an experimental pruner, comparisons of nothing but NaN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()


def make(setup: Setup, *, pruner: Any, **limits: Any) -> Feed:
    optuna = import_module("optuna")
    program = setup.program
    trial = _trial(optuna, _quiet(lambda: pruner(optuna, **limits)), program)
    value = monitored(setup)
    reported = 0

    def feed(point: Point) -> str | None:
        nonlocal reported
        now, step = value(point), math.ceil(100 * point.done)
        if now is None or step <= reported:
            return None
        reported = step
        trial.report(now, step)
        program["last"] = now
        if not _quiet(trial.should_prune):
            return None
        program["study"].tell(trial, state=optuna.trial.TrialState.PRUNED)
        program["trial"] = None
        return "pruned"

    return feed


def _peer(name: str, pruner: Any, documented: dict[str, Any], grid: dict[str, tuple[Any, ...]]) -> Peer:
    return Peer(
        name=f"Optuna {name}",
        kind="stop",
        source=f"optuna.pruners.{name}",
        make=partial(make, pruner=pruner),
        documented=documented,
        grid=grid,
        package="optuna",
        compares=True,
    )


PEERS = (
    _peer("MedianPruner", _median, {"startup": 5, "warmup": 0}, {"startup": (5, 10), "warmup": (0, 30, 60, 90)}),
    _peer("SuccessiveHalvingPruner", _halving, {"factor": 4, "rate": 0}, {"factor": (2, 4), "rate": (0, 1, 2, 3)}),
    _peer(
        "PatientPruner",
        _patient,
        {"patience": 10, "startup": 5, "warmup": 0},
        {"patience": (10, 30, 60), "warmup": (0, 50)},
    ),
)
