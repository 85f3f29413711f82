"""Which of the files in a folder is its log: none, mostly."""

import os
import sqlite3
import time

import pytest
from event_files import VERSION, event

import contract
from checker import places, source
from checker.daemon import judge_once
from checker.formats import mlflow, text
from checker.formats.format import Reading
from checker.registry import catalog
from checker.tail import Tail
from checker.terms import Mode

TABLE = "step,loss\n1,2\n2,1\n"
LINES = "iter 1: loss 3.0\niter 2: loss 2.9\n"
STATE = '{"log_history": [{"step": 1, "loss": 2}]}'


def lay(folder, **files):
    """Writes files; `__` in a name is a folder, `_` a dot."""
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


@pytest.mark.parametrize("name", sorted(source.OWN))
def test_no_file_of_ours_is_another_program_s_log(tmp_path, name):
    for content in (TABLE, LINES, STATE, '{"step": 1, "loss": 2}\n'):
        (tmp_path / name).write_text(content)
        assert source.other(tmp_path) is None


def test_all_names_in_the_treaty_are_known():
    named = {value for name, value in vars(contract).items() if name.isupper() and isinstance(value, str)}
    files = {value for value in named if "." in value.strip(".") and not value.startswith(".") and " " not in value}
    assert {name for name in files if name.endswith(("json", "jsonl", "md", "log", "txt"))} <= source.OWN | {
        contract.OUTPUT
    }


NO_RUNS = {
    "nothing": {},
    "notes": {"notes_txt": "We had a loss of 3.\n"},
    "data": {"train_csv": "text,label\nhello,1\n", "test_csv": "text,label\nbye,0\n"},
    "a config": {"config_json": '{"lr": 0.1}', "requirements_txt": "torch==2.13\n"},
    "a hidden file": {"_hidden_csv": TABLE},
    "an empty log": {"train_log": ""},
}


@pytest.mark.parametrize("files", NO_RUNS.values(), ids=NO_RUNS.keys())
def test_a_folder_without_a_log_is_no_run(tmp_path, files):
    lay(tmp_path, **files)
    assert not places.is_run(tmp_path)
    assert places.undecided(tmp_path) == ""


def test_several_files_that_might_each_be_the_log_are_told_and_not_judged(tmp_path):
    folder = lay(tmp_path / "run", one_csv=TABLE, two_csv=TABLE)
    assert not places.is_run(folder)
    with pytest.raises(source.Ambiguous, match=r"one\.csv, two\.csv might each be the log"):
        source.log_at(folder)
    runs, notices = judge_once(tmp_path, mode=Mode.JUDGE, on_change=lambda _: None)
    assert runs == []
    (notice,) = notices
    assert notice.run == "run"
    assert "might each be the log" in notice.text


def test_files_beside_the_folders_of_runs_are_no_run_above_them(tmp_path):
    lay(tmp_path, printed_txt=LINES, run__metrics_csv="epoch,step,loss\n0,1,2\n")
    assert list(places.folders(tmp_path)) == [tmp_path / "run"]


@pytest.mark.parametrize("name", ["logs", "tmp", "files", "metrics"])
def test_a_folder_of_a_common_name_may_be_a_run(tmp_path, name):
    folder = lay(tmp_path / name, progress_csv="time/total_timesteps,rollout/ep_rew_mean\n1,2\n")
    assert places.is_run(folder)
    lay(tmp_path, metrics_csv="epoch,step,loss\n0,1,2\n")
    assert not places.is_run(folder)


def test_our_own_log_comes_first(tmp_path):
    lay(tmp_path, metrics_csv="epoch,step,loss\n0,1,2\n")
    assert source.log_of(tmp_path).format.name == "lightning"
    (tmp_path / contract.METRICS).touch()
    assert isinstance(source.log_of(tmp_path), Tail)


def test_a_folder_full_of_data_is_no_run_and_costs_little(tmp_path):
    for number in range(3000):
        (tmp_path / f"{number}.csv").write_text(TABLE)
        (tmp_path / f"{number}.txt").write_text(LINES)
    opened, head_of = [], source.head_of
    source._fits.cache_clear()
    try:
        source.head_of = lambda path: opened.append(path) or head_of(path)
        began = time.process_time()
        assert not places.is_run(tmp_path)
        assert places.undecided(tmp_path) == ""
    finally:
        source.head_of = head_of
    assert opened == []
    assert time.process_time() - began < 2


def test_a_log_of_a_known_name_is_found_among_any_number_of_files(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "MOST_NAMES", 5)
    for number in range(50):
        (tmp_path / f"{number}.png").touch()
    lay(tmp_path, metrics_csv="epoch,step,loss\n0,1,2\n")
    assert source.other(tmp_path).format.name == "lightning"


def test_a_file_is_asked_once_what_it_is(tmp_path, monkeypatch):
    lay(tmp_path, notes_txt="nothing\n")
    head_of, asked = source.head_of, []
    source._fits.cache_clear()
    monkeypatch.setattr(source, "head_of", lambda path: asked.append(path) or head_of(path))
    assert source.other(tmp_path) is None
    first = len(asked)
    assert source.other(tmp_path) is None
    assert len(asked) == first
    (tmp_path / "notes.txt").write_text(LINES)
    assert source.other(tmp_path).format is text.FORMAT


