import importlib
import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from contract import Kill, State
from trainer import mirrors
from trainer.cli import main
from trainer.log import RunLog
from trainer.mirrors import follow, mirror, rows
from trainer.spec import SpecError

ROOT = Path(__file__).parents[2]
METRIC = {"name": "val_loss", "direction": "min"}
AT_ONCE = ["--set", "checkpoints.background=false"]  # when one written beside the run is done, no two runs agree
PATIENT = (  # a busy machine may take longer to load three dashboards than anybody is made to wait
    "import sys; from trainer.cli import main; from trainer.mirrors import following\n"
    "following.__wrapped__.__kwdefaults__['loading'] = 300.0\n"
    "sys.exit(main(sys.argv[1:]))"
)
ALL = 'mirrors=["tensorboard","mlflow","wandb"]'


class Fake:
    """A dashboard that keeps what it is told, and raises where it is asked to."""

    def __init__(self, failing="", error=None):
        self.failing, self.error = failing, error or OSError("the disk is full")
        self.about, self.rows, self.end = None, [], None
        self.seen = threading.Event()

    def __call__(self, about):
        self.about = about
        self.fail("open")
        return self

    def take(self, told):
        self.rows += told
        self.seen.set()
        self.fail("row")

    def close(self, end):
        self.fail("close")
        self.end = end

    def fail(self, where):
        if self.failing == where:
            raise self.error


def run(folder, fakes, body, *, patience=60.0, resume=False):
    """A run under mirrors; returns what was told of them."""
    told = []
    bounds = {"patience": patience, "loading": 0.0, "pace": 0.01}
    with (
        mirrors.following(folder, list(fakes), tell=told.append, opened=fakes.__getitem__, **bounds),
        RunLog(folder, metric=METRIC, config={"a": {"b": 1}}, hypothesis="it works", resume=resume) as log,
    ):
        body(log)
    return told


def three_steps(log):
    for step in (1, 2, 3):
        log.step(step, train_loss=1.0 / step, lr=0.1)
    log.evaluation(3, val_loss=0.5)
    log.note("a remark")


