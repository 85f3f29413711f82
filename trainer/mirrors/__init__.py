"""Mirrors: what a run writes, shown in dashboards that people have already.

A mirror is written from the run's own `metrics.jsonl`, beside the training, and whatever goes wrong with one is the
end of that mirror and of nothing else. Standard library only, until one is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from trainer.errors import SpecError
from trainer.mirrors.follow import following

__all__ = ["check", "following"]

_WANTS = {"tensorboard": ("tensorboard",), "mlflow": ("mlflow", "sqlalchemy", "alembic"), "wandb": ("wandb",)}
"""The packages of each dashboard; a slim `mlflow` comes without what its database needs."""


def check(names: Iterable[str]) -> None:
    """Whether the libraries of these dashboards are there. They are looked for, not loaded.

    Raises:
        SpecError: they are not; it says how to get them.
    """
    faults = [
        f'mirrors = ["{name}"]: {" and ".join(missing)} is not installed here: '
        "pip install 'training-checker[mirrors]', or, where this program's own source lies, pip install '.[mirrors]'"
        for name in names
        if (missing := [package for package in _WANTS[name] if find_spec(package) is None])
    ]
    if faults:
        raise SpecError("\n  ".join(faults))
