"""Old run folders are test assets for ever: what the rules say of each is compared with what they said before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from runs.record import judged

FOLDERS = sorted(path.parent for path in (Path(__file__).parent / "runs").glob("*/expected.json"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_golden_run_is_judged_as_before(folder):
    found, expected = judged(folder), json.loads((folder / "expected.json").read_text())
    assert found["rows"] == expected["rows"]
    assert [finding["rule"] for finding in found["findings"]] == [finding["rule"] for finding in expected["findings"]]
    assert found == expected


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_golden_run_shows_its_rule(folder):
    rules = {finding["rule"] for finding in json.loads((folder / "expected.json").read_text())["findings"]}
    assert folder.name in rules or (folder.name == "healthy" and not rules)
