import pytest
from folders import START, Folder, Watcher, iso

import contract
from checker.daemon import Daemon
from checker.events import Life
from checker.naps import Excuse, Naps
from checker.terms import Moment

LOOKS = {
    "a look every second": ([(1, 0.01)] * 100, 0),
    "ten seconds of work": ([(10, 9.5)] * 3, 0),
    "an hour asleep": ([(1, 0.01), (3600, 0.01), (1, 0.01)], 3599.99),
    "two naps": ([(60, 0), (1, 0), (60, 0)], 120),
    "a clock set back": ([(1, 0), (-3600, 0), (1, 0)], 0),
}


@pytest.mark.parametrize(("looks", "slept"), LOOKS.values(), ids=LOOKS.keys())
def test_naps(looks, slept):
    naps, wall, cpu = Naps(), 0.0, 0.0
    naps.look(wall, cpu)
    for after, used in looks:
        wall, cpu = wall + after, cpu + used
        naps.look(wall, cpu)
    assert naps.total == pytest.approx(slept)


ALIVE, STOPPED = Life.ALIVE, Life.STOPPED

SILENCES = {
    "nothing to excuse": ([("a", 0, 0, ALIVE), ("a", 900, 0, ALIVE)], None),
    "naps before the first look are not ours": ([("a", 0, 500, ALIVE), ("a", 1, 500, ALIVE)], None),
    "a nap": ([("a", 0, 0, ALIVE), ("a", 900, 890, ALIVE), ("a", 910, 890, ALIVE)], 890),
    "a nap before it moved": ([("a", 0, 0, ALIVE), ("a", 900, 890, ALIVE), ("b", 910, 890, ALIVE)], None),
    "it moved around a nap": ([("a", 0, 0, ALIVE), ("b", 900, 890, ALIVE)], 890),
    "suspended": ([("a", 0, 0, ALIVE), ("a", 10, 0, STOPPED), ("a", 70, 0, STOPPED)], None),
    "goes on": ([("a", 0, 0, ALIVE), ("a", 10, 0, STOPPED), ("a", 70, 0, STOPPED), ("a", 71, 0, ALIVE)], 61),
    "both at once": ([("a", 0, 0, STOPPED), ("a", 100, 90, STOPPED), ("a", 101, 90, ALIVE)], 101),
}


@pytest.mark.parametrize(("looks", "excused"), SILENCES.values(), ids=SILENCES.keys())
def test_excuses(looks, excused):
    excuse = Excuse()
    for key, wall, slept, life in looks:
        found = excuse.look(key, Moment(wall, wall, slept), life)
    assert found == excused


def test_a_run_in_the_middle_of_a_step_survives_the_sleep_of_its_machine(tmp_path, monkeypatch):
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 10)
    process = contract.this_process()
    monkeypatch.setattr("checker.process.cpu_seconds", lambda _: 1.0)
    watcher = Watcher(folder, at=START + 10)

    def turn(after):
        at = watcher.at + after
        folder.status(process=process, heartbeat_at=iso(at), progress_at=iso(START + 9), phase="train")
        watcher.turn(after)

    turn(1)
    watcher.slept = 3600.0
    turn(3600)
    for _ in range(5):
        turn(1)
    assert [name for name in folder.told() if "stall" in name] == []
    for _ in range(300):
        turn(1)
    told = [entry for entry in folder.journal("finding") if entry["rule"] == "stall"]
    assert [entry["action"] for entry in told] == ["alert", "kill"]


def test_the_daemon_tells_its_runs_for_how_long_it_stood_still(tmp_path):
    folder = Folder(tmp_path / "exp").rows(2.0).status(process=contract.this_process())
    watching = Daemon(tmp_path)
    try:
        watching.round(wait=False)
        wall, cpu = watching._naps._last
        watching._naps._last = (wall - 3600, cpu)
        watching.round(wait=False)
        assert watching.runs[folder.path].case.history.tick.excused == pytest.approx(3600, abs=5)
    finally:
        watching.close()
