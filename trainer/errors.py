"""What is wrong with an order before anything was started. Standard library only."""

from collections.abc import Iterable

_MANY = 20


class SpecError(ValueError):
    """A spec or a command that cannot be carried out; the message lists all that is wrong, one fault per line."""


def listed(names: Iterable[str]) -> str:
    """Names for a message: the first of them, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - _MANY} more" if len(every) > _MANY else ""
    return (", ".join(every[:_MANY]) or "none") + more
