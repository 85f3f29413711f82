import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from processes import program, wait_until

from trainer import launch as launching
from trainer.cli import main
from trainer.spec import SpecError

ROOT = Path(__file__).parents[2]
LONG = ["--set", "train.steps=1000000", "--set", "train.eval_every=0"]


def started(*arguments):
    return program("trainer", *arguments)


def steps_in(folder):
    path = folder / "metrics.jsonl"
    return path.read_text().count('"event":"step"') if path.exists() else 0


def losses(rows):
    return {row["step"]: row["metrics"]["train_loss"] for row in rows}


# ------------------------------------------------------------------------------------------------ without a process


def test_help_needs_no_torch():
    code = "import sys; sys.modules['torch'] = None\nfrom trainer.cli import main\nmain(['--help'])"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (answer.returncode, "sweep" in answer.stdout) == (0, True)


def test_without_torch_one_sentence_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert main(["run", "x.toml"]) == 2
    said = capsys.readouterr().err
    assert "pip install 'training-checker[trainer]'" in said
    assert "pip install '.[trainer]'" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.toml"], "there is no such file"),
        (["{toml}", "--set", "model.layrs=2"], "did you mean model.layers?"),
        (["{toml}", "--resume"], "--resume wants the folder of an experiment"),
        (["{here}"], "has no experiment.json"),
        (["{toml}", "--set", "device=cuda:77"], "CUDA devices"),
        (["{toml}", "--set", "model.context=100000"], "longer than the text"),
        (["{toml}", "--spec", "{here}/none.md"], "there is no such file"),
    ],
    ids=["missing", "unknown-key", "resume-a-spec", "no-experiment", "device", "context", "overlay"],
)
def test_what_cannot_be_started_is_explained_and_creates_nothing(tmp_path, small_toml, capsys, arguments, said):
    filled = [item.format(toml=small_toml, here=tmp_path) for item in arguments]
    assert main(["run", *filled, "--experiments", str(tmp_path / "e")]) == 2
    assert said in capsys.readouterr().err
    assert not list((tmp_path / "e").glob("exp-*"))


def test_a_place_where_nothing_can_be_created_is_named(tmp_path, small_toml, capsys):
    (tmp_path / "file").write_text("")
    assert main(["run", str(small_toml), "--experiments", str(tmp_path / "file")]) == 2
    assert "no experiment can be created there" in capsys.readouterr().err


