"""All that is wrong with a document, in one go: where, what stands there, and what may be meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trainer.errors import SpecError
from trainer.spec.keys import Key, keys
from trainer.spec.source import Document

Kind = TypeVar("Kind", bound=BaseModel)


def checked(kind: type[Kind], document: Document, where: str) -> Kind:
    """`document` as a spec of some kind.

    Raises:
        SpecError: everything that is wrong with it.
    """
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        faults = [_fault(item, kind, document) for item in _of_their_own(error.errors(include_url=False))]
        raise SpecError("\n  ".join([f"{where}: {len(faults)} thing(s) to correct", *faults])) from None


def _of_their_own(items: list[ErrorDetails]) -> list[ErrorDetails]:
    """The faults without those that only follow from others, and one alone of a value that fits no alternative."""
    places = [item["loc"] for item in items]
    found: dict[tuple[int | str, ...], ErrorDetails] = {}
    for item in items:
        place = item["loc"]
        follows = item["type"] == "too_short" and any(other[: len(place)] == place != other for other in places)
        if not follows:
            found.setdefault(_without_alternative(place), item)
    return list(found.values())


def _without_alternative(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """A place without the words for one of several types, which pydantic puts behind it: `literal['auto', …]`."""
    return loc[:-1] if isinstance(loc[-1], str) and loc[-1].endswith("]") else loc


def _fault(item: ErrorDetails, kind: type[BaseModel], document: Document) -> str:
    """One line: where, what stands there, what is wrong with it, what may be meant."""
    path = list(_without_tags(_without_alternative(item["loc"])))
    where, value = ".".join(path) or "spec", item["input"]
    if item["type"] == "extra_forbidden":
        return f"{where} = {_short(value)}: {_no_such_key(path, kind, document)}"
    if item["type"] == "missing":
        return f"{where}: is missing"
    if item["type"] == "union_tag_invalid":
        return f"{where}.kind = {_short(value.get('kind'))}: {_no_such_kind(item)}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] in ("value_error", "assertion_error") and isinstance(value, Mapping):
        return f"{where}: {message}"
    message = _said(item, path, message)
    choices = re.findall(r"'([^']+)'", str(item.get("ctx", {}).get("expected", "")))
    near = difflib.get_close_matches(str(value).lower(), choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{where} = {_short(value)}: {message[:1].lower()}{message[1:]}{hint}"


_PATTERNS = {
    "device": 'give "auto", "cpu", "cuda", or "cuda:1" for one of several',
    "metric.name": 'begins with "val_"',
}
"""What a text of a certain form should look like."""


def _said(item: ErrorDetails, path: list[str], message: str) -> str:
    """What is wrong, in the words of TOML."""
    match item["type"]:
        case "tuple_type" | "list_type":
            tables = "groups", "frozen", "stages", "sources"
            return f"is a list of tables: [[{'.'.join(path)}]]" if path[-1] in tables else "is a list: […]"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"is a table: [{'.'.join(path)}]"
        case "too_short" | "too_long":
            least = item["ctx"].get("min_length")
            return f"has at least {least} item(s)" if least is not None else f"has at most {item['ctx']['max_length']}"
        case "string_too_short":
            return "is empty" if not item["input"] else message
        case "string_pattern_mismatch":
            return _PATTERNS.get(".".join(path), message)
        case "literal_error" if path == ["task"]:
            return f"{message}, or your own as package.module:name"
    return message


def _no_such_key(path: list[str], kind: type[BaseModel], document: Document) -> str:
    """Why there is no such key, and where there is one: of another kind of table, or elsewhere."""
    table, known = [part for part in path[:-1] if not part.isdigit()], list(keys(kind))
    here = [key for key in known if key.table == ".".join(table) and key.path.rpartition(".")[2] == path[-1]]
    if here:
        usual = [get_args(key.section.model_fields["kind"].annotation) for key in here]
        kinds = " or ".join(dict.fromkeys(str(name) for names in usual for name in names or ("your own",)))
        return f"is a key of kind {kinds}, and this is {_kind_at(path[:-1], document, here[0])}"
    names = list(dict.fromkeys(key.path for key in known))
    near = difflib.get_close_matches(".".join([*table, path[-1]]), names, n=1, cutoff=0.5)
    same = [name for name in names if name.rpartition(".")[2] == path[-1]]
    same.sort(key=lambda name: (not name.startswith("train."), name.count(".")))
    if not same and not near:
        return "there is no such key"
    return f"there is no such key; did you mean {' or '.join(same[:3]) or _numbered(near[0], path)}?"


def _kind_at(place: list[str], document: Document, key: Key) -> str:
    """The kind of a table, which is the usual one where none is named."""
    found: object = document
    for part in place:
        found = found[int(part)] if isinstance(found, list | tuple) else found[part]  # type: ignore[index]
    named = found.get("kind") if isinstance(found, Mapping) else None
    return str(named or _USUAL[key.table])


_USUAL = {"model": "gpt", "data": "stdlib-text", "data.sources": "stdlib-text"}


def _numbered(name: str, path: list[str]) -> str:
    """The name of a key with the numbers of the tables that `path` stands in."""
    numbers = [part for part in path if part.isdigit()]
    table, _, last = name.rpartition(".")
    same = table == ".".join(part for part in path[:-1] if not part.isdigit())
    return f"{'.'.join(path[:-1])}.{last}" if numbers and same else name


def _without_tags(loc: tuple[int | str, ...]) -> Iterator[str]:
    """The place of a fault without the name of the kind that pydantic puts behind a table that has several."""
    for number, part in enumerate(loc):
        before = loc[:number]
        tagged = before in (("model",), ("data",)) or (len(before) > 1 and before[-2] == "sources")
        if not (tagged and isinstance(part, str)):
            yield str(part)


def _no_such_kind(item: ErrorDetails) -> str:
    tags = [tag for tag in re.findall(r"'([^']+)'", item["ctx"]["expected_tags"]) if tag != "own"]
    known = [kind for tag in tags for kind in (("jsonl", "csv") if tag == "jsonl" else (tag,))]
    near = difflib.get_close_matches(str(item["input"].get("kind")).lower(), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"there is no such kind; known are {', '.join(known)}, and your own as package.module:name{hint}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
