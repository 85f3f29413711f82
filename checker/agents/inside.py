"""Which paths an agent may name: those below one folder. Not those above it, hidden ones, or links that lead out."""

from __future__ import annotations

import os
from pathlib import Path

from checker.clean import clean
from checker.places import folders, is_run
from checker.terms import Complaint

SHOWN = 40
"""Characters of a run's name that a list shows."""


class Inside:
    """The folder, and what lies in it."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def path(self, named: str) -> Path:
        """The place that `named` is, relative to the folder; there may be nothing yet.

        Raises:
            Complaint: it is not below the folder.
        """
        given = Path(named)
        if given.is_absolute() and given.is_relative_to(self.root):
            given = given.relative_to(self.root)
        shown = clean(named, 100)
        if "\0" in named or given.is_absolute() or any(part.startswith(".") for part in given.parts):
            raise Complaint(f"{shown}: only what lies below {self.root} can be named, relative to it")
        place = self.root / given
        if not Path(os.path.realpath(place)).is_relative_to(self.root):
            raise Complaint(f"{shown}: a link that leads out of {self.root}; serve the folder that it leads to")
        return place

    def run(self, named: str) -> Path:
        """The run folder that `named` is, also as a list shows it.

        Raises:
            Complaint: there is none.
        """
        place = self.path(named)
        if is_run(place):
            return place
        alike = [folder for folder in folders(self.root) if clean(self.name(folder), SHOWN) == named]
        if len(alike) == 1:
            return self.path(self.name(alike[0]))
        raise Complaint(f"{clean(named, 100)}: no such run; list_runs names those that there are")

    def name(self, folder: Path) -> str:
        """A run's path below the folder, or its own name where it is the folder itself."""
        return folder.name if folder == self.root else str(folder.relative_to(self.root))
