import math

import pytest
import torch

from trainer.deferred import Deferred, _Pending


class Late:
    """Stands for a CUDA event: arrived when told so."""

    def __init__(self):
        self.here = False

    def query(self):
        return self.here

    def synchronize(self):
        self.here = True


def queued(deferred, value, arrived, written):
    deferred._queue.append(_Pending(("loss",), torch.tensor([value]), arrived, lambda row: written.append(row["loss"])))


def test_on_the_cpu_a_row_is_written_at_once():
    written = []
    Deferred().put({"loss": torch.tensor(2.0), "norm": torch.tensor(1.0)}, written.append)
    assert written == [{"loss": 2.0, "norm": 1.0}]


def test_rows_are_written_in_order_however_they_arrive():
    deferred, written = Deferred(), []
    events = [Late(), Late(), Late()]
    for value, event in enumerate(events):
        queued(deferred, float(value), event, written)
    events[1].here = True
    deferred.drain()
    assert written == []
    events[0].here = True
    deferred.drain()
    assert written == [0.0, 1.0]
    deferred.flush()
    assert written == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(("value", "healthy"), [(1.0, True), (math.nan, False), (math.inf, False)])
def test_it_remembers_whether_the_last_row_was_finite(value, healthy):
    deferred = Deferred()
    deferred.put({"loss": torch.tensor(value)}, lambda _row: None)
    assert deferred.healthy is healthy


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_rows_arrive_in_order():
    deferred, written = Deferred(), []
    for value in range(100):
        deferred.put({"loss": torch.full((), float(value), device="cuda")}, lambda row: written.append(row["loss"]))
    deferred.flush()
    assert written == [float(value) for value in range(100)]
