"""Healthy runs of every kind that fools a rule somewhere: no rule may raise its voice on any of them."""

from __future__ import annotations

import math
import random

import pytest
from curves import noisy_descent, rows


def _chance(seed):
    return random.Random(seed)


def noisy():
    return rows(train=noisy_descent(), val=noisy_descent(30, 2.4, 0.7, 0.02), val_every=10)


def spike_recovers():
    values = noisy_descent()
    for i, value in enumerate((8.0, 7.0, 4.0, 2.5, 1.8)):
        values[150 + i] = value
    values[220] = 40.0
    return rows(train=values, grad=[1.0] * 150 + [900.0, 300.0, 80.0] + [1.0] * 147)


def warm_restarts():
    train, lr, chance = [], [], _chance(1)
    for i in range(400):
        cycle = i % 100 / 100
        rate = 0.5e-3 * (1 + math.cos(math.pi * cycle))
        bump = 0.25 * math.exp(-12 * cycle) if i >= 100 else 0.0
        train.append(0.8 + 1.7 * math.exp(-i / 70) + bump + chance.gauss(0, 0.02))
        lr.append(rate)
    return rows(train=train, lr=lr)


def one_cycle():
    lr = [1e-5 + 1e-3 * (i / 90) for i in range(90)] + [1e-3 * (1 - i / 210) for i in range(210)]
    return rows(train=noisy_descent(), lr=lr)


def warmup():
    lr = [1e-3 * min(1, i / 50) for i in range(300)]
    flat = [2.5 + _chance(i).gauss(0, 0.03) for i in range(25)]
    return rows(train=flat + noisy_descent(275), lr=lr)


def curriculum_jump(times=1.6):
    train = [0.69 * 0.93**i for i in range(6)]
    train += [train[-1] * times * 0.95**i for i in range(44)]
    val = [0.70 * 0.95**i for i in range(6)]
    val += [val[-1] * 1.25 * 0.97**i for i in range(44)]
    return rows(train=train, val=val, epochs=True)


def negative_losses():
    return rows(train=[-v for v in noisy_descent(start=0.2, floor=9.0, noise=0.1)], val="-1.0-0.03x299~0.05")


def crossing_zero():
    return rows(train=[3.0 - 8.0 * (1 - math.exp(-i / 60)) + _chance(i).gauss(0, 0.1) for i in range(300)])


def near_zero():
    chance = _chance(5)
    return rows(train=[2.3 * math.exp(-i / 15) * math.exp(chance.gauss(0, 0.5)) + 1e-9 for i in range(300)])


def from_17_to_6():
    rise = [12.0 + 0.28 * i for i in range(19)]
    chance = _chance(6)
    fall = [6.3 + 10.8 * math.exp(-i / 60) + chance.gauss(0, 0.1) for i in range(400)]
    return rows(train=rise + fall, grad=[30.0] * 19 + [max(0.5, 30 * 0.98**i) for i in range(400)])


def amp_scaling():
    inf = float("inf")
    grad = [inf] * 6 + [1.0] * 150 + [inf] + [0.9] * 100 + [inf] + [0.8] * 41
    return rows(train=noisy_descent(), grad=grad[:300])


def evaluation_pauses():
    seconds = [20.0 if i % 50 == 0 and i else 1.0 for i in range(300)]
    return rows(train=noisy_descent(), val=noisy_descent(6, 2.4, 0.7, 0.01), val_every=50, seconds=seconds)


def converged():
    chance = _chance(8)
    return rows(train=[0.3 + 2 * math.exp(-i / 20) + chance.gauss(0, 0.02) for i in range(1000)])


def batch_of_one():
    chance = _chance(9)
    return rows(train=[(0.8 + 1.7 * math.exp(-i / 80)) * math.exp(chance.gauss(0, 0.6)) for i in range(600)])


def adversarial():
    chance = _chance(10)
    return rows(train=[0.69 + 0.2 * math.sin(i / 9) + chance.gauss(0, 0.08) for i in range(500)])


def long_run():
    chance = _chance(11)
    return rows(train=[2.0 * (i + 1) ** -0.1 + chance.gauss(0, 0.03) for i in range(5000)], seconds=0.1)


def resumed():
    first = rows(train=noisy_descent(200))
    again = rows(train=noisy_descent(200)[150:], start=150)
    first = [row._replace(run_id="a") for row in first]
    return first + [row._replace(index=200 + i, line=201 + i, run_id="b") for i, row in enumerate(again)]


def negative_and_noisy():
    chance = _chance(12)
    return rows(train=[-8.7 + chance.gauss(0, 0.15) - i / 200 for i in range(300)])


def decaying_spikes():
    chance, values = _chance(13), noisy_descent(900)
    for at in (150, 420, 700):
        for i in range(at, 900):
            values[i] += 9.0 * math.exp(-(i - at) / 6)
    return rows(train=[value + chance.gauss(0, 0.02) for value in values])


def few_values():
    return rows(train="2.0 1.7 1.9 1.5")


_MAKERS = (
    noisy, spike_recovers, warm_restarts, one_cycle, warmup, curriculum_jump, negative_losses, crossing_zero,
    near_zero, from_17_to_6, amp_scaling, evaluation_pauses, converged, batch_of_one, adversarial, long_run, resumed,
    negative_and_noisy,
    few_values,
)  # fmt: skip
HEALTHY = [pytest.param(make, id=make.__name__.replace("_", "-")) for make in _MAKERS]
