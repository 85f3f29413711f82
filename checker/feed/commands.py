"""The commands for scripts and coding agents: `events` and `wait`."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from checker.clean import clean
from checker.terms import Complaint

FINE, ALERTED, KILLED, BROKEN, TIMED_OUT = 0, 1, 3, 4, 124
"""2 is a mistake in the command; 3 is also how a trainer says that it was stopped, 124 how timeout(1) says so."""

NOW = "now"

_EXPERIMENTS = Path("experiments")

_FALLBACK = 1.0
"""Seconds between two looks at a feed where the kernel does not tell that it grows."""

_EVENTS = """\
What happened to the runs below a folder, as the checker that watches it has told in DIR/events.jsonl: one JSON object
per line, with a `seq` that only grows. The seq of the last line that you got is the CURSOR of the next call, so each
event is got exactly once, also when the checker or you were restarted in between.

Kinds: alert (a warning or worse), note, recovered, act (what was done to stop a run), end (state: completed, killed,
failed, aborted, crashed), trouble (a run that the checker cannot judge), begin (the first line); of several runs of a
folder, without `run`: alike (they failed the same way), halt (what is left of their sweep is to stop).

Without --since it begins with the first line. `--since now` alone prints one line of the kind `now`, whose seq is where
the feed ends; with --follow it begins there.

Exit codes: 0; 2 a mistake, such as a CURSOR that this feed never gave; 124 --timeout passed before --limit was reached.
"""

_WAIT = """\
Blocks until something is wrong with a run or it is over, and prints one small JSON object about it.

RUN is a run folder, or an id in `experiments`. One that is not there yet has a minute to appear, for a trainer that was
started in the background. The wait costs nothing while nothing happens. A run that is over is told at once, always.

An alert is a finding that is a warning or worse. Without --since an alert that is open now is told at once. With the
`cursor` of the last answer as --since every alert is told exactly once, whatever happened in between; several that came
together are one answer, about the gravest, with the other rules under `also`.

A checker should watch the run (checker watch DIR). When none does, that is said on standard error, `watched` is false,
and only the end is seen, from the run's status file and its process.

Exit codes: 0 the run is completed; 1 an alert, and the run goes on; 2 a mistake in the command, or no such run; 3 it
was killed; 4 it failed, crashed or was aborted; 124 --timeout passed.
"""


def add_to(commands: Any) -> None:
    """Adds the commands to the parser of the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    wait = commands.add_parser(
        "wait", help="block until something is wrong with a run or it is over", description=_WAIT, formatter_class=raw
    )
    wait.add_argument("run", type=Path, metavar="RUN")
    wait.add_argument(
        "--until", choices=("alert", "end"), default="alert", help="end: whatever is wrong on the way (alert)"
    )
    wait.add_argument("--since", type=_place, metavar="CURSOR", help="tell alerts after this place; 0 for all")
    wait.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="0 to look and return at once (no limit)")
    wait.set_defaults(command=_wait)

    events = commands.add_parser(
        "events", help="what happened to all runs, each event once", description=_EVENTS, formatter_class=raw
    )
    events.add_argument("folder", type=Path, metavar="DIR", help="the folder that `checker watch` was given")
    events.add_argument(
        "--since", type=_since, default=0, metavar="CURSOR", help="only what came after this seq, or `now`"
    )
    events.add_argument("--follow", action="store_true", help="wait for more, until --limit, --timeout or Ctrl-C")
    events.add_argument("--limit", type=_count, metavar="N", help="at most so many lines")
    events.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="with --follow: end after so long")
    events.set_defaults(command=_events)


def _place(text: str) -> int:
    if text == "start":
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) < 17):
        raise argparse.ArgumentTypeError(f"{text!r} is no cursor; take the one of the last answer, or 0")
    return int(text)


def _since(text: str) -> int | str:
    return NOW if text == NOW else _place(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 10**9):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of lines")
    return int(text)


def _warn(text: str) -> None:
    print(f"checker: {clean(text)}", file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------------------- commands


def _wait(arguments: argparse.Namespace) -> int:
    from checker.feed.account import NoSuchPlace
    from checker.feed.bell import Deadline
    from checker.feed.waiting import Never, Wait, appeared
    from contract import encode

    deadline = Deadline(arguments.timeout)
    try:
        folder = appeared(arguments.run, _EXPERIMENTS, arguments.timeout, _warn)
        if folder is None:
            raise Complaint(f"{arguments.run}: no such run, and none has appeared within {arguments.timeout:g} s")
        left = None if arguments.timeout is None else deadline.at_most(arguments.timeout)
        wait = Wait(folder, since=arguments.since, warn=_warn)
        told = wait.until(end_only=arguments.until == "end", timeout=left)
    except (Never, NoSuchPlace) as error:
        raise Complaint(str(error)) from None
    print(encode(told).decode(), flush=True)
    if told["event"] != "end":
        return ALERTED if told["event"] == "alert" else TIMED_OUT
    return {"completed": FINE, "killed": KILLED}.get(told["state"], BROKEN)


def _events(arguments: argparse.Namespace) -> int:
    from checker.feed.bell import Bell, Deadline
    from checker.feed.reader import Reader
    from contract import EVENTS, encode

    if not arguments.folder.is_dir():
        raise Complaint(f"{arguments.folder}: no such folder")
    if arguments.timeout is not None and not arguments.follow:
        raise Complaint("--timeout is for --follow; without it nothing is waited for")
    path = arguments.folder / EVENTS
    reader = Reader(path)
    _begin(reader, arguments)
    deadline, bell, left = Deadline(arguments.timeout), Bell(path), arguments.limit
    try:
        while True:
            bell.listen()
            for line in _lines(reader):
                print(encode(line).decode(), flush=True)
                left = left - 1 if left is not None else None
                if left == 0:
                    return FINE
            if not arguments.follow:
                return FINE
            if deadline.passed:
                return TIMED_OUT
            bell.wait(deadline.at_most(_FALLBACK))
    finally:
        bell.close()


def _begin(reader: Any, arguments: argparse.Namespace) -> None:
    """Puts the reader at the place that was asked for."""
    from contract import encode

    try:
        last = reader.last()
    except OSError as error:
        if isinstance(error, FileNotFoundError) and arguments.follow and arguments.since in (0, NOW):
            return  # the checker that will write it is perhaps only starting
        why = "no checker has watched here yet" if isinstance(error, FileNotFoundError) else error.strerror or error
        raise Complaint(f"{reader.path} cannot be read: {why}") from None
    if arguments.since == NOW:
        reader.since = last
        if not arguments.follow:
            print(encode({"seq": last, "kind": NOW}).decode())
    elif arguments.since > last:
        raise Complaint(f"--since {arguments.since}: no place in {reader.path}, whose last is {last}")
    else:
        reader.since = arguments.since


def _lines(reader: Any) -> Any:
    try:
        yield from reader.read()
    except FileNotFoundError:  # deleted, or not there yet; the checker writes it anew within a second
        return
