"""Ideas, what of them was tried, and failures that repeat."""

import pytest
from experiments_on_disk import add, find, plan, put
from hypothesis import given
from hypothesis import strategies as st

import contract
from checker import mask
from checker.registry import failures, ideas, planned, record
from checker.registry.catalog import entries
from checker.registry.compare import difference, ranking
from checker.registry.find import find as named
from checker.registry.separate import separators
from checker.report import checklist

LOWER = ("exp-001.1", "lower the learning rate from 0.1 to 0.03", "[optimizer]\nlr = 0.03")


def trials(root):
    return {idea.name: idea.tried and idea.tried.id for idea in ideas.plans(entries(root))}


def section(root, title):
    checklist.write(root)
    text = (root / contract.CHECKLIST).read_text()
    return text.partition(f"## {title}\n\n")[2].partition("\n## ")[0].strip().splitlines()


def test_an_idea_that_nobody_tried_is_planned(tmp_path):
    plan(add(tmp_path, "exp-001"), LOWER)
    add(tmp_path, "exp-002", parent="exp-001", config={"optimizer": {"lr": 0.01}})
    assert trials(tmp_path) == {"exp-001.1": None}
    assert section(tmp_path, "Next planned") == ["- exp-001.1: lower the learning rate from 0.1 to 0.03"]
    assert section(tmp_path, "Dead ends") == []


@pytest.mark.parametrize(
    ("config", "tried"),
    [
        ({"optimizer": {"lr": 0.03}}, "exp-002"),
        ({"optimizer": {"lr": 0.03 + 1e-17}}, "exp-002"),
        ({"optimizer": {"lr": 0.03}, "rehearsal": {"expect": None}, "tiers": {"must_pass": 3}}, "exp-002"),
        ({"optimizer": {"lr": 0.03}, "hypothesis": "words do nothing"}, "exp-002"),
        ({"optimizer": {"lr": 0.03, "kind": "sgd"}}, None),
        ({"optimizer": {"lr": 0.031}}, None),
    ],
    ids=["the same", "rounded", "what does nothing", "words", "another optimizer", "another rate"],
)
def test_a_change_was_tried_by_who_has_just_that_configuration(tmp_path, config, tried):
    plan(add(tmp_path, "exp-001"), LOWER)
    add(tmp_path, "exp-002", config=config)  # whoever its parent is
    assert trials(tmp_path) == {"exp-001.1": tried}


def test_who_did_something_first_has_tried_it(tmp_path):
    origin = add(tmp_path, "exp-001")
    for name in ("exp-010", "exp-9", "exp-011"):
        add(tmp_path, name, config={"optimizer": {"lr": 0.03}})
    assert ideas.Trials.beside(origin).of(str(origin), {"optimizer.lr": 0.03}) == str(tmp_path / "exp-9")


def test_a_folder_that_was_made_again_counts_as_what_it_is_now(tmp_path):
    origin = add(tmp_path, "exp-001")
    (tmp_path / "exp-002").mkdir()  # no record yet
    assert ideas.Trials.beside(origin).of(str(origin), {"optimizer.lr": 0.03}) is None
    put(tmp_path / "exp-002", contract.EXPERIMENT, {"config": {"optimizer": {"lr": 0.03}}})
    assert ideas.Trials.beside(origin).of(str(origin), {"optimizer.lr": 0.03}) == str(tmp_path / "exp-002")
    (tmp_path / "exp-002").rename(tmp_path / ".kept")
    add(tmp_path, "exp-002", config={"optimizer": {"lr": 0.5}})
    assert ideas.Trials.beside(origin).of(str(origin), {"optimizer.lr": 0.03}) is None


def test_steps_replace_epochs(tmp_path):
    plan(
        add(tmp_path, "exp-001", config={"train": {"epochs": 3, "steps": None}}),
        ("exp-001.1", "x", "[train]\nsteps = 9"),
    )
    add(tmp_path, "exp-002", config={"train": {"epochs": None, "steps": 9}})
    assert trials(tmp_path) == {"exp-001.1": "exp-002"}


