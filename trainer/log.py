"""RunLog: a run folder that a checker can watch, from any training script.

Standard library only; where pydantic-core is there as well, it spells the numbers of a row, and a row costs half.

with RunLog("experiments/my-run", total_steps=1000) as log:
    for step in range(1, 1001):
        log.step(step, loss=train_one(), lr=3e-4)
        if log.should_stop(step):
            break
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import time
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from operator import index
from pathlib import Path
from time import perf_counter_ns, time_ns
from types import TracebackType
from typing import Any, Self

from contract import (
    EXPERIMENT,
    FORMAT,
    METRICS,
    RESULT,
    SWEEP,
    Ack,
    Appender,
    Event,
    Experiment,
    Kill,
    Phase,
    Row,
    State,
    Unreadable,
    config_hash,
    decode_object,
    encode,
    experiment_faults,
    now,
    replace,
    this_process,
)
from trainer import ranks, result
from trainer.document import read_object
from trainer.measures import Best, as_number, as_numbers
from trainer.stacks import Stacks
from trainer.status import StatusWriter
from trainer.stop import Bell

Encoder = Callable[[dict[str, Any]], bytes]

try:
    import pydantic_core

    _fastest: Encoder = pydantic_core.to_json
except ImportError:
    _fastest = encode

_HISTORY = 30
_CHECKPOINTS = 5
_NOTES = 10
_CALLBACK_ERRORS = 10
_ACK_PATIENCE_SECONDS = 1.0


class RunLog:
    """Writes `metrics.jsonl` and `training_status.json`, and tells when somebody asks the run to stop.

    A row is handed to the system before the call returns, so it survives a crash of this process. The status file is
    written once a second by a thread. Under torchrun only rank 0 writes them; every other rank says once a second in a
    file of its own that it lives and how far it is, so that one that dies or hangs can be named.

    Args:
        folder: the run folder, created when missing.
        resume: carry on the best values, the history and the list of checkpoints of the run that was here before.
        about: fields of `contract.Experiment` (`name`, `config`, `total_steps`, `total_epochs`, `metric`, `schedule`,
            `budget`, `hypothesis`…), on top of those in `experiment.json`; that file is written when there is none.
    """

    def __new__(cls, *_args: object, **_about: object) -> Self:
        return object.__new__(cls if os.environ.get("RANK", "0") == "0" else _Silent)  # type: ignore[return-value]

    def __init__(self, folder: str | os.PathLike[str], *, resume: bool = False, **about: Any) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.experiment = _experiment(self.folder, about)
        self.run_id = _run_id(self.folder)
        self.state = State.PENDING.to(State.RUNNING)
        self.metrics: dict[str, float] = {}
        self._best = Best(_declared(self.experiment))
        self._step: int | None = None
        self._epoch: int | None = None
        self._learning_rate: float | None = None
        self._gpu_memory_mb: float | None = None
        self._history: deque[dict[str, Any]] = deque(maxlen=_HISTORY)
        self._checkpoints: deque[dict[str, Any]] = deque(maxlen=_CHECKPOINTS)
        self._notes: deque[str] = deque(maxlen=_NOTES)
        self._callback_errors: deque[dict[str, str]] = deque(maxlen=_CALLBACK_ERRORS)
        self._ack: Ack | None = None
        self._error: str | None = None
        self._lost_rows = 0
        self._clock = _Clock()
        self._started_at = self._progress_at = self._phase_since = now()
        self._phase: str = Phase.START
        self._fresh = True  # until the next step, which ends the phase "start" or "fit"
        self._head_is_stale()
        self._process = dataclasses.asdict(this_process())
        self._world = ranks.world()
        self._rows = Appender(self.folder / METRICS)
        self._stacks = Stacks(self.folder)
        self._status = StatusWriter(self.folder, self._own)
        self._bell = Bell(self._status.file)
        if resume:
            self._carry_on()
        unserved = self._status.begin()
        self._row(Event.TRAINING_START, config=self.experiment.config or None)
        if unserved is not None:
            self.note(f"a request to stop from before this run was set aside: {unserved.reason}")

    # ------------------------------------------------------------------------------------------------ rows

    def step(
        self,
        step: int,
        *,
        lr: Any = None,
        learning_rate: Any = None,
        epoch: int | None = None,
        gpu_memory_mb: float | None = None,
        **metrics: Any,
    ) -> None:
        """Writes one row for one optimizer step; metrics keep the names they are given.

        This call stands between two steps, so what every row begins with is encoded once, and finite floats, the
        usual case, go straight to the fastest encoder there is. Anything else takes the way of every other row.
        """
        if self._fresh:
            self._fresh = False
            self._enter(Phase.TRAIN)
        if epoch is not None and epoch != self._epoch:
            self._epoch = epoch
            self._head_is_stale()
        rate = lr if learning_rate is None else learning_rate
        encoded: Encoder = _quickly
        if not (
            self._best.see_floats(metrics) and _is_plain(rate) and (gpu_memory_mb is None or _is_plain(gpu_memory_mb))
        ):
            encoded = encode
            metrics = as_numbers(metrics)
            self._best.see_all(metrics)
            rate = None if rate is None else as_number("learning_rate", rate)
            gpu_memory_mb = None if gpu_memory_mb is None else as_number("gpu_memory_mb", gpu_memory_mb)
        self.metrics.update(metrics)
        self._step = step if type(step) is int else int(index(step))
        self._progress_at, seconds = self._clock.read()
        row = {"timestamp": self._progress_at, "step": self._step, "wall_time_seconds": seconds}
        if rate is not None:
            row["learning_rate"] = self._learning_rate = rate
        if gpu_memory_mb is not None:
            row["gpu_memory_mb"] = self._gpu_memory_mb = gpu_memory_mb
        if metrics:
            row["metrics"] = metrics
        try:
            self._rows.append_encoded((self._head or self._new_head()) + encoded(row)[1:])
        except OSError:
            self._lost_rows += 1

    def evaluation(self, step: int, **metrics: Any) -> None:
        """Writes what an evaluation found."""
        numbers = self._take(metrics)
        self._step = step
        self._history.append({"epoch": self._epoch, "step": step, **numbers})
        self._row(Event.EVALUATION, step=step, metrics=numbers)

    def epoch_end(self, epoch: int, *, step: int | None = None, **metrics: Any) -> None:
        """Writes the end of a pass over the data."""
        numbers = self._take(metrics)
        self._epoch = epoch
        self._head_is_stale()
        self._history.append({"epoch": epoch, "step": step if step is not None else self._step, **numbers})
        self._row(Event.EPOCH_END, step=step, metrics=numbers, learning_rate=self._learning_rate)

    def fold_end(self, fold: int, folds: int, *, step: int | None = None, **metrics: Any) -> None:
        """Writes the scores of one fold of a cross-validation, where one fit is one model and no curve.

        The best fold is luck and no result, so it is not kept among the best values: write the mean over the folds as
        an `evaluation`. From here to the next `step` the phase is `fit`, in which a process may compute for long
        without a row.

        Args:
            fold: the fold that was held out, counted from 0.
            folds: how many there are.
            step: fits that are done, of `total_steps`, where a search makes many.
            metrics: scores on the fold.
        """
        numbers = as_numbers(metrics)
        self.metrics.update(numbers)
        self._step = self._step if step is None else step
        self._progress_at = now()
        self._history.append({"epoch": self._epoch, "step": self._step, "fold": fold, "folds": folds, **numbers})
        self._row(Event.FOLD_END, step=step, fold=fold, folds=folds, metrics=numbers)
        self._fresh = True
        if self._phase != Phase.FIT:
            self._enter(Phase.FIT)

    def checkpoint_saved(self, path: str | os.PathLike[str], *, step: int | None = None, **metrics: Any) -> None:
        """Writes that a checkpoint is complete on disk; a path inside the run folder is noted relative to it."""
        text = Path(path).as_posix()
        with suppress(ValueError):
            text = Path(path).resolve().relative_to(self.folder.resolve()).as_posix()
        numbers = as_numbers(metrics)
        step = self._step if step is None else step
        self._checkpoints.append(
            {"epoch": self._epoch, "step": step, "path": text, "metrics": numbers, "timestamp": now()}
        )
        self._row(Event.CHECKPOINT_SAVED, step=step, metrics=numbers, checkpoint_path=text)
        self._status.nudge()

    def progress(self) -> None:
        """Says that the program goes on where it has nothing to write: after each batch of a long evaluation, say."""
        self._progress_at = now()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Says what the program is doing inside the block; silence means something else in each phase."""
        before = self._phase
        self._enter(name)
        try:
            yield
        finally:
            self._enter(before)

    def regime_change(self, text: str) -> None:
        """Declares that the curve may jump from here on for a good reason, so nobody takes it for a fault."""
        self._row(Event.REGIME_CHANGE, step=self._step, text=text)

    def note(self, text: str) -> None:
        """Writes a remark for whoever reads the run; the last ten stand in the status file."""
        self._notes.append(text)
        self._row(Event.NOTE, step=self._step, text=text)

    def callback_failed(self, callback: str, stage: str, error: str) -> None:
        """Writes that a function of the user's failed, which stops nothing; the last ones stand in the status file.

        Args:
            callback: its name.
            stage: at which turn of the run it was called.
            error: what it raised.
        """
        self._callback_errors.append({"callback": callback, "stage": stage, "error": error, "timestamp": now()})
        self._row(Event.NOTE, step=self._step, text=f"callback {callback} failed at {stage}: {error}")

    # ------------------------------------------------------------------------------------------------ stopping

    def should_stop(self, step: int | None = None) -> Kill | None:
        """The request to stop, or None. The first sight of one is acknowledged in the status file at once.

        The first call from the main thread also makes SIGTERM and SIGINT ring: once asks, twice interrupts.
        """
        kill = self._bell.ask()
        if kill is not None and self._ack is None:
            self._ack = Ack(id=kill.id, at=now(), step=self._step if step is None else step)
            self._status.write(_ACK_PATIENCE_SECONDS)
            self.note(f"asked to stop by {kill.requested_by}: {kill.reason}")
        return kill

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(*_verdict(error, trace, asked=self._ack is not None))

    def close(self, state: State = State.COMPLETED, error: str | None = None) -> None:
        """Writes the last row and the final state; a run that was asked to stop ends as killed.

        Raises:
            IllegalTransition: `state` is not one in which a run can end.
        """
        if self.state.final:
            return
        if state is State.COMPLETED and self._ack is not None:
            state = State.KILLED
        self.state, self._error = self.state.to(state), error
        if state is State.COMPLETED:
            self._conclude()
        why = error or (self._bell.kill.reason if self._bell.kill else None)
        self._row(
            Event.TRAINING_END, step=self._step, metrics=dict(self.metrics), text=f"{state}: {why}" if why else state
        )
        self._status.close()
        self._bell.close()
        self._stacks.close()
        self._rows.close()

    # ------------------------------------------------------------------------------------------------ inside

    def _conclude(self) -> None:
        """Writes the result of a run whose metric is declared, unless the program has written its own.

        Whatever is wrong with it is noted: the last row and the final state come after this, and must come.
        """
        name, path = self.experiment.metric.get("name"), self.folder / RESULT
        if not name:
            return
        try:
            if faults := experiment_faults(dataclasses.asdict(self.experiment)):
                raise Unreadable(f"{EXPERIMENT}: {'; '.join(faults)}")
            if path.exists() and read_object(path).get("run_id") in (None, self.run_id):
                return
            result.write(
                self.folder,
                self.experiment,
                run_id=self.run_id,
                value=self._best.values.get(name, self.metrics.get(name)),
                secondary=self.metrics,
                fingerprints={"config": config_hash(self.experiment.config)},
            )
        except (OSError, ValueError) as error:
            self.note(f"no {RESULT} was written: {error}")

    def _own(self) -> dict[str, Any]:
        """Every key of the status document but `kill`."""
        experiment = self.experiment
        return {
            "v": FORMAT,
            "experiment_id": experiment.id,
            "experiment_name": experiment.name or experiment.id,
            "run_id": self.run_id,
            "state": str(self.state),
            "is_training": not self.state.final,
            "step": self._step,
            "total_steps": experiment.total_steps,
            "epoch": self._epoch,
            "total_epochs": experiment.total_epochs,
            "phase": str(self._phase),
            "phase_since": self._phase_since,
            "started_at": self._started_at,
            "heartbeat_at": now(),
            "progress_at": self._progress_at,
            "metrics": dict(self.metrics),
            "best_metrics": dict(self._best.values),
            "learning_rate": self._learning_rate,
            "wall_time_seconds": self._clock.seconds(),
            "gpu_memory_mb": self._gpu_memory_mb,
            "checkpoints": list(self._checkpoints),
            "metrics_history": list(self._history),
            "process": self._process,
            "stack_signal": self._stacks.signum,
            "error": self._error,
            "notes": self._all_notes(),
            **({"callback_errors": list(self._callback_errors)} if self._callback_errors else {}),
            "ack": dataclasses.asdict(self._ack) if self._ack else None,
            "config": experiment.config,
            **self._world,
        }

    def _all_notes(self) -> list[str]:
        notes = list(self._notes)
        if self._status.failures:
            notes.append(f"{self._status.failures} status writes failed, last: {self._status.last_failure}")
        if self._lost_rows:
            notes.append(f"{self._lost_rows} rows could not be written to {METRICS}")
        return notes

    def _take(self, metrics: dict[str, Any]) -> dict[str, float]:
        numbers = as_numbers(metrics)
        self.metrics.update(numbers)
        self._best.see_all(numbers)
        self._progress_at = now()
        return numbers

    def _enter(self, phase: str) -> None:
        self._phase, self._phase_since = phase, now()
        self._progress_at = self._phase_since
        self._head_is_stale()
        self._row(Event.PHASE, step=self._step)

    def _row(self, event: Event, **fields: Any) -> None:
        row = Row(
            event=str(event),
            timestamp=now(),
            experiment_id=self.experiment.id,
            run_id=self.run_id,
            epoch=self._epoch,
            total_epochs=self.experiment.total_epochs,
            phase=str(self._phase),
            wall_time_seconds=self._clock.seconds(),
            **fields,
        )
        self._append(encode(row.document()), sync=event is Event.TRAINING_END)

    def _append(self, line: bytes, *, sync: bool = False) -> None:
        """Telemetry must not end a training: a row that the disk refuses is counted and shown in the status file."""
        try:
            self._rows.append_encoded(line, sync=sync)
        except OSError:
            self._lost_rows += 1

    def _head_is_stale(self) -> None:
        self._head = b""

    def _new_head(self) -> bytes:
        """What every step row begins with, until the epoch or the phase changes; it ends where the next key starts."""
        fixed = {"v": FORMAT, "event": "step", "experiment_id": self.experiment.id, "run_id": self.run_id}
        if self._epoch is not None:
            fixed["epoch"] = self._epoch
        if self.experiment.total_epochs is not None:
            fixed["total_epochs"] = self.experiment.total_epochs
        self._head = encode({**fixed, "phase": str(self._phase)})[:-1] + b","
        return self._head

    def _carry_on(self) -> None:
        with suppress(OSError, Unreadable):
            before = self._status.file.read() or {}
            self._best.restore(before.get("best_metrics"))
            for name, items in (("metrics_history", self._history), ("checkpoints", self._checkpoints)):
                if isinstance(before.get(name), list):
                    items.extend(item for item in before[name] if isinstance(item, dict))


