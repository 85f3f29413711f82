import re

import pytest

from trainer.errors import SpecError
from trainer.reference import reference
from trainer.spec import Spec
from trainer.spec.keys import keys, sections

LEAVES = [key for key in keys(Spec) if not any(sections(key.field.annotation))]
TABLES = {key.path for key in keys(Spec) if any(sections(key.field.annotation))}


def parsed(text):
    """The titles with the names of the keys below each, in order."""
    found, plain = [], re.compile(r"  (\w+) = .+  \(.+\)$")
    for line in text.splitlines():
        if line and not line.startswith(" "):
            found.append((line, []))
        elif match := plain.match(line):
            found[-1][1].append(match[1])
    return found


def test_every_key_is_there_once_in_its_section():
    told = parsed(reference())
    assert sum(len(names) for _, names in told) == len(LEAVES)
    assert len({title for title, _ in told}) == len(told)
    for title, names in told:
        assert names, title
        assert len(set(names)) == len(names), title
    tables = [re.match(r"\[+([\w.]+)\]+|\(", title)[1] or "" for title, _ in told]
    assert set(tables) == {key.table for key in LEAVES}
    assert {(table, name) for table, (_, names) in zip(tables, told, strict=True) for name in names} == {
        (key.table, key.path.rpartition(".")[2]) for key in LEAVES
    }


def test_what_stands_in_no_table_comes_first():
    titles = [title for title, _ in parsed(reference())]
    assert titles[0] == "(before any table)"
    assert all(title.startswith("[") for title in titles[1:])


@pytest.mark.parametrize("key", LEAVES, ids=lambda key: f"{key.section.__name__}.{key.path.rpartition('.')[2]}")
def test_every_key_says_what_it_means(key):
    by_its_table = key.path.endswith(".kind") and not key.field.description
    meaning = key.section.__doc__ if by_its_table else key.field.description
    assert meaning
    assert meaning[0].isupper() or meaning[0] in "`…0123456789"
    assert meaning.rstrip().endswith((".", "…"))


@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_table_says_what_it_is_for(table):
    lines = reference(f"{table}.").splitlines()
    assert re.match(rf"\[+{re.escape(table)}\]+", lines[0])
    assert re.match(r"  [A-Z0-9]", lines[1])


@pytest.mark.parametrize(
    "line",
    [
        '  name = ""  (text)',
        "  seed = 1  (whole number, ≥ 0, < 9223372036854775808)",
        "  deterministic = false  (true or false)",
        '  task = "auto"  ("auto" | "language" | "classification" | "regression" or text, as package.module:name)',
        '[model] of kind "mlp"',
        "[model] of a kind of your own",
        "  channels = [16, 32]  (list of whole numbers, each ≥ 1)",
        "  options = {}  (table)",
        "[lora], only where it is wanted",
        '  targets = ["."]  (list of texts, each a regular expression)',
        '[data] of kind "jsonl" or "csv"',
        '[[data.sources]] of kind "digits", as often as wanted',
        "  path = (required)  (text)",
        "  betas = [0.9, 0.95]  (list of 2 numbers, each ≥ 0, < 1)",
        "[[optimizer.groups]], as often as wanted",
        "  match = (required)  (text, a regular expression)",
        "  lr = 0.001  (number, ≥ 0)",
        "[train]",
        "  steps = (none)  (whole number, ≥ 1)",
        "  step_end = []  (list of texts, each as package.module:name)",
    ],
)
def test_a_line_says_default_and_type_as_in_toml(line):
    assert line in reference().splitlines()


def test_a_part_can_be_asked_for():
    assert [title for title, _ in parsed(reference("schedule"))] == ["[schedule]"]
    assert parsed(reference("train.eval")) == [("[train]", ["eval_every", "eval_batches"])]
    with pytest.raises(SpecError, match=r"scheduel: no key begins like that; the first parts are name, hypothesis"):
        reference("scheduel")
