"""`checker doctor`: every check in one table, with what to do. It changes nothing."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

import contract
from checker.clean import clean
from checker.service.checks import folder as about
from checker.service.checks import machine
from checker.service.checks.check import Answer, Level, fail, warn
from checker.service.checks.folder import Place
from checker.wording import count

MACHINE: dict[str, Callable[[], Answer]] = {
    "python": machine.python,
    "libraries": machine.libraries,
    "terminal": machine.terminal,
    "umask": machine.mask,
    "processes": machine.processes,
    "signals": machine.handles,
    "open files": machine.open_files,
    "notifiers": machine.instances,
}

FOLDER: dict[str, Callable[[Place], Answer]] = {
    "access": about.access,
    "space": about.space,
    "file system": about.file_system,
    "watches": about.watches,
    "locks": about.locks,
    "exchange": about.exchange,
    "clocks": about.clocks,
    "limits": about.configuration,
    "runs": about.readable,
    "owners": about.owners,
    "watched": about.watched,
    "alarms": about.alarms,
    "rehearsal": about.rehearsal,
}


class Line(NamedTuple):
    """A check and its answer."""

    check: str
    answer: Answer


def examine(root: Path | None) -> Iterator[Line]:
    """Every check, of the machine alone or of a folder as well."""
    for name, check in MACHINE.items():
        yield Line(name, _answer(check))
    if root is None:
        return
    if not root.is_dir():
        why = "not a folder" if root.exists() else "no such folder"
        yield Line("access", fail(f"{root}: {why}", f"mkdir -p {shlex.quote(str(root))}"))
        return
    place = Place(root.resolve())
    for name, one in FOLDER.items():
        yield Line(name, _answer(partial(one, place)))


def _answer(check: Callable[[], Answer]) -> Answer:
    """What a check says, or why it cannot say anything: one that fails costs none of the others."""
    try:
        return check()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        return warn(f"cannot be told ({reason})", "nothing; where the folder cannot be written this is no surprise")


def main(folder: Path | None, *, as_json: bool) -> int:
    """Prints the table; the exit code is the gravest answer."""
    lines = list(examine(folder))
    worst = max((line.answer.level for line in lines), key=lambda level: level.rank)
    if as_json:
        checks = [{"check": line.check, **line.answer._asdict()} for line in lines]
        print(contract.encode({"v": contract.FORMAT, "worst": worst, "checks": checks}).decode())
        return worst.rank
    _print(lines)
    return worst.rank


def _print(lines: list[Line]) -> None:
    style = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}
    table = Table.grid(padding=(0, 2))
    for check, (level, text, todo) in lines:
        table.add_row(Text(level, style=style[level]), Text(check), Text(clean(text)))
        if todo:
            table.add_row("", "", Text(f"→ {clean(todo)}", style="dim"))
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    found = {level: sum(line.answer.level is level for line in lines) for level in Level}
    console.print(f"{count(found[Level.FAIL], 'failure')}, {count(found[Level.WARN], 'warning')}", highlight=False)
