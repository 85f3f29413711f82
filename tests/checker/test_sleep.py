"""One long uninterruptible sleep against many short ones; and that a look at it is journaled and replayed as it was."""

import dataclasses

import pytest
from folders import Folder, Watcher, gone_process

import contract
from checker import journal, replay
from checker.events import Life, Tick
from checker.sleep import Seen, Sleep

HERE = contract.this_process()

COUNTS = {
    "awake": ([None] * 4, None),
    "met once": ([None, None, None, 7], None),
    "many short ones": ([7, 8, 9, 10], None),
    "one long one": ([None, 7, 7, 7], 2.0),
    "longer": ([7, 7, 7, 7], 3.0),
    "over": ([7, 7, 7, None], None),
    "another one": ([7, 7, 8, 8], 1.0),
}


@pytest.mark.parametrize(("counts", "blocked"), COUNTS.values(), ids=COUNTS.keys())
def test_only_one_long_sleep_counts(monkeypatch, counts, blocked):
    told = iter(counts)
    monkeypatch.setattr("checker.process.slept", lambda _: next(told))
    sleep, seen = Sleep(), Seen()
    for second in range(len(counts)):
        seen = sleep.look(HERE, float(second))
    assert seen == Seen(blocked)


def test_the_sleep_of_another_process_is_another_one(monkeypatch):
    monkeypatch.setattr("checker.process.slept", lambda _: 7)
    sleep = Sleep()
    sleep.look(HERE, 0.0)
    assert sleep.look(dataclasses.replace(HERE, started=1), 5.0).blocked is None
    assert sleep.look(None, 6.0) == Seen()


@pytest.mark.parametrize("fields", [{}, {"blocked": 12.5}, {"zombie": True, "life": Life.GONE}], ids=str)
def test_a_look_comes_back_exactly(fields):
    look = Tick(now=5.0, **fields)
    entry = journal.tick_out(look, 3)
    assert journal.tick_in(entry) == (3, look)
    assert ("blocked" in entry, "zombie" in entry) == ("blocked" in fields, "zombie" in fields)  # as journals ever were


def test_a_zombie_is_a_crash_that_says_so_live_and_replayed(tmp_path, monkeypatch):
    monkeypatch.setattr("checker.process.zombie", lambda _: True)
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 30).status(process=gone_process())
    watcher = Watcher(folder).turns(5)
    (found,) = watcher.run.case.findings
    assert found.rule == "crash"
    assert "exit code" in found.evidence["zombie"]
    assert replay.read(folder.path).case.findings == [found]


def test_a_hang_on_a_disk_says_so_live_and_replayed(tmp_path, monkeypatch):
    monkeypatch.setattr("checker.process.slept", lambda _: 7)
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 30).status(process=HERE, phase="train")
    watcher = Watcher(folder, at=folder.start + 31).turns(40)
    (found,) = [finding for finding in watcher.run.case.findings if finding.rule == "stall"]
    assert found.evidence["uninterruptible_seconds"] >= 5
    assert any("uninterruptible sleep" in doubt for doubt in found.against)
    assert replay.read(folder.path).case.findings == watcher.run.case.findings
