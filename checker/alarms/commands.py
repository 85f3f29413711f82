"""The command `notify`, and the option `--notify` of `watch`.

Modules are imported by the command that needs them, so that every command starts at once.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checker.clean import clean
from checker.terms import Complaint

if TYPE_CHECKING:
    from checker.alarms.beside import Beside
    from checker.alarms.channels import Channel
    from checker.alarms.notifier import Notifier
    from checker.alarms.policy import Notify

FINE, FAILED = 0, 1

WHERE = "an Apprise URL, or (others cannot read it) a file with one per line"

_NOTIFY = """\
Tells people what happens to the runs below DIR: Slack, mail, Discord, ntfy and a hundred others, each by a URL as
Apprise knows it (https://appriseit.com). One message per run and episode, with what is wrong, what was done and where
the diagnosis lies; at most six a minute through each channel, and what goes beyond shares one. It reads the feed of the
checker that watches DIR, from where it stood when it last ran: nothing is lost, and only a message that was being sent
when it was killed comes twice, with the same id. It also says when that checker hangs or is gone.

WHERE is a URL, or a file with one URL per line; more are taken from the environment variable CHECKER_NOTIFY. URLs hold
secrets: on a command line everybody can read them, a file should be yours alone (chmod 600). They are never shown.

What is worth an alarm stands in [notify] of DIR/checker.toml: min_severity = "warning" or "critical", per_minute = 6.

`checker watch DIR --notify WHERE` starts the same beside the watch. Exit codes: 0; 1 with --test, a channel failed; 2 a
mistake in the command.
"""


def add_to(commands: Any) -> None:
    """Adds the command to the parser of the command line."""
    notify = commands.add_parser(
        "notify",
        help="tell people what happens to the runs below a folder",
        description=_NOTIFY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    notify.add_argument("folder", type=Path, metavar="DIR", help="the folder that `checker watch` was given")
    notify.add_argument("channels", nargs="*", metavar="WHERE", help=WHERE)
    notify.add_argument("--test", action="store_true", help="send one message through each channel, and end")
    notify.add_argument("--limits", type=Path, metavar="FILE", help="a file with [notify] instead of DIR/checker.toml")
    notify.add_argument("--log-format", choices=("text", "json"), default="text", help="json: one object per line")
    notify.add_argument("--beside", action="store_true", help=argparse.SUPPRESS)  # `watch` has started it
    notify.set_defaults(command=_notify)


def add_watch_option(parser: argparse.ArgumentParser) -> None:
    """The option of `watch` that starts the same beside it."""
    parser.add_argument(
        "--notify", action="append", default=[], metavar="WHERE", help=f"tell people: {WHERE}; see checker notify"
    )


def beside(
    root: Path, given: Sequence[str], limits: Path | None, environ: Mapping[str, str] = os.environ
) -> AbstractContextManager[Beside | None]:
    """The process of alarms beside a watch, where any channel was asked for.

    Raises:
        Complaint: what was asked for is no channel, or the extra is missing.
    """
    found = _channels(given, environ)
    if not found:
        return nullcontext()
    from checker.alarms.beside import Beside

    return Beside(root, found, limits)


def _channels(given: Sequence[str], environ: Mapping[str, str] = os.environ) -> list[Channel]:
    from checker.alarms.channels import ENVIRON, channels

    if not given and not environ.get(ENVIRON):
        return []
    from importlib.util import find_spec

    from checker.alarms.send import EXTRA

    found = channels(given, environ, _warn)
    if found and find_spec("apprise") is None:
        raise Complaint(EXTRA)
    return found


def _warn(text: str) -> None:
    print(f"checker: {clean(text)}", file=sys.stderr, flush=True)


def _policy(root: Path, named: Path | None) -> Notify:
    from checker import limits

    try:
        return limits.in_force(root, named).notify
    except limits.LimitsError as error:
        raise Complaint(str(error)) from None


def _notify(arguments: argparse.Namespace) -> int:
    from checker.alarms.message import Place
    from checker.alarms.send import Sender

    if not arguments.folder.is_dir():
        raise Complaint(f"{arguments.folder}: no such folder")
    place = Place(arguments.folder.resolve(), socket.gethostname())
    found = _channels(arguments.channels)
    if not found:
        raise Complaint("no channel: give an Apprise URL or a file of them, or set CHECKER_NOTIFY")
    senders = [(channel, Sender(channel)) for channel in found]
    code = _try(place, senders) if arguments.test else _serve(place, senders, arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a channel that hangs has a thread in the library's pool, for which the interpreter would wait


def _try(place: Any, senders: Sequence[tuple[Channel, Any]]) -> int:
    """Sends a message through each channel, and says how that went."""
    from checker.alarms.message import trial

    failed = False
    for channel, send in senders:
        why = send(trial(place, f"trial-{time.time():.0f}"))
        failed = failed or bool(why)
        print(f"{channel.name}: {f'FAILED: {clean(why)}' if why else 'a message was taken'}", flush=True)
    return FAILED if failed else FINE


def _serve(place: Any, senders: Sequence[tuple[Channel, Any]], arguments: argparse.Namespace) -> int:
    from checker.alarms.notifier import Notifier, begin
    from checker.service import alive
    from checker.service.logs import Format, Log
    from checker.wording import count

    policy = _policy(place.root, arguments.limits)
    try:
        begin(place.root, [channel for channel, _ in senders])
    except OSError as error:
        raise Complaint(f"alarms cannot be told from {place.root}: {error.strerror or error}") from None

    def again() -> Notify:
        """What is worth an alarm now; as before where the file is wrong, which the watch says."""
        nonlocal policy
        try:
            policy = _policy(place.root, arguments.limits)
        except Complaint as complaint:
            if not arguments.beside:
                _warn(str(complaint))
        return policy

    log = Log(Format(arguments.log_format))
    say = (lambda *_: None) if arguments.beside else (lambda text, severity: log.say("alarms", text, severity))
    notifier = Notifier(place, senders, again, say)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: notifier.leave())
    signal.signal(signal.SIGHUP, lambda *_: notifier.reload())
    if arguments.beside:
        threading.Thread(target=_until_parted, args=(notifier,), daemon=True).start()
        print("ready", flush=True)
    else:
        names = ", ".join(channel.name for channel, _ in senders)
        log.say("started", f"telling of {place.root} through {count(len(senders), 'channel')}: {names}")
        log.say("alarms", alive.ask(place.root).text)
    return FINE if notifier.run() else FAILED


def _until_parted(notifier: Notifier) -> None:
    """Waits for the last word of the watch, or for its end without one."""
    from checker.alarms.beside import BYE
    from checker.alarms.notifier import LEAVE

    if sys.stdin.buffer.read() == BYE:
        notifier.leave(LEAVE[1])
    else:
        notifier.orphaned()
