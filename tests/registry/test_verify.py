"""Each missing or inconsistent artefact is named, alone; a sound experiment passes."""

import json
import shutil
from dataclasses import asdict

import pytest
from experiments_on_disk import TIERS, add, checkpoint, evaluate, put
from folders import gone_process

import contract
from checker.registry.find import find as named
from checker.registry.promotion import Gate, promote
from checker.registry.verify import verify


def bad(root, name="exp-002"):
    return {check.artefact: check.told for check in verify(*named(name, root)) if not check.passed}


@pytest.fixture
def root(tmp_path):
    add(tmp_path, "exp-001", value=1.5, tiers=TIERS)
    evaluate(add(tmp_path, "exp-002", value=0.9, tiers=TIERS, parent="exp-001"), 0.95)
    return tmp_path


def test_sound_experiments_pass(root):
    assert bad(root) == bad(root, "exp-001") == {}


def test_a_pending_experiment_needs_its_record_only(tmp_path):
    add(tmp_path, "exp-001", state="pending")
    assert bad(tmp_path, "exp-001") == {}


def edited(folder, name, **changes):
    put(folder, name, {**json.loads((folder / name).read_text()), **changes})


def metric(folder, **changes):
    result = json.loads((folder / contract.RESULT).read_text())
    edited(folder, contract.RESULT, primary_metric={**result["primary_metric"], **changes})


def left_over(folder):
    (folder / "checkpoints" / ".best.pt.12.0.tmp").write_bytes(b"x")


def evaluate_at(folder, path):
    contract.append_line(folder / contract.EVALUATIONS, {"id": "long", "checkpoint": {"path": path}})


def spoil_line(path):
    path.write_text(path.read_text() + "{oops\n")


