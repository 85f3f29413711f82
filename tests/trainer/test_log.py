import errno
import json
import math
import os
import subprocess
import sys

import pytest
import torch

from contract import Appender, Event, State, StatusBusy
from trainer.log import RunLog
from trainer.measures import Best, as_number, direction_of

UPSTREAM_KEYS = {
    "experiment_id", "experiment_name", "epoch", "total_epochs", "metrics", "best_metrics", "learning_rate",
    "wall_time_seconds", "gpu_memory_mb", "is_training", "checkpoints", "metrics_history", "config",
}  # fmt: skip
OUR_KEYS = {
    "v", "run_id", "state", "step", "total_steps", "phase", "phase_since", "started_at", "heartbeat_at", "progress_at",
    "process", "stack_signal", "error", "notes", "ack", "kill",
}  # fmt: skip


def test_three_lines_make_a_run_folder(tmp_path, read_rows, read_status):
    with RunLog(tmp_path / "run", total_steps=2, config={"lr": 0.1}) as log:
        for step in (1, 2):
            log.step(step, loss=1.0 / step, lr=0.1, epoch=0)
            assert log.should_stop() is None
    rows = read_rows(log.folder)
    assert [row["event"] for row in rows] == ["training_start", "phase", "step", "step", "training_end"]
    assert rows[0]["config"] == {"lr": 0.1}
    assert rows[3] | {"timestamp": "", "wall_time_seconds": 0} == {
        "v": 1, "event": "step", "experiment_id": "run", "run_id": log.run_id, "epoch": 0, "phase": "train",
        "timestamp": "", "step": 2, "learning_rate": 0.1, "wall_time_seconds": 0, "metrics": {"loss": 0.5},
    }  # fmt: skip
    assert rows[-1]["metrics"] == {"loss": 0.5}
    status = read_status(log.folder)
    assert set(status) == UPSTREAM_KEYS | OUR_KEYS
    assert (status["state"], status["is_training"], status["step"]) == ("completed", False, 2)
    assert status["best_metrics"] == {"loss": 0.5}
    assert json.loads((log.folder / "experiment.json").read_text())["total_steps"] == 2


def test_logging_needs_the_standard_library_only():
    code = "import sys; from trainer.log import RunLog; from trainer.cli import main; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("value", "written"),
    [(1.5, 1.5), (3, 3), (True, 1), (torch.tensor(0.5), 0.5), (math.nan, "NaN"), (-math.inf, "-Infinity")],
    ids=["float", "int", "bool", "tensor", "nan", "-inf"],
)
def test_values_of_every_kind_become_legal_json(tmp_path, read_rows, value, written):
    with RunLog(tmp_path) as log:
        log.step(1, loss=value, absent=None)
    assert read_rows(tmp_path, "step")[0]["metrics"] == {"loss": written}


def test_a_name_with_quotes_and_lines_stays_one_legal_line(tmp_path, read_rows):
    with RunLog(tmp_path) as log:
        log.step(1, **{'a"b\n': 1.0})
    assert read_rows(tmp_path, "step")[0]["metrics"] == {'a"b\n': 1.0}


def test_a_metric_that_is_no_number_is_named():
    with pytest.raises(TypeError, match="metric 'loss' is 'low'"):
        as_number("loss", "low")


def test_a_program_may_say_that_it_goes_on_without_a_row(tmp_path, read_rows):
    with RunLog(tmp_path) as log, log.phase("evaluate"):
        before = read_rows(tmp_path), log._own()["progress_at"]
        log.progress()
        after = read_rows(tmp_path), log._own()["progress_at"]
    assert after[0] == before[0]
    assert after[1] > before[1]


def test_an_argument_that_does_not_exist_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(TypeError, match="did you mean 'total_steps'"):
        RunLog(tmp_path, totl_steps=3)


