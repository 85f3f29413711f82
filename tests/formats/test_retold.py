"""A log that grows, is written anew, goes on in another file, or becomes another story."""

import os
import time

import pytest
from event_files import event
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checker import retold
from checker.events import Row, Unreadable
from checker.formats import csvlog, huggingface, mlflow, tensorboard
from checker.formats.format import PLAIN
from checker.retold import Retold
from checker.source import log_at
from checker.tail import CHUNK

LONG_AGO = (1_700_000_000, 1_700_000_000)


class Log:
    """A log in a folder, with somebody who reads it."""

    def __init__(self, folder, format_=csvlog.FORMAT, pattern="*.csv"):
        self.folder, self.pattern = folder, pattern
        self.reader = Retold(format_, self.files, PLAIN)
        self.told = []
        self.bad = []

    def files(self):
        return sorted(self.folder.glob(self.pattern))

    def write(self, data, name="a.csv", mode="w", *, settled=True):
        path = self.folder / name
        with path.open(mode) as file:
            file.write(data)
        if settled:
            os.utime(path, ns=(LONG_AGO[0] * 10**9, LONG_AGO[1] * 10**9 + len(path.read_bytes())))
        return self

    def look(self, most=float("inf")):
        """One look; whether it is another story now."""
        again = self.reader.rewritten()
        if again:
            self.told, self.bad = [], []
        for found in self.reader.events(most):
            (self.told if isinstance(found, Row) else self.bad).append(found)
        assert [row.index for row in self.told] == list(range(len(self.told)))
        return again

    @property
    def losses(self):
        return [row.values["loss"] for row in self.told if "loss" in row.values]


def table(*losses, head="step,loss"):
    return "".join(
        [f"{head}\n", *(f"{step},{loss}{',' * (head.count(',') - 1)}\n" for step, loss in enumerate(losses))]
    )


def test_nothing_happens(tmp_path):
    log = Log(tmp_path)
    assert not log.look()
    assert log.reader.missing
    log.write(table(3, 2))
    assert [log.look(), log.look(), log.losses] == [False, False, [3, 2]]


def test_a_line_that_is_not_whole_waits(tmp_path):
    log = Log(tmp_path).write("step,loss\n0,3\n1,2.")
    log.look()
    assert log.losses == [3]
    log.write("5\n", mode="a").look()
    assert log.losses == [3, 2.5]


REWRITES = {
    "the same and more": table(3, 2, 1),
    "the same, with another column": table(3, 2, 1, head="step,loss,late"),
    "columns in another order": "loss,step\n3,0\n2,1\n1,2\n",
}


@pytest.mark.parametrize("data", REWRITES.values(), ids=REWRITES.keys())
@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "in place"])
def test_what_is_written_anew_and_tells_the_same_goes_on(tmp_path, data, replaced):
    log = Log(tmp_path).write(table(3, 2))
    log.look()
    if replaced:
        log.write(data, "new")
        (tmp_path / "new").rename(tmp_path / "a.csv")
    else:
        log.write(data)
    assert not log.look()
    assert log.losses == [3, 2, 1]


def test_a_file_that_is_just_being_written_anew_is_waited_for(tmp_path):
    log = Log(tmp_path).write(table(3, 2))
    log.look()
    for half in ("", "step,lo", "step,loss\n", "step,loss\n0,3\n", "step,loss\n0,3\n1,2"):
        log.write(half, settled=False)
        assert not log.look()
        assert log.losses == [3, 2]
    log.write(table(3, 2, 1), settled=False)
    assert not log.look()
    assert log.losses == [3, 2, 1]
    log.write("3,0.5\n", mode="a").look()
    assert log.losses == [3, 2, 1, 0.5]


OTHERS = {
    "shorter": table(3),
    "other numbers": table(3, 9, 1),
    "nothing": "",
    "another beginning": table(9, 2, 1, 0),
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS.keys())
def test_another_story_is_noticed(tmp_path, data):
    log = Log(tmp_path).write(table(3, 2))
    log.look()
    log.write(data)
    assert log.look()
    assert [str(loss) for loss in log.losses] == [line.split(",")[1] for line in data.splitlines()[1:]]


def test_a_log_that_is_deleted_and_comes_again(tmp_path):
    log = Log(tmp_path).write(table(3, 2))
    log.look()
    (tmp_path / "a.csv").unlink()
    assert not log.look()
    assert log.reader.missing
    log.write(table(5, 4, 3))
    assert log.look()
    assert log.losses == [5, 4, 3]


def test_an_unreadable_line_is_told_once_though_the_file_is_written_anew(tmp_path):
    log = Log(tmp_path).write(table(3, 2) + "1,2,3,4\n")
    log.look()
    log.write(table(3, 2, head="step,loss,late") + "1,2,3,4\n")
    log.look()
    assert (log.losses, len(log.bad)) == ([3, 2], 1)


def test_a_last_line_without_newline_that_goes_on_after_all_is_another_story(tmp_path):
    log = Log(tmp_path).write("step,loss\n0,3\n1,2")
    log.look()
    log.told += log.reader.rest()
    assert log.losses == [3, 2]
    log.write("5\n2,1\n", mode="a")
    assert log.look()
    assert log.losses == [3, 25, 1]


def test_a_long_log_is_read_in_turns(tmp_path):
    log = Log(tmp_path).write(table(*range(100_000)))
    turns = 0
    while not turns or log.reader.more:
        log.look(CHUNK)
        turns += 1
    assert turns > 2
    assert log.losses == list(range(100_000))