def test_an_idea_in_words_was_tried_by_who_says_the_same(tmp_path):
    plan(
        add(tmp_path, "exp-001"),
        ("exp-002", "Use a cosine schedule, with warm-up.", ""),
        ("exp-003", "use more data", ""),
    )
    add(tmp_path, "exp-002", hypothesis="use a cosine schedule with warm-up")
    assert trials(tmp_path) == {"exp-002": "exp-002", "exp-003": None}


def test_work_by_hand_is_no_experiment(tmp_path):
    plan(add(tmp_path, "exp-001"), ("exp-001, by hand", "profile ten steps", ""))
    add(tmp_path, "exp-002", hypothesis="profile ten steps")
    assert trials(tmp_path) == {"exp-001, by hand": None}


@pytest.mark.parametrize(
    ("state", "value", "where", "line"),
    [
        ("running", 1.5, "Next planned", "lower the learning rate from 0.1 to 0.03 (as exp-002, running)"),
        ("killed", 1.5, "Dead ends", "tried as exp-002 (killed, explosion of train_loss, -0.5)"),
        ("completed", 1.5, "Dead ends", "tried as exp-002 (completed, val_loss=1.5, -0.5)"),
        ("completed", 0.5, None, ""),
    ],
    ids=["under way", "failed", "no better", "a success"],
)
def test_what_becomes_of_an_idea(tmp_path, state, value, where, line):
    plan(add(tmp_path, "exp-001", value=1.0), LOWER)
    child = add(tmp_path, "exp-002", value=value, state=state, parent="exp-001", config={"optimizer": {"lr": 0.03}})
    if state == "killed":
        find(child, "explosion")
    for title in ("Next planned", "Dead ends"):
        found = "\n".join(section(tmp_path, title))
        assert (line in found) if title == where else "exp-001.1" not in found


def test_hostile_ideas_stay_harmless(tmp_path):
    plan(add(tmp_path, "exp-001"), ("exp-001.1", "a | b <img src=x> `c`", '[optimizer]\nlr = "<b>"'))
    assert section(tmp_path, "Next planned") == ["- exp-001.1: " + mask.markdown("a | b <img src=x> `c`")]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [("", "", 0.0), ("a b", "", 0.0), ("A, b!", "b a", 1.0), ("lr 0.1", "lr 0.2", 1 / 3), ("a b c d", "a b c", 0.75)],
)
def test_similarity(one, other, alike):
    assert ideas.similarity(one, other) == pytest.approx(alike)


WORDS = st.lists(st.sampled_from([f"w{n}" for n in range(14)]), min_size=1, max_size=14).map(" ".join)


@given(st.lists(WORDS, min_size=1, max_size=20), WORDS)
def test_the_index_finds_what_comparing_with_all_would_find(told, wanted):
    class Told:
        def __init__(self, number, text):
            self.id, self.hypothesis = str(number), text

    known = [Told(number, text) for number, text in enumerate(told)]
    found = ideas._Said(known).like(wanted, "nobody")
    right = next((item for item in known if ideas.similarity(item.hypothesis, wanted) >= ideas.ALIKE - 1e-12), None)
    assert found is right


@given(st.text())
def test_any_text_is_a_note(text):
    for idea in planned.ideas(text):
        assert idea.name
        assert idea.text


# -------------------------------------------------------------------------------------------------------- failures


def test_one_failure_is_no_group(tmp_path):
    find(add(tmp_path, "exp-001", state="killed"), "explosion")
    assert section(tmp_path, "Failing the same way") == []


