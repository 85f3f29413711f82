"""The commands over experiments: list, show, diff, lineage, verify, promote, verdict.

Modules are imported by the command that needs them, so that every command starts at once.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checker.clean import clean
from checker.terms import Complaint

if TYPE_CHECKING:
    from checker.registry.catalog import Entry

EXPERIMENTS = Path("experiments")
"""Where ids are looked for unless somebody says otherwise."""

FINE, FAILED = 0, 1


def add_to(commands: Any) -> None:
    """Adds the commands to the parser of the command line."""
    some = commands.add_parser("list", help="every experiment of a folder with what came of it")
    some.add_argument("folder", type=Path, nargs="?", default=EXPERIMENTS, metavar="DIR", help=f"({EXPERIMENTS})")
    some.add_argument("--status", metavar="STATE", help="only those: completed, killed, crashed, …")
    some.add_argument("--tag", metavar="TAG", help="only those with this tag")
    _programs(some, "one JSON object per experiment and line")
    some.set_defaults(command=_list)

    show = commands.add_parser("show", help="everything about one experiment")
    _one(show)
    show.set_defaults(command=_show)

    diff = commands.add_parser(
        "diff",
        help="what two experiments do differently, and which settings separate good runs from bad",
        description="The settings and metrics that differ between two experiments; and, over all runs of their folder "
        "that are over, the settings that separate the best third from the worst. effect: 1 when the groups do not "
        "overlap; chance: how often random groups differ as much, corrected for the number of settings.",
    )
    diff.add_argument("one", metavar="A")
    diff.add_argument("other", metavar="B")
    _where(diff)
    _programs(diff)
    diff.set_defaults(command=_diff)

    lineage = commands.add_parser("lineage", help="ancestors and descendants, their checkpoints and evaluations")
    _one(lineage)
    lineage.set_defaults(command=_lineage)

    verify = commands.add_parser("verify", help="name each missing or inconsistent artefact; exit code 1 if any")
    _one(verify)
    verify.set_defaults(command=_verify)

    promote = commands.add_parser("promote", help="check whether a checkpoint may be trusted, and write that down")
    _one(promote)
    promote.add_argument("--checkpoint", default="best", metavar="NAME", help="best (as it is), last, or a file")
    promote.add_argument("--dry-run", action="store_true", help="only check")
    promote.add_argument("--revoke", metavar="REASON", help="take the promotion back")
    promote.add_argument("--min-gain", type=float, metavar="X", help="at least so much better than its baseline")
    promote.add_argument("--min-dwell", type=float, metavar="MINUTES", help="first evaluated at least so long ago")
    promote.add_argument("--policy", type=Path, metavar="FILE", help="a file instead of DIR/checker.toml")
    promote.set_defaults(command=_promote)

    verdict = commands.add_parser(
        "verdict",
        help="whether a loop of experiments should go on; an exit code per verdict",
        description="Exit codes: 0 CONTINUE, 10 TARGET_HIT, 11 BUDGET_EXHAUSTED, 12 PLATEAU, 13 DEAD_END; the first "
        "that is true in the order target, budget, plateau, dead end. 2: it cannot be said. Every run counts that is "
        "over, killed and failed ones too. The policy stands in [loop] of DIR/checker.toml; an option goes before it.",
    )
    verdict.add_argument("folder", type=Path, nargs="?", default=EXPERIMENTS, metavar="DIR", help=f"({EXPERIMENTS})")
    verdict.add_argument("--stop-on-tier", metavar="TIER", help="must_pass, should_pass or could_pass")
    verdict.add_argument("--max-iterations", type=int, metavar="N", help="runs that may be over (10)")
    verdict.add_argument("--plateau-epsilon", type=float, metavar="X", help="least improvement, as a share (0.01)")
    verdict.add_argument("--plateau-runs", type=int, metavar="N", help="runs without one that are a plateau (3)")
    verdict.add_argument("--policy", type=Path, metavar="FILE", help="a file instead of DIR/checker.toml")
    _programs(verdict)
    verdict.set_defaults(command=_verdict)


def _one(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", metavar="EXP", help="the id or the folder of an experiment")
    _where(parser)
    _programs(parser)


def _where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--experiments", type=Path, default=EXPERIMENTS, metavar="DIR", help=f"where ids are looked for ({EXPERIMENTS})"
    )


def _programs(parser: argparse.ArgumentParser, told: str = "one JSON object") -> None:
    parser.add_argument("--json", action="store_true", help=told)


def _found(named: str, root: Path) -> tuple[Entry, list[Entry]]:
    from checker.registry.find import Unknown, find

    try:
        return find(named, root)
    except Unknown as unknown:
        raise Complaint(str(unknown)) from None


def _catalog(root: Path) -> list[Entry]:
    from checker.registry.find import Unknown, catalog

    try:
        return catalog(root)
    except Unknown as unknown:
        raise Complaint(str(unknown)) from None


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _print_json(document: Any) -> None:
    from contract import encode

    print(encode(document).decode())


def _width() -> int | None:
    """The width of the terminal; None where no terminal reads."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


