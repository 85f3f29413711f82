from __future__ import annotations

import math

import pytest
from curves import experiment, noisy_descent, play, rows, told

COSINE = [5e-4 * (1 + math.cos(math.pi * i / 300)) for i in range(300)]
PLAN = {"total_steps": 300, "schedule": {"kind": "cosine", "peak_lr": 1e-3, "warmup_steps": 20, "decay_steps": 300}}

STAGES = {
    "total_steps": 400,
    "schedule": {
        "kind": "stages",
        "stages": [
            {"name": "first", "first_step": 1, "last_step": 160, "kind": "linear", "peak_lr": 1e-2, "final_lr": 0.0},
            {"name": "then", "first_step": 161, "last_step": 400, "kind": "constant", "peak_lr": 1e-5},
        ],
    },
}
SWITCH = [(160, {"event": "regime_change"})]
TO_ZERO = [1e-2 * (1 - i / 160) for i in range(161)]
FLAT = "2.0-0.01x60 1.4x338~0.01"

SILENT = [
    pytest.param({"train": FLAT, "lr": [*TO_ZERO, *[1e-5] * 239]}, STAGES, id="a stage at a thousandth of the rate"),
    pytest.param(
        {"train": FLAT, "lr": "1e-2x160 1e-6x238", "events": SWITCH},
        {"total_steps": 400},
        id="a lower rate since a declared change of regime",
    ),
    pytest.param({"train": noisy_descent(), "lr": COSINE}, PLAN, id="cosine to its end"),
    pytest.param({"train": noisy_descent(), "lr": "1e-3x300"}, {}, id="constant, nothing declared"),
    pytest.param({"train": noisy_descent(), "lr": "0.0x5 1e-3x295"}, {}, id="zero at the very start"),
    pytest.param({"train": noisy_descent(), "lr": "0.0x300"}, {}, id="printed as 0.00 while it learns"),
    pytest.param({"train": "2.0x280~0.01", "lr": "1e-3x275 0.0x25"}, {"total_steps": 300}, id="zero at the end"),
    pytest.param({"train": noisy_descent(), "lr": ([*COSINE[::6]] * 6)}, {"total_steps": 300}, id="warm restarts"),
]

ALERTS = [
    pytest.param({"train": FLAT, "lr": [*TO_ZERO, *[0.0] * 239]}, STAGES, id="zero in the second stage"),
    pytest.param({"train": FLAT, "lr": "1e-2x30 1e-7x130 1e-5x237"}, STAGES, id="next to nothing in the first stage"),
    pytest.param(
        {"train": FLAT, "lr": [*TO_ZERO, *[1e-5] * 20, *[1e-9] * 219]}, STAGES, id="next to nothing in the second stage"
    ),
    pytest.param({"train": "2.0-0.01x60 1.4x200~0.01", "lr": "1e-3-2e-5x50 0.0x200"}, PLAN, id="decayed far too early"),
    pytest.param({"train": "2.0-0.01x60 1.4x200~0.01", "lr": "1e-3*0.8x260"}, PLAN, id="next to nothing"),
    pytest.param({"train": noisy_descent(), "lr": "1e-3x300"}, PLAN, id="frozen under a declared cosine"),
    pytest.param({"train": "2.0x200~0.01", "lr": "1e-6x140"}, PLAN, id="never warmed up"),
    pytest.param({"train": "2.0x100~0.01", "lr": "0.0x100"}, {}, id="zero from the start"),
]


@pytest.mark.parametrize(("series", "declared"), SILENT)
def test_silent(series, declared):
    assert told(play(rows(**series), experiment(**declared)), "dead_lr") == []


@pytest.mark.parametrize(("series", "declared"), ALERTS)
def test_alerts_and_never_kills(series, declared):
    case = play(rows(**series), experiment(**declared))
    assert told(case, "dead_lr")[-1] == ("dead_lr", "alert")
    assert case.kill is None


def test_a_run_that_goes_back_to_its_first_step_is_judged_on():
    first = rows(train="2.0x300~0.1", lr="1e-3x300")
    again = [row._replace(index=row.index + 301, line=row.line + 301) for row in rows(train="2.0x50", lr="1e-9x50")]
    again = [*again, again[-1]._replace(index=400, step=51, event="evaluation", phase="x")]
    assert play([*first, *again[:1], *again], experiment(total_steps=1000)).history.index == 400
