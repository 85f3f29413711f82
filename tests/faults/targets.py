"""What must hold for any bytes in the files of a run: one function per parser; it raises where a law is broken.

The suite feeds them what hypothesis makes up, `make test-faults` what a coverage-guided fuzzer does.
"""

import json
import math
from contextlib import suppress

import contract
from checker import enforce, journal, judge, process, rankfiles, rows, status
from checker.decoder import RowDecoder
from checker.events import Life, Row, Tick, Unreadable
from checker.finding import Action, Finding, Severity

NESTED = 60
"""Levels of brackets below which every JSON object is a row."""


def check(holds, *evidence):
    if not holds:
        raise AssertionError(evidence)


def plain(event):
    """An event such that NaN is NaN; a flat row is as good as any other."""
    return isinstance(event, Unreadable), repr(tuple(event))


def in_pieces(data):
    """What a decoder says that gets the bytes in pieces, cut where the bytes themselves say."""
    decoder, events, at = RowDecoder(), [], 0
    sizes = bytes(data[:16]) or b"\1"
    turn = 0
    while at < len(data):
        size = 1 + sizes[turn % len(sizes)]
        events += decoder.feed(data[at : at + size])
        check(len(decoder._rest) <= rows.MAX_LINE, "more is kept than a line may have")
        at, turn = at + size, turn + 1
    return events + list(decoder.finish()), decoder


def a_log(data):
    """Rows: nothing raises, nothing depends on how the bytes arrived, no object is lost, no number changes its kind."""
    whole = RowDecoder()
    events = list(whole.feed(data)) + list(whole.finish())
    again, pieces = in_pieces(data)
    check(list(map(plain, events)) == list(map(plain, again)), events, again)
    check((whole.lines, whole.rows) == (pieces.lines, pieces.rows))
    check([event.index for event in events if isinstance(event, Row)] == list(range(whole.rows)))
    by_line = {event.line: event for event in events}
    check(len(by_line) == len(events))
    body = data.removeprefix(b"\xef\xbb\xbf")
    for number, line in enumerate(body.split(b"\n"), 1):
        event = by_line.get(number)
        document = _object(line)
        if document is not None:
            check(isinstance(event, Row), "a row is lost", line, event)
            _numbers(document, event)
        elif line.strip():
            check(event is not None or number > whole.lines, "a line is passed over in silence", line)
        if event is not None and number <= whole.lines and not (number == 1 and body is not data):
            alone = rows.decode(line, event.index if isinstance(event, Row) else 0, number)
            check(isinstance(event, Unreadable) or plain(alone) == plain(event), alone, event)


def _object(line):
    """The object that a strict reader finds in a line; None where there is none, or it is too large for a row."""
    if len(line) > rows.MAX_LINE or line.count(b"[") + line.count(b"{") > NESTED:
        return None
    try:
        text = line.decode()
        if "\\u" in text:  # half characters are no text; whether they cost the row is another question
            return None
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _numbers(document, row):
    counted = {"fold", "folds"} if row.event == "fold_end" else set()
    if isinstance(document.get("metrics"), dict):  # what stands at both places counts as it stands there
        counted |= document["metrics"].keys()
    for key, value in document.items():
        if (
            key in rows._PLACE
            or key in counted
            or "/" in key
            or isinstance(value, bool)
            or not isinstance(value, int | float)
        ):
            continue
        try:
            finite = math.isfinite(float(value))
        except OverflowError:
            finite = False
        found = row.values.get(key)
        check(found is not None, "a metric is lost", key, value)
        check(math.isfinite(found) == finite, key, value, found)
        check(not finite or float(found) == float(value), key, value, found)


def a_judged_log(data):
    """Whatever the rows hold, judging them never raises."""
    case = judge.Case.open()
    decoder = RowDecoder()
    for event in (*decoder.feed(data), *decoder.finish()):
        for effect in judge.step(case, event):
            contract.encode(journal.content(effect))
    judge.step(case, Tick(now=1.8e9, state="running", life=Life.ALIVE, progress_at=1.7e9, heartbeat_at=1.8e9, busy=0.0))
    judge.step(case, Tick(now=1.8e9, state="failed", final=True))


