"""The escalation as a table: what has been done and when, what is seen, what is due. No clock, no disk, no sleep."""

import signal
from dataclasses import replace

import pytest

import contract
from checker import enforce
from checker.enforce import Did, Pursuit, Seen, next_act
from checker.events import Life
from checker.finding import Action, Finding, Severity
from contract import State

ASKED = Seen(state=State.RUNNING, standing=True, life=Life.ALIVE)
FRESH = replace(ASKED, standing=False)


SUSPENDED = replace(ASKED, life=Life.STOPPED)
LEFT = replace(ASKED, life=Life.GONE, workers_live=True)


def pursuit(rule="nonfinite", grace=30.0, saving_at=None, suspended_at=None, **done):
    kill = contract.Kill(id="k", reason="x", rule=rule, run_id="r", grace_seconds=grace)
    steps = {Did[name.upper()]: at for name, at in done.items()}
    return Pursuit("f", kill, rule, steps, saving_at=saving_at, suspended_at=suspended_at)


ROUTE = {
    # before asking
    "ask a running run": (pursuit(), 0, FRESH, Did.REQUESTED),
    "ask one on another machine": (pursuit(), 0, replace(FRESH, life=Life.UNKNOWN), Did.REQUESTED),
    "not true any more": (pursuit(), 0, replace(FRESH, over=True), Did.RECOVERED),
    "not true just now": (pursuit(), 0, replace(FRESH, sure=False), None),
    "another run's folder": (pursuit(), 0, replace(FRESH, foreign=True), None),
    "pending": (pursuit(), 0, replace(FRESH, state=State.PENDING), None),
    "completed": (pursuit(), 0, replace(FRESH, state=State.COMPLETED), None),
    "failed": (pursuit(), 0, replace(FRESH, state=State.FAILED), None),
    "crashed": (pursuit(), 0, replace(FRESH, life=Life.GONE), None),
    "no status file": (pursuit(), 0, replace(FRESH, state=None), Did.CANNOT),
    "no status file, told": (pursuit(cannot=0), 5, replace(FRESH, state=None), None),
    "status file came after all": (pursuit(cannot=0), 5, FRESH, Did.REQUESTED),
    "could not be written": (pursuit(looked_again=0, cannot=0), 0.9, FRESH, None),
    "could not be written, tried again": (pursuit(looked_again=0, cannot=0), 1, FRESH, Did.REQUESTED),
    # waiting for the answer
    "patience": (pursuit(requested=0), 29.9, ASKED, None),
    "answered": (pursuit(requested=0), 1, replace(ASKED, acked=True, standing=False), Did.ACKNOWLEDGED),
    "answered and gone at once": (pursuit(requested=0), 1, Seen(state=State.KILLED, acked=True), Did.ACKNOWLEDGED),
    "vanished": (pursuit(requested=0), 1.0, FRESH, Did.REASSERTED),
    "vanished just now": (pursuit(requested=0), 0.9, FRESH, None),
    "vanished again": (pursuit(requested=0, reasserted=5), 5.9, FRESH, None),
    "vanished again later": (pursuit(requested=0, reasserted=5), 6.0, FRESH, Did.REASSERTED),
    "escalates although it keeps vanishing": (pursuit(requested=0, reasserted=29.5), 30, FRESH, Did.SIGTERM),
    # forcing
    "no answer": (pursuit(requested=0), 30, ASKED, Did.SIGTERM),
    "no answer, stacks first": (pursuit(requested=0), 30, replace(ASKED, can_dump=True), Did.STACK_DUMP),
    "stacks are being written": (pursuit(requested=0, stack_dump=30), 31.9, ASKED, None),
    "stacks are written": (pursuit(requested=0, stack_dump=30), 32, ASKED, Did.SIGTERM),
    "a hung loop cannot answer": (pursuit("stall", requested=0), 5, ASKED, Did.SIGTERM),
    "a hung loop that woke up": (pursuit("stall", requested=0), 5, replace(ASKED, over=True), Did.RECOVERED),
    "well again, no force": (pursuit(requested=0), 30, replace(ASKED, over=True), Did.RECOVERED),
    "well again, but it answered": (
        pursuit(requested=0, acknowledged=1),
        31,
        replace(ASKED, over=True, acked=True),
        Did.SIGTERM,
    ),
    "term, patience": (pursuit(requested=0, sigterm=30), 39.9, ASKED, None),
    "term did not help": (pursuit(requested=0, sigterm=30), 40, ASKED, Did.SIGKILL),
    "term, and now it saves itself": (pursuit(requested=0, sigterm=30, saving_at=39), 41, ASKED, None),
    "kill, patience": (pursuit(requested=0, sigterm=30, sigkill=40), 49.9, ASKED, None),
    "kill did not help": (pursuit(requested=0, sigterm=30, sigkill=40), 50, ASKED, Did.UNANSWERED),
    "only asking is possible": (pursuit(requested=0, cannot=30), 500, ASKED, None),
    "only asking is possible, vanished": (pursuit(requested=0, cannot=30), 500, FRESH, Did.REASSERTED),
    # a run that is suspended
    "suspended": (pursuit(requested=0), 29.9, replace(ASKED, life=Life.STOPPED), None),
    "suspended, no answer": (pursuit(requested=0), 30, replace(ASKED, life=Life.STOPPED), Did.SUSPENDED),
    "suspended, told": (pursuit(requested=0, suspended=30), 500, replace(ASKED, life=Life.STOPPED), None),
    "suspended after SIGTERM": (pursuit(requested=0, sigterm=30, suspended=31), 90, SUSPENDED, None),
    "goes on, has its whole patience": (pursuit(requested=0, suspended=30, suspended_at=500), 529, ASKED, None),
    "goes on, no answer": (pursuit(requested=0, suspended=30, suspended_at=500), 530, ASKED, Did.SIGTERM),
    # what it leaves behind
    "left behind by one that obeyed": (pursuit(requested=0, acknowledged=1), 2, LEFT, Did.STOPPED),
    "left behind by one that said goodbye": (
        pursuit(requested=0, sigterm=30),
        60,
        replace(LEFT, state=State.KILLED),
        Did.STOPPED,
    ),
    "left behind, has time to notice": (pursuit(requested=0, sigterm=30), 39.9, LEFT, None),
    "left behind": (pursuit(requested=0, sigterm=30), 40, LEFT, Did.WORKERS_SIGTERM),
    "left behind by one killed": (pursuit(requested=0, sigterm=30, sigkill=40), 49.9, LEFT, None),
    "left behind, asked": (pursuit(requested=0, sigterm=30, workers_sigterm=40), 49.9, LEFT, None),
    "left behind, deaf": (pursuit(requested=0, sigterm=30, workers_sigterm=40), 50, LEFT, Did.WORKERS_SIGKILL),
    "left behind, killed": (pursuit(requested=0, sigterm=30, workers_sigkill=50), 59, LEFT, None),
    "left behind, undead": (pursuit(requested=0, sigterm=30, workers_sigkill=50), 60, LEFT, Did.STOPPED),
    "left behind, another run now": (
        pursuit(requested=0, sigterm=30),
        40,
        replace(LEFT, foreign=True),
        Did.WORKERS_SIGTERM,
    ),
    "nothing left behind": (pursuit(requested=0, sigterm=30), 31, replace(LEFT, workers_live=False), Did.STOPPED),
    # a run that answered
    "saves itself": (pursuit(requested=0, acknowledged=1), 30.9, ASKED, None),
    "saves itself too long": (pursuit(requested=0, acknowledged=1), 31, ASKED, Did.SIGTERM),
    "visibly saves itself": (pursuit(requested=0, acknowledged=1, saving_at=60), 61, ASKED, None),
    "has saved itself and hangs": (pursuit(requested=0, acknowledged=1, saving_at=60), 70, ASKED, Did.SIGTERM),
    "saves itself for ever": (pursuit(requested=0, acknowledged=1, saving_at=601), 601, ASKED, Did.SIGTERM),
    # the end
    "gone": (pursuit(requested=0), 2, replace(ASKED, life=Life.GONE), Did.STOPPED),
    "gone after kill": (pursuit(requested=0, sigkill=40), 41, replace(ASKED, life=Life.GONE), Did.STOPPED),
    "another run now": (pursuit(requested=0), 2, replace(ASKED, foreign=True), Did.STOPPED),
    "said goodbye, not gone yet": (pursuit(requested=0), 2, replace(ASKED, state=State.KILLED, final_for=1), None),
    "a notebook lives on": (pursuit(requested=0), 99, replace(ASKED, state=State.KILLED, final_for=10), Did.STOPPED),
    "said goodbye elsewhere": (pursuit(requested=0), 2, Seen(state=State.KILLED), Did.STOPPED),
    "after stopped": (pursuit(requested=0, stopped=1), 99, ASKED, None),
    "after recovered": (pursuit(recovered=1), 99, FRESH, None),
    "after giving up": (pursuit(requested=0, unanswered=1), 99, ASKED, None),
}


