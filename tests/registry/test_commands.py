"""The commands over experiments as a user types them."""

import json

import pytest
from experiments_on_disk import TIERS, add, evaluate, find, plan

import contract


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "experiments"
    evaluate(add(root, "exp-001", value=1.5, tiers=TIERS, tags=["base"]), 1.5)
    child = add(root, "exp-002", value=0.9, tiers=TIERS, parent="exp-001", config={"optimizer": {"lr": 0.2}})
    evaluate(child, 0.95)
    find(add(root, "exp-003", state="killed", parent="exp-002"), "explosion")
    plan(root / "exp-003", ("exp-003.1", "lower the rate", "[optimizer]\nlr = 0.2"), ("exp-003.2", "new", "[a]\nb = 1"))
    return root


COMMANDS = [
    "list",
    "show exp-002",
    "diff exp-001 exp-002",
    "lineage exp-002",
    "verify exp-002",
    "promote exp-002 --dry-run",
    "verdict",
]


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_speaks_text_and_json(call, command):
    _, out, err = call(*command.split())
    assert out
    assert not err
    _, out, err = call(*command.split(), "--json")
    documents = [json.loads(line) for line in out.splitlines()]
    assert len(documents) == (3 if command == "list" else 1)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("command", [item for item in COMMANDS if "exp-00" in item])
def test_an_unknown_id_names_the_near_ones(call, command):
    code, out, err = call(*command.replace("exp-002", "exp-02").split())
    assert (code, out) == (2, "")
    assert err.startswith("checker: exp-02: no such experiment in experiments; did you mean exp-002")


@pytest.mark.usefixtures("root")
def test_list(call):
    code, out, _ = call("list")
    lines = out.splitlines()
    assert code == 0
    assert lines[2].split()[:6] == ["exp-002", "completed", "exp-001", "val_loss=0.9", "+0.6", "could_pass"]
    assert "explosion at step 10: train_loss explosion" in lines[3]
    assert lines[-1] == "3 experiments: 2 completed, 1 killed"
    assert call("list", "--status", "killed")[1].splitlines()[-1] == "1 of 3 experiments: 1 killed"
    assert call("list", "--tag", "base")[1].splitlines()[1].startswith("exp-001")


@pytest.mark.usefixtures("root")
def test_a_status_that_no_experiment_has_names_those_that_there_are(call):
    code, _, err = call("list", "--status", "done")
    assert (code, "there are: completed, killed" in err) == (2, True)


def test_a_verdict_on_nothing_is_none(tmp_path, call):
    code, _, err = call("verdict", tmp_path)
    assert (code, "no experiments yet" in err) == (2, True)


def test_list_of_nothing(tmp_path, call):
    code, _, err = call("list", tmp_path)
    assert (code, "no experiments (trainer new, or trainer run SPEC, makes one)" in err) == (2, True)
    assert call("list", tmp_path / "none")[0] == 2


def test_show(root, call):
    _, out, _ = call("show", "exp-003")
    assert "exp-003  killed" in out
    assert "exp-003.1: lower the rate  [tried as exp-002: completed]" in out
    assert "exp-003.2: new" in out
    _, out, _ = call("show", root / "exp-002")
    assert "metric      val_loss = 0.9 (lower is better), +0.6 against exp-001 (+ is better)" in out
    assert "eval-0.95 on validation: val_loss 0.95" in out


@pytest.mark.usefixtures("root")
def test_diff(call):
    _, out, _ = call("diff", "exp-001", "exp-002")
    assert "config: 1 difference" in out
    assert "  optimizer.lr  0.1      0.2" in out
    assert "  val_loss    1.5      0.9      +0.6" in out


@pytest.mark.usefixtures("root")
def test_lineage(call):
    _, out, _ = call("lineage", "exp-002")
    heads = [line.split("  ")[0] for line in out.splitlines() if "·" not in line]
    assert heads == ["exp-001", "↓ exp-002", "↓ exp-003"]


def test_verify_answers_with_its_exit_code(root, call):
    assert call("verify", "exp-001")[0] == 0
    (root / "exp-001" / contract.RESULT).unlink()
    code, out, _ = call("verify", "exp-001")
    assert code == 1
    assert "  BAD  result.json: is missing although the run is completed" in out


def test_promote_and_revoke(root, call):
    code, out, _ = call("promote", "exp-003")
    assert code == 1
    assert "blocked: exp-003 is killed: only a completed run can be promoted." in out
    assert not (root / "exp-003" / contract.PROMOTIONS).exists()
    assert call("promote", "exp-002", "--dry-run")[0] == 0
    assert not (root / "exp-002" / contract.PROMOTIONS).exists()
    assert call("promote", "exp-002", "--min-gain", "0.9")[0] == 1
    code, out, _ = call("promote", "exp-002")
    assert (code, "checkpoints/best.pt is promoted." in out) == (0, True)
    assert "exp-002  completed  promoted checkpoints/best.pt at " in call("show", "exp-002")[1]
    assert call("promote", "exp-002", "--revoke", "leak")[0] == 0
    code, _, err = call("promote", "exp-002", "--revoke", "leak")
    assert (code, "there is nothing to take back" in err) == (2, True)


def test_verdict_and_its_policy(root, call):
    assert call("verdict")[0] == 10
    assert call("verdict", "--stop-on-tier", "could_pass", "--max-iterations", "3")[0] == 10
    (root / "checker.toml").write_text(
        "[loop]\nmax_iterations = 2\nstop_on_tier = 'could_pass'\n[promotion]\nmin_gain = 1.0\n"
    )
    (root / "exp-002" / contract.STATUS).write_text('{"state": "failed"}')
    assert call("verdict")[0] == 11
    assert call("verdict", "--max-iterations", "9")[0] == 0  # what is typed goes before what stands in the file
    assert call("promote", "exp-002")[0] == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "[loop]\nmax_iteration = 2\n",
            "checker.toml:2: loop.max_iteration = 2: there is no such key; did you mean max_iterations?",
        ),
        ("[loop]\nmax_iterations = 'x'\n", "must be a whole number"),
        ("[loop]\nstop_on_tier = 'must'\n", "must be one of must_pass, should_pass, could_pass"),
        ("[promotion]\nmin_gain = -1\n", "must be a finite number from 0"),
        ("[lop]\n", "lop: there is no such table; did you mean loop?"),
        ("loop = 3\n", "loop = 3: must be a table, [loop]"),
    ],
    ids=["key", "kind", "tier", "range", "table", "no table"],
)
def test_a_mistake_in_the_policy_is_told_with_its_line(root, call, text, told):
    (root / "checker.toml").write_text(text)
    code, _, err = call("verdict")
    assert code == 2
    assert told in err


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("option", ["--stop-on-tier=must", "--max-iterations=-1", "--plateau-epsilon=nan"])
def test_a_mistake_in_an_option_is_told(call, option):
    code, _, err = call("verdict", option)
    assert (code, option.partition("=")[0] in err) == (2, True)


EVIL = "a|b <b>x</b> \x1b[31m `c` AKIAIOSFODNN7EXAMPLE"


def test_hostile_names_steer_no_terminal_and_break_no_table(root, call):
    metric = {"name": EVIL, "direction": "min"}
    evaluate(
        add(root, "exp-009", value=1.0, metric=metric, hypothesis=EVIL, tags=[EVIL], parent=EVIL), 1.0, metric=EVIL
    )
    for command in (
        "list",
        "show exp-009",
        "lineage exp-009",
        "diff exp-009 exp-001",
        "verify exp-009",
        "promote exp-009",
    ):
        assert "\x1b" not in call(*command.split())[1]