def plain(folder):
    """The rows of a run without what no two runs share."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in found:
        for key in ("timestamp", "run_id", "wall_time_seconds"):
            row.pop(key, None)
        row.get("config", {}).pop("mirrors", None)
    return found


# ------------------------------------------------------------------------------------------- where nothing is wanted


def test_off_by_default_there_is_no_thread_no_file_and_no_word(tmp_path, capfd):
    before = threading.active_count()
    with mirrors.following(tmp_path, (), tell=print):
        assert threading.active_count() == before
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_a_run_without_mirrors_loads_no_dashboard(tmp_path, small_toml):
    code = (
        "import sys; from trainer.cli import main; code = main(sys.argv[1:])\n"
        "sys.exit(code or bool({'tensorboard', 'mlflow', 'wandb'} & set(sys.modules)))"
    )
    order = [sys.executable, "-c", code, "run", str(small_toml), "--experiments", str(tmp_path / "e")]
    answer = subprocess.run(order, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert not list(tmp_path.rglob("mirrors"))


def test_a_run_that_writes_no_row_begins_no_mirror(tmp_path):
    fake, told = Fake(), []
    with mirrors.following(tmp_path, ["x"], tell=told.append, opened={"x": fake}.get, pace=0.01):
        pass
    assert (told, fake.about, list(tmp_path.iterdir())) == ([], None, [])


@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["run", "dry-run"])
def test_a_missing_library_is_said_before_anything_starts(tmp_path, small_toml, capsys, monkeypatch, more):
    monkeypatch.setattr(mirrors, "find_spec", lambda name: None if name == "wandb" else object())
    order = ["run", str(small_toml), "--experiments", str(tmp_path / "e"), "--set", 'mirrors=["mlflow","wandb"]', *more]
    assert main(order) == 2
    said = capsys.readouterr().err
    assert 'mirrors = ["wandb"]: wandb is not installed' in said
    assert "training-checker[mirrors]" in said
    assert "mlflow" not in said
    assert not (tmp_path / "e").exists()


def test_all_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(mirrors, "find_spec", lambda _name: None)
    with pytest.raises(SpecError, match="mlflow and sqlalchemy and alembic is not installed"):
        mirrors.check(["mlflow"])
    mirrors.check([])


# ---------------------------------------------------------------------------------------------- what a mirror is told


def test_a_mirror_is_told_everything_in_order_and_once(tmp_path):
    fake = Fake()
    assert run(tmp_path / "exp", {"x": fake}, three_steps) == []
    assert fake.about.experiment.config == {"a": {"b": 1}}
    assert fake.about.metric == "val_loss"
    assert [(row.event, row.step, dict(row.numbers), row.text) for row in fake.rows] == [
        ("step", 1, {"train_loss": 1.0, "learning_rate": 0.1}, ""),
        ("step", 2, {"train_loss": 0.5, "learning_rate": 0.1}, ""),
        ("step", 3, {"train_loss": 1 / 3, "learning_rate": 0.1}, ""),
        ("evaluation", 3, {"val_loss": 0.5}, ""),
        ("note", 3, {}, "a remark"),
    ]
    assert fake.end == mirror.End(state="completed", best=0.5)
    assert abs(fake.rows[0].at - time.time()) < 600


@pytest.mark.parametrize("size", [1, 100, 1 << 18])
def test_rows_larger_than_a_chunk_lose_nothing(tmp_path, monkeypatch, size):
    monkeypatch.setattr(follow, "_CHUNK", size)
    fake = Fake()
    assert run(tmp_path, {"x": fake}, lambda log: [log.step(step, train_loss=1.0) for step in range(50)]) == []
    assert [row.step for row in fake.rows] == list(range(50))


def test_numbers_that_are_none_arrive_as_they_are(tmp_path):
    fake = Fake()
    run(tmp_path, {"x": fake}, lambda log: log.step(1, train_loss=math.nan, grad_norm=math.inf, lr=-math.inf))
    found = fake.rows[0].numbers
    assert math.isnan(found["train_loss"])
    assert (found["grad_norm"], found["learning_rate"]) == (math.inf, -math.inf)


def test_only_this_attempt_is_mirrored_and_a_torn_row_of_the_last_one_is_not(tmp_path):
    first, second = Fake(), Fake()
    run(tmp_path, {"x": first}, three_steps)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"event":"step","step":4,"metr')
    assert run(tmp_path, {"x": second}, lambda log: log.step(4, train_loss=7.0), resume=True) == []
    assert [(row.step, row.numbers["train_loss"]) for row in second.rows] == [(4, 7.0)]


def test_a_row_counts_when_it_is_complete(tmp_path):
    fake, path = Fake(), tmp_path / "metrics.jsonl"
    with mirrors.following(tmp_path, ["x"], tell=pytest.fail, opened={"x": fake}.get, pace=0.001):
        (tmp_path / "experiment.json").write_text('{"id": "exp"}')
        path.write_text('{"step":1,"metrics":{"a":1}}\n{"step":2,"met')
        assert fake.seen.wait(60)
        assert [row.step for row in fake.rows] == [1]
        with path.open("a") as file:
            file.write('rics":{"a":2}}\n{"step":3')
    assert [row.step for row in fake.rows] == [1, 2]
    assert fake.end == mirror.End(state="failed", error="the run did not say how it ended")


@pytest.mark.parametrize(
    "line",
    [
        b"no row",
        b"[1]",
        b'{"event":"phase","step":1}',
        b'{"event":"checkpoint_saved","step":4,"metrics":{"val_loss":1}}',
        b'{"event":"training_end","metrics":{"train_loss":1},"text":"completed"}',
        b'{"event":"step","step":1,"metrics":null}',
        b'{"event":"evaluation","metrics":{"a":"good","b":true}}',
    ],
)
def test_what_says_nothing_new_is_not_told(line):
    assert list(rows.told([line])) == []


def test_a_row_without_time_or_step_is_told_all_the_same():
    told = rows.told([b'{"metrics":{"a":1,"b":"NaN"},"gpu_memory_mb":2.5,"step":true,"timestamp":"today"}'])
    (found,) = list(told)
    assert (found.at, found.event) == (0.0, "step")
    assert (found.numbers["a"], found.numbers["gpu_memory_mb"]) == (1.0, 2.5)


def test_a_killed_run_and_a_failed_one_say_so(tmp_path):
    killed, failed = Fake(), Fake()
    run(tmp_path / "k", {"x": killed}, lambda log: log.close(State.KILLED))

    def fails(log):
        log.step(1, val_loss=2.0)
        raise RuntimeError("no more memory")

    with pytest.raises(RuntimeError, match="no more memory"):
        run(tmp_path / "f", {"x": failed}, fails)
    assert killed.end == mirror.End(state="killed")
    assert (failed.end.state, failed.end.best) == ("failed", 2.0)
    assert "no more memory" in failed.end.error


# ------------------------------------------------------------------------------------------------ mirrors that fail


@pytest.mark.parametrize("error", [OSError("the disk\nis full"), SystemExit(3), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("where", ["open", "row", "close"])
def test_one_that_fails_is_dropped_with_a_sentence_and_the_others_go_on(tmp_path, where, error):
    bad, good = Fake(where, error), Fake()
    (told,) = run(tmp_path / "mirrored", {"bad": bad, "good": good}, three_steps)
    assert told.startswith(f"the mirror for bad was dropped, the run was not touched: {type(error).__name__}")
    assert "\n" not in told
    assert (len(good.rows), good.end.state) == (5, "completed")
    run(tmp_path / "plain", {}, three_steps)
    one, other = plain(tmp_path / "mirrored"), plain(tmp_path / "plain")
    assert [{**row, "experiment_id": ""} for row in one] == [{**row, "experiment_id": ""} for row in other]


@pytest.mark.parametrize("where", ["open", "take", "close"])
def test_one_that_hangs_for_ever_is_left_behind(tmp_path, monkeypatch, where):
    free, bad, good = threading.Event(), Fake(), Fake()

    def hang(*_arguments):
        free.wait()
        return bad

    if where != "open":
        monkeypatch.setattr(bad, where, hang)

    def body(log):
        three_steps(log)
        assert good.seen.wait(60)  # in spite of the other

    opened = {"bad": hang if where == "open" else bad, "good": good}
    began = time.monotonic()
    told = run(tmp_path, opened, body, patience=0.3)
    took = time.monotonic() - began
    free.set()
    assert told[0] == "the mirror for bad was left behind: it was not done 0.3 s after the run"
    assert took < 30


def test_one_that_was_left_behind_takes_nothing_more(tmp_path, monkeypatch):
    monkeypatch.setattr(follow, "_CHUNK", 1)
    free, bad = threading.Event(), Fake()
    monkeypatch.setattr(bad, "fail", lambda where: where == "row" and free.wait())
    run(tmp_path, {"bad": bad}, three_steps, patience=0.05)
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "mirror-bad")
    assert thread.daemon
    free.set()
    thread.join(60)
    assert (len(bad.rows), bad.end) == (1, None)


def test_a_short_run_waits_for_its_dashboard_to_load(tmp_path):
    slow, told = Fake(), []
    ready = threading.Timer(0.1, lambda: None)

    def opened(about):
        ready.start()
        ready.join()
        return slow(about)

    bounds = {"patience": 0.0, "loading": 60.0, "pace": 0.01}
    with (
        mirrors.following(tmp_path, ["x"], tell=told.append, opened={"x": opened}.get, **bounds),
        RunLog(tmp_path) as log,
    ):
        three_steps(log)
    assert (told, slow.end.state) == ([], "completed")


def test_a_whole_run_is_the_same_under_a_failing_mirror(tmp_path, small_toml, capsys, monkeypatch):
    monkeypatch.setattr(mirrors, "_WANTS", {"tensorboard": ()})
    monkeypatch.setattr(follow, "_opened", lambda _name: Fake("row"))
    orders = {"plain": [], "mirrored": ["--set", 'mirrors=["tensorboard"]']}
    for name, more in orders.items():
        assert main(["run", str(small_toml), "--experiments", str(tmp_path / name), *AT_ONCE, *more]) == 0
    assert "the mirror for tensorboard was dropped" in capsys.readouterr().out
    assert plain(tmp_path / "plain" / "exp-001") == plain(tmp_path / "mirrored" / "exp-001")


def test_a_name_from_an_earlier_attempt_is_taken_only_when_it_is_one(tmp_path):
    assert mirror.known_as(tmp_path, "wandb") is None
    mirror.remember(tmp_path, "wandb", "abc123")
    assert mirror.known_as(tmp_path, "wandb") == "abc123"
    for text in ("{}", '{"id": 3}', '{"id": "../../x"}', "half a fi"):
        (tmp_path / "mirrors" / "wandb.json").write_text(text)
        assert mirror.known_as(tmp_path, "wandb") is None


# ----------------------------------------------------------------------------- real dashboards, by their own readers


def a_run(log):
    log.regime_change("harder data")
    for step in range(1, 6):
        log.step(step, train_loss=math.nan if step == 2 else 1.0 / step, lr=0.1)
    log.evaluation(5, val_loss=0.25)


def one_more(log):
    """Goes on from a checkpoint of step 3: what came after it is done again."""
    for step in range(4, 9):
        log.step(step, train_loss=9.0 + step, lr=0.1)


def attempts(root, name):
    """Two attempts at one run, the first of which is killed."""
    folder = root / "exp-001"

    def killed(log):
        a_run(log)
        log.close(State.KILLED)

    for body, resume in ((killed, False), (one_more, True)):
        told = []
        with mirrors.following(folder, [name], tell=told.append, loading=300, pace=0.05):
            about = {"metric": METRIC, "config": {"a": {"b": 1}, "mirrors": [name]}, "hypothesis": "it works"}
            with RunLog(folder, resume=resume, tags=["t"], **about) as log:
                body(log)
        assert told == []
    return folder


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_what_was_written(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = attempts(tmp_path, "tensorboard")
    read = reader.EventAccumulator(str(folder / "mirrors" / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
    read.Reload()
    losses = {item.step: item.value for item in read.Scalars("train_loss")}
    # No step stands there twice: what the second attempt has made again takes the place of the first.
    assert list(losses) == list(range(1, 9))
    assert math.isnan(losses[2])
    assert (losses[3], losses[4]) == (pytest.approx(1 / 3), 13.0)
    assert abs(read.Scalars("learning_rate")[0].wall_time - time.time()) < 600
    assert [item.value for item in read.Scalars("best_val_loss")] == [0.25]
    tags = [tag for tag in read.Tags()["tensors"] if tag.endswith("text_summary")]
    texts = {tag: read.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in tags}
    assert texts["hypothesis/text_summary"] == "it works"
    assert "| a.b | 1 |" in texts["config/text_summary"]
    assert texts["regime_change/text_summary"] == "harder data"
    assert texts["end/text_summary"] == "completed, best val_loss 0.25"
    assert "_hparams_/session_start_info" in read.Tags()["tensors"]


def needs_mlflow():
    """MLflow's client, where all that it needs is there."""
    pytest.importorskip("sqlalchemy")
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    return pytest.importorskip("mlflow").MlflowClient


