"""How many failed runs the first suggestion of `next.md` heals, against a random change with the same budget.

Usage: python tests/bench/next.py [--split tune|test …] [--jobs N] [--runs DIR] [--study N]

A broken configuration is trained by the real trainer, stopped by the checker where it would be, and judged by `checker
once`; then the first numbered section of its `next.md` is laid over it as `trainer run exp --spec next.md#exp-001.1`
does, and trained again, once. Every scoring of the test split is put on record in the result file.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also from a checkout that was never installed

import next_runs
import next_score
import next_train
import table
from next_runs import Broken
from next_score import Case, Tried
from rich.progress import track

import contract
from checker import replay
from checker.report import story
from trainer.launch import Order
from trainer.spec import Document, SpecError, section

RESULT = Path(__file__).resolve().parent / "results/next.md"

TOP, RANDOM, SEED = "first suggestion", "random change", "another seed"
WAYS = (TOP, RANDOM, SEED)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", nargs="+", choices=next_runs.SPLITS, default=["test"])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (all cores)")
    parser.add_argument("--runs", type=Path, help="keep the run folders here, and use those that are there")
    parser.add_argument("--study", type=int, metavar="N", help="train the first N suggestions alone; no result is kept")
    parser.add_argument("--fault", nargs="+", choices=next_runs.OF["test"], help="only these faults; no result is kept")
    return parser.parse_args()


# ------------------------------------------------------------------------------------------------- one broken run


def written(document: Document, name: str, runs: Path) -> Path:
    """A configuration as a spec in a file."""
    tables = {key: value for key, value in document.items() if isinstance(value, dict)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in document.items() if key not in tables]
    for section_name, values in tables.items():
        lines += [f"[{section_name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    path = runs / f"{name}.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def case_of(broken: Broken, runs: Path, study: int | None = None) -> Case:
    """Trains one broken configuration and, where that did harm, what each way makes of it.

    Args:
        broken: the configuration.
        runs: where the run folders are.
        study: train so many suggestions, instead of the first one and what it is compared with.
    """
    base = next_train.train(Order(written(broken.base, f"{broken.name}-base", runs), runs), runs)
    run = next_train.train(Order(written(broken.config, broken.name, runs), runs), runs)
    case = Case(broken.name, broken.fault, base, run)
    if not case.harmed:
        return case
    folder = Path(run.folder)
    next_train.judged(folder)
    config, names = next_train.config(folder), next_train.changes(folder)
    tried = {TOP: suggested(folder, names[0], runs) if names else Tried("", None, "no change is suggested")}
    orders = {
        RANDOM: next_runs.settings(next_runs.random_change(broken.name, config)),
        SEED: [f"seed={config['seed'] + 1_000_000}"],
    }
    if study is not None:
        tried |= {f"suggestion {place}": suggested(folder, name, runs) for place, name in enumerate(names[1:study], 2)}
    else:
        for way in WAYS[1:] if case.failed else [RANDOM]:
            tried[way] = again(Order(folder, runs, settings=orders[way]), ", ".join(orders[way]), runs)
    found = story.ranked(replay.read(folder).case)
    return Case(broken.name, broken.fault, base, run, found[0].rule if found else "-", tried)


def suggested(folder: Path, name: str, runs: Path) -> Tried:
    overlay = folder / f"{contract.NEXT}#{name}"
    return again(Order(folder, runs, overlay=overlay), section(overlay).idea, runs)


def again(order: Order, change: str, runs: Path) -> Tried:
    try:
        return Tried(change, next_train.train(order, runs))
    except SpecError as error:
        return Tried(change, None, f"the trainer refuses it: {error}")


def played(splits: Sequence[str], options: argparse.Namespace, runs: Path) -> dict[str, list[Case]]:
    """All broken configurations of the splits, over several processes; the bases first, since they are shared."""
    wanted = {
        split: [b for b in next_runs.broken(split) if b.fault in (options.fault or next_runs.OF[split])]
        for split in splits
    }
    everything = [broken for group in wanted.values() for broken in group]
    bases = {json.dumps(broken.base): broken for broken in everything}
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=50) as pool:
        for _ in track(pool.imap_unordered(_base, [(b, runs) for b in bases.values()]), "bases", len(bases)):
            pass
        tasks = [(broken, runs, options.study) for broken in everything]
        found = {case.name: case for case in track(pool.imap_unordered(_case, tasks), "runs", len(tasks))}
    return {split: [found[broken.name] for broken in group] for split, group in wanted.items()}


def _base(task: tuple[Broken, Path]) -> None:
    broken, runs = task
    next_train.train(Order(written(broken.base, f"{broken.name}-base", runs), runs), runs)


def _case(task: tuple[Broken, Path, int | None]) -> Case:
    return case_of(*task)


# ------------------------------------------------------------------------------------------------------ the result


def document(played: dict[str, list[Case]], commit: str, took: str, old: str) -> str:
    parts = ["# Next experiments: what the first suggestion heals", ""]
    parts += [
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit}. {table.machine()}. {took}.",
        "",
    ]
    parts += [LEGEND.strip(), ""]
    for split in reversed(next_runs.SPLITS):
        if split in played:
            parts += [*results(split, played[split]), ""]
    scorings = [*recorded(old), *(record(split, cases, commit) for split, cases in played.items())]
    parts += ["## Every scoring", "", *scorings, ""]
    return "\n".join([*parts, "Made by `make bench-next`.", ""])


LEGEND = f"""
A failed run: the checker stopped it or warned of it, or no finite weights are left, *and* its last weights are worse
than those of its healthy base by at least {next_score.WORSE:.0%} of what the base gains over a guess, on text that no
run has seen. Healed: the run that was changed and trained again, once, completes, draws no stop and no warning that
stands at its end, and closes at least {next_score.CLOSED:.0%} of the gap between the failed run and the base. Findings
of the clock are left out. Runs are trained by `trainer.launch` with the checker taking a turn after each step, so its
stops apply; `checker once` writes `next.md`. Shares with exact (Clopper-Pearson) 95 % intervals.

