"""Runs of other programs under watch: in this process with a daemon that is told to look, and once for real."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from event_files import VERSION, event
from folders import again
from processes import program, wait_until

import contract
from checker.cli import _reporter
from checker.daemon import Daemon
from checker.watch import Alarm


class Watch:
    """A daemon over a folder, which looks when told."""

    def __init__(self, root):
        self.root, self.notices = root, []
        report, summarize = _reporter(root)
        self.daemon = Daemon(root, on_change=report, on_changes=summarize, tell=self.notices.extend)
        self.daemon.alarm.start()

    def look(self):
        for _ in range(3):
            again(self.daemon)
            self.daemon.reports._soonest = 0.0
            self.daemon.reports.work(1.0)
        return self

    def end(self):
        self.daemon._farewell()
        self.daemon.alarm.stop()
        self.daemon.close()

    def findings(self, name):
        path = self.root / name / contract.FINDINGS
        entries = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [(entry["rule"], entry["step"]) for entry in entries if entry["kind"] == "finding"]

    @property
    def troubles(self):
        return [notice.text for notice in self.notices if str(notice.severity) != "info" and not notice.rule]


@pytest.fixture
def watch(tmp_path):
    watches = []

    def make():
        watches.append(Watch(tmp_path))
        return watches[-1]

    yield make
    for one in watches:
        one.end()


def lightning(*losses, late=False):
    """Lightning's table, which is written anew with another header once a metric comes late."""
    head = "epoch,late,step,train_loss" if late else "epoch,step,train_loss"
    rows = [f"0,{',' if late else ''}{step},{loss}" for step, loss in enumerate(losses)]
    return "\n".join([head, *rows, ""])


def state(*losses):
    history = [{"epoch": 0.1 * step, "step": step, "loss": loss} for step, loss in enumerate(losses, 1)]
    return json.dumps({"global_step": len(losses), "log_history": history, "max_steps": 100})


FINE = [round(2 - 0.01 * step, 4) for step in range(20)]


def test_a_table_that_grows_is_written_anew_and_breaks(tmp_path, watch):
    folder = tmp_path / "version_0"
    folder.mkdir()
    log = folder / "metrics.csv"
    log.write_text(lightning(*FINE[:5]))
    one = watch().look()
    for count in (10, 15):
        log.write_text(lightning(*FINE[:count]))
        one.look()
    log.write_text(lightning(*FINE, late=True))
    one.look()
    assert (one.findings("version_0"), one.troubles) == ([], [])
    log.write_text(lightning(*FINE, "nan", late=True))
    one.look()
    assert one.findings("version_0") == [("nonfinite", 20)]
    assert one.daemon.runs[folder].case.history.index == 20
    assert "nan" in (folder / contract.DIAGNOSIS).read_text().lower()
    assert one.troubles == []


def test_the_states_of_checkpoints_come_one_after_another(tmp_path, watch):
    folder = tmp_path / "out"
    one = watch()
    for count in (8, 16, 24):
        place = folder / f"checkpoint-{count}"
        place.mkdir(parents=True)
        losses = [*FINE, *[float("nan")] * 4][:count]
        (place / "trainer_state.json").write_text(state(*losses))
        one.look()
    assert list(one.daemon.runs) == [folder]
    assert one.findings("out") == [("nonfinite", 21)]
    assert one.daemon.runs[folder].case.history.index == 23
    assert one.troubles == []


def test_a_first_checkpoint_makes_the_folder_above_it_a_run_at_once(tmp_path):
    (tmp_path / "out").mkdir()
    alarm = Alarm(tmp_path, poll=60)
    alarm.start()
    try:
        alarm.look()
        place = tmp_path / "out/checkpoint-8"
        place.mkdir()
        (place / "trainer_state.json").write_text(state(*FINE))
        woken = {}
        for _ in range(5):
            woken |= alarm.wait(0.2)
        assert list(woken) == [tmp_path / "out"]
    finally:
        alarm.stop()


