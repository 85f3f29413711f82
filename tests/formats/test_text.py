"""Lines that programs print: first all those that are nobody's loss."""

import math
import time

import pytest

from checker.events import Row
from checker.formats import text
from checker.formats.format import PLAIN, Reading


def read(*lines, reading=PLAIN):
    decoder = text.TextDecoder(reading)
    return list(decoder.feed("\n".join([*lines, ""]).encode()))


SILENT = {
    "prose": ["The train loss is 0.5 times that of the paper.", "Losses: a survey. 3 of 4 people had a loss of 2."],
    "a paper": ["We report a loss of 0.35 on the test set; see Table 3.", "loss: see Figure 2"],
    "a config": ["loss: mse", "loss_weight: 0.5", "label_smoothing=0.1", "lr: 0.001", "epochs: 10", "batch_size=32"],
    "a config as a dict": ["{'loss_weight': 1.0, 'lr': 0.1, 'dropout': 0.5}"],
    "code": ["loss = criterion(output, target)", "loss.backward()", "total_loss = 0.0", "    loss += 1.0"],
    "a traceback": [
        "Traceback (most recent call last):", '  File "train.py", line 31, in <module>', "    loss = step(batch)",
        "ValueError: loss is nan",
    ],
    "a progress bar": ["Epoch 3:  40%|####      | 40/100 [00:12<00:18,  3.2it/s]", "100%|#####| 3/3 [00:01<00:00]"],
    "downloads": ["Downloading: 45%|####  | 120M/267M [00:10<00:12, 12MB/s]"],
    "warnings": ["UserWarning: lr_scheduler.step() before optimizer.step() (epoch 3)"],
    "packet loss": ["64 bytes from 1.1.1.1: icmp_seq=1 ttl=57", "3 packets transmitted, 3 received, 0% packet loss"],
    "a summary": ["Total params: 1,024", "final loss: 0.31"],
    "binary": ["\0\1\2step 1 loss 2"],
    "a long line": ["step 1 loss 2 " + "x" * 3000],
    "nothing": [],
}  # fmt: skip


@pytest.mark.parametrize("lines", SILENT.values(), ids=SILENT.keys())
def test_what_is_no_log_of_a_training_is_none(lines):
    assert not text.FORMAT.recognises("\n".join([*lines * 3, ""]).encode())


@pytest.mark.parametrize("family", list(text.families()), ids=lambda family: family.name)
def test_the_example_of_each_family_is_understood(family):
    rows = read(family.example, family.example)
    assert len(rows) == 2
    assert any("loss" in name for name in rows[0].values)


LINES = {
    "nanogpt": ("iter 10: loss 3.4201, time 81.23ms, mfu 4.10%", {"step": 10}, {"train_loss": 3.4201}),
    "nanogpt, an evaluation": (
        "step 250: train loss 2.4, val loss 2.5", {"step": 250}, {"train_loss": 2.4, "val_loss": 2.5},
    ),
    "nanogpt, broken": ("iter 11: loss nan, time 81.23ms", {"step": 11}, {"train_loss": math.nan}),
    "llm.c": (
        "step   20/18865 | loss 9.648062 (-3.17z)| norm 2.1713 (-0.36z)| lr 1.71e-05 | 212.07 ms",
        {"step": 20, "total_steps": 18865}, {"train_loss": 9.648062, "grad_norm": 2.1713, "lr": 1.71e-05},
    ),
    "hugging face": (
        "{'loss': 1.1409, 'grad_norm': 2.75, 'learning_rate': 1.8e-05, 'epoch': 0.91}",
        {"epoch": 0.91}, {"loss": 1.1409, "grad_norm": 2.75, "learning_rate": 1.8e-05},
    ),
    "hugging face 5, in quotes": ("{'loss': '1.14', 'epoch': '0.91'}", {"epoch": 0.91}, {"loss": 1.14}),
    "mmengine": (
        "11/22 01:06:03 - mmengine - INFO - Epoch(train) [1][2/8]  base_lr: 2.0e-04 lr: 1.0e-04  loss: 8.3595",
        {"epoch": 1}, {"lr": 1e-4, "train_loss": 8.3595},
    ),
    "megatron": (
        " iteration  100/ 5000 | consumed samples: 6400 | learning rate: 1.5E-05 | lm loss: 9.6E+00 | grad norm: 3.1 |",
        {"step": 100, "total_steps": 5000}, {"lr": 1.5e-5, "train_loss": 9.6, "grad_norm": 3.1},
    ),
    "by words": (
        "epoch 3/10 | train loss 0.52 | val loss 0.61", {"epoch": 3, "total_epochs": 10},
        {"train_loss": 0.52, "val_loss": 0.61},
    ),
    "in colours": ("\x1b[32mepoch 3\x1b[0m train_loss=0.5", {"epoch": 3}, {"train_loss": 0.5}),
    "after a progress bar": ("Epoch 1:  1%|\rstep 7 loss: 0.5", {"step": 7}, {"loss": 0.5}),
    "an evaluation": ("Validation: epoch 3 loss: 0.7", {"epoch": 3}, {"val_loss": 0.7}),
    "thousands": ("step 1,000/2,000 loss: 0.5", {"step": 1000, "total_steps": 2000}, {"loss": 0.5}),
}  # fmt: skip


