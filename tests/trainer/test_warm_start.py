"""Beginning with what another run has learned: which one, what of it fits, and what is said about it."""

import json
import shutil

import pytest
import torch
from torch import nn

from trainer import spec
from trainer.checkpoints import files, warm_start
from trainer.distributed import ALONE
from trainer.launch import Order, launch
from trainer.prepare import begun
from trainer.run import Run

WEIGHTS = {"weight": torch.ones(2, 2), "bias": torch.ones(2)}

RESTORED = {
    "all": ({"model": WEIGHTS}, ["2 of 2 tensors restored"]),
    "the averaged ones first": (
        {"model": {}, "ema": WEIGHTS},
        ["2 of 2 tensors restored"],
    ),
    "one of another shape": (
        {"model": {**WEIGHTS, "bias": torch.ones(3)}},
        ["1 of 2 tensors restored", "bias begins anew: its shape is (2,), there (3,)"],
    ),
    "one less": (
        {"model": {"weight": torch.ones(2, 2)}},
        ["1 of 2 tensors restored", "bias begins anew: the checkpoint has none"],
    ),
    "one more": (
        {"model": {**WEIGHTS, "more": torch.ones(1)}},
        ["2 of 2 tensors restored", "more is left out: this model has none"],
    ),
    "what is no tensor": (
        {"model": {**WEIGHTS, "bias": 3}},
        ["1 of 2 tensors restored", "bias begins anew: the checkpoint has no tensor for it"],
    ),
}


@pytest.mark.parametrize(("state", "told"), RESTORED.values(), ids=RESTORED.keys())
def test_what_fits_is_restored_and_the_rest_is_told(state, told):
    model = nn.Linear(2, 2)
    assert warm_start.restore(model, state) == told
    assert model.weight.tolist() == [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize(
    "state",
    [{}, {"model": {}}, {"model": {"other": torch.ones(1)}}, {"model": {"weight": torch.ones(5)}}, {"model": [1]}],
    ids=["empty", "no weights", "other names", "other shapes", "no names"],
)
def test_when_nothing_fits_that_is_a_fault(state):
    with pytest.raises(spec.SpecError, match="none of the checkpoint's weights fits"):
        warm_start.restore(nn.Linear(2, 2), state)


ALIKE = {
    "the same": ({"a": 1, "b": 2}, {"a": 1, "b": 2}, 1.0),
    "half": ({"a": 1, "b": 2}, {"a": 1, "b": 3}, 0.5),
    "one more there": ({"a": 1}, {"a": 1, "b": 3}, 0.5),
    "nothing in common": ({"a": 1}, {"b": 1}, 0.0),
    "nothing at all": ({}, {}, 0.0),
    "None is a value": ({"a": None}, {}, 0.0),
}


@pytest.mark.parametrize(("one", "other", "alike"), ALIKE.values(), ids=ALIKE.keys())
def test_how_alike_two_configurations_are(one, other, alike):
    assert warm_start.similarity(one, other) == alike


# --------------------------------------------------------------------------------------------------- which donor


@pytest.fixture
def donors(tmp_path, small_toml):
    """exp-001, and exp-002 with half of the rate."""
    for settings in ([], ["optimizer.lr=5e-3"]):
        assert launch(Order(small_toml, tmp_path, settings=settings)) == 0
    return tmp_path


def like(small, source="similar", restore="weights", **over):
    return small(warm_start={"source": source, "restore": restore}, **over)


def weights_of(root, name="best"):
    return files.load(root / "exp-001/checkpoints" / f"{name}.pt")["model"]


def same(run, weights):
    mine = run.model.state_dict()
    return all(torch.equal(mine[name], value) for name, value in weights.items())


def test_the_most_similar_one_is_taken(donors, small):
    run, told = begun(like(small), donors, ALONE)
    assert same(run, weights_of(donors))
    count = len(weights_of(donors))
    why = "exp-001, whose settings are 1.00 alike"
    assert told == [
        f"warm start from {donors}/exp-001/checkpoints/best.pt ({why}): {count} of {count} tensors restored"
    ]
    assert run.step == 0


def test_among_equally_similar_ones_the_best_is_taken(donors, small):
    shutil.copytree(donors / "exp-001", donors / "exp-003")
    result = json.loads((donors / "exp-003/result.json").read_text())
    result["primary_metric"]["value"] -= 1.0
    (donors / "exp-003/result.json").write_text(json.dumps(result))
    assert warm_start.donor(like(small), donors).path.parts[-3] == "exp-003"


@pytest.mark.parametrize("source", ["exp-001", "{root}/exp-001", "{root}/exp-001/checkpoints/last.pt"])
def test_one_by_its_id_its_folder_or_its_file(donors, small, source):
    run, told = begun(like(small, source.format(root=donors)), donors, ALONE)
    assert same(run, weights_of(donors, "last" if source.endswith("pt") else "best"))
    assert "tensors restored" in told[0]


def change(folder, name, **fields):
    document = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**document, **fields}))


PASSED_OVER = {
    "running": lambda folder: change(folder, "training_status.json", state="running"),
    "killed": lambda folder: change(folder, "training_status.json", state="killed"),
    "no status": lambda folder: (folder / "training_status.json").unlink(),
    "a broken record": lambda folder: (folder / "experiment.json").write_text("{"),
    "no checkpoint": lambda folder: shutil.rmtree(folder / "checkpoints"),
}


@pytest.mark.parametrize("spoil", PASSED_OVER.values(), ids=PASSED_OVER.keys())
def test_similar_means_a_finished_one_with_a_checkpoint(donors, small, spoil):
    spoil(donors / "exp-001")
    assert warm_start.donor(like(small), donors).path.parts[-3] == "exp-002"


