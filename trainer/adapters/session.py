"""What all adapters do alike: open the run folder, tell the phase, hear the request to stop, say how it ended.

Standard library only.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from contract import EXPERIMENT, Kill, Phase, State
from trainer.adapters.leaving import Leaving
from trainer.log import RunLog, check_about

_TOLD = 20
"""Errors of one turn that are told; of one that fails at each step, the rest is the same again."""

_LEFT = "the training was left before its end, by an exception that the program has caught or by an exit"


def _nothing() -> None:
    return


Hook = TypeVar("Hook", bound=Callable[..., Any])


class Session:
    """One run folder, and the trainings that are logged to it, one after the other.

    Args:
        folder: the run folder.
        about: what the user says of the run, as arguments of `RunLog`; it outranks what the framework says.
        who: the adapter, for messages.

    Raises:
        TypeError: `about` has a name that `RunLog` does not take.
    """

    def __init__(self, folder: str | os.PathLike[str], about: Mapping[str, Any], who: str) -> None:
        check_about(about, who)
        self.folder = Path(folder)
        self.log: RunLog | None = None
        """While a training is under way."""
        self.kill: Kill | None = None
        """The request that the last training has obeyed, if any."""
        self._about, self._who = dict(about), who
        self._failures: dict[str, int] = {}
        self._phase: str = Phase.TRAIN
        self._within = ExitStack()
        self._leaving: Leaving | None = None
        self._after: Callable[[], None] = _nothing
        self._turn: Any = None  # a lock, made when it is needed: a callback may be pickled before

    def begin(
        self,
        *,
        resume: bool,
        inside: str | None = None,
        after: Callable[[], None] = _nothing,
        rank: int = 0,
        world: int = 1,
        **usual: Any,
    ) -> RunLog:
        """Opens the run folder.

        Args:
            resume: the training goes on where an earlier one in this folder has stopped.
            inside: the package whose function trains, if it does not tell of exceptions.
            after: called when the training is over, however it ended; perhaps from another thread.
            rank: which of several processes this is, for launchers that do not say so in the environment.
            world: how many there are.
            usual: what the framework knows, as arguments of `RunLog`.

        Raises:
            OSError: the folder cannot be written. Nothing was trained by then, and a run that somebody wants to be
                watched is better not begun than not watched.
            ValueError: its `experiment.json` cannot be read.
        """
        if self.log is not None:  # begun anew, with smaller batches after an out-of-memory error for example
            self._left(self.log, None)
        if (self.folder / EXPERIMENT).exists():
            usual.pop("config", None)  # whoever has written that file has said what the experiment is
        with _told_rank(rank, world):
            self.log = log = RunLog(self.folder, resume=resume, **{**usual, **self._about})
        self.kill, self._failures = None, {}
        self._phase, self._within = Phase.TRAIN, ExitStack()
        self._turn, self._after = threading.Lock(), after
        self._leaving = Leaving(functools.partial(self._left, log), inside)
        return log

    def turn(self, phase: str) -> None:
        """Says what the program does from here on, if it is something else than before."""
        if self.log is None or phase == self._phase:
            return
        self._within.close()
        self._phase = phase
        if phase != Phase.TRAIN:  # where there was no step yet, it is the phase `start` that goes on
            self._within.enter_context(self.log.phase(phase))

    @property
    def phase(self) -> str:
        return self._phase

    def asked(self, step: int) -> Kill | None:
        """The request to stop, answered at its first sight."""
        if self.kill is None and self.log is not None:
            self.kill = self.log.should_stop(step)
        return self.kill

    def trouble(self, where: str, error: Exception) -> None:
        """Tells of an error of the adapter's own, or of the framework's at its request."""
        self._failures[where] = count = self._failures.get(where, 0) + 1
        if self.log is not None and count <= _TOLD:
            last = "; it goes on being called, and no more is told of it" if count == _TOLD else ""
            self.log.callback_failed(self._who, where, f"{type(error).__name__}: {error}{last}")

    def end(self, error: BaseException | None = None) -> None:
        """Writes how the training ended: by itself, or by an exception; one that was asked to stop was killed."""
        if self.log is not None:
            self._close(self.log, self._by_itself if error is None else _ended_by(error))

    def _left(self, left: RunLog, error: BaseException | None) -> None:
        self._close(left, _unexplained if error is None else _ended_by(error))

    def _by_itself(self, log: RunLog) -> None:
        log.close(State.COMPLETED if self.kill is None else State.KILLED)  # a rank other than 0 was not asked itself

    def _close(self, log: RunLog, last_word: Callable[[RunLog], None]) -> None:
        with self._turn:
            if self.log is not log:
                return
            if self._leaving is not None:
                self._leaving.close()
            self._within.close()
            self.log = None
            last_word(log)
        self._after()


def _ended_by(error: BaseException) -> Callable[[RunLog], None]:
    return lambda log: log.__exit__(type(error), error, error.__traceback__)


def _unexplained(log: RunLog) -> None:
    log.close(State.FAILED, _LEFT)


@contextmanager
def _told_rank(rank: int, world: int) -> Iterator[None]:
    """Says in the environment which process this is, as torchrun does, while a run log is made that reads it there."""
    told = {"RANK": str(rank), "WORLD_SIZE": str(world)} if world > 1 and "RANK" not in os.environ else {}
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def spared(hook: Hook) -> Hook:
    """A turn of the framework at which nothing is done outside of a training, and whose errors end none.

    Rows that the disk refuses are counted by the log itself. What else may go wrong here is a framework that has
    changed; that is told in the run folder, and costs its owner some rows rather than the training.

    Args:
        hook: a method of an adapter, whose session is `_session`; it returns None, or None is a sensible answer.
    """

    @functools.wraps(hook)
    def call(self: Any, *args: Any, **named: Any) -> Any:
        if self._session.log is None:
            return None
        try:
            return hook(self, *args, **named)
        except Exception as error:  # noqa: BLE001 - logging must not end the training that it watches
            self._session.trouble(hook.__name__, error)
            return None

    return cast("Hook", call)


def described(describe: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a framework says of a training's settings; nothing where it cannot: no training needs the answer."""
    try:
        return describe()
    except Exception:  # noqa: BLE001 - it is the framework's code, and the user's
        return {}


_TAKEN = ("self", "step", "epoch", "gpu_memory_mb")
"""What a row says by itself, and no metric can be called."""


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """What among some values is one number; the rest (texts, tables, tensors of several elements) is left out."""
    found = {}
    for name, value in values.items():
        if name in _TAKEN or isinstance(value, str | bytes | bool) or value is None:
            continue
        try:
            found[str(name)] = float(value)
        except (TypeError, ValueError, RuntimeError):  # a tensor of several elements raises the last one
            continue
    return found
