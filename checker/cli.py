"""The command line. Modules are imported by the command that needs them, so that every command starts at once."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checker import launch
from checker.agents import commands as agent_commands
from checker.alarms import commands as alarm_commands
from checker.clean import clean
from checker.feed import commands as feed_commands
from checker.formats import commands as format_commands
from checker.registry import commands as registry_commands
from checker.service import commands as service_commands
from checker.terms import Complaint

if TYPE_CHECKING:
    from contextlib import ExitStack

    from checker.daemon import Daemon
    from checker.limits import InForce
    from checker.run import Run
    from checker.service.logs import Log
    from checker.service.surround import Say

HEALTHY, WARNED, BROKEN = 0, 1, 2
LISTED = 5
"""Unreadable lines that a replay shows; `--json` has more of them."""
USAGE = 2
_CALIBRATE = (
    "Plays your past runs by more and more cautious limits and writes the least cautious ones that keep a promise: the "
    "next run that would end well if left alone is killed with a probability of at most RATE. A rate of 0.05 takes 19 "
    "runs that ended well, 0.01 takes 99, 0.001 takes 999; with fewer it refuses and says what they can promise."
)
_WATCH = (
    "Judges every run below DIR as it goes on, stops the doomed ones and writes the reports. SIGTERM and SIGINT end it "
    "within a second, with everything written. SIGHUP has it read its limits again: wrong ones are refused and the old "
    "ones kept, new ones judge every run that goes on from its first row. When its terminal is closed a watch with a "
    "live table ends; one that writes lines goes on. Under systemd it says when it is ready and that it is alive; "
    "`checker service` prints a unit for it."
)
_LIMITS = "a limits file instead of DIR/checker.toml"


_GROUPS = (
    format_commands, launch, registry_commands, feed_commands, service_commands, alarm_commands, agent_commands,
)  # fmt: skip
"""Modules that add their commands."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except Complaint as complaint:
        return _complain(str(complaint))
    except BrokenPipeError:  # `checker status … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return HEALTHY
    except KeyboardInterrupt:
        return 130


