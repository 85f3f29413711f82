"""`checker run`: any program as a run. `trainer wrap` does the work, in a process of its own; this only starts it."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any

from checker.terms import Complaint

EXPERIMENTS = Path("experiments")

_DESCRIPTION = (
    "Starts COMMAND, or follows a process that runs already, and keeps the status file that a watching checker needs: "
    "the program is seen to live, to hang, to crash or to end, and `checker kill` and the rules can stop it (SIGTERM, "
    "then SIGKILL after the grace). Its output goes to output.log in the folder, where the text reader understands it; "
    "logs of other kinds in the same folder come first. Nothing in the program has to change. Exit code: the program's "
    "own; 3 when it was asked to stop."
)


def add_to(commands: Any) -> None:
    """Adds the command to the parser of the command line."""
    run = commands.add_parser(
        "run",
        help="run any program as a run that can be watched and stopped, or follow one that runs already",
        description=_DESCRIPTION,
        usage="checker run [--folder DIR] [--stop-signal TERM|INT] (-- COMMAND ... | --pid PID)",
    )
    run.add_argument("--folder", type=Path, metavar="DIR", help=f"the run folder ({EXPERIMENTS}/run-DATE-TIME)")
    run.add_argument("--pid", type=int, metavar="PID", help="follow this process instead of starting one")
    run.add_argument("--stop-signal", choices=("TERM", "INT"), default="TERM", help="how it is asked to stop (TERM)")
    run.add_argument("program", nargs=argparse.REMAINDER, metavar="-- COMMAND", help=argparse.SUPPRESS)
    run.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    program = arguments.program[1:] if arguments.program[:1] == ["--"] else arguments.program
    if bool(program) == (arguments.pid is not None):
        raise Complaint("say either what to run, checker run -- COMMAND, or which process to follow, --pid PID")
    if importlib.util.find_spec("trainer") is None:
        raise Complaint("checker run needs the trainer package beside the checker, which pip install brings along")
    folder = arguments.folder or EXPERIMENTS / f"run-{time.strftime('%Y%m%d-%H%M%S')}"
    words = [sys.executable, "-m", "trainer", "wrap", str(folder), "--stop-signal", arguments.stop_signal]
    words += ["--pid", str(arguments.pid)] if arguments.pid is not None else ["--", *program]
    sys.stdout.flush()
    os.execv(sys.executable, words)  # noqa: S606 - no shell, and nothing but what was asked for
    return 0
