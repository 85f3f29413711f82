"""The result in words: one table per group, one of our classes, a legend; for the terminal and as Markdown."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import contest
import labelled
import scoring
from contest import Played, Tool
from labelled import Group
from peers.base import Peer

ROOT = Path(__file__).resolve().parents[2]

HEAD = (
    "tool", "limits", "false stops", "programs", "false words", "programs named", "hard stopped", "hard seen",
    "per program", "soft seen", "delay, word", "delay, stop", "before onset",
)  # fmt: skip

CLASSES = ("label", "runs", "stopped", "seen", "delay, stop", "delay, word")

LEGEND = """\
- **false stops**: runs that must live ({live}) and were stopped; with the exact (Clopper-Pearson) 95 % interval.
  A tool that only alerts has none (n/a). **false words**: any verdict, stop or alert, about {quiet}.
- **programs**: programs (model, data, optimizer and logger together) with a false stop; **programs named**: with a
  false word. Sick runs come in families, so one run is not one observation.
- **hard stopped / seen**: {hard}; **soft seen**: {soft}.
  Not scored: {unscored}. **per program**: hard faults seen, mean over programs.
- **delay**: median from the labelled onset of a hard fault to the first word or stop, in % of the run; **before
  onset**: hard faults whose first word came more than {early:.0%} of the run before it.
- **tuned**: the limits from the peer's grid with the highest recall of hard faults, among those with a false stop or
  word in at most 1 % of the must-live runs of {tuned_on}; if none has so few, those with the fewest. Ours is not tuned.
- Peers are fed one row at a time. Those that run once per epoch or validation are asked where the log has a validation
  loss; without one, once per epoch that it names, or 50 times. Where a log does not declare its length, peers (not
  ours) are told the number of its rows as the planned length, as their host framework would.
- Pruners stop what will not be the best, not what is broken.
- Each peer's source, and what of it cannot be run on scalars: `tests/bench/peers/`."""


class Scored(NamedTuple):
    """A group, who was asked, and what they said."""

    group: Group
    tools: list[Tool]
    played: Played


def lines(result: Scored) -> Iterator[tuple[str, ...]]:
    """The table of a group: a tool's tuned limits right below its documented ones."""
    order = {tool.name: place for place, tool in reversed(list(enumerate(result.tools)))}
    rows = sorted(
        zip(result.tools, result.played.verdicts, strict=True), key=lambda row: (order[row[0].name], row[0].tuned)
    )
    for tool, verdicts in rows:
        score = scoring.score(verdicts, result.group.runs, result.played.rows)
        stops = tool.peer is None or tool.peer.kind == "stop"
        yield (
            tool.name,
            tool.describe(),
            score.false_stops.exact() if stops else "n/a",
            str(score.programs_stopped) if stops else "n/a",
            score.false_words.exact(),
            str(score.programs_named),
            str(score.hard_stopped) if stops else "n/a",
            str(score.hard_seen),
            _share(score.hard_by_program),
            str(score.soft_seen),
            _share(score.delay),
            _share(score.stop_delay) if stops else "n/a",
            str(score.before),
        )


def _share(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:z.1f} %"


def our_classes(result: Scored) -> list[tuple[str, ...]]:
    place = next(i for i, tool in enumerate(result.tools) if tool.peer is None)
    return scoring.classes(result.played.verdicts[place], result.group.runs, result.played.rows)


def title(group: Group) -> str:
    programs = len(labelled.programs(group.runs))
    missing = f"; {group.missing} labelled runs are not there" if group.missing else ""
    return f"{group.name}: {len(group.runs)} runs of {programs} programs{missing}"


def document(results: Sequence[Scored], missing: Sequence[Peer], tune: Group | None, seconds: float) -> str:
    """The whole result as Markdown."""
    parts = ["# Quality: ours and its peers on the same rows", ""]
    parts += [f"{datetime.now(UTC):%Y-%m-%d}, commit {commit()}. {machine()}. {seconds / 60:.1f} minutes.", ""]
    for result in results:
        counts = Counter(run.label for run in result.group.runs)
        parts += [f"## {title(result.group)}", "", ", ".join(f"{label} {n}" for label, n in counts.most_common()), ""]
        parts += [*markdown(HEAD, lines(result)), ""]
        parts += [f"Ours by class, with exact 95 % intervals ({result.group.name}):", ""]
        parts += [*markdown(CLASSES, our_classes(result)), ""]
    parts += [f"Not installed, so not scored: {', '.join(peer.name for peer in missing)}.", ""] if missing else []
    parts += ["## How to read it", "", legend(tune), "", "Driven packages: " + versions(results) + ".", ""]
    return "\n".join([*parts, "Made by `make bench-quality`.", ""])


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def legend(tune: Group | None) -> str:
    chosen = 0 if tune is None else len(labelled.sample(tune.runs, contest.TUNED_ON))
    return LEGEND.format(
        live=", ".join(sorted(labelled.MUST_LIVE)),
        quiet=", ".join(sorted(labelled.QUIET)),
        early=scoring.EARLY,
        hard=", ".join(sorted(labelled.HARD)),
        soft=", ".join(sorted(labelled.SOFT)),
        unscored=", ".join(sorted(labelled.UNSCORED)),
        tuned_on="nothing" if tune is None else f"the group “{tune.name}” ({chosen} of its {len(tune.runs)} runs)",
    )


def versions(results: Sequence[Scored]) -> str:
    peers = {tool.peer.package: tool.peer.version for result in results for tool in result.tools if tool.peer}
    return ", ".join(f"{package} {version}" for package, version in sorted(peers.items()) if package) or "none"


def commit() -> str:
    """The commit that is checked out, marked when the working tree differs from it."""
    say = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    found = subprocess.run(say, cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def machine() -> str:
    """What the numbers were measured on, without naming it."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"model name\s*: (.*)", info)
    cpu = model.group(1).strip() if model else platform.processor()
    return f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}"
