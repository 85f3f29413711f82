import math

from hypothesis import given
from hypothesis import strategies as st

from checker.agenda import Agenda


def test_an_appointment_is_kept_replaced_and_cancelled():
    agenda = Agenda()
    agenda.plan("a", 5.0)
    agenda.plan("b", 3.0)
    agenda.plan("a", 1.0)
    agenda.drop("b")
    agenda.plan("c", math.inf)
    assert agenda.next == 1.0
    assert not agenda.planned("c")
    assert list(agenda.due(10.0)) == ["a"]
    assert agenda.next == math.inf
    assert list(agenda.due(10.0)) == []


def test_what_is_due_is_never_put_off_by_hurrying():
    agenda = Agenda()
    agenda.hasten("a", 5.0)
    agenda.hasten("a", 9.0)
    assert agenda.next == 5.0
    agenda.hasten("a", 3.0)
    assert agenda.next == 3.0
    agenda.plan("a", 9.0)
    assert agenda.next == 9.0


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([*range(20), math.inf])), max_size=50), st.integers(0, 20))
def test_those_are_due_whose_last_appointment_has_come(plans, now):
    agenda = Agenda()
    for run, at in plans:
        agenda.plan(run, at)
    last = dict(plans)
    found = list(agenda.due(now))
    assert sorted(found) == sorted(run for run, at in last.items() if at <= now)
    assert [last[run] for run in found] == sorted(last[run] for run in found)
    assert agenda.next == min((at for at in last.values() if at > now), default=math.inf)