def a_status(data):
    """Status, request, answer, process and rank: nothing raises but what says so, and every field has its type."""
    try:
        document = contract.decode_object(data, "status")
    except contract.Unreadable:
        return
    check(isinstance(contract.run_state(document), contract.State))
    look = status.tick(document, 1.8e9)
    for name in ("phase_since", "heartbeat_at", "progress_at", "started_at"):
        value = getattr(look, name)
        check(value is None or math.isfinite(value), name, value)
    for name in ("run_id", "phase", "error"):
        check(getattr(look, name) is None or isinstance(getattr(look, name), str))
    check(look.step is None or type(look.step) is int)
    kill = contract.Kill.parse(document.get("kill"))
    check(kill is None or (isinstance(kill.id, str) and isinstance(kill.reason, str)))
    contract.pending_kill(document)
    status.asked(document)
    answer = status.ack(document)
    check(answer is None or isinstance(answer[0], str))
    pursuit = enforce.of_person(document, 0.0)
    check(pursuit is None or 0 <= pursuit.grace <= enforce.CHECKPOINT_GRACE)
    named = process.parse(document)
    check(named is None or type(named.pid) is int)
    enforce.may_dump(document.get("stack_signal"))
    member = rankfiles.Member((0, 0, 0, 0), document, named)
    rank = rankfiles._told(1, member)
    rankfiles._urgency(rank)
    rankfiles._belongs(document, document)
    judge.step(judge.Case.open(), look)
    contract.encode(document)
    back = journal.tick_in(json.loads(contract.encode(journal.tick_out(look, 3))))
    check(back is not None and repr(back[1]) == repr(look), look, back)


FINDING = Finding(
    rule="nonfinite",
    severity=Severity.CRITICAL,
    action=Action.KILL,
    row=3,
    step=3,
    first_row=3,
    first_step=3,
    summary="",
)


def a_journal(data):
    """Entries: nothing raises, whatever they hold is taken up, and what is no entry is counted."""
    past, lines = journal.Past(), [line for line in data.split(b"\n") if line.strip()]
    taken = 0
    for line in lines:
        entry = journal._entry(line)
        if entry is None:
            past.unreadable += 1
        else:
            taken += 1
            journal._recall_one(past, entry)
            journal.tick_in(entry)
    check(taken + past.unreadable >= len(lines))
    for after, tick in past.ticks:
        check(type(after) is int and math.isfinite(tick.now) | True)
        with suppress(OverflowError):  # a time beyond all calendars
            judge.step(judge.Case.open(), tick)
    pursuit = enforce.of_finding(FINDING, "")
    enforce.resume(pursuit, [(act, 1.0) for act in past.acts], 100.0, observe=False)
    for act in past.acts:
        enforce.resume(pursuit, [(act, 1.0)], 100.0, observe=True)
    enforce.next_act(pursuit, 1000.0, enforce.Seen(state=contract.State.RUNNING, life=Life.ALIVE))