def test_a_log_that_only_a_pattern_of_a_person_makes_one(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "_TAUGHT", {})
    lay(tmp_path, out_log="it 1: crit=0.5\nit 2: crit=0.4\n")
    assert not places.is_run(tmp_path)
    text.teach({"mine": r"it (?P<step>\d+): crit=(?P<train_loss>\S+)"})
    assert places.is_run(tmp_path)
    reading = Reading(patterns=dict(text._TAUGHT))
    log = source.log_at(tmp_path, reading)
    log.rewritten()
    assert [row.values["train_loss"] for row in log.events()] == [0.5, 0.4]


def test_the_latest_of_the_states_of_checkpoints_is_read(tmp_path):
    lay(tmp_path, **{"checkpoint-8__trainer.state_json": STATE})
    for step, age in ((8, 100), (16, 50), (4, 0)):
        path = tmp_path / f"checkpoint-{step}/trainer_state.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(STATE + " " * step)
        os.utime(path, (time.time() - age, time.time() - age))
    assert source.other(tmp_path).files == (tmp_path / "checkpoint-4/trainer_state.json",)


def test_event_files_are_one_log(tmp_path):
    for number in (1, 2):
        (tmp_path / f"events.out.tfevents.{number}.host").write_bytes(VERSION + event(number, loss=1.0))
    assert len(source.other(tmp_path).files) == 2


# ----------------------------------------------------------------------------------------------------------- MLflow


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE runs (run_uuid, start_time)")
        connection.execute("CREATE TABLE metrics (run_uuid, key, value, timestamp, step, is_nan)")
        for run in ("a" * 32, "b" * 32):
            connection.execute("INSERT INTO runs VALUES (?, 1)", (run,))
            rows = [
                (run, "loss", 1.0, 1, 1, 0),
                (run, "loss", 0.0, 2, 2, 1),
                (run, "loss", 1.7976931348623157e308, 3, 3, 0),
            ]
            connection.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", rows)
    connection.close()
    return path


def test_a_run_in_a_database_is_its_folder(database):
    folder = database.parent / "mlruns/1" / ("a" * 32)
    folder.mkdir(parents=True)
    assert places.is_run(folder)
    log = source.log_at(folder)
    log.rewritten()
    assert [str(row.values["loss"]) for row in log.events()] == ["1.0", "nan", "inf"]


def test_a_database_of_several_runs_is_asked_about(database):
    with pytest.raises(ValueError, match="holds 2 runs"):
        source.log_at(database)


def test_a_database_that_is_locked_does_not_hold_anybody_up(database):
    folder = database.parent / "mlruns/1" / ("a" * 32)
    folder.mkdir(parents=True)
    log = source.log_at(folder)
    writer = sqlite3.connect(database, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    log.rewritten()
    assert list(log.events()) == []
    assert time.monotonic() - began < 1
    writer.execute("COMMIT")
    writer.close()
    log.rewritten()
    assert len(list(log.events())) == 3


def test_metrics_in_files_may_have_names_with_folders(tmp_path):
    run = tmp_path / "run"
    for name in ("loss", "val/loss", "a/b/c", "metrics/x"):
        path = run / "metrics" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1700000000000 0.5 3\n")
    (run / "meta.yaml").touch()
    log = source.log_at(run)
    log.rewritten()
    (row,) = log.events()
    assert row.values.keys() == {"loss", "val/loss", "a/b/c", "metrics/x"}
    assert (row.step, row.at) == (3, 1.7e9)


def test_a_line_of_a_metric_that_is_none_is_told(tmp_path):
    lay(tmp_path, metrics__loss="1700000000000 0.5 3\nnonsense\n1700000001000 0.4 4\n")
    log = source.log_at(tmp_path)
    log.rewritten()
    bad, *rows = log.events()
    assert bad.reason.startswith("metrics/loss: not a time, a value and a step")
    assert len(rows) == 2
    assert mlflow.SETTLED_SECONDS < 5


@pytest.mark.parametrize(
    ("others", "read"), [({}, "output.log"), ({"train.log": "iter 1: loss 2.0\niter 2: loss 1.9\n"}, "train.log")],
    ids=["alone", "beside a log"],
)  # fmt: skip
def test_what_a_program_has_printed_is_its_log_where_there_is_no_other(tmp_path, others, read):
    (tmp_path / "output.log").write_text("iter 1: loss 3.0\niter 2: loss 2.9\n")
    for name, lines in others.items():
        (tmp_path / name).write_text(lines)
    assert [path.name for path in source.other(tmp_path).files] == [read]


def test_the_list_says_that_nobody_knows_how_such_a_run_ended(tmp_path):
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "metrics.csv").write_text("epoch,step,train_loss\n0,1,2.0\n0,2,1.9\n")
    assert [(entry.id, entry.status) for entry in catalog.entries(tmp_path)] == [("exp", "unknown")]