@pytest.mark.parametrize(
    ("name", "declared", "values", "best"),
    [
        ("val_loss", {}, [math.nan, 2.0, 1.0, math.nan, 3.0], 1.0),
        ("val_loss", {}, [-math.inf, 2.0], 2.0),
        ("accuracy", {}, [0.1, 0.5, 0.3], 0.5),
        ("mae", {}, [0.5, 0.3, 0.4], 0.3),
        ("perplexity", {}, [9.0, 5.0, 7.0], 5.0),
        ("score", {"score": "max"}, [1.0, 3.0, 2.0], 3.0),
        ("val_loss", {"val_loss": "max"}, [1.0, 3.0, 2.0], 3.0),
        ("score", {}, [1.0, 2.0], None),
        ("grad_norm", {}, [1.0, 2.0], None),
    ],
    ids=["nan-never", "inf-never", "max", "mae-min", "ppl-min", "declared", "declared-outranks", "unknown", "norm"],
)
def test_best(name, declared, values, best):
    seen = Best(declared)
    for value in values:
        seen.see(name, value)
    assert seen.values.get(name) == best


@pytest.mark.parametrize(("name", "direction"), [("train/loss", "min"), ("glossary", None), ("val-acc", "max")])
def test_direction_is_read_by_words(name, direction):
    assert direction_of(name) == direction


