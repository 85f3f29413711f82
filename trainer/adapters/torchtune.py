"""torchtune: a metric logger for its recipes, chosen in the configuration.

    metric_logger:
      _component_: trainer.adapters.torchtune.CheckerLogger
      log_dir: experiments/my-run

**What is seen when.** What a recipe logs, every `log_every_n_steps` steps: take 1. Its loss is the real one.

**A request to stop** (the status file, SIGTERM, Ctrl-C) is seen at the next log. A logger cannot have a recipe save,
and a recipe saves at the end of an epoch only: so it is left with exit code 3, and what was trained since the end of
the last epoch is lost, which the run folder then says. A recipe of your own can do better, with `should_stop` of a
`RunLog` after each step, as in `experiments/plain_loop.py`.

Standard library only; a recipe calls loggers by name, so nothing of torchtune is needed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from contract import Exit, Kill
from trainer.adapters.session import Session, described, numbers, spared
from trainer.log import RunLog


class CheckerLogger:
    """Writes the run folder of a training with a torchtune recipe, and ends it when it is asked to stop.

    Args:
        log_dir: the run folder.
        about: arguments of `trainer.log.RunLog`: `metric`, `tiers`, `hypothesis`, `budget`, `total_steps`…

    Raises:
        TypeError: `about` has a name that `RunLog` does not take.
    """

    def __init__(self, log_dir: str | os.PathLike[str], **about: Any) -> None:
        self._session = Session(log_dir, about, "CheckerLogger")

    @property
    def run_log(self) -> RunLog | None:
        """The log of the training under way, for notes and declared changes of regime."""
        return self._session.log

    def log_config(self, config: Any) -> None:
        """Opens the run folder; a recipe tells its configuration once, before the first step."""
        told = described(lambda: _plain(config))
        self._session.begin(
            resume=bool(told.get("resume_from_checkpoint")), total_epochs=told.get("epochs"), config=told
        )

    def log(self, name: str, data: Any, step: int) -> None:
        """Writes one number of a step."""
        self.log_dict({name: data}, step)

    def log_dict(self, payload: Mapping[str, Any], step: int) -> None:
        """Writes the numbers of a step.

        Raises:
            SystemExit: somebody asks this run to stop; the exit code is 3.
        """
        if self._session.log is None:  # a recipe of one's own may tell no configuration
            self._session.begin(resume=False)
        self._write(numbers(payload), step)
        kill = self._asked(step)
        if kill is not None:
            self._session.end()
            raise SystemExit(Exit.STOPPED)

    @spared
    def _write(self, found: dict[str, Any], step: int) -> None:
        log = self._session.log
        assert log is not None
        log.step(step, **found)

    @spared
    def _asked(self, step: int) -> Kill | None:
        kill = self._session.asked(step)
        if kill is not None and self._session.log is not None:
            self._session.log.note(
                f"left at step {step} without a checkpoint: torchtune's recipes save at the end of an epoch only"
            )
        return kill

    def close(self) -> None:
        """Ends the run; a recipe does so when all is trained."""
        self._session.end()


def _plain(config: Any) -> dict[str, Any]:
    """A configuration as a dictionary; OmegaConf's converts itself to one, with other ones inside."""
    if not isinstance(config, Mapping):
        return {}
    return {str(name): _plain(value) if isinstance(value, Mapping) else value for name, value in config.items()}
