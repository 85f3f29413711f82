"""The feed: what is told, once, in order, whatever happens to the checker and to the file."""

import itertools
import json
import os
import time

import pytest
from folders import START, Folder, again, gone_process, iso
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import contract
from checker import daemon, journal
from checker.daemon import Daemon, judge_once
from checker.feed import feed as module
from checker.feed import lines
from checker.feed.feed import Feed, written
from checker.feed.reader import Reader
from checker.lock import only_one
from checker.terms import Mode, Moment

AT = "2026-11-21T10:00:00.000001+00:00"


def told(root):
    return list(written(root / contract.EVENTS))


def kinds(root, run=None):
    return [
        line.get("act") or line.get("state") or line["kind"]
        for line in told(root)
        if line["kind"] != "begin" and run in (None, line["run"])
    ]


# ------------------------------------------------------------------------------------------- what an entry says

SILENT = {
    "the file that follows": {"kind": "file", "fingerprint": "abc"},
    "a look at the clock": {"kind": "tick", "now": START, "state": "running"},
    "a second look": {"kind": "act", "finding": "r1/nonfinite/0/critical", "act": "looked-again", "text": "still so"},
    "asking again": {"kind": "act", "finding": "r1/nonfinite/0/critical", "act": "reasserted", "text": "it vanished"},
    "what a newer checker may write": {"kind": "weather", "text": "rain"},
}


@pytest.mark.parametrize("entry", SILENT.values(), ids=SILENT.keys())
def test_what_follows_nothing_is_not_told(entry):
    assert not lines.is_told({**entry, "at": AT})


FOUND = {"kind": "finding", "rule": "overfit", "severity": "warning", "episode": 1, "step": 5, "summary": "it climbs"}
LAST = {"kind": "tick", "final": True, "step": 20, "run_id": "r1"}

TOLD = {
    "a warning": (FOUND, {"kind": "alert", "severity": "warning", "rule": "overfit", "episode": 1, "step": 5}),
    "information": ({**FOUND, "severity": "info"}, {"kind": "note", "severity": "info"}),
    "a severity of tomorrow": ({**FOUND, "severity": "dire"}, {"kind": "alert", "severity": "warning"}),
    "over": (
        {"kind": "recovered", "rule": "overfit", "episode": 1, "row": 9, "run_id": None},
        {"kind": "recovered", "rule": "overfit", "episode": 1, "summary": "overfit: over"},
    ),
    "a request": (
        {"kind": "act", "act": "requested", "rule": "nonfinite", "text": "train_loss is nan"},
        {"kind": "act", "act": "requested", "rule": "nonfinite", "summary": "asked to stop: train_loss is nan"},
    ),
    "what could not be done": (
        {"kind": "act", "act": "cannot", "rule": None, "text": "another host"},
        {"kind": "act", "severity": "critical", "rule": None, "summary": "cannot: another host"},
    ),
    "an observer": (
        {"kind": "act", "act": "observed", "rule": "stall", "text": "would have asked to stop: it hangs"},
        {"act": "observed", "severity": "info", "summary": "observed only: would have asked to stop: it hangs"},
    ),
    "completed": (
        {**LAST, "state": "completed"},
        {"kind": "end", "state": "completed", "severity": "info", "step": 20, "summary": "completed at step 20"},
    ),
    "failed": (
        {**LAST, "state": "failed", "error": "CUDA out of memory"},
        {"state": "failed", "severity": "critical", "summary": "failed at step 20: CUDA out of memory"},
    ),
    "killed": (
        {**LAST, "state": "killed"},
        {"state": "killed", "severity": "warning", "summary": "killed at step 20: person asked: wrong data"},
    ),
    "killed, and the file is about the next attempt": (
        {**LAST, "state": "killed", "run_id": "r0"},
        {"summary": "killed at step 20"},
    ),
    "ended by force": (
        {**LAST, "state": "killed", "run_id": "r0", "life": "gone"},
        {"state": "killed", "summary": "killed at step 20: ended by the checker"},
    ),
    "gone": (
        {**LAST, "state": "running", "life": "gone"},
        {"state": "crashed", "severity": "critical"},
    ),
    "no judgement": (
        {"kind": "trouble", "text": "OSError: stale file handle"},
        {"kind": "trouble", "severity": "critical"},
    ),
    "garbage": ({"kind": "finding", "rule": 7, "severity": [], "summary": None}, {"kind": "alert", "rule": "7"}),
}
DOCUMENT = {"run_id": "r1", "kill": {"id": "k", "reason": "wrong data"}, "ack": {"id": "k"}}


