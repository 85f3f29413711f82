"""Three runs below one root: one to which a fault happens, a healthy one and a doomed one that must notice nothing."""

import contextlib
import os
import subprocess
import time

from folders import Folder, again

import contract
from checker.daemon import Daemon

STOPPED = ["looked-again", "requested"]


class Scene:
    """The runs, and a real daemon over them whose rounds are made by hand."""

    def __init__(self, root, name="faulty", **options):
        self.root, self.told, self.changed = root, [], []
        self.faulty = self.run(name)
        self.healthy, self.doomed = self.run("healthy"), self.run("doomed")
        self.open(**options)

    def run(self, name):
        run_id = f"run-{len(name)}-{name[:1]}" if name.isprintable() and name.isascii() else "odd"
        return begun(self.root / name, run_id)

    def open(self, **options):
        """A daemon; also the next one after a restart."""
        self.watch = Daemon(self.root, on_change=self.changed.append, tell=self.told.extend, poll=0.01, **options)

    def rounds(self, count=3):
        for _ in range(count):
            again(self.watch)
        return self

    def rounds_until_read(self):
        """As many rounds as it takes until everybody has been looked at and read to the end."""
        self.rounds()
        while self.watch.reading:
            self.rounds(1)
        return self

    def said(self, folder=None):
        name = str((folder or self.faulty).path.relative_to(self.root))
        return [notice.text for notice in self.told if notice.run == name]

    def others_go_on(self):
        """The neighbours are judged and stopped as if nothing had happened."""
        self.healthy.rows(*[1.9] * 5)
        self.doomed.rows("NaN")
        self.rounds()
        assert self.doomed.acts() == STOPPED
        assert self.doomed.told() == [f"{self.doomed.run_id}/nonfinite/0/critical"]
        assert (self.healthy.told(), self.healthy.acts()) == ([], [])
        assert self.watch.runs[self.healthy.path].case.history.index == 14
        return self

    def judged_again(self):
        """What happens to the faulty run now has the usual consequences, once."""
        self.faulty.rows("NaN", "NaN", "NaN")
        self.rounds(5)
        found = [entry for entry in self.faulty.told() if "nonfinite" in entry]
        assert found == [f"{self.faulty.run_id}/nonfinite/0/critical"]
        assert self.faulty.acts() == STOPPED
        assert self.faulty.document()["kill"]["rule"] == "nonfinite"
        return self


def begun(path, run_id):
    """A run that has been going on well until this moment."""
    folder = Folder(path, run_id=run_id, start=time.time() - 10)
    return folder.rows(*[2.0] * 10).status(process=contract.this_process())


def once(sentences, wanted):
    """Asserts that one of the sentences, and one only, has the wanted words."""
    found = [sentence for sentence in sentences if wanted in sentence]
    assert len(found) == 1, sentences
    return found[0]


@contextlib.contextmanager
def mounted(place, size="64k"):
    """A small disk of its own at `place`; None of it stays."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def can_mount():
    """Whether this user may; a container often may not."""
    if os.geteuid():
        return False
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(probe, check=False, capture_output=True).returncode == 0


def fill(folder):
    """Takes every byte that is left on the disk of `folder`; returns the file that holds them."""
    path = folder / "filler"
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0")
    return path
