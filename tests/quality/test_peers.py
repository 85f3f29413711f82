"""The restated peers: silent on a healthy curve first, then what each finds, and at which row."""

from __future__ import annotations

import math
from importlib import import_module
from types import SimpleNamespace

import pytest
from curves import curve, noisy_descent
from peers import PEERS
from peers.base import Point, Setup, epochs

NAN = float("nan")
RESTATED = [peer for peer in PEERS if not peer.package]
DESCENT = "2.0*0.99x299"
SMOOTH = [0.2 + 1.8 * math.exp(-2.5 * i / 100) for i in range(100)]
BLOWN = f"{DESCENT} 30x30"


def points(train=None, *, total=None, **others):
    """The points of a run, each series a curve in a string or a list."""
    series = {"train_loss": train, **others}
    lists = {name: curve(text) if isinstance(text, str) else text for name, text in series.items() if text is not None}
    length = max(map(len, lists.values()))
    made = []
    for row in range(length):
        values = {name: numbers[row] for name, numbers in lists.items() if row < len(numbers)}
        made.append(Point(row=row, step=row, done=(row + 1) / (total or length), **values))
    return Setup(total or length, "val_loss" in series, 100, {}), made


def heard(peer, setup, made, **limits):
    """The row and the reason of the first verdict."""
    feed = peer.make(setup, **{**peer.documented, **limits})
    return next(((point.row, why) for point in made if (why := feed(point)) is not None), None)


def named(name):
    return next(peer for peer in PEERS if name in peer.name)


QUIET = {
    "a smooth descent": {"train": SMOOTH, "val_loss": SMOOTH, "grad_norm": "1x99"},
    "the same in large numbers": {"train": [2000 * loss for loss in SMOOTH]},
    "a log without any loss": {"train": "_ _ _ _", "lr": "0.001x300"},
    "one row": {"train": "2.0"},
}
HOT = {
    ("AUTOTRAINER", "the same in large numbers"),
    ("W&B MCP diagnose_run", "a smooth descent"),
    ("W&B MCP diagnose_run", "the same in large numbers"),
}
"""Who is documented to speak up all the same: a raw limit of 1,000; a slow start that is called converged."""


@pytest.mark.parametrize("peer", RESTATED, ids=lambda peer: peer.name)
@pytest.mark.parametrize("name", QUIET)
def test_a_healthy_curve_is_left_alone_but_by_the_hot(peer, name):
    assert (heard(peer, *points(**QUIET[name])) is not None) == ((peer.name, name) in HOT)


@pytest.mark.parametrize("name", ["floor", "KillLossSpike", "Megatron"])
def test_noise_is_left_alone(name):
    assert heard(named(name), *points(noisy_descent())) is None