class Making:
    """Turns bytes into lines of JSON, so that a fuzzer that turns bits over changes keys and values, not brackets."""

    KEYS = (
        "state", "run_id", "step", "phase", "kill", "ack", "id", "reason", "grace_seconds", "process", "pid", "host",
        "started", "boot_id", "kind", "act", "finding", "ranks", "rank", "life", "now", "after_row", "final", "notes",
        "stack_signal", "is_training", "requested_by", "heartbeat_at", "progress_at", "started_at", "updated_at",
        "launch", "world_size", "phase_since", "gone_since", "busy", "excused", "age", "error", "at", "metrics", "loss",
        "val_loss", "lr", "grad_norm", "epoch", "fold", "folds", "event", "config", "timestamp", "elapsed", "text",
    )  # fmt: skip
    VALUES = (
        None, True, False, 0, 1, -1, 2**31, 2**63, 2**70, 10**320, 0.5, -0.0, 1e308, 5e-324, math.nan, math.inf,
        "", "NaN", "-Infinity", "1e9", "running", "killed", "failed", "tick", "act", "finding", "file", "requested",
        "sigkill", "gone", "alive", "fold_end", "training_start", "regime_change", "2026-01-01T00:00:00Z", "0001-01-01",
        "9999-12-31T23:59:59-23:59", 1.7e9, 1.7e12, "person via checker", "run/nonfinite/0/critical", "\0", "\u20ac",
    )  # fmt: skip

    def __init__(self, data):
        self.data, self.at = data, 0

    def byte(self):
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def value(self, depth=0):
        kind = self.byte()
        if kind < 160 or depth > 4:
            return self.VALUES[kind % len(self.VALUES)]
        if kind < 190:
            return (self.byte() - 128) * 10.0 ** (self.byte() - 128)
        if kind < 210:
            return [self.value(depth + 1) for _ in range(self.byte() % 4)]
        return self.table(depth + 1)

    def table(self, depth=0):
        return {self.KEYS[self.byte() % len(self.KEYS)]: self.value(depth) for _ in range(1 + self.byte() % 12)}

    def lines(self):
        found = []
        while self.at < len(self.data) and len(found) < 40:
            found.append(json.dumps(self.table(), separators=(",", ":")).encode())
        return b"\n".join(found)


def fed(target):
    """A fuzzer's bytes: as they are, or what is made of them."""

    def feed(data):
        target(Making(data[1:]).lines() if data[:1] < b"\x80" else data[1:])

    return feed


TARGETS = {"rows": a_log, "judge": a_judged_log, "status": a_status, "journal": a_journal}

SEEDS = {
    "rows": [
        b'{"step": 3, "loss": 0.4, "lr": 1e-3}\n{"step": 4, "loss": NaN}\n',
        b'{"v":1,"event":"step","timestamp":"2026-01-01T00:00:00+00:00","step":1,"metrics":{"train_loss":"NaN"}}\n',
        b'\xef\xbb\xbf{"_step": 1, "train": {"loss": null, "acc": -Infinity}, "epoch": 0.5}\r\n\n',
        b'{"event":"fold_end","fold":1,"folds":5,"val_loss":1e400,"config":{"max_steps":10}}\n{"step": 9',
        b'{"step": 99999999999999999999999, "loss": 1234567890123456789012345678901234567890}\n[1]\n"x"\nnull\n',
    ],
    "status": [
        b'{"state":"running","run_id":"r","step":3,"phase":"train","phase_since":"2026-01-01T00:00:00Z"}',
        b'{"heartbeat_at":1.7e9,"process":{"pid":7,"host":"h","boot_id":"b","started":5},"stack_signal":10}',
        b'{"state":"killed","kill":{"id":"a","reason":"b","grace_seconds":"1e9"},"ack":{"id":"a","step":1}}',
        b'{"is_training":false,"kill":true,"notes":["asked to stop by signal"],"error":null,"launch":"x"}',
        b'{"kill":{"id":"a","grace_seconds":1' + b"0" * 320 + b"}}",
        b'{"kill":{"requested_by":"person via checker","grace_seconds":NaN,"id":[1],"reason":{}},"rank":1}',
    ],
    "journal": [
        b'{"v":1,"kind":"file","fingerprint":"abc"}\n{"kind":"finding","id":"r/nonfinite/0/critical"}\n',
        b'{"kind":"tick","after_row":3,"now":1.7e9,"state":"running","life":"gone","gone_since":1.7e9}\n',
        b'{"kind":"tick","after_row":3,"now":1.7e9,"final":true,"ranks":[{"rank":1,"life":"alive"}]}\n',
        b'{"kind":"act","finding":"run/nonfinite/0/critical","act":"requested","kill":"k","run_id":"r"}\n',
        b'{"kind":"act","act":"requested","process":{"pid":7,"host":"h"},"ranks":[{"pid":8,"host":"h"}]}\n',
    ],
}
SEEDS["judge"] = SEEDS["rows"]
