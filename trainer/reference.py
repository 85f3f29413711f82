"""`trainer keys`: every key that a spec may hold, printed from its declaration, so it is always true."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from trainer.errors import SpecError
from trainer.spec import Spec
from trainer.spec.keys import Key, keys, sections

_WIDTH = 110


def reference(prefix: str = "") -> str:
    """The keys that begin with `prefix`, by section: type, default, meaning.

    Raises:
        SpecError: none does.
    """
    wanted = [key for key in keys(Spec) if key.path.startswith(prefix) and not any(sections(key.field.annotation))]
    if not wanted:
        raise SpecError(f"{prefix}: no key begins like that; the first parts are {', '.join(Spec.model_fields)}")
    told: list[str] = []
    for (table, section), group in itertools.groupby(
        wanted, key=lambda key: (key.path.rpartition(".")[0], key.section)
    ):
        title = f"[{table}]" if table else "(top level)"
        told += [f"{title}{_about(section) if table else ''}", *(line for key in group for line in _lines(key)), ""]
    return "\n".join(told).rstrip()


def _about(section: type[BaseModel]) -> str:
    text = " ".join((section.__doc__ or "").split())
    return f"  {text}" if text and not text.startswith("Usage docs") else ""


def _lines(key: Key) -> Iterator[str]:
    head = f"  {key.path.rpartition('.')[2]} = {_default(key.field)}  ({_type(key.field)})"
    yield head
    for line in textwrap.wrap(key.field.description or "", _WIDTH - 6):
        yield f"      {line}"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "…"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else repr(value)


def _type(field: FieldInfo) -> str:
    bounds = [_bound(item) for item in field.metadata]
    return ", ".join(filter(None, (_name(field.annotation), *bounds)))


def _name(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        inside, *more = get_args(annotation)
        return ", ".join(filter(None, (_name(inside), *(_bound(item) for item in more))))
    if origin is Literal:
        return " | ".join(map(str, get_args(annotation)))
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_name(item) for item in get_args(annotation) if item is not NoneType))
    if origin is tuple:
        return f"list of {_name(get_args(annotation)[0])}"
    names = {int: "whole number", float: "number", str: "text", bool: "true or false"}
    return names.get(annotation, "table" if origin is dict else getattr(annotation, "__name__", str(annotation)))


def _bound(item: Any) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    own = [f"{sign} {getattr(item, name)}" for name, sign in signs.items() if getattr(item, name, None) is not None]
    inside = [_bound(one) for one in getattr(item, "metadata", ())]
    return ", ".join(filter(None, (*own, *inside)))
