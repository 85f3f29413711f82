"""The promotion gate: each thing that is wrong blocks, alone, with a sentence; what is right passes."""

import json
from datetime import UTC, datetime

import pytest
from experiments_on_disk import TIERS, add, checkpoint, evaluate, find, prints, put

import contract
from checker.registry.catalog import entry_of
from checker.registry.find import find as named
from checker.registry.policy import Promotion
from checker.registry.promotion import gate, promote, revoke

ONE_O_CLOCK = datetime(2026, 11, 21, 13, tzinfo=UTC).timestamp()
"""An hour after the evaluations here."""


def asked(root, name="exp-002", checkpoint="best", **policy):
    entry, beside = named(name, root)
    return gate(entry, beside, checkpoint, Promotion(**policy), now=ONE_O_CLOCK)


@pytest.fixture
def root(tmp_path):
    """A parent with 1.5 and a child with 0.9, both evaluated; the child may be promoted."""
    evaluate(add(tmp_path, "exp-001", value=1.5, tiers=TIERS), 1.5)
    evaluate(add(tmp_path, "exp-002", value=0.9, tiers=TIERS, parent="exp-001"), 0.95)
    return tmp_path


def test_what_is_sound_is_promoted(root):
    found = asked(root)
    assert found.blockers == []
    assert found.passed
    by_name = {check.name: check for check in found.checks}
    better = by_name["better than its baseline"]
    assert (better.actual, better.baseline, better.threshold) == (pytest.approx(0.55), 1.5, 0.0)
    assert (by_name["floor"].actual, by_name["floor"].threshold, by_name["floor"].source) == (
        0.95, 2.0, "evaluations.jsonl",
    )  # fmt: skip


def test_without_parent_and_tiers_there_is_nothing_to_beat(tmp_path):
    evaluate(add(tmp_path, "exp-001", value=7.0), 7.0)
    found = asked(tmp_path, "exp-001")
    assert found.passed
    assert not {"floor", "better than its baseline"} & {check.name for check in found.checks}


def edited(folder, name, **changes):
    put(folder, name, {**json.loads((folder / name).read_text()), **changes})


def other_prints(folder, **changes):
    result = json.loads((folder / contract.RESULT).read_text())
    edited(folder, contract.RESULT, fingerprints={**result["fingerprints"], **changes})


