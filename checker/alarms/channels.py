"""Where alarms go: URLs as Apprise knows them. They hold secrets, so each gets a name, and only that is ever said."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import contract
from checker.clean import clean
from checker.terms import Complaint

ENVIRON = "CHECKER_NOTIFY"
"""URLs between blanks or line breaks. Unlike a command line, nobody else can read it."""

_MAX_FILE = 1 << 16

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://\S")

_PART = re.compile(r"[/:@?&=,;#+\s]+")

HIDDEN = "\u2026"


@dataclass(frozen=True)
class Channel:
    """One way to people."""

    name: str
    url: str = field(repr=False)

    def hide(self, text: str) -> str:
        """`text` without any part of the URL: a host may be a token, and an error message names it."""
        parts = {part for whole in (self.url, unquote(self.url)) for part in _PART.split(whole.partition("://")[2])}
        for part in sorted((part for part in parts if len(part) > 2), key=len, reverse=True):
            text = text.replace(part, HIDDEN)
        return text


def channels(
    given: Sequence[str], environ: Mapping[str, str] = os.environ, warn: Callable[[str], object] = lambda _: None
) -> list[Channel]:
    """The channels that were asked for: URLs, files of URLs, and what the environment has.

    Raises:
        Complaint: one is neither; nothing of a URL is in the message.
    """
    urls: list[str] = []
    for word in given:
        urls += [word] if _SCHEME.match(word) else _listed(word, warn)
    for number, word in enumerate(environ.get(ENVIRON, "").split(), 1):
        if not _SCHEME.match(word):
            raise Complaint(f"{ENVIRON}: word {number} is no URL (scheme://…)")
        urls.append(word)
    return list(_named(urls))


def _listed(word: str, warn: Callable[[str], object]) -> list[str]:
    """The URLs in a file, one per line."""
    path = Path(word).expanduser()
    shown = clean(word) if "/" not in word or path.parent.is_dir() else "what was given"  # a mistyped URL is a secret
    try:
        data, info = contract.read_plain(os.path.realpath(path), _MAX_FILE)
        text = data.decode("utf-8-sig")
    except contract.Unreadable:
        raise Complaint(f"--notify {shown}: not a regular file of at most {_MAX_FILE} bytes") from None
    except UnicodeDecodeError:
        raise Complaint(f"--notify {shown}: not UTF-8") from None
    except OSError as error:
        raise Complaint(f"--notify {shown}: no URL (scheme://…), and no file: {error.strerror}") from None
    if stat.S_IMODE(info.st_mode) & 0o077:
        warn(f"{shown} can be read by others, and holds secrets: chmod 600 {shown}")
    known = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    found = [(number, line) for number, line in known if line and not line.startswith("#")]
    for number, line in found:
        if not _SCHEME.match(line):
            raise Complaint(f"{shown}:{number}: no URL (scheme://…)")
    if not found:
        raise Complaint(f"--notify {shown}: no URL in it")
    return [line for _, line in found]


def _named(urls: Iterable[str]) -> Iterable[Channel]:
    """Each URL once, by a name that stays: its scheme, and four digits that tell two of a kind apart and no secret."""
    names: dict[str, str] = {}
    for url in dict.fromkeys(urls):
        found = _SCHEME.match(url)
        assert found is not None
        digest = hashlib.blake2b(url.encode("utf-8", "surrogateescape"), digest_size=2).hexdigest()
        base = f"{found[1].lower()}-{digest}"
        name = next(name for name in (base, *(f"{base}-{number}" for number in range(2, 1000))) if name not in names)
        names[name] = url
    return [Channel(name, url) for name, url in names.items()]