@pytest.mark.filterwarnings("ignore")
def test_mlflow_reads_what_was_written(tmp_path):
    client_of = needs_mlflow()
    folder = attempts(tmp_path / "experiments", "mlflow")
    client = client_of(tracking_uri=f"sqlite:///{folder.parent / 'mlflow.db'}")
    place = client.get_experiment_by_name("experiments")
    (found,) = client.search_runs([place.experiment_id])
    assert (found.info.run_name, found.info.status) == ("exp-001", "FINISHED")
    assert found.data.params["a.b"] == "1"
    history = client.get_metric_history(found.info.run_id, "train_loss")
    assert sorted({item.step for item in history}) == list(range(1, 9))
    assert [math.isnan(item.value) for item in history if item.step == 2] == [True]
    assert [item.value for item in history if item.step == 4] == [0.25, 13.0]  # MLflow forgets nothing
    assert found.data.metrics["best_val_loss"] == 0.25
    assert found.data.metrics["learning_rate"] == 0.1
    assert found.data.tags["state"] == "completed"
    assert found.data.tags["mlflow.note.content"].split("\n") == ["it works", "", "- harder data"]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["exp-001", "mlflow.db"]


@pytest.mark.filterwarnings("ignore")
def test_mlflow_begins_a_new_run_when_the_earlier_one_is_gone(tmp_path):
    client_of = needs_mlflow()
    folder = attempts(tmp_path, "mlflow")
    mirror.remember(folder, "mlflow", "0" * 32)
    record = mirror.Experiment(id="exp-001", created_at="", config={"weird @name": "x" * 9000})
    about = mirror.About(folder=folder, experiment=record)
    importlib.import_module("trainer.mirrors.mlflow").opened(about).close(mirror.End(state="failed", error="why\nnot"))
    name = mirror.known_as(folder, "mlflow")
    found = client_of(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}").get_run(name)
    assert name != "0" * 32
    assert found.info.status == "FAILED"
    assert found.data.tags["mlflow.note.content"].strip() == "- why not"
    assert set(found.data.params) == {"weird _name"}