@pytest.mark.parametrize(("line", "place", "values"), LINES.values(), ids=LINES.keys())
def test_a_line_of_a_log(line, place, values):
    (row,) = read(line)
    assert {name: getattr(row, name) for name in place} == place
    for name, value in values.items():
        assert row.values[name] == value or (math.isnan(value) and math.isnan(row.values[name]))


def test_lines_between_are_nobody_s_fault():
    events = read("loading data", "iter 1: loss 3.0", "saving checkpoint to out", "iter 2: loss 2.9", "")
    assert [(event.index, event.line, event.step) for event in events] == [(0, 2, 1), (1, 4, 2)]


def test_the_first_family_that_fits_is_kept():
    rows = read("iter 1: loss 3.0", "epoch 3 | loss 0.5 | something else", "iter 2: loss 2.9")
    assert [row.step for row in rows] == [1, 2]


def test_a_heading_counts_the_epochs_of_the_lines_below_it():
    rows = read("Epoch 1/5", "loss: 0.9 - accuracy: 0.5", "Epoch 2/5", "loss: 0.8 - accuracy: 0.6")
    assert [(row.epoch, row.total_epochs) for row in rows] == [(1, 5), (2, 5)]


def test_a_pattern_of_a_person_comes_first(monkeypatch):
    monkeypatch.setattr(text, "_TAUGHT", {})
    reading = Reading(patterns={"mine": r"it (?P<step>\d+).*crit=(?P<train_loss>\S+)"})
    lines = ["it 1: crit=0.5, fine", "it 2: crit=(0.4)", "it 3: crit=none"]
    assert [(row.step, row.values) for row in read(*lines, reading=reading)] == [
        (1, {"train_loss": 0.5}), (2, {"train_loss": 0.4}), (3, {}),
    ]  # fmt: skip
    data = "\n".join([*lines, ""]).encode()
    assert not text.FORMAT.recognises(data)
    text.teach(reading.patterns)
    assert text.FORMAT.recognises(data)


NEARLY = {
    "almost mmengine": "Epoch(train)  [1][ " + "lr: 1 loss; " * 150,
    "almost megatron": "iteration 1/1 | learning rate: 1 lm loss; " * 45,
    "almost timm": "Train: 1 [ Loss: 1 " * 100,
    "one word": "loss" + "x" * 2000,
    "commas": "loss: 1" + ",1" * 900 + "x",
    "only names": "loss: " * 300,
}


@pytest.mark.parametrize("line", NEARLY.values(), ids=NEARLY.keys())
def test_no_line_takes_long(line):
    began = time.process_time()
    read(*[line] * 20)
    assert time.process_time() - began < 1.0


def test_every_row_is_one():
    assert all(isinstance(event, Row) for event in read("iter 1: loss 3.0", "iter 2: loss 2.9"))
