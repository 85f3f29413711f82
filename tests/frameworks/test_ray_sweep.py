"""Sweeps on a real Ray, on this machine, with real experiments."""

import json
import os
import signal
import sys
import threading

import pytest
from processes import program, wait_until

from trainer.cli import main

ray = pytest.importorskip("ray")

SMALL = """
[model]
layers = 1
heads = 2
width = 16
context = 16

[data]
max_bytes = 4000
val_bytes = 500

[train]
steps = 6
batch_size = 4
eval_every = 0
checkpoint_every = 0
"""
ENDLESS = SMALL.replace("steps = 6", "steps = 1000000")

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.skipif(sys.platform == "win32", reason="Ray on POSIX")]


@pytest.fixture(scope="module")
def cluster():
    """Two processors, and nothing told to anybody."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)}
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield
        ray.shutdown()
        for signum, handler in before.items():  # Ray leaves one of its own behind, which ends the process
            signal.signal(signum, handler)


@pytest.fixture
def specs(tmp_path):
    def write(**texts):
        folder = tmp_path / "specs"
        folder.mkdir(exist_ok=True)
        for name, text in texts.items():
            (folder / f"{name}.toml").write_text(text)
        return folder

    return write


def status(folder):
    path = folder / "training_status.json"
    return json.loads(path.read_text()) if path.exists() else {}


def step(folder):
    return status(folder).get("step") or 0


def rows_of(text):
    lines = text.splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("spec "))
    return {row.split()[0]: row.split()[1:] for row in lines[head + 1 :] if len(row.split()) == 5}


def sweep(folder, experiments, *more):
    return main(["sweep", str(folder), "--experiments", str(experiments), "--ray", *more])


@pytest.mark.usefixtures("cluster")
def test_every_spec_is_a_task_and_a_dead_run_takes_nobody_with_it(tmp_path, specs, capfd):
    dies = SMALL + "\n[rehearsal]\nsigkill_at_step = 3\n"
    assert sweep(specs(a=SMALL, b=dies, c=SMALL), tmp_path / "e", "--id", "s1") == 1
    rows = rows_of(capfd.readouterr().out)
    assert [(name, row[1], row[2]) for name, row in rows.items()] == [
        ("a", "0", "completed"),
        ("b", "-9", "running"),
        ("c", "0", "completed"),
    ]
    record = json.loads((tmp_path / "e" / rows["a"][0] / "experiment.json").read_text())
    assert record["sweep"] == "s1"
    # The same sweep once more: what is complete stays so, what was cut off goes on, and without its staged fault ends.
    assert sweep(tmp_path / "specs", tmp_path / "e", "--id", "s1") == 0
    again = rows_of(capfd.readouterr().out)
    assert [row[:3] for row in again.values()] == [[row[0], "0", "completed"] for row in rows.values()]


@pytest.mark.usefixtures("cluster")
def test_a_run_is_killed_through_its_status_file_and_not_tried_again(tmp_path, specs, capfd):
    def kill():
        folder = tmp_path / "e/exp-001"
        wait_until(lambda: step(folder) > 2)
        path = folder / "training_status.json"
        path.write_text(json.dumps(status(folder) | {"kill": "enough"}))

    thread = threading.Thread(target=kill)
    thread.start()
    assert sweep(specs(a=ENDLESS), tmp_path / "e", "--id", "s2") == 0
    thread.join()
    assert rows_of(capfd.readouterr().out)["a"][:3] == ["exp-001", "3", "killed"]
    assert status(tmp_path / "e/exp-001")["kill"]["reason"] == "enough"
    assert sweep(tmp_path / "specs", tmp_path / "e", "--id", "s2") == 0  # who was killed for a reason stays so
    assert rows_of(capfd.readouterr().out)["a"][:3] == ["exp-001", "3", "killed"]
    assert len(list((tmp_path / "e").glob("exp-*"))) == 1


@pytest.mark.usefixtures("cluster")
def test_resources_decide_how_many_run_at_once(tmp_path, specs, capfd):
    folder = specs(a=SMALL, b=SMALL)
    assert sweep(folder, tmp_path / "e", "--cpus-per-run", "2") == 0
    starts = [status(tmp_path / f"e/exp-00{number}") for number in (1, 2)]
    assert starts[0]["heartbeat_at"] <= starts[1]["started_at"]
    assert "no machine" not in capfd.readouterr().out


@pytest.mark.usefixtures("cluster")
def test_a_note_in_the_folder_ends_what_was_not_begun(tmp_path, specs, capfd):
    experiments = tmp_path / "e"
    experiments.mkdir()
    (experiments / "stop-s3.json").write_text('{"reason": "they all fail"}')
    assert sweep(specs(a=SMALL, b=SMALL), experiments, "--id", "s3") == 0
    out, err = capfd.readouterr()
    assert [row[:3] for row in rows_of(out.replace("not started", "not-started")).values()] == [
        ["-", "3", "not-started"]
    ] * 2
    assert "they all fail" in err


def test_ctrl_c_stops_every_run_so_that_it_can_go_on(tmp_path, specs):
    """The program as a person starts it, with a cluster of its own."""
    folder, experiments = specs(a=ENDLESS, b=ENDLESS, c=ENDLESS), tmp_path / "e"
    process = program("trainer", "sweep", folder, "--experiments", experiments, "--ray", "--jobs", 3, "--id", "s4")
    both = [experiments / "exp-001", experiments / "exp-002"]
    try:
        wait_until(lambda: all(step(one) > 2 for one in both[: min(2, os.cpu_count() or 1)]), 120)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=90)
    finally:
        process.kill()
    states = {status(one).get("state") for one in both if status(one)}
    assert states == {"killed"}, output
    assert process.returncode in (0, 1)
    assert "--id s4 --ray" in output
    assert all(status(one)["kill"]["requested_by"] == "trainer sweep" for one in both if status(one))


@pytest.mark.usefixtures("cluster")
def test_a_cluster_that_is_there_is_found(tmp_path, specs):
    place = ["--experiments", tmp_path / "e"]
    process = program("trainer", "sweep", specs(a=SMALL), *place, "--ray", "--address", "auto")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert rows_of(output)["a"][:3] == ["exp-001", "0", "completed"]


def test_a_cluster_that_is_not_there_is_a_sentence(tmp_path, specs):
    place = ["--experiments", tmp_path / "e"]
    process = program("trainer", "sweep", specs(a=SMALL), *place, "--ray", "--address", "nowhere")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2, output
    assert "--address nowhere: no Ray cluster can be reached" in output
