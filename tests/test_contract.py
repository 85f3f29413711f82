"""What the treaty computes: states, tiers, and a person's notes."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import contract
from contract import Hypothesis, IllegalTransition, State, front_matter, gain, tier

LEGAL = {(State.PENDING, State.RUNNING)} | {(State.RUNNING, state) for state in State if state.final}


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_states_follow_each_other_in_one_way_only(before, after):
    if (before, after) in LEGAL:
        assert before.to(after) is after
    else:
        with pytest.raises(IllegalTransition, match=f"that is {before} cannot become {after}: after {before} comes "):
            before.to(after)


@pytest.mark.parametrize(
    ("value", "direction", "expected"),
    [(math.nan, "min", None), (1.0, "min", 1.0), (3.0, "min", -1.0), (3.0, "max", 1.0), (2.0, "max", 0.0)],
    ids=["nan", "lower", "higher", "max", "same"],
)
def test_a_gain_is_positive_when_it_is_better(value, direction, expected):
    found = gain(value, 2.0, direction)
    assert math.isnan(found) if expected is None else found == expected


@pytest.mark.parametrize(
    ("tiers", "value", "reached", "missed"),
    [
        ({}, math.nan, None, []),
        ({"must_pass": 1.0}, math.nan, "fail", ["must_pass"]),
        ({"must_pass": 1.0}, None, "fail", ["must_pass"]),
        ({"must_pass": math.nan}, 0.5, "fail", ["must_pass"]),
        ({"must_pass": "soon"}, 0.5, None, []),
        ({"must_pass": True}, 0.5, None, []),
        ({"must_pass": None, "should_pass": 1.0}, 0.5, "should_pass", []),
        ({"could_pass": 0.1}, 0.5, "fail", ["could_pass"]),
        ({"great": 0.1}, 0.5, None, []),
        ({"must_pass": 1.0, "should_pass": 0.2, "could_pass": 0.6}, 0.5, "must_pass", ["should_pass"]),
        ({"must_pass": "Infinity"}, 0.5, "must_pass", []),
    ],
    ids=["nothing-asked", "nan", "never-measured", "a-limit-of-nan", "a-limit-in-words", "a-limit-of-true", "a-hole",
         "only-the-stretch", "an-unknown-tier", "one-in-the-middle", "spelled-out"],
)  # fmt: skip
def test_tiers(tiers, value, reached, missed):
    found, shortfalls = tier(tiers, value, "min", name="loss")
    assert (found, [text.partition(":")[0] for text in shortfalls]) == (reached, missed)


NOTE = """---
exp_id: "exp-004"
parent_id: 'exp-001'
---
# Hypothesis: lower

A lower rate
is better.

More text.

## Rationale
- it rose at step 7
- and stayed
"""

WINDOWS = "\ufeff" + NOTE.replace("\n", "\r\n")

NOTES = {
    "nothing": ("", "", "", None),
    "blank": (" \n\t\n", "", "", None),
    "only-a-heading": ("# Hypothesis", "", "", None),
    "a-heading-that-says-something": ("# A lower rate", "", "", None),
    "only-front-matter": ("---\nparent: exp-001\n---\n", "", "", "exp-001"),
    "front-matter-without-an-end": ("---\nparent: exp-001\n", "---  parent: exp-001".replace("  ", " "), "", None),
    "no-parent": ("---\nparent: null\n---\nclaim\n", "claim", "", None),
    "full": (NOTE, "A lower rate is better.", "it rose at step 7 and stayed", "exp-001"),
    "windows": (WINDOWS, "A lower rate is better.", "it rose at step 7 and stayed", "exp-001"),
    "plain": ("A lower rate.\n", "A lower rate.", "", None),
    "two-paragraphs": ("First.\n\nSecond.\n", "First.", "", None),
    "star": ("* first\n* second\n", "first", "", None),
    "plus": ("+ first\n+ second\n", "first", "", None),
    "numbered": ("1. first\n2. second\n", "first", "", None),
    "numbered-with-a-bracket": ("1) first\n2) second\n", "first", "", None),
    "text-before-a-list": ("First:\n- a\n- b\n", "First:", "", None),
    "a-bullet-of-two-lines": ("- first\n  goes on\n- second\n", "first goes on", "", None),
    "rationale-above": ("# Rationale\nwhy\n\n# Hypothesis\nclaim\n", "claim", "why", None),
    "rationale-in-front": ("---\nrationale: why\n---\nclaim\n", "claim", "why", None),
    "another-section-first": ("# Setup\nno claim\n\n# Hypothesis\nclaim\n", "claim", "", None),
    "sections-only": ("# Setup\nthe claim, after all\n", "the claim, after all", "", None),
    "a-rule-is-no-front-matter": ("claim\n\n---\na: b\n---\n", "claim", "", None),
}  # fmt: skip


@pytest.mark.parametrize(("text", "claim", "rationale", "parent"), NOTES.values(), ids=NOTES)
def test_a_note_in_whatever_form(text, claim, rationale, parent):
    note = Hypothesis.parse(text)
    assert (note.claim, note.rationale, note.parent) == (claim, rationale, parent)


def test_quotes_are_taken_off():
    assert Hypothesis.parse(NOTE).exp_id == "exp-004"


LINES = st.sampled_from(
    ["---", "...", "# Hypothesis", "## Rationale:", "#", "- a", "1. b", "k: v", ": ", "", " \t", "\ufeff"]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=st.text(max_size=40) | st.lists(LINES | st.text(max_size=5), max_size=12).map("\n".join))
def test_no_note_makes_it_stumble(text):
    note = Hypothesis.parse(text)
    assert "\n" not in note.claim + note.rationale
    assert isinstance(front_matter(text)[0], dict)


def test_every_file_of_a_run_has_a_name_of_its_own():
    names = [value for name, value in vars(contract).items() if name.isupper() and isinstance(value, str)]
    assert len(names) == len(set(names))
