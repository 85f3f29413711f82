"""A run that is left alone while nothing can follow from the clock is told of as soon as one that is looked at."""

import json
import math

import pytest
from folders import START, Folder, Watcher, gone_process, iso

import contract
from checker import process
from checker.census import Census
from checker.events import Life
from checker.run import BEAT, RESTS

HERE = contract.this_process()


@pytest.fixture(autouse=True)
def idle(monkeypatch):
    """The process that the runs name does nothing."""
    monkeypatch.setattr("checker.process.cpu_seconds", lambda _: 5.0)
    monkeypatch.setattr("checker.process.age", lambda _: None)


def steady(tmp_path, name, rows=200, **fields):
    folder = Folder(tmp_path / name, start=START).rows(*[2.0 - step / 1000 for step in range(rows)])
    at = iso(START + rows)
    return folder.status(process=HERE, progress_at=at, heartbeat_at=at, **fields)


def told(folder):
    return [(entry["rule"], entry["severity"]) for entry in folder.journal("finding")]


def watched(folder, seconds, *, always, alive=True):
    """Looks at a run for so many seconds, always or when it asks for it: when what was told, and the looks before."""
    watcher = Watcher(folder, at=START + 201)
    known, times, looks, left = [], [], 0, 0.0
    for second in range(int(seconds)):
        if alive and second:
            document = folder.document()
            document["heartbeat_at"] = iso(START + 201 + second)
            contract.replace(folder.path / contract.STATUS, contract.encode(document))
        if left <= 0 or always:
            watcher.turn(0.0)
            looks += not known
            left = watcher.run.rest(watcher_moment(watcher))
            new = told(folder)[len(known) :]
            times += [(second, *what) for what in new]
            known += new
        watcher.at, watcher.mono, left = watcher.at + 1, watcher.mono + 1, left - 1
    return times, looks


def watcher_moment(watcher):
    return watcher.run.chase.moment


BUDGET = {"budget": {"wall_minutes": 4.0}, "id": "exp", "created_at": "x"}


@pytest.mark.parametrize("alive", [True, False], ids=["a heartbeat that goes on", "none any more"])
@pytest.mark.parametrize("plan", [None, BUDGET], ids=["no budget", "a budget"])
def test_whoever_is_left_alone_is_told_of_in_time(tmp_path, plan, alive):
    found = []
    for name, always in (("always", True), ("rested", False)):
        folder = steady(tmp_path, name)
        if plan:
            (folder.path / contract.EXPERIMENT).write_text(json.dumps(plan))
        found.append(watched(folder, 400, always=always, alive=alive))
    (always, many), (rested, few) = found
    assert {rule for _, rule, _ in always} == ({"stall", "budget"} if plan else {"stall"})
    assert [what for _, *what in rested] == [what for _, *what in always]
    assert all(0 <= late - early <= 2 for (early, *_), (late, *_) in zip(always, rested, strict=True))
    assert few < many / 3


def test_a_run_that_goes_on_is_rarely_looked_at(tmp_path):
    watcher = Watcher(steady(tmp_path, "exp"), at=START + 201).turn()
    assert watcher.run.rest(watcher_moment(watcher)) in RESTS[:4]


def test_a_run_that_is_over_needs_no_clock(tmp_path):
    for name, state, named in (("done", "completed", HERE), ("dead", "running", gone_process())):
        folder = Folder(tmp_path / name, start=START).rows(*[2.0] * 10).status(state, process=named)
        watcher = Watcher(folder, at=START + 12).turns(5)
        assert watcher.run.rest(watcher_moment(watcher)) == math.inf


@pytest.mark.parametrize(
    ("fields", "more"),
    [({"world_size": 2}, ""), ({}, '{"step": 5'), ({"kill": {"id": "k", "reason": "x", "requested_by": "p"}}, "")],
    ids=["ranks", "an unfinished line", "a request by hand"],
)
def test_what_is_under_way_is_looked_at_every_second(tmp_path, fields, more):
    folder = steady(tmp_path, "exp", **fields)
    with (folder.path / contract.METRICS).open("a") as file:
        file.write(more)
    watcher = Watcher(folder, at=START + 201).turn()
    expected = BEAT if "kill" not in fields else RESTS[0]  # a hand edit is left to the trainer
    assert watcher.run.rest(watcher_moment(watcher)) <= expected


# --------------------------------------------------------------------------------------------------------- the census


def test_a_process_is_looked_at_once_for_all_its_runs(monkeypatch):
    looks = []
    monkeypatch.setattr(process, "look", lambda named: looks.append(named) or Life.ALIVE)
    census = Census()
    for run in range(100):
        census.note(run, HERE, Life.ALIVE)
    looks.clear()
    assert census.changed() == set()
    assert looks == [HERE]
    assert census.life_of(HERE) is Life.ALIVE
    assert looks == [HERE]


def test_whose_process_has_changed_is_said_once(monkeypatch):
    life = dict.fromkeys("abc", Life.ALIVE)
    monkeypatch.setattr(process, "look", lambda named: life[named])
    census = Census()
    for run, named in ((1, "a"), (2, "a"), (3, "b")):
        census.note(run, named, Life.ALIVE)
    life["a"] = Life.GONE
    assert census.changed() == {1, 2}
    assert census.changed() == set()
    census.note(1, "b", Life.ALIVE)
    census.note(2, None, Life.GONE)
    life["b"] = Life.STOPPED
    assert census.changed() == {1, 3}
    assert census.life_of("c") is Life.ALIVE  # nobody's: looked at now


def test_a_process_that_ends_between_two_looks_is_told_of(monkeypatch):
    monkeypatch.setattr(process, "look", lambda _: Life.GONE)
    census = Census()
    assert census.note(1, "a", Life.ALIVE)  # as the run had seen it
    assert not census.note(1, "a", Life.ALIVE)
    assert census.changed() == {1}


def test_too_many_processes_take_turns(monkeypatch):
    monkeypatch.setattr("checker.census.PORTION", 10)
    looks = []
    monkeypatch.setattr(process, "look", lambda named: looks.append(named) or Life.ALIVE)
    census = Census()
    for run in range(35):
        census.note(run, run, Life.ALIVE)
    looks.clear()
    for _ in range(8):
        census.changed()
        assert len(looks) <= 10 * 8
    assert set(looks) == set(range(35))