@pytest.mark.parametrize(("entry", "says"), TOLD.values(), ids=TOLD.keys())
def test_what_is_told(entry, says):
    entry = {**entry, "at": AT}
    assert lines.is_told(entry)
    line = lines.line(entry, 7, "exp-001", DOCUMENT)
    assert {name: line[name] for name in says} == says
    assert (line["run"], line["at"], line["diagnosis"]) == ("exp-001", AT, "exp-001/diagnosis.md")
    assert len(contract.encode(line)) < 600


def test_a_line_holds_no_secrets_and_no_escapes():
    secret = "ghp_" + "a1B2" * 10
    line = lines.line({**FOUND, "summary": f"\x1b[31mtoken {secret}\n" + "x" * 999, "at": AT}, 7, "exp", {})
    text = contract.encode(line).decode()
    assert secret not in text
    assert "[SECRET]" in line["summary"]
    assert "\\u001b" not in text
    assert len(line["summary"]) <= lines.SUMMARY


def test_a_key_is_the_same_after_the_entry_was_written_and_read(tmp_path):
    book = journal.Journal(tmp_path)
    evidence = {"level": float("nan"), "values": (1.0, 1e300), "größe": "\ud800", 3: None}
    entry = book.write("finding", {**FOUND, "evidence": evidence, "against": ("a", "b")})
    assert lines.key(entry, b"") == lines.key(next(journal.entries(tmp_path)), b"")


SAME_END = {
    "again, after another row": ({"after_row": 9}, True),
    "it was no crash: somebody closed it": ({"state": "aborted"}, False),
    "the next attempt": ({"run_id": "r2"}, False),
    "the next attempt of a program without run ids": ({"started_at": START + 5}, False),
}


@pytest.mark.parametrize(("change", "same"), SAME_END.values(), ids=SAME_END.keys())
def test_an_end_is_told_again_only_when_it_is_another(change, same):
    end = {**LAST, "state": "running", "after_row": 8, "started_at": START, "at": AT}
    assert (lines.key(end, b"a") == lines.key({**end, **change, "at": "later"}, b"a")) is same
    assert lines.key(end, b"a") != lines.key(end, b"b")


# ------------------------------------------------------------------------------------------ a daemon with a clock


class Clock:
    """Stands in for `Moment` in the daemon: a second passes with every round."""

    def __init__(self):
        self.at, self.mono = START + 12, 1000.0

    def now(self):
        self.at, self.mono = self.at + 1, self.mono + 1
        return Moment(self.at, self.mono)


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(daemon, "Moment", Clock())


def report(run):
    """A stand-in for the reports, which are slower and tested elsewhere."""
    found = [finding.id for finding in run.case.findings]
    contract.replace(run.folder / contract.DIAGNOSIS, f"{run.state} {found} {len(run.acts)}".encode(), sync=False)


class Watch:
    """A daemon that runs when told."""

    def __init__(self, root, mode=Mode.ACT):
        self.notices = []
        self.daemon = Daemon(root, mode=mode, on_change=report, tell=self.notices.extend)
        self.daemon.feed = Feed(root)

    def rounds(self, count=1):
        for _ in range(count):
            again(self.daemon)
        return self

    def end(self):
        self.daemon.close()


def watched(root, count=1, mode=Mode.ACT):
    Watch(root, mode).rounds(count).end()


