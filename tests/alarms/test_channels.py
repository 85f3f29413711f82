"""Where alarms go, and that nothing of it is ever said."""

import pytest

from checker.alarms.channels import Channel, channels
from checker.alarms.fares import Fares
from checker.alarms.record import Health, Record
from checker.alarms.vigil import Vigil
from checker.finding import Severity
from checker.service.alive import Alive, Answer
from checker.terms import Complaint
from contract import Watcher

SLACK = "slack://TokenAAAA/TokenBBBB/TokenCCCC/#general"


def names(*given, environ=None, warn=lambda _: None):
    return [channel.name for channel in channels(given, environ or {}, warn)]


def test_a_name_is_the_kind_and_four_digits_and_stays():
    (slack,) = names(SLACK)
    assert slack.startswith("slack-")
    assert len(slack) == len("slack-1a2b")
    assert names(SLACK, "ntfy://topic", SLACK)[0] == slack
    assert len(names(SLACK, "ntfy://topic", SLACK)) == 2


def test_a_file_has_one_per_line_and_should_be_mine_alone(tmp_path):
    path, warned = tmp_path / "channels", []
    path.write_text(f"# the team\n\n{SLACK}\n  ntfy://topic\n")
    path.chmod(0o600)
    assert len(names(str(path), warn=warned.append)) == 2
    assert warned == []
    path.chmod(0o644)
    names(str(path), warn=warned.append)
    assert warned == [f"{path} can be read by others, and holds secrets: chmod 600 {path}"]


def test_the_environment_adds_its_own():
    environ = {"CHECKER_NOTIFY": f"{SLACK}\n json://host/x  "}
    assert len(names(environ=environ)) == 2
    assert len(names("ntfy://topic", environ=environ)) == 3


WRONG = {
    "neither": (["/nowhere/at/all"], {}, "--notify what was given: no URL (scheme://…), and no file: No such file"),
    "a mistyped secret": (["slack:/TokenAAAA/TokenBBBB"], {}, "--notify what was given: no URL"),
    "a folder": (["/tmp"], {}, "--notify /tmp: not a regular file"),
    "an environment without a URL": ([], {"CHECKER_NOTIFY": "TokenAAAA"}, "CHECKER_NOTIFY: word 1 is no URL"),
}


@pytest.mark.parametrize(("given", "environ", "told"), WRONG.values(), ids=WRONG.keys())
def test_what_is_no_channel_is_a_sentence_without_it(given, environ, told):
    with pytest.raises(Complaint) as caught:
        channels(given, environ)
    assert str(caught.value).startswith(told)
    assert "Token" not in str(caught.value)


def test_a_line_that_is_no_url_is_named_by_its_number(tmp_path):
    path = tmp_path / "channels"
    path.write_text(f"{SLACK}\nTokenAAAA\n")
    with pytest.raises(Complaint) as caught:
        channels([str(path)], {})
    assert str(caught.value) == f"{path}:2: no URL (scheme://…)"
    path.write_text("# nothing\n")
    with pytest.raises(Complaint, match="no URL in it"):
        channels([str(path)], {})


def test_no_part_of_a_url_is_shown():
    channel = Channel("slack-1a2b", "slack://User%40Home:TokenAAAA@hooks.example.org/TokenBBBB?x=TokenCCCC")
    told = channel.hide("error from hooks.example.org with TokenAAAA, TokenBBBB and TokenCCCC for User@Home: 500")
    assert "Token" not in told
    assert "example" not in told
    assert told.endswith(": 500")
    assert "Token" not in repr(channel)


def test_a_failure_is_said_once_and_so_is_its_end():
    fares, record = Fares(), Record("json-1a2b", 0)
    assert fares.look([record]) == []
    record.health, record.why, record.waiting = Health.FAILS, "error=500", 3
    told = "alarms through json-1a2b do not get through (error=500), 3 waiting; tried again every 2 to 300 s"
    assert fares.look([record]) == [(told, Severity.WARNING)]
    assert fares.look([record]) == []
    record.health = Health.WORKS
    assert fares.look([record]) == [("alarms through json-1a2b get through again", Severity.INFO)]
    assert fares.look([record]) == []


def answer(alive, ended=None, text="x"):
    return Answer(alive, text, Watcher(pid=1, host="h", ended=ended))


LOOKING, HANGS, GONE = answer(Alive.LOOKING), answer(Alive.SILENT), answer(Alive.NONE)
LEFT = answer(Alive.NONE, ended="2026-11-21T17:03:55+00:00")

VIGILS = {
    "all is well": ([(LOOKING, 0), (LOOKING, 1000)], []),
    "nobody has ever watched": ([(Answer(Alive.NONE, "x", None), 0), (Answer(Alive.NONE, "x", None), 1000)], []),
    "gone before we came": ([(GONE, 0), (GONE, 1000)], []),
    "it took its leave": ([(LOOKING, 0), (LEFT, 5), (LEFT, 1000)], []),
    "it vanished": ([(LOOKING, 0), (GONE, 5), (GONE, 60), (GONE, 65), (GONE, 999)], [65]),
    "started again in time": ([(LOOKING, 0), (GONE, 5), (LOOKING, 15), (GONE, 70), (LOOKING, 80)], []),
    "it hangs, and wakes": ([(LOOKING, 0), (HANGS, 5), (HANGS, 65), (LOOKING, 90), (LOOKING, 99)], [65, 90]),
    "it hangs, and is ended": ([(LOOKING, 0), (HANGS, 5), (HANGS, 65), (LEFT, 90), (LEFT, 999)], [65]),
    "twice": ([(LOOKING, 0), (GONE, 1), (GONE, 61), (LOOKING, 70), (GONE, 80), (GONE, 140)], [61, 70, 140]),
}


def test_an_orphan_knows_more_than_the_folder_shows():
    vigil = Vigil()
    vigil.orphaned(10.0)
    assert [at for at in (0, 9, 10, 11) if vigil.look(LEFT, at)] == [10]
    vigil = Vigil()
    vigil.orphaned(10.0)
    assert [at for at in (0, 9) if vigil.look(LEFT, at)] == []
    assert vigil.look(LOOKING, 9.5) == ""


@pytest.mark.parametrize(("looks", "said"), VIGILS.values(), ids=VIGILS.keys())
def test_silence_of_the_checker_is_said_once(looks, said):
    vigil = Vigil()
    assert [at for answer, at in looks if vigil.look(answer, at)] == said