SPOILT = {
    "no record": (lambda f: (f / contract.EXPERIMENT).unlink(), "experiment.json", "is missing: nothing says what"),
    "broken record": (lambda f: (f / contract.EXPERIMENT).write_text("{"), "experiment.json", "not valid JSON"),
    "newer format": (lambda f: edited(f, contract.EXPERIMENT, v=9), "experiment.json", "is in format 9"),
    "edited config": (
        lambda f: edited(f, contract.EXPERIMENT, config={"a": 1}),
        "experiment.json",
        "config has been edited: its hash is",
    ),
    "no metric": (lambda f: edited(f, contract.EXPERIMENT, metric={}), "experiment.json", "names no primary metric"),
    "no direction": (
        lambda f: edited(f, contract.EXPERIMENT, metric={"name": "x"}),
        "experiment.json",
        "does not say whether min or max is better for x",
    ),
    "tiers out of order": (
        lambda f: edited(f, contract.EXPERIMENT, tiers={"must_pass": 1.0, "should_pass": 2.0}),
        "experiment.json",
        "tiers are out of order: should_pass 2 is easier than must_pass 1",
    ),
    "unknown tier": (
        lambda f: edited(f, contract.EXPERIMENT, tiers={**TIERS, "must": 1}),
        "experiment.json",
        "tiers has 'must'; there are: must_pass",
    ),
    "lost parent": (
        lambda f: shutil.rmtree(f.parent / "exp-001"),
        "experiment.json",
        "exp-001, the parent of exp-002, is not here",
    ),
    "no status": (lambda f: (f / contract.STATUS).unlink(), "training_status.json", "is missing although the run has"),
    "another's status": (
        lambda f: edited(f, contract.STATUS, experiment_id="exp-009"),
        "training_status.json",
        "is about exp-009, not about exp-002",
    ),
    "nobody runs it": (
        lambda f: edited(f, contract.STATUS, state="running", process=asdict(gone_process())),
        "training_status.json",
        "says running, but its process is gone: trainer abort exp-002",
    ),
    "an unanswered kill": (
        lambda f: edited(f, contract.STATUS, state="killed", kill="stop"),
        "training_status.json",
        "says killed, but the request was never answered",
    ),
    "no log": (lambda f: (f / contract.METRICS).unlink(), "metrics.jsonl", "is missing: the run has left no curve"),
    "an empty log": (lambda f: (f / contract.METRICS).write_text(""), "metrics.jsonl", "has no readable row"),
    "a line that is none": (
        lambda f: (f / contract.METRICS).write_text('{"step": 1, "loss": 2}\nhello\n'),
        "metrics.jsonl:2",
        "",
    ),
    "no result": (lambda f: (f / contract.RESULT).unlink(), "result.json", "is missing although the run is completed"),
    "no page": (lambda f: (f / contract.RESULT_PAGE).unlink(), "result.md", "is missing beside result.json"),
    "another's result": (
        lambda f: edited(f, contract.RESULT, experiment_id="exp-001"),
        "result.json",
        "is about exp-001, not about exp-002",
    ),
    "an earlier run's result": (
        lambda f: edited(f, contract.RESULT, run_id="old"),
        "result.json",
        "comes from run old, the last run is run-exp-002",
    ),
    "another metric": (lambda f: metric(f, name="acc"), "result.json", "tells acc, asked was val_loss"),
    "NaN": (lambda f: metric(f, value="NaN"), "result.json", "claims tier could_pass, its value reaches fail"),
    "a better tier": (
        lambda f: edited(f, contract.RESULT, oracle_tier="must_pass"),
        "result.json",
        "claims tier must_pass, its value reaches could_pass",
    ),
    "other code": (
        lambda f: edited(f, contract.RESULT, fingerprints={"code": {"commit": "x"}}),
        "result.json",
        "was made with another code than the experiment was created for",
    ),
    "a damaged checkpoint": (
        lambda f: (f / "checkpoints/best.pt").write_bytes(b"x"),
        "checkpoints/best.pt",
        "is damaged: its SHA-256 is",
    ),
    "no hash": (
        lambda f: (f / "checkpoints/best.pt.sha256").unlink(),
        "checkpoints/best.pt",
        "has no best.pt.sha256 beside it",
    ),
    "no checkpoint": (
        lambda f: (f / "checkpoints/best.pt").unlink(),
        "checkpoints/best.pt.sha256",
        "vouches for a checkpoint that is not there",
    ),
    "another checkpoint": (
        lambda f: checkpoint(f, "best", b"x"),
        "evaluations.jsonl eval-0.95",
        "is about an earlier checkpoints/best.pt",
    ),
    "a broken evaluation": (
        lambda f: spoil_line(f / contract.EVALUATIONS),
        "evaluations.jsonl:2",
        "is no JSON object",
    ),
    "not judged": (lambda f: (f / contract.DIAGNOSIS).unlink(), "diagnosis.md", "is missing: checker once"),
    "a torn journal": (
        lambda f: (f / contract.FINDINGS).write_text('{"kind": "ti'),
        "findings.jsonl",
        "ends in the middle of a line",
    ),
    "odd values": (
        lambda f: edited(f, contract.EXPERIMENT, tags="x"),
        "experiment.json",
        "tags = 'x': must be a list of texts",
    ),
    "a budget in words": (
        lambda f: edited(f, contract.EXPERIMENT, budget={"steps": "many"}),
        "experiment.json",
        "budget.steps = 'many': must be a number",
    ),
    "a hash that is a folder": (
        lambda f: ((f / "checkpoints/best.pt.sha256").unlink(), (f / "checkpoints/best.pt.sha256").mkdir()),
        "checkpoints/best.pt",
        "is no regular file",
    ),
    "a name too long": (
        lambda f: evaluate_at(f, "x" * 5000),
        "evaluations.jsonl long",
        "is not there any more, or cannot be read",
    ),
    "left over": (left_over, "checkpoints/.best.pt.12.0.tmp", "was left behind by a write that broke off"),
}


@pytest.mark.parametrize(("spoil", "artefact", "told"), SPOILT.values(), ids=SPOILT.keys())
def test_what_is_wrong_is_named(root, spoil, artefact, told):
    spoil(root / "exp-002")
    found = bad(root)
    assert artefact in found, found
    assert told in found[artefact]


def test_a_copied_folder_is_noticed(root):
    shutil.copytree(root / "exp-001", root / "exp-001 copy")
    found = bad(root, "exp-001 copy")
    assert "says it is exp-001, the folder is exp-001 copy: copied by hand?" in found["experiment.json"]


def test_a_promotion_of_a_checkpoint_that_is_gone_is_noticed(root):
    entry, _ = named("exp-002", root)
    promote(entry, Gate("exp-002", {"path": "checkpoints/best.pt", "sha256": "other"}, ()))
    assert bad(root) == {"promotions.jsonl": "checkpoints/best.pt is not the file that was promoted"}
