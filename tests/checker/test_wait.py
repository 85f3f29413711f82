"""`checker wait` and `checker events`: what a script is told and by which exit code, then with real processes."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from folders import Folder, Watcher, gone_process
from processes import program, wait_until

import contract
from checker import cli
from checker.feed import waiting
from checker.feed.bell import Bell
from checker.feed.feed import written
from checker.journal import Journal
from checker.lock import only_one
from checker.terms import Mode

FAKE = Path(__file__).parent / "fake_trainer.py"


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Runs one command; the answer is its JSON lines, or what it said when it made none."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = cli.main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return run


def running(root, *losses, **fields):
    return Folder(root / "exp").rows(*(losses or [2.0] * 10)).status(process=contract.this_process(), **fields)


def judged(folder, mode=Mode.ACT):
    watcher = Watcher(folder, mode).turn()
    watcher.run.close()
    return folder


# ------------------------------------------------------------------------------------------------ how a run stands


def healthy(root):
    return judged(running(root))


def completed(root):
    return judged(running(root).status("completed"))


def completed_unseen(root):
    return running(root).status("completed")


def doomed(root):
    return judged(running(root, *[2.0] * 10, "NaN"))


def observed(root):
    return judged(running(root, *[2.0] * 10, "NaN"), Mode.OBSERVE)


def recovered(root):
    folder = judged(running(root, *[2.0] * 10, "NaN"), Mode.OBSERVE)
    return judged(folder.rows(*[2.0] * 30), Mode.OBSERVE)


def killed(root):
    folder = doomed(root)
    kill = folder.document()["kill"]["id"]
    return judged(folder.status("killed", process=gone_process(), ack={"id": kill, "at": "x", "step": 11}))


def failed(root):
    return judged(running(root).status("failed", error="CUDA out of memory"))


def crashed(root):
    return running(root).status(process=gone_process())


def aborted(root):
    return judged(crashed(root).status("aborted", error="power cut"))


def resumed(root):
    folder = killed(root)
    folder.run_id = "r2"
    folder.rows(*[2.0] * 30).status("running", process=contract.this_process(), started_at=contract.now())
    return judged(folder)


def other_ids(root):
    return doomed(root).status(run_id="as the launcher calls it")


def planned(root):
    folder = Folder(root / "exp")
    (folder.path / contract.EXPERIMENT).write_text('{"id": "exp"}')
    return folder


def bare(root):
    return judged(Folder(root / "exp").rows(*[2.0] * 10))


NOTHING = {"event": "timeout", "rule": None, "severity": None, "summary": None, "reason": None, "kill": None}
NAN = {"rule": "nonfinite", "severity": "critical", "summary": "train_loss is nan, once"}

STANDS = {
    "healthy": (healthy, 124, {**NOTHING, "state": "running", "step": 10}),
    "planned": (planned, 124, {**NOTHING, "state": None, "step": None}),
    "a bare log": (bare, 124, {**NOTHING, "state": None}),
    "got over it": (recovered, 124, {"event": "timeout", "rule": None}),
    "resumed after a kill": (resumed, 124, {"event": "timeout", "state": "running", "rule": None, "kill": None}),
    "completed": (completed, 0, {"event": "end", "state": "completed", "reason": "completed at step 10", "rule": None}),
    "completed, and no checker was there": (completed_unseen, 0, {"event": "end", "state": "completed"}),
    "doomed": (doomed, 1, {**NAN, "event": "alert", "step": 10, "open": True, "kill": "requested"}),
    "only observed": (observed, 1, {**NAN, "event": "alert", "kill": "observed"}),
    "doomed, and its rows go by another id": (other_ids, 1, {**NAN, "event": "alert"}),
    "killed": (killed, 3, {**NAN, "event": "end", "state": "killed", "kill": "stopped"}),
    "failed": (failed, 4, {"event": "end", "state": "failed", "reason": "failed at step 10: CUDA out of memory"}),
    "crashed": (crashed, 4, {"event": "end", "state": "crashed", "rule": None}),
    "aborted": (aborted, 4, {"event": "end", "state": "aborted", "reason": "aborted at step 10: power cut"}),
}


@pytest.mark.parametrize(("make", "code", "says"), STANDS.values(), ids=STANDS.keys())
def test_what_a_wait_says(tmp_path, call, monkeypatch, make, code, says):
    monkeypatch.setattr(waiting, "GONE", 0.0)
    make(tmp_path)
    found, (answer,), _ = call("wait", "exp", "--timeout", 0)
    assert found == code
    assert {name: answer[name] for name in says} == says
    assert answer["run"] == "exp"
    assert len(contract.encode(answer)) < 700


def test_until_the_end_an_alert_is_no_event(tmp_path, call):
    doomed(tmp_path)
    code, (answer,), _ = call("wait", "exp", "--until", "end", "--timeout", 0)
    assert (code, answer["event"], answer["rule"]) == (124, "timeout", "nonfinite")


def test_an_id_is_found_in_experiments(tmp_path, call):
    completed(tmp_path / "experiments")
    assert call("wait", "exp")[0] == 0


# ---------------------------------------------------------------------------------------------- each alert once


def alert(folder, rule, severity="warning", **fields):
    book = Journal(folder.path)
    entry = {"id": f"r1/{rule}/0/{severity}", "rule": rule, "severity": severity, "summary": f"{rule}!", **fields}
    book.write("finding", entry)


def over(folder, rule):
    book = Journal(folder.path)
    book.write("recovered", {"rule": rule, "episode": 0})


def asked(call, since=None):
    """One wait that does not block: the rules that it told, and the cursor."""
    _, (answer,), _ = call("wait", "exp", "--timeout", 0, *([] if since is None else ["--since", since]))
    return ([answer["rule"], *answer["also"]] if answer["event"] == "alert" else answer["event"]), answer["cursor"]


def test_with_a_cursor_every_alert_is_told_once(tmp_path, call):
    folder = healthy(tmp_path)
    told, cursor = asked(call)
    assert told == "timeout"
    alert(folder, "drift")
    assert asked(call, cursor)[0] == asked(call, cursor)[0] == ["drift"]  # the same question, the same answer
    told, cursor = asked(call, cursor)
    assert asked(call, cursor) == ("timeout", cursor)
    assert asked(call)[0] == ["drift"]  # without a cursor: whatever is open
    alert(folder, "loss_spike", "info")
    assert asked(call, cursor)[0] == "timeout"
    alert(folder, "overfit")
    over(folder, "overfit")
    told, later = asked(call, cursor)
    assert told == ["overfit", "drift"]  # it is over, and nobody was told of it
    assert asked(call, later)[0] == "timeout"


def test_several_alerts_are_one_answer_about_the_gravest(tmp_path, call):
    folder = healthy(tmp_path)
    for rule, severity in (
        ("drift", "warning"),
        ("dead_lr", "critical"),
        ("overfit", "critical"),
        ("plateau", "warning"),
    ):
        alert(folder, rule, severity)
    told, cursor = asked(call, 0)
    assert told == ["overfit", "dead_lr", "drift", "plateau"]
    assert asked(call, cursor)[0] == "timeout"


def test_an_alert_from_a_hostile_journal_cannot_steer_a_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = healthy(tmp_path)
    alert(folder, "x" * 999, summary="\x1b]0;owned\x07 hf_" + "aB3" * 12, step="now", action=[])
    cli.main(["wait", "exp", "--timeout", "0"])
    out = capsys.readouterr().out
    assert "[SECRET]" in out
    assert "\x1b" not in out
    assert "owned" not in out
    assert len(out) < 700


# ------------------------------------------------------------------------------------------------------- mistakes

WRONG = {
    "a folder that cannot appear": (["wait", "nowhere/exp"], "no such run, and no folder nowhere"),
    "a run that does not appear": (["wait", "exp-9"], "no such run, and none has appeared within 0.1 s"),
    "nor in the time that was given": (["wait", "exp-9", "--timeout", "0"], "none has appeared within 0 s"),
    "a cursor beyond the end": (["wait", "exp", "--since", "99999"], "99999 is no place in exp/findings.jsonl"),
    "a cursor within a line": (["wait", "exp", "--since", "5"], "5 is no place"),
    "no feed": (["events", "exp"], "no checker has watched here yet"),
    "no folder": (["events", "nowhere"], "nowhere: no such folder"),
    "a place that this feed never had": (["events", ".", "--since", "9" * 15], "no place in events.jsonl"),
    "a timeout for what does not wait": (["events", ".", "--timeout", "5"], "--timeout is for --follow"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "why"), WRONG.values(), ids=WRONG.keys())
def test_a_mistake_is_a_sentence(tmp_path, call, monkeypatch, arguments, why):
    monkeypatch.setattr(waiting, "APPEAR", 0.1)
    completed(tmp_path)
    (tmp_path / contract.EVENTS).write_text('{"seq": 2, "kind": "end"}\n')
    code, answers, err = call(*arguments)
    assert (code, answers) == (2, [])
    assert why in err


@pytest.mark.parametrize("value", ["-1", "soon", "", "1e9", "²", "9" * 30])
@pytest.mark.parametrize("command", ["wait", "events"])
def test_what_is_no_cursor_is_refused_before_anything(call, command, value):
    with pytest.raises(SystemExit, match="2"):
        call(command, ".", f"--since={value}")


# ---------------------------------------------------------------------------------------------------------- events


def fed(root):
    path = root / contract.EVENTS
    path.write_text("".join(f'{{"seq": {seq}, "kind": "end", "run": "\\u202eexp"}}\n' for seq in (10, 20, 30)))
    return path


READ = {
    "everything": ([], [10, 20, 30]),
    "after a line": (["--since", 10], [20, 30]),
    "after the last": (["--since", 30], []),
    "a few": (["--since", 10, "--limit", 1], [20]),
    "where it ends": (["--since", "now"], [30]),
    "enough is there": (["--follow", "--limit", 3], [10, 20, 30]),
}


@pytest.mark.parametrize(("options", "seqs"), READ.values(), ids=READ.keys())
def test_events_after_a_place(tmp_path, call, options, seqs):
    fed(tmp_path)
    code, answers, _ = call("events", ".", *options)
    assert (code, [line["seq"] for line in answers]) == (0, seqs)


def test_following_ends_with_its_timeout(tmp_path, call):
    fed(tmp_path)
    assert call("events", ".", "--follow", "--since", "now", "--timeout", 0)[:2] == (124, [])


def test_following_waits_for_the_first_line_and_for_more(tmp_path, call):
    def write():
        path = fed(tmp_path)
        time.sleep(0.2)
        with path.open("a") as file:
            file.write('{"seq": 40, "kind": "end"}\n')

    later = threading.Timer(0.1, write)
    later.start()
    code, answers, _ = call("events", ".", "--follow", "--limit", 4, "--timeout", 10)
    later.join()
    assert (code, [line["seq"] for line in answers]) == (0, [10, 20, 30, 40])


def test_a_bell_rings_for_the_new_file_too(tmp_path):
    path = tmp_path / "feed"
    bell = Bell(path)
    for _ in range(2):
        path.write_text("")
        bell.listen()
        bell.wait(0.05)  # what was heard of the file before
        began = time.monotonic()
        path.write_text("x")
        bell.wait(10)
        assert time.monotonic() - began < 5
        path.unlink()
    bell.close()


# ------------------------------------------------------------------------------------------------ who watches, if any


def test_that_nobody_watches_is_said_at_once(tmp_path, call):
    healthy(tmp_path)
    for _ in range(2):
        _, (answer,), err = call("wait", "exp", "--timeout", 0.01)
        assert answer["watched"] is False
        assert err.count("nobody watches") == 1
    with only_one(tmp_path):
        _, (answer,), err = call("wait", "exp", "--timeout", 0.01)
        assert (answer["watched"], err) == (True, "")


def test_a_checker_that_watches_gets_time_to_say_why_a_run_ended(tmp_path, call, monkeypatch):
    monkeypatch.setattr(waiting, "POLL", 0.05)
    monkeypatch.setattr(waiting, "SETTLE", 0.0)
    folder = completed_unseen(tmp_path)
    with only_one(tmp_path):
        assert call("wait", "exp", "--timeout", 0.2)[1][0]["event"] == "timeout"
        later = threading.Timer(0.2, judged, [folder])
        later.start()
        assert call("wait", "exp", "--timeout", 10)[0] == 0
        later.join()


def test_a_checker_that_is_stuck_hides_no_end(tmp_path, call, monkeypatch):
    monkeypatch.setattr(waiting, "JUDGED", 0.0)
    monkeypatch.setattr(waiting, "SETTLE", 0.0)
    completed_unseen(tmp_path)
    with only_one(tmp_path):
        assert call("wait", "exp")[0] == 0


# -------------------------------------------------------------------------------------------------- real processes


def train(root, name, *arguments):
    return subprocess.Popen(
        [sys.executable, str(FAKE), str(root / name), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(FAKE.parents[2])},
    )


@pytest.mark.parametrize("watch", [True, False], ids=["watched", "nobody watches"])
def test_a_script_that_starts_a_run_and_waits(tmp_path, watch):
    """The wait begins before there is a run, is asked again with its cursor, and ends with the run."""
    checker = program("checker", "watch", tmp_path) if watch else None
    if checker:
        checker.stdout.readline()
    child = train(tmp_path, "exp", "obey" if watch else "die", *([30] if watch else []))
    answers, since = [], "start"
    while not answers or answers[-1]["event"] != "end":
        with program("checker", "wait", tmp_path / "exp", "--since", since, "--timeout", 30) as one:
            answers.append(json.loads(one.communicate(timeout=60)[0].splitlines()[-1]))
        since = answers[-1]["cursor"]
    child.wait(10)
    if checker:
        checker.terminate()
        checker.communicate(timeout=10)
    assert (one.returncode, answers[-1]["state"]) == ((3, "killed") if watch else (4, "crashed"))
    assert answers[-1]["watched"] is watch
    if watch:
        assert answers[-1]["rule"] == "nonfinite"
        assert "nonfinite" in (tmp_path / "exp" / contract.DIAGNOSIS).read_text()
        assert len(answers) <= 3


def test_a_checker_that_is_killed_again_and_again_tells_each_end_and_each_alert_once(tmp_path):
    chance = random.Random(7)
    manners = [("finish",), ("obey", 30), ("die",), ("obey", 25)]
    children = []
    for number, manner in enumerate([*manners, None]):
        checker = program("checker", "watch", tmp_path)
        checker.stdout.readline()
        if manner is not None:
            children.append(train(tmp_path, f"exp-{number}", *manner))
            time.sleep(chance.uniform(0.1, 1.0))
            checker.send_signal(signal.SIGKILL)
            checker.communicate()
    names = [f"exp-{number}" for number in range(len(manners))]
    path = tmp_path / contract.EVENTS

    def ends():
        return Counter(line["run"] for line in written(path) if line["kind"] == "end")

    wait_until(lambda: set(ends()) == set(names))
    assert [child.wait(20) for child in children] == [0, 3, 1, 3]
    checker.terminate()
    checker.communicate(timeout=10)
    assert ends() == dict.fromkeys(names, 1)
    alerts = Counter(
        (line["run"], line["rule"], line["episode"], line["severity"])
        for line in written(path)
        if line["kind"] == "alert"
    )
    assert set(alerts.values()) == {1}
    assert {("exp-1", "nonfinite"), ("exp-3", "nonfinite"), ("exp-2", "crash")} <= {key[:2] for key in alerts}
    states = {line["run"]: line["state"] for line in written(path) if line["kind"] == "end"}
    assert list(map(states.get, names)) == ["completed", "killed", "crashed", "killed"]