def test_a_story_that_went_on_while_nobody_looked_has_the_same_name(tmp_path):
    log = Log(tmp_path).write(table(3, 2))
    name = log.reader.fingerprint()
    log.look()
    log.write(table(3, 2, 1, head="step,loss,late")).look()
    assert log.reader.fingerprint() == name == Log(tmp_path).reader.fingerprint() != ""
    log.write(table(4, 2)).look()
    assert log.reader.fingerprint() != name


def test_a_pipe_is_no_log(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    log = Log(tmp_path)
    log.look()
    log.look()
    assert [bad.reason for bad in log.bad] == ["a.csv is a pipe, not a regular file"]


# ---------------------------------------------------------------------------------------------------- several files


def scalar(step, loss):
    return event(step, loss=loss)


class TestSeveralFiles:
    """Event files: a writer each, and the one that goes on need not be the last."""

    @pytest.fixture
    def log(self, tmp_path):
        return Log(tmp_path, tensorboard.FORMAT, "*.tfevents.*")

    def add(self, log, name, data):
        with (log.folder / f"{name}.tfevents.1").open("ab") as file:
            file.write(data)
        log.look()

    def test_the_second_file_goes_on(self, log):
        self.add(log, "a", scalar(1, 3.0))
        self.add(log, "b", scalar(2, 2.0))
        assert log.losses == [3, 2]

    def test_a_file_before_the_last_may_go_on(self, log):
        self.add(log, "b", scalar(1, 3.0))
        self.add(log, "c", b"")
        self.add(log, "b", scalar(2, 2.0))
        assert log.losses == [3, 2]

    def test_a_torn_record_does_not_go_on_in_the_next_file(self, log):
        self.add(log, "a", scalar(1, 3.0) + scalar(2, 2.5)[:-7])
        self.add(log, "b", scalar(2, 2.0))
        assert log.losses == [3, 2]
        assert [type(found) for found in log.reader.rest()] == [Unreadable]


# ------------------------------------------------------------------------------------------------ documents, folders


def state(*losses):
    rows = ",".join(f'{{"step": {step}, "loss": {loss}}}' for step, loss in enumerate(losses))
    return f'{{"log_history": [{rows}], "max_steps": 10}}'


def test_a_state_that_is_saved_anew(tmp_path):
    log = Log(tmp_path, huggingface.FORMAT, "*.json").write(state(3, 2), "s.json")
    log.look()
    log.write(state(3, 2, "NaN"), "s.json")
    assert not log.look()
    assert [str(loss) for loss in log.losses] == ["3", "2", "nan"]
    log.write(state(7), "s.json")
    assert log.look()
    assert log.losses == [7]


def test_a_state_that_is_just_being_saved_is_waited_for_and_a_damaged_one_told(tmp_path):
    log = Log(tmp_path, huggingface.FORMAT, "*.json").write(state(3, 2)[:-5], "s.json", settled=False)
    assert not log.look()
    assert (log.told, log.bad) == ([], [])
    os.utime(tmp_path / "s.json", LONG_AGO)
    log.look()
    log.look()
    (bad,) = log.bad
    assert bad.reason.startswith("ends in the middle")
    log.write(state(3, 2), "s.json").look()
    assert log.losses == [3, 2]


def test_what_mlflow_holds_back_is_told_though_nothing_changes_any_more(tmp_path, monkeypatch):
    (tmp_path / "metrics").mkdir()
    log = Log(tmp_path, mlflow.FILES, "metrics/*")
    now = time.time()
    log.write(f"{int(now * 1000)} 2.5 1\n", "metrics/loss", settled=False)
    log.look()
    assert (log.losses, bool(log.reader.unfinished)) == ([], True)
    monkeypatch.setattr(mlflow.time, "time", lambda: now + 10)
    log.look()
    assert log.losses == [2.5]
    assert not log.reader.unfinished


# ------------------------------------------------------------------------------------------------------- any history


STEPS = st.lists(
    st.sampled_from(["append", "rewrite", "widen", "replace", "torn", "look", "half", "small look"]), max_size=14
)


@given(STEPS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_to_a_log_no_row_is_lost_or_doubled(tmp_path_factory, steps):
    log = Log(tmp_path_factory.mktemp("log"))
    losses, head, torn = [], "step,loss", ""

    def now():
        return table(*losses, head=head) + torn

    for step in steps:
        if step == "half" and losses:
            log.write(now()[: len(now()) // 2], settled=False)
            assert not log.look()
            log.write(now(), settled=False)
        elif step == "look":
            assert not log.look()
        elif step == "small look":
            assert not log.look(1)
        else:
            torn = "9" if step == "torn" else ""
            losses.append(100 + len(losses))
            head += f",late{len(losses)}" if step == "widen" else ""
            if step == "replace":
                log.write(now(), "new")
                (log.folder / "new").rename(log.folder / "a.csv")
            else:
                log.write(now(), settled=step != "torn")
    log.write(table(*losses, head=head), settled=False)
    assert not log.look()
    while log.reader.more:
        assert not log.look()
    assert log.losses == losses
    if losses:
        losses[0] = 7
        log.write(table(*losses, head=head))
        assert log.look()
        assert log.losses == losses


def test_the_time_for_which_a_shorter_file_is_waited_for_is_short():
    assert retold.SETTLED_SECONDS <= 5


def test_two_runs_that_begin_with_the_same_learning_rate_are_not_taken_for_one(tmp_path):
    names = set()
    for loss in (2.0, 3.0):
        path = tmp_path / "metrics.csv"
        path.write_text(f"epoch,lr-Adam,step,train_loss\n,0.01,0,\n0,,1,{loss}\n")
        names.add(log_at(path).fingerprint())
    assert len(names) == 2
    assert "" not in names
