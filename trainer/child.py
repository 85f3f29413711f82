"""A child: its parent's settings with a change, and words of its own about what that change is to show."""

from __future__ import annotations

from pathlib import Path

from contract import Experiment
from trainer import spec

_WORDS = ("name", "hypothesis", "rationale", "tags")


def settings(parent: Experiment, overlay: Path | None, changes: list[str]) -> spec.Document:
    """What a child of `parent` begins with, before overlay and changes are laid over it.

    What it tries is what was changed, not what its parent tried; a staged fault is not inherited either.
    """
    section = spec.section(overlay) if overlay else spec.Part()
    worded = _all_worded(changes)
    name = section.name or ("" if overlay is None else overlay.stem)
    if section.idea or section.name:
        hypothesis = "; ".join([section.idea or section.name, *worded])
    elif overlay is not None or worded:
        hypothesis = f"{parent.id} with {', '.join(([name] if name else []) + worded)}"
    else:
        hypothesis = f"{parent.id} once more, with nothing changed"
    words = {"name": (name or ", ".join(worded))[:200], "hypothesis": hypothesis, "rationale": section.rationale}
    inherited = {key: value for key, value in parent.config.items() if key != "rehearsal"}
    return {**inherited, **words, "parent": parent.id}


def changed(overlay: Path | None, changes: list[str]) -> bool:
    """Whether anything but words is changed at all."""
    return overlay is not None or bool(_all_worded(changes))


def taken(overlay: Path) -> str:
    """Which part of a file is laid on top."""
    name = spec.section(overlay).name
    return f"{overlay.name.partition('#')[0]}, section {name}" if name else str(overlay)


def _all_worded(changes: list[str]) -> list[str]:
    return [_worded(change) for change in changes if change.partition("=")[0].strip() not in _WORDS]


def _worded(change: str) -> str:
    key, _, value = change.partition("=")
    return f"{key.strip()} = {value.strip()}"
