"""Real processes that are really killed, at any instant and in the midst of writing a checkpoint, go on exactly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VARIANTS = [
    pytest.param("stages", marks=pytest.mark.slow),
    "everything",
    pytest.param("workers", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_killed_and_resumed_is_the_undisturbed_run_bit_for_bit(variant):
    """In a process of its own, since it forks: this one may have threads."""
    program = [sys.executable, "tests/bench/resume_kills.py", "--variant", variant, "--runs", "1"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(program, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"| {variant} | 1 | " in ended.stdout