@pytest.mark.parametrize(("chase", "now", "seen", "due"), ROUTE.values(), ids=ROUTE.keys())
def test_the_step_that_is_due(chase, now, seen, due):
    assert next_act(chase, now, seen) is due


@pytest.mark.parametrize(("chase", "now", "seen", "due"), ROUTE.values(), ids=ROUTE.keys())
def test_an_observer_never_begins(chase, now, seen, due):
    if Did.REQUESTED not in chase.done:
        would = due in (Did.REQUESTED, Did.CANNOT) or seen.state is None or Did.CANNOT in chase.done
        expected = Did.OBSERVED if would else due
        assert next_act(chase, now, seen, observe=True) is expected


def test_the_whole_ladder_takes_each_step_once():
    chase, steps, now = pursuit(), [], 0.0
    while not chase.ended and now < 200:
        seen = replace(ASKED, standing=Did.REQUESTED in chase.done, can_dump=True)
        due = next_act(chase, now, seen)
        if due is None:
            now += 0.5
            continue
        steps.append((due, now))
        chase.done[due] = now
    assert steps == [
        (Did.REQUESTED, 0),
        (Did.STACK_DUMP, 30),
        (Did.SIGTERM, 32),
        (Did.SIGKILL, 42),
        (Did.UNANSWERED, 52),
    ]


