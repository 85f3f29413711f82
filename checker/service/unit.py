"""`checker service`: a unit file for systemd, for the very program and folder that it was asked about."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from checker.clean import clean
from checker.places import is_run

WATCHDOG_SECONDS = 180
"""A healthy loop gives a sign with every piece of work; the longest, a look at 10,000 folders on a slow server or the
checklist of as many, takes half a minute."""

_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+")

_HARDENING = """\
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
"""
"""What any unit can have. Nothing here hides processes or users: the checker must see the runs and may signal its
user's. `MemoryDenyWriteExecute` is left out for `ctypes`, `ProtectHostname` and `PrivateTmp` for what runs say of
themselves and where they may lie."""

_SYSTEM = """\
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=read-only
PrivateDevices=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectClock=yes
RestrictNamespaces=yes
"""
"""What takes a system's manager, which may mount: the user's own could not write below DIR any more, or not start."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What the unit is to run."""

    root: Path
    options: Sequence[str] = ()
    """Of `checker watch`, after the folder."""
    user: str | None = None
    """Whose processes it watches, for a unit of the system; None for one of the user's own manager."""
    network: bool = False
    """Whether it serves metrics, or tells people."""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"checker-{re.sub(r'[^A-Za-z0-9_.]+', '-', self.root.name).strip('-') or 'root'}.service"

    def text(self) -> str:
        """The whole file."""
        command = [sys.executable, "-m", "checker", "watch", str(self.root), *self.options]
        words = [exec_word(command[0], first=True), *map(exec_word, command[1:])]
        target = "multi-user.target" if self.user else "default.target"
        families = "AF_UNIX AF_INET AF_INET6" if self.network else "AF_UNIX"
        environment = "".join(f"Environment={word(f'{name}={value}')}\n" for name, value in self.environment.items())
        written = self.root.parent if is_run(self.root) else self.root  # the checklist of a single run lies beside it
        described = clean(self.root, 1000).replace(
            "\\", "\\\\"
        )  # a single one at the end would join it with the next line
        return (
            f"{self._head()}\n"
            "[Unit]\n"
            f"Description=Training checker of {specifiers(described)}\n"
            f"RequiresMountsFor={word(str(self.root))}\n"
            "# Never given up: once the limits are corrected, or another checker of the folder has ended, it watches.\n"
            "StartLimitIntervalSec=0\n"
            "\n[Service]\n"
            "Type=notify\n"
            f"ExecStart={' '.join(words)}\n"
            "ExecReload=/bin/kill -HUP $MAINPID\n"
            f"{f'User={self.user}' + chr(10) if self.user else ''}"
            f"{environment}"
            "Environment=PYTHONUNBUFFERED=1\n"
            "Restart=on-failure\n"
            "RestartSec=10\n"
            f"WatchdogSec={WATCHDOG_SECONDS}\n"
            "TimeoutStopSec=10\n"
            "LimitNOFILE=65536\n"
            f"{_HARDENING}"
            f"RestrictAddressFamilies={families}\n"
            f"{_SYSTEM + f'ReadWritePaths={word(str(written))}' + chr(10) if self.user else ''}"
            "\n[Install]\n"
            f"WantedBy={target}\n"
        )

    def _head(self) -> str:
        """How the file gets to where it belongs."""
        name = self.name
        flags = ["--system", "--user", self.user] if self.user else []
        again = clean(shlex.join(["checker", "service", str(self.root), *self.options, *flags]), 2000)
        if self.user:
            place, control = "/etc/systemd/system", "sudo systemctl"
            lines = [f"{again} | sudo tee {place}/{name}"]
        else:
            place, control = "~/.config/systemd/user", "systemctl --user"
            lines = [f"mkdir -p {place} && {again} > {place}/{name}"]
        lines.append(f"{control} daemon-reload && {control} enable --now {name}")
        if not self.user:
            lines.append("loginctl enable-linger        # it goes on when you have logged out")
        lines.append(f"{control} reload {name}        # it reads its limits again")
        lines.append(f"journalctl {'' if self.user else '--user '}-fu {name}")
        return "".join(f"# {line}\n" for line in lines)


def specifiers(text: str) -> str:
    """`text` where systemd would expand `%h` and such."""
    return text.replace("%", "%%")


def word(text: str) -> str:
    """One word of a list, quoted if it must be."""
    if _PLAIN.fullmatch(text):
        return text
    quoted = "".join(_escaped(letter) for letter in text)
    return f'"{specifiers(quoted)}"'


def exec_word(text: str, *, first: bool = False) -> str:
    """One word of a command; in all but the first `$` begins a variable."""
    return word(text) if first else word(text).replace("$", "$$")


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    if letter.isprintable():
        return letter
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "surrogateescape"))