class _Silent(RunLog):
    """What ranks other than 0 get: the same calls, no rows, and nobody asks them to stop. Only a heartbeat is written.

    Without WORLD_SIZE the process is no part of a distributed run that anybody knows of, and nothing is written at all.
    """

    def __init__(self, folder: str | os.PathLike[str], *, resume: bool = False, **about: Any) -> None:  # noqa: ARG002
        self.folder = Path(folder)
        self.experiment = Experiment(id=self.folder.name, created_at="")
        self.run_id, self.state, self.metrics, self._ack = "", State.RUNNING, {}, None
        rank, world = ranks.rank(), ranks.world_size()
        self._beat = ranks.Heartbeat(self.folder, rank, world) if 0 < rank < world else None

    def _nothing(self, *_args: Any, **_named: Any) -> None:
        return None

    regime_change = note = callback_failed = should_stop = _nothing

    def step(self, step: int, **_named: Any) -> None:
        if self._beat is not None:
            if self._beat.phase in (Phase.START, Phase.FIT):
                self._beat.enter(Phase.TRAIN)
            self._beat.step(step)

    def _moves(self, *_args: Any, step: int | None = None, **_named: Any) -> None:
        if self._beat is not None:
            self._beat.step(step)

    epoch_end = checkpoint_saved = progress = _moves

    def evaluation(self, step: int, **_named: Any) -> None:
        self._moves(step=step)

    def fold_end(self, *_args: Any, step: int | None = None, **_named: Any) -> None:
        self._moves(step=step)
        if self._beat is not None:
            self._beat.enter(Phase.FIT)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        if self._beat is None:
            yield
            return
        before = self._beat.phase
        self._beat.enter(name)
        try:
            yield
        finally:
            self._beat.enter(before)

    def close(self, state: State = State.COMPLETED, error: str | None = None) -> None:
        if self._beat is not None and not self.state.final:
            self.state = self.state.to(state)
            self._beat.close(state, error)


