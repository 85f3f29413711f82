"""From what a program's runs were made, so that runs of yesterday's code are not taken for today's."""

from __future__ import annotations

import ast
import hashlib
import sys
from functools import cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from members import members
from programs import Program

MODULES = (
    "data",
    "feed",
    "knobs",
    "loggers",
    "members",
    "models",
    "optimizers",
    "stack",
    "train",
    "truth",
    "twists",
)
"""The modules that runs follow from; labels do not, they are made anew each time."""


def fingerprint(program: Program) -> str:
    """Changes with the program, its stories, the code that trains and logs, Python (its source is a text), torch."""
    parts = [repr(program), repr(members(program)), _code(), sys.version, torch.__version__]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def current(program: Program, folder: Path) -> bool:
    """Whether all logs of `program` are in `folder`, made from what it is now."""
    try:
        with (folder / f"{program.name}.npz").open("rb") as file, np.load(file) as kept:
            return str(kept["fingerprint"]) == fingerprint(program)
    except (FileNotFoundError, KeyError, ValueError, EOFError, BadZipFile):
        return False


@cache
def _code() -> str:
    """The code of the modules without comments, docstrings and layout."""
    trees = [ast.parse((Path(__file__).parent / f"{name}.py").read_text()) for name in MODULES]
    for node in (node for tree in trees for node in ast.walk(tree)):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _told(part)]
    return "\n".join(map(ast.dump, trees))


def _told(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
