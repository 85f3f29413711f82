"""What `make lint` says about known vulnerabilities, and when it fails."""

import importlib.util
import json
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("audit", Path(__file__).parents[1] / ".ci" / "audit.py")
audit = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(audit)

SOUND = {"name": "rich", "version": "15.0", "vulns": []}
BAD = {"name": "jinja2", "version": "2.0", "vulns": [{"id": "CVE-1", "fix_versions": ["3.1"]}]}
SKIPPED = {"name": "own", "skip_reason": "not found"}


def answer(*packages):
    return json.dumps({"dependencies": packages, "fixes": []})


CASES = {
    "sound": (answer(SOUND), "", 0, "audit: no known vulnerability in 1 packages"),
    "some unknown": (answer(SOUND, SKIPPED), "", 0, "audit: no known vulnerability in 1 packages; 1 could not be"),
    "a mirror that knows nothing": (answer(SKIPPED), "", 0, "audit: nobody could be asked (the service knows none"),
    "no network": ("", "WARNING: x\nERROR: Failed to connect\n", 0, "audit: nobody could be asked (ERROR: Failed"),
    "no answer at all": ("", "", 0, "audit: nobody could be asked (no answer)"),
    "an answer of another kind": ("[]", "", 0, "audit: nobody could be asked"),
    "a vulnerability": (answer(SOUND, BAD, SKIPPED), "Found 1", 1, "audit: jinja2 2.0 has CVE-1; fixed in 3.1"),
}


@pytest.mark.parametrize(("out", "trouble", "code", "told"), CASES.values(), ids=CASES.keys())
def test_only_a_known_vulnerability_fails(out, trouble, code, told):
    found, lines = audit.verdict(out, trouble)
    assert found == code
    assert lines[0].startswith(told)


def test_no_blanket_rule_hides_security_in_the_product():
    import tomllib  # noqa: PLC0415 - only here

    ruff = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    allowed = {"S101"}  # asserts narrow types
    assert ruff["select"] == ["ALL"]
    assert {rule for rule in ruff["ignore"] if (rule.startswith("S") and rule[1:].isdigit()) or rule == "S"} == allowed
    hidden = {place for place, rules in ruff["per-file-ignores"].items() if "S" in rules}
    assert hidden == {"tests/**"}
