import json

import pytest
import torch

from trainer import spec

SMALL = {
    "model": {"layers": 1, "heads": 2, "width": 16, "context": 16, "dropout": 0.1},
    "data": {"max_bytes": 4000, "val_bytes": 500},
    "optimizer": {"lr": 1e-2},
    "train": {"steps": 12, "batch_size": 4, "accumulate": 2, "eval_every": 5, "eval_batches": 1, "checkpoint_every": 4},
}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def small():
    """Builds a spec of a run that takes a fraction of a second, with tables laid over it."""

    def build(**over):
        return spec.build(spec.laid_over(SMALL, over), where="test")

    return build


@pytest.fixture
def small_toml(tmp_path):
    """The same as a file."""
    path = tmp_path / "small.toml"
    lines = []
    for table, entries in SMALL.items():
        lines += [f"[{table}]", *(f"{key} = {value}" for key, value in entries.items())]
    path.write_text("\n".join(lines))
    return path


def rows_of(folder, event=None):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if event in (None, row["event"])]


def status_of(folder):
    return json.loads((folder / "training_status.json").read_text())


@pytest.fixture
def read_rows():
    return rows_of


@pytest.fixture
def read_status():
    return status_of