def finding(rule="nonfinite", **changes):
    base = Finding(
        rule=rule,
        severity=Severity.CRITICAL,
        action=Action.KILL,
        row=5,
        step=5,
        first_row=5,
        first_step=5,
        summary="s",
        run_id="r",
    )
    return replace(base, **changes)


def test_the_request_of_a_finding_is_the_same_after_a_restart_and_another_for_another_file():
    kill = enforce.of_finding(finding(), "abc").kill
    assert kill.id == enforce.of_finding(finding(), "abc").kill.id
    assert kill.id != enforce.of_finding(finding(), "def").kill.id
    assert kill.id != enforce.of_finding(finding(episode=1), "abc").kill.id
    assert (kill.rule, kill.reason, kill.requested_by, kill.run_id) == ("nonfinite", "s", "checker", "r")


@pytest.mark.parametrize(("rule", "save"), [("nonfinite", False), ("hidden_nan", False), ("divergence", True)])
def test_poisoned_weights_are_not_saved(rule, save):
    assert enforce.of_finding(finding(rule), "").kill.save_checkpoint is save


def test_a_pursuit_goes_on_where_the_journal_left_it():
    named = contract.this_process()
    acts = [
        ({"act": "requested", "run_id": "r", "process": vars(named)}, 33.0),
        ({"act": "reasserted"}, 20.0),
        ({"act": "sigterm"}, 3.0),
        ({"act": "cannot"}, 2.0),
        ({"act": "something newer"}, 1.0),
        ({}, 1.0),
    ]
    chase = enforce.of_finding(finding(), "")
    enforce.resume(chase, acts, 100.0, observe=False)
    assert chase.done == {Did.REQUESTED: 67.0, Did.REASSERTED: 80.0, Did.SIGTERM: 97.0}
    assert (chase.process, chase.reasserted) == (named, 1)
    assert next_act(chase, 106.9, ASKED) is None
    assert next_act(chase, 107.0, ASKED) is Did.SIGKILL


