"""The commands about the service itself: service, doctor; and the options of `watch` that belong to it.

Modules are imported by the command that needs them, so that every command starts at once.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any

from checker.alarms.commands import add_watch_option
from checker.terms import Complaint

LOCAL = "127.0.0.1"


def add_to(commands: Any) -> None:
    """Adds the commands to the parser of the command line."""
    service = commands.add_parser(
        "service",
        help="print a systemd unit that watches a folder",
        description="Prints a unit for your own systemd (`systemctl --user`), or with --system for the machine's. Its "
        "first lines say where it goes and how it is started. All options of `checker watch` go into it.",
    )
    service.add_argument("folder", type=Path, metavar="DIR")
    service.add_argument("--system", action="store_true", help="a unit of the machine, for --user")
    service.add_argument("--user", metavar="NAME", help="whose runs a --system unit watches (you)")
    service.add_argument("--observe", action="store_true", help="touch no run; journal what would have been stopped")
    service.add_argument("--poll", type=_seconds, metavar="SECONDS", help="look at least this often (1.0)")
    service.add_argument("--limits", type=Path, metavar="FILE", help="a limits file instead of DIR/checker.toml")
    add_watch_options(service)
    service.set_defaults(command=_service)

    doctor = commands.add_parser(
        "doctor",
        help="check what the checker needs from this machine and from a folder, and say what to do",
        description="Checks the machine and, with DIR, the folder that is to be watched and the runs in it. Nothing is "
        "changed: a file of its own is made in DIR for a moment. Exit codes: 0 all is well, 1 warnings, 2 failures.",
    )
    doctor.add_argument("folder", type=Path, nargs="?", metavar="DIR")
    doctor.add_argument("--json", action="store_true", help="one JSON object")
    doctor.set_defaults(command=_doctor)


def add_watch_options(parser: argparse.ArgumentParser) -> None:
    """The options of `watch` that only matter where nobody looks at it."""
    parser.add_argument(
        "--log-format", choices=("text", "json"), help="write lines, on a terminal too; json: one object per line"
    )
    parser.add_argument("--metrics-port", type=_port, metavar="PORT", help="serve metrics for Prometheus (0: any port)")
    parser.add_argument("--metrics-host", default=LOCAL, metavar="HOST", help=f"where they are served ({LOCAL})")
    add_watch_option(parser)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text[:9]) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _seconds(text: str) -> str:
    """A pace as it was written, if it is one."""
    try:
        known = 0.01 <= float(text) <= 3600
    except ValueError:
        known = False
    if not known:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0.01 and 3600 seconds")
    return text


def _service(arguments: argparse.Namespace) -> int:
    import getpass

    from checker.service.unit import Unit

    root = arguments.folder.resolve()
    if not root.is_dir():
        raise Complaint(f"{arguments.folder}: no such folder")
    if arguments.user and not arguments.system:
        raise Complaint("--user is for a unit of the machine: add --system")
    if arguments.user and not re.fullmatch(r"[\w.-]+\$?", arguments.user):
        raise Complaint(f"--user {arguments.user}: no name of a user")
    options = ["--observe"] if arguments.observe else []
    options += ["--poll", arguments.poll] if arguments.poll else []
    options += ["--limits", str(arguments.limits.resolve())] if arguments.limits else []
    options += ["--log-format", arguments.log_format] if arguments.log_format else []
    if arguments.metrics_port is not None:
        options += ["--metrics-port", str(arguments.metrics_port)]
        options += ["--metrics-host", arguments.metrics_host] if arguments.metrics_host != LOCAL else []
    for where in arguments.notify:
        if not os.path.isfile(where):
            raise Complaint("--notify: a unit can be read by everybody; write the URL into a file, and name that")
        options += ["--notify", os.path.abspath(where)]
    path = os.environ.get("PYTHONPATH")
    unit = Unit(
        root=root,
        options=options,
        user=(arguments.user or getpass.getuser()) if arguments.system else None,
        network=arguments.metrics_port is not None or bool(arguments.notify),
        environment={"PYTHONPATH": os.pathsep.join(map(os.path.abspath, path.split(os.pathsep)))} if path else {},
    )
    sys.stdout.write(unit.text())
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from checker.service import doctor

    return doctor.main(arguments.folder, as_json=arguments.json)
