"""The kinds of logs that are understood, one file each; the first one that fits a file is taken."""

from __future__ import annotations

from checker.formats import (
    baselines,
    csvlog,
    huggingface,
    jsonlog,
    keras,
    lightning,
    mlflow,
    spinningup,
    tensorboard,
    text,
    ultralytics,
    wandb,
)
from checker.formats.format import Format

FORMATS: tuple[Format, ...] = (
    lightning.FORMAT,
    ultralytics.FORMAT,
    baselines.FORMAT,
    spinningup.FORMAT,
    jsonlog.MMENGINE,
    jsonlog.DETECTRON2,
    jsonlog.BASELINES,
    tensorboard.FORMAT,
    wandb.FORMAT,
    huggingface.FORMAT,
    mlflow.FILES,
    mlflow.DATABASE_FORMAT,
    keras.FORMAT,
    csvlog.FORMAT,
    jsonlog.LINES,
    text.FORMAT,
)
"""Those with a name of their own before those under any name; what is written at once before what comes with a
checkpoint."""