def _complain(text: str) -> int:

    for line in text.splitlines() or [""]:
        print(f"checker: {clean(line)}", file=sys.stderr)
    return USAGE


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="checker", description="Watches training runs and stops the doomed ones.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)

    watch = commands.add_parser(
        "watch", help="watch every run below a folder, and stop what is doomed", description=_WATCH
    )
    watch.add_argument("folder", type=Path, metavar="DIR")
    watch.add_argument("--observe", action="store_true", help="touch no run; journal what would have been stopped")
    watch.add_argument("--poll", type=_positive, default=1.0, metavar="SECONDS", help="look at least this often (1.0)")
    watch.add_argument("--while-pid", type=_pid, metavar="PID", help="end when this process has ended and all is told")
    watch.add_argument("--limits", type=Path, metavar="FILE", help=_LIMITS)
    service_commands.add_watch_options(watch)
    watch.set_defaults(command=_watch)

    once = commands.add_parser("once", help="judge what is there, write the reports and end")
    once.add_argument("folder", type=Path, metavar="DIR")
    once.add_argument("--limits", type=Path, metavar="FILE", help=_LIMITS)
    once.set_defaults(command=_once)

    replay = commands.add_parser("replay", help="what the checker would have done about recorded runs")
    replay.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="a run folder or a log file")
    replay.add_argument("--json", action="store_true", help="one JSON object per path and line")
    replay.add_argument("--limits", type=Path, metavar="FILE", help=_LIMITS)
    replay.set_defaults(command=_replay)

    kill = commands.add_parser("kill", help="ask a run to stop; a watching checker sees to it that it does")
    kill.add_argument("run", type=Path, metavar="RUN")
    kill.add_argument("--reason", required=True, metavar="TEXT")
    kill.set_defaults(command=_kill)

    status = commands.add_parser("status", help="one table of all runs below a folder")
    status.add_argument("folder", type=Path, metavar="DIR")
    status.add_argument("--json", action="store_true", help="one JSON object per run and line")
    status.set_defaults(command=_status)

    backtest = commands.add_parser("backtest", help="what the checker would have done to all your past runs")
    backtest.add_argument("paths", type=Path, nargs="+", metavar="DIR", help="folders of runs, or log files")
    backtest.add_argument("--labels", type=Path, metavar="FILE", help="JSON lines with id (or path), label, onset_row")
    backtest.add_argument("--curves", type=Path, metavar="FOLDER", help="draw the kills of runs that ended well")
    backtest.add_argument("--json", action="store_true", help="one JSON object")
    backtest.add_argument("--jobs", type=int, metavar="N", help="processes (default: one per core)")
    backtest.add_argument("--limits", type=Path, metavar="FILE", help=_LIMITS)
    backtest.set_defaults(command=_backtest)

    calibrate = commands.add_parser(
        "calibrate", help="fit limits to your past runs, with a promise about false kills", description=_CALIBRATE
    )
    calibrate.add_argument("folder", type=Path, metavar="DIR", help="the history: run folders, or log files")
    calibrate.add_argument(
        "--false-kill-rate", type=_rate, default="0.01", metavar="RATE",
        help="the most that may be killed of the runs that end well (0.01)",
    )  # fmt: skip
    calibrate.add_argument("--labels", type=Path, metavar="FILE", help="as for backtest; only the healthy ones count")
    calibrate.add_argument("--output", type=Path, metavar="FILE", help="where the limits go (DIR/checker.toml)")
    calibrate.add_argument("--force", action="store_true", help="replace a file that was made or changed by hand")
    calibrate.add_argument("--jobs", type=int, metavar="N", help="processes (default: one per core)")
    calibrate.set_defaults(command=_calibrate)

    for group in _GROUPS:
        group.add_to(commands)
    explain = commands.add_parser("explain", help="what a rule sees, why it matters, how it decides, what to do")
    explain.add_argument("rule", nargs="?", metavar="RULE")
    explain.add_argument("--limits", type=Path, metavar="FILE", help="show the limits as they are in this file")
    explain.set_defaults(command=_explain)
    return parser


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence; the full usage is what `--help` is for."""

    def error(self, message: str) -> Any:
        self.exit(USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0.01 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.01 and 3600 seconds")
    return value


def _pid(text: str) -> int:
    value = int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not a process id")
    return value


def _rate(text: str) -> Any:
    from fractions import Fraction

    try:
        known = 1e-6 <= float(text) <= 0.5
    except ValueError:
        known = False
    if not known:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate from 0.000001 to 0.5")
    return Fraction(text)


def _on_error(text: str) -> None:
    print(f"checker: {clean(text)}", file=sys.stderr, flush=True)


def _limits(
    place: Path,
    named: Path | None,
    *,
    above: bool = False,
    told: set[str] | None = None,
    tell: Callable[[str], object] = _on_error,
) -> InForce:
    """The limits to judge `place` by; says once where they come from, unless they are the shipped."""
    from checker import limits

    try:
        found = (limits.in_force_above if above else limits.in_force)(place, named)
    except limits.LimitsError as error:
        raise Complaint(str(error)) from None
    sentence = found.sentence()
    if sentence and (told is None or sentence not in told):
        tell(sentence)
        (told if told is not None else set()).add(sentence)
    return found


def _root(folder: Path) -> Path:
    if not folder.exists():
        raise Complaint(f"{folder}: no such folder")
    if not folder.is_dir():
        raise Complaint(f"{folder}: not a folder")
    return folder.resolve()


def _reporter(root: Path) -> tuple[Callable[[Run], None], Callable[[], Iterator[None]]]:
    """What writes one run's reports, and what writes the checklist over all of them, bit by bit."""
    from importlib import import_module
    from importlib.util import find_spec

    from checker.places import is_run

    if find_spec("checker.report.pages") is None or find_spec("checker.report.checklist") is None:
        return lambda _: None, lambda: iter(())
    report, checklist = import_module("checker.report.pages"), import_module("checker.report.checklist")

    def write(run: Run) -> None:
        report.write(
            run.folder,
            run.case,
            status=run.document or None,
            experiment=run.experiment,
            acts=run.acts,
            unreadable=list(run.unreadable),
        )

    experiments = root.parent if is_run(root) else root  # whoever watches one run alone updates the list it is in
    return write, lambda: checklist.steps(experiments)


# ------------------------------------------------------------------------------------------------------- commands


