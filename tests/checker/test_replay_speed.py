"""All rules on every row, and still a fair share of the speed of a reader that does nothing; and little memory."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

import pytest
import replay_speed


def test_a_replay_has_a_fair_share_of_the_speed_of_parsing(tmp_path):
    path = tmp_path / "metrics.jsonl"
    replay_speed.write_rows(path, 50_000)
    bare, full = replay_speed.speeds(path, 5)
    assert (
        statistics.median(b / f for b, f in zip(bare, full, strict=True)) >= 0.1
    )  # measured: 0.15; others use the machine too


@pytest.mark.parametrize("own", [False, True])
def test_a_watched_run_holds_20_kilobytes(tmp_path, own):
    assert replay_speed.memory_per_run(tmp_path, runs=3, rows=2500, own=own) <= 20_000
