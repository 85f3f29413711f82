"""Is everything there that should be, and does it agree? Each missing or inconsistent artefact by name."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import contract
from checker import places, process, source
from checker.decoder import RowDecoder
from checker.events import Life, Row, Unreadable
from checker.opened import Opened
from checker.registry.catalog import Entry, mapping
from checker.registry.files import digest, hashes, inside
from checker.registry.lineage import Family
from checker.registry.record import Record, read
from checker.retold import Retold


class Check(NamedTuple):
    """One artefact and what is to be said about it."""

    artefact: str
    passed: bool
    told: str


def verify(entry: Entry, beside: Sequence[Entry]) -> list[Check]:
    """Every check of one experiment, in the order in which its files come into being.

    Args:
        entry: the experiment.
        beside: all experiments of its folder, itself included.
    """
    record = read(Path(entry.folder))
    parts = {
        "": _faults(record),
        contract.EXPERIMENT: _experiment(entry, record, beside),
        contract.STATUS: _status(entry, record),
        contract.METRICS: _metrics(entry, record),
        contract.CHECKPOINTS: _checkpoints(record),
        contract.RESULT: _result(entry, record),
        contract.EVALUATIONS: _evaluations(record),
        contract.FINDINGS: _reports(entry, record),
        "folder": _left_behind(record.folder),
    }
    return [check for artefact, checks in parts.items() for check in _read_through(artefact, checks)]


def _read_through(artefact: str, checks: Iterator[Check]) -> Iterator[Check]:
    """The checks; what cannot even be read is one that has failed."""
    try:
        yield from checks
    except OSError as error:
        yield _bad(artefact, f"cannot be read ({error.strerror or error})")
    except contract.Unreadable as error:
        yield _bad(artefact, str(error).rpartition(f"{artefact}/")[2])


def _good(artefact: str, told: str) -> Check:
    return Check(artefact, True, told)


def _bad(artefact: str, told: str) -> Check:
    return Check(artefact, False, told)


def _faults(record: Record) -> Iterator[Check]:
    for fault in record.faults:
        name, _, told = fault.partition(": ")
        yield _bad(name, told)


def _experiment(entry: Entry, record: Record, beside: Sequence[Entry]) -> Iterator[Check]:
    name, document = contract.EXPERIMENT, record.experiment
    if not document:
        known = any(fault.startswith(name) for fault in record.faults) or places.foreign(record.folder)
        if not known:  # another program's run never promised one
            yield _bad(name, "is missing: nothing says what was tried, and by which metric it is judged")
        return
    troubles = [*contract.experiment_faults(document), *_identity(entry, document, beside), *_declared(document)]
    yield from (_bad(name, told) for told in troubles)
    if not troubles:
        yield _good(name, f"says what is tried, by {mapping(document.get('metric')).get('name')}")


def _identity(entry: Entry, document: Mapping[str, Any], beside: Sequence[Entry]) -> Iterator[str]:
    version = document.get("v")
    if isinstance(version, int) and version > contract.FORMAT:
        yield f"is in format {version}, this checker knows up to {contract.FORMAT}"
    if document.get("id") not in (None, entry.name):
        yield f"says it is {document['id']}, the folder is {entry.name}: copied by hand?"
    _, broken = Family(beside).ancestors(entry)
    if broken:
        yield broken


def _declared(document: Mapping[str, Any]) -> Iterator[str]:
    metric = mapping(document.get("metric"))
    if not metric.get("name"):
        yield "names no primary metric"
    elif metric.get("direction") not in ("min", "max"):
        yield f"does not say whether min or max is better for {metric['name']}"
    recorded = mapping(document.get("fingerprints")).get("config")
    config = document.get("config")
    if recorded and isinstance(config, Mapping):
        found = contract.config_hash(config)
        if found != recorded:
            yield f"config has been edited: its hash is {found}, the one recorded at its creation is {recorded}"
    yield from _tiers(mapping(document.get("tiers")), str(metric.get("direction")))


def _tiers(tiers: Mapping[str, Any], direction: str) -> Iterator[str]:
    known = [(name, number) for name in contract.TIERS if (number := contract.number_in(tiers.get(name))) is not None]
    for (lower, one), (higher, other) in itertools.pairwise(known):
        if direction in ("min", "max") and contract.gain(other, one, direction) < 0:
            yield f"tiers are out of order: {higher} {other:g} is easier than {lower} {one:g}"
    for name in tiers.keys() - set(contract.TIERS):
        yield f"tiers has {name!r}; there are: {', '.join(contract.TIERS)}"


def _status(entry: Entry, record: Record) -> Iterator[Check]:
    name, document = contract.STATUS, record.status
    if not document:
        begun = (record.folder / contract.METRICS).exists()
        if begun and not any(fault.startswith(name) for fault in record.faults):
            yield _bad(name, "is missing although the run has begun: nobody can stop it, or tell how it ended")
        return
    state = contract.run_state(document)
    if document.get("experiment_id") not in (None, "", entry.name, record.experiment.get("id")):
        yield _bad(name, f"is about {document['experiment_id']}, not about {entry.name}")
    if state is contract.State.RUNNING and process.look(process.parse(document)) is Life.GONE:
        yield _bad(name, f"says running, but its process is gone: trainer abort {entry.name}, or resume it")
    elif state is contract.State.KILLED and contract.Kill.parse(document.get("kill")) and not document.get("ack"):
        yield _bad(name, "says killed, but the request was never answered")
    else:
        yield _good(name, f"says {state}")


def _metrics(entry: Entry, record: Record) -> Iterator[Check]:
    path = record.folder / contract.METRICS
    log = None if path.is_file() else source.log_of(record.folder)
    if isinstance(log, Retold):
        log.rewritten()
        name = log.path.name
        events: Iterator[Row | Unreadable] = itertools.chain(log.events(), log.rest())
    elif log is None:
        name, events = contract.METRICS, _events(path)
    else:
        if entry.over and entry.status != contract.State.ABORTED:
            yield _bad(contract.METRICS, "is missing: the run has left no curve")
        return
    count, last, bad = 0, None, list[Unreadable]()
    for event in events:
        if isinstance(event, Row):
            count, last = count + 1, event
        else:
            bad.append(event)
    for item in bad[:5]:
        yield _bad(f"{name}:{item.line}", item.reason)
    if len(bad) > 5:
        yield _bad(name, f"{len(bad) - 5} more lines cannot be read")
    if not count:
        yield _bad(name, "has no readable row")
    elif not bad:
        yield _good(name, f"{count:,} rows" + (f" up to step {last.step}" if last and last.step else ""))


def _events(path: Path) -> Iterator[Row | Unreadable]:
    """Every line of a log; one that is torn at the end is a line too."""
    decoder = RowDecoder()
    log = Opened(path)
    with log as fd:
        while fd is not None and (block := os.read(fd, 1 << 20)):
            yield from log.discreet(decoder.feed(block))
    yield from log.discreet(decoder.feed(b"\n"))


def _checkpoints(record: Record) -> Iterator[Check]:
    folder = record.folder / contract.CHECKPOINTS
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix == ".sha256":
            if not path.with_suffix("").exists():
                told = "vouches for a checkpoint that is not there"
                yield _bad(f"{contract.CHECKPOINTS}/{path.name}", told)
        elif path.is_file() and not path.name.startswith(".") and not _is_note(path):
            yield from _read_through(f"{contract.CHECKPOINTS}/{path.name}", _checkpoint(record.folder, path))


def _is_note(path: Path) -> bool:
    """Whether it only says something about the checkpoint beside it: `step-00000400.json` of `step-00000400.pt`."""
    return path.suffix == ".json" and path.with_suffix(".pt").exists()


def _checkpoint(folder: Path, path: Path) -> Iterator[Check]:
    name = f"{contract.CHECKPOINTS}/{path.name}"
    if inside(folder, name) is None:
        yield _bad(name, "is a link that leads out of the folder; it is not followed")
        return
    known, found = hashes(path), digest(path)
    if found is None:
        yield _bad(name, "cannot be read")
    elif not known:
        yield _bad(name, f"has no {path.name}.sha256 beside it, so damage would not show")
    elif found in known:
        yield _good(name, f"SHA-256 {found[:12]}…")
    else:
        yield _bad(name, f"is damaged: its SHA-256 is {found[:12]}…, not the one in {path.name}.sha256")


def _result(entry: Entry, record: Record) -> Iterator[Check]:
    name, document = contract.RESULT, record.result
    if not document:
        if entry.status == contract.State.COMPLETED and not any(fault.startswith(name) for fault in record.faults):
            yield _bad(name, "is missing although the run is completed")
        return
    troubles = list(_contradictions(entry, record))
    yield from (_bad(name, told) for told in troubles)
    if not troubles:
        metric = mapping(document.get("primary_metric"))
        yield _good(name, f"{metric.get('name')} = {metric.get('value')}, tier {document.get('oracle_tier')}")
    if not (record.folder / contract.RESULT_PAGE).is_file():
        yield _bad(contract.RESULT_PAGE, f"is missing beside {name}")


def _contradictions(entry: Entry, record: Record) -> Iterator[str]:
    document, status = record.result, record.status
    metric, asked = mapping(document.get("primary_metric")), mapping(record.experiment.get("metric"))
    if document.get("experiment_id") not in (None, entry.name, record.experiment.get("id")):
        yield f"is about {document['experiment_id']}, not about {entry.name}"
    if status.get("run_id") and document.get("run_id") not in (None, status.get("run_id")):
        yield f"comes from run {document['run_id']}, the last run is {status['run_id']}"
    if asked.get("name") and metric.get("name") != asked["name"]:
        yield f"tells {metric.get('name')}, asked was {asked['name']}"
    value = contract.number_in(metric.get("value"))
    if value is None or not math.isfinite(value):
        yield f"the primary metric is {metric.get('value')}"
    tier, _ = contract.tier(mapping(record.experiment.get("tiers")), value, str(asked.get("direction") or "min"))
    if record.experiment and document.get("oracle_tier") != tier:
        yield f"claims tier {document.get('oracle_tier')}, its value reaches {tier}"
    checkpoint = mapping(document.get("checkpoint"))
    place = inside(record.folder, checkpoint.get("path"))
    if checkpoint.get("path") and (place is None or not place.is_file()):
        yield f"its checkpoint {checkpoint['path']} is not there"
    for part in ("config", "code", "data"):
        before = mapping(record.experiment.get("fingerprints")).get(part)
        after = mapping(document.get("fingerprints")).get(part)
        if before and after and before != after:
            yield f"was made with another {part} than the experiment was created for"


def _evaluations(record: Record) -> Iterator[Check]:
    for entry in record.evaluations:
        checkpoint = mapping(entry.get("checkpoint"))
        found = digest(inside(record.folder, checkpoint.get("path")))
        name = f"{contract.EVALUATIONS} {entry.get('id')}"
        if found is None:
            yield _bad(name, f"its checkpoint {checkpoint.get('path')} is not there any more, or cannot be read")
        elif found != checkpoint.get("sha256"):
            yield _bad(name, f"is about an earlier {checkpoint.get('path')}: that file has changed since")
        else:
            yield _good(name, f"about {checkpoint.get('path')}, on {mapping(entry.get('data')).get('name')}")


def _reports(entry: Entry, record: Record) -> Iterator[Check]:
    for name in (contract.FINDINGS,):
        path = record.folder / name
        if path.is_file() and (text := path.read_bytes()) and not text.endswith(b"\n"):
            yield _bad(name, "ends in the middle of a line")
    if entry.over:
        page = record.folder / contract.DIAGNOSIS
        told = "is there" if page.is_file() else f"is missing: checker once {record.folder.parent}"
        yield Check(contract.DIAGNOSIS, page.is_file(), told)
    kept = record.promoted
    if kept is not None:
        checkpoint = mapping(kept.get("checkpoint"))
        found = digest(inside(record.folder, checkpoint.get("path")))
        whole = found is not None and found == checkpoint.get("sha256")
        told = f"{checkpoint.get('path')} is {'' if whole else 'not '}the file that was promoted"
        yield Check(contract.PROMOTIONS, whole, told)


def _left_behind(folder: Path) -> Iterator[Check]:
    """Files of a write that never came to its end."""
    for place, _, names in os.walk(folder):
        for name in sorted(names):
            if name.startswith(".") and name.endswith(".tmp"):
                yield _bad(str(Path(place, name).relative_to(folder)), "was left behind by a write that broke off")
