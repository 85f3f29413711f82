"""What the lines of text logs look like: data only. Named groups are what a row holds.

`(?>.*?lr: )` goes to the first `lr: ` and nowhere else. Without the `>` a line that fits almost is tried in every
combination: 4 KB of it took a second.
"""

from __future__ import annotations

import re
from typing import NamedTuple

N = r"[-+]?(?:\d[\d,]*\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|NaN|NAN|inf|Inf|INF|Infinity)"
"""A number as programs print it."""


class Family(NamedTuple):
    """The lines that one program prints."""

    name: str
    title: str
    patterns: tuple[str, ...]
    example: str


FAMILIES = (
    Family(
        "nanogpt",
        "nanoGPT and its offspring",
        (
            rf"step (?P<step>\d+): train loss (?P<train_loss>{N}), val loss (?P<val_loss>{N})",
            rf"iter (?P<step>\d+): loss (?P<train_loss>{N})",
            rf"step:(?P<step>\d+)/(?P<total_steps>\d+) val_loss:(?P<val_loss>{N})",
            rf"step:(?P<step>\d+)/(?P<total_steps>\d+) train_loss:(?P<train_loss>{N})",
        ),
        "iter 10: loss 3.4201, time 81.23ms, mfu 4.10%",
    ),
    Family(
        "llm.c",
        "llm.c",
        (
            (
                rf"step +(?P<step>\d+)/(?P<total_steps>\d+) \| (?:train )?loss (?P<train_loss>{N})"
                rf"(?:.*?\| norm (?P<grad_norm>{N}))?(?:.*?\| lr (?P<lr>{N}))?"
            ),
            rf"^val loss (?P<val_loss>{N})",
        ),
        "step   20/18865 | loss 9.648062 (-3.17z)| norm 2.1713 (-0.36z)| lr 1.71e-05 | 212.07 ms",
    ),
    Family(
        "megatron",
        "Megatron-LM",
        (
            (
                rf"iteration +(?P<step>\d+)/ *(?P<total_steps>\d+) \|(?>.*?learning rate: )(?P<lr>{N})(?>.*?lm loss: )"
                rf"(?P<train_loss>{N})(?:(?>.*?grad norm: )(?P<grad_norm>{N}))?"
            ),
            rf"validation loss at iteration (?P<step>\d+)(?>.*?lm loss value: )(?P<val_loss>{N})",
        ),
        " iteration  100/ 5000 | learning rate: 1.500E-05 | lm loss: 9.6E+00 | grad norm: 3.1 |",
    ),
    Family(
        "mmengine-text",
        "MMEngine, MMDetection",
        (
            (
                rf"Epoch\(train\) +\[(?P<epoch>\d+)\]\[(?>.*?\blr: )(?P<lr>{N})"
                rf"(?:(?>.*?\bgrad_norm: )(?P<grad_norm>{N}))?(?>.*?\bloss: )(?P<train_loss>{N})"
            ),
            (
                rf"Iter\(train\) +\[ *(?P<step>\d+)/ *(?P<total_steps>\d+)\](?>.*?\blr: )(?P<lr>{N})"
                rf"(?:(?>.*?\bgrad_norm: )(?P<grad_norm>{N}))?(?>.*?\bloss: )(?P<train_loss>{N})"
            ),
        ),
        "Epoch(train)  [1][ 50/391]  lr: 1.0000e-02  eta: 0:05:00  time: 0.10  loss: 2.2113",
    ),
    Family(
        "timm",
        "timm",
        (
            rf"Train: (?P<epoch>\d+) \[(?>.*?Loss: +)(?P<train_loss>{N})(?>.*?LR: )(?P<lr>{N})",
            rf"Test: +\[ *(?:\d+)/\d+\].*?Loss: +{N} \( *(?P<val_loss>{N})\)",
        ),
        "Train: 0 [  50/1251 (  4%)]  Loss: 6.91 (6.93)  Time: 0.2s  LR: 1.000e-06  Data: 0.01",
    ),
    Family(
        "pytorch-examples",
        "the examples of PyTorch",
        (
            rf"Train Epoch: (?P<epoch>\d+) \[.*?Loss: (?P<train_loss>{N})",
            rf"Test set: Average loss: (?P<val_loss>{N})",
        ),
        "Train Epoch: 1 [640/60000 (1%)]\tLoss: 2.134563",
    ),
    Family(
        "keras-text",
        "Keras' progress lines",
        (
            (
                rf"^ *\d+/\d+ .*?- loss: (?P<train_loss>{N})(?:.*?- val_loss: (?P<val_loss>{N}))?"
                rf"(?:.*?- (?:learning_rate|lr): (?P<lr>{N}))?"
            ),
        ),
        "2/2 - 0s - 8ms/step - loss: 8.2465 - mae: 2.2977 - val_loss: 8.2292",
    ),
)

WORDS = re.compile(
    rf"""(?<![\w./-])([A-Za-z][\w./-]*(?: (?:loss|norm|rate))?)['"]?\s*[:=]\s*['"]?({N})(?![\w.])""", re.IGNORECASE
)
"""`name: number` and `name=number`, in any order, in quotes or not: what Hugging Face prints, and most others."""

VALIDATION = re.compile(r"\b(?:val|valid|validation|eval|evaluation|test)\b", re.IGNORECASE)
"""A line about the validation, whose plain `loss` is none of the training's."""

TRAINING = re.compile(r"\btrain(?:ing)?\b", re.IGNORECASE)

BARE = re.compile(
    rf"\b((?:(?:train|training|val|valid|validation|eval|test)[ _/-])?loss)[ \t]+({N})(?![\w.])", re.IGNORECASE
)
"""`train loss 0.5`."""

_WHOLE = r"\d+(?:,\d{3})*"

COUNT = re.compile(
    rf"\b(step|iter|iteration|epoch)s?\b[ \t:=#\[]*({_WHOLE})(?![\d.])(?:[ \t]*/[ \t]*({_WHOLE}))?", re.IGNORECASE
)

COUNTERS = frozenset({"step", "iter", "iteration", "epoch", "global_step"})

HEADING = re.compile(r"^\W*Epoch\W+(\d+)(?: ?/ ?(\d+))?\W*$", re.IGNORECASE)
"""A line that begins an epoch, for all lines below it."""

PROGRESS = re.compile(r"\b\d+ ?/ ?\d+\b")
"""How far a program is, without saying in what."""
