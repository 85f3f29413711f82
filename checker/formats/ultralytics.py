"""Ultralytics YOLO's `results.csv`: one row per epoch."""

from __future__ import annotations

from checker.formats.table import table

FORMAT = table(
    "ultralytics",
    "Ultralytics YOLO",
    ("results.csv",),
    lambda names: "epoch" in names and any(name.startswith(("train/", "metrics/")) for name in names),
    places={"time": "elapsed"},
    about="one row per epoch; `train/box_loss` stands for the train loss, `val/box_loss` for the validation loss",
)
