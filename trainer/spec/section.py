"""What every part of a spec has in common, and the kinds of numbers in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
"""Below 1: a whole of it would leave nothing."""


class Section(BaseModel):
    """A table of a spec: no key but those declared, no value of another type."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def one_colon(text: str) -> str:
    """Sees that a text may be the name of somebody's code.

    Raises:
        ValueError: it may not.
    """
    module, colon, name = text.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise ValueError("your own code is named as package.module:name")
    return text


Own = Annotated[str, AfterValidator(one_colon)]
"""The user's own code, as `package.module:name`."""


def is_pattern(text: str) -> str:
    """Sees that a text is a regular expression.

    Raises:
        ValueError: it is not.
    """
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is not a regular expression ({error})") from None
    return text


Pattern = Annotated[str, Field(min_length=1), AfterValidator(is_pattern)]
"""A regular expression that is searched for in the names of parameters, such as `head` or `blocks\\.0\\.`."""


def kind_of(value: Any, usual: str) -> str:
    """Which of several sections a table is: its `kind`, `own` for somebody's own code."""
    kind = str(value.get("kind", usual) if isinstance(value, Mapping) else getattr(value, "kind", usual))
    return "own" if ":" in kind else kind
