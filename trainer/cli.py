"""The command line: `trainer run` and `trainer sweep`."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from contract import Exit

_USAGE = 2

EXPERIMENTS = Path("experiments")
"""Where new experiments go unless somebody says otherwise; a child goes beside its parent."""


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 finished, 1 failed, 2 cannot be started like this, 3 stopped on request."""
    options = _parser().parse_args(arguments)
    if importlib.util.find_spec("torch") is None:
        print(
            "trainer: training needs torch, which is not installed: pip install 'training-checker[trainer]' "
            "(in a checkout: pip install '.[trainer]')",
            file=sys.stderr,
        )
        return _USAGE
    if options.command == "sweep":
        from trainer.sweep import sweep  # noqa: PLC0415 - no work before it is asked for

        return sweep(options.folder, options.experiments or EXPERIMENTS, options.jobs, options.settings)
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    from trainer.launch import Order, launch  # noqa: PLC0415 - takes torch, and seconds, that --help need not take
    from trainer.spec import SpecError  # noqa: PLC0415 - as above

    try:
        is_folder = options.target.is_dir()
        root = options.experiments or (options.target.resolve().parent if is_folder else EXPERIMENTS)
        return launch(Order(options.target, root, options.resume, options.overlay, options.settings))
    except SpecError as error:
        print(f"trainer: {error}", file=sys.stderr)
        return _USAGE
    except KeyboardInterrupt:
        print("trainer: interrupted", file=sys.stderr)
        return Exit.STOPPED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trainer", description="Train, one folder per run, under a checker's eyes.")
    commands = parser.add_subparsers(dest="command", required=True)
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
    run = commands.add_parser("run", parents=[common], help="train one spec, or an experiment's folder")
    run.add_argument("target", type=Path, metavar="SPEC_OR_DIR", help="a .toml file, or the folder of an experiment")
    run.add_argument("--resume", action="store_true", help="continue the folder's run exactly where it was saved")
    run.add_argument(
        "--spec",
        dest="overlay",
        type=Path,
        help="settings to put on top: FILE.toml, or a section of a next.md as next.md#exp-006.2",
    )
    several = commands.add_parser("sweep", parents=[common], help="train every .toml in a folder")
    several.add_argument("folder", type=Path)
    several.add_argument("--jobs", type=int, default=1, metavar="N", help="how many at a time")
    return parser
