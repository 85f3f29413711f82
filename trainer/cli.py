"""The command line. What a command needs is loaded by the command."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contract import Exit

_USAGE = 2

EXPERIMENTS = Path("experiments")
"""Where new experiments go unless somebody says otherwise; a child goes beside its parent."""


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 finished, 1 failed, 2 cannot be started like this, 3 stopped on request."""
    words, program = _split(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    options.program = program
    command: Callable[[argparse.Namespace], int] = options.carry_out
    if _needs_torch(options) and importlib.util.find_spec("torch") is None:
        print(
            "trainer: training needs torch, which is not installed: pip install 'training-checker[trainer]' "
            "(in a checkout: pip install '.[trainer]')",
            file=sys.stderr,
        )
        return _USAGE
    from trainer.errors import SpecError  # noqa: PLC0415 - as the commands

    # What a command says last it says when all is done; only a training may be cut short by a reader who goes.
    code: int = Exit.FAILED if options.command in ("run", "sweep") else Exit.FINISHED
    try:
        code = command(options)
        sys.stdout.flush()  # a reader who has gone is met here, not when Python ends
    except SpecError as error:
        if os.environ.get("RANK", "0") == "0":  # all processes of a launch find the same fault
            print(f"trainer: {error}", file=sys.stderr)
        return _USAGE
    except BrokenPipeError:  # `trainer new … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("trainer: interrupted", file=sys.stderr)
        return Exit.STOPPED
    return code


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """What is ours, and the command of `trainer exec EXP -- COMMAND` or `trainer wrap FOLDER -- COMMAND`."""
    if words[:1] in (["exec"], ["wrap"]) and "--" in words:
        end = words.index("--")
        return words[:end], words[end + 1 :]
    return words, []


def _needs_torch(options: argparse.Namespace) -> bool:
    return options.command in ("run", "sweep", "eval", "prune") or (options.command == "new" and not options.external)


def _run(options: argparse.Namespace) -> int:
    from trainer.launch import Order, launch  # noqa: PLC0415 - takes torch, and seconds, that --help need not take

    target: Path = options.target
    if not target.exists() and len(target.parts) == 1 and not target.suffix:
        target = _found(target, options)
    root = options.experiments or (target.resolve().parent if target.is_dir() else EXPERIMENTS)
    return launch(
        Order(
            target,
            root,
            resume=options.resume,
            dry_run=options.dry_run,
            fail_fast=options.fail_fast,
            overlay=options.overlay,
            settings=options.settings,
        )
    )


def _found(named: Path, options: argparse.Namespace) -> Path:
    from trainer.known import find  # noqa: PLC0415 - as the rest

    return find(named, options.experiments or EXPERIMENTS)


def _new(options: argparse.Namespace) -> int:
    from trainer.new import Idea, new  # noqa: PLC0415 - as the rest

    parent: Path | None = options.parent
    beside = parent.resolve().parent if parent is not None and parent.is_dir() else EXPERIMENTS
    folder = new(
        Idea(
            experiments=options.experiments or beside,
            hypothesis=options.hypothesis,
            rationale=options.rationale,
            parent=options.parent,
            overlay=options.overlay,
            settings=options.settings,
            tags=options.tags,
            data=options.data,
            external=options.external,
        )
    )
    print(f"{folder.name} -> {folder} (pending)")
    print(f"next: trainer {f'exec {folder} -- COMMAND' if options.external else f'run {folder}'}")
    return Exit.FINISHED


def _exec(options: argparse.Namespace) -> int:
    from trainer.errors import SpecError  # noqa: PLC0415 - as the rest
    from trainer.external.execute import execute  # noqa: PLC0415 - as the rest

    folder = _found(options.experiment, options)
    if not options.program:
        raise SpecError(f"no COMMAND: say what trains it: trainer exec {options.experiment} -- COMMAND")
    return execute(folder, options.program)


def _wrap(options: argparse.Namespace) -> int:
    from trainer.errors import SpecError  # noqa: PLC0415 - as the rest
    from trainer.external.wrap import wrap  # noqa: PLC0415 - as the rest

    if bool(options.program) == (options.pid is not None):
        raise SpecError("say either what to run, -- COMMAND, or which process to follow, --pid PID")
    stop_signal = signal.SIGINT if options.stop_signal == "INT" else signal.SIGTERM
    return wrap(options.folder, options.program, pid=options.pid, stop_signal=stop_signal)


def _abort(options: argparse.Namespace) -> int:
    from trainer.abort import abort  # noqa: PLC0415 - as the rest

    folder = _found(options.experiment, options)
    abort(folder, options.reason, force=options.force)
    print(f"{folder.name} aborted")
    return Exit.FINISHED


def _sweep(options: argparse.Namespace) -> int:
    from trainer.sweep import slurm  # noqa: PLC0415 - no work before it is asked for
    from trainer.sweep.plan import Plan, new_id  # noqa: PLC0415 - as the rest

    _check_engine(options)
    named = options.id or ("sweep" if options.slurm else new_id(options.folder))
    plan = Plan(options.folder, options.experiments or EXPERIMENTS, options.jobs, options.settings, named)
    if options.slurm:
        resources = slurm.Resources(options.time, options.partition, options.gpus_per_run, options.cpus_per_run)
        print(slurm.script(plan, resources, options.id), end="")
        return Exit.FINISHED
    if options.ray:
        from trainer.sweep import on_ray  # noqa: PLC0415 - as the rest

        return on_ray.sweep(plan, on_ray.Cluster(options.address, options.gpus_per_run, options.cpus_per_run or 1.0))
    from trainer.sweep.local import sweep  # noqa: PLC0415 - as the rest

    return sweep(plan)


def _check_engine(options: argparse.Namespace) -> None:
    from trainer.errors import SpecError  # noqa: PLC0415 - as the rest

    of_slurm, of_ray = (options.time, options.partition), (options.address,)
    either = (options.gpus_per_run, options.cpus_per_run)
    if not options.slurm and any(value is not None for value in of_slurm):
        raise SpecError("--time and --partition go with --slurm")
    if not options.ray and any(value is not None for value in of_ray):
        raise SpecError("--address goes with --ray")
    if not (options.ray or options.slurm) and any(value is not None for value in either):
        raise SpecError("--gpus-per-run and --cpus-per-run go with --ray or --slurm")


def _eval(options: argparse.Namespace) -> int:
    from trainer.attach import attach  # noqa: PLC0415 - as the rest

    return attach(_found(options.experiment, options), options.checkpoint, options.data)


def _keys(options: argparse.Namespace) -> int:
    from trainer.reference import reference  # noqa: PLC0415 - as the rest

    print(reference(options.prefix))
    return Exit.FINISHED


def _prune(options: argparse.Namespace) -> int:
    from trainer.checkpoints.retention import Policy  # noqa: PLC0415 - takes torch
    from trainer.prune import tidy  # noqa: PLC0415 - as the rest

    policy = Policy(options.keep_last, options.keep_best, options.keep_every)
    return tidy(_found(options.experiment, options), policy, dry_run=options.dry_run)


_Commands = Any
"""argparse's own type of a set of commands has no public name."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trainer",
        description="Train, one folder per run, under a checker's eyes.",
        epilog="trainer keys lists every key of a spec; trainer/README.md says what is reproducible, and what is not.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (_add_new, _add_run, _add_eval, _add_exec, _add_wrap, _add_abort, _add_prune, _add_sweep, _add_keys):
        add(commands)
    return parser


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="e.g. optimizer.lr=1e-3"
    )
    common.add_argument(
        "--experiments",
        type=Path,
        metavar="DIR",
        help=f"where new experiments go (default: {EXPERIMENTS}; a child goes beside its parent)",
    )
    return common


def _known() -> argparse.ArgumentParser:
    known = argparse.ArgumentParser(add_help=False)
    known.add_argument("experiment", type=Path, metavar="EXP", help="the id or the folder of an experiment")
    known.add_argument("--experiments", type=Path, metavar="DIR", help=f"where ids are looked for ({EXPERIMENTS})")
    return known


def _add_new(commands: _Commands) -> None:
    new = commands.add_parser("new", parents=[_common()], help="write an experiment down, to be trained later")
    new.add_argument("--hypothesis", default="", metavar="TEXT", help="what you expect: a sentence, or a hypothesis.md")
    new.add_argument("--rationale", default="", metavar="TEXT", help="on what ground")
    new.add_argument("--parent", type=Path, metavar="EXP", help="the experiment that this one varies, by id or folder")
    new.add_argument(
        "--spec",
        dest="overlay",
        type=Path,
        metavar="FILE",
        help="the spec; with --parent what is laid over the parent's, also a section of a next.md",
    )
    new.add_argument("--tag", dest="tags", action="append", default=[], metavar="TAG")
    new.add_argument("--external", action="store_true", help="another program trains it (trainer exec): any keys go")
    new.add_argument("--data", type=Path, metavar="PATH", help="with --external: the data to take a fingerprint of")
    new.set_defaults(carry_out=_new)


def _add_run(commands: _Commands) -> None:
    run = commands.add_parser("run", parents=[_common()], help="train one spec, or an experiment's folder")
    run.set_defaults(carry_out=_run)
    run.add_argument("target", type=Path, metavar="SPEC_OR_EXP", help="a .toml file, or an experiment's folder or id")
    run.add_argument("--resume", action="store_true", help="continue the folder's run exactly where it was saved")
    run.add_argument(
        "--dry-run", action="store_true", help="check everything and run one step; leaves no trace but its report"
    )
    run.add_argument(
        "--fail-fast", action="store_true", help="start a checker for this run, which stops it when it is doomed"
    )
    run.add_argument(
        "--spec",
        dest="overlay",
        type=Path,
        help="settings to put on top: FILE.toml, or a section of a next.md as next.md#exp-006.2",
    )


def _add_eval(commands: _Commands) -> None:
    examine = commands.add_parser(
        "eval", parents=[_known()], help="evaluate a checkpoint, and attach what was found to it"
    )
    examine.set_defaults(carry_out=_eval)
    examine.add_argument(
        "--checkpoint", default="best", metavar="NAME", help="best (as it is), last, or a file in its folder"
    )
    examine.add_argument("--data", type=Path, metavar="FILE", help="a file to examine it on (its own held-out data)")


def _add_exec(commands: _Commands) -> None:
    other = commands.add_parser(
        "exec",
        parents=[_known()],
        usage="trainer exec EXP [--experiments DIR] -- COMMAND ...",
        help="have any program train an experiment that was written down, and judge its result",
        description="The program finds the path of spec.json in $TRAINER_SPEC; {spec}, {folder} and {result} in "
        "COMMAND stand for paths. What it leaves in result.json is checked against the spec.",
    )
    other.set_defaults(carry_out=_exec)


def _add_wrap(commands: _Commands) -> None:
    any_ = commands.add_parser(
        "wrap",
        usage="trainer wrap FOLDER [--stop-signal TERM|INT] (-- COMMAND ... | --pid PID)",
        help="have any program seen as a run: its status is written for it, and a request to stop reaches it",
        description="Needs no experiment and no change of the program. What it prints goes to output.log in FOLDER. "
        "Exit code: the program's own; 3 when it was asked to stop. `checker run` is this command.",
    )
    any_.set_defaults(carry_out=_wrap)
    any_.add_argument("folder", type=Path, metavar="FOLDER", help="the run folder; made if it is missing")
    any_.add_argument("--pid", type=int, metavar="PID", help="follow this process instead of starting one")
    any_.add_argument(
        "--stop-signal", choices=("TERM", "INT"), default="TERM", help="how the program is asked to stop (TERM)"
    )


def _add_abort(commands: _Commands) -> None:
    close = commands.add_parser(
        "abort", parents=[_known()], help="close an experiment that says running although its process is gone"
    )
    close.set_defaults(carry_out=_abort)
    close.add_argument("--reason", default="", metavar="TEXT", help="why (default: its process is gone)")
    close.add_argument("--force", action="store_true", help="also when its process is on another machine")


def _add_prune(commands: _Commands) -> None:
    tidy = commands.add_parser("prune", parents=[_known()], help="remove old checkpoints; the newest and best stay")
    tidy.set_defaults(carry_out=_prune)
    tidy.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    tidy.add_argument("--keep-last", type=int, default=1, metavar="N", help="the newest ones (1)")
    tidy.add_argument("--keep-best", type=int, default=1, metavar="N", help="by the primary metric (1)")
    tidy.add_argument("--keep-every", type=int, default=0, metavar="STEPS", help="one of every so many steps (none)")


def _add_sweep(commands: _Commands) -> None:
    several = commands.add_parser("sweep", parents=[_common()], help="train every .toml in a folder")
    several.set_defaults(carry_out=_sweep)
    several.add_argument("folder", type=Path, metavar="FOLDER", help="the specs; or a single one")
    several.add_argument(
        "--jobs", type=int, metavar="N", help="how many at a time (1; with --ray and --slurm no limit)"
    )
    several.add_argument("--id", metavar="ID", help="go on with the sweep of this id, or begin one under this name")
    where = several.add_mutually_exclusive_group()
    where.add_argument("--ray", action="store_true", help="one task of Ray per spec, which decides when and where")
    where.add_argument("--slurm", action="store_true", help="train nothing: print a script for sbatch, a job per spec")
    several.add_argument("--address", metavar="ADDRESS", help="with --ray: of a cluster, or auto (one of its own)")
    several.add_argument(
        "--gpus-per-run", type=_amount, metavar="N", help="with --ray also a part of one (as the specs say)"
    )
    several.add_argument("--cpus-per-run", type=_amount, metavar="N", help="(1)")
    several.add_argument("--time", metavar="LIMIT", help="with --slurm: of each job, such as 08:00:00")
    several.add_argument("--partition", metavar="NAME", help="with --slurm")


def _amount(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of them")
    return value


def _add_keys(commands: _Commands) -> None:
    listed = commands.add_parser("keys", help="list what a spec may hold: type, range, default and meaning")
    listed.set_defaults(carry_out=_keys)
    listed.add_argument("prefix", nargs="?", default="", metavar="PREFIX", help="only those, such as optimizer")