def _watch(arguments: argparse.Namespace) -> int:
    from contextlib import ExitStack
    from functools import partial

    from checker.daemon import Daemon
    from checker.feed.feed import Feed
    from checker.lock import Held, only_one
    from checker.rehearse import rehearse
    from checker.service.logs import Format, Log
    from checker.service.surround import Surroundings, counted
    from checker.terms import Mode

    root = _root(arguments.folder)
    mode = Mode.OBSERVE if arguments.observe else Mode.ACT
    log = Log(Format(arguments.log_format or Format.TEXT))
    lines = arguments.log_format is not None or not sys.stdout.isatty()
    in_log = partial(log.say, "limits") if arguments.log_format == Format.JSON else _on_error
    limits = _limits(root, arguments.limits, tell=in_log)
    try:
        with ExitStack() as stack:
            heartbeat = stack.enter_context(only_one(root))
            metrics = _metrics(arguments)
            alarms = stack.enter_context(_alarms(arguments, root))
            report, summarize = _reporter(root)
            daemon = Daemon(
                root, mode=mode, limits=limits.limits, poll=arguments.poll,
                on_change=counted(report, metrics), on_changes=summarize,
            )  # fmt: skip
            daemon.feed, daemon.logs, daemon.sweeps.policy = Feed(root), limits.reading, limits.sweep
            daemon.catch_signals()
            over = _ending(daemon, arguments.while_pid)
            with ExitStack() as shown:
                say = _say_in_lines(daemon, log) if lines else _say_on_screen(daemon, shown)
                around = Surroundings(
                    daemon, heartbeat, say, named=arguments.limits, screen=not lines, metrics=metrics, alarms=alarms
                )
                daemon.tell(rehearse(root, mode))
                if lines:
                    say("started", _started(root, mode, metrics), mode=str(mode), folder=str(root))
                daemon.run(over)
            why = _why(daemon.signalled, arguments.while_pid)
            around.end(why)
            if arguments.observe:
                _say_observed(log, sum(run.observed for run in daemon.runs.values()))
            if lines:
                log.say("stopped", f"stopped watching {root}: {why}")
            return HEALTHY
    except Held as held:
        raise Complaint(str(held)) from None
    except BrokenPipeError:  # `checker watch … | head`
        raise
    except OSError as error:
        raise Complaint(f"{root} cannot be watched: {error}") from None


def _say_in_lines(daemon: Daemon, log: Log) -> Say:
    """Has everything said as lines of a log; the answer says something about the checker itself."""
    daemon.tell = log.tell
    return log.say


def _say_on_screen(daemon: Daemon, shown: ExitStack) -> Say:
    """The same with one live table, as long as `shown` lasts."""
    from checker.show import Screen

    screen = shown.enter_context(Screen())
    daemon.tell = screen.tell
    daemon.after_round = lambda: screen.draw(daemon.runs.values())
    return screen.say


def _say_observed(log: Any, stops: int) -> None:
    log.say("observed", f"observed only: {stops} stops were not asked for", stops=stops)


def _started(root: Path, mode: Any, metrics: Any) -> str:
    observing = " (observing only)" if mode == "observe" else ""
    return f"watching {root}{observing}{f', metrics at {metrics.address}' if metrics else ''}"


def _metrics(arguments: argparse.Namespace) -> Any:
    """The page of numbers, where one is asked for."""
    if arguments.metrics_port is None:
        return None
    from checker.service.metrics import Metrics

    return Metrics(arguments.metrics_host, arguments.metrics_port)


def _alarms(arguments: argparse.Namespace, root: Path) -> Any:
    """Who tells people, where that is asked for.

    A watch that belongs to one process is mostly that of a single run, which the watch of the whole folder tells of
    when it has ended: what the environment says is not for it.
    """
    environ = os.environ if arguments.while_pid is None else {}
    return alarm_commands.beside(root, arguments.notify, arguments.limits, environ)


def _why(signum: int, pid: int | None) -> str:
    """Why a watch has ended."""
    import signal

    return signal.Signals(signum).name if signum else f"process {pid} has ended and all is told"


def _ending(daemon: Any, pid: int | None) -> Callable[[], bool]:
    """Whether the process that the watch belongs to has ended and nothing is left to be told."""
    import time

    from contract import process_started

    if pid is None:
        return lambda: False
    started, ended = process_started(pid), [0.0]

    def over() -> bool:
        if process_started(pid) == started and started is not None:
            return False
        ended[0] = ended[0] or time.monotonic()
        waited = time.monotonic() - ended[0]
        return waited >= 2 * daemon.alarm.poll and (daemon.quiet or waited >= 60)

    return over