def run(root, name="exp", *losses, state="running", **fields):
    process = fields.pop("process", contract.this_process())
    return Folder(root / name).rows(*(losses or [2.0] * 10)).status(state, process=process, **fields)


pytestmark = pytest.mark.usefixtures("clock")


def test_a_healthy_run_is_told_with_its_end_alone(tmp_path):
    folder = run(tmp_path)
    watch = Watch(tmp_path).rounds(3)
    assert [line["kind"] for line in told(tmp_path)] == ["begin"]
    folder.status("completed")
    watch.rounds(5)
    assert kinds(tmp_path) == ["completed"]


def test_a_doomed_run_is_told_in_order_and_before_the_request(tmp_path):
    folder = run(tmp_path, "exp", *[2.0] * 10, "NaN")
    watch = Watch(tmp_path).rounds()
    assert kinds(tmp_path) == ["alert", "requested"]
    kill = folder.document()["kill"]["id"]
    folder.status("killed", process=gone_process(), ack={"id": kill, "at": "x", "step": 11})
    watch.daemon.runs[folder.path].chase.pursuits[0].process = gone_process()
    watch.rounds(3)
    assert kinds(tmp_path) == ["alert", "requested", "killed", "acknowledged", "stopped"]
    assert [line["seq"] for line in told(tmp_path)] == sorted({line["seq"] for line in told(tmp_path)})


def test_an_observer_says_what_it_would_have_done(tmp_path):
    run(tmp_path, "exp", *[2.0] * 10, "NaN")
    watched(tmp_path, 2, Mode.OBSERVE)
    assert kinds(tmp_path) == ["alert", "observed"]


def test_once_tells_as_well_and_a_daemon_does_not_repeat_it(tmp_path):
    run(tmp_path, "exp", *[2.0] * 10, "NaN", state="completed")
    for _ in range(2):
        feed = Feed(tmp_path)
        judge_once(tmp_path, mode=Mode.JUDGE, on_change=report, feed=feed)
        feed.close()
    watched(tmp_path, 3)
    assert kinds(tmp_path) == ["alert", "completed"]


def test_the_folder_that_is_watched_may_be_the_run(tmp_path):
    Folder(tmp_path).rows(2.0).status("completed")
    watched(tmp_path, 2)
    assert [(line["run"], line["diagnosis"]) for line in told(tmp_path)[1:]] == [(".", "diagnosis.md")]


def test_a_run_with_a_checker_of_its_own_is_told_by_it_and_here_once_that_is_gone(tmp_path):
    folder = run(tmp_path, "exp", *[2.0] * 10, "NaN", state="completed")
    outer = Watch(tmp_path)
    with only_one(folder.path):
        watched(folder.path, 2)
        outer.rounds(2)
        assert kinds(tmp_path) == []
    outer.rounds(2).end()
    watched(tmp_path, 2)
    assert kinds(folder.path) == kinds(tmp_path) == ["alert", "completed"]


def test_a_run_that_cannot_be_judged_is_told(tmp_path, monkeypatch):
    run(tmp_path)

    def stumble(*_, **__):
        raise ZeroDivisionError("a rule that divides by zero")

    monkeypatch.setattr(daemon.Run, "turn", stumble)
    watched(tmp_path)
    assert [line["summary"] for line in told(tmp_path)[1:]] == [
        "the checker cannot judge it: ZeroDivisionError: a rule that divides by zero"
    ]


# ----------------------------------------------------------------------------------------- what is old and what is not


def age(folder, hours):
    for name in (contract.METRICS, contract.STATUS):
        if (folder.path / name).exists():
            os.utime(folder.path / name, (time.time() - 3600 * hours,) * 2)


OLD = {
    "ended yesterday": ("completed", None, 24, []),
    "crashed yesterday": ("running", gone_process, 24, []),
    "a bare log": (None, None, 24, []),
    "ended a moment before": ("completed", None, 0, ["alert", "completed"]),
    "hangs since yesterday": ("running", contract.this_process, 24, ["alert", "requested"]),
    "on another machine, silent since yesterday": ("running", lambda: None, 24, ["alert", "requested"]),
}