BLOCKED = {
    "killed": (lambda f: edited(f, contract.STATUS, state="killed"), "exp-002 is killed: only a completed run"),
    "failed": (lambda f: edited(f, contract.STATUS, state="failed"), "exp-002 is failed: only a completed run"),
    "running": (lambda f: edited(f, contract.STATUS, state="running"), "exp-002 is running: only a completed run"),
    "a critical finding": (lambda f: find(f, "overfit"), "The checker's finding is not over: overfit at step 10"),
    "no result": (lambda f: (f / contract.RESULT).unlink(), "There is no finite result in result.json."),
    "no checkpoint": (lambda f: (f / "checkpoints/best.pt").unlink(), "There is no checkpoint checkpoints/best.pt"),
    "damaged": (lambda f: (f / "checkpoints/best.pt").write_bytes(b"x"), "is damaged or was replaced"),
    "no hash": (
        lambda f: ((f / "checkpoints/best.pt.sha256").unlink(), edited(f, contract.RESULT, checkpoint=None)),
        "has no hash, beside it or in result.json",
    ),
    "never evaluated": (lambda f: (f / contract.EVALUATIONS).unlink(), "has 0 evaluations with a finite val_loss"),
    "evaluated before it was replaced": (
        lambda f: checkpoint(f, "best", b"other"),
        "(1 of other or earlier checkpoints do not count): trainer eval exp-002.",
    ),
    "NaN": (lambda f: evaluate(f, "NaN"), "The newest evaluation found val_loss to be nan."),
    "another metric": (
        lambda f: ((f / contract.EVALUATIONS).unlink(), evaluate(f, 0.5, metric="accuracy")),
        "has 0 evaluations with a finite val_loss",
    ),
    "edited config": (
        lambda f: edited(f, contract.EXPERIMENT, config={"optimizer": {"lr": 9}}),
        "The config in experiment.json was edited after its creation.",
    ),
    "no fingerprint": (
        lambda f: edited(f, contract.EXPERIMENT, fingerprints={}),
        "experiment.json holds no fingerprint of its config, so nobody can tell what was asked for.",
    ),
    "other code": (lambda f: other_prints(f, code={"commit": "bad"}), "The run was made with another code than"),
    "other data": (lambda f: other_prints(f, data={"hash": "bad"}), "The run was made with another data than"),
    "unknown data": (lambda f: other_prints(f, data=None), "result.json does not say with which data it was made."),
    "evaluated with another config": (
        lambda f: evaluate(f, 0.9, fingerprints=prints({"a": 1})),
        "Evaluation eval-0.9 was made with another config",
    ),
    "evaluated with other code": (
        lambda f: evaluate(f, 0.9, fingerprints={**prints({"optimizer": {"lr": 0.1}}), "code": {"commit": "x"}}),
        "Evaluation eval-0.9 was made with other code than the run.",
    ),
    "an evaluation of another": (
        lambda f: evaluate(f, 0.9, experiment_id="exp-777"),
        "Evaluation eval-0.9 is about another experiment.",
    ),
    "an evaluation that turns better into worse": (
        lambda f: evaluate(f, 0.9, direction="max"),
        "Evaluation eval-0.9 takes better for worse.",
    ),
    "never judged": (lambda f: (f / contract.DIAGNOSIS).unlink(), "No checker has judged the run yet: checker once"),
    "below the floor": (
        lambda f: edited(f, contract.EXPERIMENT, tiers={"must_pass": 0.5}),
        "val_loss is 0.95 in the evaluation, the floor (must_pass) is 0.5.",
    ),
    "worse than its parent": (
        lambda f: evaluate(f, 1.75),
        "val_loss 1.75 is 0.25 worse than that of exp-001 (1.5); asked is a gain of at least 0.",
    ),
    "on other data than its parent": (
        lambda f: evaluate(f, 0.5, data="other"),
        "exp-001 has no evaluation on other; trainer eval exp-001 --data other.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "sentence"), BLOCKED.values(), ids=BLOCKED.keys())
def test_one_thing_wrong_blocks_with_a_sentence(root, spoil, sentence):
    spoil(root / "exp-002")
    found = asked(root)
    assert not found.passed
    assert any(sentence in blocker for blocker in found.blockers), found.blockers
    assert all(blocker.endswith(".") for blocker in found.blockers)


@pytest.mark.parametrize(
    ("policy", "passed"),
    [
        ({"min_dwell_minutes": 59.0}, True),
        ({"min_dwell_minutes": 61.0}, False),
        ({"min_gain": 0.5}, True),
        ({"min_gain": 0.6}, False),
        ({"min_evaluations": 2}, False),
    ],
    ids=str,
)
def test_the_policy_is_asked(root, policy, passed):
    assert asked(root, **policy).passed == passed


def test_a_second_evaluation_does_not_start_the_dwell_time_anew(root):
    evaluate(root / "exp-002", 0.94, at="2026-11-21T12:59:00+00:00")
    assert asked(root, min_dwell_minutes=59.0).passed


def test_all_blockers_are_told_at_once(root):
    edited(root / "exp-002", contract.STATUS, state="killed")
    (root / "exp-002" / contract.EVALUATIONS).unlink()
    assert len(asked(root).blockers) >= 3


def test_a_larger_metric_may_be_the_better_one(tmp_path):
    metric = {"name": "accuracy", "direction": "max"}
    evaluate(add(tmp_path, "exp-001", value=0.5, metric=metric), 0.5, metric="accuracy")
    evaluate(add(tmp_path, "exp-002", value=0.75, metric=metric, parent="exp-001"), 0.75, metric="accuracy")
    assert asked(tmp_path).passed
    evaluate(tmp_path / "exp-002", 0.25, metric="accuracy")
    assert "0.25 worse than that of exp-001" in asked(tmp_path).blockers[0]


def test_a_promotion_is_kept_revoked_and_kept_again(root):
    entry, _ = named("exp-002", root)
    assert revoke(entry, "x") is None
    promote(entry, asked(root))
    promote(entry, asked(root))  # twice is once
    assert revoke(entry, "the data leaked")["reason"] == "the data leaked"
    assert entry_of(entry.folder).standing == "completed"
    promote(entry, asked(root))
    assert entry_of(entry.folder).standing == "completed, promoted"
    kinds = [json.loads(line)["kind"] for line in (root / "exp-002" / contract.PROMOTIONS).read_text().splitlines()]
    assert kinds == ["promoted", "revoked", "promoted"]


def test_the_promoted_ancestor_is_the_baseline_even_past_a_parent(root):
    entry, _ = named("exp-002", root)
    promote(entry, asked(root))
    evaluate(add(root, "exp-003", value=9.0, parent="exp-002"), 9.0)
    evaluate(add(root, "exp-004", value=0.97, parent="exp-003"), 0.97)
    assert "than that of exp-002 (0.95)" in asked(root, "exp-004").blockers[0]


def test_a_killed_parent_is_no_baseline(root):
    add(root, "exp-003", state="killed", value=5.0, parent=None)
    evaluate(add(root, "exp-004", value=1.0, parent="exp-003"), 1.0)
    assert asked(root, "exp-004").passed


def test_a_result_may_vouch_for_its_checkpoint(root):
    (root / "exp-002/checkpoints/best.pt.sha256").unlink()
    assert asked(root).passed
    (root / "exp-002/checkpoints/best.pt").write_bytes(b"x")
    assert "is damaged or was replaced" in " ".join(asked(root).blockers)


@pytest.mark.parametrize("how", ["../exp-001/checkpoints/best.pt", "{root}/exp-001/checkpoints/best.pt"])
def test_the_checkpoint_of_another_experiment_is_none_of_this_one(root, how):
    found = asked(root, checkpoint=how.format(root=root))
    assert not found.passed
    assert any(blocker.startswith("There is no checkpoint ") for blocker in found.blockers)


@pytest.mark.parametrize("how", ["checkpoints/best.pt", "{root}/exp-002/checkpoints/best.pt"])
def test_a_path_inside_is_kept_relative_to_the_folder(root, how):
    found = asked(root, checkpoint=how.format(root=root))
    assert found.passed
    assert found.checkpoint["path"] == "checkpoints/best.pt"
