"""What the service manager hears, and that nobody is spoken to who did not ask."""

import os
import socket

import pytest

from checker.service import notify
from checker.service.notify import Notify

INTERVALS = {
    "nobody waits": ({}, 0.0),
    "for another process": ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, 0.0),
    "no number": ({"WATCHDOG_USEC": "soon"}, 0.0),
    "for us": ({"WATCHDOG_USEC": "180000000", "WATCHDOG_PID": str(os.getpid())}, 89.0),
    "for whoever": ({"WATCHDOG_USEC": "10000000"}, 4.0),
    "at short intervals": ({"WATCHDOG_USEC": "2000000"}, 0.1),
}


@pytest.mark.parametrize(("environ", "seconds"), INTERVALS.values(), ids=INTERVALS.keys())
def test_how_often_a_sign_of_life_is_due(tmp_path, environ, seconds):
    line = Notify({"NOTIFY_SOCKET": str(tmp_path / "s"), **environ})
    assert line.watchdog == seconds
    line.close()
    assert Notify(environ).watchdog == 0.0  # without a socket there is nobody to tell


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all"], ids=["none", "odd", "nobody there"])
def test_without_a_manager_nothing_happens(address):
    line = Notify({"NOTIFY_SOCKET": address} if address else {})
    line.ready("x")
    line.alive()
    line.reloading()
    line.status(lambda: "y")
    line.stopping("z")
    line.close()


def test_a_long_start_asks_for_time_and_life_is_told_when_it_is_due(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(notify.time, "monotonic", lambda: clock[0])
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "s"))
    manager.setblocking(False)
    line = Notify({"NOTIFY_SOCKET": str(tmp_path / "s"), "WATCHDOG_USEC": "180000000"})
    heard = []

    def hear():
        found = []
        while True:
            try:
                found.append(manager.recv(4096).decode())
            except BlockingIOError:
                heard.extend(found)
                return found

    for _ in range(11):  # the first round
        line.alive()
        clock[0] += 1
    assert hear() == ["EXTEND_TIMEOUT_USEC=60000000", "WATCHDOG=1"] * 3
    line.ready("two\nlines")
    assert hear() == ["READY=1\nSTATUS=two lines"]
    told = []
    for _ in range(200):
        clock[0] += 1
        line.alive()
        line.status(lambda: "3 runs")
        told.append(hear())
    assert [second for second, part in enumerate(told) if "WATCHDOG=1" in part] == [3, 92, 181]
    assert sum("STATUS=3 runs" in part for part in told) == 1
    assert not any("EXTEND" in text for part in told for text in part)
    line.close()
    manager.close()
