"""Which report comes when; the clock moves only when told."""

import contextlib
import math

import pytest

from checker import reports
from checker.reports import Reports


class Run:
    def __init__(self, name):
        self.name, self.behind, self.urgent, self.progressed = name, False, False, False

    def __repr__(self):
        return self.name


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(reports, "time", clock)
    return clock


class Desk:
    """Reports that take ten milliseconds each, and a list of all runs that takes one for each of its `steps`."""

    def __init__(self, clock, steps=0):
        self.clock, self.done, self.failed, self.steps = clock, [], [], steps
        self.reports = Reports(self.write, self.list, self.fence)

    def write(self, run):
        self.clock.now += 0.01
        if run.name == "bad":
            raise OSError("no room")
        self.done.append(run.name)

    def list(self):
        for _ in range(self.steps):
            self.clock.now += 0.001
            yield
        self.done.append("list")

    @contextlib.contextmanager
    def fence(self, run):
        try:
            yield
        except OSError:
            self.failed.append(run)

    def lasting(self, seconds):
        """What is written in so many seconds, a slice of 20 ms at a time."""
        end = self.clock.now + seconds
        self.done.clear()
        while self.clock.now < end:
            self.reports.work(0.02)
            self.clock.now = max(self.clock.now, min(end, self.reports.next))
        return list(self.done)


def test_the_first_report_and_news_come_at_once_and_then_the_list(clock):
    desk, run = Desk(clock), Run("a")
    desk.reports.note(run)
    assert desk.reports.urgent
    desk.reports.work(1.0)
    assert desk.done == ["a", "list"]
    assert desk.reports.idle
    run.urgent = True
    desk.reports.note(run)
    desk.reports.work(1.0)
    assert desk.done == ["a", "list"] * 2
    assert not run.urgent


def test_progress_waits_and_has_its_share(clock):
    desk, runs = Desk(clock), [Run(str(number)) for number in range(100)]
    for run in runs:
        desk.reports.note(run)
    desk.reports.work(10.0)
    clock.now += 10
    for run in runs:
        run.progressed = True
        desk.reports.note(run)
    done = desk.lasting(50.0)
    written = [name for name in done if name != "list"]
    assert written == [run.name for run in runs[: len(written)]]  # whoever waits longest comes first
    assert 0.8 * 50 * reports.SHARE <= 0.01 * len(written) <= 1.2 * 50 * reports.SHARE


def test_news_come_before_progress(clock):
    desk, calm, sick = Desk(clock), Run("calm"), Run("sick")
    for run in (calm, sick):
        desk.reports.note(run)
    desk.reports.work(1.0)
    clock.now += 100
    calm.progressed = sick.urgent = True
    for run in (calm, sick):
        desk.reports.note(run)
    desk.done.clear()
    desk.reports.work(1.0)
    assert desk.done == ["sick", "list", "calm"]


def test_a_long_list_is_written_bit_by_bit_and_not_all_the_time(clock):
    desk, run = Desk(clock, steps=1000), Run("a")
    desk.reports.note(run)
    desk.reports.work(0.02)
    assert desk.done == ["a"]
    began = clock.now
    while "list" not in desk.done:
        before = clock.now
        desk.reports.work(0.02)
        assert clock.now - before < 0.05
    assert clock.now - began >= 0.98
    for _ in range(300):  # something happens every second
        run.urgent = True
        desk.reports.note(run)
        desk.lasting(1.0)
        desk.steps = 1000
    began, lists = clock.now, 0
    while clock.now < began + 200:
        run.urgent = True
        desk.reports.note(run)
        lists += desk.lasting(1.0).count("list")
    assert lists * 1.0 <= 1.3 * 200 * reports.NEWS_SHARE


def test_a_run_that_is_being_read_is_reported_later(clock):
    desk, run = Desk(clock), Run("a")
    run.behind = True
    desk.reports.note(run)
    assert not desk.reports.urgent
    run.behind = False
    desk.reports.note(run)
    desk.reports.work(1.0)
    assert desk.done == ["a", "list"]


def test_a_report_that_fails_costs_nothing_but_itself(clock):
    desk, bad, good = Desk(clock), Run("bad"), Run("good")
    for run in (bad, good):
        desk.reports.note(run)
    desk.reports.work(1.0)
    assert desk.done == ["good", "list"]
    assert desk.failed == [bad]


def test_who_is_gone_is_forgotten_and_missed_in_the_list(clock):
    desk, run = Desk(clock), Run("a")
    desk.reports.note(run)
    desk.reports.forget(run)
    desk.reports.work(1.0)
    assert desk.done == ["list"]
    assert desk.reports.next == math.inf