def test_run_then_child_then_resume_of_a_complete_run(tmp_path, small_toml, capsys, read_status):
    root = ["--experiments", str(tmp_path)]
    assert main(["run", str(small_toml), *root]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("exp-001 -> ")
    assert last.startswith("exp-001 completed at step 12 of 12, best val_loss ")
    best = json.loads((tmp_path / "exp-001/result.json").read_text())["primary_metric"]["value"]
    assert last.endswith(f" {best:.6g}")
    assert main(["run", str(tmp_path / "exp-001"), "--set", "optimizer.lr=0.5", *root]) == 0
    child = json.loads((tmp_path / "exp-002/experiment.json").read_text())
    assert (child["parent"], child["config"]["optimizer"]["lr"]) == ("exp-001", 0.5)
    assert json.loads((tmp_path / "exp-002/result.json").read_text())["primary_metric"]["delta_vs_parent"] is not None
    before = read_status(tmp_path / "exp-001")["run_id"]
    capsys.readouterr()
    assert main(["run", str(tmp_path / "exp-001"), "--resume"]) == 0
    assert "nothing to resume" in capsys.readouterr().out
    assert read_status(tmp_path / "exp-001")["run_id"] == before
    assert main(["run", str(tmp_path / "exp-001"), "--resume", "--set", "seed=2"]) == 2


CHILD_NOTE = """## exp-001.1

- a lower rate
- Rationale: it rose at step 7

```toml
[optimizer]
lr = 0.25
```
"""


@pytest.mark.parametrize(
    ("arguments", "said", "words"),
    [
        (
            ["--spec", "{note}#exp-001.1"],
            "with next.md, section exp-001.1",
            ["exp-001.1", "a lower rate", "it rose at step 7"],
        ),
        (
            ["--spec", "{note}", "--set", "seed=5"],
            "with next.md, section exp-001.1, --set seed=5",
            ["exp-001.1", "a lower rate; seed = 5", "it rose at step 7"],
        ),
        (
            ["--set", "optimizer.lr=0.6"],
            "with --set optimizer.lr=0.6",
            ["optimizer.lr = 0.6", "exp-001 with optimizer.lr = 0.6", ""],
        ),
        (
            ["--set", "hypothesis=mine", "--set", "seed=2", "--set", "rehearsal.expect=crash"],
            "with --set hypothesis=mine",
            ["seed = 2, rehearsal.expect = crash", "mine", ""],
        ),
        ([], "with nothing changed", ["", "exp-001 once more, with nothing changed", ""]),
    ],
    ids=["section", "first-section", "setting", "own-words", "nothing"],
)
def test_a_child_has_words_of_its_own_and_lies_beside_its_parent(tmp_path, small_toml, capsys, arguments, said, words):
    small_toml.write_text(
        "name = 'old'\nhypothesis = 'old'\nrationale = 'old'\n"
        + small_toml.read_text()
        + "\n[rehearsal]\nexpect = 'x'\n"
    )
    assert main(["run", str(small_toml), "--experiments", str(tmp_path / "e")]) == 0
    note = tmp_path / "e/exp-001/next.md"
    note.write_text(CHILD_NOTE)
    capsys.readouterr()
    assert main(["run", str(tmp_path / "e/exp-001"), *(item.format(note=note) for item in arguments)]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("exp-001 is completed; training a new experiment, its child, ")
    assert said in first
    child = json.loads((tmp_path / "e/exp-002/experiment.json").read_text())
    assert [child["name"], child["hypothesis"], child["rationale"]] == words
    assert child["config"]["rehearsal"]["expect"] == ("crash" if "rehearsal.expect=crash" in arguments else None)


def test_the_section_taken_for_a_new_experiment_is_named(tmp_path, small_toml, capsys):
    (tmp_path / "next.md").write_text(CHILD_NOTE)
    arguments = ["--spec", str(tmp_path / "next.md"), "--experiments", str(tmp_path / "e")]
    assert main(["run", str(small_toml), *arguments]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "small.toml with next.md, section exp-001.1"


@pytest.mark.parametrize(("asked", "threads"), [(None, 1), ("2", 2)])
def test_a_small_model_takes_one_thread_unless_told_otherwise(tmp_path, small_toml, monkeypatch, asked, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    torch.set_num_threads(2)
    assert main(["run", str(small_toml), "--set", "device=cpu", "--experiments", str(tmp_path)]) == 0
    assert torch.get_num_threads() == threads


def test_a_pending_experiment_is_run_in_its_own_folder(tmp_path, small, read_status):
    options = small()
    folder = launching.mint(tmp_path, launching.record(tmp_path, options, launching.Run(options).legs))
    assert main(["run", str(folder), "--experiments", str(tmp_path)]) == 0
    assert read_status(folder)["state"] == "completed"
    assert not (tmp_path / "exp-002").exists()


def test_a_folder_that_is_being_trained_is_left_alone(tmp_path, small, capsys):
    options = small()
    folder = launching.mint(tmp_path, launching.record(tmp_path, options, launching.Run(options).legs))
    with launching.RunLog(folder):
        assert main(["run", str(folder), "--resume"]) == 2
    assert f"is being trained by process {os.getpid()}" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_passed_over_with_a_remark(tmp_path, small_toml, capsys, read_status):
    main(["run", str(small_toml), "--experiments", str(tmp_path)])
    folder = tmp_path / "exp-001"
    status = read_status(folder) | {"state": "failed"}
    (folder / "training_status.json").write_text(json.dumps(status))
    (folder / "checkpoints/step-00000012.pt").write_bytes(b"damaged")
    assert main(["run", str(folder), "--resume"]) == 0
    out = capsys.readouterr().out
    assert "step-00000012.pt: its SHA-256 is" in out
    assert "resumed at step 10: model, optimizer, schedule, data position, random numbers restored" in out
    for path in (folder / "checkpoints").glob("*.pt"):
        path.write_bytes(b"damaged")
    (folder / "training_status.json").write_text(json.dumps(status))
    assert main(["run", str(folder), "--resume"]) == 2
    assert "no sound checkpoint" in capsys.readouterr().err


def test_an_empty_sweep_is_explained(tmp_path, capsys):
    assert main(["sweep", str(tmp_path)]) == 2
    assert "there is no .toml file" in capsys.readouterr().err
    assert main(["sweep", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: there is no such folder" in capsys.readouterr().err


def test_every_spec_of_the_zoo_is_valid():
    specs = sorted((ROOT / "experiments/zoo").glob("*.toml"))
    assert len(specs) == 8
    for path in specs:
        loaded = launching.spec.load(path)
        assert loaded.name == path.stem
        assert loaded.hypothesis
        assert bool(loaded.rehearsal.expect) == (path.stem != "healthy")


def test_no_device_is_no_silent_change_of_device():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(SpecError):
        launching.launch(launching.Order(ROOT / "experiments/zoo/healthy.toml", ROOT, settings=["device=cuda"]))


# ------------------------------------------------------------------------------------------------- real processes


def kill_by_file(_process, folder):
    path = folder / "training_status.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"kill": "enough"}))


def kill_by_signal(process, _folder):
    process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("ask", "reason"), [(kill_by_file, "enough"), (kill_by_signal, "SIGTERM received")], ids=["file", "signal"]
)
def test_a_stopped_run_saves_itself_and_exits_with_3(tmp_path, small_toml, read_status, ask, reason):
    process = started("run", small_toml, "--experiments", tmp_path, *LONG)
    folder = tmp_path / "exp-001"
    wait_until(lambda: steps_in(folder) > 5)
    ask(process, folder)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 3, output
    status = read_status(folder)
    assert (status["state"], status["is_training"]) == ("killed", False)
    assert output.splitlines()[-1].endswith(reason)
    assert '"event":"training_end"' in (folder / "metrics.jsonl").read_text().splitlines()[-1]
    saved = torch.load(folder / "checkpoints/last.pt", weights_only=True)["step"]
    assert saved == status["step"] == status["ack"]["step"]


def test_a_run_killed_by_the_system_resumes_bit_for_bit(tmp_path, small_toml, read_rows, read_status):
    arguments = ["run", str(small_toml), "--experiments", str(tmp_path)]
    process = started(*arguments, "--set", "rehearsal.sigkill_at_step=7")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    folder = tmp_path / "exp-001"
    assert read_status(folder)["state"] == "running"
    assert main(["run", str(folder), "--resume"]) == 0
    assert main(arguments) == 0
    resumed = read_rows(folder, "step")
    assert losses(resumed) == losses(read_rows(tmp_path / "exp-002", "step"))
    assert len({row["run_id"] for row in resumed}) == 2
    steps = [row["step"] for row in resumed]
    assert steps[:6] == [*range(1, 7)]
    assert steps[6:] in ([*range(5, 13)], [*range(6, 13)])  # that of step 5 may have been on its way to the disk


def test_a_hanging_run_lives_on_tells_where_it_hangs_and_can_be_interrupted(tmp_path, small_toml, read_status):
    process = started("run", small_toml, "--experiments", tmp_path, "--set", "rehearsal.loader_hangs_at_step=4")
    folder = tmp_path / "exp-001"
    wait_until(lambda: steps_in(folder) == 3)
    wait_until(lambda: read_status(folder)["step"] == 3)
    before = read_status(folder)
    wait_until(lambda: read_status(folder)["heartbeat_at"] > before["heartbeat_at"])
    after = read_status(folder)
    assert (after["step"], after["progress_at"]) == (before["step"], before["progress_at"])
    process.send_signal(after["stack_signal"])
    wait_until(lambda: "before_batch" in (folder / "stacks.txt").read_text())
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM


def test_an_exception_is_exit_code_1(tmp_path, small_toml, read_status):
    code = "import sys; from trainer.run import Run; Run.examine = None; from trainer.cli import main; sys.exit(main())"
    answer = subprocess.run(
        [sys.executable, "-c", code, "run", str(small_toml), "--experiments", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.returncode == 1
    assert read_status(tmp_path / "exp-001")["error"].startswith("TypeError: 'NoneType' object is not callable")


def test_a_sweep_accounts_for_every_run(tmp_path, small_toml):
    zoo = tmp_path / "zoo"
    zoo.mkdir()
    text = small_toml.read_text()
    (zoo / "a-good.toml").write_text(text)
    (zoo / "b-dies.toml").write_text(text + "\n[rehearsal]\nsigkill_at_step = 3\n")
    process = started("sweep", zoo, "--jobs", 2, "--experiments", tmp_path / "e", "--set", "train.steps=5")
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 1
    table = [line.split() for line in output.splitlines()[-3:]]
    assert table[0] == ["spec", "experiment", "exit", "state", "seconds"]
    assert [(row[0], row[2], row[3]) for row in table[1:]] == [
        ("a-good", "0", "completed"),
        ("b-dies", "-9", "running"),
    ]


def test_a_sweep_passes_ctrl_c_on_once(tmp_path, small_toml, read_status):
    zoo = tmp_path / "zoo"
    zoo.mkdir()
    for name in ("a", "b"):
        (zoo / f"{name}.toml").write_text(small_toml.read_text())
    process = started("sweep", zoo, "--experiments", tmp_path / "e", *LONG)
    wait_until(lambda: steps_in(tmp_path / "e/exp-001") > 2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert read_status(tmp_path / "e/exp-001")["state"] == "killed"
    assert "not started" in output
    assert process.returncode == 1