@pytest.mark.parametrize(("state", "process", "hours", "said"), OLD.values(), ids=OLD.keys())
def test_the_first_look_at_a_folder_of_old_runs_tells_no_history(tmp_path, state, process, hours, said):
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 10, "NaN")
    if state:
        folder.status(state, process=process() if process else None)
    age(folder, hours)
    watched(tmp_path, 4)
    assert folder.told()
    assert kinds(tmp_path) == said
    watched(tmp_path, 2)
    assert kinds(tmp_path) == said


def test_what_was_journaled_before_there_was_a_feed_is_history(tmp_path):
    folder = run(tmp_path, "exp", *[2.0] * 10, "NaN")
    Daemon(tmp_path).round(wait=False)
    assert folder.acts()
    watched(tmp_path, 2)
    assert kinds(tmp_path) == []
    folder.status("killed")
    watched(tmp_path, 2)
    assert kinds(tmp_path)[0] == "killed"


def test_an_end_while_nobody_watched_is_told_by_the_next_checker(tmp_path):
    folder = run(tmp_path)
    watched(tmp_path, 2)
    folder.status("completed")
    watched(tmp_path, 2)
    assert kinds(tmp_path) == ["completed"]


def test_a_run_that_was_moved_is_not_told_again(tmp_path):
    run(tmp_path, "exp", *[2.0] * 10, "NaN", state="completed")
    watched(tmp_path, 2)
    (tmp_path / "exp").rename(tmp_path / "old")
    watched(tmp_path, 2)
    assert kinds(tmp_path) == ["alert", "completed"]


def test_another_run_in_the_same_folder_is_told_though_it_looks_the_same(tmp_path):
    for _ in range(2):
        folder = Folder(tmp_path / "exp", run_id=None).rows(*[2.0] * 10, "NaN")
        folder.status(process=contract.this_process())
        watched(tmp_path)
        for file in folder.path.iterdir():
            file.unlink()
    assert kinds(tmp_path) == ["alert", "requested"] * 2


def test_a_replaced_log_is_another_story(tmp_path):
    folder = run(tmp_path, "exp", 2.0, 1.9, "NaN")
    watch = Watch(tmp_path, Mode.OBSERVE).rounds()
    (folder.path / contract.METRICS).unlink()
    watch.rounds()
    folder.rows(3.0, 1.9, "NaN")
    watch.rounds(2)
    assert kinds(tmp_path).count("alert") == 2


# --------------------------------------------------------------------------------------- what may happen to the file


def end_of(root, name):
    run(root, name, state="completed")


def test_a_feed_that_was_deleted_begins_anew_and_its_places_go_on(tmp_path):
    watch = Watch(tmp_path)
    end_of(tmp_path, "one")
    last = watch.rounds(2) and told(tmp_path)[-1]["seq"]
    (tmp_path / contract.EVENTS).unlink()
    end_of(tmp_path, "two")
    watch.rounds(2).end()
    assert [line["kind"] for line in told(tmp_path)] == ["begin", "end"]
    assert told(tmp_path)[0]["seq"] > last
    (tmp_path / contract.EVENTS).unlink()
    watched(tmp_path, 2)
    assert kinds(tmp_path) == []