def test_a_damaged_most_similar_one_is_a_fault_that_names_it(donors, small):
    path = donors / "exp-001/checkpoints/best.pt"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(spec.SpecError, match=r"warm_start: .*exp-001/checkpoints/best\.pt: its SHA-256 is"):
        begun(like(small), donors, ALONE)


FAULTS = {
    "nobody": ("similar", {"model": {"kind": "gpt", "width": 64, "layers": 3, "dropout": 0.3},
                           "train": {"steps": 99, "batch_size": 7, "accumulate": 3, "eval_every": 1,
                                     "clip_norm": 3.0, "checkpoint_every": 3},
                           "optimizer": {"lr": 0.5, "weight_decay": 0.3},
                           "schedule": {"kind": "linear", "warmup_steps": 1},
                           "checkpoints": {"keep_last": 7}, "deterministic": True,
                           "data": {"max_bytes": 5000, "val_bytes": 700, "val_fraction": 0.3},
                           "loading": {"workers": 3, "prefetch": 7},
                           "ema": {"decay": 0.3}},
               "no finished experiment in .* is 0.7 alike; the nearest is exp-00[12] with 0"),
    "no such id": ("exp-0001", {}, "exp-0001: there is no such folder.*did you mean exp-001"),
    "no such file": ("nowhere/best.pt", {}, "there is no such folder"),
    "a file that is no checkpoint": ("{root}/exp-001/metrics.jsonl", {}, r"metrics\.jsonl\.sha256: No such file"),
}  # fmt: skip


@pytest.mark.parametrize(("source", "over", "said"), FAULTS.values(), ids=FAULTS.keys())
def test_without_a_donor_nothing_begins(donors, small, source, over, said):
    with pytest.raises(spec.SpecError, match=said):
        begun(like(small, source.format(root=donors), **over), donors, ALONE)


def test_where_there_is_no_experiment_at_all_that_is_said(tmp_path, small):
    with pytest.raises(spec.SpecError, match=r"no finished experiment in .* is 0.7 alike$"):
        begun(like(small), tmp_path / "none", ALONE)


# ------------------------------------------------------------------------------------------------ what is taken over


def test_a_wider_model_begins_anew_where_it_must(donors, small):
    run, told = begun(like(small, "exp-001", model={"layers": 2, "context": 8}), donors, ALONE)
    first = weights_of(donors)
    assert f"{len(first) - 1} of {len(run.model.state_dict())} tensors restored" in told[0]
    assert told[1] == "position.weight begins anew: its shape is (8, 16), there (16, 16)"
    assert told[-1].endswith("tensors more that begin anew or are left out")
    assert torch.equal(run.model.state_dict()["token.weight"], first["token.weight"])


def test_the_optimizer_is_left_or_taken_as_asked(donors, small):
    saved = files.load(donors / "exp-001/checkpoints/best.pt")["optimizer"]["state"]
    left, _ = begun(like(small, "exp-001"), donors, ALONE)
    assert not left.optimizer.state
    taken, told = begun(like(small, "exp-001", "all"), donors, ALONE)
    assert told[-1] == "optimizer restored; step and data begin anew"
    state = ALONE.optimizer_state(taken.model, taken.optimizer)["state"]
    assert all(torch.equal(value["exp_avg"], saved[name]["exp_avg"]) for name, value in state.items())
    assert (taken.step, taken.loader.position.index) == (0, 0)


OTHERS = {
    "another optimizer": {"optimizer": {"kind": "sgd"}},
    "another model": {"model": {"layers": 2}},
    "another shape": {"model": {"context": 8}},
    "only some that learn": {"train": {"trainable": ["head"]}},
}


@pytest.mark.parametrize("over", OTHERS.values(), ids=OTHERS.keys())
def test_an_optimizer_that_does_not_fit_begins_anew_and_that_is_said(donors, small, over):
    run, told = begun(like(small, "exp-001", "all", **over), donors, ALONE)
    assert told[-1].startswith("the optimizer begins anew: ")
    assert not run.optimizer.state
    run.backward(run.loader.next_group(1), 1)
    run.optimizer.step()


def test_hyper_parameters_are_this_specs_own_all_the_same(donors, small):
    over = {"optimizer": {"weight_decay": 0.3, "betas": [0.8, 0.9]}}
    run, _ = begun(like(small, "exp-001", "all", **over), donors, ALONE)
    assert [(group["weight_decay"], group["betas"]) for group in run.optimizer.param_groups] == [
        (0.3, (0.8, 0.9)),
        (0.0, (0.8, 0.9)),
    ]


def test_a_lora_learns_on_top_of_a_donor(donors, small):
    options = like(small, "exp-001", lora={"rank": 2})
    run, told = begun(options, donors, ALONE)
    assert same(run, weights_of(donors))
    assert "begins anew: the checkpoint has none" in told[1]
    assert all("lora" in name for name, value in run.model.named_parameters() if value.requires_grad)


def test_a_run_says_in_its_notes_what_it_began_with(donors, small_toml, read_rows):
    settings = ["warm_start.source=similar", "optimizer.lr=5e-3"]
    assert launch(Order(small_toml, donors, settings=settings)) == 0
    notes = [row["text"] for row in read_rows(donors / "exp-003", "note")]
    assert "exp-002, whose settings are 1.00 alike" in notes[0]
    first = next(row for row in read_rows(donors / "exp-003", "step"))
    before = read_rows(donors / "exp-002", "step")
    assert first["metrics"]["train_loss"] < before[0]["metrics"]["train_loss"]
    run = Run(spec.build(json.loads((donors / "exp-003/experiment.json").read_text())["config"], where="here"))
    assert run.donated == []
