import dataclasses

import pytest

from checker.detectors import RULES
from checker.judge import POLICY
from checker.report import explain

NAMES = [rule.name for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_a_rule_is_explained_with_its_paragraphs_limits_and_policy(rule):
    told = explain.text(rule.name)
    assert told.startswith(f"{rule.name}: {explain.headline(rule.name)}\n")
    places = [told.index(f"\n{label}:") for label in explain.PARAGRAPHS]
    assert places == sorted(places)
    for field in dataclasses.fields(rule.limits):
        assert f"  {field.name} = {getattr(rule.limits, field.name)!r}" in told
    assert f"when certain    {POLICY[rule.name].sure[0]}, {POLICY[rule.name].sure[1]}" in told
    assert all(len(line) <= 120 for line in told.splitlines())


def test_the_reason_beside_a_limit_is_told():
    told = explain.text("nonfinite")
    assert "  from_start_rows = 12\n      As above when nothing finite came before" in told


def test_a_policy_is_told_in_rows_and_shares():
    assert "after it held for 10 rows and 2 % of the rows so far" in explain.text("dead_lr")
    assert "when suspected  warning, alert, at once" in explain.text("nonfinite")
    assert "episode over    with the next row" in explain.text("stall")


def test_without_a_name_all_rules_are_listed():
    told = explain.text(None)
    assert [line.split()[0] for line in told.splitlines()[1 : 1 + len(NAMES)]] == NAMES


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("non-finite", "nonfinite"), ("diverge", "divergence"), ("Plateau", "plateau"), ("qqq", ", ".join(NAMES))],
)
def test_an_unknown_rule_is_answered_with_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=f"no rule '{wrong}'; .*{near}"):
        explain.text(wrong)


@pytest.mark.parametrize("label", explain.PARAGRAPHS)
def test_a_paragraph_is_one_line_without_its_label(label):
    told = explain.paragraph("nonfinite", label)
    assert told
    assert "\n" not in told
    assert not told.startswith(label)
    assert not any(f"{other}:" in told for other in explain.PARAGRAPHS)


def test_the_readme_table_has_a_line_per_rule():
    lines = explain.readme_table().splitlines()
    assert [line.split("`")[1] for line in lines[2:]] == NAMES
    assert "| `nonfinite` | NaN or infinity in a loss | warning, alert | critical, kill |" in lines
