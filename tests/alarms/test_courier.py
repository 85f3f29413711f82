"""A channel's courier: what it sends and when, what it keeps, and what a restart in any moment does."""

import itertools

import pytest
from feeds import DOOMED, Written, alert, end

from checker.alarms import pace
from checker.alarms.courier import IDLE, SETTLE, Courier
from checker.alarms.incidents import Incident
from checker.alarms.message import Place
from checker.alarms.policy import Notify
from checker.alarms.record import Health, Kept, Record, read, served
from checker.feed.reader import Reader
from checker.terms import Moment


class Scene:
    """A feed, a channel that takes messages or does not, and a clock that only moves when told."""

    def __init__(self, root, policy=None):
        self.root, self.policy, self.now = root, policy or Notify(), 1000.0
        self.feed = Written(root, lambda: self.now)
        self.sent, self.why = [], ""
        self.start()

    def start(self):
        """A courier like after a start of the process."""
        self.kept = Kept(self.root, "json-1a2b")
        self.kept.make_folder()
        record = self.kept.read() or Record("json-1a2b", 0)
        reader = Reader(self.feed.path)
        self.courier = Courier(self.kept, record, reader, self.send, Place(self.root, "host"), self.policy)
        return self

    def send(self, message):
        if not self.why:
            self.sent.append((self.now, message))
        return self.why

    def step(self, **named):
        return self.courier.step(Moment(self.now, self.now), **named)

    def after(self, seconds):
        self.now += seconds
        return self

    def work(self, seconds=0.0):
        """Everything that is done within so long."""
        until = self.now + seconds
        while True:
            wait = self.step()
            if self.now + wait > until:
                self.now = until
                return self
            self.now += wait

    @property
    def titles(self):
        return [message.title for _, message in self.sent]


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path / "runs")


def test_what_comes_together_is_one_message(scene):
    scene.feed.add(*DOOMED[:2])
    assert scene.step() == SETTLE
    assert scene.after(1.0).step() == SETTLE - 1.0
    scene.feed.add(*DOOMED[2:])
    scene.work(60)
    assert scene.titles == ["exp-001: explosion (critical), killed"]
    assert scene.sent[0][0] == 1000.0 + SETTLE
    assert scene.step() == IDLE


def test_without_a_feed_there_is_nothing_to_do(scene):
    assert scene.step() == IDLE
    scene.feed.add(*DOOMED)
    scene.work(60)
    assert len(scene.sent) == 1


def test_who_leaves_does_not_wait_for_what_may_follow(scene):
    scene.feed.add(*DOOMED)
    scene.step(leaving=True)
    assert len(scene.sent) == 1
    assert scene.courier.idle


def test_who_was_away_lets_nobody_wait_again(scene):
    scene.feed.add(*DOOMED)
    scene.after(3.0).start()
    assert scene.step() == SETTLE - 3.0
    scene.after(600.0).start().step()
    assert len(scene.sent) == 1


def test_what_was_there_when_a_channel_began_is_told_by_nobody(scene):
    scene.feed.add(*DOOMED)
    scene.kept.write(Record("json-1a2b", 1_000_005))
    scene.start().work(60)
    assert scene.sent == []
    scene.feed.add(alert("exp-002"))
    scene.work(60)
    assert scene.titles == ["exp-002: explosion (critical), goes on"]


def test_a_restart_neither_loses_nor_doubles_wherever_it_comes(tmp_path):
    events = [*DOOMED[:3], alert("b", "drift", "warning"), *DOOMED[3:], end("c", "failed"), alert("b")]
    expected = None
    for moment in [None, *range(len(events))]:
        scene = Scene(tmp_path / str(moment))
        for number, event in enumerate(events):
            scene.feed.add(event)
            scene.work(SETTLE + 1)
            if number == moment:
                scene.start()
        scene.work(60)
        expected = expected or scene.titles
        assert scene.titles == expected, moment
    assert expected == [
        "exp-001: explosion (warning), goes on",
        "exp-001: explosion (critical), goes on",
        "b: drift (warning), goes on",
        "c: failed",
        "b: explosion (critical), goes on",
    ]


def test_who_is_killed_between_sending_and_writing_sends_that_one_again_and_nothing_else(scene):
    scene.feed.add(alert("a"), alert("b"))
    scene.work(SETTLE)
    before = [message.id for _, message in scene.sent]
    first = Record("json-1a2b", 0, {"a": 1_000_000})  # what was on disk when the second was taken
    scene.kept.write(first)
    scene.start().work(60)
    assert [message.id for _, message in scene.sent] == [*before, before[1]]


def test_a_channel_that_fails_is_tried_again_ever_more_rarely_and_loses_nothing(scene):
    scene.why = "Internal Server Error"
    scene.feed.add(alert("a"))
    tries = []
    real, scene.courier._send = scene.courier._send, lambda message: (tries.append(scene.now), real(message))[1]
    scene.work(SETTLE + 100)
    pauses = [after - before for before, after in itertools.pairwise(tries)]
    assert pauses == [2, 4, 8, 16, 32]
    record = scene.kept.read()
    assert (record.health, record.why, record.waiting) == (Health.FAILS, "Internal Server Error", 1)
    scene.feed.add(*[alert(f"b-{number}") for number in range(3)])
    scene.why = ""
    scene.work(300)
    assert scene.titles[0] == "a: explosion (critical), goes on"
    assert len(scene.sent) == 4
    assert (scene.kept.read().health, scene.kept.read().waiting) == (Health.WORKS, 0)