def _is_plain(number: float | None) -> bool:
    """Whether `number` is None or a finite float; infinity less itself is NaN, and that is true."""
    return number is None or (type(number) is float and not number - number)


def _quickly(row: dict[str, Any]) -> bytes:
    """A row of finite numbers as `encode` would write it.

    Python spells a float in 0.6 µs, pydantic-core (Ryū) in a tenth of that, and both in as few digits as tell it from
    every other float.
    """
    try:
        text = _fastest(row)
    except ValueError:  # a name that is no Unicode text
        return encode(row)
    return text if text.isascii() else encode(row)  # a name might hold what some reader takes for the end of a line


class _Clock:
    """The time, twice: of day in the treaty's format, and since the clock was made.

    All of a time stamp but its microseconds is remembered: both cost 0.7 µs, where `contract.now` alone costs 2.3 µs.
    """

    def __init__(self) -> None:
        self._began = perf_counter_ns()
        self._second = -1_000_000  # the one remembered, in microseconds since 1970: none yet
        self._form = ""

    def seconds(self) -> float:
        """Since the clock was made, to the millisecond."""
        return (perf_counter_ns() - self._began) // 1_000_000 / 1000

    def read(self) -> tuple[str, float]:
        """The time stamp and the seconds, for one thread only."""
        micros = time_ns() // 1000 - self._second
        if not 0 <= micros < 1_000_000:
            seconds, micros = divmod(self._second + micros, 1_000_000)
            self._second = seconds * 1_000_000
            self._form = time.strftime("%Y-%m-%dT%H:%M:%S.%%06d+00:00", time.gmtime(seconds))
        return self._form % micros, (perf_counter_ns() - self._began) // 1_000_000 / 1000


