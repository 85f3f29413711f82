"""The command `mcp`: the checker for coding agents."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from checker.terms import Complaint

_MCP = """\
Serves the runs below DIR to a coding agent over the Model Context Protocol, on standard input and output; the agent's
own program starts it. Tools: list_runs, status, diagnosis, next_experiments, wait, events, replay, explain, verdict,
and kill, which refuses without --allow-kill. Answers are small (at most 8,000 characters of a text, 20 items of a
list), nothing outside DIR can be named, and what runs have written is stripped of escape sequences and secrets.

    {"mcpServers": {"checker": {"command": "checker", "args": ["mcp", "/path/to/experiments"]}}}
"""


def add_to(commands: Any) -> None:
    """Adds the command to the parser of the command line."""
    mcp = commands.add_parser(
        "mcp",
        help="serve the runs to a coding agent (Model Context Protocol)",
        description=_MCP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    mcp.add_argument("folder", type=Path, nargs="?", default=Path("experiments"), metavar="DIR", help="(experiments)")
    mcp.add_argument("--allow-kill", action="store_true", help="let the agent ask runs to stop")
    mcp.set_defaults(command=_mcp)


def _mcp(arguments: argparse.Namespace) -> int:
    from checker.agents.server import serve

    if not arguments.folder.is_dir():
        raise Complaint(f"{arguments.folder}: no such folder")
    serve(arguments.folder, allow_kill=arguments.allow_kill)
    return 0
