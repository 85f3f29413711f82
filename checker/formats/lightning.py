"""PyTorch Lightning's `CSVLogger`: one wide table, each row of which fills a few columns."""

from __future__ import annotations

from checker.formats.table import table

FORMAT = table(
    "lightning",
    "Lightning CSVLogger",
    ("metrics.csv",),
    lambda names: "step" in names and "epoch" in names,
    about="no times, so no rule about time can judge; when a new metric appears the file is written anew",
)
