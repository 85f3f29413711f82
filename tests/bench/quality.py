"""How often ours and its peers are right, on the same rows, with documented and with tuned limits.

Usage: python tests/bench/quality.py [--zoo DIR] [--public RUNS LABELS] [--split tune|validate|test …] [--peers NAME …]

Every scoring of the test split is put on record in results/test_split.md, with date and commit.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also from a checkout that was never installed

import contest
import labelled
import scoring
import table
from contest import Tool
from labelled import Group
from peers.base import Peer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from table import Scored

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
ZOO = HERE / "zoo/runs"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Score ours and its peers on labelled runs.")
    parser.add_argument("--zoo", type=Path, default=ZOO, help="folder of splits: <split>/ and <split>.labels.jsonl")
    parser.add_argument(
        "--public", type=Path, nargs=2, metavar=("RUNS", "LABELS"), help="a folder of logs, a label file"
    )
    parser.add_argument("--split", nargs="+", choices=labelled.SPLITS, help="splits of the zoo to score (all)")
    parser.add_argument("--peers", nargs="+", metavar="NAME", help="only peers whose names contain one of these")
    parser.add_argument("--jobs", type=int, help="processes (all cores)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the tables")
    return parser.parse_args()


def groups(options: argparse.Namespace) -> tuple[Group | None, list[Group]]:
    """The runs to tune on, and the groups to score."""
    zoo = labelled.zoo(options.zoo)
    tune = next((group for group in zoo if group.name == "tune"), None)
    found = [group for group in zoo if not options.split or group.name in options.split]
    if options.public:
        public = labelled.group(labelled.PUBLIC, *options.public)
        found.append(public._replace(tuned=tune is not None))
        if tune is None:
            tune, scored = labelled.halves(public)
            found.append(scored)
    return tune, found


def scored(
    found: Sequence[Group], peers: Sequence[Peer], tune: Group | None, options: argparse.Namespace
) -> Iterator[Scored]:
    """Tunes, then plays every group."""
    plain = [Tool(), *map(contest.documented, peers)]
    with Progress(console=Console(stderr=True)) as progress:
        best = []
        if tune is not None and peers:
            task = progress.add_task("tuning peers", total=contest.tuning_passes(peers, tune.runs))
            best = contest.tuned(peers, tune.runs, jobs=options.jobs, tell=lambda runs: progress.advance(task, runs))
        for group in found:
            tools = plain + best if group.tuned else plain
            bar = progress.add_task(group.name, total=contest.passes(tools, group.runs))
            played = contest.play(
                tools, group.runs, jobs=options.jobs, tell=lambda runs, bar=bar: progress.advance(bar, runs)
            )
            yield Scored(group, tools, played)


def show(result: Scored, console: Console) -> None:
    for head, rows, title in (
        (table.HEAD, table.lines(result), table.title(result.group)),
        (table.CLASSES, table.our_classes(result), f"ours by class: {result.group.name}"),
    ):
        shown = Table(*head, title=title, title_justify="left")
        for row in rows:
            shown.add_row(*row, style="bold" if row[0] == contest.OURS else "")
        console.print(shown)


RECORD = """\
# Every scoring of the test split

Each time the test split is scored, the result is written down here: when, by which commit, and every run that was
stopped though it must live or not seen though it was broken beyond doubt.
"""


def record(result: Scored, path: Path) -> None:
    """Puts a scoring of the test split on record, below those before it."""
    place = next(i for i, tool in enumerate(result.tools) if tool.peer is None)
    verdicts, runs = result.played.verdicts[place], result.group.runs
    score = scoring.score(verdicts, runs, result.played.rows)
    stopped = [run for run in runs if run.label in labelled.MUST_LIVE and verdicts[run.id].stop is not None]
    unseen = [run for run in runs if run.label in labelled.HARD and verdicts[run.id].seen is None]
    text = [
        f"## {datetime.now(UTC):%Y-%m-%d %H:%M}, commit {table.commit()}",
        ", ".join(
            (
                f"false stops {score.false_stops.exact()}",
                f"false words {score.false_words.exact()}",
                f"hard stopped {score.hard_stopped.exact()}",
                f"hard seen {score.hard_seen.exact()}",
                f"soft seen {score.soft_seen.exact()}",
            )
        ),
        *(f"- stopped: {run.id} ({run.label}), {said(verdicts[run.id])}" for run in stopped),
        *(f"- not seen: {run.id} ({run.label}, onset at row {run.onset})" for run in unseen),
    ]
    known = path.read_text(encoding="utf-8") if path.exists() else RECORD
    path.write_text(known + "\n" + text[0] + "\n\n" + text[1] + "\n\n" + "\n".join(text[2:]) + "\n", encoding="utf-8")


def said(verdict: contest.Verdict) -> str:
    if verdict.stop is not None:
        return f"stopped at row {verdict.stop} ({verdict.why})"
    return "silent" if verdict.seen is None else f"alert at row {verdict.seen} ({verdict.why})"


def main() -> None:
    options, begun = arguments(), time.monotonic()
    tune, found = groups(options)
    if not found:
        sys.exit(f"nothing to score: no labelled runs in {options.zoo}; give --zoo DIR or --public RUNS LABELS")
    peers, missing = contest.choose(options.peers)
    options.results.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else 250)
    results = []
    for result in scored(found, peers, tune, options):
        results.append(result)
        if result.group.name == "test":
            record(result, options.results / "test_split.md")
    for result in results:
        show(result, console)
    for peer in missing:
        console.print(f"{peer.name}: not installed ({peer.package}); the extra is called bench")
    text = table.document(results, missing, tune, time.monotonic() - begun)
    (options.results / "quality.md").write_text(text, encoding="utf-8")
    console.print(f"written to {options.results / 'quality.md'}")


if __name__ == "__main__":
    main()
