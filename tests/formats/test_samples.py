"""Logs of real libraries: what is in them, what the checker would have done, and how they are shown."""

import math
import shutil
from pathlib import Path

import pytest
from format_samples import SAMPLES, roles, verdict

from checker import places, replay, source
from checker.backtest import recorded
from checker.events import Row
from checker.formats.inspect import inspect

KEPT = Path(__file__).parent / "samples"

IDS = [sample.name.partition("/")[0] for sample in SAMPLES]


def rows_of(path):
    log = source.log_at(path)
    assert not log.rewritten()
    return [event for event in log.events() if isinstance(event, Row)]


@pytest.mark.parametrize("sample", SAMPLES, ids=IDS)
class TestEachSample:
    def test_is_understood_as_what_it_is(self, sample):
        understood = inspect(KEPT / sample.name)
        assert (understood.format, understood.bad, understood.unreadable) == (sample.format, 0, [])
        assert understood.rows == sample.rows or not sample.rows
        assert roles(understood) == sample.roles

    def test_is_a_run_folder_of_its_own(self, sample):
        assert places.is_run(KEPT / sample.name)
        assert places.foreign(KEPT / sample.name)
        assert list(places.folders(KEPT / sample.name)) == [KEPT / sample.name]

    def test_is_judged(self, sample):
        assert verdict(replay.read(KEPT / sample.name)) == sample.kill

    def test_has_rows_that_are_counted_from_0(self, sample):
        assert [row.index for row in rows_of(KEPT / sample.name)] == list(range(inspect(KEPT / sample.name).rows))


class TestWhatTheRowsSay:
    """The numbers, where the sample's own text can be read with the eye."""

    def test_lightning(self):
        rows = rows_of(KEPT / "lightning")
        assert rows[0].values == {"lr-Adam": 0.1}
        assert (rows[1].step, rows[1].epoch, rows[1].values) == (1, 0, {"train_loss_step": 5.822398662567139})
        assert rows[5].values == {"val_loss": 1.271836280822754}
        assert [row.step for row in rows if "late" in row.values][:2] == [13, 15]
        assert math.isnan(rows[-1].values["train_loss_epoch"])

    def test_keras_counts_epochs_from_0(self):
        rows = rows_of(KEPT / "keras")
        assert [row.epoch for row in rows] == list(range(8))
        assert all(row.step is None for row in rows)
        assert math.isnan(rows[6].values["loss"])

    def test_hugging_face_tells_the_planned_length_and_no_times(self):
        rows = rows_of(KEPT / "huggingface")
        assert (rows[0].step, rows[0].total_steps, rows[0].total_epochs) == (1, 24, 3)
        assert {row.at for row in rows} == {None}
        assert rows[8].values.keys() >= {"eval_loss"}

    def test_hugging_face_is_read_from_the_longest_of_those_that_are_equally_old(self):
        log = source.log_at(KEPT / "huggingface")
        assert log.files() == [KEPT / "huggingface/trainer_state.json"]

    def test_mmengine_counts_epochs_as_steps_in_rows_of_an_evaluation(self):
        rows = rows_of(KEPT / "mmengine")
        assert [row.step for row in rows][:6] == [2, 4, 6, 8, None, 10]
        assert rows[4].values["accuracy"] == 0.5

    def test_tensorboard_goes_on_in_a_second_file(self):
        rows = rows_of(KEPT / "tensorboard")
        assert [row.step for row in rows] == [step for step in range(30) for _ in range(2)]
        assert rows[0].values == {"Loss/train": 2.0}
        assert rows[0].at == pytest.approx(1795309333, abs=60)

    def test_tensorflow_writes_a_scalar_as_a_tensor(self):
        rows = rows_of(KEPT / "tensorboard-tensors")
        assert [(row.step, row.at) for row in rows[:2]] == [(0, 1.7e9), (1, 1.7e9 + 1)]
        assert rows[1].values["epoch_loss"] == pytest.approx(1.96)
        assert math.isnan(rows[-1].values["epoch_loss"])

    def test_wandb_tells_the_step_the_time_and_the_end(self):
        rows = rows_of(KEPT / "wandb")
        assert [row.step for row in rows[:-1]] == list(range(30))
        assert rows[3].values.keys() == {"train/loss", "lr", "nested/deep"}
        assert rows[-1].event == "training_end"

    @pytest.mark.parametrize("name", ["mlflow", SAMPLES[-1].name], ids=["files", "database"])
    def test_mlflow(self, name):
        rows = rows_of(KEPT / name)
        losses = [(row.step, row.values["train_loss"]) for row in rows if "train_loss" in row.values]
        assert [step for step, _ in losses] == list(range(30))
        assert losses[:2] == [(0, 2.0), (1, 1.96)]
        assert math.isnan(losses[-1][1])
        assert sum("deep/nested" in row.values for row in rows) == 30

    def test_an_agent_s_losses_need_not_fall_so_nobody_is_asked_which_is_the_train_loss(self):
        understood = inspect(KEPT / "stable-baselines3")
        assert understood.questions == []
        assert any("no train_loss" in text for text in understood.cannot_judge)

    def test_a_loss_whose_name_says_nothing_is_asked_for(self):
        (question,) = inspect(KEPT / "tensorboard-tensors").questions
        assert question.endswith('[columns] "epoch_loss" = "train_loss"')


