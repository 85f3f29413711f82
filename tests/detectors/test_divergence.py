from __future__ import annotations

import pytest
from curves import experiment, noisy_descent, play, rows, told
from healthy import curriculum_jump

SILENT = [
    pytest.param({"train": noisy_descent()}, id="healthy"),
    pytest.param({"train": "2.0-0.01x100 1.0+0.002x100"}, id="creeping, not diverging"),
    pytest.param({"train": "0.7x50~0.02 0.9x50~0.02"}, id="a run that had gained nothing"),
    pytest.param({"train": "2.0x300~0.5"}, id="noise"),
]

KILLS = [
    pytest.param({"train": "2.5*0.97x60~0.01 0.45+0.05x40~0.02"}, 60, 100, id="climbs back to its start"),
    pytest.param({"train": "3.0-0.01x250~0.05 2.8x100~0.3"}, 251, 280, id="jumps back to its start"),
    pytest.param({"train": "10.8*0.98x60~0.1 9.0x60~0.2"}, 61, 90, id="a language model at chance again"),
    pytest.param({"train": "2.0-0.02x75~0.2 0.6+0.04x60~0.2"}, 76, 140, id="under heavy noise"),
]


@pytest.mark.parametrize("series", SILENT)
def test_silent(series):
    assert told(play(rows(**series)), "divergence") == []


def test_a_jump_that_comes_back_is_not_killed():
    assert play(rows(train="2.0-0.01x150 1.9-0.04x35 0.5x100")).kill is None


@pytest.mark.parametrize("times", [1.5, 1.7, 2.0])
def test_silent_on_an_undeclared_curriculum_jump(times):
    assert told(play(curriculum_jump(times))) == []


def test_silent_on_a_declared_change_of_regime():
    events = rows(train="2.0*0.95x60~0.01 1.8x60~0.02", events=[(61, {"event": "regime_change", "text": "new data"})])
    assert told(play(events), "divergence") == []
    assert told(play(rows(train="2.0*0.95x60~0.01 1.8x60~0.02")), "divergence")


@pytest.mark.parametrize(("series", "onset", "latest"), KILLS)
def test_kills(series, onset, latest):
    kill = play(rows(**series), experiment()).kill
    assert kill.rule == "divergence"
    assert onset <= kill.row <= latest
    assert onset - 10 <= kill.first_row <= kill.row
    assert kill.evidence["best"] < kill.evidence["level"]


def test_a_validation_loss_that_agrees_makes_it_sure_at_once():
    curve = "2.0-0.02x80~0.01 2.0x60~0.02"
    assert play(rows(train=curve, val=curve)).kill.row < play(rows(train=curve)).kill.row


@pytest.mark.parametrize(
    ("train", "val"),
    [
        pytest.param("2.0-0.02x90~0.01 1.8x100~0.02", "2.0-0.02x90 0.2-0.001x100", id="harder data, a better model"),
        pytest.param("2.0-0.02x90~0.01 1.8x100~0.02", "2.0-0.02x90 0.3x100", id="noisier labels, the model as before"),
    ],
)
def test_silent_where_the_validation_loss_denies_it(train, val):
    assert told(play(rows(train=train, val=val)), "divergence") == []


def test_no_word_before_the_next_evaluation():
    events = rows(train="2.0-0.02x90~0.01 1.9x18~0.02", val="2.0-0.2x9", val_every=10)
    assert told(play(events)) == []


def test_an_early_rise_is_told_and_not_killed():
    curve = "2.0-0.02x80~0.01 2.0x70~0.02"
    early = play(rows(train=curve, val=curve), experiment(total_steps=4000))
    assert ("divergence", "alert") in told(early)
    assert early.kill is None


def test_an_early_rise_that_lasts_as_long_as_all_before_is_killed():
    curve = "2.0-0.02x80~0.01 2.0x120~0.02"
    assert 160 <= play(rows(train=curve, val=curve), experiment(total_steps=4000)).kill.row < 170


def test_a_loss_that_returns_to_nothing_from_below_is_a_policy_that_learned():
    series = {"train": "0.0-0.01x40~0.01 -0.4+0.003x120~0.01", "val": "0.0-0.01x40 -0.4+0.003x120"}
    assert told(play(rows(**series)), "divergence") == []
