"""The command on a history as a user has one: 120 small run folders, most of them healthy."""

import json
import random
import re
from fractions import Fraction

import pytest
from folders import START, Folder, Watcher

import contract
from checker import calibrate, caution, limits, promise, replay
from checker.cli import main
from checker.daemon import Daemon
from checker.terms import Mode

RUNS, BLIPS, SICK = 120, 3, 4


def falling(seed, count=30):
    chance = random.Random(seed)
    return [round(0.5 + 2 * 0.9**i + chance.gauss(0, 0.02), 4) for i in range(count)]


def healthy(root, name, seed=0):
    return Folder(root / name).rows(*falling(seed)).status("completed")


def blip(root, name, seed=0):
    """A run whose logger once wrote a NaN, and which ended well: by the shipped limits it is killed."""
    losses = falling(seed)
    folder = Folder(root / name).rows(*losses[:20])
    losses[20] = "NaN"
    return folder.rows("NaN", grad="NaN").rows(*losses[21:]).status("completed")


def sick(root, name, state="failed"):
    return Folder(root / name).rows(*falling(0), *["NaN"] * 8).status(state)


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """Read-only for tests: 117 healthy runs, 3 with a blip, 4 that failed."""
    root = tmp_path_factory.mktemp("h") / "history"
    for number in range(RUNS):
        (blip if number < BLIPS else healthy)(root, f"exp-{number:03d}", number)
    for number in range(SICK):
        sick(root, f"sick-{number}")
    return root


def run(*arguments):
    return main(["calibrate", *map(str, arguments), "--jobs", "1"])


def test_where_the_shipped_limits_suffice_nothing_changes(history, tmp_path, capsys):
    """Three kills in 120 runs are under a rate of 4 %."""
    output = tmp_path / "out.toml"
    assert run(history, "--false-kill-rate", "0.04", "--output", output) == 0
    out = capsys.readouterr().out
    assert "The shipped limits keep the promise as they are: they kill 3 of 120 runs that ended well" in out
    assert "the next run that would end well if left alone is killed with a probability of at most 0.04." in out
    assert limits.read(output).limits == {}
    assert limits.read(output).calibration["caution"] == 1.0


def test_the_least_caution_that_keeps_the_rate_is_written(history, tmp_path, capsys):
    output = tmp_path / "out.toml"
    assert run(history, "--false-kill-rate", "0.02", "--output", output) == 0
    out = capsys.readouterr().out
    assert re.search(r"ended well: used +│ 120 +│ 3 +│ 0 ", out)
    assert re.search(r"left out: failed +│ 4 +│ 4 +│ 4 ", out)
    assert "The shipped limits kill 3 of 120 runs that ended well, the fitted ones 0; a rate of 0.02 allows 1." in out
    assert out.count("nonfinite at row 20: train_loss is nan, once") == 3
    assert "Not fitted: budget and stall" in out
    assert f"Wrote {output}. Use it with --limits." in out
    found = limits.read(output)
    assert found.limits == caution.limits(1.2)
    assert {name: found.calibration[name] for name in ("source", "runs", "runs_left_out", "killed")} == {
        "source": "history",
        "runs": 120,
        "runs_left_out": 4,
        "killed": 0,
    }
    assert str(history) not in output.read_text()
    assert "promise is void" not in found.sentence()


@pytest.mark.slow
def test_the_same_history_gives_the_same_file(history, tmp_path):
    for name in ("a", "b"):
        assert run(history, "--false-kill-rate", "0.02", "--output", tmp_path / name) == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        ("0.008", "120 runs that ended well (left out: 4 failed), and a false kill rate of 0.008 needs 124: 4 more; "),
        ("0.001", "needs 999: 879 more; the smallest rate that 120 can promise is 0.00827"),
    ],
)
def test_too_small_a_history_is_refused_with_what_it_would_take(history, tmp_path, capsys, rate, said):
    assert run(history, "--false-kill-rate", rate, "--output", tmp_path / "out.toml") == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out.toml").exists()


def test_the_rate_that_is_offered_is_granted(history, tmp_path):
    assert run(history, "--false-kill-rate", "0.00827", "--output", tmp_path / "out.toml") == 0