def inspected(path):
    """The records of an offline run, by W&B's own reader."""
    order = [sys.executable, "-m", "wandb", "leet", "inspect", str(path), "--json"]
    quiet = {**os.environ, "WANDB_ERROR_REPORTING": "false"}
    answer = subprocess.run(order, env=quiet, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in answer.stdout.splitlines()]


@pytest.mark.filterwarnings("ignore")
def test_wandb_reads_what_was_written(tmp_path, capfd):
    pytest.importorskip("wandb")
    hooks = sys.exit, sys.excepthook
    folder = attempts(tmp_path / "experiments", "wandb")
    assert (sys.exit, sys.excepthook) == hooks
    assert capfd.readouterr() == ("", "")
    first, second = sorted(
        (folder / "mirrors" / "wandb" / "wandb").glob("offline-run-*/run-*.wandb"), key=os.path.getmtime
    )
    assert first.name == second.name  # one run to W&B
    found = inspected(first)
    (begin, *_) = [item["run"] for item in found if item["type"] == "run"]
    assert begin["project"] == "experiments"
    assert begin["display_name"] == "exp-001"
    assert begin["config"]["update"]["a"] == {"b": 1}
    points = [item["history"]["item"] for item in found if item["type"] == "history"]
    assert [point["_step"] for point in points] == [1, 2, 3, 4, 5]
    assert points[0]["train_loss"] == 1.0
    assert math.isnan(float(points[1]["train_loss"]))
    assert points[4]["val_loss"] == 0.25
    summary = {}
    for item in inspected(second):
        if item["type"] == "summary":
            summary |= item["summary"]["update"]
    assert (summary["state"], summary["best_val_loss"], summary["train_loss"]) == ("completed", 0.25, 17.0)
    notes = [item["run"]["notes"] for item in found if item["type"] == "run" and "notes" in item["run"]]
    assert notes[-1] == "it works\n- harder data"


