"""The commands about other programs' logs: formats, inspect.

Modules are imported by the command that needs them, so that every command starts at once.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checker.clean import clean
from checker.terms import Complaint

if TYPE_CHECKING:
    from rich.table import Table

    from checker.formats.inspect import Column, Understood

_INSPECT = (
    "Reads a log as the checker would and says how it was understood: what each column means and which way it "
    "improves, what is missing, which rules that leaves blind, and what only you can decide. Nothing is written."
)


def add_to(commands: Any) -> None:
    """Adds the commands to the parser of the command line."""
    formats = commands.add_parser("formats", help="the logs of other programs that are understood")
    formats.add_argument("--json", action="store_true", help="one JSON object per format and line")
    formats.set_defaults(command=_formats)

    inspect = commands.add_parser("inspect", help="how a log is understood, column by column", description=_INSPECT)
    inspect.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="a run folder or a log file")
    inspect.add_argument("--json", action="store_true", help="one JSON object per path and line")
    inspect.add_argument("--limits", type=Path, metavar="FILE", help="a file instead of DIR/checker.toml")
    inspect.set_defaults(command=_inspect)


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160)


def _formats(arguments: argparse.Namespace) -> int:
    from rich.table import Table

    from checker.formats.roll import FORMATS
    from checker.formats.text import families
    from contract import METRICS, encode

    known = [
        {"format": "training-checker", "written by": "trainer, RunLog, flat JSON lines", "files": METRICS, "about": ""}
    ]
    known += [
        {"format": one.name, "written by": one.title, "files": ", ".join(one.files), "about": one.about}
        for one in FORMATS
    ]
    if arguments.json:
        for entry in known:
            print(encode(entry).decode())
        return 0
    table = Table(box=None, pad_edge=False)
    for name in known[0]:
        table.add_column(name, overflow="fold", no_wrap=name == "format")
    for entry in known:
        table.add_row(*entry.values())
    console = _console()
    console.print(table, markup=False, highlight=False)
    console.print("\nThe first that fits a file's content is taken. Text logs, by the lines they consist of:\n")
    lines = Table(box=None, pad_edge=False, show_header=False)
    for family in families():
        lines.add_row(family.name, family.title, family.example.strip().replace("\t", " "))
    console.print(lines, markup=False, highlight=False)
    console.print(
        "\nOther lines: a pattern of yours in checker.toml, with named groups for what a row holds:\n\n"
        "[patterns]\nmine = 'it (?P<step>\\d+).*loss=(?P<train_loss>\\S+)'\n\n"
        'Other columns: what they mean, by their own names:\n\n[columns]\n"LossPi" = "train_loss"',
        markup=False,
        highlight=False,
    )
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    from checker import limits
    from checker.formats.inspect import inspect
    from contract import encode

    code = 0
    for path in arguments.paths:
        try:
            reading = limits.in_force_above(path, arguments.limits).reading
            found = inspect(path, reading)
        except limits.LimitsError as error:
            raise Complaint(str(error)) from None
        except (ValueError, OSError) as error:
            print(f"checker: {clean(error)}", file=sys.stderr)
            code = 2
            continue
        if arguments.json:
            print(encode(found.document()).decode())
        else:
            _print(found)
        if not found.rows:
            print(f"checker: {clean(path)}: no row in it", file=sys.stderr)
            code = 2
    return code


def _print(found: Understood) -> None:
    print(f"{clean(found.path)}: {found.format} ({found.title})")
    shown = [Path(file).name for file in found.files]
    print(f"  read from {clean(', '.join(shown[:3]))}{f' and {len(shown) - 3} more' if len(shown) > 3 else ''}")
    print(f"  {found.rows:,} rows, {found.bad:,} unreadable lines")
    for bad in found.unreadable:
        print(f"    line {bad.line}: {clean(bad.reason)}")
    if found.about:
        print(f"  known about this format: {found.about}")
    print()
    _console().print(_table(found.columns), markup=False, highlight=False)
    print()
    for text in found.questions:
        print(f"decide: {clean(text)}")
    for text in found.cannot_judge:
        print(f"cannot judge: {clean(text)}")


def _table(columns: list[Column]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("column", "meaning", "better", "rows", "first", "last", "lowest", "highest", "not finite"):
        table.add_column(name, justify="right" if name not in ("column", "meaning", "better") else "left")
    for column in columns:
        numbers = (column.first, column.last, column.low, column.high)
        numeric = column.low <= column.high and column.name not in ("run_id", "phase")
        texts = ["-" if not numeric or number is None else f"{number:.6g}" for number in numbers]
        if column.name == "timestamp":
            texts = [f"{number:.0f}" if number else "-" for number in numbers]
        table.add_row(
            clean(column.name, 40), column.meaning, column.direction, f"{column.rows:,}", *texts, f"{column.odd or '-'}"
        )
    return table