FOUND = [
    ("floor", {"train": BLOWN}, 308, "level"),
    ("floor", {"train": f"{DESCENT} nan nan nan"}, 302, "non-finite"),
    ("floor", {"train": f"{DESCENT} 30 0.1x100"}, None, ""),
    ("floor", {"train": f"{DESCENT} nan nan 0.1x50"}, None, ""),
    ("fast-fail", {"train": f"{DESCENT} nan"}, 300, "NaN"),
    ("fast-fail", {"train": f"{DESCENT} 30x49"}, 349, "exploded"),
    ("fast-fail", {"train": f"{DESCENT} 30x10 0.1x100"}, None, ""),
    ("fast-fail", {"train": "2.0x600"}, 549, "no improvement"),
    ("fast-fail", {"train": "0x400"}, None, ""),
    ("fast-fail", {"train": "0x700"}, 549, "no improvement"),
    ("KillLossSpike", {"train": "2.0x149 5x10"}, 154, "5 losses in a row"),
    ("KillLossSpike", {"train": "2.0x149 5x3 2.0x100"}, None, ""),
    ("KillLossSpike", {"train": "2.0x149 nan 5x40"}, None, ""),
    ("KillLossSpike", {"train": "2.0x150 2.0+0.01x500"}, 202, "half of the last"),
    ("Megatron", {"train": "2.0x99 20"}, 100, "10 times"),
    ("Megatron", {"train": "2.0x99 19.9x50"}, None, ""),
    ("Megatron", {"train": "2.0x9 20"}, None, ""),
    ("Megatron", {"train": "2.0x20 nan"}, 21, "NaN"),
    ("Megatron", {"train": "2.0x150", "grad_norm": "1x99 11"}, 100, "grad_norm"),
    ("OLMo", {"train": "2.0x299~0.1 3"}, 300, "loss"),
    ("OLMo", {"train": "2.0x99~0.1 30"}, None, ""),
    ("OLMo", {"train": "2.0x299 30"}, None, ""),
    ("OLMo", {"train": DESCENT, "grad_norm": "1x199~0.1 9"}, 200, "gradient"),
    ("SageMaker", {"train": f"{DESCENT} nan"}, 300, "ExplodingTensor"),
    ("SageMaker", {"train": DESCENT, "grad_norm": "1x10 0"}, 11, "VanishingGradient"),
    ("SageMaker", {"train": "2.0x99", "total": 100}, 10, "LossNotDecreasing"),
    ("SageMaker", {"train": "2.0*0.99x99", "val_loss": "2.5*0.99x99"}, 0, "Overfit"),
    ("SageMaker", {"train": "2.0*1.002x99", "total": 100}, None, ""),
    ("UMLAUT", {"train": DESCENT, "lr": "0.02x300"}, 0, "learning rate"),
    ("UMLAUT", {"train": "2.0*0.99x99", "val_loss": "2.0*0.99x49 1.3*1.01x49"}, 50, "overfitting"),
    ("UMLAUT", {"train": DESCENT, "accuracy": "0.5x99", "val_accuracy": "0.5x9 0.6"}, 10, "too good"),
    ("AUTOTRAINER", {"train": f"{DESCENT} nan 0.1x50", "total": 100}, 304, "NaN"),
    ("AUTOTRAINER", {"train": "2.0x99", "accuracy": "0.1x99"}, 29, "slow"),
    ("AUTOTRAINER", {"train": "2.0x99", "accuracy": "0.1+0.012x10 0.22x99"}, None, ""),
    ("AUTOTRAINER", {"train": "2.0x99", "accuracy": [0.7, 0.9] * 50}, 29, "oscillation"),
    ("BTTackler", {"train": "2.0x99", "total": 100}, 2, "slow"),
    ("BTTackler", {"train": DESCENT, "grad_norm": "1x9 20000"}, 10, "exploding"),
    ("BTTackler", {"train": "2.0*0.99x59 1.4x9", "total": 200}, 61, "no more gain"),
    ("diagnose_run", {"train": "2.0*0.97x99"}, None, ""),
    ("diagnose_run", {"train": "2.0*1.02x99"}, 9, "diverging"),
    ("diagnose_run", {"train": "2.0x99"}, 9, "converged"),
    ("diagnose_run", {"train": "100*0.97x499 1000x500"}, None, ""),
]


@pytest.mark.parametrize(
    ("name", "run", "row", "why"), FOUND, ids=[f"{name}: {run['train']} -> {row}" for name, run, row, _ in FOUND]
)
def test_a_peer_speaks_up_where_its_documents_say(name, run, row, why):
    found = heard(named(name), *points(**run))
    assert found == (None if row is None else (row, found and found[1]))
    assert row is None or why in found[1]


def test_an_immune_trial_goes_on():
    peer, program = named("BTTackler"), {}
    setup, worse = points("2.0x60 3.0*1.01x39")
    for _ in range(12):
        heard(peer, setup._replace(program=program), worse, rules=("no_gain",))
    _, best = points("1.0x60 1.0*1.001x39")
    assert heard(peer, setup, best, rules=("no_gain",)) is not None
    assert heard(peer, setup._replace(program=program), best, rules=("no_gain",)) is None