def test_runs_that_fail_the_same_way_are_told_with_what_they_share(tmp_path):
    for number in range(1, 13):
        bad = number % 2
        config = {"optimizer": {"lr": 3.0 if bad else 0.01, "beta": 0.9}, "seed": number // 2}
        folder = add(tmp_path, f"exp-{number:03d}", state="killed" if bad else "completed", value=1.0, config=config)
        if bad:
            find(folder, "explosion", step=number)
    (line,) = section(tmp_path, "Failing the same way")
    assert line.startswith("- explosion of train_loss: 6 runs (exp-001, exp-003, exp-005, exp-007, exp-009, exp-011)")
    assert line.endswith("What tells them from the completed ones: optimizer.lr 3 against 0.01")


def test_groups_come_by_size(tmp_path):
    for number, rule in enumerate(("a", "b", "b", "c", "b", "a"), 1):
        find(add(tmp_path, f"exp-{number:03d}", state="killed"), rule)
    assert [(group.failure[0], len(group.entries)) for group in failures.groups(entries(tmp_path))] == [
        ("b", 3),
        ("a", 2),
    ]


# ------------------------------------------------------------------------------------------------------ separators


def test_what_is_the_same_everywhere_separates_nothing():
    assert separators([{"a": 1}] * 5, [{"a": 1}] * 5) == []


def test_single_runs_are_no_group():
    assert separators([{"a": 1}], [{"a": 2}] * 9) == []


def test_a_setting_that_parts_two_groups_is_found_among_noise():
    one = [{"lr": 0.1 + n / 100, "seed": n, "kind": "adam"} for n in range(8)]
    other = [{"lr": 1.0 + n / 100, "seed": n, "kind": "sgd" if n else "adam"} for n in range(8)]
    found = {item.key: item for item in separators(one, other)}
    assert (found["lr"].effect, found["lr"].clear) == (1.0, True)
    assert (found["lr"].one, found["lr"].other) == (pytest.approx(0.135), pytest.approx(1.035))
    assert (found["kind"].one, found["kind"].other) == ("adam", "sgd")
    assert "seed" not in found


def test_few_runs_and_many_settings_are_told_to_be_chance():
    one = [{f"s{k}": (n * k) % 7 for k in range(1, 20)} for n in range(3)]
    other = [{f"s{k}": (n * k + 3) % 7 for k in range(1, 20)} for n in range(3)]
    assert not any(item.clear for item in separators(one, other))


# ------------------------------------------------------------------------------------------------------------ diff


def test_differences(tmp_path):
    add(tmp_path, "exp-001", value=1.5, config={"a": {"b": 1, "c": [1, 2]}, "d": True}, tiers={"must_pass": 1.0})
    add(tmp_path, "exp-002", value=0.5, config={"a": {"b": 1.0, "c": [1, 3]}, "e": 1}, tiers={"must_pass": 1.0})
    found = difference(named("exp-001", tmp_path)[0], named("exp-002", tmp_path)[0])
    assert found.config == {"a.c": ((1, 2), (1, 3)), "d": (True, None), "e": (None, 1)}
    assert [(item.name, item.gain) for item in found.metrics] == [("val_loss", 1.0), ("train_loss", None)]
    assert found.shortfalls == (["must_pass: metric is 1.5, asked was 1"], [])


def test_other_metrics_are_not_subtracted(tmp_path):
    add(tmp_path, "exp-001", value=1.5)
    add(tmp_path, "exp-002", value=0.5, metric={"name": "acc|<b>", "direction": "max"})
    found = difference(named("exp-001", tmp_path)[0], named("exp-002", tmp_path)[0])
    assert [item.name for item in found.metrics] == ["train_loss"]


def test_a_ranking_counts_runs_without_a_value_among_the_worst(tmp_path):
    for number in range(1, 13):
        value = None if number > 8 else number / 10
        state = "killed" if number > 8 else "completed"
        add(tmp_path, f"exp-{number:03d}", value=value, state=state, config={"lr": float(number)})
    found = ranking(entries(tmp_path), "val_loss", "min")
    assert [entry.id for entry in found.best] == ["exp-001", "exp-002", "exp-003", "exp-004"]
    assert found.separators[0].key == "lr"


def test_five_runs_are_no_ranking(tmp_path):
    for number in range(1, 6):
        add(tmp_path, f"exp-{number:03d}", value=1.0)
    assert ranking(entries(tmp_path), "val_loss", "min") is None


def test_settings_are_compared_by_their_worth():
    assert record.changed({"a": 1, "b": True, "c": 0.1}, {"a": 1.0, "b": 1, "c": 0.1 + 1e-17}) == {"b": (True, 1)}
