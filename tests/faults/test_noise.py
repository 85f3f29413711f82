"""Noise in the files of a run: what hypothesis makes up for the parsers, then noise in a file that is being watched."""

import json
import os

import pytest
import targets
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scene import Scene, once

import contract
from checker import rows

NUMBERS = st.one_of(
    st.integers(), st.floats(), st.integers(10**300, 10**310), st.sampled_from([0, -1, 2**62, 2**63, 1e308, 5e-324])
)
WORDS = st.sampled_from(
    [*rows._PLACE, "loss", "train_loss", "val_loss", "lr", "grad_norm", "NaN", "Infinity", "", "nan"]
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS, st.text(max_size=8))
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=8
)
KEYS = st.sampled_from([
    "state", "run_id", "step", "phase", "kill", "ack", "id", "reason", "grace_seconds", "process", "pid", "host",
    "started", "boot_id", "kind", "act", "finding", "ranks", "rank", "life", "now", "after_row", "final", "notes",
    "stack_signal", "is_training", "requested_by", "heartbeat_at", "progress_at", "started_at", "updated_at", "launch",
    "world_size",
])  # fmt: skip
RECORDS = st.dictionaries(
    KEYS, VALUES | st.dictionaries(KEYS, VALUES, max_size=4) | st.sampled_from(["running", "act", "tick"]), max_size=8
)
LINES = st.one_of(
    st.dictionaries(WORDS, VALUES, max_size=6).map(lambda found: json.dumps(found).encode()),
    RECORDS.map(lambda found: json.dumps(found).encode()),
    st.binary(max_size=40),
    st.sampled_from([b"", b" ", b"\r", b"[" * 300, b'{"a":' * 90, b"\xef\xbb\xbf", b"\x00", b"NaN"]),
)
NOISE = st.lists(LINES, max_size=8).map(b"\n".join)


@pytest.mark.parametrize(
    ("name", "longest"),
    [*((name, rows.MAX_LINE) for name in targets.TARGETS), ("rows", 50)],
    ids=[*targets.TARGETS, "rows, where 50 bytes are too many"],
)
def test_the_parser_of(name, longest, monkeypatch):
    monkeypatch.setattr(rows, "MAX_LINE", longest)

    made = st.binary(max_size=200).map(lambda data: targets.Making(data).lines())

    @given(made | (RECORDS.map(lambda found: json.dumps(found).encode()) if name == "status" else NOISE))
    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    def any_bytes(data):
        targets.TARGETS[name](data)

    for seed in targets.SEEDS[name]:
        any_bytes = example(seed)(any_bytes)
    any_bytes()


NOISES = {
    "a line of 1 MB": b'{"loss": "' + b"x" * (1 << 20) + b'"}\n',
    "ten lines of 1 MB": (b'{"loss": "' + b"x" * (1 << 20) + b'"}\n') * 10,
    "binary noise": bytes(range(256)) * 40 + b"\n",
    "noise without a newline": os.urandom(1 << 16).replace(b"\n", b"") + b"\n",
    "zeros": b"\0" * 5000 + b"\n",
    "half of a character": '{"loss": "é'.encode()[:-1] + b"\n",
    "brackets": b"[" * 100_000 + b"\n",
    "another alphabet": '{"потеря": 1}'.encode("utf-16") + b"\n",
}


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES.keys())
def test_noise_in_a_log(tmp_path, noise):
    scene = Scene(tmp_path).rounds()
    with (scene.faulty.path / contract.METRICS).open("ab") as file:
        file.write(noise)
    scene.rounds()
    assert len([text for text in scene.said() if "metrics.jsonl line 11: " in text]) == 1
    assert all(len(text) < 300 for text in scene.said())
    scene.others_go_on()
    scene.judged_again()


def test_a_last_line_of_1_mb_that_never_ends(tmp_path):
    scene = Scene(tmp_path).rounds()
    path = scene.faulty.path / contract.METRICS
    for _ in range(6):
        with path.open("ab") as file:
            file.write(b"x" * (1 << 19))
        scene.rounds(1)
    tail = scene.watch.runs[scene.faulty.path].tail
    assert len(tail._decoder._rest) <= rows.MAX_LINE  # bounded memory
    scene.others_go_on()
    with path.open("ab") as file:
        file.write(b"\n")
    scene.judged_again()
    once(scene.said(), "bytes long; a row may have")
