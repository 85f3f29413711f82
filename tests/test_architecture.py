"""The laws of the house, each of which fails when it is broken."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from checker.detectors import RULES
from checker.judge import POLICY

ROOT = Path(__file__).parent.parent
INNER = (
    "events", "finding", "names", "series", "gaps", "folds", "history", "trend", "witness", "ranks", "judge",
    "caution", "conformal",
)  # fmt: skip
HANDS = {
    "os", "time", "datetime", "signal", "pathlib", "random", "logging", "subprocess", "socket", "threading", "watchdog",
    "jinja2", "rich",
}  # fmt: skip
RULE_FILES = sorted(path for path in (ROOT / "checker/detectors").glob("*.py") if path.stem != "__init__")


def imported(path):
    """The dotted names that the file at `path` imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def tops(path):
    return {name.partition(".")[0] for name in imported(path)}


def test_the_treaty_needs_the_standard_library_only():
    assert tops(ROOT / "contract.py") <= set(sys.stdlib_module_names)


def test_a_run_log_needs_the_standard_library_and_the_treaty_only():
    known = set(sys.stdlib_module_names) | {"contract", "trainer"}
    for name in ("log", "ranks", "stop", "cadence", "sealed"):
        quicker = {"pydantic_core"} if name == "log" else set()  # taken where it is installed
        assert tops(ROOT / f"trainer/{name}.py") <= known | quicker


def test_a_run_log_writes_the_same_rows_without_anything_installed(tmp_path):
    program = (
        "import sys\n"
        "if sys.argv[2] == 'bare': sys.modules['pydantic_core'] = None\n"
        "from trainer.log import RunLog\n"
        "with RunLog(sys.argv[1]) as log:\n"
        "    log.step(1, loss=0.1, lr=1e-3, nan=float('nan'), huge=1e300, whole=3)\n"
    )
    rows = []
    for kind in ("bare", "quick"):
        subprocess.run([sys.executable, "-c", program, tmp_path / kind, kind], check=True, cwd=ROOT)
        row = json.loads((tmp_path / kind / "metrics.jsonl").read_text().splitlines()[-2])
        rows.append((row["step"], row["learning_rate"], row["metrics"]))
    assert rows[0] == rows[1] == (1, 1e-3, {"loss": 0.1, "nan": "NaN", "huge": 1e300, "whole": 3})


def test_another_program_is_run_with_the_standard_library_only():
    poison = (
        "import sys\n"
        "class Poison:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'numpy', 'pydantic', 'checker'): raise AssertionError(name)\n"
        "sys.meta_path.insert(0, Poison())\n"
        "import trainer.external.execute, trainer.external.wrap, trainer.abort, trainer.cli\n"
    )
    subprocess.run([sys.executable, "-c", poison], check=True, cwd=ROOT)


@pytest.mark.parametrize("path", [*(ROOT / "trainer").rglob("*.py")], ids=lambda path: path.stem)
def test_the_trainer_does_not_know_the_checker(path):
    assert "checker" not in tops(path)


@pytest.mark.parametrize("path", [*(ROOT / "checker").rglob("*.py")], ids=lambda path: path.stem)
def test_the_checker_knows_neither_the_trainer_nor_its_libraries(path):
    assert not tops(path) & {"trainer", "torch", "numpy"}


@pytest.mark.parametrize(
    "path", [ROOT / f"checker/{name}.py" for name in INNER] + RULE_FILES, ids=lambda path: path.stem
)
def test_the_inner_ring_has_no_hands(path):
    names = imported(path)
    assert not {name.partition(".")[0] for name in names} & HANDS
    used = {name.split(".")[1] for name in names if name.startswith("checker.")}
    assert used <= {*INNER, "detectors"}


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.stem)
def test_a_rule_knows_no_other_rule(path):
    assert not any(name.startswith("checker.detectors") for name in imported(path))


def test_the_checker_starts_without_torch_numpy_and_extras():
    poison = (
        "import sys\n"
        "class Poison:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        known = ('torch', 'numpy', 'trainer', 'prometheus_client', 'apprise', 'mcp', 'anyio', 'tensorboard',\n"
        "            'google', 'wandb', 'mlflow', 'sqlalchemy', 'ray', 'lightning', 'transformers', 'keras')\n"
        "        if name.partition('.')[0] in known: raise AssertionError(name)\n"
        "sys.meta_path.insert(0, Poison())\n"
        "import checker.cli, checker.daemon, checker.replay, checker.report.pages, checker.report.checklist\n"
        "import checker.service.surround, checker.service.doctor, checker.service.metrics\n"
        "import checker.formats.roll, checker.formats.inspect, checker.source\n"
        "import checker.alarms.notifier, checker.alarms.send, checker.agents.server\n"
    )
    subprocess.run([sys.executable, "-c", poison], check=True, cwd=ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
class TestEveryRule:
    def test_says_four_things(self, rule):
        paragraphs = rule.module.__doc__.strip().split("\n\n")
        starts = ["What it sees:", "Why it matters:", "How it decides:", "What to do:"]
        assert len(paragraphs) == 5, rule.name
        assert paragraphs[0].endswith(".")
        assert [paragraph.startswith(start) for paragraph, start in zip(paragraphs[1:], starts, strict=True)] == [
            True
        ] * 4

    def test_has_frozen_limits(self, rule):
        assert type(rule.limits).__dataclass_params__.frozen
        assert type(rule.limits) is rule.module.Limits

    def test_has_a_policy(self, rule):
        assert rule.name in POLICY

    def test_has_a_test(self, rule):
        assert (ROOT / f"tests/detectors/test_{rule.name}.py").is_file()

    def test_has_a_golden_run(self, rule):
        assert (ROOT / f"tests/runs/{rule.name}/expected.json").is_file()

    def test_is_in_the_readme(self, rule):
        assert f"`{rule.name}`" in (ROOT / "README.md").read_text()


def test_the_roll_call_is_complete():
    assert {rule.name for rule in RULES} == {path.stem for path in RULE_FILES} == set(POLICY)


def test_one_broad_except_and_it_stands_in_the_daemon():
    broad = []
    for path in (ROOT / "checker").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                names = {getattr(item, "id", None) for item in ast.walk(node.type)} if node.type else {None}
                if node.type is None or names & {"Exception", "BaseException"}:
                    broad.append(path.stem)
    assert broad == ["daemon"]
