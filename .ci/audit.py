"""Asks pip-audit about every installed package: a known vulnerability fails, a service that cannot be asked does not.

A build machine may have no way out, or only to a mirror that knows no vulnerabilities. It then says so, in one line, so
that nobody takes silence for safety.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

SECONDS = 90.0
"""For all packages together; asking about a hundred takes about five."""

COMMAND = (
    sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "--skip-editable",
    "--timeout", "10",
)  # fmt: skip


def main() -> int:
    """Runs the audit and returns its exit code: 1 for a known vulnerability, else 0."""
    try:
        done = subprocess.run(COMMAND, capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        code, told = verdict("", f"no answer within {SECONDS:.0f} s")
    else:
        code, told = verdict(done.stdout, done.stderr)
    print("\n".join(told))
    return code


def verdict(answer: str, trouble: str) -> tuple[int, list[str]]:
    """The exit code and what is to be said.

    Args:
        answer: what pip-audit has printed as JSON; anything else when it could not ask.
        trouble: what it has complained about.
    """
    try:
        packages: Sequence[Mapping[str, Any]] = json.loads(answer)["dependencies"]
    except (ValueError, KeyError, TypeError):
        lines = [line for line in trouble.splitlines() if line.strip()]
        return 0, [f"audit: nobody could be asked ({lines[-1].strip() if lines else 'no answer'})"]
    asked = [package for package in packages if "skip_reason" not in package]
    bad = [package for package in asked if package["vulns"]]
    if bad:
        return 1, [_told(package, found) for package in bad for found in package["vulns"]]
    if not asked:
        return 0, [f"audit: nobody could be asked (the service knows none of {len(packages)} packages)"]
    unknown = len(packages) - len(asked)
    more = f"; {unknown} could not be asked about" if unknown else ""
    return 0, [f"audit: no known vulnerability in {len(asked)} packages{more}"]


def _told(package: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    fixed = f"; fixed in {', '.join(found['fix_versions'])}" if found.get("fix_versions") else ""
    return f"audit: {package['name']} {package['version']} has {found['id']}{fixed}"


if __name__ == "__main__":
    sys.exit(main())
