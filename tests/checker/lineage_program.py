"""A trainer with two workers, each with a helper of its own: standard library, and only forks, so it starts at once.

Usage: lineage_program.py DEAF RUN: on SIGTERM the trainer dies unless DEAF names it ("trainer"), its workers unless it
names them ("workers"). Its last worker has the log of another run open where RUN names one. A last process leaves the
family before it says a word. Prints the pids: trainer, workers and helpers, the one that has left.
"""

import os
import signal
import sys
import time

DEAF, RUN = sys.argv[1].split(","), sys.argv[2]


def fork(then):
    """A child that says its pid and then does what it does; returns its pid and what it has said."""
    come, go = os.pipe()
    pid = os.fork()
    if pid:
        os.close(go)
        said = os.read(come, 1000).decode().split()
        os.close(come)
        return pid, said
    os.close(come)
    then(go)
    time.sleep(60)
    os._exit(0)


def helper(go):
    os.write(go, str(os.getpid()).encode())


def worker(go, log=None):
    if log:
        os.open(log, os.O_WRONLY | os.O_APPEND)
    _, below = fork(helper)
    os.write(go, " ".join([str(os.getpid()), *below]).encode())


def leaver(go):
    _, below = fork(helper)
    os.write(go, below[0].encode())
    os._exit(0)  # its own child is init's from now on


if "workers" in DEAF:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
family = fork(worker)[1]
family += fork(lambda go: worker(go, RUN or None))[1]
gone, left = fork(leaver)
os.waitpid(gone, 0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "trainer" in DEAF else signal.SIG_DFL)
print(os.getpid(), *family, *left, flush=True)
time.sleep(60)
