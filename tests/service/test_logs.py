"""The checker's own log, for people and for programs."""

import io
import json
import os

import pytest

from checker.finding import Severity
from checker.service.logs import Format, Log
from checker.terms import Notice

NOTICE = Notice("exp-001", "train_loss is\x1b[2J nan", Severity.CRITICAL, "nonfinite", "finding")


class Broken(io.StringIO):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, _):
        raise self.error


def test_a_notice_as_an_object():
    out = io.StringIO()
    log = Log(Format.JSON, out, {})
    log.tell([NOTICE, Notice("exp-001", "started")])
    first, second = map(json.loads, out.getvalue().splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "critical",
        "pid": os.getpid(),
        "event": "finding",
        "run": "exp-001",
        "rule": "nonfinite",
        "text": "train_loss is nan",
    }
    assert (second["level"], second["event"], "rule" in second) == ("info", "note", False)


def test_what_the_checker_does_itself():
    texts = {}
    for form in Format:
        out = io.StringIO()
        Log(form, out, {}).say("refused", "one\ntwo\x1b[2J", Severity.WARNING, stops=3)
        texts[form] = out.getvalue()
    assert [text[8:] for text in texts[Format.TEXT].splitlines()] == [" one", " two"]
    found = json.loads(texts[Format.JSON])
    assert (found["event"], found["text"], found["stops"]) == ("refused", "one\ntwo\x1b[2J", 3)
    assert "\x1b" not in texts[Format.JSON]


def test_the_journal_gets_priorities_and_nobody_else(tmp_path):
    with (tmp_path / "log").open("w") as file:
        info = os.fstat(file.fileno())
        for stream in (f"{info.st_dev}:{info.st_ino}", f"{info.st_dev}:{info.st_ino + 1}", "", "x"):
            Log(Format.TEXT, file, {"JOURNAL_STREAM": stream}).tell([NOTICE])
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.startswith("<2>") for line in lines] == [True, False, False, False]


@pytest.mark.parametrize("error", [OSError(28, "full"), OSError(5, "gone")], ids=["full", "gone"])
def test_a_watcher_does_not_die_of_its_log(error):
    Log(Format.TEXT, Broken(error), {}).tell([NOTICE])


def test_nobody_reads_any_more():
    with pytest.raises(BrokenPipeError):
        Log(Format.TEXT, Broken(BrokenPipeError()), {}).tell([NOTICE])
