"""What a record says: numbers, labels and text, in the fields that a spec names."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.data.lines import Malformed, bad_utf8, csv_row
from trainer.spec.data import Records

_LARGEST = 3.4028234663852886e38
"""The largest float32."""
_SHOWN = 40
"""Characters of a value that a message quotes."""
_SURELY_SMALL = 19
"""Digits that cannot say more than a float32 holds."""
_FEWEST = 2
"""Bytes of a text: with one there is nothing to predict."""

Shapes = tuple[tuple[int, ...], ...]
"""The shape of each feature; of a plain number ()."""
Label = int | str


class JsonFields:
    """The fields of JSON objects."""

    def __init__(self, source: Records, task: str) -> None:
        self.source, self.task = source, task

    def parsed(self, content: bytes) -> Any:
        """The object in a line.

        Raises:
            Malformed: there is none.
        """
        try:
            found = json.loads(content.decode(), parse_constant=_no_constant)
        except UnicodeDecodeError as error:
            raise Malformed(bad_utf8(error)) from None
        except RecursionError:
            raise Malformed("is nested too deeply") from None
        except Malformed:
            raise
        except ValueError as error:
            raise Malformed(f"is not JSON ({error})") from None
        if not isinstance(found, dict):
            raise Malformed(f"is {_kind(found)}, not an object")
        return found

    def value(self, record: Any, name: str) -> Any:
        if name not in record:
            raise Malformed(f"has no field {name!r}; it has {quoted(record)}")
        return record[name]

    def number(self, value: Any, name: str) -> float:
        """A number that float32 can hold.

        Raises:
            Malformed: it is none.
        """
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Malformed(f"{name} = {short(value)}: is {_kind(value)}, not a number")
        if not -_LARGEST <= value <= _LARGEST:
            raise Malformed(f"{name} = {short(value)}: is {'too large' if value == value else 'not a number'}")  # noqa: PLR0124 - NaN
        return float(value)

    def features(self, record: Any) -> tuple[list[float], Shapes]:
        """All numbers in, one after another, and the shape of each feature.

        Raises:
            Malformed: one is missing, or no number.
        """
        numbers, shapes = list[float](), list[tuple[int, ...]]()
        for name in self.source.features:
            value = self.value(record, name)
            shapes.append(self._flat(value, name, numbers) if isinstance(value, list) else ())
            if not isinstance(value, list):
                numbers.append(self.number(value, name))
        return numbers, tuple(shapes)

    def _flat(self, value: list[Any], name: str, into: list[float]) -> tuple[int, ...]:
        if not value:
            raise Malformed(f"{name}: has an empty list in it")
        if not isinstance(value[0], list):
            into += [self.number(item, name) for item in value]
            return (len(value),)
        shapes = {self._flat(item, name, into) if isinstance(item, list) else () for item in value}
        if len(shapes) > 1:
            raise Malformed(f"{name}: has lists of different lengths in it")
        return (len(value), *shapes.pop())

    def target(self, record: Any) -> float | str:
        """A whole number, another number, or a text.

        Raises:
            Malformed: it is missing, or none of these.
        """
        name = str(self.source.target)
        value = self.value(record, name)
        if isinstance(value, bool):
            value = str(value).lower()
        if isinstance(value, str) and value:
            return self._of_task(value, name)
        number = self.number(value, name)
        return self._of_task(value if isinstance(value, int) else number, name)

    def _of_task(self, value: float | str, name: str) -> float | str:
        """The target as the task that the spec asks for needs it; where it asks for none the values decide later."""
        if self.task == "regression":
            return self.number(value, name)
        if self.task == "classification" and isinstance(value, float):
            if not value.is_integer():
                raise Malformed(f"{name} = {value}: is not a label, which is a text or a whole number")
            return int(value)
        return value

    def text(self, record: Any) -> bytes:
        """The document in a record.

        Raises:
            Malformed: it is missing, no text, or too short.
        """
        name = str(self.source.text)
        value = self.value(record, name)
        if not isinstance(value, str):
            raise Malformed(f"{name} = {short(value)}: is {_kind(value)}, not a text")
        try:
            found = value.encode()
        except UnicodeEncodeError:
            raise Malformed(f"{name}: has half a character in it") from None
        if len(found) < _FEWEST:
            raise Malformed(f"{name} = {value!r}: has fewer than {_FEWEST} bytes, so there is nothing to predict")
        return found

    def difficulty(self, record: Any) -> float:
        """How hard a record is, as it says itself.

        Raises:
            Malformed: it does not.
        """
        name = str(self.source.difficulty)
        return self.number(self.value(record, name), name)


class CsvFields(JsonFields):
    """The fields of CSV rows, where everything is text."""

    def __init__(self, source: Records, task: str, header: Sequence[str]) -> None:
        super().__init__(source, task)
        self.columns = {name: place for place, name in enumerate(header)}
        self.width = len(header)
        self._shapes: Shapes = ((),) * len(source.features)
        self._features = [self.columns[name] for name in source.features]

    def parsed(self, content: bytes) -> Any:
        return csv_row(content, self.source.delimiter)

    def fitting(self, row: Sequence[str]) -> None:
        """Sees that a row has a field for each column.

        Raises:
            Malformed: it has not.
        """
        if len(row) != self.width:
            raise Malformed(f"has {len(row)} fields, and the header has {self.width}")

    def value(self, record: Any, name: str) -> Any:
        return record[self.columns[name]]

    def number(self, value: Any, name: str) -> float:
        if isinstance(value, int | float):
            return super().number(value, name)
        number = _number(value)
        if number is None:
            raise Malformed(f"{name} = {short(value)}: is {'not a number' if value.strip() else 'empty'}")
        return super().number(number, name)

    def features(self, record: Any) -> tuple[list[float], Shapes]:
        try:
            texts = [record[place] for place in self._features]
            numbers = list(map(float, texts))
        except ValueError:
            numbers = [math.nan]
        if not sum(map(abs, numbers)) <= _LARGEST or "_" in "".join(texts):
            numbers = [self.number(record[place], name) for place, name in self._named()]  # says which one it is
        return numbers, self._shapes

    def _named(self) -> Iterable[tuple[int, str]]:
        return zip(self._features, self.source.features, strict=True)

    def target(self, record: Any) -> float | str:
        name = str(self.source.target)
        value = self.value(record, name)
        if value.isdecimal() and len(value) < _SURELY_SMALL and self.task != "regression":
            return int(value)  # what most labels are
        if not value.strip():
            raise Malformed(f"{name} = {value!r}: is empty")
        if _number(value) is None:
            return self._of_task(str(value), name)
        number = self.number(value, name)
        whole = value.strip().removeprefix("-").removeprefix("+").isdecimal()
        return self._of_task(int(value) if whole else number, name)


def _number(text: str) -> float | None:
    """The number that a text says; Python would also read 1_000, which no other program writes or reads."""
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None


def _no_constant(name: str) -> float:
    raise Malformed(f"has the number {name}, which JSON does not know")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def quoted(names: Iterable[str], most: int = 10) -> str:
    """Some names, for a message."""
    known = [repr(name) for name in names]
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more if known else "none"


@dataclass
class Targets:
    """What the targets of a file are, so far."""

    most: int
    """Labels that are remembered."""
    whole: int = 0
    other: int = 0
    """Numbers that are not written as whole ones."""
    texts: int = 0
    first_other: str = ""
    first_text: str = ""
    too_many: bool = False

    def __post_init__(self) -> None:
        self.labels: dict[str, None] = {}

    def note(self, value: float | str, line: int) -> None:
        """Takes one target into account."""
        if isinstance(value, float):
            self.first_other = self.first_other or f"{value} (line {line})"
            self.other += 1
            return
        if isinstance(value, str):
            self.first_text = self.first_text or f"{short(value)} (line {line})"
            self.texts += 1
        else:
            self.whole += 1
        if not self.too_many:
            self.labels[str(value)] = None
            self.too_many = len(self.labels) > self.most


def in_order(labels: Iterable[str]) -> list[Label]:
    """Labels as they are numbered: whole numbers by size, if all are such; texts as texts are sorted."""
    known = set(labels)
    if all(re.fullmatch(r"0|-?[1-9][0-9]*", label) for label in known):
        return sorted(int(label) for label in known)
    return sorted(known)
