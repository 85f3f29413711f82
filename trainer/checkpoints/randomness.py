"""Every generator of random numbers that a training may draw from: seeded, saved, restored."""

from __future__ import annotations

import os
import random
import sys
from typing import Any

import torch

State = dict[str, Any]


def seed_everything(seed: int, *, deterministic: bool = False) -> None:
    """Seeds Python, torch on all devices and, where it is loaded, numpy.

    Args:
        seed: from 0 on.
        deterministic: whether torch may use only algorithms that give the same bits each time.
    """
    random.seed(seed)
    torch.manual_seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for it, by torch's manual
        torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(deterministic)


def random_state() -> State:
    """Every random generator's state, as tensors and plain values that load without executing anything."""
    state: State = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        name, keys, *rest = numpy.random.get_state()
        state["numpy"] = [name, keys.tolist(), *rest]
    return state


def restore_random_state(state: State) -> None:
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    numpy = sys.modules.get("numpy")
    if "numpy" in state and numpy is not None:
        numpy.random.set_state(tuple(state["numpy"]))