def _once(arguments: argparse.Namespace) -> int:
    from contextlib import ExitStack
    from itertools import chain

    from checker.daemon import judge_once
    from checker.feed.feed import Feed
    from checker.finding import Severity
    from checker.lock import Held, only_one
    from checker.show import line
    from checker.sweeps import Sweeps
    from checker.terms import Mode, Notice
    from checker.wording import count

    root = _root(arguments.folder)
    limits = _limits(root, arguments.limits)
    with ExitStack() as stack:
        try:
            stack.enter_context(only_one(root))
        except Held as held:
            raise Complaint(f"{held}; it judges and reports all the time (see `checker status`)") from None
        except OSError as error:
            raise Complaint(f"{root} cannot be written: {error}") from None
        report, summarize = _reporter(root)
        feed = Feed(root)
        runs, notices = judge_once(
            root, mode=Mode.JUDGE, on_change=report, limits=limits.limits, reading=limits.reading, feed=feed
        )
        sweeps = Sweeps(root, Mode.JUDGE, tell=notices.extend, feed=lambda: feed)
        for run in runs:
            sweeps.arrived(run.folder)
        for _ in chain(sweeps.steps(), summarize()):
            pass
        notices += [Notice("checker", trouble, Severity.WARNING) for trouble in feed.keep()]
        feed.close()
    if not runs and not notices:
        raise Complaint(f"{root}: no run folders (none with a log that is understood; `checker formats` lists them)")
    for notice in notices:
        print(line(notice))
    found = [finding.severity for run in runs for finding in run.case.open_findings()]
    worst = max((severity.rank for severity in found), default=0)
    told = sum(severity is not Severity.INFO for severity in found)
    print(f"{count(len(runs), 'run')}, {count(told, 'open finding')}")
    broken = any(notice.text.startswith("cannot be judged") for notice in notices)
    return BROKEN if broken else (HEALTHY, WARNED, BROKEN)[worst]


def _replay(arguments: argparse.Namespace) -> int:
    from checker import replay

    code, told = HEALTHY, set[str]()
    for path in arguments.paths:
        try:
            by = _limits(path, arguments.limits, above=True, told=told)
            found = replay.read(path, limits=by.limits, reading=by.reading)
        except (ValueError, OSError) as error:
            code = _complain(str(error))
            continue
        if not found.rows:
            code = _complain(f"{path}: no readable row{_first_of(found)}")
            if not (arguments.json or found.case.findings):
                continue
        if arguments.json:
            from contract import encode

            print(encode(found.document()).decode())
        else:
            _print_replay(found)
    return code


def _first_of(found: Any) -> str:
    """How a file without rows begins."""
    if not found.unreadable:
        return ""
    bad, count = found.unreadable[0], found.case.history.unreadable
    return f" among {count} line{'' if count == 1 else 's'}; line {bad.line}: {bad.reason}"


def _print_replay(found: Any) -> None:
    from contract import METRICS

    document = found.document()
    file = METRICS if found.path.is_dir() else found.path.name
    print(f"{clean(found.path)}: {document['rows']} rows, {document['unreadable']} unreadable lines")
    for bad in found.unreadable[:LISTED]:
        print(f"  {clean(file)}:{bad.line}: {clean(bad.reason)}")
    if document["unreadable"] > LISTED:
        print(f"  … and {document['unreadable'] - LISTED} more")
    for finding in document["findings"]:
        step = "-" if finding["step"] is None else finding["step"]
        head = f"row {finding['row']} step {step} {finding['rule']} {finding['severity']} {finding['action']}"
        print(f"  {head}  {clean(finding['summary'])}")
    verdict = document["verdict"]
    at = f"row {verdict['row']}" if verdict["step"] is None else f"step {verdict['step']}"
    print(f"  verdict: {'stop, ' + verdict['rule'] + ' at ' + at if verdict['kill'] else 'let it run'}")
    for text in document["cannot_judge"]:
        print(f"  cannot judge: {clean(text)}")


def _kill(arguments: argparse.Namespace) -> int:
    from checker.request import ask_to_stop

    for line in ask_to_stop(_root(arguments.run), arguments.reason):
        print(line)
    return HEALTHY