def test_a_torn_line_does_not_eat_the_next_row(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"event":"step","ste')
    with RunLog(tmp_path) as log:
        log.step(1, loss=1.0)
    lines = (tmp_path / "metrics.jsonl").read_bytes().splitlines()
    assert lines[0] == b'{"event":"step","ste'
    assert [json.loads(line)["event"] for line in lines[1:3]] == ["training_start", "phase"]


def test_phases_checkpoints_and_history_reach_the_status(tmp_path, read_rows, read_status):
    with RunLog(tmp_path, metric={"name": "val_loss", "direction": "min"}) as log:
        for step in range(1, 41):
            log.step(step, loss=1.0)
            with log.phase("evaluate"):
                assert log._own()["phase"] == "evaluate"
            log.evaluation(step, val_loss=1.0 / step)
            log.checkpoint_saved(tmp_path / "checkpoints" / f"{step}.pt", step=step)
    status = read_status(tmp_path)
    assert len(status["metrics_history"]) == 30
    assert status["metrics_history"][-1] == {"epoch": None, "step": 40, "val_loss": 1 / 40}
    assert [item["path"] for item in status["checkpoints"]] == [f"checkpoints/{n}.pt" for n in range(36, 41)]
    assert {row["phase"] for row in read_rows(tmp_path, "phase")} == {"train", "evaluate"}


def test_a_fold_is_a_row_progress_and_history_but_no_best_value(tmp_path, read_rows, read_status):
    with RunLog(tmp_path, metric={"name": "val_loss", "direction": "min"}) as log:
        began = log._progress_at
        for fold, loss in enumerate([0.5, 0.1, math.nan]):
            log.fold_end(fold, 3, step=fold + 1, val_loss=loss, absent=None)
        assert log._progress_at > began
        log.evaluation(3, val_loss=0.3)
    rows = read_rows(tmp_path, "fold_end")
    assert [(row["fold"], row["folds"], row["step"]) for row in rows] == [(0, 3, 1), (1, 3, 2), (2, 3, 3)]
    assert [row["metrics"] for row in rows] == [{"val_loss": 0.5}, {"val_loss": 0.1}, {"val_loss": "NaN"}]
    status = read_status(tmp_path)
    assert status["metrics_history"][1] == {"epoch": None, "step": 2, "fold": 1, "folds": 3, "val_loss": 0.1}
    assert status["best_metrics"] == {"val_loss": 0.3}  # the mean, not the luckiest fold


def test_between_folds_something_is_fitted_until_a_step_comes(tmp_path, read_rows):
    with RunLog(tmp_path) as log:
        log.fold_end(0, 3, val_loss=0.5)
        log.fold_end(1, 3, val_loss=0.5)
        assert log._phase == "fit"
        log.step(1, loss=1.0)
        assert log._phase == "train"
        log.fold_end(2, 3, val_loss=0.5)
    assert [row["phase"] for row in read_rows(tmp_path, "phase")] == ["fit", "train", "fit"]


def test_resume_carries_the_best_on_and_takes_a_new_run_id(tmp_path, read_status):
    with RunLog(tmp_path) as first:
        first.evaluation(1, val_loss=0.5)
    with RunLog(tmp_path, resume=True) as second:
        second.evaluation(2, val_loss=0.9)
    assert first.run_id != second.run_id
    assert read_status(tmp_path)["best_metrics"] == {"val_loss": 0.5}
    assert [item["step"] for item in read_status(tmp_path)["metrics_history"]] == [1, 2]


def test_keys_of_strangers_survive(tmp_path, read_status):
    with RunLog(tmp_path) as log:
        document = read_status(tmp_path) | {"remark": "mine"}
        (tmp_path / "training_status.json").write_text(json.dumps(document))
        log.step(1, loss=1.0)
    assert read_status(tmp_path)["remark"] == "mine"


@pytest.mark.parametrize(
    ("error", "state", "text"),
    [
        (ValueError("bad batch"), "failed", "ValueError: bad batch"),
        (SystemExit(2), "failed", "SystemExit: 2"),
        (SystemExit(0), "completed", None),
        (SystemExit(3), "killed", None),
        (KeyboardInterrupt(), "killed", "KeyboardInterrupt"),
    ],
    ids=["exception", "exit-2", "exit-0", "exit-3", "interrupt"],
)
def test_what_leaves_the_block_becomes_the_state(tmp_path, read_status, error, state, text):
    with pytest.raises(type(error)), RunLog(tmp_path):
        raise error
    status = read_status(tmp_path)
    assert status["state"] == state
    assert status["error"] == text if text is None else text in status["error"]


def test_other_ranks_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with RunLog(tmp_path / "run", total_steps=3) as log:
        log.step(1, loss=1.0)
        log.evaluation(1, val_loss=1.0)
        log.fold_end(0, 5, val_loss=1.0)
        log.progress()
        with log.phase("evaluate"):
            assert log.should_stop() is None
    assert not (tmp_path / "run").exists()


def test_a_full_disk_costs_rows_but_not_the_run(tmp_path, monkeypatch, read_status):
    def full(*_args, **_named):
        raise OSError(errno.ENOSPC, "No space left on device")

    with RunLog(tmp_path) as log:
        with monkeypatch.context() as patch:
            patch.setattr(Appender, "append_encoded", full)
            log.step(1, loss=1.0)
            patch.setattr(log._status.file, "edit", full)
            log._status.write(0)
        log.step(2, loss=1.0)
    notes = read_status(tmp_path)["notes"]
    assert any("status writes failed" in note for note in notes)
    assert any("could not be written" in note for note in notes)


def test_the_last_word_waits_while_somebody_saves(tmp_path, monkeypatch, read_status):
    log = RunLog(tmp_path)
    edit, refusals = log._status.file.edit, iter([True] * 3)

    def busy(change):
        if next(refusals, False):
            raise StatusBusy(errno.EBUSY, "half-saved")
        return edit(change)

    monkeypatch.setattr(log._status.file, "edit", busy)
    log.close(State.FAILED, "why")
    assert (read_status(tmp_path)["state"], read_status(tmp_path)["error"]) == ("failed", "why")


def test_every_event_of_the_treaty_can_be_written(tmp_path, read_rows):
    with RunLog(tmp_path) as log:
        log.step(1, loss=1.0)
        log.epoch_end(0, train_loss_epoch=1.0)
        log.fold_end(0, 5, val_loss=1.0)
        log.evaluation(1, val_loss=1.0)
        log.checkpoint_saved("a.pt")
        log.regime_change("harder examples from here on")
        log.note("a remark")
    assert {row["event"] for row in read_rows(tmp_path)} == set(Event)


def test_the_status_names_this_process_and_its_stack_signal(tmp_path, read_status):
    with RunLog(tmp_path):
        status = read_status(tmp_path)
        assert status["process"]["pid"] == os.getpid()
        if status["stack_signal"]:
            os.kill(os.getpid(), status["stack_signal"])
            assert "test_the_status_names_this_process" in (tmp_path / "stacks.txt").read_text()


def test_under_trainer_exec_the_run_has_its_id_in_its_own_folder_only(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAINER_SPEC", str(tmp_path / "here/spec.json"))
    monkeypatch.setenv("TRAINER_RUN_ID", "given")
    with RunLog(tmp_path / "here") as here, RunLog(tmp_path / "there") as there:
        assert (here.run_id, there.run_id == "given") == ("given", False)


def test_a_request_made_before_the_program_had_a_log_still_stands(tmp_path, monkeypatch, read_status):
    monkeypatch.setenv("TRAINER_SPEC", str(tmp_path / "spec.json"))
    monkeypatch.setenv("TRAINER_RUN_ID", "given")
    request = {"id": "k", "reason": "enough", "run_id": "given"}
    (tmp_path / "training_status.json").write_text(
        json.dumps({"state": "running", "run_id": "given", "kill": request, "ack": None})
    )
    with RunLog(tmp_path) as log:
        assert log.should_stop(0).reason == "enough"
    assert (read_status(tmp_path)["state"], read_status(tmp_path)["notes"]) == (
        "killed",
        ["asked to stop by person: enough"],
    )


def loss_of(folder, *losses, **about):
    with RunLog(folder, **about) as log:
        for step, loss in enumerate(losses, 1):
            log.step(step, loss=loss)
    return folder / "result.json"


LOSS = {"name": "loss", "direction": "min"}


def test_a_run_without_a_declared_metric_has_no_result(tmp_path):
    assert not loss_of(tmp_path / "r", 2.0, 1.0).exists()


@pytest.mark.parametrize(
    ("losses", "value", "tier"),
    [([2.0, 0.5, 1.0], 0.5, "must_pass"), ([2.0], 2.0, "fail"), ([math.nan], "NaN", "fail"), ([], None, "fail")],
    ids=["the best", "not good enough", "NaN", "never measured"],
)
def test_a_run_with_a_declared_metric_ends_with_a_result(tmp_path, losses, value, tier):
    path = loss_of(tmp_path / "r", *losses, metric=LOSS, tiers={"must_pass": 1.0})
    found = json.loads(path.read_text())
    assert (found["primary_metric"]["value"], found["oracle_tier"]) == (value, tier)
    assert found["run_id"] == json.loads((tmp_path / "r/training_status.json").read_text())["run_id"]
    assert path.with_name("result.md").exists()


@pytest.mark.parametrize("own", ['{"value": 3}', "{torn"], ids=["a result", "a damaged one"])
def test_a_result_that_the_program_wrote_is_left_alone(tmp_path, own):
    (tmp_path / "r").mkdir()
    (tmp_path / "r/result.json").write_text(own)
    assert loss_of(tmp_path / "r", 1.0, metric=LOSS).read_text() == own


def test_the_result_of_an_earlier_run_is_replaced(tmp_path):
    loss_of(tmp_path / "r", 1.0, metric=LOSS)
    assert json.loads(loss_of(tmp_path / "r", 3.0).read_text())["primary_metric"]["value"] == 3.0


def test_a_stopped_run_has_no_result(tmp_path):
    with RunLog(tmp_path / "r", metric=LOSS) as log:
        log.step(1, loss=1.0)
        log.close(State.KILLED)
    assert not (tmp_path / "r/result.json").exists()


@pytest.mark.parametrize(
    "odd",
    [{"tiers": []}, {"tiers": {"must_pass": "soon"}}, {"parent": 5}, {"parent": "a\0b"}, {"budget": [5]}],
    ids=repr,
)
def test_an_odd_record_costs_the_result_and_never_the_last_row(tmp_path, odd, read_rows, read_status):
    folder = tmp_path / "r"
    folder.mkdir()
    (folder / "experiment.json").write_text(json.dumps({"id": "r", "metric": LOSS, **odd}))
    assert not loss_of(folder, 1.0).exists()
    assert read_rows(folder)[-1]["event"] == "training_end"
    assert read_status(folder)["state"] == "completed"
    assert any(note.startswith("no result.json was written: ") for note in read_status(folder)["notes"])


def test_a_result_that_is_a_pipe_is_not_waited_for(tmp_path, read_status):
    (tmp_path / "r").mkdir()
    os.mkfifo(tmp_path / "r/result.json")
    loss_of(tmp_path / "r", 1.0, metric=LOSS)
    assert read_status(tmp_path / "r")["state"] == "completed"
