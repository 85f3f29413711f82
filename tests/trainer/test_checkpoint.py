import hashlib
import os
import random

import numpy as np
import pytest
import torch

from trainer.checkpoints import files as checkpoint
from trainer.checkpoints import randomness


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def cut(path):
    path.write_bytes(path.read_bytes()[:100])


def forge(path):
    path.write_bytes(b"not a checkpoint")
    path.with_name(f"{path.name}.sha256").write_text(hashlib.sha256(b"not a checkpoint").hexdigest())


def no_hash(path):
    path.with_name(f"{path.name}.sha256").unlink()


@pytest.mark.parametrize("damage", [flip, cut, forge, no_hash], ids=lambda damage: damage.__name__)
def test_a_damaged_last_falls_back_to_best(tmp_path, damage):
    checkpoint.save(tmp_path, "best", {"step": 1})
    damage(checkpoint.save(tmp_path, "last", {"step": 2}))
    state, troubles = checkpoint.load_newest(tmp_path)
    assert state == {"step": 1}
    assert "last.pt" in troubles[0]


def test_two_damaged_ones_are_an_error_that_names_both(tmp_path):
    for name in ("last", "best"):
        flip(checkpoint.save(tmp_path, name, {"step": 1}))
    with pytest.raises(checkpoint.BadCheckpoint, match=r"last\.pt.*best\.pt"):
        checkpoint.load_newest(tmp_path)


def test_none_yet_is_no_error(tmp_path):
    assert checkpoint.load_newest(tmp_path) == (None, [])


@pytest.mark.parametrize("survived", [0, 1, 2], ids=["nothing", "the-hashes", "hashes-and-file"])
def test_a_crash_between_the_writes_of_a_save_costs_nothing(tmp_path, monkeypatch, survived):
    checkpoint.save(tmp_path, "last", {"step": 1})
    replace, done = os.replace, []

    def crash(old, new):
        if len(done) == survived:
            raise KeyboardInterrupt
        done.append(new)
        replace(old, new)

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path, "last", {"step": 2})
    assert checkpoint.load_newest(tmp_path) == ({"step": 2 if survived == 2 else 1}, [])
    assert [path.name for path in (tmp_path / "checkpoints").glob(".*")] == []


def test_the_hash_file_is_what_sha256sum_writes(tmp_path):
    path = checkpoint.save(tmp_path, "last", {"step": 1})
    assert (tmp_path / "checkpoints/last.pt.sha256").read_text() == (
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  last.pt\n"
    )


def test_every_random_generator_goes_on_as_before(tmp_path):
    def draw():
        return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002 - the global state

    randomness.seed_everything(3)
    random.gauss(0, 1)
    path = checkpoint.save(tmp_path, "last", {"random": randomness.random_state()})
    expected = draw()
    draw()
    randomness.restore_random_state(checkpoint.load(path)["random"])
    assert draw() == expected
