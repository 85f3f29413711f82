"""A few kills of a checker; `make test-faults` does a thousand."""

import os
import signal

import killed
import pytest
from folders import Folder, Watcher

import contract
from checker import chase, daemon, enforce, leftovers

pytestmark = pytest.mark.skipif(not hasattr(signal, "pidfd_send_signal"), reason="processes are known by their handles")


def test_a_few_kills_lose_nothing_and_do_nothing_twice(tmp_path):
    (tmp_path / "undisturbed").mkdir()
    counts = killed.learn(tmp_path / "undisturbed")
    assert counts["signal"] == 7  # three to each of the two deaf ones, one to the mute one
    trials = killed.points(counts, 2000, seed=7)
    chosen = [trial for trial in trials if trial[0].place == "signal"][::2] + trials[:18] + trials[-5:]
    tally = killed.many(tmp_path, chosen[::7], jobs=4)
    assert tally.broken == []
    assert sum(tally.hits.values()) >= 3


def doomed(tmp_path):
    return Folder(tmp_path / "exp").rows(*[2.0] * 10, "NaN").status(process=contract.this_process())


class Killed(BaseException):
    """Stands for SIGKILL where one process is enough."""


def killed_at(monkeypatch, module, name):
    def die(*_, **__):
        raise Killed

    monkeypatch.setattr(module, name, die)


def dies(folder):
    watcher = Watcher(folder)
    with pytest.raises(Killed):
        watcher.turn()


def test_killed_between_the_verdict_and_the_journal(tmp_path, monkeypatch):
    folder = doomed(tmp_path)
    with monkeypatch.context() as patch:
        killed_at(patch, contract, "Appender")
        dies(folder)
    assert "kill" not in folder.document()
    Watcher(folder).turn()
    assert folder.acts() == ["looked-again", "requested"]
    assert len(folder.told()) == 1


def test_killed_between_the_journal_and_the_request(tmp_path, monkeypatch):
    folder = doomed(tmp_path)
    with monkeypatch.context() as patch:
        killed_at(patch, chase.enforce, "ask")
        dies(folder)
    assert folder.acts() == ["looked-again"]
    Watcher(folder).turn()
    assert folder.acts() == ["looked-again", "requested"]


@pytest.mark.parametrize("obeyed", [False, True], ids=["not answered yet", "answered and over"])
def test_killed_between_the_request_and_its_entry(tmp_path, monkeypatch, obeyed):
    folder = doomed(tmp_path)
    ask = enforce.ask

    def die(*arguments):
        ask(*arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(chase.enforce, "ask", die)
        dies(folder)
    kill = folder.document()["kill"]
    assert folder.acts() == ["looked-again"]
    if obeyed:
        folder.status("killed", ack={"id": kill["id"], "at": "x", "step": 11})
    watcher = Watcher(folder).turn()
    assert folder.document()["kill"] == kill
    assert folder.acts() == ["looked-again", "requested", *["acknowledged"] * obeyed]
    assert folder.journal("act")[1]["kill"] == kill["id"]
    watcher.turns(12)
    assert folder.acts().count("requested") == 1


def test_killed_between_a_signal_and_the_next_look(tmp_path, monkeypatch):
    """The end of a process that our signal ended is no crash, whenever the checker itself was ended."""
    folder, sent = doomed(tmp_path), []
    watcher = Watcher(folder).turn()

    def send(did, *_, probe=False):
        if not probe:
            sent.append(did)
            raise Killed
        return [7], None

    monkeypatch.setattr(chase.enforce, "send_all", send)
    with pytest.raises(Killed):
        watcher.turn(31)
    assert folder.acts() == ["looked-again", "requested", "sigterm"]
    at, mono = watcher.at, watcher.mono
    watcher = Watcher(folder, at=at)
    watcher.mono = mono
    watcher.turns(9)
    assert sent == ["sigterm"]  # not a second one
    with pytest.raises(Killed):
        watcher.turns(2)
    assert sent == ["sigterm", "sigkill"]
    again = Watcher(folder, at=watcher.at)
    again.mono = watcher.mono
    with pytest.raises(Killed):
        again.turn()
    assert sent[2:] == ["sigkill"]  # which cannot do harm twice, and may never have been sent
    assert folder.acts().count("sigkill") == 1


def test_patience_goes_on_where_it_stood(tmp_path):
    folder = doomed(tmp_path)
    first = Watcher(folder).turn().turns(29)
    second = Watcher(folder, at=first.at)
    second.mono = first.mono
    second.turns(2)
    assert folder.acts() == ["looked-again", "requested", "cannot"]  # after 30 seconds, not after 59


def test_a_report_about_an_earlier_state_is_not_taken_for_the_last_one(tmp_path):
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 10).status("completed")
    (folder.path / contract.DIAGNOSIS).write_text("made while it was still running")
    assert not daemon.reported(folder.path)
    Watcher(folder).turns(2)
    assert not daemon.reported(folder.path)
    path = folder.path / contract.DIAGNOSIS
    path.write_text("completed")
    os.utime(path)
    os.utime(folder.path / contract.FINDINGS, ns=(1, 1))
    assert daemon.reported(folder.path)


LEFT = {
    "a page of a dead checker": (".diagnosis.md.{dead}.3.tmp", 120, True),
    "a page that is being written": (".diagnosis.md.{dead}.3.tmp", 1, False),
    "a page of a living process": (".next.md.{alive}.0.tmp", 120, False),
    "a status file, perhaps of another machine": (".training_status.json.{dead}.0.tmp", 120, False),
    "a status file of the day before": (".training_status.json.{dead}.0.tmp", 90_000, True),
    "somebody else's": (".notes.{dead}.0.tmp", 900_000, False),
}


@pytest.mark.parametrize(("name", "age", "goes"), LEFT.values(), ids=LEFT.keys())
def test_what_a_killed_checker_leaves_is_cleared(tmp_path, name, age, goes):
    path = tmp_path / name.format(dead=2**22 + 7, alive=os.getpid())
    path.write_text("half a page")
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))
    leftovers.clear(tmp_path)
    assert path.exists() != goes
