"""The daemon and runs that fail alike: silent first, then said once, then what is left of a sweep is stopped."""

import json
import os
import time

import pytest
from folders import Folder, Watcher, again, gone_process

import contract
from checker.daemon import Daemon
from checker.feed.feed import Feed, written
from checker.registry.policy import Sweep
from checker.report import checklist, pages
from checker.terms import Mode


class Root:
    """A folder of runs, and the daemon that watches it."""

    def __init__(self, path):
        self.path, self.count, self.notices = path, 0, []

    def run(self, lr=0.5, *losses, state="running", sweep="zoo-1", where="", **fields):
        self.count += 1
        folder = Folder(self.path / where / f"exp-{self.count:03d}", run_id=f"r{self.count}", start=time.time())
        record = {"id": folder.path.name, "sweep": sweep, "config": {"lr": lr, "seed": self.count % 3}}
        (folder.path / contract.EXPERIMENT).write_text(json.dumps(record))
        process = contract.this_process() if state == "running" else gone_process()
        return folder.rows(*[2.0] * 10, *losses).status(state, process=process, **fields)

    def bad(self, count, lr=0.5, **named):
        return [self.run(lr, "NaN", "NaN", state="killed", **named) for _ in range(count)]

    def good(self, count, lr=0.1, **named):
        return [self.run(lr, state="completed", **named) for _ in range(count)]

    def watch(self, mode=Mode.ACT, stop_after=0, feed=True, rounds=8):
        self.daemon = Daemon(
            self.path, mode=mode, tell=self.notices.extend, on_changes=lambda: checklist.steps(self.path), poll=0.01
        )
        self.daemon.feed = Feed(self.path) if feed else None
        self.daemon.sweeps.policy = Sweep(stop_after)
        return self.rounds(rounds)

    def rounds(self, count=8):
        for _ in range(count):
            self.daemon.reports._list_cost = 0.0  # the list of all runs has its share of the time, and a test has none
            again(self.daemon)
        return self

    def end(self):
        self.daemon.close()
        return self

    def said(self, event="alike"):
        return [notice.text for notice in self.notices if notice.event == event]

    def fed(self, *kinds):
        path = self.path / contract.EVENTS
        return [line for line in written(path) if line["kind"] in (kinds or ("alike", "halt"))]

    def page(self):
        return (self.path / contract.CHECKLIST).read_text()


@pytest.fixture
def root(tmp_path):
    return Root(tmp_path)


# ------------------------------------------------------------------------------------------------------------- silence

SILENT = {
    "all well": lambda root: root.good(5),
    "two": lambda root: [*root.bad(2), *root.good(3)],
    "two sweeps": lambda root: [*root.bad(2, sweep="a"), *root.bad(2, sweep="b")],
    "two folders": lambda root: [*root.bad(2, where="a"), *root.bad(2, where="b")],
    "three ways": lambda root: [
        *root.bad(2), *(root.run(state="failed", error=f"ValueError: no {what}") for what in ("a", "b", "c"))
    ],
    "stopped by a person": lambda root: [root.run(state="killed") for _ in range(5)],
}  # fmt: skip


def journaled(folder):
    """As an earlier checker has left it."""
    Watcher(folder, at=time.time()).turns(4)
    (folder.path / contract.DIAGNOSIS).write_text("# Diagnosis\n")


def age(folder, days=3.0):
    then = time.time() - 86400 * days
    for path in folder.path.iterdir():
        os.utime(path, (then, then))


@pytest.mark.parametrize("make", SILENT.values(), ids=SILENT.keys())
def test_nothing_is_said(root, make):
    make(root)
    root.watch(stop_after=3, mode=Mode.OBSERVE)
    assert (root.said(), root.said("halt"), root.fed()) == ([], [], [])


def test_single_tries_of_long_ago_are_history(root):
    for folder in root.bad(5, sweep=""):
        journaled(folder)
        age(folder)
    root.watch()
    assert (root.said(), root.fed()) == ([], [])


# ---------------------------------------------------------------------------------------------------------- said, once

SENTENCE = "3 of 8 runs failed alike (nonfinite of train_loss): all have lr = 0.5; the 5 sound ones have lr = 0.1"


