import dataclasses
import subprocess
import sys

import jinja2
import pytest
from jinja2 import nodes

from checker.report import checklist, grounds, pages, render

ALLOWED = {"Template", "Output", "TemplateData", "Name", "Getattr", "For", "If"}
NAMES = ["diagnosis.md.j2", "next.md.j2", "checklist.md.j2"]


def tree(name):
    return jinja2.Environment(autoescape=False).parse((render.FOLDER / name).read_text())


def test_these_are_all_templates():
    assert sorted(path.name for path in render.FOLDER.iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_template_holds_names_attributes_loops_and_ifs_and_nothing_else(name):
    def walk(node):
        assert type(node).__name__ in ALLOWED, f"{name}:{node.lineno}: {type(node).__name__}"
        for child in node.iter_child_nodes():
            walk(child)

    walk(tree(name))


@pytest.mark.parametrize("name", NAMES)
def test_an_if_asks_for_a_name_or_an_attribute(name):
    for node in tree(name).find_all(nodes.If):
        assert isinstance(node.test, nodes.Name | nodes.Getattr)
        assert not node.elif_


@pytest.mark.parametrize(
    "bad", ["{{ a|upper }}", "{{ a() }}", "{{ a + 1 }}", "{% if a == b %}{% endif %}", "{% set a = 1 %}", "{{ a[0] }}"]
)
def test_what_the_law_forbids_is_noticed(bad):
    found = {type(node).__name__ for node in jinja2.Environment(autoescape=False).parse(bad).find_all(nodes.Node)}
    assert found - ALLOWED


def test_a_missing_string_is_an_error_and_not_a_gap():
    with pytest.raises(jinja2.UndefinedError):
        render.page("next.md.j2", checklist.View("", "", [], []))


SHORT = pages.Diagnosis("n", "e", "v", "s", [], [], ["m"], "step", [], "c", "c.svg", ["a"], ["b"], ["x"], [], [])
ITEM = pages.Item("exp-1", "i", "r", "", "")
FULL = dataclasses.replace(
    SHORT, timeline=["t"], also=["a"], evidence=[grounds.Cell("q", "v")], suggestions=[ITEM], by_hand=[ITEM]
)


@pytest.mark.parametrize(
    ("name", "view"),
    [
        ("diagnosis.md.j2", SHORT),
        ("diagnosis.md.j2", FULL),
        ("next.md.j2", pages.Next(True, "", [], "", [], "nothing")),
        (
            "next.md.j2",
            pages.Next(False, "r", [ITEM, dataclasses.replace(ITEM, effect="e", toml="[a]")], "t", [ITEM, ITEM], ""),
        ),
        ("checklist.md.j2", checklist.View("c", "l", [], [])),
        ("checklist.md.j2", checklist.View("c", "l", [checklist.Row(*"12345678")], ["p"])),
    ],
    ids=["diagnosis, short", "diagnosis", "next, empty", "next", "checklist, empty", "checklist"],
)
def test_a_page_renders_without_stray_blank_lines(name, view):
    page = render.page(name, view)
    assert "\n\n\n" not in page
    assert page == page.strip() + "\n"


def test_jinja_is_not_loaded_before_a_page_is_rendered():
    code = "import checker.report.pages, checker.report.checklist, sys; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
