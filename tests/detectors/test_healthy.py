"""Silence first: no rule speaks on a healthy run."""

from __future__ import annotations

import pytest
from curves import play, told
from healthy import HEALTHY


@pytest.mark.parametrize("make", HEALTHY)
def test_every_rule_is_silent_on(make):
    assert told(play(make())) == []
