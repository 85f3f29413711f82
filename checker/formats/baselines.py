"""Stable-Baselines3's `progress.csv`."""

from __future__ import annotations

from checker.formats.table import table

PLACES = {
    "time/total_timesteps": "step",
    "time/time_elapsed": "elapsed",
    "train/loss": "train/objective",  # it goes up as often as down in a run that learns well
}

FORMAT = table(
    "stable-baselines3",
    "Stable-Baselines3",
    ("progress.csv",),
    lambda names: any(name.startswith(("time/", "rollout/")) for name in names),
    places=PLACES,
    about="reinforcement learning: its losses need not fall, so none is taken for the train loss unless `[columns]` "
    "says so, and no rule says whether a return is good",
    loss_falls=False,
)
