"""Replay is the daemon: whatever a live checker wrote, a replay of the folder finds, no more and no less."""

import itertools

import pytest
from folders import START, Folder, Watcher, gone_process, iso, with_clock_rules
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import contract
from checker import caution, replay
from checker.terms import Mode

REWRITTEN = "a line that went on after the end"
"""To a checker that was away meanwhile it is the same file: it knows it by its first line."""

STORIES = {
    "healthy": [("rows", [2.0] * 30), ("status", "completed")],
    "nan": [("rows", [2.0] * 30), ("rows", ["NaN"] * 3), ("status", "killed")],
    "infinity that ends the run": [("rows", [2.0] * 30), ("rows", ["Infinity"]), ("status", "completed")],
    "infinity that goes away": [
        ("rows", [2.0] * 30),
        ("rows", ["Infinity"]),
        ("rows", [2.0] * 30),
        ("status", "completed"),
    ],
    "silence": [("rows", [2.0] * 5), ("wait", 100)],
    "silence that ends, twice": [("rows", [2.0] * 5), ("wait", 100), ("rows", [1.9]), ("wait", 90), ("rows", [1.8])],
    "overdue, and over, and again": [("rows", [2.0] * 30), ("wait", 60), ("rows", [2.0] * 30), ("wait", 300)],
    "crash": [("rows", [2.0] * 5), ("crash", None), ("wait", 5)],
    "crash and resume": [("rows", [2.0] * 5), ("crash", None), ("wait", 5), ("resume", "r2"), ("rows", ["NaN"])],
    "completed and resumed": [
        ("rows", [2.0] * 5),
        ("status", "completed"),
        ("resume", "r2"),
        ("rows", [1.0, "Infinity"]),
    ],
    "nan again after a resume": [
        ("rows", [2.0, "NaN"]),
        ("status", "killed"),
        ("resume", "r2"),
        ("rows", ["NaN"] * 20),
    ],
    "no rows at all": [("status", "failed")],
    "a last line without its newline": [("rows", [2.0] * 30), ("unended", "NaN"), ("status", "completed")],
    "a last line without its newline, and a crash": [("rows", [2.0] * 30), ("unended", "NaN"), ("crash", None)],
    "a newline that comes after the end": [
        ("unended", "NaN"),
        ("status", "completed"),
        ("wait", 5),
        ("write", "\n"),
        ("resume", "r2"),
        ("rows", [2.0, "Infinity"]),
        ("status", "failed"),
    ],
    "a torn line, and a resume on a new line": [
        ("rows", [2.0] * 5),
        ("write", '{"loss": '),
        ("crash", None),
        ("wait", 5),
        ("write", "\n"),
        ("resume", "r2"),
        ("rows", ["NaN"]),
    ],
    REWRITTEN: [
        ("rows", [2.0] * 5),
        ("unended", "NaN"),
        ("status", "completed"),
        ("wait", 5),
        ("resume", "r2"),
        ("rows", ["NaN", "Infinity"]),
        ("status", "completed"),
    ],
}


class Story:
    """Plays a story to a live checker, with restarts of the checker in between."""

    def __init__(self, path, restarts=(), limits=None):
        self.folder, self.limits = Folder(path).rows().status(), limits
        self.progress, self.process, self.restarts = START, None, set(restarts)
        self.watcher = Watcher(self.folder, Mode.OBSERVE, limits=limits).turn()

    def play(self, story):
        for number, (what, value) in enumerate(story):
            getattr(self, what)(value)
            self.watcher.turn(1)
            if number in self.restarts:
                self.watcher.run.close()
                self.watcher = Watcher(self.folder, Mode.OBSERVE, self.watcher.at, self.limits).turn(1)
        self.watcher.turns(4)  # until what is over counts as over
        return self

    def rows(self, values):
        self.folder.rows(*values).status(process=self.process, progress_at=iso(self.watcher.at))

    def unended(self, value):
        self.folder.rows(value)
        path = self.folder.path / contract.METRICS
        path.write_bytes(path.read_bytes()[:-1])

    def write(self, text):
        with (self.folder.path / contract.METRICS).open("a") as file:
            file.write(text)

    def status(self, state):
        self.folder.status(state)

    def wait(self, seconds):
        self.watcher.turns(seconds)

    def crash(self, _):
        self.process = gone_process()
        self.folder.status(process=self.process)

    def resume(self, run_id):
        self.folder.run_id, self.process = run_id, contract.this_process()
        self.folder.status(process=self.process)


