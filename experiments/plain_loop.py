"""A training loop of one's own under the checker's eyes: it logs, obeys, saves, and goes on where it stopped.

python experiments/plain_loop.py experiments/plain

A torchtune recipe takes the same lines: `RunLog` in `setup`, `step` and `should_stop` after `optimizer.step()` in
`train`, its own `save_checkpoint`, and `close` in `cleanup`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

from trainer.log import RunLog

STEPS = 1000


def main(folder: Path) -> int:
    torch.manual_seed(0)
    model, last = nn.Linear(8, 1), folder / "checkpoints" / "last.pt"
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    begun = 0
    if last.exists():
        state = torch.load(last, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        begun = state["step"]
    with RunLog(folder, resume=begun > 0, total_steps=STEPS) as log:
        for step in range(begun + 1, STEPS + 1):
            inputs = torch.randn(64, 8)
            loss = nn.functional.mse_loss(model(inputs), inputs.sum(1, keepdim=True))
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            log.step(step, loss=loss.item(), grad_norm=norm.item(), lr=optimizer.param_groups[0]["lr"])
            kill = log.should_stop(step)  # from the status file, SIGTERM or Ctrl-C
            sound = all(bool(weights.isfinite().all()) for weights in model.parameters()) if kill else True
            if (kill and kill.save_checkpoint and sound) or step % 500 == 0:
                with log.phase("checkpoint"):
                    save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, last)
                log.checkpoint_saved(last, step=step)
            if kill:
                return 3
    return 0


def save(state: dict[str, object], path: Path) -> None:
    """Whole or not at all: a crash in the midst of it leaves the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    torch.save(state, beside)
    beside.replace(path)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