@pytest.mark.parametrize(("observe", "ended"), [(True, True), (False, False)])
def test_what_was_only_observed_may_be_acted_on_later(observe, ended):
    chase = enforce.of_finding(finding(), "")
    enforce.resume(chase, [({"act": "observed"}, 5.0)], 100.0, observe=observe)
    assert chase.ended is ended


PERSON = {"id": "p", "reason": "enough", "requested_by": enforce.PERSON, "run_id": "r"}


@pytest.mark.parametrize(
    ("kill", "ours"),
    [
        (PERSON, True),
        ({**PERSON, "run_id": "old"}, False),
        ({**PERSON, "requested_by": "person"}, False),
        (True, False),
        ("stop it", False),
        (None, False),
        ({"requested_by": [1]}, False),
    ],
    ids=["checker kill", "stale", "other program", "true", "text", "null", "garbage"],
)
def test_only_requests_made_through_the_checker_are_forced(kill, ours):
    assert (enforce.of_person({"run_id": "r", "kill": kill}, 0.0) is not None) is ours


@pytest.mark.parametrize(
    ("grace", "expected"), [("abc", 30.0), (float("nan"), 30.0), (-5, 0.0), (1e9, 600.0), (7, 7.0)], ids=str
)
def test_the_patience_of_a_request_is_kept_sane(grace, expected):
    found = enforce.of_person({"run_id": "r", "kill": {**PERSON, "grace_seconds": grace}}, 0.0)
    assert found.kill.grace_seconds == expected


@pytest.mark.parametrize(
    ("run_id", "named", "foreign"),
    [
        ("r", None, False),
        (None, None, False),
        ("s", None, True),
        ("r", contract.Process(pid=7, host="h", started=1), False),
        ("r", contract.Process(pid=8, host="h", started=1), True),
    ],
)
def test_a_pursuit_never_passes_to_another_run_or_process(run_id, named, foreign):
    chase = pursuit()
    chase.process = contract.Process(pid=7, host="h", started=1)
    assert enforce.foreign(chase, run_id, named) is foreign


@pytest.mark.parametrize(
    ("row_at", "led_by", "started", "stale"),
    [
        (100.0, None, 50.0, False),
        (100.0, None, 200.0, True),
        (None, None, 200.0, False),
        (100.0, None, None, False),
        (None, 50.0, 50.0, False),
        (None, 50.0, 200.0, True),
    ],
)
def test_a_finding_about_an_earlier_process_is_stale(row_at, led_by, started, stale):
    chase = pursuit()
    chase.row_at, chase.started_at = row_at, led_by
    assert enforce.stale(chase, started) is stale


@pytest.mark.parametrize(
    ("number", "allowed"),
    [
        (signal.SIGUSR1, True),
        (int(signal.SIGUSR2), True),
        (signal.SIGRTMIN + 1, True),
        (9, False),
        (15, False),
        (0, False),
        (True, False),
        (None, False),
        ("10", False),
    ],
)
def test_a_status_file_cannot_choose_a_deadly_signal_for_the_stack_dump(number, allowed):
    assert enforce.may_dump(int(number) if isinstance(number, signal.Signals) else number) is allowed