# ------------------------------------------------------------------------------------------------------- commands


def _list(arguments: argparse.Namespace) -> int:
    found = _catalog(arguments.folder)
    if not found:
        raise Complaint(f"{arguments.folder}: no experiments (trainer new, or trainer run SPEC, makes one)")
    chosen = [
        entry
        for entry in found
        if arguments.status in (None, entry.status) and (arguments.tag is None or arguments.tag in entry.tags)
    ]
    if not chosen and arguments.status not in (None, *(entry.status for entry in found)):
        there = ", ".join(sorted({entry.status for entry in found}))
        raise Complaint(f"--status {arguments.status}: none of the {len(found)} experiments is; there are: {there}")
    if arguments.json:
        for entry in chosen:
            _print_json(entry.document())
        return FINE
    from checker.registry.pages import listed

    _print(listed(chosen, _width()))
    _print(_counts(found, chosen))
    return FINE


def _counts(found: list[Entry], chosen: list[Entry]) -> Iterator[str]:
    from collections import Counter

    from checker import wording

    counts = Counter(entry.status for entry in chosen)
    each = ", ".join(f"{counts[status]} {status}" for status in sorted(counts))
    all_ = wording.count(len(found), "experiment")
    shown = f"{len(chosen)} of {all_}" if len(chosen) < len(found) else all_
    yield shown + (f": {each}" if each else "")


def _show(arguments: argparse.Namespace) -> int:
    from checker.registry.pages import shown
    from checker.registry.record import read

    entry, beside = _found(arguments.experiment, arguments.experiments)
    if not arguments.json:
        _print(shown(entry, beside))
        return FINE
    from checker.registry import ideas
    from checker.registry.lineage import Family

    record = read(Path(entry.folder))
    plans = [idea for idea in ideas.plans(beside) if idea.origin.id == entry.id]
    _print_json({
        **entry.document(),
        "children": [child.id for child in Family(beside).children(entry)],
        "experiment": record.experiment,
        "result": record.result,
        "evaluations": record.evaluations,
        "promoted": record.promoted,
        "next": [
            {"name": idea.name, "idea": idea.text, "change": idea.change, "tried": idea.tried and idea.tried.id}
            for idea in plans
        ],
        "faults": record.faults,
    })  # fmt: skip
    return FINE


def _diff(arguments: argparse.Namespace) -> int:
    from checker.registry.compare import difference, ranking
    from checker.registry.pages import compared

    one, beside = _found(arguments.one, arguments.experiments)
    other, _ = _found(arguments.other, arguments.experiments)
    found = difference(one, other)
    rank = ranking(beside, other.metric, other.direction)
    if not arguments.json:
        _print(compared(found, rank))
        return FINE
    _print_json({
        "a": one.id,
        "b": other.id,
        "config": {key: {"a": before, "b": after} for key, (before, after) in found.config.items()},
        "metrics": [item._asdict() for item in found.metrics],
        "only_a_falls_short_of": found.shortfalls[0],
        "only_b_falls_short_of": found.shortfalls[1],
        "fingerprints": {key: {"a": before, "b": after} for key, (before, after) in found.prints.items()},
        "separators": [{**item._asdict(), "clear": item.clear} for item in rank.separators] if rank else None,
    })  # fmt: skip
    return FINE


