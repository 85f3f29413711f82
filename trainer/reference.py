"""`trainer keys`: every key that a spec may hold, printed from its declaration, so it is always true."""

from __future__ import annotations

import itertools
import json
import textwrap
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from trainer.errors import SpecError
from trainer.spec import Spec
from trainer.spec.keys import Key, keys, sections
from trainer.spec.section import is_pattern, one_colon

_WIDTH = 110


def reference(prefix: str = "") -> str:
    """The keys that begin with `prefix`, by section: type, default, meaning.

    Raises:
        SpecError: none does.
    """
    every = list(keys(Spec))
    tables = {key.path: key for key in every if any(sections(key.field.annotation))}
    wanted = [key for key in every if key.path.startswith(prefix) and key.path not in tables]
    if not wanted:
        raise SpecError(f"{prefix}: no key begins like that; the first parts are {', '.join(Spec.model_fields)}")
    wanted.sort(key=lambda key: key.table != "")  # in TOML too, what stands in no table comes first
    told: list[str] = []
    for (table, section), group in itertools.groupby(wanted, key=lambda key: (key.table, key.section)):
        title = _title(tables[table], section) if table else ["(before any table)"]
        told += [*title, *(line for key in group for line in _lines(key)), ""]
    return "\n".join(told).rstrip()


def _title(table: Key, section: type[BaseModel]) -> list[str]:
    """What a table is called, when it is there, and what it is for."""
    repeated = get_origin(table.field.annotation) is tuple
    name = f"[[{table.path}]]" if repeated else f"[{table.path}]"
    when = ", as often as wanted" if repeated else ", only where it is wanted" if table.field.default is None else ""
    about = " ".join((section.__doc__ or "").split())
    return [f"{name}{_kind(section)}{when}", *(f"  {line}" for line in textwrap.wrap(about, _WIDTH - 2))]


def _kind(section: type[BaseModel]) -> str:
    """What the `kind` of a table must be to have these keys; nothing where it has the same ones anyway."""
    kind = section.model_fields.get("kind")
    if kind is None or kind.description:
        return ""
    names = [json.dumps(name) for name in get_args(kind.annotation)]
    return f" of kind {' or '.join(names)}" if names else " of a kind of your own"


def _lines(key: Key) -> Iterator[str]:
    yield f"  {key.path.rpartition('.')[2]} = {_default(key.field)}  ({_type(key.field)})"
    for line in textwrap.wrap(key.field.description or "", _WIDTH - 6):
        yield f"      {line}"


def _default(field: FieldInfo) -> str:
    """As it stands in TOML, which has no word for none."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "(required)"
    if value is None:
        return "(none)"
    return json.dumps(value, ensure_ascii=False)


def _type(field: FieldInfo) -> str:
    bounds = [_bound(item) for item in field.metadata]
    return ", ".join(filter(None, (_name(field.annotation), *bounds)))


_NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false"}


def _name(annotation: Any, plural: str = "") -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        inside, *more = get_args(annotation)
        bounds = ", ".join(filter(None, map(_bound, more)))
        return f"{_name(inside, plural)}{', ' if bounds else ''}{'each ' if bounds and plural else ''}{bounds}"
    if origin is Literal:
        return " | ".join(json.dumps(choice) for choice in get_args(annotation))
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_name(item) for item in get_args(annotation) if item is not NoneType))
    if origin is tuple:
        inside = get_args(annotation)
        return f"list of {'' if inside[-1] is Ellipsis else f'{len(inside)} '}{_name(inside[0], 's')}"
    return f"{_NAMES[annotation]}{plural}" if annotation in _NAMES else "table"


_OWN: dict[object, str] = {one_colon: "as package.module:name", is_pattern: "a regular expression"}
"""What texts of a certain form are."""


def _bound(item: Any) -> str:
    if isinstance(item, AfterValidator):
        return _OWN[item.func]
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    own = [f"{sign} {getattr(item, name)}" for name, sign in signs.items() if getattr(item, name, None) is not None]
    inside = [_bound(one) for one in getattr(item, "metadata", ())]
    return ", ".join(filter(None, (*own, *inside)))
