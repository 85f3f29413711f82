"""Finished strings and a template become a page; a page becomes a file, if it says something new."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import contract

if TYPE_CHECKING:
    import jinja2

_BESIDE = Path(__file__).parents[1]
FOLDER = next((path for path in (_BESIDE / "templates", _BESIDE.parent / "templates") if path.is_dir()), _BESIDE)
"""Where the templates lie: in the package once installed, at the top of the repository before."""


@cache
def _environment() -> jinja2.Environment:
    import jinja2  # noqa: PLC0415 - a third of the start-up time of commands that render nothing

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown; every value was masked when its string was made
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def page(template: str, view: Any) -> str:
    """The page that `template` makes of the attributes of `view`, which are finished strings.

    The name of a folder may be bytes that are no text: what cannot be written stands there as a question mark.
    """
    text = _environment().get_template(template).render(vars(view)).strip() + "\n"
    return text.encode("utf-8", "replace").decode()


def put(path: Path, data: bytes) -> None:
    """Writes `data`, unless the file holds just that: a watcher should wake up for news only.

    A link, a pipe or whatever else lies there is replaced by the page; what a link points at is neither read nor
    touched.

    Raises:
        OSError: the folder cannot be written.
    """
    with suppress(FileNotFoundError, contract.Unreadable):
        if contract.read_plain(path, len(data))[0] == data:
            return
    contract.replace(path, data, sync=False)  # made of what the journal and the log say, and can be made again
