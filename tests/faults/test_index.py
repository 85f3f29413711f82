"""Every fault has a test by name, and every test of this folder belongs to a fault."""

import re
from pathlib import Path

from index import FAULTS

HERE = Path(__file__).parent
RESULTS = HERE.parent / "bench/results/faults.md"


def test_every_fault_has_its_test_and_every_test_its_fault():
    named = {name for tests in FAULTS.values() for name in tests}
    there = {
        f"{path.name}::{name}"
        for path in HERE.glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
        if path.name != "test_index.py"
    }
    assert named == there


def test_the_results_show_the_same_list():
    text = RESULTS.read_text()
    assert all(fault in text for fault in FAULTS)
