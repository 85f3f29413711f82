"""A thread per mirror reads the run's own `metrics.jsonl` and hands on what is new; the training waits for none of it.

A thread of its own for each, so that one that hangs holds up no other. It shares Python's lock with the training, which
therefore loses at most the time that a dashboard computes. Standard library only, apart from the dashboards'.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

from contract import EXPERIMENT, METRICS, Experiment, State, StatusFile, Unreadable, number_in, run_state
from trainer.document import read_object
from trainer.mirrors import rows
from trainer.mirrors.mirror import About, End, Mirror, Opened

PATIENCE_SECONDS = 5.0
"""How long the end of a run waits for its mirrors at most, unless they have hardly begun."""

LOADING_SECONDS = 30.0
"""How long after its begin a mirror may still be waited for: a run may be shorter than its dashboards take to load.

On two idle cores MLflow takes 1.8 s to load and 2.2 s to make its database, W&B 2 s and TensorBoard 0.4 s; beside other
work several times as long. A run of half a minute never waits for this.
"""

_PACE_SECONDS = 1.0
"""Between two looks at the file: people look no more often, and every look takes time from the training."""

_CHUNK = 1 << 18
"""Bytes that are handed on at once, about a thousand rows; between two chunks a mirror can be told to give up."""


@contextmanager
def following(
    folder: Path,
    names: Sequence[str],
    *,
    tell: Callable[[str], object],
    patience: float = PATIENCE_SECONDS,
    loading: float = LOADING_SECONDS,
    pace: float = _PACE_SECONDS,
    opened: Callable[[str], Opened] | None = None,
) -> Iterator[None]:
    """Mirrors the run in `folder` while the block lasts; around the block that opens and closes its `RunLog`.

    Args:
        folder: the run folder.
        names: of the dashboards; none, and there is no thread and no file.
        tell: takes a sentence about each mirror that failed. Called when the block has been left, from its thread.
        patience: seconds that leaving the block may take.
        loading: seconds after entering it until which it may take longer.
        pace: seconds between two looks at the file.
        opened: finds what begins a mirror by the name of its dashboard.
    """
    over = threading.Event()
    begin = _size(folder / METRICS)
    began = time.monotonic()
    followers = [_Follower(folder, name, begin, over, pace, opened or _opened) for name in names]
    for follower in followers:
        follower.start()
    try:
        yield
    finally:
        over.set()
        asked = time.monotonic()
        deadline = max(asked + patience, began + loading)
        for follower in followers:
            follower.join(max(0.0, deadline - time.monotonic()))
        for follower in followers:
            if complaint := follower.complaint(deadline - asked):
                tell(complaint)


class _Follower(threading.Thread):
    """Follows one run for one dashboard.

    Args:
        folder: the run folder.
        name: of the dashboard.
        begin: bytes of `metrics.jsonl` that earlier attempts at the run have left.
        over: set when the last row is written.
        pace: seconds between two looks at the file.
        opened: finds what begins the mirror.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        begin: int,
        over: threading.Event,
        pace: float,
        opened: Callable[[str], Opened],
    ) -> None:
        super().__init__(name=f"mirror-{name}", daemon=True)  # one that hangs keeps no process alive
        self._folder, self._dashboard, self._offset = folder, name, begin
        self._over, self._pace, self._opened = over, pace, opened
        self._fault = ""
        self._given_up = False

    def complaint(self, waited: float) -> str:
        """A sentence about what went wrong, for whoever has waited so many seconds; empty where nothing did.

        A mirror that is still at work is given up: it ends at its next chunk, or with the process.
        """
        if self._fault:
            return f"the mirror for {self._dashboard} was dropped, the run was not touched: {self._fault}"
        if self.is_alive():
            self._given_up = True
            return f"the mirror for {self._dashboard} was left behind: it was not done {waited:.3g} s after the run"
        return ""

    def run(self) -> None:
        try:
            self._follow()
        except BaseException as error:  # noqa: BLE001 - a library may even ask to exit; none of it is the run's matter
            self._fault = " ".join(f"{type(error).__name__}: {error}".split())[:300]

    def _follow(self) -> None:
        mirror: Mirror | None = None
        about = About(folder=self._folder, experiment=Experiment(id="", created_at=""))
        while not self._given_up:
            last = self._over.is_set()  # looked at before the file: what was written until then is seen
            lines, more = self._fresh()
            if lines and mirror is None:  # the first row comes after the record is written
                about = About(folder=self._folder, experiment=Experiment.parse(read_object(self._folder / EXPERIMENT)))
                mirror = self._opened(self._dashboard)(about)
            if mirror is not None and (told := list(rows.told(lines))):
                mirror.take(told)
            if more:
                continue
            if last:
                break
            self._over.wait(self._pace)
        if mirror is not None and not self._given_up:
            mirror.close(_end(about))

    def _fresh(self) -> tuple[list[bytes], bool]:
        """The complete lines that are new, and whether there are more of them."""
        try:
            with (self._folder / METRICS).open("rb") as file:
                file.seek(self._offset)
                data = file.read(_CHUNK)
                more = len(data) == _CHUNK
                data += file.readline() if more else b""
        except FileNotFoundError:
            return [], False
        end = data.rfind(b"\n") + 1
        self._offset += end
        return [line for line in data[:end].split(b"\n") if line], more and end > 0


def _opened(name: str) -> Opened:
    """What begins a mirror for a dashboard. Loads its library, which takes seconds."""
    begins: Opened = import_module(f"trainer.mirrors.{name}").opened
    return begins


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _end(about: About) -> End:
    """How the run ended, from its status file; a status that says otherwise, or nothing, means that it failed."""
    status = None
    with suppress(OSError, Unreadable):
        status = StatusFile(about.folder).read()
    if status is None or not run_state(status).final:
        return End(state=str(State.FAILED), error="the run did not say how it ended")
    best = status.get("best_metrics")
    return End(
        state=str(run_state(status)),  # of this type alone: a dashboard may show the name of another
        best=number_in(best.get(about.metric)) if isinstance(best, dict) else None,
        error=str(status.get("error") or ""),
    )