def test_three_of_a_sweep_are_said_with_what_they_share(root):
    root.bad(3)
    root.good(5)
    root.watch()
    assert root.said() == [SENTENCE]
    (line,) = root.fed()
    assert (line["folder"], line["sweep"], line["kind"], line["severity"]) == (".", "zoo-1", "alike", "warning")
    assert (line["runs"], line["shared"]) == (["exp-001", "exp-002", "exp-003"], ["lr = 0.5"])
    assert line["summary"] == SENTENCE
    assert "run" not in line
    assert f"- zoo-1: {SENTENCE}" in root.page()


def test_it_is_said_when_the_third_one_fails_and_not_again(root):
    live = [root.run(), root.run(), root.run(), root.run()]
    root.watch()
    for number, folder in enumerate(live):
        assert len(root.said()) == (number > 2)
        folder.rows("NaN", "NaN")
        root.rounds()
    assert root.said() == ["3 of 4 runs failed alike (nonfinite of train_loss); none has gone well so far"]
    assert len(root.fed()) == 1
    assert "zoo-1: 4 of 4 runs failed alike" in root.page()  # the page is of now


def test_each_way_to_fail_is_said(root):
    root.bad(3)
    for _ in range(3):
        root.run(state="failed", error="RuntimeError: CUDA out of memory. Tried to allocate 20 MiB")
    root.watch()
    assert sorted(text.partition(" (")[2].partition(")")[0] for text in root.said()) == [
        "RuntimeError: CUDA out of memory. Tried to allocate # MiB",
        "nonfinite of train_loss",
    ]


def test_another_checker_does_not_say_it_again(root):
    root.bad(3)
    root.watch().end().watch().end()
    root.bad(1)
    root.watch()
    assert len(root.said()) == len(root.fed()) == 1


def test_a_checker_that_was_killed_before_the_feed_leaves_it_to_the_next(root):
    root.bad(2)
    root.watch().end()  # the feed begins
    root.bad(1)
    root.watch(feed=False).end()  # journaled, and killed before the line
    assert (len(root.said()), root.fed()) == (1, [])
    root.watch().end().watch()
    assert (len(root.said()), len(root.fed())) == (1, 1)


def test_a_sweep_below_the_watched_folder_is_said_of_its_folder(root):
    root.bad(3, where="zoo")
    root.watch()
    assert [line["folder"] for line in root.fed()] == ["zoo"]
    assert (root.path / "zoo" / contract.FINDINGS).exists()


def test_single_runs_of_one_day_are_said_too_and_never_stopped(root):
    root.bad(5, sweep="")
    left = root.run(sweep="")
    root.watch(stop_after=3)
    assert len(root.said()) == 1
    assert left.acts() == []
    assert not list(root.path.glob("stop-*"))


def test_what_cannot_be_journaled_is_said_so_and_neither_told_nor_acted_upon(root):
    root.bad(3)
    left = root.run()
    (root.path / contract.FINDINGS).mkdir()
    root.watch(stop_after=3)
    assert (root.said(), root.fed(), left.acts()) == ([], [], [])
    assert any("what its runs have in common cannot be said" in notice.text for notice in root.notices)
    (root.path / contract.FINDINGS).rmdir()
    root.daemon.reports.list_is_due()
    root.rounds()
    assert len(root.said()) == 1


def test_hostile_names_stay_harmless(root):
    evil = "\x1b[31m<b>|`x`\n# AKIAIOSFODNN7EXAMPLE"
    root.bad(3, sweep=evil)
    root.good(3, sweep=evil)
    root.watch(stop_after=3)
    said = json.dumps(root.fed()) + "".join(root.said()) + root.page()
    assert "\x1b" not in said
    assert "AKIAIOSFODNN7EXAMPLE" not in said
    assert not list(root.path.glob("stop-*"))


# -------------------------------------------------------------------------------------------------- what is left stops


def note_of(root):
    return contract.sweep_stop(root.path, "zoo-1")


def test_without_a_policy_nothing_is_stopped(root):
    root.bad(9)
    left = root.run()
    root.watch()
    assert (left.acts(), note_of(root)) == ([], None)