def assert_lawful(folder, limits=None):
    found = [finding.id for finding in replay.read(folder.path, limits=limits).case.findings]
    told = []
    for entry in folder.journal("file", "finding"):
        told = [] if entry["kind"] == "file" else [*told, entry["id"]]  # what follows is about another file
    assert told == found
    assert len(set(found)) == len(found)


@pytest.fixture
def clock_rules(monkeypatch):
    with_clock_rules(monkeypatch)


@pytest.mark.usefixtures("clock_rules")
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())
def test_a_replay_finds_what_the_daemon_found(tmp_path, story):
    assert_lawful(Story(tmp_path / "exp").play(story).folder)


@pytest.mark.usefixtures("clock_rules")
@pytest.mark.parametrize(
    "story", [story for name, story in STORIES.items() if name != REWRITTEN], ids=[*filter(REWRITTEN.__ne__, STORIES)]
)
def test_also_when_the_daemon_was_restarted_after_every_act(tmp_path, story):
    once = Story(tmp_path / "once").play(story).folder
    often = Story(tmp_path / "often", restarts=range(len(story))).play(story).folder
    assert often.told() == once.told()
    assert_lawful(often)


@pytest.mark.usefixtures("clock_rules")
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())
def test_by_other_limits_too(tmp_path, story):
    limits = caution.limits(2)
    restarts = () if story is STORIES[REWRITTEN] else range(len(story))
    assert_lawful(Story(tmp_path / "exp", restarts, limits).play(story).folder, limits)


SERIAL = itertools.count()

ACTS = st.one_of(
    st.tuples(st.just("rows"), st.lists(st.sampled_from([2.0, 1.9, "NaN", "Infinity"]), min_size=1, max_size=25)),
    st.tuples(st.just("wait"), st.integers(1, 120)),
    st.tuples(st.just("crash"), st.none()),
    st.tuples(st.just("resume"), st.sampled_from(["r2", "r3"])),
    st.tuples(st.just("status"), st.sampled_from(["completed", "failed", "running"])),
)


@given(story=st.lists(ACTS, max_size=8), restarts=st.sets(st.integers(0, 7)))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.usefixtures("clock_rules")
def test_any_story_with_any_restarts(tmp_path, story, restarts):
    place = tmp_path / f"exp-{next(SERIAL)}"  # hypothesis makes random numbers repeat themselves
    assert_lawful(Story(place, restarts).play(story).folder)


def test_a_bare_file_ends_where_it_ends(tmp_path):
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 30, "Infinity")
    bare = replay.read(folder.path / contract.METRICS)
    assert [finding.severity for finding in bare.case.findings] == ["warning", "critical"]
    running = replay.read(folder.status().path)
    assert [finding.severity for finding in running.case.findings] == ["warning"]


def test_a_replaced_file_is_another_story_and_its_findings_are_told_again(tmp_path):
    folder = Folder(tmp_path / "exp", run_id=None).status().rows(2.0, 1.9, "NaN")
    watcher = Watcher(folder, Mode.OBSERVE).turn()
    (folder.path / contract.METRICS).unlink()
    watcher.turn(1)
    folder.rows(3.0, 1.9, "NaN")
    watcher.turn(1)
    assert folder.told() == ["run/nonfinite/0/critical"] * 2
    assert len(replay.read(folder.path).case.findings) == 1
    assert [entry["kind"] for entry in folder.journal("file", "finding")] == ["file", "finding"] * 2
    Watcher(folder, Mode.OBSERVE).turn()
    assert len(folder.told()) == 2
