"""All that is wrong with a document, in one go: where, what stands there, and what may be meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trainer.errors import SpecError
from trainer.spec.keys import keys
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
        faults = [_fault(item, kind) for item in error.errors(include_url=False)]
        raise SpecError("\n  ".join([f"{where}: {len(faults)} thing(s) to correct", *faults])) from None


def _fault(item: ErrorDetails, kind: type[BaseModel]) -> str:
    """One line: where, what stands there, what is wrong with it, what may be meant."""
    path = list(_without_tags(item["loc"]))
    where, value = ".".join(path) or "spec", item["input"]
    if item["type"] == "extra_forbidden":
        known = list(dict.fromkeys(key.path for key in keys(kind)))
        near = difflib.get_close_matches(where, known, n=1, cutoff=0.5)
        same = [key for key in known if key.rsplit(".", 1)[-1] == path[-1]]
        hint = f"; did you mean {(same or near)[0]}?" if same or near else ""
        return f"{where} = {_short(value)}: there is no such key{hint}"
    if item["type"] == "missing":
        return f"{where}: is missing"
    context = item.get("ctx", {})
    if item["type"] == "union_tag_invalid":
        return f"{where}.kind = {_short(value.get('kind'))}: {_no_such_kind(item)}"
    message = item["msg"].removeprefix("Value error, ")
    if isinstance(value, Mapping):
        return f"{where}: {message}"
    choices = re.findall(r"'([^']+)'", str(context.get("expected", "")))
    near = difflib.get_close_matches(str(value).lower(), choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{where} = {_short(value)}: {message[:1].lower()}{message[1:]}{hint}"


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
