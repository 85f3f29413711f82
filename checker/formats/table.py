"""Tables: one line of names, then a line of values per row. What CSV loggers of many programs have in common."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from checker.decoder import LineDecoder
from checker.events import Row, Unreadable
from checker.formats.format import Format, Reading

DELIMITERS = ",\t;"

COUNTERS = frozenset({
    "step", "epoch", "iter", "iteration", "global_step", "_step", "epochs", "steps", "iterations", "batch", "update",
    "time/total_timesteps", "time/iterations",
})  # fmt: skip
"""What the column that counts is called, in small letters."""


class TableDecoder(LineDecoder):
    """A table with delimiters; empty cells are absent, and further columns may be named by a new first line."""

    __slots__ = ("_delimiter", "_names", "_places", "_reading")

    def __init__(self, reading: Reading, places: Mapping[str, str]) -> None:
        super().__init__()
        self._reading = reading
        self._places = places
        self._names: list[str] = []
        self._delimiter = ","

    def read(self, line: bytes) -> Row | Unreadable | None:
        if not line.strip():
            return None
        try:
            text = line.decode("utf-8").rstrip("\r")
        except UnicodeDecodeError as error:
            return Unreadable(self.lines, f"not UTF-8 (byte {error.start + 1})")
        if not self._names:
            self._delimiter = delimiter(text)
            with suppress(csv.Error):
                self._names = cells(text, self._delimiter)
            return None
        try:
            values = cells(text, self._delimiter)
        except csv.Error as error:
            return Unreadable(self.lines, f"no line of a table ({error})")
        if _named_anew(values, self._names):  # a program that was started again, and appends
            self._names = values
            return None
        if len(values) > len(self._names):
            told = f"{len(values)} cells, where the first line names {len(self._names)} columns"
            return Unreadable(self.lines, told)
        document = {name: value(cell) for name, cell in zip(self._names, values, strict=False) if cell}
        return self._reading.row(document, self.rows, self.lines, self._places)


def _named_anew(values: list[str], names: list[str]) -> bool:
    """Whether a line names the columns again, perhaps with further ones."""
    if values == names:
        return True
    return 2 * len({*values} & {*names}) > len(names) and not any(_numeric(cell) for cell in values if cell)


def _numeric(cell: str) -> bool:
    return isinstance(value(cell), int | float)


def delimiter(text: str) -> str:
    """What stands between the cells of a first line: whatever there is most of."""
    return max(DELIMITERS, key=text.count)


def cells(text: str, between: str) -> list[str]:
    """The cells of a line, without the spaces around them.

    Raises:
        csv.Error: it is no line of a table.
    """
    return [cell.strip() for cell in next(csv.reader([text.replace("\0", "")], delimiter=between), [])]


def value(cell: str) -> Any:
    """A number where a cell holds one; the text where not."""
    try:
        return int(cell)
    except ValueError:
        pass
    try:
        return float(cell)
    except ValueError:
        return cell


def names_in(head: bytes) -> list[str]:
    """The names in the first line of a table; none when these bytes are no table with a counting column."""
    try:
        lines = head.decode("utf-8-sig", errors="strict" if len(head) < 4096 else "ignore").splitlines()
    except UnicodeDecodeError:
        return []
    lines = [line for line in lines if line.strip()][:6]
    try:
        found = cells(lines[0], delimiter(lines[0])) if lines and len(lines[0]) < 1 << 15 else []
        good = len(found) > 1 and len(found) == len({*found} - {""}) and not any(map(_numeric, found))
        return found if good and _below(lines, len(found)) else []
    except csv.Error:
        return []


def _below(lines: list[str], columns: int) -> bool:
    """Whether what stands under the names are rows, if there are any: mostly numbers, and not more of them."""
    between = delimiter(lines[0])
    names = cells(lines[0], between)
    for line in lines[1:-1]:  # the last one may be cut
        told = cells(line, between)
        if _named_anew(told, names):
            names, columns = told, len(told)
            continue
        found = [cell for cell in told if cell]
        if len(told) > columns or 2 * sum(map(_numeric, found)) < len(found):
            return False
    return True


def table(
    name: str,
    title: str,
    files: tuple[str, ...],
    known: Callable[[list[str]], bool],
    *,
    places: Mapping[str, str] | None = None,
    about: str = "",
    loss_falls: bool = True,
) -> Format:
    """The format of a table whose column names `known` knows; `places` renames columns that are no metrics."""
    return Format(
        name,
        title,
        files,
        lambda head: bool(found := names_in(head)) and known(found),
        decoder=lambda reading: TableDecoder(reading, places or {}),
        about=about,
        loss_falls=loss_falls,
    )