def test_labels_say_what_ended_well(history, tmp_path, capsys):
    labels = tmp_path / "labels"
    known = [{"id": f"exp-{number:03d}", "label": "healthy" if number < 60 else "nan"} for number in range(110)]
    labels.write_text("\n".join(map(json.dumps, known)))
    assert run(history, "--false-kill-rate", "0.1", "--labels", labels, "--output", tmp_path / "out.toml") == 0
    out = capsys.readouterr().out
    assert re.search(r"ended well: used +│ 60 ", out)
    assert re.search(r"left out: labelled nan +│ 50 ", out)
    assert re.search(r"left out: without a label +│ 14 ", out)


MISTAKES = {
    "a rate of nothing": (["--false-kill-rate", "0"], "'0' is not a rate from 0.000001 to 0.5"),
    "a rate in percent": (["--false-kill-rate", "1"], "'1' is not a rate"),
    "no number": (["--false-kill-rate", "nan"], "'nan' is not a rate"),
    "a place that is none": (["--output", "/nowhere/out.toml"], "/nowhere is no folder that can be written to"),
    "a folder for a file": (["--output", "/"], "/ is a folder; --output names a file"),
    "no labels": (["--labels", "/nowhere"], "No such file or directory"),
}


@pytest.mark.parametrize(("arguments", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_sentence(tmp_path, capsys, arguments, said):
    healthy(tmp_path, "exp")
    with pytest.raises(SystemExit) as end:
        raise SystemExit(run(tmp_path, *arguments))
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


# ----------------------------------------------------------------------------------------------- which runs count


def without_status(root, name):
    return Folder(root / name).rows(*falling(1))


def two_losses(root, name):
    """Its validation loss ended as NaN, and nothing else is wrong."""
    return (
        Folder(root / name).rows(*falling(1), val_loss=1.0).rows(0.5, metrics={"val_loss": "NaN"}).status("completed")
    )


def far_up(root, name):
    return Folder(root / name).rows(*falling(1), *[9.0] * 9).status("completed")


def by_the_checker(root, name):
    return sick(root, name, "killed").status("killed", kill={"id": "x", "reason": "y", "requested_by": "checker"})


def half_saved(root, name):
    folder = healthy(root, name)
    (folder.path / contract.STATUS).write_text("{")
    return folder


def no_metrics(root, name):
    folder = healthy(root, name)
    (folder.path / contract.METRICS).unlink()
    (folder.path / contract.METRICS).mkdir()
    return folder


COUNTS = [
    (healthy, ""),
    (without_status, ""),
    (blip, ""),
    (sick, "failed"),
    (lambda root, name: sick(root, name, "killed"), "killed"),
    (lambda root, name: sick(root, name, "aborted"), "aborted"),
    (lambda root, name: sick(root, name, "running"), "that never said they were over"),
    (lambda root, name: sick(root, name, "completed"), "with a last loss that is no finite number"),
    (two_losses, "with a last loss that is no finite number"),
    (far_up, "with a last train loss far above its best"),
    (by_the_checker, calibrate.STOPPED_BY_CHECKER),
    (half_saved, "with a status that cannot be read"),
    (no_metrics, calibrate.UNREADABLE),
    (lambda root, name: Folder(root / name).rows(*[0.1] * 9, metrics={"acc": 1.0}), "without a loss"),
]


@pytest.mark.parametrize(("make", "left_out"), COUNTS)
def test_which_runs_count_as_ended_well(tmp_path, make, left_out):
    trial = calibrate.tried(make(tmp_path, "exp").path)
    assert trial.left_out == left_out
    assert len(trial.killed) == (0 if left_out == calibrate.UNREADABLE else len(caution.GRID))


@pytest.mark.parametrize("make", [healthy, blip, sick, far_up])
def test_a_trial_is_what_replays_by_each_limits_say(tmp_path, make):
    folder = make(tmp_path, "exp").path
    kills = [replay.read(folder, limits=caution.limits(one)).case.kill is not None for one in caution.GRID]
    assert calibrate.tried(folder).killed == tuple(kills)


def test_runs_that_are_killed_at_any_caution_are_named():
    last = (True,) * len(caution.GRID)
    trials = [calibrate.Trial(f"r{n}", killed=last, last_rule="budget") for n in range(2)]
    trials += [calibrate.Trial(f"ok{n}", killed=(False,) * len(caution.GRID)) for n in range(18)]
    with pytest.raises(calibrate.Refused) as refused:
        calibrate.Fit(trials, Fraction("0.1"))
    assert "2 of 20 runs that ended well would be killed at any caution (by budget; for one r0)" in str(refused.value)
    assert calibrate.Fit(trials, Fraction("0.143")).place == 0


def test_runs_that_the_checker_stopped_are_spoken_of(tmp_path, capsys):
    for number in range(9):
        healthy(tmp_path, f"exp-{number}", number)
    by_the_checker(tmp_path, "stopped")
    assert run(tmp_path, "--false-kill-rate", "0.1") == 0
    assert "The checker itself stopped 1 of these runs. Nobody knows" in capsys.readouterr().out


def test_a_healthy_run_that_the_checker_stopped_counts_as_killed_at_any_caution(tmp_path):
    """Its log ends at the kill, so no replay can tell what more caution would have done."""
    folder = by_the_checker(tmp_path, "exp").path
    trial = calibrate.tried(folder, "healthy")
    assert trial.killed == (True,) * len(caution.GRID)
    assert trial.reason == f"{folder}: labelled healthy, and stopped by the checker all the same"
    assert calibrate.tried(folder, "nan").left_out == "labelled nan"
    by_a_person = healthy(tmp_path, "person").status("killed").path
    assert not any(calibrate.tried(by_a_person, "healthy").killed)


def test_a_stopped_run_that_was_resumed_and_ended_well_counts_like_any_other(tmp_path):
    kill = {"id": "x", "reason": "y", "requested_by": "checker"}
    folder = healthy(tmp_path, "exp").status("completed", kill=kill)
    assert calibrate.tried(folder.path).left_out == ""


# ------------------------------------------------------------------------------------------------- the file in use


@pytest.fixture
def cautious(tmp_path):
    """A root with limits at caution 2, a run that it lets live, and one that it does not."""
    (tmp_path / limits.FILE).write_text(limits.render(caution.limits(2), {}))
    return tmp_path, blip(tmp_path, "blip"), sick(tmp_path, "sick")


def test_once_replay_and_backtest_judge_by_the_file_and_say_so(cautious, capsys):
    root, lives, dies = cautious
    main(["once", str(root)])
    assert f"limits from {root / limits.FILE}: 27 differ from the shipped ones" in capsys.readouterr().err
    assert [act for entry in lives.journal("finding") if (act := entry["action"]) != "alert"] == []
    assert [act for entry in dies.journal("finding") if (act := entry["action"]) != "alert"] == ["kill"]
    main(["replay", str(lives.path), str(dies.path)])
    out, err = capsys.readouterr()
    assert err.count("limits from") == 1
    assert (out.count("verdict: let it run"), out.count("verdict: stop, nonfinite")) == (1, 1)
    main(["backtest", str(root), "--json", "--jobs", "1"])
    assert json.loads(capsys.readouterr().out)["would_kill"] == 1
    (root / limits.FILE).unlink()
    main(["backtest", str(root), "--json", "--jobs", "1"])
    out, err = capsys.readouterr()
    assert json.loads(out)["would_kill"] == 2
    assert "limits" not in err


def test_a_named_file_goes_before_the_one_in_the_folder(cautious, tmp_path, capsys):
    named = tmp_path / "other.toml"
    named.write_text("")
    main(["replay", "--limits", str(named), str(cautious[1].path)])
    assert "verdict: stop, nonfinite" in capsys.readouterr().out


def test_each_folder_of_a_backtest_has_its_own_limits(tmp_path, capsys):
    for name in ("a", "b"):
        blip(tmp_path / name, "exp")
    (tmp_path / "a" / limits.FILE).write_text(limits.render(caution.limits(2), {}))
    main(["backtest", str(tmp_path / "a"), str(tmp_path / "b"), "--json", "--jobs", "1"])
    kills = json.loads(capsys.readouterr().out)["kills"]
    assert [kill["path"] for kill in kills] == [str(tmp_path / "b" / "exp")]


def test_the_daemon_judges_by_its_limits(cautious):
    root, lives, dies = cautious
    daemon = Daemon(root, mode=Mode.OBSERVE, limits=caution.limits(2))
    daemon.round(wait=False)
    daemon.close()
    assert [len([entry for entry in run.journal("finding") if entry["action"] == "kill"]) for run in (lives, dies)] == [
        0,
        1,
    ]


@pytest.mark.parametrize("command", ["watch", "once", "backtest"])
def test_a_bad_file_stops_a_command_before_it_starts(cautious, capsys, command):
    root, run_folder, _ = cautious
    (root / limits.FILE).write_text("[limits.explosion]\ntims = 1\n[limits.stahl]\n")
    assert main([command, str(root)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.partition(".toml:")[2].split(":")[0] for line in err.splitlines()] == ["2", "3"]
    assert not (run_folder.path / contract.FINDINGS).exists()


def test_explain_shows_the_limits_of_a_file(cautious, capsys):
    assert main(["explain", "explosion", "--limits", str(cautious[0] / limits.FILE)]) == 0
    out = capsys.readouterr().out
    assert "  times = 5.0  (shipped: 3.0)\n" in out
    assert "  held = 0.8\n" in out


def test_a_restart_by_other_limits_keeps_what_was_journaled_and_tells_nothing_twice(tmp_path):
    folder = Folder(tmp_path / "exp").rows(*falling(0)).rows("NaN", metrics={"loss": "NaN"}).status()
    told = []
    for found in (None, caution.limits(4), None, caution.limits(64), None):
        Watcher(folder, Mode.ACT, START + 40, found).turns(2).run.close()
        told.append(folder.told())
    assert told == [["r1/nonfinite/0/critical"], *[["r1/nonfinite/0/critical", "r1/nonfinite/0/warning"]] * 4]
    assert folder.acts().count("requested") == 1


def test_a_watching_checker_asks_only_by_its_limits(tmp_path):
    folders = [Folder(tmp_path / name).rows(*falling(0), "NaN", grad="NaN").status() for name in "ab"]
    for folder, found in zip(folders, (None, caution.limits(4)), strict=True):
        Watcher(folder, Mode.ACT, START + 40, found).turns(2)
    assert ["kill" in folder.document() for folder in folders] == [True, False]


# --------------------------------------------------------------------------------------------- whose file it is


@pytest.fixture
def fitted(tmp_path):
    for number in range(9):
        (blip if number == 0 else healthy)(tmp_path, f"exp-{number}", number)
    assert run(tmp_path, "--false-kill-rate", "0.1") == 0
    return tmp_path


def test_its_own_file_is_replaced_and_that_is_said(fitted, capsys):
    assert promise.is_ours(fitted / limits.FILE)
    assert run(fitted, "--false-kill-rate", "0.2") == 0
    assert f"Replaced {fitted / limits.FILE}. `checker watch {fitted}` uses it" in capsys.readouterr().out


CHANGES = {
    "a comment": lambda text: text + "# mine\n",
    "a value": lambda text: text.replace("doubtful_rows = 4", "doubtful_rows = 5"),
    "a rule that is not fitted": lambda text: text + "\n[limits.plateau]\nimprovement = 0.1\n",
    "all of it": lambda _: "[limits.explosion]\ntimes = 6.0\n",
    "a mistake": lambda text: text + "x",
    "emptied": lambda _: "",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_file_changed_by_hand_is_only_replaced_by_force(fitted, capsys, change):
    file = fitted / limits.FILE
    before = file.read_text()
    file.write_text(change(before))
    assert file.read_text() != before
    assert run(fitted, "--false-kill-rate", "0.1") == 2
    assert "was made or changed by hand; --output FILE writes elsewhere, --force replaces it" in capsys.readouterr().err
    assert file.read_text() == change(before)
    assert run(fitted, "--false-kill-rate", "0.1", "--force") == 0
    assert file.read_text() == before