DAMAGED = {
    "torn": (lambda data: data[:-9], ["one", "two"]),
    "its newline is missing": (lambda data: data[:-1], ["one", "two"]),
    "glued to garbage": (lambda data: data + b"\x00\xff{]", ["one", "two"]),
    "lines by somebody else": (lambda data: b'[1]\n{"seq": "x", "kind": "end"}\n' + data, ["one", "two"]),
    "a place beyond all": (lambda data: b'{"seq": %d, "kind": "end"}\n' % 2**60 + data, ["one", "two"]),
    "a place that is no number": (lambda data: b'{"seq": 1e999, "kind": "end"}\n' + data, ["one", "two"]),
    "the head was cut off": (lambda data: data.split(b"\n", 1)[1], ["one", "two"]),
    "empty": (lambda _: b"", ["two"]),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "found"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_feed_is_mended_and_nothing_is_lost_or_told_twice(tmp_path, damage, found):
    end_of(tmp_path, "one")
    watched(tmp_path, 2)
    path = tmp_path / contract.EVENTS
    path.write_bytes(damage(path.read_bytes()))
    end_of(tmp_path, "two")
    watched(tmp_path, 2)
    assert sorted(line["run"] for line in Reader(path).read() if line["kind"] == "end") == found
    seqs = [line["seq"] for line in Reader(path).read()]
    assert seqs == sorted(set(seqs))


FOREIGN = {
    "a link": (lambda path: path.symlink_to(path.parent / "secret.txt"), "it is a symbolic link"),
    "a folder": (lambda path: path.mkdir(), "Is a directory"),
    "a pipe": (os.mkfifo, "not a regular file"),
}


@pytest.mark.parametrize(("make", "why"), FOREIGN.values(), ids=FOREIGN.keys())
def test_what_is_no_file_is_left_alone_and_costs_no_run_its_checker(tmp_path, make, why):
    (tmp_path / "secret.txt").write_text("mine")
    make(tmp_path / contract.EVENTS)
    folder = run(tmp_path, "exp", *[2.0] * 10, "NaN")
    watch = Watch(tmp_path).rounds(3)
    assert folder.acts() == ["looked-again", "requested"]
    assert [why in notice.text for notice in watch.notices if contract.EVENTS in notice.text] == [True]
    assert (tmp_path / "secret.txt").read_text() == "mine"


def test_a_full_disk_spares_no_doomed_run_and_loses_no_event(tmp_path, monkeypatch):
    watch = Watch(tmp_path)
    append, full = module.contract.Appender.append, [True]

    def refuse(self, *arguments, **named):
        if full[0] and self.path.name == contract.EVENTS:
            raise OSError(28, "No space left on device")
        append(self, *arguments, **named)

    monkeypatch.setattr(module.contract.Appender, "append", refuse)
    folder = run(tmp_path, "exp", *[2.0] * 10, "NaN")
    watch.rounds(3)
    assert folder.acts() == ["looked-again", "requested"]
    assert sum("No space left" in notice.text for notice in watch.notices) == 1
    full[0] = False
    watch.rounds(2)
    assert kinds(tmp_path) == ["alert", "requested"]


# ------------------------------------------------------------------------------------------------ crashes, anywhere


class Crash(BaseException):
    """The checker is killed: nothing in it may catch this."""


class Fuse:
    """Kills the checker at the n-th write from now: before it, within the line, or just after it."""

    def __init__(self, monkeypatch):
        self.left, self.share = None, 0.0
        append, put = contract.Appender.append_encoded, contract.replace

        def append_encoded(appender, text, *, sync=False):
            if self.blown():
                line = text + b"\n"
                os.write(appender._fd, (b"\n" if appender._torn else b"") + line[: round(self.share * len(line))])
                raise Crash
            append(appender, text, sync=sync)

        def replace(path, data, *, sync=True):
            if path.name == contract.DIAGNOSIS and self.blown():
                if self.share > 0.5:
                    put(path, data, sync=sync)
                raise Crash
            put(path, data, sync=sync)

        monkeypatch.setattr(contract.Appender, "append_encoded", append_encoded)
        monkeypatch.setattr(contract, "replace", replace)

    def blown(self):
        if self.left is None:
            return False
        self.left -= 1
        return self.left < 0


SERIAL = itertools.count()

STEPS = st.tuples(
    st.sampled_from(["a", "b"]),
    st.one_of(
        st.tuples(st.just("rows"), st.lists(st.sampled_from([2.0, 1.9, "NaN"]), min_size=1, max_size=25)),
        st.tuples(st.just("state"), st.sampled_from(["completed", "failed", "killed"])),
        st.tuples(st.just("crash"), st.none()),
        st.tuples(st.just("resume"), st.none()),
        st.tuples(st.just("wait"), st.none()),
    ),
    st.one_of(st.none(), st.tuples(st.integers(0, 6), st.sampled_from([0.0, 0.5, 0.999, 1.0]))),
)


class Story:
    """Two runs and a checker that is killed now and then, and started again with the next step."""

    def __init__(self, root, fuse):
        self.root, self.fuse, self.serial = root, fuse, itertools.count(1)
        self.folders = {name: run(root, name) for name in ("a", "b")}
        self.watch = Watch(root).rounds()

    def step(self, name, act, crash):
        getattr(self, act[0])(self.folders[name], act[1])
        self.fuse.left, self.fuse.share = crash or (None, 0.0)
        try:
            self.watch = self.watch or Watch(self.root)
            self.watch.rounds(4 if act[0] == "wait" else 1)
        except Crash:
            self.watch = None
        self.fuse.left = None

    def rows(self, folder, losses):
        folder.rows(*losses)

    def state(self, folder, state):
        folder.status(state)

    def crash(self, folder, _):
        folder.status("running", process=gone_process())

    def resume(self, folder, _):
        folder.run_id = f"r{next(self.serial)}-{folder.path.name}"
        folder.status("running", process=contract.this_process(), started_at=iso(START + next(self.serial)))

    def wait(self, folder, _):
        pass

    def last(self):
        """Everything comes to its end under a checker that is left in peace."""
        for folder in self.folders.values():
            if folder.document()["state"] == "running":
                folder.status("completed")
        (self.watch or Watch(self.root)).rounds(6).end()
        watched(self.root, 2)


@given(steps=st.lists(STEPS, max_size=8))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_killed_at_any_write_it_tells_everything_once_and_in_order(tmp_path, steps):
    root = tmp_path / f"root-{next(SERIAL)}"
    with pytest.MonkeyPatch.context() as patch:
        story = Story(root, Fuse(patch))
        for step in steps:
            story.step(*step)
        story.last()
    for name, folder in story.folders.items():
        entries = [entry for entry in journal.entries(folder.path) if entry and lines.is_told(entry)]
        due = list(dict.fromkeys(f"{module._key(entry, folder.path):016x}" for entry in entries))
        assert [line["key"] for line in Reader(root / contract.EVENTS).read() if line.get("run") == name] == due
        assert folder.document()["state"] in {line.get("state") for line in told(root) if line.get("run") == name}


# -------------------------------------------------------------------------------------------------------- reading


def feed_of(root, count):
    path = root / contract.EVENTS
    path.write_bytes(
        b"".join(b'{"seq": %d, "kind": "end", "run": "exp-%d"}\n' % (10 * n, n) for n in range(1, count + 1))
    )
    return path


@pytest.mark.parametrize("count", [0, 1, 2, 5000])
@pytest.mark.parametrize("block", [64, 1 << 16], ids=["small blocks", "as it is"])
def test_a_reader_finds_its_place(tmp_path, monkeypatch, count, block):
    monkeypatch.setattr("checker.feed.reader._BLOCK", block)
    path = feed_of(tmp_path, count)
    assert Reader(path).last() == 10 * count
    for since in {0, 5, 10, 15, 10 * count - 10, 10 * count}:
        found = [line["seq"] for line in Reader(path, since).read()]
        assert found == [10 * n for n in range(1, count + 1) if 10 * n > since]


def test_a_reader_goes_on_where_it_was(tmp_path):
    path = feed_of(tmp_path, 2)
    reader = Reader(path, 10)
    assert [line["seq"] for line in reader.read()] == [20]
    with path.open("a") as file:
        file.write('{"seq": 30, "kind"')
        file.flush()
        assert list(reader.read()) == []
        file.write(': "end"}\n')
    assert [line["seq"] for line in reader.read()] == [30]
    path.unlink()
    path.write_text(json.dumps({"seq": 40, "kind": "begin"}) + "\n")
    assert [line["seq"] for line in reader.read()] == [40]
