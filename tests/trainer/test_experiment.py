import json
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import pytest

from contract import Experiment
from trainer import spec
from trainer.data import load
from trainer.experiment import choose_device, record
from trainer.mint import claim, mint
from trainer.stages import legs


def test_twenty_minters_at_once_get_twenty_numbers(tmp_path):
    with ThreadPoolExecutor(20) as pool:
        names = [folder.name for folder in pool.map(claim, [tmp_path] * 20)]
    assert sorted(names) == [f"exp-{number:03d}" for number in range(1, 21)]


def test_processes_share_the_numbers_too(tmp_path):
    with get_context("fork").Pool(4) as pool:
        folders = pool.map(claim, [tmp_path] * 20)
    assert len(set(folders)) == 20


@pytest.mark.parametrize(
    ("there", "name"),
    [([], "exp-001"), (["exp-007", "exp-2"], "exp-008"), (["exp-999"], "exp-1000"), (["notes", "exp-x"], "exp-001")],
    ids=["first", "after-the-highest", "four-digits", "others-ignored"],
)
def test_the_next_number_follows_the_highest(tmp_path, there, name):
    for folder in there:
        (tmp_path / folder).mkdir()
    assert claim(tmp_path).name == name


def test_the_record_tells_what_is_tried(tmp_path, small):
    options = small(
        name="n", hypothesis="h", tiers={"must_pass": 3.0}, budget={"wall_minutes": 5.0}, schedule={"warmup_steps": 3}
    )
    folder = mint(tmp_path, record(tmp_path, options, legs(options, load)))
    found = Experiment.parse(json.loads((folder / "experiment.json").read_text()))
    assert (found.id, found.name, found.hypothesis, found.total_steps) == ("exp-001", "n", "h", 12)
    assert found.metric == {"name": "val_loss", "direction": "min"}
    assert (found.tiers, found.budget) == ({"must_pass": 3.0}, {"wall_minutes": 5.0})
    assert found.schedule == {
        "kind": "cosine", "peak_lr": 0.01, "warmup_steps": 3, "decay_steps": 12, "final_lr": pytest.approx(0.001),
    }  # fmt: skip
    assert {"config", "code", "data", "environment"} == set(found.fingerprints)
    assert {"python", "torch", "platform", "device", "packages"} <= set(found.fingerprints["environment"])
    assert "torch" in json.loads((folder / "environment.json").read_text())["packages"]


def test_epochs_are_turned_into_steps(tmp_path, small):
    options = spec.build(spec.laid_over(small().model_dump(mode="json"), {"train": {"epochs": 2}}), where="")
    options = spec.build(options.model_dump(mode="json"), where="")
    found = legs(options, load)
    folder = mint(tmp_path, record(tmp_path, options, found))
    windows = len(found[0].data.train)
    assert json.loads((folder / "experiment.json").read_text())["total_steps"] == 2 * -(-windows // 8)


def test_a_device_that_is_not_there_is_a_fault_of_the_spec():
    with pytest.raises(spec.SpecError, match="CUDA devices; try device=auto"):
        choose_device("cuda:99")