def test_a_state_that_is_half_saved_when_it_is_first_seen_is_no_trouble(tmp_path, watch):
    folder = tmp_path / "out"
    folder.mkdir()
    whole = state(*FINE, float("nan"))
    (folder / "trainer_state.json").write_text(whole[:-20])
    one = watch().look()
    assert (list(one.daemon.runs), one.troubles) == ([folder], [])
    (folder / "trainer_state.json").write_text(whole)
    one.look()
    assert one.findings("out") == [("nonfinite", 21)]


def test_an_event_file_grows(tmp_path, watch):
    folder = tmp_path / "tb"
    folder.mkdir()
    log = folder / "events.out.tfevents.1700000000.host.1.0"
    log.write_bytes(VERSION)
    one = watch()
    for step, loss in enumerate([*FINE, float("nan")]):
        with log.open("ab") as file:
            file.write(event(step, 1.7e9 + step, loss=loss))
        one.look()
    assert one.findings("tb") == [("nonfinite", 20)]


def test_a_new_watch_tells_nothing_twice(tmp_path, watch):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.csv").write_text(lightning(*FINE, "nan"))
    watch().look().end()
    before = kinds(folder)
    (folder / "metrics.csv").write_text(lightning(*FINE, "nan", "nan", late=True))
    two = watch().look()
    assert two.findings("run") == [("nonfinite", 20)]
    assert kinds(folder) == before


def test_our_own_log_wins_when_it_comes(tmp_path, watch):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.csv").write_text(lightning(*FINE))
    one = watch().look()
    assert one.daemon.runs[folder].foreign
    (folder / contract.METRICS).write_text('{"step": 7, "loss": 1.0}\n')
    one.look()
    run = one.daemon.runs[folder]
    assert (run.foreign, run.case.history.step) == (False, 7)


@pytest.mark.parametrize("place", ["exp-001", "zoo/exp-001"])
@pytest.mark.parametrize("log", ["train.log", "metrics.csv"])
def test_a_log_that_lies_above_hides_no_run_that_comes(tmp_path, watch, place, log):
    text = "iter 1: loss 2.0\niter 2: loss 1.9\n" if log == "train.log" else lightning(*FINE[:5])
    (tmp_path / log).write_text(text)
    one = watch().look()
    assert list(one.daemon.runs) == [tmp_path]
    run = tmp_path / place
    run.mkdir(parents=True)
    rows = [*(json.dumps({"step": step, "loss": 2.0}) for step in range(10)), '{"step": 10, "loss": NaN}', ""]
    (run / contract.METRICS).write_text("\n".join(rows))
    assert one.look().findings(place) == [("nonfinite", 10)]
    assert list(one.daemon.runs) == [run]
    assert one.troubles == ["it is no run folder any more; no longer watched"]


def test_a_log_that_has_not_grown_for_long_is_looked_at_rarely_and_again_once_it_grows(tmp_path, monkeypatch):
    folder, looked = tmp_path / "old", []
    folder.mkdir()
    (folder / "metrics.csv").write_text(lightning(*FINE[:5]))
    os.utime(folder / "metrics.csv", (1e9, 1e9))
    alarm = Alarm(tmp_path, poll=0.001)
    alarm.look()
    alarm._all_deaf = False
    monkeypatch.setattr(alarm, "_slice", lambda: iter(()))  # what all folders get
    monkeypatch.setattr(alarm, "_changed", lambda one: bool(looked.append(one)))
    alarm._poll()
    assert looked == []
    alarm._foreign[folder] = time.time()
    alarm._poll()
    assert looked == [folder]


def test_no_other_log_takes_the_place_of_ours_while_it_is_away(tmp_path, watch):
    folder = tmp_path / "exp"
    folder.mkdir()
    rows = [json.dumps({"step": step, "loss": 2.0}) for step in range(10)] + ['{"step": 10, "loss": NaN}', ""]
    (folder / contract.METRICS).write_text("\n".join(rows))
    (folder / contract.STATUS).write_text(json.dumps({"state": "running", "run_id": "r1"}))
    (folder / contract.OUTPUT).write_text("iter 1: loss 2.0\niter 2: loss nan\n")
    one = watch().look()
    (folder / contract.METRICS).rename(folder / "away")
    assert one.look().findings("exp") == [("nonfinite", 10)]
    assert not one.daemon.runs[folder].foreign