def test_epochs_end_where_the_log_validates():
    setup, made = points([4.0, 2.0, 3.0, 5.0], val_loss=[None, 1.0, None, 2.0])
    read = epochs(setup)
    assert [read(point) for point in made] == [None, (3.0, 1.0), None, (4.0, 2.0)]


def test_without_validations_an_epoch_is_a_share_of_the_plan():
    setup, made = points([1.0, 3.0, NAN, 3.0], total=200)
    read = epochs(setup)
    assert [found and found[0] for found in map(read, made)] == [None, 2.0, None, pytest.approx(NAN, nan_ok=True)]


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_every_peer_names_its_source_and_starts_its_grid_at_its_documents(peer):
    variants = list(peer.variants())
    assert peer.source
    assert peer.kind in {"stop", "alert"}
    assert variants[0] == dict(peer.documented)
    assert all(variant.keys() == peer.documented.keys() for variant in variants)
    assert variants.count(variants[0]) == 1


DRIVEN = [
    ("EarlyStopping", {"train": DESCENT}, None),
    ("EarlyStopping", {"train": "2.0*0.99x49 5x9"}, 52),
    ("EarlyStopping", {"train": "2.0*0.99x49 nan"}, 50),
    ("SpikeDetection", {"train": DESCENT}, None),
    ("SpikeDetection", {"train": "2.0x49 7"}, 50),
    ("SpikeDetection", {"train": "2.0x49 nan"}, 50),
    ("TerminateOnNaN", {"train": "2.0x49 900"}, None),
    ("TerminateOnNaN", {"train": "2.0x49 inf"}, 50),
    ("MedianPruner", {"train": "9.0x99"}, None),
    ("PatientPruner", {"train": "9.0x99"}, None),
]


@pytest.mark.parametrize(("name", "run", "row"), DRIVEN, ids=[f"{name}: {run['train']}" for name, run, _ in DRIVEN])
def test_a_package_is_driven_where_it_is_installed(name, run, row):
    peer = named(name)
    if peer.version is None:
        pytest.skip(f"{peer.package} is not installed")
    found = heard(peer, *points(**run))
    assert (found and found[0]) == row


class Fabric:
    """As much of a Fabric as the callback asks for: one process."""

    strategy = SimpleNamespace(
        root_device="cpu", barrier=lambda: None, reduce_boolean_decision=lambda decision, **_: decision
    )
    global_rank = 0


def test_the_plain_window_of_spike_detection_says_what_the_package_says(tmp_path):
    peer = named("SpikeDetection")
    if peer.version is None:
        pytest.skip(f"{peer.package} is not installed")
    spike, torch = import_module("lightning.fabric.utilities.spike"), import_module("torch")
    for text in ("2.0*0.99x80~0.5", "2.0x30~0.1 5.5x3 7", "2.0*1.1x99", "0.1x20 0.29 0.3 0.2x9 1.1"):
        callback = spike.SpikeDetection(exclude_batches_path=str(tmp_path / "skip.json"))
        found = None
        for batch, loss in enumerate(curve(text)):
            try:
                callback.on_train_batch_end(Fabric, torch.tensor(loss), None, batch)
            except spike.TrainingSpikeException:
                found = batch
                break
        ours = heard(peer, *points(text))
        assert (ours and ours[0]) == found


def test_a_median_pruner_compares_with_the_earlier_runs_of_the_program():
    peer = named("MedianPruner")
    if peer.version is None:
        pytest.skip(f"{peer.package} is not installed")
    program = {}
    setup, good = points("2.0*0.99x99")
    _, bad = points("9.0x99")
    verdicts = [heard(peer, setup._replace(program=program), made) for made in [good] * 5 + [bad]]
    assert verdicts == [None] * 5 + [(0, "pruned")]
