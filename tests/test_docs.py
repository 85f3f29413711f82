"""What the documentation says is checked, so it cannot lie."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

import contract
from checker.report import explain
from trainer import spec

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"^\| `checker (\w+)", README, re.MULTILINE)))


def test_the_table_of_rules_is_the_one_the_rules_make():
    assert explain.readme_table() in README


def test_the_first_command_stands_on_the_first_screen():
    lines = README.splitlines()
    assert next(number for number, line in enumerate(lines) if line.startswith("make demo")) < 30


def called(*arguments):
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout


@pytest.mark.parametrize("program", ["checker", "trainer"])
def test_every_command_is_in_the_readme_and_has_help(program):
    listed = re.findall(r"^    ([a-z]+)  +[a-z]", called(program, "--help"), re.MULTILINE)
    assert len(listed) > 1
    for command in listed:
        assert f"{program} {command}" in README
        assert len(called(program, command, "--help")) > 80, command


def test_every_make_target_in_the_readme_exists():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z-]+)", README):
        assert f"\n{target}:" in makefile, target


def test_linked_files_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists() or target == "curve.svg", target


def test_the_three_lines_of_the_readme_run(tmp_path):
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    script = "def train_one_step():\n    return 0.5\n" + block.replace("experiments/my-run", str(tmp_path / "my-run"))
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
    shown = subprocess.run([sys.executable, "-m", "checker", "once", str(tmp_path)], cwd=ROOT, check=False)
    assert (tmp_path / "my-run" / "diagnosis.md").read_text().startswith("# Diagnosis: my-run")
    assert shown.returncode in (0, 1)


def test_the_example_program_leaves_a_result_that_is_accepted(tmp_path):
    page = (ROOT / "experiments/README.md").read_text()
    program = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    settings = ["metric.name=loss", "metric.direction=min", "lr=0.1", "tiers.must_pass=0.5"]
    words = [word for setting in settings for word in ("--set", setting)]
    place = ["--experiments", str(tmp_path)]
    called("trainer", "new", "--external", "--hypothesis", "it works", *words, *place)
    assert "tier must_pass" in called("trainer", "exec", "exp-001", *place, "--", sys.executable, "-c", program)


def test_the_file_format_page_names_every_field():
    page = (ROOT / "experiments/README.md").read_text()
    for record in (contract.Row, contract.Experiment, contract.Kill, contract.Ack, contract.Process, contract.Rank):
        for field in fields(record):
            assert f"`{field.name}`" in page or f'"{field.name}"' in page, field.name


MANUAL = (ROOT / "trainer/README.md").read_text()
BLOCKS = re.findall(r"```toml\n(.*?)```", MANUAL, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0])
def test_every_example_of_the_manual_is_a_valid_spec(block):
    spec.build(spec.laid_over({"train": {"steps": 9}}, tomllib.loads(block)), where="trainer/README.md")


def test_every_table_of_a_spec_is_in_the_manual():
    for name in spec.Spec.model_fields:
        if name not in (
            "name",
            "hypothesis",
            "rationale",
            "parent",
            "tags",
            "tiers",
            "budget",
            "rehearsal",
            "seed",
            "device",
        ):
            assert re.search(rf"\[+{name}|`{name}|{name} =", MANUAL), name


def test_the_manual_links_to_its_own_sections():
    titles = {line[3:].lower().replace(" ", "-") for line in MANUAL.splitlines() if line.startswith("## ")}
    assert set(re.findall(r"\]\(#([^)]+)\)", MANUAL)) <= titles
