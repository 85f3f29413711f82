"""What is true of the samples of each format, kept or made anew: one table for both."""

from typing import NamedTuple


class Sample(NamedTuple):
    """One log that a real library wrote.

    Attributes:
        name: the folder under tests/formats/samples.
        program: the program of tests/frameworks/write_samples.py that writes it.
        made: where the log lies in what that program writes.
        format: what it is to be understood as.
        rows: how many rows it has.
        roles: columns that are judged, by what they mean.
        kill: the step at which the checker would have stopped it, or the row where it counts epochs only.
    """

    name: str
    program: str
    made: str
    format: str
    rows: int
    roles: dict[str, str]
    kill: tuple[str, int] | None = None


def _losses(train, val=None, lr=None, grad=None):
    roles = {"train_loss": train, "val_loss": val, "learning_rate": lr, "grad_norm": grad}
    return {role: column for role, column in roles.items() if column}


SAMPLES = (
    Sample(
        "lightning", "lightning", "csv/version_0", "lightning", 28,
        _losses("train_loss_step", "val_loss", "lr-Adam"), ("step", 25),
    ),
    Sample(
        "lightning-tensorboard", "lightning", "tensorboard/version_0", "tensorboard", 62,
        _losses("train_loss_step", "val_loss", "lr-Adam"), ("step", 25),
    ),
    Sample("keras", "keras", ".", "keras", 8, _losses("loss", "val_loss", "learning_rate"), ("row", 6)),
    Sample(
        "huggingface", "huggingface", ".", "huggingface", 28,
        _losses("loss", "eval_loss", "learning_rate", "grad_norm"), ("step", 20),
    ),
    Sample(
        "stable-baselines3", "baselines", "csv", "stable-baselines3", 5, _losses(None, lr="train/learning_rate")
    ),
    Sample(
        "stable-baselines3-json", "baselines", "json", "stable-baselines3-json", 5,
        _losses(None, lr="train/learning_rate"),
    ),
    Sample("mmengine", "mmengine", "2*", "mmengine", 15, _losses("loss", lr="lr"), ("step", 22)),
    Sample("mmengine-text", "mmengine", "2*/*.log", "text", 12, _losses("train_loss", lr="lr"), ("row", 10)),
    Sample(
        "ultralytics", "ultralytics", "run", "ultralytics", 4, _losses("train/box_loss", "val/box_loss", "lr/pg0")
    ),
    Sample("tensorboard", "tensorboard", ".", "tensorboard", 60, _losses("Loss/train", lr="lr"), ("step", 25)),
    Sample("tensorboard-tensors", "tensorboard_tensors", ".", "tensorboard", 30, {}),
    Sample("wandb", "wandb", "wandb/offline-run-*", "wandb", 31, _losses("train/loss", lr="lr"), ("step", 25)),
    Sample("mlflow", "mlflow", "files/mlruns/*/*", "mlflow", 0, _losses("train_loss", lr="lr"), ("step", 25)),
    Sample(
        "mlflow-database/mlruns/1/a1211c52ff694e74a38b2c97b7d810ab", "mlflow", "database/mlruns/1/*", "mlflow-db", 0,
        _losses("train_loss", lr="lr"), ("step", 25),
    ),
)  # fmt: skip
"""`rows` is 0 where it depends on the clock: MLflow's rows are what was logged in one millisecond."""


def verdict(found):
    """Where a replay would have stopped the run."""
    kill = found.case.kill
    if kill is None:
        return None
    return ("row", kill.row) if kill.step is None else ("step", kill.step)


def roles(understood):
    """The columns that are judged, by role."""
    return {column.meaning: column.name for column in understood.columns if column.meaning in (*_losses(1, 1, 1, 1),)}
