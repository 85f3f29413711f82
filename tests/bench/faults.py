"""What a thousand kills of the checker cost it, and what a fuzzer finds in its parsers: the figures of `faults.md`."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from table import machine

HERE = Path(__file__).parent
RESULTS = HERE / "results/faults.md"
sys.path[:0] = [str(HERE.parent / "faults"), str(HERE.parents[1])]

EXECUTIONS = {"rows": 50_000, "status": 200_000, "journal": 200_000, "judge": 20_000}

LAWS = {
    "rows": "nothing raises; pieces give what the whole gives; no object is lost; a number stays finite or not",
    "status": "nothing raises but what says so; every field has its type; a journaled look comes back the same",
    "journal": "nothing raises; every line is taken up or counted; a pursuit can be resumed from any acts",
    "judge": "no rule raises, whatever the rows hold",
}


@dataclass(frozen=True)
class Fuzzed:
    """What came of one target."""

    executions: int
    covered: int
    inputs: int
    crash: str = ""


def fuzz(target: str, executions: int, seed: int) -> Fuzzed:
    """Runs the fuzzer on one target."""
    command = [sys.executable, str(HERE / "fuzz.py"), target, f"--runs={executions}", f"--seed={seed}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    last = re.findall(r"cov: (\d+) ft: \d+ corp: (\d+)/", text)
    ran = re.search(r"Done (\d+) runs", text)
    units = re.search(r"number_of_executed_units: (\d+)", text)
    crash = "" if ran else " ".join(re.findall(r"^\w*(?:Error|Exception).*|^Base64: .*", text, re.MULTILINE))
    count = int(ran[1]) if ran else int(units[1]) if units else 0
    covered, inputs = map(int, last[-1]) if last else (0, 0)
    return Fuzzed(count, covered, inputs, crash or ("" if ran else text[-300:]))


def kills(number: int, seed: int, jobs: int) -> tuple[object, Mapping[str, int]]:
    """Kills a checker in `number` trials; returns the tally, and how many things it does at each place."""
    import killed  # noqa: PLC0415 - the warm interpreter that everything is forked from

    with tempfile.TemporaryDirectory() as place:
        home = Path(place, "undisturbed")
        home.mkdir()
        counts = killed.learn(home)
        trials = killed.points(counts, number, seed)
        tally = killed.many(Path(place), trials, jobs, lambda text: print(text, flush=True))
    return tally, counts


def _kill_lines(tally, counts: Mapping[str, int], seconds: float) -> Iterator[str]:
    import killed  # noqa: PLC0415 - as above

    kinds = Counter()
    for hit, count in tally.hits.items():
        place, _, rest = hit.partition(" ")
        kinds[place, rest.partition(" ")[0]] += 0 if hit == killed.UNSENT else count
    total = sum(kinds.values())
    done = ", ".join(f"{counts[place]} at the {place}" for place in ("journal", "request", "signal", "report"))
    yield "Eight runs (one that obeys, one deaf to all but SIGKILL, one that only a signal ends, one hung, one that"
    yield f"recovers, one that overfits, one crashed, one ended) under a real checker, which does {done}"
    yield "to files and processes. It is killed with SIGKILL before, in and after each of these at journal, request and"
    yield "signal, at random ones of all, and at random times, up to three times in a row, and started again until all"
    yield f"is settled: {tally.trials:,} trials, {total:,} kills, {seconds / 60:.0f} minutes."
    yield ""
    yield "| killed at | before | in its midst | after | at a random time |"
    yield "|---|---|---|---|---|"
    for place in ("journal", "request", "signal", "report"):
        cells = [str(kinds[place, manner]) for manner in ("before", "half", "after")]
        yield f"| {place} | {' | '.join(cells)} | |"
    yield f"| any time | | | | {kinds['time', 'before']} |"
    yield ""
    unsent = tally.hits[killed.UNSENT]
    yield "In its midst: half of a write is done; what has no half, such as a signal, is not done at all."
    yield ""
    yield f"- **Laws broken: {len(tally.broken)}.** Each finding of an undisturbed checker once, none else; each act"
    yield "  once and in order; one request under one id; each signal heard at most once; every doomed process ended,"
    yield "  the others untouched; every journal line whole, but for those torn on purpose; every page equal to one"
    yield "  made from the files afterwards; nothing left lying about."
    yield f"- {unsent} times a checker was killed between the entry of a SIGTERM and its sending. It is then not sent"
    yield "  again, for nobody can tell whether there was a first; SIGKILL followed after the usual patience."
    yield "- A suspicion that became certain while no checker was there is told as the certainty alone."
    yield from (f"- BROKEN: {sentence}" for sentence in tally.broken)


def _fuzz_lines(found: Mapping[str, Fuzzed]) -> Iterator[str]:
    yield "| parser | executions | branches covered | inputs kept | laws | broken |"
    yield "|---|---|---|---|---|---|"
    for name, one in found.items():
        told = one.crash.replace("|", "/") or "none"
        yield f"| {name} | {one.executions:,} | {one.covered} | {one.inputs} | {LAWS[name]} | {told} |"


def _fault_lines() -> Iterator[str]:
    from index import FAULTS  # noqa: PLC0415 - found by the path above

    yield "| fault | tests in `tests/faults` |"
    yield "|---|---|"
    for fault, tests in FAULTS.items():
        yield f"| {fault} | {', '.join(f'`{name}`' for name in tests)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--executions", type=float, default=1.0, help="times the usual number, of each parser")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=4, help="trials at a time: most of one is waiting")
    parser.add_argument("--fuzz-only", type=Path, metavar="FILE", help="only fuzz, and leave the figures there")
    parser.add_argument("--fuzzed", type=Path, metavar="FILE", help="take the figures from there")
    parser.add_argument("--dry", action="store_true", help="write no results")
    options = parser.parse_args()
    if options.fuzz_only:
        numbers = {name: int(number * options.executions) for name, number in EXECUTIONS.items()}
        found = {name: asdict(fuzz(name, number, options.seed)) for name, number in numbers.items()}
        options.fuzz_only.write_text(json.dumps(found))
        return 0
    fuzzed: dict[str, Fuzzed] = {}
    beside = options.fuzzed or Path(tempfile.mkdtemp(), "fuzzed.json")  # of a process beside, while the trials wait
    more = [f"--executions={options.executions}", f"--seed={options.seed}", f"--fuzz-only={beside}"]
    here = importlib.util.find_spec("atheris") is not None
    if here and options.fuzzed is None:
        subprocess.Popen([sys.executable, __file__, *more])
    began = time.monotonic()
    tally, counts = kills(options.kills, options.seed, options.jobs)  # before there are threads: it forks
    seconds = time.monotonic() - began
    if here:
        while not beside.exists():  # its end may have been taken note of by whoever waited for the trials
            time.sleep(1.0)
        time.sleep(1.0)
        fuzzed = {name: Fuzzed(**one) for name, one in json.loads(beside.read_text()).items()}
    lines = ["# Faults", "", "What the checker does when disks, machines, trainers and its own process fail.", ""]
    lines += ["## Killed", "", *_kill_lines(tally, counts, seconds), ""]
    lines += [
        "## Fuzzed",
        "",
        "Coverage-guided (atheris), half of the inputs as they are, half made into JSON; seeds and dictionary",
    ]
    lines += ["are fixed. The suite feeds the same functions what hypothesis makes up.", "", *_fuzz_lines(fuzzed), ""]
    lines += ["## Each fault and its tests", "", *_fault_lines(), ""]
    lines += [f"{datetime.now(UTC):%Y-%m-%d}. {machine()}. `make test-faults`", ""]
    if not options.dry:
        RESULTS.write_text("\n".join(lines))
    print("\n".join(lines))
    return 1 if tally.broken or any(one.crash for one in fuzzed.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