def _lineage(arguments: argparse.Namespace) -> int:
    from checker.registry.lineage import Family
    from checker.registry.pages import tree

    entry, beside = _found(arguments.experiment, arguments.experiments)
    if not arguments.json:
        _print(tree(entry, beside))
        return FINE
    from checker.registry.record import read

    family = Family(beside)
    line, broken = family.ancestors(entry)
    _print_json({
        "experiment": entry.id,
        "ancestors": [above.document() for above in line],
        "broken": broken or None,
        "descendants": [place.entry.document() for place in family.tree(entry) if place.entry is not entry],
        "evaluations": read(Path(entry.folder)).evaluations,
    })  # fmt: skip
    return FINE


def _verify(arguments: argparse.Namespace) -> int:
    from checker.registry.pages import verified
    from checker.registry.verify import verify

    entry, beside = _found(arguments.experiment, arguments.experiments)
    checks = verify(entry, beside)
    passed = all(check.passed for check in checks)
    if arguments.json:
        _print_json({"experiment": entry.id, "passed": passed, "checks": [check._asdict() for check in checks]})
    else:
        _print(verified(entry, checks))
    return FINE if passed else FAILED


def _promote(arguments: argparse.Namespace) -> int:
    from checker.registry.promotion import gate, promote, revoke

    entry, beside = _found(arguments.experiment, arguments.experiments)
    if arguments.revoke is not None:
        return _revoked(entry, _written(entry, lambda: revoke(entry, arguments.revoke)), arguments)
    given = {"min_gain": arguments.min_gain, "min_dwell_minutes": arguments.min_dwell}
    policy = _policy(Path(entry.folder).parent, arguments.policy, "promotion", given)
    found = gate(entry, beside, arguments.checkpoint, policy)
    kept = _written(entry, lambda: promote(entry, found)) if found.passed and not arguments.dry_run else None
    if arguments.json:
        _print_json({**found.document(), "promoted": kept is not None})
        return FINE if found.passed else FAILED
    from checker.registry.pages import gated

    _print(gated(found))
    if not found.passed:
        print(f"{clean(entry.id)} is not promoted: {len(found.blockers)} of {len(found.checks)} checks failed")
        return FAILED
    path = clean(found.checkpoint["path"])
    if kept is None:
        print(f"{clean(entry.id)} {path} could be promoted; nothing was written")
    else:
        print(f"{clean(entry.id)} {path} is promoted. It is taken back with --revoke REASON")
    return FINE


def _written(entry: Entry, write: Callable[[], Any]) -> Any:
    try:
        return write()
    except OSError as error:
        raise Complaint(f"{entry.folder} cannot be written: {error.strerror or error}") from None


def _revoked(entry: Entry, kept: Any, arguments: argparse.Namespace) -> int:

    if kept is None:
        raise Complaint(f"{entry.id} is not promoted, so there is nothing to take back")
    if arguments.json:
        _print_json(kept)
    else:
        print(f"the promotion of {clean(entry.id)} is taken back: {clean(arguments.revoke)}")
    return FINE


def _verdict(arguments: argparse.Namespace) -> int:
    from checker.registry import verdict
    from checker.registry.pages import judged

    names = ("stop_on_tier", "max_iterations", "plateau_epsilon", "plateau_runs")
    given = {name: getattr(arguments, name) for name in names}
    policy = _policy(arguments.folder, arguments.policy, "loop", given)
    known = _catalog(arguments.folder)
    if not known:
        raise Complaint(f"{arguments.folder}: no experiments yet, so nothing can be said about a loop of them")
    answer = verdict.judge(known, policy)
    if arguments.json:
        _print_json(verdict.document(answer))
    else:
        _print(judged(answer))
    return verdict.EXIT[answer.verdict]


def _policy(root: Path, named: Path | None, table: str, given: dict[str, Any]) -> Any:
    """The policy in force: what was typed, else what the file says, else what is shipped."""
    from dataclasses import replace

    from checker import limits, limits_check

    try:
        policy = getattr(limits.in_force(root, named), table)
    except limits.LimitsError as error:
        raise Complaint(str(error)) from None
    typed = {name: value for name, value in given.items() if value is not None}
    for name, value in typed.items():
        try:
            limits_check.policy_value(getattr(policy, name), value, name)
        except ValueError as error:
            option = name.removesuffix("_minutes").replace("_", "-")
            raise Complaint(f"--{option} {value}: {error}") from None
    return replace(policy, **typed)
