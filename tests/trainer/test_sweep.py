"""Sweeps: what is begun, gone on with and left alone; and the script for Slurm, carried out without Slurm."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT, program, wait_until

import contract
from trainer.cli import main
from trainer.sweep.asking import ask
from trainer.sweep.begun import step
from trainer.sweep.job import Job
from trainer.sweep.plan import Plan, new_id, plain_name

LONG = ["--set", "train.steps=1000000", "--set", "train.eval_every=0"]


@pytest.fixture
def zoo(tmp_path, small_toml):
    """A folder of specs that take a fraction of a second."""

    def make(*names):
        folder = tmp_path / "zoo"
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / f"{name}.toml").write_text(small_toml.read_text())
        return folder

    return make


def status(folder):
    path = folder / contract.STATUS
    return json.loads(path.read_text()) if path.exists() else {}


def steps(folder):
    return status(folder).get("step") or 0


def kill(folder, reason="enough"):
    path = folder / contract.STATUS
    path.write_text(json.dumps(status(folder) | {"kill": reason}))


# ------------------------------------------------------------------------------------- begun, gone on with, left alone

SIGNALLED = {"ack": {"id": "signal-1234", "at": "x", "step": 3}}
INTERRUPTED = {"kill": {"id": "k", "reason": "SIGINT", "requested_by": "trainer sweep"}, "ack": {"id": "k"}}
CHECKED = {"kill": {"id": "k", "reason": "nan", "requested_by": "checker"}, "ack": {"id": "k"}}

STEPS = {
    "begun before, and its process is gone": ({"state": "running"}, "--resume", None),
    "stopped by a signal": ({"state": "killed", **SIGNALLED}, "--resume", None),
    "stopped by the sweep": ({"state": "killed", **INTERRUPTED}, "--resume", None),
    "stopped by the sweep before, and now by the checker": (
        {"state": "killed", "kill": INTERRUPTED["kill"], "ack": {"id": "other"}}, None, 3,
    ),
    "stopped by the checker": ({"state": "killed", **CHECKED}, None, 3),
    "stopped by a person": ({"state": "killed", "kill": "enough", "ack": {"id": "hand-1"}}, None, 3),
    "complete": ({"state": "completed"}, None, 0),
    "failed": ({"state": "failed"}, None, 1),
    "given up": ({"state": "aborted"}, None, 1),
}  # fmt: skip


@pytest.mark.parametrize(("document", "option", "code"), STEPS.values(), ids=STEPS.keys())
def test_only_what_was_cut_off_is_gone_on_with(tmp_path, document, option, code):
    folder = tmp_path / "exp-001"
    folder.mkdir()
    (folder / contract.STATUS).write_text(json.dumps(document))
    log = tmp_path / "a.log"
    log.write_text(f"a warning of some library\nexp-001 -> {folder} (cpu, 5 steps)\n")
    todo = step(Plan(tmp_path / "zoo", tmp_path, id="s"), Job(tmp_path / "a.toml", log, tmp_path))
    assert (todo.code, todo.command[-1] if todo.command else None) == (code, option)


def test_a_run_that_is_only_going_on_is_asked_once_it_does(tmp_path):
    folder, log = tmp_path / "exp-001", tmp_path / "a.log"
    job = Job(tmp_path / "a.toml", log, tmp_path)
    assert not ask(job, "SIGTERM")
    folder.mkdir()
    log.write_text(f"exp-001 -> {folder} (cpu, 5 steps)\n")
    assert not ask(job, "SIGTERM")
    (folder / contract.STATUS).write_text(json.dumps({"state": "killed", "run_id": "r1", **SIGNALLED}))
    assert not ask(job, "SIGTERM")  # that was the attempt before
    (folder / contract.STATUS).write_text(json.dumps({"state": "running", "run_id": "r2"}))
    assert ask(job, "SIGTERM")
    assert (status(folder)["kill"]["run_id"], status(folder)["kill"]["requested_by"]) == ("r2", "trainer sweep")
    assert ask(job, "SIGTERM")


def test_what_has_no_folder_is_begun_and_what_is_pending_is_run(tmp_path):
    plan = Plan(tmp_path, tmp_path, settings=["seed=3"], id="s")
    log = tmp_path / "a.log"
    log.write_text("exp-009 -> somewhere that was deleted since\n")
    job = Job(tmp_path / "a.toml", log, tmp_path)
    assert step(plan, job).command[-2:] == ["--set", "seed=3"]
    (tmp_path / "exp-009").mkdir()
    assert step(plan, job).command[-2:] == ["run", str(tmp_path / "exp-009")]


@pytest.mark.parametrize("name", ["zoo", "my zoo", "-x", "ä'\"$(x)", "a.toml"])
def test_an_id_is_a_name_for_a_file_whatever_the_folder_is_called(tmp_path, name):
    for made in (plain_name(tmp_path / name), new_id(tmp_path / name)):
        assert contract.sweep_stop_file(tmp_path, made) is not None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--jobs", "0"], "at least 1 is needed"),
        (["--id", "../x"], "must be of letters, digits"),
        (["--time", "1:00"], "go with --slurm"),
        (["--address", "auto"], "goes with --ray"),
        (["--gpus-per-run", "1"], "go with --ray or --slurm"),
        (["--slurm", "--gpus-per-run", "0.5"], "whole ones only"),
        (["--slurm", "--partition", "a b\n#SBATCH --x"], "must be one word"),
    ],
)
def test_a_mistake_in_an_option_is_told(zoo, capsys, options, said):
    assert main(["sweep", str(zoo("a")), *options]) == 2
    assert said in capsys.readouterr().err


def test_without_ray_a_sentence_says_what_to_install(zoo, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ray" else object())
    assert main(["sweep", str(zoo("a")), "--ray"]) == 2
    assert "pip install 'training-checker[ray]'" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------- real processes


def test_an_interrupted_sweep_is_gone_on_with_and_what_was_killed_is_not(tmp_path, zoo):
    folder, experiments = zoo("a", "b"), tmp_path / "e"
    process = program("trainer", "sweep", folder, "--experiments", experiments, "--jobs", 2, "--id", "s", *LONG)
    runs = [experiments / "exp-001", experiments / "exp-002"]
    wait_until(lambda: all(steps(run) > 2 for run in runs))
    kill(runs[0])
    wait_until(lambda: status(runs[0])["state"] == "killed")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert status(runs[1])["state"] == "killed"
    assert {status(run)["run_id"] for run in runs}
    assert json.loads((runs[0] / contract.EXPERIMENT).read_text())["sweep"] == "s"
    command = shlex.split(output.splitlines()[-1].partition("to go on with it: ")[2])
    assert command[:2] == ["trainer", "sweep"]
    before = [status(run)["run_id"] for run in runs]
    process = program(*command, "--jobs", 2)
    wait_until(lambda: status(runs[1])["run_id"] != before[1] and status(runs[1])["state"] == "running")
    wait_until(lambda: steps(runs[1]) > 2)
    kill(runs[1])
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "exp-001 was killed before" in output
    assert "going on with exp-002" in output
    assert status(runs[0])["run_id"] == before[0]
    assert len(list(experiments.glob("exp-*"))) == 2


@pytest.mark.slow
def test_a_note_about_a_setting_is_for_the_runs_that_have_it(tmp_path, zoo, small_toml):
    folder, experiments = zoo("a", "b"), tmp_path / "e"
    (folder / "a.toml").write_text(small_toml.read_text().replace("lr = 0.01", "lr = 3.0"))
    experiments.mkdir()
    only = [{"key": "optimizer.lr", "how": ">=", "value": 1.0}]
    (experiments / "stop-s.json").write_text(json.dumps({"reason": "too high", "only": only}))
    process = program("trainer", "sweep", folder, "--experiments", experiments, "--id", "s", "--set", "train.steps=3")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    rows = [line.split()[:4] for line in output.splitlines()[-2:]]
    assert rows == [["a", "-", "3", "-"], ["b", "exp-001", "0", "completed"]]
    assert "a.toml is not begun: too high" in (experiments / ".sweep/s/a.log").read_text()


def test_a_note_without_a_setting_ends_the_sweep(tmp_path, zoo, capsys):
    experiments = tmp_path / "e"
    experiments.mkdir()
    (experiments / "stop-s.json").touch()
    assert main(["sweep", str(zoo("a", "b")), "--experiments", str(experiments), "--id", "s"]) == 0
    told = capsys.readouterr()
    assert told.out.count("not started") == 2
    assert "the 2 specs that are left are not started" in told.err
    assert not list(experiments.glob("exp-*"))


# -------------------------------------------------------------------------------------------------------------- Slurm


def script(capsys, folder, experiments, *options):
    assert main(["sweep", str(folder), "--experiments", str(experiments), "--slurm", *options]) == 0
    return capsys.readouterr().out


def directives(text):
    return [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]


def test_the_script_says_what_each_job_gets(tmp_path, zoo, capsys):
    asked = [
        "--time",
        "08:00:00",
        "--partition",
        "gpu,long",
        "--gpus-per-run",
        "2",
        "--cpus-per-run",
        "8",
        "--jobs",
        "2",
    ]
    text = script(capsys, zoo("a", "b", "c"), tmp_path / "e", *asked)
    assert directives(text) == [
        "--job-name=zoo", "--array=0-2%2", "--ntasks=1", "--time=08:00:00", "--partition=gpu,long", "--gres=gpu:2",
        "--cpus-per-task=8", "--signal=B:USR1@120", "--requeue", "--open-mode=append", "--output=slurm-%x-%A_%a.out",
    ]  # fmt: skip
    assert f"checker watch {tmp_path / 'e'}" in text
    assert text.startswith("#!/bin/bash\n")
    assert not (tmp_path / "e").exists()


def test_without_wishes_the_cluster_decides(tmp_path, zoo, capsys):
    text = script(capsys, zoo("a"), tmp_path / "e")
    assert [line.partition("=")[0] for line in directives(text)] == [
        "--job-name", "--array", "--ntasks", "--signal", "--requeue", "--open-mode", "--output",
    ]  # fmt: skip
    assert "--array=0-0" in directives(text)


ODD = [
    "plain",
    "with space",
    "it's",
    'quo"te',
    "$(touch x)",
    "`id`",
    "back\\slash",
    "-dash",
    "ünï",
    "new\nline",
    "*",
    "#c",
]


def test_odd_names_stay_what_they_are(tmp_path, zoo, capsys, monkeypatch):
    folder = zoo("x").rename(tmp_path / "it's a $zoo")
    for path in folder.iterdir():
        path.unlink()
    for name in ODD:
        (folder / f"{name}.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    text = script(capsys, folder, tmp_path / "my 'experiments'", "--set", "name=it's; $(x)")
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False, stderr=subprocess.PIPE).stderr == ""
    # Everything up to the last line, which is shown instead of carried out.
    shown = text.replace("\nexec ", "\nprintf '%s\\0' ")
    specs = sorted(folder.glob("*.toml"))
    assert len(specs) == len(ODD)
    for index, spec in enumerate(specs):
        words = carried_out(shown, index).split("\0")[:-1]
        assert words == [
            sys.executable, "-m", "trainer", "sweep", str(spec), "--experiments", str(tmp_path / "my 'experiments'"),
            "--id", "it-s-a-zoo-77", "--set", "name=it's; $(x)",
        ]  # fmt: skip
    assert not (tmp_path / "x").exists()
    for known, said in ({}, "this is a script for sbatch"), (environment(12), "there is no spec of this index"):
        answer = subprocess.run(["bash"], input=shown, env=known, text=True, check=False, capture_output=True)
        assert (answer.returncode != 0, said in answer.stderr) == (True, True)


def environment(index, **more):
    return {
        **os.environ,
        "SLURM_ARRAY_TASK_ID": str(index),
        "SLURM_ARRAY_JOB_ID": "77",
        "SLURM_JOB_ID": "78",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        **more,
    }


def carried_out(text, index):
    return subprocess.run(
        ["bash"], input=text, text=True, check=True, capture_output=True, env=environment(index)
    ).stdout  # fmt: skip


def started(path, tmp_path):
    """The script as Slurm would start it, with a `scontrol` that only notes what it is asked."""
    tools = tmp_path / "bin"
    tools.mkdir(exist_ok=True)
    tool = tools / "scontrol"
    tool.write_text(f'#!/bin/sh\necho "$@" >> {shlex.quote(str(tmp_path / "asked"))}\n')
    tool.chmod(0o755)
    known = environment(1, PATH=f"{tools}{os.pathsep}{os.environ['PATH']}")
    return subprocess.Popen(
        ["bash", str(path)], env=known, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path
    )


@pytest.mark.slow
def test_a_job_of_the_array_is_cut_off_comes_again_and_ends(tmp_path, zoo, capsys, monkeypatch):
    """The time limit, the next start, and a stop by the checker, on a real run."""
    folder, experiments = zoo("a", "b"), tmp_path / "e"
    monkeypatch.chdir(ROOT)
    path = tmp_path / "job.sh"
    path.write_text(script(capsys, folder, experiments, "--set", "train.steps=1000000", "--set", "train.eval_every=0"))
    run = experiments / "exp-001"
    job = started(path, tmp_path)
    wait_until(lambda: steps(run) > 2)
    job.send_signal(signal.SIGUSR1)  # exec: this is the trainer by now, and Slurm signals it alone
    output, _ = job.communicate(timeout=60)
    assert (status(run)["state"], status(run)["kill"]["requested_by"]) == ("killed", "trainer sweep"), output
    assert (tmp_path / "asked").read_text() == "requeue 78\n"
    first, saved = status(run)["run_id"], steps(run)
    assert json.loads((run / contract.EXPERIMENT).read_text())["sweep"] == "zoo-77"

    job = started(path, tmp_path)
    wait_until(lambda: status(run)["run_id"] != first and steps(run) > saved)
    kill(run, "the checker says so")
    output, _ = job.communicate(timeout=60)
    assert (job.returncode, status(run)["state"]) == (0, "killed"), output

    job = started(path, tmp_path)  # requeued all the same: it stays stopped
    output, _ = job.communicate(timeout=60)
    assert job.returncode == 0
    assert "exp-001 was killed before" in output
    assert [one.name for one in experiments.glob("exp-*")] == ["exp-001"]
    assert (tmp_path / "asked").read_text() == "requeue 78\n"


def test_a_cancelled_job_stops_its_run_once_though_everybody_is_signalled(tmp_path, zoo, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    path, run = tmp_path / "job.sh", tmp_path / "e/exp-001"
    path.write_text(script(capsys, zoo("a", "b"), tmp_path / "e", *LONG))
    job = started(path, tmp_path)
    wait_until(lambda: steps(run) > 2)
    os.kill(status(run)["process"]["pid"], signal.SIGTERM)
    job.send_signal(signal.SIGTERM)
    output, _ = job.communicate(timeout=60)
    assert status(run)["state"] == "killed", output
    assert not (tmp_path / "asked").exists()
    assert (run / "checkpoints/last.pt").exists()


@pytest.mark.slow
def test_a_spec_alone_is_a_sweep_too(tmp_path, zoo):
    spec = zoo("a", "b") / "b.toml"
    place = ["--experiments", tmp_path / "e", "--set", "train.steps=3"]
    output, _ = program("trainer", "sweep", spec, *place).communicate(timeout=60)
    assert [line.split()[0] for line in output.splitlines()[-1:]] == ["b"]
    assert len(list(Path(tmp_path / "e").glob("exp-*"))) == 1