@pytest.mark.filterwarnings("ignore")
def test_a_whole_run_with_all_three_is_the_run_without_them(tmp_path, small_toml):
    for name in ("tensorboard", "mlflow", "wandb"):
        pytest.importorskip(name)
    said = {}
    for name, more in {"plain": [], "mirrored": ["--set", ALL]}.items():
        place = tmp_path / name / "experiments"
        order = [sys.executable, "-c", PATIENT, "run", str(small_toml), "--experiments", str(place), *AT_ONCE, *more]
        answer = subprocess.run(order, cwd=ROOT, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stderr
        said[name] = (answer.stdout + answer.stderr).replace(str(place), "")
    assert said["plain"] == said["mirrored"]
    one, other = tmp_path / "plain" / "experiments", tmp_path / "mirrored" / "experiments"
    assert plain(one / "exp-001") == plain(other / "exp-001")
    more = {path.name for path in other.rglob("*")} - {path.name for path in one.rglob("*")}
    assert {"mlflow.db", "mirrors", "tensorboard", "wandb", "mlflow.json", "wandb.json"} <= more
    assert {path.name for path in (other / "exp-001").iterdir()} - {
        path.name for path in (one / "exp-001").iterdir()
    } == {"mirrors"}
    assert Kill.parse(json.loads((other / "exp-001" / "training_status.json").read_text()).get("kill")) is None
