"""The user's own code by its name, `package.module:name`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from trainer.errors import SpecError


def load(name: str, where: str) -> Any:
    """What `name` names; modules in the current folder are found too.

    Args:
        name: `package.module:name`, the last part with dots where it lies inside of a class.
        where: the key of the spec that says so, for the error.

    Raises:
        SpecError: there is no such module or name, or the module cannot be imported.
    """
    module, _, inside = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
        for part in inside.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        raise SpecError(f"{where} = {name!r}: there is no module {error.name}, here or installed") from None
    except AttributeError:
        raise SpecError(f"{where} = {name!r}: {module} has no {inside}") from None
    except Exception as error:  # whatever somebody's own code raises is a fault of the spec here
        raise SpecError(f"{where} = {name!r}: importing {module} raised {type(error).__name__}: {error}") from error
    if not callable(found):
        raise SpecError(f"{where} = {name!r}: is a {type(found).__name__}, and cannot be called")
    return found
