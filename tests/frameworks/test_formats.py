"""The samples, made anew by the libraries that are installed: a version that changes its format is noticed here.

Not part of the ordinary suite (it needs gigabytes of libraries): `make test-frameworks`.
"""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from format_samples import SAMPLES, roles, verdict

from checker import replay
from checker.formats.inspect import inspect

WRITER = Path(__file__).parent / "write_samples.py"

NEEDED = {
    "lightning": ("lightning", "tensorboard"),
    "keras": ("keras", "torch"),
    "huggingface": ("transformers", "accelerate"),
    "baselines": ("stable_baselines3", "tensorboard"),
    "mmengine": ("mmengine",),
    "ultralytics": ("ultralytics", "torchvision", "polars"),
    "tensorboard": ("torch", "tensorboard"),
    "tensorboard_tensors": ("tensorboard",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
}
"""The distributions that each program needs."""


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Has a program write its samples, once."""
    folder, done = tmp_path_factory.mktemp("samples"), {}

    def write(program):
        for name in NEEDED[program]:
            try:
                importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                pytest.skip(f"{name} is not installed")
        if program not in done:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done[program] = subprocess.run(
                [sys.executable, WRITER, folder, program],
                env=environment, capture_output=True, text=True, timeout=300, check=False, cwd=folder,
            )  # fmt: skip
        assert done[program].returncode == 0, done[program].stderr[-3000:]
        return folder / program

    return write


@pytest.mark.parametrize("sample", SAMPLES, ids=[sample.name.partition("/")[0] for sample in SAMPLES])
def test_what_the_library_writes_today(sample, made):
    out = made(sample.program)
    found = out.glob(sample.made) if "*" in sample.made else [out / sample.made]
    (place,) = [path for path in found if not path.is_symlink() and (path.is_dir() or path.suffix == ".log")]
    understood = inspect(place)
    assert (understood.format, understood.unreadable) == (sample.format, [])
    assert understood.rows == sample.rows or not sample.rows
    assert roles(understood) == sample.roles
    assert verdict(replay.read(place)) == sample.kill
