"""One run's turns with a clock that moves when told, then the real daemon with real processes."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from folders import START, Folder, Watcher, again, gone_process, iso, with_clock_rules

import contract
from checker import chase, daemon, enforce, journal, replay
from checker.daemon import BEAT, Daemon
from checker.finding import Severity
from checker.lock import Held, only_one
from checker.terms import Mode, Moment

ROOT = Path(__file__).resolve().parents[2]
FAKE = Path(__file__).parent / "fake_trainer.py"


# -------------------------------------------------------------------------------------------------- one run's turns


def doomed(tmp_path, **fields):
    return Folder(tmp_path / "exp").rows(*[2.0] * 10, "NaN").status(process=contract.this_process(), **fields)


def test_evidence_comes_before_action(tmp_path, monkeypatch):
    folder, order = doomed(tmp_path), []
    ask = enforce.ask

    def spy(status, kill):
        order.extend(entry["kind"] for entry in folder.journal("finding"))
        order.append("ask")
        return ask(status, kill)

    monkeypatch.setattr(chase.enforce, "ask", spy)
    Watcher(folder).turn()
    assert order == ["finding", "ask"]
    kill = folder.document()["kill"]
    assert (kill["rule"], kill["requested_by"], kill["run_id"]) == ("nonfinite", "checker", "r1")
    assert kill["save_checkpoint"] is False
    assert folder.acts() == ["looked-again", "requested"]


def test_a_request_answered_and_obeyed(tmp_path):
    folder = doomed(tmp_path)
    watcher = Watcher(folder).turn()
    folder.status("killed", process=gone_process(), ack={"id": folder.document()["kill"]["id"], "at": "x", "step": 11})
    watcher.run.chase.pursuits[0].process = gone_process()
    watcher.turn(0.5)
    assert folder.acts() == ["looked-again", "requested", "acknowledged", "stopped"]
    assert "after 0.5 s" in folder.journal("act")[-1]["text"]
    assert not watcher.run.chasing


def test_a_request_that_someone_overwrote_is_made_again(tmp_path):
    folder = doomed(tmp_path)
    watcher = Watcher(folder).turn()
    for _ in range(4):
        document = folder.document()
        del document["kill"]
        contract.replace(folder.path / contract.STATUS, contract.encode(document))
        watcher.turn(1)
        assert folder.document()["kill"]["rule"] == "nonfinite"
    assert folder.acts() == ["looked-again", "requested"] + ["reasserted"] * 3  # the 1st, 2nd and 4th are told


def test_a_half_saved_status_file_is_left_alone_and_asked_again_soon(tmp_path):
    folder = doomed(tmp_path)
    document = folder.document()
    watcher = Watcher(folder)
    watcher.run.status.refresh()
    (folder.path / contract.STATUS).write_text('{"state": "runn')
    watcher.turn()
    assert folder.acts() == ["looked-again"]
    contract.replace(folder.path / contract.STATUS, contract.encode(document))
    watcher.turn(0.1)
    assert folder.acts() == ["looked-again", "requested"]


def test_what_is_over_when_looked_at_again_is_not_asked_for(tmp_path):
    folder = doomed(tmp_path).rows(*[2.0] * 20)
    watcher = Watcher(folder).turn()
    assert folder.acts() == ["recovered-before-act"]
    assert "kill" not in folder.document()
    assert watcher.run.chase.pursuits[0].ended


def test_what_is_not_true_at_this_moment_waits_for_the_next_rows(tmp_path):
    folder = doomed(tmp_path).rows(2.0)
    watcher = Watcher(folder).turn()
    assert folder.acts() == []
    folder.rows("NaN", "NaN", "NaN")  # it went away once, so now it takes three
    watcher.turn()
    assert folder.acts() == ["looked-again", "requested"]


NOT_STOPPED = {
    "completed": {"state": "completed"},
    "killed already": {"state": "killed"},
    "pending": {"state": "pending"},
    "another run's status": {"run_id": "r0"},
}


@pytest.mark.parametrize("fields", NOT_STOPPED.values(), ids=NOT_STOPPED.keys())
def test_a_run_that_is_not_this_one_or_not_running_is_not_asked(tmp_path, fields):
    folder = doomed(tmp_path, **fields)
    Watcher(folder).turns(3)
    assert "kill" not in folder.document()
    assert not set(folder.acts()) & {"requested"}


def test_a_finding_older_than_the_process_is_not_held_against_it(tmp_path):
    folder = Folder(tmp_path / "exp", run_id=None).rows(*[2.0] * 10, "NaN")
    folder.status(process=contract.this_process(), started_at=iso(START + 5000))
    Watcher(folder).turn()
    assert folder.acts() == ["recovered-before-act"]
    assert "kill" not in folder.document()


def test_the_next_process_in_the_folder_is_never_signalled_for_the_last_one(tmp_path):
    folder = doomed(tmp_path)
    watcher = Watcher(folder).turn()
    assert watcher.run.chasing
    folder.status(process=gone_process())  # a wrong entry for the test's own process would be refused anyway
    watcher.turns(60)
    assert folder.acts()[-1] == "stopped"
    assert not {"sigterm", "sigkill", "cannot"} & set(folder.acts())


def test_signals_are_refused_with_a_sentence_and_asking_goes_on(tmp_path):
    folder = doomed(tmp_path)  # the status file names this very process: the checker would signal itself
    watcher = Watcher(folder).turn()
    watcher.turns(60)
    acts = folder.journal("act")
    assert [act["act"] for act in acts] == ["looked-again", "requested", "cannot"]
    assert "the checker itself" in acts[-1]["text"]
    assert folder.document()["kill"]["rule"] == "nonfinite"


@pytest.mark.parametrize("pid", [0, 1, -1, pytest.param(os.getpid(), id="own"), "7", None, True, 2**70], ids=str)
def test_nonsense_for_a_pid_is_never_signalled(tmp_path, pid, monkeypatch):
    sent = []
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda *call: sent.append(call))
    monkeypatch.setattr(os, "kill", lambda *call: sent.append(call) if call[1] else None)
    here = vars(contract.this_process())
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 10, "NaN").status()
    folder.status(stack_signal=10)
    contract.replace(
        folder.path / contract.STATUS, contract.encode({**folder.document(), "process": {**here, "pid": pid}})
    )
    Watcher(folder).turns(60)
    assert sent == []
    assert folder.acts() == ["looked-again", "requested", "cannot"]


def test_an_observer_touches_nothing_and_says_so_once(tmp_path):
    folder = doomed(tmp_path)
    before = (folder.path / contract.STATUS).read_bytes()
    watcher = Watcher(folder, Mode.OBSERVE).turns(5)
    assert folder.acts() == ["observed"]
    assert watcher.run.observed == 1
    assert (folder.path / contract.STATUS).read_bytes() == before
    Watcher(folder, Mode.OBSERVE).turns(2)
    assert folder.acts() == ["observed"]
    Watcher(folder).turn()
    assert folder.acts() == ["observed", "looked-again", "requested"]


def test_two_rules_that_ask_are_one_request(tmp_path, monkeypatch):
    with_clock_rules(monkeypatch)
    folder = doomed(tmp_path, progress_at=iso(START - 100))
    watcher = Watcher(folder).turns(3)
    assert len(watcher.run.chase.pursuits) == 2
    assert folder.acts().count("requested") == 1


def test_a_restarted_checker_doubles_nothing_and_goes_on(tmp_path):
    folder = doomed(tmp_path)
    Watcher(folder).turn()
    journal, kill = folder.journal(), folder.document()["kill"]
    watcher = Watcher(folder).turn()
    assert folder.journal() == journal
    assert folder.document()["kill"] == kill
    assert watcher.run.chasing
    watcher.turns(31)
    assert folder.acts() == ["looked-again", "requested", "cannot"]


def test_a_persons_request_through_the_checker_is_pursued(tmp_path):
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 10).status(process=contract.this_process())
    kill = {"id": "p1", "reason": "enough", "requested_by": enforce.PERSON, "run_id": "r1", "grace_seconds": 5}
    folder.status(kill=kill)
    watcher = Watcher(folder).turn()
    assert folder.acts() == ["requested"]
    Watcher(folder).turn()
    assert folder.acts() == ["requested"]
    watcher.turns(6)
    assert folder.acts() == ["requested", "cannot"]


BY_HAND = {"true": True, "text": "stop it", "record": {"id": "x", "reason": "y"}}


@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "rename"])
@pytest.mark.parametrize("kill", BY_HAND.values(), ids=BY_HAND.keys())
def test_a_hand_edit_is_left_to_the_trainer(tmp_path, kill, in_place):
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 10).status(process=contract.this_process())
    watcher = Watcher(folder).turn()
    data = contract.encode({**folder.document(), "kill": kill})
    if in_place:
        (folder.path / contract.STATUS).write_bytes(data)
    else:
        contract.replace(folder.path / contract.STATUS, data)
    watcher.turns(60)
    assert folder.acts() == []
    assert folder.document()["kill"] == kill


def test_our_request_beside_a_persons_leaves_theirs_in_place(tmp_path):
    folder = doomed(tmp_path, kill="I want it to stop")
    Watcher(folder).turn()
    assert folder.document()["kill"] == "I want it to stop"
    assert folder.journal("act")[-1]["text"] == "person had asked already"


def test_metrics_without_a_status_file(tmp_path):
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 10, "NaN")
    watcher = Watcher(folder).turns(3)
    assert folder.acts() == ["cannot"]
    folder.status(process=contract.this_process())
    watcher.turn(1)
    assert folder.acts() == ["cannot", "looked-again", "requested"]


def test_a_changed_plan_judges_again_from_the_first_row_and_tells_nothing_twice(tmp_path):
    folder = doomed(tmp_path)
    watcher = Watcher(folder).turn()
    contract.replace(
        folder.path / contract.EXPERIMENT,
        b'{"id": "e", "total_steps": 100, "total_epochs": "many", "budget": {"steps": "x"}}',
    )
    watcher.turn(1)
    assert watcher.run.case.history.total_steps == 100
    assert watcher.run.plan.experiment.budget == {}
    assert len(folder.told()) == 1
    assert watcher.run.chasing


def test_how_busy_a_process_is_since_it_last_moved(tmp_path, monkeypatch):
    folder = Folder(tmp_path / "exp").rows(2.0).status(process=contract.this_process(), progress_at=iso(START - 100))
    used = iter([5.0, 5.0, 6.0])
    monkeypatch.setattr("checker.process.cpu_seconds", lambda _: next(used))
    watcher = Watcher(folder).turn()
    assert watcher.run.case.history.tick.busy is None
    assert watcher.turn(0.5).run.case.history.tick.busy is None
    assert watcher.turn(1.5).run.case.history.tick.busy == 0.5


# --------------------------------------------------------------------------------------------- many runs, in process


def rounds(root, count=1, **options):
    told, changed = [], []
    watch = Daemon(root, on_change=changed.append, tell=told.extend, poll=0.01, **options)
    for _ in range(count):
        again(watch)
    return watch, told, changed


def test_one_bad_run_never_disturbs_another(tmp_path, monkeypatch):
    Folder(tmp_path / "bad").rows(*[2.0] * 10).status()
    good = Folder(tmp_path / "good").rows(*[2.0] * 10, "NaN").status()
    turn = daemon.Run.turn

    def explode(run, moment, *, beat):
        if run.name == "bad":
            raise ZeroDivisionError("a rule that divides by zero")
        return turn(run, moment, beat=beat)

    monkeypatch.setattr(daemon.Run, "turn", explode)
    _, told, _ = rounds(tmp_path, 5)
    assert good.acts() == ["looked-again", "requested"]
    troubles = [notice for notice in told if "ZeroDivisionError: a rule that divides by zero" in notice.text]
    assert [(notice.run, notice.severity) for notice in troubles] == [("bad", Severity.CRITICAL)]


def test_a_run_that_made_the_checker_stumble_is_tried_again(tmp_path, monkeypatch):
    Folder(tmp_path / "exp").rows(2.0).status()
    monkeypatch.setattr(daemon, "RETRY", (0.0, 0.0))
    attempts = []
    turn = daemon.Run.turn

    def stumble(run, moment, *, beat):
        attempts.append(run)
        if len(attempts) < 3:
            raise OSError("stale file handle")
        return turn(run, moment, beat=beat)

    monkeypatch.setattr(daemon.Run, "turn", stumble)
    watch, _, _ = rounds(tmp_path, 5)
    assert len(set(map(id, attempts))) == 3
    assert watch.runs[tmp_path / "exp"].case.history.index == 0


def test_a_report_that_fails_is_told_once_and_costs_nothing(tmp_path):
    Folder(tmp_path / "exp").rows(2.0).status()
    told = []

    def fail(_):
        raise OSError("disk full")

    watch = Daemon(tmp_path, on_change=fail, tell=told.extend, poll=0.01)
    for _ in range(3):
        watch.round(wait=False)
        watch.runs[tmp_path / "exp"].urgent = True
    assert sum("disk full" in notice.text for notice in told) == 1


def test_a_vanished_folder_is_let_go(tmp_path):
    folder = Folder(tmp_path / "exp").rows(2.0).status()
    watch, told, _ = rounds(tmp_path)
    for file in folder.path.iterdir():
        file.unlink()
    folder.path.rmdir()
    again(watch)
    assert watch.runs == {}
    assert told[-1].text == "its folder is gone; no longer watched"


def test_finished_and_reported_runs_sleep_until_something_changes(tmp_path):
    folder = Folder(tmp_path / "exp").rows(2.0).status("completed")
    Watcher(folder).turn().run.close()
    (folder.path / contract.DIAGNOSIS).write_text("healthy")
    watch, _, _ = rounds(tmp_path)
    assert watch.runs == {}
    folder.rows(1.9)
    again(watch)
    assert list(watch.runs) == [folder.path]


@pytest.mark.parametrize("seen", ["running", "not at all", "the end"])
def test_a_report_from_before_the_end_lets_no_run_sleep(tmp_path, seen):
    """A trainer may write its last status while the report about the one before is being written."""
    folder = Folder(tmp_path / "exp").rows(2.0)
    if seen == "running":
        Watcher(folder.status(process=contract.this_process())).turn().run.close()
    folder.status("completed")
    (folder.path / contract.DIAGNOSIS).write_text("running")
    if seen == "the end":
        time.sleep(0.01)  # as coarse as the times of files may be
        Watcher(folder).turn().run.close()
    _, _, changed = rounds(tmp_path)
    assert [entry["state"] for entry in folder.journal("tick")] == ["completed"]
    assert changed


def test_the_root_itself_may_be_a_run(tmp_path):
    Folder(tmp_path).rows(2.0).status()
    watch, _, changed = rounds(tmp_path)
    assert [run.name for run in watch.runs.values()] == [tmp_path.name]
    assert len(changed) == 1


def test_a_long_log_does_not_hold_the_others_up(tmp_path, monkeypatch):
    monkeypatch.setattr("checker.tail.CHUNK", 1000)
    monkeypatch.setattr("checker.run.CHUNK", 1000)
    monkeypatch.setattr("checker.daemon.SLICE", 0.0)
    Folder(tmp_path / "long").rows(*[2.0] * 95, "NaN").status()
    short = Folder(tmp_path / "short").rows(*[2.0] * 5, "NaN").status()
    watch, _, _ = rounds(tmp_path, 2)
    assert short.acts() == ["looked-again", "requested"]
    assert watch.runs[tmp_path / "long"].behind
    for _ in range(12):
        watch.round(wait=False)
    assert Folder(tmp_path / "long").acts() == ["looked-again", "requested"]


def watched_well(tmp_path):
    """A daemon that has read a run that goes on well, and has nothing to do about it for a while."""
    folder = Folder(tmp_path / "exp", start=time.time() - 12).rows(*[2.0] * 10).status(process=contract.this_process())
    watch = Daemon(tmp_path)
    watch.round(wait=False)
    assert watch._agenda.next > time.monotonic() + 2 * BEAT
    return folder, watch, watch.runs[folder.path]


def test_a_row_after_which_something_is_left_to_be_done_is_followed_by_a_look(tmp_path, monkeypatch):
    folder, watch, run = watched_well(tmp_path)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal.Journal, "append", full)
    folder.rows("NaN")
    watch._turn(run, Moment.now())  # its rows alone
    assert watch._agenda.next <= time.monotonic() + BEAT
    folder.status("completed")
    watch._turn(run, Moment.now(), beat=True)  # over: but nothing of it is on disk
    assert watch._agenda.next <= time.monotonic() + BEAT
    monkeypatch.undo()
    again(watch)
    assert folder.told() == ["r1/nonfinite/0/critical"]
    assert watch._agenda.next == math.inf
    watch.close()


def test_a_request_that_has_to_wait_for_somebodys_save_is_made_soon(tmp_path):
    folder, watch, run = watched_well(tmp_path)
    good = folder.document()
    (folder.path / contract.STATUS).write_text('{"state": "runn')
    folder.rows("NaN")
    watch._turn(run, Moment.now())
    assert "requested" not in folder.acts()
    assert watch._agenda.next <= time.monotonic() + BEAT
    contract.replace(folder.path / contract.STATUS, contract.encode(good))
    again(watch)
    assert folder.acts() == ["looked-again", "requested"]
    watch.close()


def test_the_next_process_of_a_run_is_looked_at_soon(tmp_path):
    folder, watch, run = watched_well(tmp_path)
    other = contract.Process(
        pid=os.getppid(), host=contract.this_process().host, boot_id=contract.boot_id(),
        started=contract.process_started(os.getppid()),
    )  # fmt: skip
    folder.status(process=other, run_id="r2")
    watch._turn(run, Moment.now(), beat=False)  # what a changed status file leads to
    assert watch._agenda.next <= time.monotonic() + BEAT
    watch.close()


def test_one_checker_per_root(tmp_path):
    with only_one(tmp_path), pytest.raises(Held, match=f"process {os.getpid()} on"), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


def test_a_run_with_a_checker_of_its_own_is_left_to_it_until_it_is_gone(tmp_path):
    mine, theirs = doomed(tmp_path / "a"), doomed(tmp_path / "b")
    told = []
    watch = Daemon(tmp_path, tell=told.extend)
    with only_one(theirs.path):
        for _ in range(2):
            watch.round(wait=False)
        assert (mine.acts(), theirs.journal()) == (["looked-again", "requested"], [])
        assert [notice.text for notice in told if "of its own" in notice.text] == [
            f"left to a checker of its own ({contract.watcher(theirs.path)})"
        ]
    watch._next_beat = 0.0  # nothing in the folder has changed
    watch.round(wait=False)
    assert theirs.acts() == ["looked-again", "requested"]
    watch.close()


# ------------------------------------------------------------------------------------------------- real processes


class Checker:
    """A real `checker watch`."""

    def __init__(self, root, *options):
        self.lines = []
        command = [sys.executable, "-m", "checker", "watch", str(root), *options]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout.readline().startswith("watching ")

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
        text, _ = self.process.communicate(timeout=10)
        return text


@pytest.fixture
def checker(tmp_path):
    started = []

    def start(*options):
        started.append(Checker(tmp_path, *options))
        return started[-1]

    yield start
    for one in started:
        one.end()


@pytest.fixture
def train(tmp_path):
    started = []

    def start(name, *arguments):
        command = [sys.executable, str(FAKE), str(tmp_path / name), *map(str, arguments)]
        child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.wait()


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_a_doomed_run_obeys_and_a_healthy_one_finishes(tmp_path, checker, train):
    watch = checker()
    doomed_run, healthy = train("doomed", "obey", 30), train("healthy", "finish")
    assert doomed_run.wait(20) == contract.Exit.STOPPED
    assert healthy.wait(20) == contract.Exit.FINISHED
    folder = Folder(tmp_path / "doomed")
    assert until(lambda: "stopped" in folder.acts())
    assert folder.acts() == ["looked-again", "requested", "acknowledged", "stopped"]
    assert Folder(tmp_path / "healthy").told() == []
    text = watch.end()
    assert watch.process.returncode == 0
    assert "doomed nonfinite critical → train_loss is nan, once at step 30" in text
    assert "doomed nonfinite → kill requested" in text
    assert re.findall(r"healthy → (.*)", text) == ["started", "completed at step 20"]
    assert re.search(r"doomed → killed at step \d+: checker asked: train_loss is nan, once", text)


def test_a_deaf_run_is_forced_and_a_killed_checker_goes_on(tmp_path, checker, train):
    folder = Folder(tmp_path / "deaf")
    watch = checker()
    child = train("deaf", "grave", 30)
    assert until(lambda: "requested" in folder.acts())
    watch.process.send_signal(signal.SIGKILL)
    watch.process.wait()
    # Let the journal say that the request was made long ago, so that the test need not wait out the patience.
    path = folder.path / contract.FINDINGS
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    for entry in entries:
        if entry.get("act") == "requested":
            entry["at"] = iso(time.time() - 29.5)
            entry["clock"]["seconds"] -= 29.5
    path.write_bytes(b"".join(contract.encode(entry) + b"\n" for entry in entries))
    checker()
    assert until(lambda: "sigterm" in folder.acts())
    assert child.poll() is None
    assert until(lambda: "sigkill" in folder.acts())
    assert child.wait(5) == -signal.SIGKILL
    assert until(lambda: "stopped" in folder.acts())
    assert folder.acts() == ["looked-again", "requested", "sigterm", "sigkill", "stopped"]
    assert len(folder.told()) == 1


def test_a_person_asks_through_the_checker(tmp_path, checker, train):
    checker()
    child = train("exp", "obey")
    status = contract.StatusFile(tmp_path / "exp")
    assert until(lambda: (status.read() or {}).get("state") == "running")
    command = [sys.executable, "-m", "checker", "kill", str(tmp_path / "exp"), "--reason", "wrong data"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "asked exp to stop" in done.stdout
    assert child.wait(10) == contract.Exit.STOPPED

    def noticed():  # a run that obeys before the checker looks leaves nothing to be done, only its end to be seen
        found = [entry for entry in journal.entries(tmp_path / "exp") if entry]
        return any(entry.get("act") == "stopped" or entry.get("state") == "killed" for entry in found)

    assert until(noticed)


def test_an_observer_lets_a_doomed_run_go_on(tmp_path, checker, train):
    checker("--observe")
    child = train("exp", "obey", 5)
    assert until(lambda: Folder(tmp_path / "exp").acts() == ["observed"])
    assert child.poll() is None
    assert "kill" not in contract.StatusFile(tmp_path / "exp").read()


def test_a_second_checker_says_who_was_first(tmp_path, checker):
    first = checker()
    for option in ((), ("--observe",)):
        command = [sys.executable, "-m", "checker", "watch", str(tmp_path), *option]
        second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert second.returncode == 2
        assert f"watched already by process {first.process.pid}" in second.stderr


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_the_checker_stops_within_a_second(checker, signum):
    watch = checker()
    began = time.monotonic()
    watch.process.send_signal(signum)
    assert watch.process.wait(5) == 0
    assert time.monotonic() - began < 1


def test_while_pid_ends_with_the_process_after_everything_is_told(tmp_path, checker, train):
    child = train("exp", "obey", 100)
    watch = checker("--while-pid", str(child.pid), "--poll", "0.2")
    assert child.wait(20) == contract.Exit.STOPPED
    assert watch.process.wait(10) == 0
    assert Folder(tmp_path / "exp").acts()[-1] == "stopped"


def test_a_hung_run_leaves_its_stacks_before_it_is_killed(tmp_path, train):
    """The whole ladder on a real process that ignores requests and SIGTERM, with a clock that is moved by hand."""
    child = train("exp", "hang", 5)
    folder = Folder(tmp_path / "exp")
    assert until(
        lambda: (folder.path / contract.STACKS).exists() and b"NaN" in (folder.path / contract.METRICS).read_bytes()
    )
    watcher = Watcher(folder, at=time.time())
    assert until(lambda: watcher.turn(0.1).run.chasing)
    watcher.turn(30)
    assert until(lambda: "fake_trainer.py" in (folder.path / contract.STACKS).read_text())
    watcher.turn(2)
    assert child.poll() is None
    watcher.turn(10)
    assert child.wait(5) == -signal.SIGKILL
    watcher.turn(0.1)
    assert folder.acts() == ["looked-again", "requested", "stack-dump", "sigterm", "sigkill", "stopped"]
    watcher.turns(5)
    assert "crash" not in {finding.rule for finding in watcher.run.case.findings}  # we ended it ourselves


# ---------------------------------------------------------------------------------------------- what a watcher is told


def said(watcher):
    return [notice.text for notice in watcher.notices]


@pytest.mark.parametrize("before", ["killed", "running"], ids=["answered a kill", "was killed hard"])
def test_a_resumed_run_is_not_called_crashed_for_its_last_process(tmp_path, before):
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 10).status(before, process=gone_process())
    watcher = Watcher(folder).turns(5)
    crashes = [entry for entry in folder.told() if "crash" in entry]
    assert len(crashes) == (before == "running")
    folder.run_id = "r2"
    folder.status("running", process=contract.this_process())
    for _ in range(20):
        folder.rows(1.9)
        watcher.turn(0.02, beat=False)  # woken by rows and heartbeats between two beats
    watcher.turns(3)
    assert [entry for entry in folder.told() if "crash" in entry] == crashes
    assert "started again at step 10" in said(watcher)


def test_the_next_process_vanishes_on_its_own_clock(tmp_path):
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 10).status("killed", process=gone_process())
    watcher = Watcher(folder).turns(5)
    folder.run_id = "r2"
    folder.status("running", process=gone_process())
    watcher.turn(1)
    assert watcher.run.gone_since == watcher.at
    assert folder.told() == []
    assert watcher.turns(3).run.case.open_findings()[0].rule == "crash"


def test_our_own_kill_of_one_process_does_not_excuse_the_next(tmp_path):
    folder = doomed(tmp_path)
    watcher = Watcher(folder).turn()
    watcher.run.chase.pursuits[0].process = first = gone_process()
    watcher.run.chase.pursuits[0].done[enforce.Did.SIGKILL] = watcher.mono
    folder.status("running", process=first)
    watcher.turns(4)
    assert watcher.run.forced
    assert [entry for entry in folder.told() if "crash" in entry] == []
    folder.run_id = "r2"
    folder.rows(1.9).status("running", process=gone_process())
    watcher.turns(4)
    assert any("crash" in entry for entry in folder.told())


def test_once_knows_what_a_watching_checker_has_done(tmp_path):
    gone = gone_process()
    folder = doomed(tmp_path)
    folder.status("running", process=gone)
    pursuit = Watcher(folder).turn().run.chase.pursuits[0]
    for act in ("requested", "sigkill", "stopped"):
        entry = {
            "v": 1,
            "kind": "act",
            "finding": pursuit.id,
            "act": act,
            "at": contract.now(),
            "process": asdict(gone),
        }
        contract.append_line(folder.path / contract.FINDINGS, entry)
    once = Watcher(folder, Mode.JUDGE).turn()
    assert once.run.forced
    assert [entry for entry in folder.told() if "crash" in entry] == []


def test_nothing_happens_by_the_clock_to_a_dead_run(tmp_path):
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 10).status(process=gone_process())
    for later in (0, 10_000, 20_000):
        Watcher(folder, at=START + 12 + later).turns(5)
    assert folder.told() == ["r1/crash/0/critical"]


ENDINGS = {
    "completed": ({"state": "completed"}, "completed at step 10"),
    "failed": ({"state": "failed", "error": "CUDA out of memory"}, "failed at step 10: CUDA out of memory"),
    "by hand": (
        {"state": "killed", "ack": {"id": "k"}, "kill": {"id": "k", "reason": "wrong data"}},
        "killed at step 10: person asked: wrong data",
    ),
    "by signal": (
        {"state": "killed", "ack": {"id": "s"}, "notes": ["asked to stop by signal: SIGINT received"]},
        "killed at step 10: asked to stop by signal: SIGINT received",
    ),
    "without a word": ({"state": "killed"}, "killed at step 10"),
}


@pytest.mark.parametrize(("fields", "text"), ENDINGS.values(), ids=ENDINGS.keys())
def test_how_a_run_ends_is_told_once(tmp_path, fields, text):
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 10).status(process=contract.this_process())
    watcher = Watcher(folder).turns(2)
    folder.status(**fields)
    watcher.turns(3)
    assert said(watcher)[:2] == ["running at step 10", text]
    assert said(watcher).count(text) == 1
    assert text not in said(Watcher(folder).turns(2))


UNREADABLE = {
    "torn": b'{"state": "run',
    "array": b"[1]",
    "binary": b"\xff\xfe\x00",
    "folder": None,
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_an_unreadable_status_file_is_not_an_absent_one(tmp_path, data):
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 10, "NaN")
    path = folder.path / contract.STATUS
    path.mkdir() if data is None else path.write_bytes(data)
    watcher = Watcher(folder).turns(5)
    warnings = [text for text in said(watcher) if text.startswith("training_status.json ")]
    assert len(warnings) == 1
    assert folder.journal("act")[-1]["text"] == warnings[0]
    once = Watcher(folder, Mode.JUDGE).turn()
    assert warnings[0] in said(once)
    path.rmdir() if data is None else path.unlink()
    folder.status()
    assert "training_status.json can be read again" in said(watcher.turn(1))


def test_unreadable_lines_are_counted_aloud_now_and_then(tmp_path):
    folder = Folder(tmp_path / "exp").status()
    (folder.path / contract.METRICS).write_text("x\n" * 120)
    texts = [text for text in said(Watcher(folder).turn()) if "metrics.jsonl" in text]
    assert texts[1:] == ["metrics.jsonl: 10 unreadable lines so far", "metrics.jsonl: 100 unreadable lines so far"]
    assert texts[0].startswith("metrics.jsonl line 1: ")


def test_a_log_that_cannot_be_read_at_all_has_no_line_0(tmp_path):
    folder = Folder(tmp_path / "exp").status()
    (folder.path / contract.METRICS).mkdir()
    assert "metrics.jsonl is a folder, not a regular file" in said(Watcher(folder).turn())


TORN = {
    "half a row": ('{"step": 10, "loss": 1', 10, 1),
    "a whole row": ('{"step": 10, "loss": 1.5}', 11, 0),
}


@pytest.mark.parametrize(("text", "rows", "unreadable"), TORN.values(), ids=TORN.keys())
@pytest.mark.parametrize("mode", [Mode.ACT, Mode.JUDGE], ids=["watch", "once"])
@pytest.mark.parametrize("end", ["completed", "gone", "running"])
def test_a_last_line_without_newline_counts_when_the_run_is_over(tmp_path, end, mode, text, rows, unreadable):
    process = gone_process() if end == "gone" else contract.this_process()
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 10)
    folder.status("completed" if end == "completed" else "running", process=process)
    with (folder.path / contract.METRICS).open("a") as file:
        file.write(text)
    watcher = Watcher(folder, mode).turn()
    if mode is Mode.ACT:
        assert watcher.run.case.history.index == 9
        watcher.turns(3)
    over = end != "running"
    history = watcher.run.case.history
    assert (history.index + 1, history.unreadable) == ((rows, unreadable) if over else (10, 0))
    found = replay.read(folder.path)
    assert (found.rows, found.case.history.unreadable) == (history.index + 1, history.unreadable)
    told = [notice for notice in said(watcher) if "ends in an unfinished line" in notice]
    assert len(told) == len(watcher.run.unreadable) == int(bool(unreadable) if over else mode is Mode.JUDGE)
    if over and unreadable:
        assert told == ["metrics.jsonl line 11: the file ends in an unfinished line (22 bytes)"]


def unwritable(folder):
    """Nobody may ask this run: its lock file is a way out of the folder."""
    (folder.path / f".{contract.STATUS}.lock").unlink(missing_ok=True)
    (folder.path / f".{contract.STATUS}.lock").symlink_to("/nowhere")


def test_a_status_that_cannot_be_written_is_told_once_and_asked_again_when_it_can(tmp_path):
    folder = doomed(tmp_path)
    unwritable(folder)
    watcher = Watcher(folder).turns(30)
    assert folder.acts() == ["looked-again", "cannot"]
    assert "cannot be written" in folder.journal("act")[-1]["why"]
    (folder.path / f".{contract.STATUS}.lock").unlink()
    watcher.turns(6)
    assert folder.acts() == ["looked-again", "cannot", "requested"]


def test_a_request_that_vanished_and_cannot_be_made_again_is_told_once(tmp_path):
    folder = doomed(tmp_path)
    watcher = Watcher(folder).turn()
    unwritable(folder)
    contract.replace(folder.path / contract.STATUS, contract.encode({**folder.document(), "kill": None}))
    watcher.turns(20)
    assert folder.acts() == ["looked-again", "requested"] + ["reasserted"] * 5  # the 1st, 2nd, 4th, 8th and 16th
