"""Who descends from a process, and what becomes of them when it is ended by force: with real processes."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from folders import Folder, Watcher, gone_process

import contract
from checker import kin, process
from checker.events import Life

HERE = contract.this_process()
PROGRAM = Path(__file__).with_name("lineage_program.py")
ASKED = ["looked-again", "requested"]


def named(pid):
    return replace(HERE, pid=pid, started=contract.process_started(pid))


def gone(processes):
    """Waits until the kernel has caught up with signals."""
    end = time.monotonic() + 5
    while any(map(process.same, processes)) and time.monotonic() < end:
        time.sleep(0.005)
    return [one.pid for one in processes if process.same(one)] == []


class Family:
    """A trainer, its four descendants, one that has left the family, and a stranger in the same process group."""

    def __init__(self, deaf="", run=""):
        self.program = subprocess.Popen(
            [sys.executable, "-S", str(PROGRAM), deaf, str(run)], stdout=subprocess.PIPE, text=True, process_group=0
        )
        pids = [int(pid) for pid in self.program.stdout.readline().split()]
        self.program.stdout.close()
        self.trainer, *self.below, self.left = map(named, pids)
        self.neighbour = subprocess.Popen(["sleep", "60"], process_group=self.program.pid)
        self.outside = [self.left, named(self.neighbour.pid)]

    def end(self):
        for one in (self.trainer, *self.below, *self.outside):
            if process.same(one):
                os.kill(one.pid, signal.SIGKILL)
        self.program.wait(5)
        self.neighbour.wait(5)


@pytest.fixture
def family():
    made = []

    def make(*arguments):
        made.append(Family(*arguments))
        return made[-1]

    yield make
    for one in made:
        one.end()


# ------------------------------------------------------------------------------------------------- who descends


@pytest.mark.parametrize(
    "change",
    [{"host": "elsewhere"}, {"boot_id": None}, {"started": 1}, {"started": None}, {"pid": 1}, {"pid": 0}, {"pid": -1}],
    ids=str,
)
def test_who_is_not_proven_has_no_descendants(tmp_path, change):
    assert kin.below([replace(HERE, **change)], tmp_path) == []


def test_who_has_ended_has_no_descendants(tmp_path):
    assert kin.below([gone_process()], tmp_path) == []


def test_the_checker_is_no_descendant_of_who_started_it_nor_is_what_it_has_started(tmp_path, family):
    own = family()
    found = kin.below([named(os.getppid())], tmp_path)
    assert not {HERE.pid, own.trainer.pid} & {one.pid for one in found}


def test_children_and_grandchildren_are_found_and_nobody_else(tmp_path, family):
    made = family()
    assert set(kin.below([made.trainer], tmp_path)) == set(made.below)


def test_a_run_that_a_run_has_started_is_another_run(tmp_path, family):
    other = Folder(tmp_path / "other").rows(1.0)
    made = family("", other.path / contract.METRICS)
    assert set(kin.below([made.trainer], tmp_path / "exp")) == set(made.below[:2])
    assert set(kin.below([made.trainer], other.path)) == set(made.below)


def entry(proc, pid, parent, state="S", started=42):
    (proc / str(pid)).mkdir(exist_ok=True)
    line = f"{pid} (a) b) {state} {parent} 7 7 0 -1 0 0 0 0 0 5 5 5 5 20 0 1 0 {started} 0"
    (proc / str(pid) / "stat").write_text(line)


TABLES = {
    "nobody": ([], []),
    "a child": ([(8, 7)], [8]),
    "a chain": ([(8, 7), (9, 8), (10, 9)], [8, 9, 10]),
    "a zombie": ([(8, 7, "Z")], []),
    "of somebody else": ([(8, 6), (9, 8)], []),
    "its parent is gone": ([(9, 8)], []),
    "a circle": ([(8, 9), (9, 8)], []),
}


@pytest.mark.parametrize(("rows", "found"), TABLES.values(), ids=TABLES.keys())
def test_a_made_up_process_table(tmp_path, rows, found):
    (tmp_path / "self").mkdir()
    for row in ((7, 1), *rows):
        entry(tmp_path, *row)
    root = replace(HERE, pid=7, started=42)
    assert [one.pid for one in kin.below([root], tmp_path, tmp_path)] == found


def test_a_parent_that_is_exchanged_while_the_table_is_read_is_not_believed(tmp_path, monkeypatch):
    entry(tmp_path, 7, 1)
    entry(tmp_path, 8, 7)
    read = process.stat_of

    def exchanged(pid, proc):
        found = read(pid, proc)
        if pid == 8 and looks.append(pid) is None and len(looks) == 2:
            entry(tmp_path, 7, 1, started=43)  # between the child's look and the second look at its parent
        return found

    looks = []
    monkeypatch.setattr("checker.process.stat_of", exchanged)
    assert kin.below([replace(HERE, pid=7, started=42)], tmp_path, tmp_path) == []


# ------------------------------------------------------------------------------------------------ what is done


def doomed(tmp_path, made):
    """A run with NaN whose status names the trainer, and who watches it."""
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 10, "NaN").status(process=made.trainer)
    return folder, Watcher(folder).turn()


def test_what_a_run_leaves_behind_when_it_obeys_is_its_own_affair(tmp_path, family):
    made = family()
    folder, watcher = doomed(tmp_path, made)
    folder.status("killed", ack={"id": folder.document()["kill"]["id"], "step": 1})
    made.program.kill()
    made.program.wait()
    watcher.turns(60)
    assert folder.acts() == [*ASKED, "acknowledged", "stopped"]
    assert all(map(process.same, (*made.below, *made.outside)))


def test_what_a_run_leaves_behind_that_says_goodbye_after_sigterm_is_its_own_affair(tmp_path, family):
    made = family()
    folder, watcher = doomed(tmp_path, made)
    watcher.turn(31)
    made.program.wait(5)
    folder.status("killed")
    watcher.turns(60)
    assert folder.acts() == [*ASKED, "sigterm", "stopped"]
    assert all(map(process.same, (*made.below, *made.outside)))
    assert "live on" in folder.journal("act")[-1]["text"]


def test_workers_that_end_with_their_trainer_are_sent_nothing(tmp_path, family):
    made = family()
    folder, watcher = doomed(tmp_path, made)
    watcher.turn(31)
    for one in made.below:
        os.kill(one.pid, signal.SIGKILL)
    assert gone([made.trainer, *made.below])
    watcher.turns(3)
    assert folder.acts() == [*ASKED, "sigterm", "stopped"]


def test_workers_that_hear_are_ended_by_sigterm(tmp_path, family):
    made = family()
    folder, watcher = doomed(tmp_path, made)
    watcher.turn(31)
    assert gone([made.trainer])
    watcher.turns(9)
    assert folder.acts() == [*ASKED, "sigterm"]
    assert all(map(process.same, made.below))
    watcher.turns(2)
    assert gone(made.below)
    watcher.turn(1)
    assert folder.acts() == [*ASKED, "sigterm", "workers-sigterm", "stopped"]
    assert all(map(process.same, made.outside))


@pytest.mark.parametrize("restarted", [False, True], ids=["one checker", "a checker that is restarted in between"])
def test_workers_that_are_deaf_are_killed_after_their_trainer_and_nobody_else(tmp_path, family, restarted):
    made = family("trainer,workers")
    folder, watcher = doomed(tmp_path, made)
    watcher.turn(31)
    assert watcher.turn(9).run.life is Life.ALIVE
    watcher.turn(2)
    assert gone([made.trainer])
    watcher.turns(2)
    assert all(map(process.same, made.below))
    if restarted:
        watcher.run.close()
        again = Watcher(folder, at=time.time())  # the journal tells the time by the real clock
        watcher = again.turn().turn(8)
    watcher.turns(8)
    watcher.turns(11)
    assert gone(made.below)
    watcher.turn(1)
    forced = ["sigterm", "sigkill", "workers-sigterm", "workers-sigkill"]
    assert folder.acts() == [*ASKED, *forced, "stopped"]
    assert all(map(process.same, made.outside))
    texts = {act["act"]: act["text"] for act in folder.journal("act")}
    assert set(texts["workers-sigkill"].removeprefix("sent to ").split(", ")) == {str(one.pid) for one in made.below}


def test_a_worker_that_is_started_while_the_trainer_is_being_ended_is_found_too(tmp_path, family):
    made = family("trainer,workers")
    _, watcher = doomed(tmp_path, made)
    watcher.turn(31)
    (pursuit,) = watcher.run.chase.pursuits
    pursuit.workers = pursuit.workers[:1]
    watcher.turn(2)
    assert set(pursuit.workers) == set(made.below)
