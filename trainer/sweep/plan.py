"""What was typed: which specs, where their runs go, and which sweep they belong to."""

from __future__ import annotations

import re
import sys
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from contract import sweep_stop_file
from trainer.errors import SpecError


@dataclass(frozen=True)
class Plan:
    """A sweep over all specs of a folder, or over one."""

    target: Path
    experiments: Path
    jobs: int | None = None
    """How many at a time; None for what is usual where they run."""
    settings: list[str] = field(default_factory=list)
    id: str = ""
    """The sweep: what one of this id has begun is gone on with."""

    def specs(self) -> list[Path]:
        """The specs, in the order of their names.

        Raises:
            SpecError: there are none, or the plan makes no sense.
        """
        if self.jobs is not None and self.jobs < 1:
            raise SpecError(f"--jobs {self.jobs}: at least 1 is needed")
        if sweep_stop_file(self.experiments, self.id) is None:
            raise SpecError(f"--id {self.id!r}: must be of letters, digits and ._- and begin with a letter or digit")
        if self.target.is_file():
            return [self.target]
        specs = sorted(self.target.glob("*.toml"))
        if not specs:
            nothing = "there is no .toml file in it" if self.target.is_dir() else "there is no such folder"
            raise SpecError(f"{self.target}: {nothing}")
        return specs

    @property
    def logs(self) -> Path:
        """Where the output of its runs goes; which experiment a spec has become stands there too."""
        return self.experiments / ".sweep" / self.id

    def run(self, spec: Path) -> list[str]:
        """The command that trains a spec."""
        settings = [word for setting in self.settings for word in ("--set", setting)]
        return [*TRAINER, "run", str(spec), "--experiments", str(self.experiments), *settings]


TRAINER = (sys.executable, "-m", "trainer")
"""This program, as another process starts it."""


def new_id(target: Path) -> str:
    """An id that no sweep has had."""
    return f"{plain_name(target)}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"


def plain_name(target: Path) -> str:
    """The name of a folder or a spec, of letters, digits and `._-` only."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", target.resolve().stem if target.suffix else target.resolve().name)
    return name.strip("._-")[:40] or "sweep"
