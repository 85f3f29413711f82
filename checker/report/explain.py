"""What a rule does, in its own words: one text for the command line, the README and the report."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import itertools
import re
import textwrap
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from checker.detectors import RULES, Rule
from checker.judge import POLICY, Hold, Policy

PARAGRAPHS = ("What it sees", "Why it matters", "How it decides", "What to do")
"""Every rule's docstring has these four, after a headline."""

_WIDTH = 100


def text(rule: str | None, limits: Mapping[str, Any] | None = None) -> str:
    """Everything about one rule, with its limits as they are in `limits` or as shipped; or a table of all rules.

    Raises:
        ValueError: there is no such rule; the message names the nearest ones.
    """
    return _one(_find(rule), limits or {}) if rule else _all()


def headline(rule: str) -> str:
    """The first line of the rule's docstring, without its full stop."""
    doc = inspect.getdoc(_find(rule).module) or ""
    return doc.partition("\n")[0].strip().removesuffix(".")


def paragraph(rule: str, label: str) -> str:
    """The paragraph of the rule's docstring that starts with `label`, on one line and without the label.

    Raises:
        ValueError: there is no such rule.
    """
    doc = inspect.getdoc(_find(rule).module) or ""
    found = re.search(rf"^{re.escape(label)}:(.*?)(?:\n[ \t]*\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def readme_table() -> str:
    """The table of rules as the README shows it."""
    lines = ["| rule | what it finds | when suspected | when certain |", "|---|---|---|---|"]
    for rule in RULES:
        policy = POLICY[rule.name]
        suspect, sure = (_outcome(policy.suspect), _outcome(policy.sure))
        lines.append(f"| `{rule.name}` | {headline(rule.name)} | {suspect} | {sure} |")
    return "\n".join(lines) + "\n"


def _find(name: str) -> Rule:
    for rule in RULES:
        if rule.name == name:
            return rule
    names = [rule.name for rule in RULES]
    near = difflib.get_close_matches(name.lower().replace("-", "_"), names, n=3, cutoff=0.4)
    raise ValueError(
        f"there is no rule {name!r}; " + (f"nearest: {', '.join(near)}" if near else f"rules: {', '.join(names)}")
    )


def _one(rule: Rule, limits: Mapping[str, Any]) -> str:
    parts = [f"{rule.name}: {headline(rule.name)}"]
    parts += [_fill(f"{label}: {paragraph(rule.name, label)}") for label in PARAGRAPHS]
    parts.append("Policy:\n" + "\n".join(_policy(POLICY[rule.name])))
    told = _limits(rule, limits.get(rule.name, rule.limits))
    parts.append("Limits:\n" + ("\n".join(told) or "  none: this rule has nothing to set"))
    if rule.needs:
        parts.append(f"Needs in the log: {', '.join(rule.needs)}")
    return "\n\n".join(parts) + "\n"


def _all() -> str:
    rows = [(rule.name, headline(rule.name), str(POLICY[rule.name].sure[1])) for rule in RULES]
    names, heads = (max(len(row[column]) for row in rows) for column in (0, 1))
    lines = [f"{'rule':{names}}  {'what it finds':{heads}}  action when certain"]
    lines += [f"{name:{names}}  {head:{heads}}  {action}" for name, head, action in rows]
    return "\n".join(lines) + "\n\n`checker explain RULE` tells how a rule decides and what to do.\n"


def _fill(paragraph_text: str) -> str:
    return textwrap.fill(paragraph_text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _outcome(outcome: tuple[str, str]) -> str:
    severity, action = outcome
    return f"{severity}, {action}"


def _policy(policy: Policy) -> list[str]:
    lines = [f"  when certain    {_outcome(policy.sure)}, {_hold(policy.hold_sure)}"]
    if (policy.suspect, policy.hold) != (policy.sure, policy.hold_sure):
        lines.insert(0, f"  when suspected  {_outcome(policy.suspect)}, {_hold(policy.hold)}")
    ends = "with the next row" if policy.row_ends else f"once it was gone for {_span(policy.rest)}"
    return [*lines, f"  episode over    {ends}"]


def _hold(hold: Hold) -> str:
    return f"after it held for {_span(hold)}" if hold.rows or hold.share else "at once"


def _span(hold: Hold) -> str:
    rows = f"{hold.rows} rows"
    share = f"{100 * hold.share:g} % of the rows so far"
    if hold.rows and hold.share:
        return f"{rows} and {share}"
    return share if hold.share else rows


def _limits(rule: Rule, limits: Any) -> list[str]:
    reasons = _reasons(rule.module)
    lines = []
    for field in dataclasses.fields(rule.limits):
        shipped, value = getattr(rule.limits, field.name), getattr(limits, field.name)
        lines.append(f"  {field.name} = {value!r}" + (f"  (shipped: {shipped!r})" if value != shipped else ""))
        if reason := reasons.get(field.name):
            lines.append(textwrap.indent(_fill(reason), "      "))
    return lines


def _reasons(module: ModuleType) -> dict[str, str]:
    """The text beside each default, which only the source holds; nothing where there is no source."""
    try:
        tree = ast.parse(inspect.getsource(module))
    except OSError:
        return {}
    limits = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Limits")
    reasons = {}
    for field, after in itertools.pairwise(limits.body):
        match field, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(reason))):
                reasons[name] = " ".join(reason.split())
    return reasons