Ways to spend one retraining: the **first suggestion** of `next.md`; a **random change** of one of the
{len(next_runs.SPACE)} keys that suggestions change, to a value that one would try; the same configuration with
**another seed**. The remedies were chosen on the tune split; the bases of the test split are others, and no remedy was
looked at with its faults {", ".join(f'"{name}"' for name in next_runs.UNSEEN)} before.
"""


def results(split: str, cases: Sequence[Case]) -> Iterator[str]:
    """The tables of a split."""
    sick, unnoticed = [case for case in cases if case.failed], [case for case in cases if case.unnoticed]
    unsound = {case.base.folder for case in cases if next_score.troubles(case.base)}
    yield f"## {split}: {len(sick)} failed runs of {len(cases)} broken configurations, {next_runs.BASES[split]} bases"
    yield ""
    if unsound:
        yield f"{len(unsound)} bases had findings themselves; their runs are not counted."
        yield ""
    yield from table.markdown(("fault", "broken", "failed", *WAYS), _lines(cases, "fault"))
    yield ""
    yield "By what was found:"
    yield ""
    yield from table.markdown(("finding", "runs", "failed", *WAYS), _lines(sick, "rule"))
    yield ""
    yield "By what was suggested first:"
    yield ""
    yield from table.markdown(("finding", "suggestion", "healed"), ideas(sick))
    yield ""
    yield f"Not healed by the first suggestion ({split}):"
    yield ""
    for case in sick:
        if not case.healed(TOP):
            yield f"- {case.name} ({case.rule}): {case.tried[TOP].change or '-'}: {case.why_not(TOP)}"
    yield ""
    yield (
        f"{len(unnoticed)} more runs were as much worse than their base, without a word from the checker. The first "
        f"suggestion healed {next_score.count(unnoticed, TOP).exact()} of them, a random change "
        f"{next_score.count(unnoticed, RANDOM).exact()}:"
    )
    yield ""
    yield from table.markdown(("fault", "unnoticed", TOP, RANDOM), _unnoticed(unnoticed))


def _unnoticed(cases: Sequence[Case]) -> Iterator[tuple[str, ...]]:
    for name, group in next_score.by(cases, "fault").items():
        yield (name, str(len(group)), *(next_score.count(group, way).exact() for way in (TOP, RANDOM)))


def _lines(cases: Sequence[Case], what: str) -> Iterator[tuple[str, ...]]:
    sick = [case for case in cases if case.failed]
    yield ("**all**", str(len(cases)), str(len(sick)), *(next_score.count(sick, way).exact() for way in WAYS))
    for name, group in next_score.by(cases, what).items():
        of = [case for case in group if case.failed]
        yield (name, str(len(group)), str(len(of)), *(next_score.count(of, way).exact() for way in WAYS))


def ideas(sick: Sequence[Case]) -> list[tuple[str, ...]]:
    """How often each kind of first suggestion heals: numbers in its words left out."""
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in sick:
        groups.setdefault((case.rule, re.sub(r"[\d.e+-]*\d", "…", case.tried[TOP].change)), []).append(case)
    return [(rule, idea, next_score.count(group, TOP).exact()) for (rule, idea), group in sorted(groups.items())]


def recorded(old: str) -> list[str]:
    """The scorings that are on record."""
    return re.findall(r"^- \d{4}-\d\d-\d\d \d\d:\d\d, .*$", old, re.MULTILINE)


def record(split: str, cases: Sequence[Case], commit: str) -> str:
    """A scoring in one line."""
    sick, unnoticed = [case for case in cases if case.failed], [case for case in cases if case.unnoticed]
    told = [f"{way} {next_score.count(sick, way).exact()}" for way in WAYS if all(way in case.tried for case in sick)]
    told.append(f"unnoticed: {TOP} {next_score.count(unnoticed, TOP).exact()}")
    return f"- {datetime.now(UTC):%Y-%m-%d %H:%M}, commit {commit}, {split}: {', '.join(told)}"


def studied(split: str, cases: Sequence[Case]) -> Iterator[str]:
    """How often each suggestion heals, by finding: what an order is made of."""
    groups: dict[tuple[str, str], list[bool]] = {}
    sick = [case for case in cases if case.harmed]
    for told in ("failed", "unnoticed"):
        yield f"{split}, {told}: {next_score.count([case for case in sick if getattr(case, told)], TOP).exact()}"
    for case in sick:
        for way, tried in case.tried.items():
            mark = "healed" if case.healed(way) else case.why_not(way)
            yield f"{case.name:34} {case.rule:18} {way:16} {tried.change}: {mark}"
    for case in sick:
        for way, tried in case.tried.items():
            if way == TOP or way.startswith("suggestion"):
                key = case.rule, re.sub(r"[\d.e+-]*\d", "…", tried.change)
                groups.setdefault(key, []).append(case.healed(way))
    for (rule, idea), hits in sorted(groups.items()):
        yield f"{rule:20} {sum(hits):3}/{len(hits):3}  {idea}"


def main() -> None:
    options, commit, begun = arguments(), table.commit(), time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        runs = options.runs or Path(scratch)
        runs.mkdir(parents=True, exist_ok=True)
        found = played(options.split, options, runs)
    for split, cases in found.items():
        print("\n".join(studied(split, cases) if options.study else results(split, cases)))
    if not (options.study or options.fault):
        took = (
            "Runs that were kept were not trained again"
            if options.runs
            else f"{(time.monotonic() - begun) / 60:.1f} minutes"
        )
        old = RESULT.read_text("utf-8") if RESULT.exists() else ""
        RESULT.write_text(document(found, commit, took, old), encoding="utf-8")
        print(f"written to {RESULT}")


if __name__ == "__main__":
    main()
