"""The user's own code by its name: `package.module:name`."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from trainer.errors import SpecError

_NOT_THEIRS = (f"{os.sep}site-packages{os.sep}", f"{Path(__file__).parent}{os.sep}", "<frozen ")
"""Parts of the paths of files in which nobody looks for a mistake of their own."""


def load(name: str, where: str) -> Any:
    """What a name stands for, imported from the current folder or from what is installed.

    Args:
        name: as `package.module:name`; behind the colon may be several names with dots.
        where: the key of the spec that it stands in.

    Raises:
        SpecError: there is no such module or name, the module raises an error, or it is nothing to call.
    """
    module_name, _, path = name.partition(":")
    named, here = f'{where} = "{name}"', str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does; a program that was installed does not
    importlib.invalidate_caches()  # the file may be younger than the listing of its folder
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise SpecError(f"{named}: {raised(error)}") from error
        raise SpecError(
            f"{named}: there is no module {error.name!r} in {here} or among the installed packages"
        ) from None
    except (Exception, SystemExit) as error:
        raise SpecError(f"{named}: {raised(error)}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, dir(found), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            file = getattr(sys.modules[module_name], "__file__", None) or module_name
            raise SpecError(f"{named}: there is no {part!r} in {file}{hint}")
        found = getattr(found, part)
    if not callable(found):
        raise SpecError(f"{named}: is of type {type(found).__name__}, and cannot be called")
    return found


def raised(error: BaseException) -> str:
    """What somebody's code raised, and in which of its lines."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename)}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not any(part in frame.filename for part in _NOT_THEIRS)]
    last = theirs[-1] if theirs else None
    place = f"{last.filename}:{last.lineno}: " if last is not None else ""
    return f"{place}{type(error).__name__}: {' '.join(str(error).split())}"
