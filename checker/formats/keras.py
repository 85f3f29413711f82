"""Keras' `CSVLogger`: one row per epoch, counted from 0, under a file name of the user's choice."""

from __future__ import annotations

from checker.formats.table import table

FORMAT = table(
    "keras",
    "Keras CSVLogger",
    ("*.csv", "*.log", "*.tsv", "*.txt"),
    lambda names: names[0] == "epoch" and "step" not in names and "loss" in names,
    about="one row per epoch, and each value is the mean of its epoch",
)