def test_a_pause_is_never_longer_than_five_minutes():
    assert [pace.pause(tries) for tries in (1, 2, 8, 9, 10_000)] == [2, 4, 256, 300, 300]


def test_a_burst_is_told_in_a_few_messages_and_nobody_is_left_out(scene):
    for number in range(500):  # within a minute, as they would come
        scene.feed.add(alert(f"r-{number:03}", "crash"), end(f"r-{number:03}", "crashed"))
        scene.work(60 / 500)
    scene.work(300)
    times = [at for at, _ in scene.sent]
    for at in times:
        assert sum(at <= other < at + 60 for other in times) <= 6
    assert len(scene.sent) <= 12
    single = [title for title in scene.titles if title.startswith("r-")]
    many = [int(title.split()[0]) for title in scene.titles if "runs need a look" in title]
    assert len(single) + sum(many) == 500
    assert single[:5] == [f"r-{number:03}: crash (critical), crashed" for number in range(5)]
    assert times[-1] < 1000 + 60 + 2 * 60 + SETTLE
    assert scene.kept.read().ahead == {}


def test_the_worst_of_a_burst_come_first_and_alone():
    def incident(first, severity):
        return Incident("r", first, 0.0, {"severity": severity})

    known = [incident(1, "warning"), incident(2, "critical"), incident(3, "warning"), incident(4, "critical")]
    assert [item.first for item in pace.batch(known, 2)] == [2]
    assert [item.first for item in pace.batch(known, 1)] == [2, 4, 1, 3]
    assert pace.batch([], 1) == []


RATES = {
    "nothing sent": ([], 6, 0.0),
    "one": ([990.0], 5, 0.0),
    "an hour ago": ([-2600.0] * 9, 6, 0.0),
    "full": ([950.0, *[999.0] * 5], 0, 10.0),
    "a minute to the instant": ([940.0, *[999.0] * 5], 1, 0.0),
    "from before the clock was set back": ([5000.0] * 9, 6, 0.0),
    "more than allowed now": ([990.0, 991.0, 992.0, 993.0, 994.0, 995.0, 996.0], 0, 51.0),
}


@pytest.mark.parametrize(("sent", "free", "wait"), RATES.values(), ids=RATES.keys())
def test_how_many_may_be_sent(sent, free, wait):
    assert pace.free(sent, 1000.0, 6) == free
    assert pace.until_free(sent, 1000.0, 6) == wait


def test_a_restart_does_not_lift_the_limit(scene):
    scene.feed.add(*[alert(f"r-{number}") for number in range(20)])
    scene.work(SETTLE)
    assert len(scene.sent) == 6
    scene.feed.add(alert("late"))
    scene.start().work(40)
    assert len(scene.sent) == 6
    scene.work(60)
    assert scene.titles[-1].startswith("late")


def test_what_concerns_the_checker_goes_first(scene):
    scene.feed.add(alert("a"))
    scene.step()
    scene.courier.extra.append("gone")
    scene.sent_raw = []
    scene.courier._send = lambda message: scene.sent_raw.append(message) or ""
    scene.work(60)
    assert scene.sent_raw[0] == "gone"
    assert len(scene.sent_raw) == 2


def test_a_record_that_cannot_be_written_is_told_and_stops_nobody(scene):
    scene.kept.path.parent.rmdir()
    scene.feed.add(alert("a"), alert("b"))
    scene.work(60)
    assert len(scene.sent) == 2
    assert scene.courier.trouble.startswith("how far alarms were told cannot be written (No such file")


BAD = {
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "no place": b"{}",
    "a place that is none": b'{"cursor": -1}',
    "a place as text": b'{"cursor": "12"}',
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_a_record_that_is_none_is_as_if_it_were_not_there(scene, data):
    scene.kept.path.write_bytes(data)
    assert scene.kept.read() is None


def test_what_is_strange_in_a_record_costs_only_itself(scene):
    scene.kept.path.write_text(
        '{"cursor": 5, "ahead": {"a": 7, "b": "x"}, "sent": [1, "x"], "health": "dire", "why": 3}'
    )
    record = scene.kept.read()
    assert (record.cursor, record.ahead, record.sent, record.health) == (5, {"a": 7}, [1.0], Health.NEW)


def test_one_process_serves_a_channel(scene):
    other = Kept(scene.root, "json-1a2b")
    scene.kept.write(Record("json-1a2b", 5))
    assert list(served(scene.root)) == []
    assert scene.kept.hold()
    assert not other.hold()
    assert [record.cursor for record in served(scene.root)] == [5]
    scene.kept.close()
    assert other.hold()
    other.close()


def test_a_link_in_the_place_of_a_record_is_not_followed(scene, tmp_path):
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text('{"cursor": 5}')
    scene.kept.path.symlink_to(elsewhere)
    assert read(scene.kept.path) is None
    scene.kept.write(Record("json-1a2b", 7))
    assert elsewhere.read_text() == '{"cursor": 5}'
    assert scene.kept.read().cursor == 7


def test_a_link_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / ".checker.alarms").symlink_to(tmp_path)
    with pytest.raises(NotADirectoryError):
        Kept(tmp_path / "runs", "x").hold()