def test_a_folder_of_several_logs_is_told_once(tmp_path, watch):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("a.csv", "b.csv"):
        (folder / name).write_text("step,loss\n1,2\n2,1\n")
    one = watch().look().look()
    assert len(one.daemon.runs) == 0
    (told,) = one.troubles
    assert told.startswith("not watched: ")
    assert "might each be the log" in told
    (folder / "b.csv").unlink()
    one.daemon.alarm._next_listing = 0.0
    one.look()
    assert list(one.daemon.runs) == [folder]


@pytest.mark.parametrize("name", ["status", "once", "doctor"])
def test_commands_know_such_a_folder(tmp_path, call, name):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.csv").write_text(lightning(*FINE))
    code, out, err = call(name, tmp_path)
    assert code in (0, 1)  # a doctor has warnings about the machine
    assert "run" in out
    assert "no run folders" not in out + err


def test_verify_reads_such_a_log(tmp_path, call):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.csv").write_text(lightning(*FINE))
    code, out, _ = call("verify", folder)
    assert code == 0, out
    assert "metrics.csv: 20 rows up to step 19" in out
    with (folder / "metrics.csv").open("a") as log:
        log.write("1,2,3,4,5\n")
    code, out, _ = call("verify", folder)
    assert code != 0
    assert "metrics.csv:22: 5 cells" in out


def test_once_finds_the_nan_and_says_so(tmp_path, call):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.csv").write_text(lightning(*FINE, "nan"))
    code, out, _ = call("once", tmp_path)
    assert code == 2
    assert "train_loss is nan" in out
    assert "nan" in (folder / contract.DIAGNOSIS).read_text().lower()


def test_a_real_watch_of_a_real_process(tmp_path):
    """The one test that waits: three logs of three programs, and one watch."""
    folders = {name: tmp_path / name for name in ("lightning", "huggingface", "tensorboard")}
    for folder in folders.values():
        folder.mkdir()
    table, events = folders["lightning"] / "metrics.csv", folders["tensorboard"] / "events.out.tfevents.1.host"
    saved, more = (folders["huggingface"] / f"checkpoint-{step}/trainer_state.json" for step in (8, 24))
    saved.parent.mkdir()
    saved.write_text(state(*FINE[:8]))
    table.write_text(lightning(*FINE[:5]))
    events.write_bytes(VERSION + b"".join(event(step, loss=loss) for step, loss in enumerate(FINE)))
    checker = program("checker", "watch", tmp_path, "--poll", "0.1")
    try:
        wait_until((tmp_path / contract.CHECKLIST).exists)
        table.write_text(lightning(*FINE, "nan", late=True))
        with events.open("ab") as file:
            file.write(event(20, loss=float("nan")))
        more.parent.mkdir()
        whole = state(*FINE, float("nan"))
        more.write_text(whole[:-20])
        more.write_text(whole)
        wait_until(lambda: all(told_of(folder) for folder in folders.values()))
        waiting = program("checker", "wait", folders["lightning"], "--timeout", "20")
        answer, _ = waiting.communicate(timeout=30)
    finally:
        os.kill(checker.pid, signal.SIGTERM)
        out, _ = checker.communicate(timeout=30)
    assert (checker.returncode, waiting.returncode) == (0, 1)
    assert json.loads(answer)["rule"] == "nonfinite"
    for name in folders:
        assert f"{name}" in out
    assert "cannot be" not in out


def kinds(folder):
    entries = map(json.loads, (folder / contract.FINDINGS).read_text().splitlines())
    return [(entry["kind"], entry.get("act")) for entry in entries]


def told_of(folder: Path):
    page = folder / contract.DIAGNOSIS
    return page.exists() and "nonfinite" in page.read_text()
