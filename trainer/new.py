"""`trainer new`: an experiment is written down before anybody trains it. Needs no torch for other programs' ones."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract import EXPERIMENT, Experiment, Hypothesis, config_hash
from trainer import child, fingerprints, known, spec
from trainer.mint import mint


@dataclass(frozen=True)
class Idea:
    """What was typed."""

    experiments: Path
    hypothesis: str = ""
    rationale: str = ""
    parent: Path | None = None
    overlay: Path | None = None
    settings: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    data: Path | None = None
    external: bool = False


def new(idea: Idea) -> Path:
    """Mints an experiment and returns its folder.

    Raises:
        SpecError: something in the idea is wrong; nothing was created.
    """
    content = _content(idea.hypothesis)
    note = Hypothesis(claim=idea.hypothesis) if content is None else _note(idea.hypothesis, content)
    parent = idea.parent or (Path(note.parent) if note.parent else None)
    folder = _beside(known.find(parent, idea.experiments), idea.experiments) if parent else None
    document, where = _document(idea, folder)
    if note.claim:  # the rationale in a spec is about the hypothesis there
        document = {**document, "hypothesis": note.claim, "rationale": idea.rationale or note.rationale}
    if idea.tags:
        document = {**document, "tags": idea.tags}
    if not document.get("hypothesis"):
        raise spec.SpecError("no hypothesis: say with --hypothesis what you expect, in a sentence or a hypothesis.md")
    try:
        return mint(idea.experiments, (_other if idea.external else _ours)(idea, document, where), content)
    except OSError as error:
        raise spec.SpecError(f"{error.filename}: no experiment can be created there ({error.strerror})") from None


def _beside(parent: Path, root: Path) -> Path:
    """The parent's folder, which lies where its child will: there its result is looked for, by its name alone.

    Raises:
        SpecError: it lies elsewhere, so that the child would be compared with nothing, or with a namesake.
    """
    parent = parent.resolve()
    if parent.parent != root.resolve():
        where = f"lies in {parent.parent}, the experiment would be created in {root}"
        raise spec.SpecError(f"--parent {parent.name}: {where}; a child lies beside its parent: --experiments")
    return parent


def _content(hypothesis: str) -> bytes | None:
    """The note in the file that was named; None for a hypothesis that was typed."""
    named = hypothesis.lower().endswith((".md", ".markdown", ".txt"))
    if not named or (" " in hypothesis and not os.path.isfile(hypothesis)):  # a sentence may end in a file's name
        return None
    try:
        return Path(hypothesis).read_bytes()
    except OSError as error:
        raise spec.SpecError(f"--hypothesis {hypothesis}: the note cannot be read ({error})") from None


def _note(hypothesis: str, content: bytes) -> Hypothesis:
    """What the note says in the file that was named."""
    try:
        note = Hypothesis.parse(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise spec.SpecError(f"--hypothesis {hypothesis}: the note cannot be read ({error})") from None
    if not note.claim:
        raise spec.SpecError(f"--hypothesis {hypothesis}: the note says nothing; its first paragraph is the claim")
    return note


def _document(idea: Idea, folder: Path | None) -> tuple[spec.Document, str]:
    """The spec: the parent's with the changes laid over it, or the one in the file."""
    if folder is None:
        document = spec.read_toml(idea.overlay) if idea.overlay else {}
        return spec.merged(document, str(idea.overlay or "--set"), None, idea.settings)
    parent = known.read_record(folder)
    begin = {**child.settings(parent, idea.overlay, idea.settings), "parent": folder.name}
    if not child.changed(idea.overlay, idea.settings):
        begin["hypothesis"] = ""  # nobody has said why it is tried once more
    return spec.merged(begin, str(folder / EXPERIMENT), idea.overlay, idea.settings)


def _ours(idea: Idea, document: spec.Document, where: str) -> Experiment:
    """The record of an experiment that `trainer run` trains."""
    from trainer import data  # noqa: PLC0415 - takes torch, which other programs' experiments need not have
    from trainer.experiment import record  # noqa: PLC0415 - as above
    from trainer.stages import legs  # noqa: PLC0415 - as above

    options = spec.checked(spec.Spec, document, where)
    if idea.data is not None:
        raise spec.SpecError(f"--data {idea.data}: the spec says what data is trained on; --data goes with --external")
    return record(idea.experiments, options, legs(options, data.load))


def _other(idea: Idea, document: spec.Document, where: str) -> Experiment:
    """The record of an experiment that `trainer exec` has another program train."""
    options = spec.checked(spec.External, document, where)
    found: dict[str, Any] = {
        "config": config_hash(spec.config(options)),
        "code": fingerprints.code(Path.cwd(), without=idea.experiments),
    }
    data = idea.data or (_data_of(idea.experiments / options.parent) if options.parent else None)
    if data is not None:
        try:
            found["data"] = {"path": str(data.resolve()), **fingerprints.data(data)}
        except OSError as error:
            raise spec.SpecError(f"--data {data}: cannot be read ({error.strerror})") from None
    return Experiment(**spec.facts(options), fingerprints={**found, "environment": fingerprints.environment()})


def _data_of(parent: Path) -> Path | None:
    """Where the data of the parent lies; a child without data of its own is trained on it."""
    found = known.read_record(parent).fingerprints.get("data")
    path = found.get("path") if isinstance(found, dict) else None
    return Path(path) if isinstance(path, str) else None
