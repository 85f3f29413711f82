"""Silence first: no rule speaks on a healthy run."""

from __future__ import annotations

import random

import pytest
from curves import play, rows, told
from healthy import HEALTHY, decaying_spikes


@pytest.mark.parametrize("make", HEALTHY)
def test_every_rule_is_silent_on(make):
    assert told(play(make())) == []


def slow_walk(seed):
    """Reinforcement learning seen as a loss: it wanders, and learns nothing that it could lose."""
    chance, values, level = random.Random(seed), [], 0.0
    for _ in range(600):
        level = 0.98 * level + chance.gauss(0, 0.05)
        values.append(2.0 + level + chance.gauss(0, 0.1))
    return rows(train=values)


@pytest.mark.parametrize("seed", range(10))
def test_wandering_is_not_killed(seed):
    assert play(slow_walk(seed)).kill is None


def test_spikes_that_decay_are_not_killed():
    assert play(decaying_spikes()).kill is None
