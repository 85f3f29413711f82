"""Which metric plays which role, whatever its trainer calls it. Data only."""

from __future__ import annotations

TRAIN_LOSS = "train_loss"
VAL_LOSS = "val_loss"
LR = "learning_rate"
GRAD_NORM = "grad_norm"

ROLES: dict[str, tuple[str, ...]] = {
    TRAIN_LOSS: (
        "train_loss", "train/loss", "loss/train", "training_loss", "train_loss_step", "train_loss_epoch", "loss",
        "train/train_loss", "total_loss", "train/total_loss", "train/box_loss", "trainloss", "loss_train", "train",
    ),
    VAL_LOSS: (
        "val_loss", "eval_loss", "valid_loss", "validation_loss", "val/loss", "eval/loss", "valid/loss", "loss/val",
        "validation/loss", "loss/valid", "loss/validation", "dev_loss", "test_loss", "test/loss", "val/box_loss",
        "val_loss_epoch", "valloss", "loss_val", "val", "valid",
    ),
    LR: ("learning_rate", "lr", "train/learning_rate", "train/lr", "lr/pg0", "lr-adamw", "lr-adam", "lr-sgd", "lr_0"),
    GRAD_NORM: (
        "grad_norm", "gradient_norm", "train/grad_norm", "grad_norm/total", "total_grad_norm", "gradnorm",
        "global_grad_norm", "grads_norm",
    ),
}  # fmt: skip
"""The aliases of each role, the most explicit first: when one row has several, the first one is taken."""

ALIASES: dict[str, tuple[str, int]] = {
    alias: (role, rank) for role, aliases in ROLES.items() for rank, alias in enumerate(aliases)
}

TOKENS = frozenset({
    "tokens", "tokens_seen", "num_input_tokens_seen", "consumed_tokens", "train/tokens_seen", "tokens_trained",
})  # fmt: skip
"""What a count of all tokens so far is called. A budget kills by it, so names that elsewhere mean the size of the data
or of one batch (`num_tokens`, `total_tokens`) are left out."""

LARGER_IS_BETTER = (
    "acc", "auc", "f1", "precision", "recall", "map", "iou", "dice", "bleu", "rouge", "psnr", "ssim", "r2", "reward",
    "return", "score", "win_rate", "hit", "ndcg", "mrr", "success",
)  # fmt: skip
"""Parts of metric names for which more is better. Everything else (losses, errors, perplexities) counts as a cost."""

SUMMARY_MARKS = ("train_runtime", "train_samples_per_second")
"""A row with one of these is a trainer's closing summary; its `train_loss` is the mean of the whole run."""


def direction(metric: str) -> str:
    """`max` or `min`: which way `metric` improves when nobody declared it."""
    name = metric.lower().replace("mape", "")  # a percentage of error, not a mean average precision
    return "max" if any(part in name for part in LARGER_IS_BETTER) and "loss" not in name else "min"
