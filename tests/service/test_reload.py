"""New limits while a watch goes on, and leaving it."""

import dataclasses
import signal

import pytest
from folders import START, Folder, Watcher, gone_process

import contract
from checker.daemon import Daemon
from checker.detectors import explosion
from checker.service import surround
from checker.service.heartbeat import Heartbeat
from checker.service.surround import Surroundings

STRICT = {"explosion": dataclasses.replace(explosion.LIMITS, unlearned_times=2.0)}


def risen(tmp_path, **fields):
    return Folder(tmp_path / "exp").rows(*[2.0] * 60, *[7.0] * 30).status(**fields)


def test_the_same_verdict_by_other_limits_is_not_told_twice(tmp_path):
    folder = risen(tmp_path, process=contract.this_process())
    folder.rows("NaN")
    watcher = Watcher(folder, at=START + 92).turns(2)
    before, acts = folder.told(), folder.acts()
    assert before[-1:] == ["r1/nonfinite/0/critical"]
    watcher.run.judge_by(STRICT)
    watcher.turns(3)
    assert sorted(set(folder.told()) - set(before)) == ["r1/explosion/0/critical", "r1/explosion/0/warning"]
    assert len(folder.told()) == len(set(folder.told()))
    assert folder.acts() == acts


@pytest.mark.parametrize("state", ["completed", "killed", "running"], ids=["completed", "killed", "gone"])
def test_what_is_over_is_not_judged_again_until_it_goes_on(tmp_path, state):
    folder = risen(tmp_path, state=state, process=gone_process())
    watcher = Watcher(folder, at=START + 91).turns(5)
    told = folder.told()
    watcher.run.judge_by(STRICT)
    watcher.turns(3)
    assert folder.told() == told
    folder.status("running", process=contract.this_process())
    watcher.turns(2)
    assert folder.told()[len(told) :] == ["r1/explosion/0/warning", "r1/explosion/0/critical"]


@pytest.fixture(autouse=True)
def own_signals():
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def watch(tmp_path):
    """A daemon with its surroundings, and a way to have it read its limits again."""
    daemon, said = Daemon(tmp_path), []
    with (tmp_path / contract.WATCHER).open("w+b") as file:
        around = Surroundings(
            daemon,
            Heartbeat(file.fileno(), tmp_path / contract.WATCHER),
            lambda event, text, *_, **__: said.append((event, text)),
        )

        def again():
            around._hangup.asked = True
            daemon.round(wait=False)
            daemon.after_round()
            return said[-1]

        yield daemon, again
        daemon.close()


RELOADS = {
    "nothing there": (None, "reloaded", "limits read again: they are as they were", False),
    "nothing in it": ("", "reloaded", "limits read again: they are as they were", False),
    "no TOML": ("[", "refused", "new limits refused; those in force stay", False),
    "half of it wrong": (
        "[limits.explosion]\nunlearned_times = 2.0\n[limits.nonesuch]\n",
        "refused",
        "new limits refused; those in force stay",
        False,
    ),
    "right": (
        "[limits.explosion]\nunlearned_times = 2.0\n",
        "reloaded",
        "judging 1 run again from the first row",
        True,
    ),
}


@pytest.mark.parametrize(("text", "event", "told", "taken"), RELOADS.values(), ids=RELOADS.keys())
def test_what_becomes_of_new_limits(tmp_path, watch, text, event, told, taken):
    daemon, again = watch
    risen(tmp_path, process=contract.this_process())
    if text is not None:
        (tmp_path / "checker.toml").write_text(text)
    found = again()
    assert (found[0], told in found[1]) == (event, True)
    assert bool(daemon.limits) is taken
    if event == "refused":
        assert "checker.toml:" in found[1]
        assert "limits refused: " in daemon.after_round.__self__._standing()
        (tmp_path / "checker.toml").unlink()
        assert again()[0] == "reloaded"
        assert "limits refused: " not in daemon.after_round.__self__._standing()


def test_the_shipped_limits_come_back_with_the_file_gone(tmp_path, watch):
    daemon, again = watch
    (tmp_path / "checker.toml").write_text("[limits.explosion]\nunlearned_times = 2.0\n")
    again()
    (tmp_path / "checker.toml").unlink()
    assert again() == ("reloaded", "the shipped limits; judging 0 runs again from the first row")
    assert daemon.limits == {}


def test_whoever_leaves_in_the_midst_of_a_round_writes_what_it_found(tmp_path, monkeypatch):
    for number in range(5):
        Folder(tmp_path / f"exp-{number}", start=START).rows(*[2.0] * 20, "NaN").status("completed")
    reported, lists = [], []
    daemon = Daemon(tmp_path, on_change=lambda run: reported.append(run.name), on_changes=lambda: lists.append(1))
    turns = iter(range(99))
    daemon.after_turn = lambda run: daemon.stop(15) if run is not None and next(turns) == 1 else None
    daemon.run()
    assert daemon.signalled == 15
    assert (len(reported), lists) == (2, [1])
    monkeypatch.setattr("checker.daemon.FAREWELL_SECONDS", 0.0)
    daemon = Daemon(tmp_path, on_change=lambda run: reported.append(run.name))
    daemon.after_turn = lambda run: daemon.stop(15) if run is not None else None
    daemon.run()
    assert len(reported) == 2  # there was no time; the next one does it


def test_a_manager_hears_of_a_long_round_and_of_every_piece_of_it(tmp_path, monkeypatch):
    beats = []
    monkeypatch.setattr(surround.Heartbeat, "beat", lambda _, **fields: beats.append(fields["runs"]))
    for number in range(3):
        Folder(tmp_path / f"exp-{number}").rows(2.0).status("completed")
    daemon = Daemon(tmp_path)
    with (tmp_path / contract.WATCHER).open("w+b") as file:
        Surroundings(daemon, Heartbeat(file.fileno(), tmp_path), lambda *_, **__: None)
        monkeypatch.setattr(surround, "SIGN_SECONDS", 0.0)
        daemon.round(wait=False)
    assert len(beats) >= 6  # each folder at its turn and at its report
    daemon.close()
