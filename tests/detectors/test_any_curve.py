"""No curve at all may make a rule stumble: whoever watches must not fall over what it sees."""

from __future__ import annotations

import math

from curves import experiment, play, rows
from hypothesis import given, settings
from hypothesis import strategies as st

LEVELS = st.sampled_from([0.0, -0.0, 1e-300, 1e-9, 0.693, 2.3, -1.0, 1e6, 1e300, -1e300])
PIECES = st.tuples(LEVELS, st.sampled_from([0.0, 0.01, -0.01, 1.0, 1e300]), st.integers(1, 40))
ODD = st.sampled_from([math.nan, math.inf, -math.inf])


@st.composite
def curves(draw):
    """Stretches of straight lines, here and there something that is no number."""
    values = []
    for level, slope, count in draw(st.lists(PIECES, min_size=1, max_size=5)):
        values += [level + i * slope for i in range(count)]
        if draw(st.integers(0, 4)) == 0:
            values.append(draw(ODD))
    return values


@settings(max_examples=150, deadline=None)
@given(
    train=curves(),
    val=st.none() | curves(),
    grad=st.none() | curves(),
    lr=st.none() | curves(),
    every=st.integers(1, 5),
    epochs=st.booleans(),
    total=st.none() | st.integers(1, 400),
)
def test_no_rule_stumbles(train, val, grad, lr, every, epochs, total):
    events = rows(train=train, val=val, grad=grad, lr=lr, val_every=every, epochs=epochs)
    play(events, experiment(total_steps=total) if total else None)