def _status(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from checker.alarms.fares import failure
    from checker.alarms.record import Health, served
    from checker.service import alive
    from checker.show import table
    from checker.summary import lines

    root = _root(arguments.folder)
    found = lines(root)
    if not found:
        raise Complaint(f"{root}: no run folders (none with a log that is understood; `checker formats` lists them)")
    if arguments.json:
        from contract import encode

        for one in found:
            print(encode(one.document()).decode())
        return HEALTHY
    Console(width=None if sys.stdout.isatty() else 160).print(table(found))
    print(clean(alive.ask(root).text))
    for failing in (found for found in served(root) if found.health is Health.FAILS):
        print(clean(failure(failing)))
    return HEALTHY


def _backtest(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from checker import backtest, show
    from contract import encode

    try:
        labels = backtest.read_labels(arguments.labels) if arguments.labels else {}
        files = backtest.recorded(arguments.paths)
    except (ValueError, OSError) as error:
        raise Complaint(str(error)) from None
    limits = _limits_of(files, arguments)
    with show.progress(len(files)) as tell:
        found = backtest.Backtest(backtest.run(files, labels, limits=limits, jobs=arguments.jobs, tell=tell))
    if arguments.curves:
        known = dict(zip(map(str, files), limits, strict=True))
        backtest.draw([outcome for outcome in found.kills if outcome.ended_well], arguments.curves, known)
    if arguments.json:
        print(encode(found.document()).decode())
        return HEALTHY
    console = Console(width=None if sys.stdout.isatty() else 160)
    for part in show.backtest(found):
        console.print(part, markup=False, highlight=False)
    return HEALTHY


def _limits_of(files: Sequence[Path], arguments: argparse.Namespace) -> list[InForce]:
    """The limits of each file: those of the folder that it was asked for with."""
    told: set[str] = set()
    folders = {path: path if path.is_dir() else path.parent for path in arguments.paths}
    known = {path: _limits(folder, arguments.limits, told=told) for path, folder in folders.items()}
    return [next(known[path] for path in known if file.is_relative_to(path)) for file in files]


def _calibrate(arguments: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from rich.console import Console

    from checker import backtest, calibrate, promise, show
    from checker.limits import FILE
    from contract import replace

    root = _root(arguments.folder)
    output = arguments.output or root / FILE
    if not (output.parent.is_dir() and os.access(output.parent, os.W_OK)):
        raise Complaint(f"{output.parent} is no folder that can be written to; --output FILE writes elsewhere")
    if output.is_dir():
        raise Complaint(f"{output} is a folder; --output names a file")
    known = output.exists() and promise.is_ours(output)
    if output.exists() and not known and not arguments.force:
        raise Complaint(f"{output} was made or changed by hand; --output FILE writes elsewhere, --force replaces it")
    try:
        labels = backtest.read_labels(arguments.labels) if arguments.labels else None
        files = backtest.recorded([arguments.folder])
    except (ValueError, OSError) as error:
        raise Complaint(str(error)) from None
    with show.progress(len(files)) as tell:
        trials = calibrate.run(files, labels, jobs=arguments.jobs, tell=tell)
    try:
        fit = calibrate.Fit(trials, arguments.false_kill_rate)
    except calibrate.Refused as refused:
        raise Complaint(f"{arguments.folder}: {refused}") from None
    console = Console(width=None if sys.stdout.isatty() else 160)
    for part in promise.told(fit):
        console.print(part, markup=False, highlight=False, soft_wrap=not sys.stdout.isatty())
    try:
        replace(output, promise.file(fit, root.name, f"{datetime.now(UTC):%Y-%m-%d}").encode())
    except OSError as error:
        raise Complaint(f"{output} cannot be written: {error.strerror or error}") from None
    folder = clean(arguments.folder)
    use = "Use it with --limits" if arguments.output else f"`checker watch {folder}` uses it from its next start"
    print(f"\n{'Replaced' if known else 'Wrote'} {clean(output)}. {use}.")
    return HEALTHY


def _explain(arguments: argparse.Namespace) -> int:
    from importlib import import_module

    limits = _limits(Path(), arguments.limits).limits if arguments.limits else {}
    try:
        print(import_module("checker.report.explain").text(arguments.rule, limits))
    except (KeyError, ValueError) as error:
        raise Complaint(str(error.args[0] if error.args else error)) from None
    return HEALTHY
