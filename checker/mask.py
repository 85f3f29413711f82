"""Text that came from a run, made harmless before a person, a browser or a terminal sees it.

Names, notes and error messages are written by whatever program was trained. Here they lose their secrets, their control
characters and every meaning in Markdown and HTML, and become one line of bounded length.
"""

from __future__ import annotations

import html
import re
import unicodedata

SECRET = "[SECRET]"  # noqa: S105 - what stands where a secret stood

_LONGEST = 20_000
"""Characters looked at. A traceback has fewer, and nobody should pay for patterns run over megabytes."""

_START = r"(?<![A-Za-z0-9])"
_END = r"(?![A-Za-z0-9_-])"

_KEYS = re.compile(
    "|".join((
        # A hyphenated key needs a digit and a capital, or `sk-learn-random-forest-baseline` would be one.
        rf"{_START}sk-(?:[A-Za-z0-9]{{20,}}|(?=[\w-]{{,200}}\d)(?=[\w-]{{,200}}[A-Z])[\w-]{{20,}})",
        rf"{_START}(?:AKIA|ASIA)[A-Z0-9]{{16}}{_END}",
        rf"{_START}AIza[\w-]{{35}}{_END}",
        rf"{_START}gh[opusr]_[A-Za-z0-9]{{30,}}",
        rf"{_START}github_pat_\w{{22,}}",
        rf"{_START}xox[a-z]-[A-Za-z0-9-]{{10,}}",
        rf"{_START}glpat-[\w-]{{20,}}",
        rf"{_START}npm_[A-Za-z0-9]{{36}}{_END}",
        rf"{_START}pypi-AgE[\w-]{{50,}}",
        rf"{_START}nvapi-[\w-]{{60,}}",
        rf"{_START}wandb_v1_\w{{40,}}",
        rf"{_START}hf_[A-Za-z0-9]{{30,}}{_END}",
        rf"{_START}eyJ[\w-]{{10,500}}\.[\w-]{{10,}}\.[\w-]{{10,}}",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    )),
    re.ASCII | re.DOTALL,
)  # fmt: skip

_IS = r"[\"']?\s*[=:]\s*[\"']?"

_NAMED = [
    re.compile(pattern, re.ASCII | re.IGNORECASE)
    for pattern in (
        rf"(aws_secret_access_key{_IS})[A-Z0-9/+=]{{16,}}",
        # 40 hex digits are also a git commit, so only after a word that says otherwise.
        r"((?:api[_ -]?key|wandb)\b[\"']?(?:\s+login)?\s*(?:[=:]|is\b)?\s*[\"']?)[0-9a-f]{40}\b",
        rf"(\b\w*(?:password|passwd|client_?secret|api_?key|access_?token){_IS})[^\s\"',;&\[]{{8,}}",
        r"(\bbearer\s+)(?=\S*\d)[A-Z0-9._~+/=-]{16,}",
        r"(://[^\s/:@]*:)[^\s/@]+(?=@)",
    )
]

_SHORTEST = 15
"""Characters of the shortest secret with its name, `passwd=12345678`; only one in a URL may be shorter."""

_MARKS = (
    "sk-", "akia", "asia", "aiza", "gho_", "ghp_", "ghu_", "ghs_", "ghr_", "github_pat_", "xox", "glpat-", "npm_",
    "pypi-", "nvapi-", "wandb", "hf_", "eyj", "-----begin", "secret", "key", "passw", "token", "bearer", "://",
)  # fmt: skip
"""One of these stands in everything that a pattern finds. Most text has none, and looking for them is quick."""

_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f]).*?(?:\x07|\x1b\\|\x9c|\Z)"  # OSC, DCS…: titles, links, clipboard
    r"|\x1b[ -/]*[0-~]?",
    re.DOTALL,
)

_INLINE = re.compile(r"[\\`*|~<>&]|(?<![^\W_])_|_(?![^\W_])|\](?=[\[(:])")
"""What means something inside a line. An underscore within a word does not, so metric names stay readable."""

_LEADING = re.compile(r"^(?:#(?=#{0,5}(?:\s|$))|[+-](?=\s|$)|=(?==*\s*$)|-(?=-*\s*$)|\d{1,9}(?=[.)](?:\s|$)))")
"""What starts a heading, a list or an underline: `1. x` does, while `0.1` and `-0.5` are numbers."""

_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def secrets(text: str) -> str:
    """`text` with everything that looks like a credential replaced."""
    if len(text) < _SHORTEST and "://" not in text:
        return text
    low = text.lower()
    if not any(mark in low for mark in _MARKS):
        return text
    text = _KEYS.sub(SECRET, text)
    for pattern in _NAMED:
        text = pattern.sub(rf"\1{SECRET}", text)
    return text


def plain(value: object, limit: int = 200) -> str:
    """`value` as one line for a terminal: no control characters, no secrets, at most `limit` characters."""
    text = str(value)[:_LONGEST]
    text = secrets(" ".join(seen(text).split()))
    return text if len(text) <= limit else text[: max(0, limit - 1)].rstrip() + "…"


def seen(text: str) -> str:
    """`text` without escape sequences and without what cannot be seen; line breaks and tabs stay.

    That goes before secrets are looked for: a zero-width space inside a key would hide it.
    """
    return text if text.isprintable() else "".join(map(_visible, _ESCAPES.sub("", text)))


def markdown(value: object, limit: int = 200) -> str:
    """`value` as one line that Markdown shows as it is, in running text and in a table's cell."""
    text = _INLINE.sub(lambda found: _ENTITIES.get(found[0], "\\" + found[0]), plain(value, limit))
    return _LEADING.sub(lambda found: found[0] + "\\" if found[0].isdigit() else "\\" + found[0], text)


def unescaped(text: str) -> str:
    """What `markdown` made its answer `text` of."""
    return html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text))


def xml(value: object, limit: int = 200) -> str:
    """`value` as text or attribute of an XML document."""
    return html.escape(plain(value, limit))


def _visible(character: str) -> str:
    """The character itself, a space for a line break or tab, a mark for half a character, nothing for the invisible."""
    if character.isprintable() or character.isspace():
        return character
    category = unicodedata.category(character)
    return "\N{REPLACEMENT CHARACTER}" if category in ("Cs", "Cn", "Co") else ""