def test_what_is_like_the_failed_ones_is_asked_to_stop_and_nobody_else(root):
    root.bad(4)
    root.good(5)
    doomed, other, another_sweep = root.run(0.5), root.run(0.1), root.run(0.5, sweep="zoo-2")
    root.watch(stop_after=4)
    assert doomed.acts() == ["looked-again", "requested"]
    kill = doomed.document()["kill"]
    assert (kill["rule"], kill["requested_by"], kill["run_id"]) == ("sweep", "checker", doomed.run_id)
    assert kill["reason"].startswith("4 of 11 runs failed alike (nonfinite of train_loss): all have lr = 0.5; ")
    assert (other.acts(), another_sweep.acts()) == ([], [])
    assert "kill" not in other.document()
    note = note_of(root)
    assert (note.concerns({"lr": 0.5}), note.concerns({"lr": 0.1}), note.rule) == (True, False, "sweep")
    assert [line["act"] for line in root.fed("halt")] == ["requested"]
    assert [line["run"] for line in root.fed("act")] == [doomed.path.name]


def test_its_report_says_why_it_was_stopped(root):
    root.bad(4)
    left = root.run()
    root.watch(stop_after=4)
    left.status("killed", process=gone_process(), ack={"id": left.document()["kill"]["id"], "at": "x", "step": 9})
    root.rounds()
    run = root.daemon.runs[left.path]
    pages.write(run.folder, run.case, status=run.document, experiment=run.experiment, acts=run.acts, unreadable=[])
    page = (left.path / contract.DIAGNOSIS).read_text()
    assert "The run is over: killed. It was asked to stop by checker: 4 of 5 runs failed alike (nonfinite of" in page
    assert root.fed("end")[-1]["summary"].startswith("killed at step")


def test_one_sound_sibling_with_the_same_settings_spares_the_rest(root):
    root.bad(9)
    root.good(1, lr=0.5)
    root.good(5)
    left = root.run(0.5)
    root.watch(stop_after=4)
    assert len(root.said()) == 1
    assert (left.acts(), note_of(root)) == ([], None)


def test_a_sibling_that_has_come_further_is_sound_although_it_is_not_over(root):
    root.bad(9)
    ahead = root.run(0.5, *[2.0] * 30).status(step=40)
    root.watch(stop_after=4)
    assert (ahead.acts(), note_of(root)) == ([], None)


def test_when_nothing_goes_well_all_of_the_rest_is_stopped(root):
    root.bad(4)
    left = [root.run(0.1), root.run(0.7)]
    root.watch(stop_after=4)
    assert [one.acts() for one in left] == [["looked-again", "requested"]] * 2
    assert note_of(root).concerns({"lr": 123})


def test_who_begins_afterwards_is_asked_as_well_unless_the_note_is_gone(root):
    root.bad(4)
    root.watch(stop_after=4)
    late = root.run()
    root.rounds()
    assert late.acts() == ["looked-again", "requested"]
    (root.path / "stop-zoo-1.json").unlink()
    later = root.run()
    root.rounds()
    assert later.acts() == []
    root.end().watch(stop_after=4)  # and it is not put back
    assert (later.acts(), note_of(root)) == ([], None)


def test_an_observer_touches_nothing(root):
    root.bad(4)
    left = root.run()
    root.watch(mode=Mode.OBSERVE, stop_after=4).end().watch(mode=Mode.OBSERVE, stop_after=4).end()
    assert left.acts() == ["observed"]
    assert ("kill" in left.document(), note_of(root)) == (False, None)
    assert [line["act"] for line in root.fed("halt")] == ["observed"]
    root.watch(stop_after=4)  # now it may
    assert left.acts() == ["observed", "looked-again", "requested"]
    assert note_of(root) is not None


def test_a_killed_checker_goes_on_where_it_was(root):
    root.bad(4)
    left = root.run()
    root.watch(stop_after=4)
    (root.path / "stop-zoo-1.json").unlink()
    path = root.path / contract.FINDINGS
    path.write_text("".join(f"{line}\n" for line in path.read_text().splitlines() if '"noted"' not in line))
    root.end().watch(stop_after=4)  # as if it had been killed between the order and the note
    assert note_of(root) is not None
    assert left.acts() == ["looked-again", "requested"]
    left.status("killed", process=gone_process(), ack={"id": left.document()["kill"]["id"], "at": "x", "step": 9})
    root.end().watch(stop_after=4)
    assert left.acts()[-1] == "stopped"
    assert left.acts().count("requested") == 1
    assert len(root.fed("halt")) == 1


