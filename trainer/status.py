"""`training_status.json` as the trainer writes it: once a second, on top of what others wrote.

Standard library only.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from contract import Kill, StatusBusy, StatusFile

Document = dict[str, Any]

_OF_ONE_RUN = ("ack", "world_size", "launch")
"""Keys that a run need not write, and that say nothing about the next one in the same folder."""

_BEAT_SECONDS = 1.0
"""A checker takes a heartbeat older than a few of these for a sign of trouble."""

_PATIENCE_SECONDS = 10.0
"""How long the first and the last write wait for somebody's save to finish (5 s is where the treaty gives up on it)."""


class StatusWriter:
    """Keeps the file fresh from a thread of its own, so the heartbeat goes on while the training loop hangs.

    Args:
        folder: the run folder.
        own: returns every key that the trainer owns, as of now; it is called from the thread too.
    """

    def __init__(self, folder: Path, own: Callable[[], Document]) -> None:
        self.file = StatusFile(folder)
        self.failures = 0
        self.last_failure = ""
        self._own = own
        self._turn = threading.Lock()  # a StatusFile remembers what it displaced and serves one thread at a time
        self._wake = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def begin(self) -> Kill | None:
        """The first write of a run. Returns an earlier request that nobody had served and that was set aside."""
        unserved: Kill | None = None

        def change(document: Document) -> Document:
            nonlocal unserved
            own = self._own()
            if document.get("run_id") != own["run_id"]:  # under `trainer exec` this run has begun already
                document, unserved = set_aside(document)
            return merged(document, own)

        self._insist(change)
        self._thread.start()
        return unserved

    def nudge(self) -> None:
        """Asks the thread to write now instead of at its next beat."""
        self._wake.set()

    def write(self, patience: float) -> None:
        """Writes now, from the calling thread; what fails is counted and left to the next beat."""
        try:
            self._insist(lambda document: merged(document, self._own()), patience)
        except OSError as error:
            self._failed(error)

    def close(self) -> None:
        """Stops the thread and writes the last word."""
        self._over = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self.write(_PATIENCE_SECONDS)
        self.file.close()

    def _beat(self) -> None:
        while not self._over:
            self._wake.wait(_BEAT_SECONDS)
            self._wake.clear()
            if self._over:
                return
            try:
                self._edit(lambda document: merged(document, self._own()))
            except StatusBusy:
                continue
            except OSError as error:
                self._failed(error)

    def _edit(self, change: Callable[[Document], Document]) -> None:
        with self._turn:
            self.file.edit(change)

    def _insist(self, change: Callable[[Document], Document], patience: float = _PATIENCE_SECONDS) -> None:
        deadline = time.monotonic() + patience
        while True:
            try:
                return self._edit(change)
            except StatusBusy:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _failed(self, error: OSError) -> None:
        self.failures += 1
        self.last_failure = str(error)


def merged(document: Mapping[str, Any], own: Mapping[str, Any]) -> Document:
    """The document on disk with the trainer's keys replaced; `kill` and keys that we do not know stay as they are.

    A request written by hand (`true` or a text) that has been acknowledged is spelled out as a record, so that it names
    the run it was meant for.
    """
    after = {"kill": None, **document, **own}
    kill, ack = Kill.parse(after["kill"]), own.get("ack")
    if kill and ack and ack["id"] == kill.id and not isinstance(after["kill"], Mapping):
        after["kill"] = dataclasses.asdict(dataclasses.replace(kill, run_id=own["run_id"]))
    return after


def set_aside(document: Mapping[str, Any]) -> tuple[Document, Kill | None]:
    """The document of an earlier run as the next run takes it over: its request is made stale, its answer dropped.

    Returns:
        The document, and the request when it was still waiting for an answer.
    """
    after = {key: value for key, value in document.items() if key not in _OF_ONE_RUN}
    kill = Kill.parse(document.get("kill"))
    if kill is None:
        return {**after, "kill": None}, None
    before = document.get("run_id")
    ack = document.get("ack")
    served = isinstance(ack, Mapping) and ack.get("id") == kill.id
    waiting = not served and kill.run_id in (None, before)
    if kill.run_id is None:
        kill = dataclasses.replace(kill, run_id=before or "before-this-run")
    return {**after, "kill": dataclasses.asdict(kill)}, kill if waiting else None
