"""What is counted, and when; the page itself is read in test_service."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from folders import START, Folder, Watcher

from checker.finding import Severity
from checker.terms import Complaint, Notice

pytest.importorskip("prometheus_client")

from checker.service.metrics import STANDS, Metrics, stands


@pytest.fixture
def metrics():
    made = Metrics("127.0.0.1", 0)
    yield made
    made.close()


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(f"checker_{name}", labels)


NOTICES = {
    "finding": (
        Notice("a", "x", Severity.WARNING, "drift", "finding"), "findings", {"rule": "drift", "severity": "warning"},
    ),
    "request": (Notice("a", "x", rule="stall", event="requested"), "kills_requested", {"rule": "stall"}),
    "a person's": (Notice("a", "x", rule="person", event="requested"), "kills_requested", {"rule": "person"}),
    "anybody's": (Notice("a", "x", rule="whatever" * 9, event="requested"), "kills_requested", {"rule": "person"}),
    "observed": (Notice("a", "x", rule="stall", event="observed"), "kills_observed", {"rule": "stall"}),
    "forced": (Notice("a", "x", rule="stall", event="sigkill"), "kills_forced", {"signal": "sigkill"}),
}  # fmt: skip


@pytest.mark.parametrize(("notice", "name", "labels"), NOTICES.values(), ids=NOTICES.keys())
def test_what_happens_is_counted_from_zero(metrics, notice, name, labels):
    assert value(metrics, f"{name}_total", **labels) == 0
    metrics.tell(
        [notice, Notice("a", "started", event="running"), Notice("a", "over", rule="drift", event="recovered")]
    )
    assert value(metrics, f"{name}_total", **labels) == 1
    total = sum(
        sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name.endswith("_total") and sample.name.startswith("checker_")
    )
    assert total == 1  # and nothing else is


def test_rows_are_counted_as_they_are_read_and_again_when_they_are_judged_again(tmp_path, metrics):
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 10).status()
    watcher = Watcher(folder, at=START + 11)
    seen = []

    def turn():
        watcher.turn(1)
        metrics.turned(watcher.run)
        metrics.turned(watcher.run)
        seen.append(value(metrics, "rows_read_total"))

    turn()
    folder.rows(1.9, 1.8)
    turn()
    watcher.run.judge_by({})
    turn()
    assert seen == [10, 12, 24]


def test_a_backlog_has_an_age_until_it_is_read(metrics):
    run = SimpleNamespace(
        folder=Path("a"), behind=True, case=SimpleNamespace(history=SimpleNamespace(index=4, unreadable=1))
    )
    watched = SimpleNamespace(runs={run.folder: run}, round_seconds=0.5, apart={})
    metrics.turned(run)
    metrics.round(watched)
    assert (len(metrics._behind), metrics._behind_since is None) == (1, False)
    run.behind = False
    metrics.turned(run)
    metrics.round(watched)
    assert (len(metrics._behind), metrics._behind_since) == (0, None)
    assert value(metrics, "round_duration_seconds_count") == 2
    assert (value(metrics, "rows_read_total"), value(metrics, "rows_unreadable_total")) == (5, 1)
    watched.runs.clear()
    metrics.round(watched)
    assert metrics._rows == {}


@pytest.mark.parametrize("state", ["pending", "running", "completed", "failed", "killed", "aborted"])
def test_every_run_stands_somewhere(tmp_path, state):
    run = Watcher(Folder(tmp_path / "exp").rows(2.0).status(state)).turn().run
    assert stands(run) == state
    assert state in STANDS


@pytest.mark.parametrize("host", ["127.0.0.1", "no.such.host.invalid"], ids=["taken", "nowhere"])
def test_a_port_that_cannot_be_had(metrics, host):
    port = metrics._server.server_port
    with pytest.raises(Complaint, match=f"--metrics-port {port}: {host} port {port} cannot be had"):
        Metrics(host, port)