def test_who_resumes_a_stopped_run_keeps_it(root):
    root.bad(4)
    left = root.run()
    root.watch(stop_after=4)
    left.status("killed", process=gone_process(), ack={"id": left.document()["kill"]["id"], "at": "x", "step": 9})
    root.rounds()
    document = left.document() | {"kill": None, "ack": None}
    contract.replace(left.path / contract.STATUS, contract.encode(document))
    left.run_id = "again"
    left.status("running", process=contract.this_process())
    root.end().watch(stop_after=4)
    assert left.acts().count("requested") == 1
    assert left.document()["kill"] is None


def test_a_look_at_all_of_them_once_says_it_and_stops_nothing(root, call):
    root.bad(4)
    left = root.run()
    (root.path / "checker.toml").write_text("[sweep]\nstop_after_alike = 2\n")
    _, out, err = call("once", root.path)
    assert out.count("failed alike (nonfinite of train_loss)") == 1, err
    assert (left.acts(), note_of(root)) == ([], None)
    assert "failed alike" not in call("once", root.path)[1]


@pytest.mark.parametrize(("text", "told"), [("1", "must be 0 (never) or at least 2"), ("-1", "whole number from 0")])
def test_a_policy_that_makes_no_sense_is_refused(root, call, text, told):
    (root.path / "checker.toml").write_text(f"[sweep]\nstop_after_alike = {text}\n")
    code, _, err = call("once", root.path)
    assert (code, told in err) == (2, True)


# ------------------------------------------------------------------------------------------------ killed at any write


class Crash(BaseException):
    """The checker is killed: nothing in it may catch this."""


class Fuse:
    """Kills the checker at the n-th write from now: before it, within it, or just after it."""

    def __init__(self, monkeypatch, left, share):
        self.left, self.share = left, share
        append, put = contract.Appender.append_encoded, contract.replace

        def append_encoded(appender, text, *, sync=False):
            if self.blown():
                line = text + b"\n"
                if self.left == -1:
                    os.write(appender._fd, (b"\n" if appender._torn else b"") + line[: round(self.share * len(line))])
                raise Crash
            append(appender, text, sync=sync)

        def replace(path, data, *, sync=True):
            if self.blown():
                if self.share == 1 and self.left == -1:
                    put(path, data, sync=sync)
                raise Crash
            put(path, data, sync=sync)

        monkeypatch.setattr(contract.Appender, "append_encoded", append_encoded)
        monkeypatch.setattr(contract, "replace", replace)

    def blown(self):
        """Whether it is dead now; who is dead writes nothing any more, whatever `finally` says."""
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("share", [pytest.param(0.999, marks=pytest.mark.slow), 1.0], ids=["torn", "just after"])
def test_killed_at_any_write_it_says_and_asks_everything_once(tmp_path, share):
    for left in range(30):
        root = Root(tmp_path / f"{left}")
        root.path.mkdir()
        root.bad(2)
        root.good(6)
        third, doomed, other = root.run(), root.run(), root.run(0.1)
        root.watch(stop_after=3, rounds=5).end()
        third.rows("NaN", "NaN")
        with pytest.MonkeyPatch.context() as patch:
            fuse = Fuse(patch, left, share)
            try:
                root.watch(stop_after=3, rounds=5)
            except Crash:
                fuse.left = 10**9
                root.watch(stop_after=3, rounds=5)
        root.end().watch(stop_after=3, rounds=5).end()
        assert [line["kind"] for line in root.fed()] == ["alike", "halt"], left
        assert doomed.acts().count("requested") == 1, left
        assert (other.acts(), note_of(root) is not None) == ([], True), left
        assert doomed.document()["kill"]["rule"] == "sweep"
        if 0 <= fuse.left < 10**8:
            return
    pytest.fail("there are more writes than were tried")
