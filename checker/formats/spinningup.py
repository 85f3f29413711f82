"""Spinning Up's `progress.txt`: one row per epoch, with tabs."""

from __future__ import annotations

from checker.formats.table import table

FORMAT = table(
    "spinningup",
    "OpenAI Spinning Up",
    ("progress.txt",),
    lambda names: "Epoch" in names and bool({"AverageEpRet", "TotalEnvInteracts", "EpRet"} & {*names}),
    places={"Epoch": "epoch", "TotalEnvInteracts": "step", "Time": "elapsed"},
    about="reinforcement learning; `LossPi` and `LossV` are no loss that must fall, so none is taken for one",
    loss_falls=False,
)
