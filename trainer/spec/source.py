"""Where a spec comes from: a TOML file, a section of a note, settings typed on the command line, laid on each other."""

from __future__ import annotations

import html
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.errors import SpecError

Document = dict[str, Any]


@dataclass
class Part:
    """A section of a note that holds a change: its heading's first word, what it says, and its first ```toml block."""

    name: str = ""
    idea: str = ""
    rationale: str = ""
    toml: str = ""
    """With blank lines before it, so that line numbers still count from the top of the file."""


def merged(document: Document, where: str, overlay: Path | None, settings: list[str] | None) -> tuple[Document, str]:
    """`document` with overlay and settings laid over it, and words for where all that stands.

    Raises:
        SpecError: the overlay cannot be read, or a setting is none.
    """
    if overlay is not None:
        document, where = laid_over(document, read_toml(overlay)), f"{where} with {overlay}"
    typed: Document = {}
    for setting in settings or []:
        typed = _over(typed, parsed_setting(setting))  # whatever their order: a kind must not forget its own keys
    return laid_over(document, typed), where


def read_toml(path: Path) -> Document:
    """The TOML document in a file; of a Markdown file a block fenced as toml.

    Which block is said behind a `#`: `next.md#exp-006.2` is the first one below the heading `exp-006.2`; without it the
    first of the file.

    Raises:
        SpecError: the file cannot be read or is not TOML.
    """
    path, text, wanted = _source(path)
    if _is_note(path):
        text = _fenced(text, path, wanted).toml
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path}: is not valid TOML: {error}") from None


def section(path: Path) -> Part:
    """The section of a note that `read_toml` takes, with its words; an empty one for a plain TOML file.

    Raises:
        SpecError: as for `read_toml`.
    """
    path, text, wanted = _source(path)
    return _fenced(text, path, wanted) if _is_note(path) else Part()


def _is_note(path: Path) -> bool:
    return path.suffix.lower() in (".md", ".markdown")


def _source(path: Path) -> tuple[Path, str, str]:
    """The file that `path` names, its text, and the section behind a `#`."""
    wanted = ""
    if "#" in path.name and not path.exists():
        name, _, wanted = path.name.rpartition("#")
        path = path.with_name(name)
    try:
        return path, path.read_text("utf-8-sig"), wanted
    except FileNotFoundError:
        raise SpecError(f"{path}: there is no such file; give a spec, a .toml file") from None
    except IsADirectoryError:
        raise SpecError(f"{path}: is a folder; give a spec, a .toml file") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: is not text (byte {error.start} is no UTF-8); give a spec, a .toml file") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror})") from None


def _fenced(text: str, path: Path, wanted: str) -> Part:
    """The section named `wanted`, the first with a ```toml block where none is named.

    Raises:
        SpecError: there is no such section, or no block in it.
    """
    parts = [part for part in _parts(text) if part.toml]
    found = next((part for part in parts if wanted in ("", part.name)), None)
    if found is not None:
        return found
    if wanted and parts:
        named = ", ".join(part.name for part in parts if part.name) or "none with a name"
        raise SpecError(f"{path}: has no section {wanted!r} with a change of the configuration; it has {named}")
    raise SpecError(f"{path}: has no block that starts with ```toml, so there is no change to apply")


def _parts(text: str) -> Iterator[Part]:
    """The sections of a note; whatever stands above the first heading is a section without a name."""
    part, fence, block = Part(), "", list[str]()
    for number, line in enumerate(text.splitlines()):
        if fence:
            if line.startswith("```"):
                if fence == "toml" and not part.toml:
                    part.toml = "\n" * (number - len(block)) + "".join(f"{item}\n" for item in block)
                fence = ""
            else:
                block.append(line)
        elif line.startswith("```"):
            fence, block = ("toml" if line.startswith("```toml") else "other"), []
        elif heading := re.match(r"#+[ \t]+([^\s:,]+)", line):
            yield part
            part = Part(heading[1])
        elif bullet := re.match(r"[-*+][ \t]+(.*\S)", line):
            _say(part, _unescaped(bullet[1]))
    yield part


def _say(part: Part, bullet: str) -> None:
    """The first bullet is the idea; the one that begins with `Rationale:` says why."""
    label, colon, rest = bullet.partition(":")
    if colon and label.lower() == "rationale":
        part.rationale = part.rationale or rest.strip()
    elif not part.idea:
        part.idea = bullet


def _unescaped(text: str) -> str:
    """The text that Markdown shows."""
    return html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text))


def parsed_setting(setting: str) -> Document:
    """`train.steps=50` as the document `{"train": {"steps": 50}}`; a value that is not TOML is taken as text.

    Raises:
        SpecError: there is no `=` or no key.
    """
    key, equals, value = setting.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise SpecError(f"--set {setting}: give it as key.path=value, for example --set optimizer.lr=1e-3")
    try:
        parsed: Any = tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    for part in reversed(parts):
        parsed = {part: parsed}
    return dict(parsed)


_KINDS = {"model": "gpt", "data": "stdlib-text"}
"""Tables whose keys depend on their `kind`, and the kind that they are without one."""


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> Document:
    """`above` on top of `below`, table by table.

    Setting one of train.steps and train.epochs replaces the other, and another kind of model or data leaves nothing of
    the old one's keys.
    """
    result = _over(below, above)
    for table, usual in _KINDS.items():
        old, new = below.get(table), above.get(table)
        if isinstance(old, Mapping) and isinstance(new, Mapping) and "kind" in new:
            result[table] = dict(new) if new["kind"] != old.get("kind", usual) else result[table]
    return result


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> Document:
    result = dict(below)
    for key, value in above.items():
        mine = result.get(key)
        result[key] = _over(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    for one, other in (("steps", "epochs"), ("epochs", "steps")):
        if one in above and other in below and other not in above:
            result.pop(other)
    return result