KERAS = """\
  read from training.log
  8 rows, 0 unreadable lines
  known about this format: one row per epoch, and each value is the mean of its epoch

column         meaning        better            rows    first         last       lowest  highest  not finite
epoch          the epoch                           8        0            7            0        7           -
loss           train_loss     min                  8  6.52586          nan      6.46548  6.52586           2
val_loss       val_loss       min                  8  6.51337          nan        6.459  6.51337           2
learning_rate  learning_rate                       8   0.0009  0.000430467  0.000430467   0.0009           -
mae            not judged     min, by its name     8  2.06454          nan      2.05498  2.06454           2
val_mae        not judged     min, by its name     8  2.06254          nan      2.05389  2.06254           2

cannot judge: no grad_norm in the log: hidden_nan, gradient_explosion, vanishing_gradient
cannot judge: no timestamps in the log: stall, throughput
cannot judge: no planned length declared: a plateau or an early decay of the learning rate at its end
"""


def test_inspect_shows_a_log_in_one_table(call):
    code, out, err = call("inspect", KEPT / "keras")
    assert (code, err) == (0, "")
    head, *lines = [line.rstrip() for line in out.splitlines()]
    assert head == f"{KEPT / 'keras'}: keras (Keras CSVLogger)"
    assert "\n".join([*lines, ""]) == KERAS


def test_inspect_can_be_read_by_a_program(call):
    code, out, _ = call("inspect", KEPT / "lightning", "--json")
    assert code == 0
    assert '"column":"val_loss","meaning":"val_loss","direction":"min"' in out.replace(": ", ":").replace(", ", ",")


def test_formats_names_every_sample_s_format(call):
    code, out, _ = call("formats", "--json")
    assert code == 0
    assert all(f'"{sample.format}"' in out for sample in SAMPLES)


def test_a_backtest_of_all_samples(call):
    found = {str(path.relative_to(KEPT)) for path in recorded([KEPT])}
    assert found == {sample.name for sample in SAMPLES}
    code, out, _ = call("backtest", KEPT, "--jobs", 1)
    assert code == 0
    assert "10 of 14 runs would have been stopped" in out


def test_a_log_that_is_no_longer_whole_is_told(tmp_path, call):
    folder = shutil.copytree(KEPT / "wandb", tmp_path / "run")
    log = folder / "run-sample.wandb"
    log.write_bytes(log.read_bytes()[:5000])
    code, out, _ = call("replay", folder)
    assert code == 0
    assert "the file ends in an unfinished record" in out
