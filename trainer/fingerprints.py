"""What a result depends on, in a few hashes: config, code, data, environment. Standard library only."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_SKIPPED = {"node_modules", "site-packages", "__pycache__", "build", "dist"}
_MOST_SOURCES = 2000
"""Source files hashed without git; of a folder with more only the first, and the fingerprint says so."""
_RECORDS = (".jsonl", ".ndjson", ".csv", ".tsv", ".txt")
"""Files that hold one sample per line."""
_GIT_SECONDS = 10
_UNKNOWN = "unknown"


def code(folder: Path, *, without: Path | None = None) -> dict[str, Any]:
    """The state of the code in `folder`.

    Args:
        folder: where the code lies.
        without: a folder whose changes do not count, such as that of the experiments.

    Returns:
        In a git checkout `commit` and `dirty`, a hash of all changes since, untracked Python files included (None when
        there is none); elsewhere `sources`, a hash of all Python files. 16 hex digits each. `unknown` stands for what
        git was too slow to tell, `sources_cut` beside `sources` for too many files to hash them all.
    """
    try:
        commit = _git(folder, "rev-parse", "HEAD")
    except subprocess.TimeoutExpired:
        return {"commit": _UNKNOWN, "dirty": _UNKNOWN}
    if commit is None:
        found = sources(folder, without)
        cut = {"sources_cut": True} if len(found) > _MOST_SOURCES else {}
        return {"sources": _hash_files(found[:_MOST_SOURCES], folder), **cut}
    try:
        dirty = _changes(folder, without)
    except subprocess.TimeoutExpired:
        dirty = _UNKNOWN
    return {"commit": commit.decode().strip(), "dirty": dirty}


def _changes(folder: Path, without: Path | None) -> str | None:
    """A hash of all changes in a checkout since its commit, untracked Python files included; None without any."""
    inside = [":/"]
    if without is not None and without.resolve().is_relative_to(folder.resolve()):
        relative = without.resolve().relative_to(folder.resolve()).as_posix()
        inside = ["."] if relative == "." else [".", f":(exclude){relative}"]
    changes = _git(folder, "diff", "HEAD", "--binary", "--", *inside) or b""
    new = (_git(folder, "ls-files", "--others", "--exclude-standard", "-z", "--", "*.py") or b"").split(b"\0")
    untracked = [folder / os.fsdecode(name) for name in new if name]
    if without is not None:
        untracked = [path for path in untracked if not path.resolve().is_relative_to(without.resolve())]
    if not changes and not untracked:
        return None
    return hashlib.sha256(changes + _hash_files(sorted(untracked), folder).encode()).hexdigest()[:16]


def _git(folder: Path, *arguments: str) -> bytes | None:
    """What git answers; None without git or outside a checkout.

    Raises:
        TimeoutExpired: it takes too long.
    """
    with suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "-C", str(folder), *arguments]
        answer = subprocess.run(command, capture_output=True, timeout=_GIT_SECONDS, check=True)  # noqa: S603 - fixed
        return answer.stdout
    return None


def sources(folder: Path, without: Path | None = None) -> list[Path]:
    """The Python files below `folder`, leaving out hidden folders, environments and installed packages.

    No more than one above `_MOST_SOURCES`, which shows that there are too many.
    """
    found: list[Path] = []
    for place, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if not _skipped(Path(place, name), without))
        found += [Path(place, name) for name in sorted(names) if name.endswith(".py")]
        if len(found) > _MOST_SOURCES:
            break
    return found[: _MOST_SOURCES + 1]


def _skipped(folder: Path, without: Path | None) -> bool:
    own = without is not None and folder.resolve() == without.resolve()
    return own or folder.name.startswith(".") or folder.name in _SKIPPED or (folder / "pyvenv.cfg").exists()


def _hash_files(paths: list[Path], folder: Path) -> str:
    """One hash of files in `folder`: where in it they lie, and what they hold."""
    digest = hashlib.sha256()
    for path in paths:
        with suppress(OSError):  # it went away between the listing and the reading
            content = path.read_bytes()
            digest.update(os.fsencode(path.relative_to(folder).as_posix()) + f"\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()[:16]


def data(path: Path) -> dict[str, Any]:
    """The content of a data file, or of all files in a folder.

    Returns:
        `hash` (16 hex digits) and `samples`: lines of a text file with one record per line (a CSV's header counted),
        files of a folder, None for anything else.

    Raises:
        OSError: it cannot be read.
    """
    if path.is_dir():
        files = [item for item in sorted(path.rglob("*")) if item.is_file()]
        digest = hashlib.sha256()
        for file in files:
            digest.update(f"{file.relative_to(path).as_posix()}\0{_digest(file)[0]}\0".encode())
        return {"hash": digest.hexdigest()[:16], "samples": len(files)}
    content, lines = _digest(path)
    return {"hash": content[:16], "samples": lines if path.suffix.lower() in _RECORDS else None}


def _digest(path: Path) -> tuple[str, int]:
    """SHA-256 and number of lines of one file, read in pieces."""
    digest, lines, last = hashlib.sha256(), 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            lines += block.count(b"\n")
            last = block[-1:]
    return digest.hexdigest(), lines + (last != b"\n")


def environment() -> dict[str, Any]:
    """Python, platform, torch with CUDA, cuDNN and GPU where there are any, and a hash of all installed packages."""
    found: dict[str, Any] = {"python": platform.python_version(), "platform": platform.platform()}
    found.update(_torch())
    listed = json.dumps(packages(), sort_keys=True)
    return {**found, "packages": hashlib.sha256(listed.encode()).hexdigest()[:16]}


@functools.cache
def packages() -> dict[str, str]:
    """Every installed package with its version, by name."""
    return dict(sorted(_installed()))


def _installed() -> Iterator[tuple[str, str]]:
    for package in importlib.metadata.distributions():
        name = package.metadata["Name"]
        if name:  # a broken installation has none
            yield name.lower(), package.version


def _torch() -> dict[str, str]:
    """What torch says of itself when it is loaded; only its version when it is not, for loading takes seconds."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        with suppress(importlib.metadata.PackageNotFoundError):
            return {"torch": importlib.metadata.version("torch")}
        return {}
    found = {"torch": str(torch.__version__)}
    if torch.cuda.is_available():
        found |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
        found["gpu"] = torch.cuda.get_device_name()
    return found


def mismatches(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """A sentence for each of `config`, `code` and `data` that was recorded before and is another now."""
    return [
        f"{name} has changed: it was {_short(before[name])}, now it is {_short(after.get(name))}"
        for name in ("config", "code", "data")
        if before.get(name) and before[name] != after.get(name)
    ]


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {str(item)[:16]}" for key, item in value.items() if item is not None) or "nothing"
    return str(value)
