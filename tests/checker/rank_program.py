"""One process of a run without a library for distributed training: after every step it waits for all others.

Usage: rank_program.py FOLDER BOARD; what torchrun would tell stands in the environment. BOARD is a folder in which each
rank leaves its step, as a collective that never times out.
"""

import sys
import time
from pathlib import Path

from trainer import ranks
from trainer.log import RunLog

STEPS = 100_000
PACE = 0.02


def train(log, board):
    rank, world = ranks.rank(), ranks.world_size()
    for step in range(1, STEPS):
        (board / str(rank)).write_text(str(step))
        while min(reached(board / str(other)) for other in range(world)) < step:
            time.sleep(0.001)
        log.step(step, loss=2.0 - step / STEPS)
        if step % 10 == 0:
            with log.phase("evaluate"):
                time.sleep(PACE)
        time.sleep(PACE)


def reached(path):
    try:
        return int(path.read_text() or 0)
    except FileNotFoundError:
        return 0


if __name__ == "__main__":
    with RunLog(sys.argv[1]) as run_log:
        train(run_log, Path(sys.argv[2]))
