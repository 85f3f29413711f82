from __future__ import annotations

import pytest
from curves import noisy_descent, only, play, rows


@pytest.mark.parametrize(
    "train",
    [
        pytest.param(noisy_descent(), id="healthy"),
        pytest.param("2.0x100~0.5", id="noisy"),
        pytest.param("2.0x100", id="constant"),
    ],
)
def test_silent(train):
    assert only(play(rows(train=train)), "loss_spike") == []


def test_notes_and_never_alerts():
    found = only(play(rows(train="2.0-0.01x60~0.01 9.0 1.4-0.001x60~0.01")), "loss_spike")
    assert [(str(f.action), str(f.severity), f.row) for f in found] == [("none", "info", 61)]


def test_a_second_spike_is_a_second_episode():
    found = only(play(rows(train="2.0x60~0.01 9.0 2.0x60~0.01 9.0 2.0x9~0.01")), "loss_spike")
    assert [f.episode for f in found] == [0, 1]