def _run_id(folder: Path) -> str:
    """A new id, or the one that `trainer exec` has given to the program that it runs for this folder."""
    spec, given = os.environ.get("TRAINER_SPEC"), os.environ.get("TRAINER_RUN_ID")
    if spec and given and Path(spec).parent.resolve() == folder.resolve():
        return given
    return uuid.uuid4().hex[:12]


def _declared(experiment: Experiment) -> dict[str, str]:
    name, direction = experiment.metric.get("name"), experiment.metric.get("direction")
    return {name: direction} if name and direction in ("min", "max") else {}


def check_about(about: Iterable[str], who: str = "RunLog") -> None:
    """Whether a run log takes arguments of these names, for who hands them on later.

    Raises:
        TypeError: one of them is no field of `contract.Experiment`; it says which one may be meant.
    """
    fields = [item.name for item in dataclasses.fields(Experiment)]
    for name in about:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            raise TypeError(f"{who} has no argument {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def _experiment(folder: Path, about: dict[str, Any]) -> Experiment:
    """The record in `experiment.json` with `about` on top; written when the folder has none.

    Raises:
        TypeError: `about` names no field of the record.
    """
    check_about(about)
    path = folder / EXPERIMENT
    try:
        return dataclasses.replace(Experiment.parse(decode_object(path.read_bytes(), str(path))), **about)
    except FileNotFoundError:
        usual = {
            "fingerprints": {"config": config_hash(about.get("config") or {})},
            "sweep": os.environ.get(SWEEP, ""),
        }
        experiment = Experiment(**{"id": folder.resolve().name, "created_at": now(), **usual, **about})
        replace(path, encode(dataclasses.asdict(experiment), indent=1))
        return experiment


def _verdict(error: BaseException | None, trace: TracebackType | None, *, asked: bool) -> tuple[State, str | None]:
    """How a run ended, from what left its `with` block."""
    if isinstance(error, SystemExit) and error.code in (None, 0, 3):
        return (State.KILLED if asked or error.code == 3 else State.COMPLETED), None
    if isinstance(error, KeyboardInterrupt):
        return State.KILLED, "KeyboardInterrupt"
    if error is None:
        return (State.KILLED if asked else State.COMPLETED), None
    frames = traceback.extract_tb(trace)
    where = f" ({frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line})" if frames else ""
    return State.FAILED, f"{type(error).__name__}: {error}{where}"
