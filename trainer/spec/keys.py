"""Every key that a spec may hold, read from its declaration: for hints, and for the reference that is printed."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


class Key(NamedTuple):
    """One key: its dotted path, the section that declares it, and pydantic's account of it."""

    path: str
    section: type[BaseModel]
    field: FieldInfo

    @property
    def table(self) -> str:
        """The dotted path of the table that it stands in; empty at the top."""
        return self.path.rpartition(".")[0]


def keys(section: type[BaseModel], prefix: str = "") -> Iterator[Key]:
    """All keys of a section and of the sections in it, in the order of their declaration."""
    for name, field in section.model_fields.items():
        yield Key(prefix + name, section, field)
        for inside in sections(field.annotation):
            yield from keys(inside, f"{prefix}{name}.")


def sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a value of this type may be, or may be a list of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType, tuple):
        for item in get_args(annotation):
            yield from sections(item)
    elif get_origin(annotation) is Annotated:
        yield from sections(get_args(annotation)[0])
