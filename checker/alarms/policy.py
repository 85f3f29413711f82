"""What is worth an alarm, and how many there may be. In `checker.toml`: `[notify]`.

Where alarms go does not stand there: such a URL holds a secret, and the folder of runs is often read by many.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Notify:
    """When somebody is told."""

    min_severity: str = "warning"
    """The least that is told: a finding or an end that is a warning, or only what is critical."""
    per_minute: int = 6
    """Messages a minute through one channel, at most; what goes beyond shares one. Most services allow one a second
    and a person reads no more than this."""


NOTIFY = Notify()

SEVERITIES = ("warning", "critical")
