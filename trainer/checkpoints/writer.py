"""Checkpoints are written beside the training, which waits only while its state is copied off the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from torch import Tensor

Result = TypeVar("Result")


def copied(state: Any) -> Any:
    """The state as it is now, on the CPU: what the next step changes, it does not change here."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {key: copied(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(copied(value) for value in state)
    return state


class Writer(Generic[Result]):
    """One job at a time in a thread; the next one waits for it, so that a slow disk slows the run, not its memory.

    Args:
        background: False has every job done at once, in the caller's thread.
    """

    def __init__(self, *, background: bool) -> None:
        self._pool = ThreadPoolExecutor(1, "checkpoint") if background else None
        self._job: Future[Result] | None = None

    @property
    def ready(self) -> bool:
        """Whether a job is done whose result was not taken."""
        return self._job is not None and self._job.done()

    def submit(self, job: Callable[[], Result]) -> None:
        """Begins a job. The one before must have been taken."""
        assert self._job is None
        if self._pool is not None:
            self._job = self._pool.submit(job)
            return
        self._job = Future()
        try:
            self._job.set_result(job())
        except OSError as error:
            self._job.set_exception(error)

    def take(self) -> Result | None:
        """The result of the last job, waited for; None where there is none to take.

        Raises:
            OSError: what the job raised.
        """
        job, self._job = self._job, None
        return None if job is None else job.result()

    def close(self) -> None:
        """Waits for the job under way and ends the thread."""
        if self._pool is not None:
            self._pool.shutdown()
