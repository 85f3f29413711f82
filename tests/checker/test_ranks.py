"""A distributed run: what is read of its ranks, what is made of it, and real ones that die, hang, and are ended."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from folders import START, Folder, Watcher, gone_process, iso

import contract
from checker import enforce, journal, rankfiles, replay
from checker.enforce import Did, Pursuit
from checker.events import Life, Rank, Tick
from checker.rankfiles import RankFiles
from checker.terms import Mode

ROOT = Path(__file__).resolve().parents[2]
HERE = contract.this_process()
STATUS = {"world_size": 3, "launch": "a", "started_at": iso(START)}
NOW = START + 100


def write(folder, number=1, process=HERE, at=NOW, **fields):
    """The file of a rank that is well, unless told otherwise."""
    record = contract.Rank(
        rank=number,
        world_size=3,
        launch="a",
        process=process,
        started_at=iso(START),
        updated_at=iso(at),
        progress_at=iso(at - 1),
        step=40,
        phase="train",
    )
    path = folder / contract.rank_file(number)
    path.parent.mkdir(exist_ok=True)
    contract.replace(path, contract.encode({**dataclasses.asdict(record), **fields}))
    return path


def seen(folder, status=STATUS, **options):
    return RankFiles(folder).look(status, NOW, **options)


# ----------------------------------------------------------------------------------------------------- what is read


def test_what_a_rank_says_and_whether_it_lives(tmp_path):
    write(tmp_path, error="no")
    assert seen(tmp_path) == (
        Rank(
            rank=1,
            pid=HERE.pid,
            host=HERE.host,
            state="running",
            step=40,
            phase="train",
            beat_at=NOW,
            progress_at=NOW - 1,
            life=Life.ALIVE,
            error="no",
        ),
    )


NO_RUN = {
    "one process": {"world_size": 1},
    "no world": {"world_size": None},
    "a world of text": {"world_size": "3"},
    "a world of none": {"world_size": -3},
    "another launch": {"launch": "b"},
    "a launch without a name": {"launch": None},
    "an earlier launch of the same name": {"started_at": iso(NOW + 11)},
    "nobody knows since when": {"started_at": None},
    "a smaller world": {"world_size": 1},
}


@pytest.mark.parametrize("change", NO_RUN.values(), ids=NO_RUN.keys())
def test_files_that_are_not_of_this_run_count_for_nothing(tmp_path, change):
    write(tmp_path)
    assert seen(tmp_path, {**STATUS, **change}) == ()


def test_a_rank_that_died_a_moment_before_rank_0_began_counts(tmp_path):
    write(tmp_path)
    assert len(seen(tmp_path, {**STATUS, "started_at": iso(NOW + 2)})) == 1


def a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def a_link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def a_folder(path):
    path.unlink()
    path.mkdir()


def a_linked_folder(path):
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.symlink_to("elsewhere")


def a_pipe_for_a_folder(path):
    path.unlink()
    path.parent.rmdir()
    os.mkfifo(path.parent)


ODD = {
    "a pipe": a_pipe,
    "a link": a_link,
    "a folder": a_folder,
    "the folder is a link": a_linked_folder,
    "the folder is a pipe": a_pipe_for_a_folder,
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[:40]),
    "no object": lambda path: path.write_bytes(b"[1]"),
    "huge": lambda path: path.write_bytes(path.read_bytes() + b" " * rankfiles.MAX_SIZE),
    "another rank's": lambda path: path.write_bytes(path.read_bytes().replace(b'"rank":1', b'"rank":2')),
    "not allowed": lambda path: path.unlink(),
}


@pytest.mark.parametrize("spoil", ODD.values(), ids=ODD.keys())
def test_what_is_no_file_of_a_rank_is_none(tmp_path, spoil):
    spoil(write(tmp_path))
    assert seen(tmp_path) == ()


GARBAGE = [{"process": 7}, {"step": "x", "phase": 7, "progress_at": [], "error": {}, "state": None}, {"step": True}]


@pytest.mark.parametrize("fields", GARBAGE, ids=["process", "everything", "step"])
def test_fields_that_make_no_sense_are_unknown(tmp_path, fields):
    write(tmp_path, **fields)
    (rank,) = seen(tmp_path)
    assert all(getattr(rank, name) is None for name in fields if name != "process")
    assert rank.life is (Life.UNKNOWN if "process" in fields else Life.ALIVE)


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"boot_id": "earlier"}, {"started": None}], ids=str)
def test_unknown_is_not_dead(tmp_path, change):
    write(tmp_path, process=dataclasses.replace(gone_process(), **change))
    assert seen(tmp_path)[0].life is Life.UNKNOWN


def test_a_rank_is_gone_since_it_was_first_seen_gone(tmp_path):
    files = RankFiles(tmp_path)
    write(tmp_path, process=gone_process())
    for later in (0, 5, 9):
        (rank,) = files.look(STATUS, NOW + later)
        assert (rank.life, rank.gone_since) == (Life.GONE, NOW)
    write(tmp_path, process=HERE)
    assert files.look(STATUS, NOW + 10)[0].gone_since is None
    write(tmp_path, process=gone_process(), at=NOW + 1)
    assert files.look(STATUS, NOW + 20)[0].gone_since == NOW + 20
    assert seen(tmp_path, once=True)[0].gone_since == NOW + 1


def test_an_unchanged_file_is_not_read_again(tmp_path, monkeypatch):
    files = RankFiles(tmp_path)
    write(tmp_path)
    first = files.look(STATUS, NOW)
    monkeypatch.setattr(rankfiles, "_document", None)
    assert files.look(STATUS, NOW) == first


def test_of_many_ranks_those_are_told_that_others_may_wait_for(tmp_path, monkeypatch):
    monkeypatch.setattr(rankfiles, "PORTION", 7)
    monkeypatch.setattr(rankfiles, "SHOWN", 4)
    for number in range(1, 20):
        write(tmp_path, number, step=40 + number)
    write(tmp_path, 15, gone_process())
    write(tmp_path, 9, state="completed", step=1)
    write(tmp_path, 16, state="failed", process=None)
    files = RankFiles(tmp_path)
    looks = [len(files.look({**STATUS, "world_size": 20}, NOW)) for _ in range(3)]
    assert looks == [4, 4, 4]
    assert len(files._known) == 19
    assert [rank.rank for rank in files.look({**STATUS, "world_size": 20}, NOW)] == [15, 16, 1, 2]
    assert len(files.living) == 17


def test_a_world_as_large_as_you_like_costs_one_portion(tmp_path):
    write(tmp_path)
    assert len(seen(tmp_path, {**STATUS, "world_size": 10**18})) == 1


# ----------------------------------------------------------------------------------------------- what the judge sees

TICK = Tick(
    now=NOW,
    state="running",
    life=Life.ALIVE,
    ranks=(Rank(rank=1, life=Life.GONE, gone_since=NOW), Rank(rank=2, step=3)),
)


def test_a_look_at_ranks_comes_back_exactly():
    written = json.loads(contract.encode(journal.tick_out(TICK, 7)))
    assert journal.tick_in(written) == (7, TICK)


def test_a_run_of_one_process_is_journaled_as_ever():
    assert "ranks" not in journal.tick_out(dataclasses.replace(TICK, ranks=()), 7)


BAD = [7, [7], [{"step": 1}], [{"rank": 1, "life": "asleep"}], [{"rank": 1, "gone_since": "x"}], None, {"rank": 1}]


@pytest.mark.parametrize("ranks", BAD, ids=str)
def test_a_garbled_look_at_ranks_is_none(ranks):
    assert journal.tick_in({**journal.tick_out(TICK, 7), "ranks": ranks}) is None


def distributed(tmp_path, **fields):
    """A run of which this very process is rank 0."""
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 30)
    known = {"process": HERE, "phase": "train", "started_at": iso(START), "world_size": 3, "launch": "a"}
    return folder.status(**{**known, **fields})


def watched(folder, seconds, **beats):
    """A checker beside a rank 0 that only beats."""
    watcher = Watcher(folder, Mode.OBSERVE, at=START + 31)
    for _ in range(seconds):
        folder.status(heartbeat_at=iso(watcher.at), progress_at=iso(START + 29), **beats)
        watcher.turn(1)
    return watcher


def test_healthy_ranks_lead_to_nothing(tmp_path):
    folder = distributed(tmp_path)
    write(folder.path), write(folder.path, 2)
    watcher = watched(folder, 8)
    assert folder.told() == []
    assert len(watcher.run.case.history.tick.ranks) == 2


def test_a_dead_rank_is_told_then_asked_to_end_and_a_replay_finds_the_same(tmp_path):
    folder = distributed(tmp_path)
    write(folder.path, process=gone_process(), at=START + 30), write(folder.path, 2, at=START + 30)
    watched(folder, 80)
    assert folder.told() == ["r1/stall/0/warning", "r1/stall/0/critical"]
    assert folder.acts() == ["observed"]
    found = replay.read(folder.path).case.findings
    journaled = folder.journal("finding")
    assert [finding.document() for finding in found] == [
        {name: entry[name] for name in finding.document()} for finding, entry in zip(found, journaled, strict=True)
    ]
    assert "is gone since step 40 while rank 0 waits" in found[-1].summary
    write(folder.path)  # what the files say later changes nothing about what was seen
    assert [finding.summary for finding in replay.read(folder.path).case.findings] == [
        finding.summary for finding in found
    ]


def test_a_restarted_checker_tells_nothing_twice_and_is_patient_again(tmp_path):
    folder = distributed(tmp_path)
    write(folder.path, process=gone_process(), at=START + 30)
    watched(folder, 30)
    watched(folder, 30)
    assert folder.told() == ["r1/stall/0/warning"]
    watched(folder, 70)
    assert folder.told() == ["r1/stall/0/warning", "r1/stall/0/critical"]
    assert [finding.id for finding in replay.read(folder.path).case.findings] == folder.told()


def test_a_single_look_goes_by_the_last_heartbeat(tmp_path):
    folder = distributed(tmp_path, heartbeat_at=iso(NOW), progress_at=iso(START + 29))
    write(folder.path, process=gone_process(), at=START + 30)
    Watcher(folder, Mode.JUDGE, at=NOW).turn()
    assert any("rank 1" in entry["summary"] for entry in folder.journal("finding"))


def test_time_in_which_a_rank_was_suspended_does_not_count(tmp_path):
    folder = distributed(tmp_path)
    write(folder.path)
    watcher = watched(folder, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RankFiles, "look", lambda *_, **__: (Rank(rank=1, state="running", life=Life.STOPPED),))
        watcher.turns(600)
    folder.status(heartbeat_at=iso(watcher.at))
    watcher.turn(1)
    assert watcher.run.case.history.tick.excused >= 599
    assert folder.acts() == []


def test_a_rank_that_computes_makes_the_run_busy(tmp_path, monkeypatch):
    folder = distributed(tmp_path, progress_at=iso(START))
    write(
        folder.path, process=dataclasses.replace(HERE, pid=os.getppid(), started=contract.process_started(os.getppid()))
    )
    used = {os.getpid(): iter([5.0] * 3), os.getppid(): iter([1.0, 1.0, 3.0])}
    monkeypatch.setattr("checker.process.cpu_seconds", lambda one: next(used[one.pid]))
    watcher = Watcher(folder).turns(3)
    assert watcher.run.case.history.tick.busy == 1.0


# ------------------------------------------------------------------------------------------------- what is done


@pytest.fixture
def sleeper():
    started = []

    def start(code="import time; time.sleep(60)"):
        started.append(subprocess.Popen([sys.executable, "-c", code]))
        child = started[-1]
        return child, dataclasses.replace(HERE, pid=child.pid, started=contract.process_started(child.pid))

    yield start
    for child in started:
        child.kill()
        child.wait()


def test_a_signal_goes_to_every_rank_that_is_proven(sleeper):
    (zero, named), (one, rank), (two, other) = sleeper(), sleeper(), sleeper()
    stranger = dataclasses.replace(other, started=other.started - 1)
    elsewhere = dataclasses.replace(other, host="elsewhere")
    ranks = dict.fromkeys((rank, gone_process(), stranger, elsewhere))
    assert enforce.send_all(Did.SIGTERM, named, None, ranks) == ([zero.pid, one.pid], None)
    assert (zero.wait(5), one.wait(5)) == (-signal.SIGTERM, -signal.SIGTERM)
    assert two.poll() is None
    sent, trouble = enforce.send_all(Did.SIGKILL, named, None, {other: None})
    assert (sent, trouble, two.wait(5)) == ([two.pid], None, -signal.SIGKILL)
    assert enforce.send_all(Did.SIGKILL, named, None, {other: None})[1].endswith("is gone")


def test_no_rank_is_signalled_where_rank_0_may_not_be(sleeper):
    child, rank = sleeper()
    for named in (None, dataclasses.replace(HERE, host="elsewhere"), HERE):
        sent, trouble = enforce.send_all(Did.SIGKILL, named, None, {rank: None})
        assert (sent, bool(trouble)) == ([], True)
    assert child.poll() is None


def test_a_rank_cannot_choose_a_deadly_signal_for_its_stack_dump(sleeper):
    (zero, named), (child, rank) = sleeper(), sleeper()
    enforce.send_all(Did.STACK_DUMP, named, int(signal.SIGUSR1), {rank: int(signal.SIGKILL)})
    assert zero.wait(5) == -signal.SIGUSR1
    assert child.poll() is None


def test_a_request_remembers_the_ranks_over_a_restart(tmp_path, sleeper):
    (_, named), (_, rank) = sleeper(), sleeper()
    folder = distributed(tmp_path, process=named).rows("NaN")
    write(folder.path, process=rank), write(folder.path, 2, process=gone_process())
    for _ in range(2):
        watcher = Watcher(folder, at=NOW).turn()
        assert watcher.run.chase.pursuits[0].ranks == (rank,)
    assert folder.acts() == ["looked-again", "requested"]


@pytest.mark.parametrize("ranks", [None, 7, [7, None, {}], [{"pid": 7}]], ids=str)
def test_a_garbled_journal_names_no_ranks(ranks):
    pursuit = Pursuit("f", contract.Kill(id="k", reason="x"))
    enforce.resume(pursuit, [({"act": "requested", "ranks": ranks}, 0.0)], 0.0, observe=False)
    assert pursuit.ranks == ()


# ------------------------------------------------------------------------------------------------- real processes


def until(condition, seconds=40.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.fixture
def job(tmp_path):
    """Three ranks of a real run, and a real checker that is less patient than usual."""
    started = []
    (tmp_path / "root").mkdir()
    (tmp_path / "board").mkdir()
    (tmp_path / "root" / "checker.toml").write_text(
        "[limits.stall]\nfloor_seconds = 2.0\nlost_seconds = 3.0\nsure_seconds = 600.0\n"
    )
    program = [sys.executable, str(Path(__file__).with_name("rank_program.py"))]
    for rank in range(3):
        environment = {"RANK": str(rank), "WORLD_SIZE": "3", "MASTER_PORT": "1", "PYTHONPATH": str(ROOT)}
        command = [*program, str(tmp_path / "root" / "exp"), str(tmp_path / "board")]
        started.append(subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.DEVNULL))
    watch = [sys.executable, "-m", "checker", "watch", str(tmp_path / "root"), "--poll", "0.2"]
    started.append(subprocess.Popen(watch, cwd=ROOT, stdout=subprocess.DEVNULL))
    yield Folder(tmp_path / "root" / "exp"), started[:3]
    started[-1].terminate()
    for child in started:
        child.send_signal(signal.SIGCONT)
        if child is not started[-1]:
            child.kill()
        child.wait(10)


def stepping(folder):
    """All ranks have been seen well, and there are enough rows for the checker to know the pace."""
    path = folder.path / contract.METRICS
    ready = all((folder.path / contract.rank_file(rank)).exists() for rank in (1, 2))
    return ready and path.exists() and path.read_bytes().count(b"\n") > 100


def diagnosis(folder):
    path = folder.path / contract.DIAGNOSIS
    return path.read_text() if path.exists() else ""


def test_a_rank_that_was_killed_is_named_and_the_others_are_ended(job):
    folder, processes = job
    assert until(lambda: stepping(folder))
    assert folder.told() == []
    processes[1].kill()
    processes[1].wait()
    named = f"rank 1 (pid {processes[1].pid} on {HERE.host}) is gone since step"
    assert until(lambda: named in diagnosis(folder))
    assert until(lambda: "stopped" in folder.acts())
    assert [processes[0].wait(5), processes[2].wait(5)] == [-signal.SIGTERM] * 2
    assert folder.acts() == ["looked-again", "requested", "stack-dump", "sigterm", "stopped"]
    assert f"sent to processes {processes[0].pid}, {processes[2].pid}" in folder.journal("act")[3]["text"]
    assert "rank_program.py" in (folder.path / contract.rank_stacks(2)).read_text()
    assert folder.told() == [f"{folder.document()['run_id']}/stall/0/{grade}" for grade in ("warning", "critical")]
    assert until(lambda: "the run is gone" in diagnosis(folder))
    assert f"**stall** (critical): {named}" in diagnosis(folder)
    told = [entry["summary"] for entry in folder.journal("finding")]
    assert [finding.summary for finding in replay.read(folder.path, limits=limits()).case.findings] == told


def limits():
    stall = next(rule.limits for rule in replay.RULES if rule.name == "stall")
    return {"stall": dataclasses.replace(stall, floor_seconds=2.0, lost_seconds=3.0, sure_seconds=600.0)}


def test_a_rank_that_is_suspended_is_named_and_nobody_is_ended(job):
    folder, processes = job
    assert until(lambda: stepping(folder))
    processes[2].send_signal(signal.SIGSTOP)
    assert until(lambda: f"rank 2 (pid {processes[2].pid} on {HERE.host}) is suspended since step" in diagnosis(folder))
    processes[2].send_signal(signal.SIGCONT)
    assert until(lambda: [entry["rule"] for entry in folder.journal("recovered")] == ["stall"])
    assert folder.acts() == []
    assert [process.poll() for process in processes] == [None] * 3
