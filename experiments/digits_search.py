"""A search for hyper-parameters with cross-validation in one run folder: scikit-learn's digits, Optuna and a RunLog.

    pip install '.[classical]'
    python experiments/digits_search.py experiments/digits     # about a minute; see --help
    checker watch experiments                                  # in another terminal

Stop it with Ctrl-C, with `checker kill experiments/digits --reason …` or with `kill -9`, and give the same command
again: it goes on where it was. More --trials than before continue a finished search.

What is guaranteed, with the same arguments, library versions and kind of machine: however often the search is stopped
or killed, it makes the same trials with the same scores and the same best as one that nobody disturbed. No finished
fold is fitted again; of the fold under way at most --save-every boosting rounds are. That rests on three things:

- Everything random follows from the seed and from a place: the parameters of a trial from its number and the results of
  the trials before it, a model from trial and fold.
- A round of boosting is always a `fit` of its own that goes on from the one before (`warm_start`), so an interruption
  between two rounds changes nothing.
- A file counts or it does not: a fold is finished with its file, which holds the scores beside the model, and a trial
  with its line in Optuna's journal. Rows that a kill left out of the log are written at the next start.

The models are pickles (joblib): loading one runs what is in it, so load only your own. Their hash tells damage, not
whom to trust.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import io
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import optuna
import sklearn
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial
from sklearn.datasets import load_digits
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import StratifiedKFold

from contract import (
    CHECKPOINTS,
    EXPERIMENT,
    METRICS,
    Event,
    Exit,
    State,
    StatusFile,
    Unreadable,
    decode_object,
    run_state,
)
from trainer import sealed
from trainer.cadence import should_checkpoint
from trainer.log import RunLog

SPACE = {
    "learning_rate": FloatDistribution(0.02, 2.0, log=True),
    "max_depth": IntDistribution(1, 4),
    "max_features": FloatDistribution(0.05, 0.5),
    "subsample": FloatDistribution(0.5, 1.0),
}
STARTUP = 3
"""Trials drawn at random before the sampler trusts what it has seen; its own default, 10, is most of a small search."""

JOURNAL = "optuna.journal"
"""One line per trial that is over. The trial under way is not in it: its parameters are found again from its number."""


def main() -> int:
    options = arguments()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder):
        about = described(options)
        refuse_another_search(folder, about)
        study = opened(folder)
        if len(study.trials) >= options.trials and told_its_end(folder):
            print(summary(study))
            return Exit.FINISHED
        with RunLog(folder, resume=(folder / METRICS).exists(), **about) as log:
            finished = Search(options, study, log).run()
        print(summary(study) if finished else f"stopped; the same command goes on at trial {len(study.trials)}")
        return Exit.FINISHED if finished else Exit.STOPPED


def told_its_end(folder: Path) -> bool:
    """Whether the log is complete too: a kill may come after the last trial, but before its row and the last word."""
    return run_state(StatusFile(folder).read() or {}) is State.COMPLETED


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Search for hyper-parameters on scikit-learn's digits.")
    parser.add_argument("folder", type=Path, help="the run folder; an unfinished search in it goes on")
    parser.add_argument("--trials", type=int, default=12, help="how many sets of parameters are tried")
    parser.add_argument("--folds", type=int, default=5, help="parts of the data, each of which is held out once")
    parser.add_argument("--rounds", type=int, default=30, help="boosting rounds of one fit")
    parser.add_argument("--samples", type=int, default=1797, help="how many of the 1,797 digits are used")
    parser.add_argument("--save-every", type=int, default=10, help="boosting rounds that a kill may cost")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def described(options: argparse.Namespace) -> dict[str, Any]:
    """What `experiment.json` says about the search."""
    return {
        "name": "digits: gradient boosting",
        "config": {name: getattr(options, name) for name in ("trials", "folds", "rounds", "samples", "seed")},
        "metric": {"name": "val_loss", "direction": "min"},
        "total_steps": options.trials * options.folds,  # a step is the fit of one fold
        "fingerprints": {"scikit-learn": sklearn.__version__, "optuna": optuna.__version__, "numpy": np.__version__},
    }


def refuse_another_search(folder: Path, about: dict[str, Any]) -> None:
    """Results of two searches in one folder would be compared as if they were of one; more trials are the same search.

    Raises:
        SystemExit: the folder belongs to a search with other arguments or libraries.
    """
    with suppress(FileNotFoundError):
        before = decode_object((folder / EXPERIMENT).read_bytes(), str(folder / EXPERIMENT))
        for part in ("config", "fingerprints"):
            for name, value in about[part].items():
                found = (before.get(part) or {}).get(name)
                if name != "trials" and found != value:
                    sys.exit(f"{folder} holds a search with {name} {found}, not {value}; give another folder")


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Holds the folder for this process; the kernel lets go of it when the process dies.

    Raises:
        SystemExit: another process is at work in it.
    """
    with (folder / ".search.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit(f"another search is at work in {folder}")
        yield


def opened(folder: Path) -> optuna.Study:
    """The search as far as it came. Its file is mended first: nobody else is at work here, so a lock is left over."""
    path = folder / JOURNAL
    path.with_name(f"{JOURNAL}.lock").unlink(missing_ok=True)
    if path.exists():
        data = path.read_bytes()
        if not data.endswith(b"\n"):
            with path.open("r+b") as file:
                file.truncate(data.rfind(b"\n") + 1)
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.create_study(study_name="digits", storage=storage, direction="minimize", load_if_exists=True)


def summary(study: optuna.Study) -> str:
    numbers = [trial.number for trial in study.trials if trial.state is TrialState.COMPLETE]
    if not numbers:
        return f"{len(study.trials)} trials, none of which gave a finite loss"
    best = study.best_trial
    chosen = ", ".join(f"{name} {value:.4g}" for name, value in best.params.items())
    return f"best of {len(study.trials)} trials: number {best.number}, val_loss {best.value:.4f} ({chosen})"


def seed_of(*place: int) -> int:
    """A seed of 32 bits for one place of the search, unrelated to that of any other place."""
    return int.from_bytes(hashlib.sha256(repr(place).encode()).digest()[:4], "big")


def parameters(before: list[FrozenTrial], number: int, seed: int) -> dict[str, Any]:
    """The parameters of trial `number`, a function of nothing but the arguments.

    They are drawn in a study in memory, so that a trial that was not finished leaves nothing behind that would change
    what the next one is.
    """
    sampler = optuna.samplers.TPESampler(seed=seed_of(seed, number), n_startup_trials=STARTUP)
    scratch = optuna.create_study(direction="minimize", sampler=sampler)
    scratch.add_trials(before)
    return scratch.ask(SPACE).params


class Search:
    """The trials that are still to be made, fold by fold and round by round."""

    def __init__(self, options: argparse.Namespace, study: optuna.Study, log: RunLog) -> None:
        self.options, self.study, self.log = options, study, log
        inputs, targets = load_digits(return_X_y=True)
        self.inputs, self.targets = inputs[: options.samples], targets[: options.samples]
        splits = StratifiedKFold(options.folds, shuffle=True, random_state=options.seed)
        self.splits = list(splits.split(self.inputs, self.targets))
        self.told = told(log.folder)

    def run(self) -> bool:
        """Makes the trials; False when somebody asked to stop."""
        for trial in self.study.trials:
            self.tell_trial(trial.number, trial.user_attrs)
        for number in range(len(self.study.trials), self.options.trials):
            params = parameters(self.study.trials, number, self.options.seed)
            scores = []
            for fold in range(self.options.folds):
                state = self.fold(number, fold, params)
                if state is None:
                    return False
                scores.append(state["scores"])
            self.end_trial(number, params, {name: float(np.mean([s[name] for s in scores])) for name in scores[0]})
        return True

    def end_trial(self, number: int, params: dict[str, Any], means: dict[str, float]) -> None:
        """Keeps the models of the best trial, then makes the trial count, then tells: so nothing gets lost."""
        finite = math.isfinite(means["val_loss"])
        best = min((trial.value for trial in self.study.trials if trial.value is not None), default=math.inf)
        if finite and means["val_loss"] < best:
            for fold in range(self.options.folds):
                path = self.file(fold, "best-")
                sealed.write(path, sealed.read(self.file(fold)))
                self.log.checkpoint_saved(path, step=(number + 1) * self.options.folds, **means)
        state = TrialState.COMPLETE if finite else TrialState.FAIL  # Optuna takes no trial with NaN for complete
        value = means["val_loss"] if finite else None
        attrs = {name: mean if math.isfinite(mean) else str(mean) for name, mean in means.items()}
        done = create_trial(state=state, value=value, params=params, distributions=SPACE, user_attrs=attrs)
        self.study.add_trial(done)
        self.tell_trial(number, attrs)

    def tell_trial(self, number: int, means: dict[str, Any]) -> None:
        step = (number + 1) * self.options.folds
        if (Event.EVALUATION, step) not in self.told:
            self.log.evaluation(step, **{name: float(mean) for name, mean in means.items()})

    def fold(self, number: int, fold: int, params: dict[str, Any]) -> dict[str, Any] | None:
        """One fold of one trial, from its file as far as it had come; None when somebody asked to stop."""
        state = self.begun(number, fold) or {
            "trial": number, "fold": fold, "params": params, "rounds": 0, "seconds": 0.0, "scores": None,
            "model": GradientBoostingClassifier(**params, warm_start=True,
                                                random_state=seed_of(self.options.seed, number, fold)),
        }  # fmt: skip
        step = number * self.options.folds + fold
        while state["scores"] is None:
            if kill := self.log.should_stop(step):
                if kill.save_checkpoint and state["rounds"]:
                    self.keep(state, step)
                return None
            self.boost(state)
            if should_checkpoint(state["rounds"] - 1, self.options.rounds, every=self.options.save_every):
                self.keep(state, step)
        if (Event.FOLD_END, step + 1) not in self.told:
            more = {"fit_seconds": round(state["seconds"], 3)}
            self.log.fold_end(fold, self.options.folds, step=step + 1, **state["scores"], **more)
        return state

    def boost(self, state: dict[str, Any]) -> None:
        """One more round; after the last one the model is judged on what it has not seen."""
        began = time.perf_counter()
        seen, unseen = self.splits[state["fold"]]
        state["rounds"] += 1
        state["model"].set_params(n_estimators=state["rounds"]).fit(self.inputs[seen], self.targets[seen])
        state["seconds"] += time.perf_counter() - began
        if state["rounds"] == self.options.rounds:
            state["scores"] = scores(state["model"], self.inputs[unseen], self.targets[unseen])

    def file(self, fold: int, prefix: str = "") -> Path:
        return self.log.folder / CHECKPOINTS / f"{prefix}fold-{fold}.joblib"

    def begun(self, number: int, fold: int) -> dict[str, Any] | None:
        """What is in the file of a fold, if it is of this trial; a damaged one is fitted again and says so."""
        path = self.file(fold)
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = joblib.load(io.BytesIO(sealed.read(path)))
        except sealed.Damaged as error:
            self.log.note(f"fitted again from the start: {error}")
            return None
        return state if state["trial"] == number else None

    def keep(self, state: dict[str, Any], step: int) -> None:
        buffer = io.BytesIO()
        joblib.dump(state, buffer)
        path = self.file(state["fold"])
        sealed.write(path, buffer.getvalue())
        self.log.checkpoint_saved(path, step=step)


def scores(model: GradientBoostingClassifier, inputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """How good a model is; NaN for the loss of one whose probabilities have overflowed."""
    chances = model.predict_proba(inputs)
    loss = float(log_loss(targets, chances, labels=model.classes_)) if np.isfinite(chances).all() else math.nan
    return {"val_loss": loss, "val_accuracy": float(accuracy_score(targets, model.predict(inputs)))}


def told(folder: Path) -> set[tuple[str, int]]:
    """Event and step of every row that earlier attempts have written."""
    found = set()
    with suppress(FileNotFoundError):
        for line in (folder / METRICS).read_bytes().splitlines():
            with suppress(Unreadable):
                row = decode_object(line, METRICS)
                found.add((row.get("event"), row.get("step")))
    return found


if __name__ == "__main__":
    sys.exit(main())
