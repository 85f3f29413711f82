"""What an agent is told about one folder, and what it cannot get."""

import json
import os

import pytest
from feeds import DOOMED, Written, alert
from folders import Folder

import contract
from checker.agents.inside import Inside
from checker.agents.tools import FINDINGS, PAGE, Tools, paged
from checker.daemon import judge_once
from checker.feed.feed import Feed
from checker.terms import Complaint, Mode


def never():
    return False


@pytest.fixture
def root(tmp_path):
    made = tmp_path / "runs"
    Folder(made / "good").rows(*[2.0] * 20).status("completed")
    Folder(made / "zoo" / "bad").rows(*[2.0] * 20, "NaN").status("killed")
    return made


def judged(root):
    """The folder as a checker leaves it."""
    feed = Feed(root)
    judge_once(root, mode=Mode.JUDGE, on_change=lambda _: None, feed=feed)
    feed.close()


OUTSIDE = ["..", "../other", "good/../../other", "/etc", ".checker.lock", "good/.hidden", "a\0b", "~/x/../../.."]


@pytest.mark.parametrize("named", OUTSIDE)
def test_what_lies_outside_or_is_hidden_cannot_be_named(root, named):
    with pytest.raises(Complaint):
        Inside(root).run(named)
    with pytest.raises(Complaint):
        Tools(root).replay(named)


def test_a_link_that_leads_out_is_refused_and_one_that_stays_is_not(root, tmp_path):
    Folder(tmp_path / "secret").rows(1.0)
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "latest").symlink_to(root / "good")
    with pytest.raises(Complaint, match="leads out"):
        Inside(root).run("out")
    with pytest.raises(Complaint, match="leads out"):
        Tools(root).replay("out/metrics.jsonl")
    assert Inside(root).run("latest") == root.resolve() / "latest"


def test_a_run_is_named_as_lists_do_also_in_full(root):
    inside = Inside(root)
    for named in ("good", "zoo/bad", str(root / "good"), "good/"):
        assert inside.run(named).is_dir()
    long = "r" * 60
    Folder(root / long).rows(1.0)
    (line,) = [line for line in Tools(root).list_runs(None, 100, 0)["runs"] if line["run"].startswith("rrr")]
    assert len(line["run"]) == 40
    assert inside.run(line["run"]).name == long
    with pytest.raises(Complaint, match="no such run; list_runs names those that there are"):
        inside.run("gone")


def test_a_list_comes_in_pages(root):
    for number in range(30):
        Folder(root / f"r-{number:02}").rows(1.0).status("completed")
    tools = Tools(root)
    first = tools.list_runs(None, 20, 0)
    second = tools.list_runs(None, 20, first["next_offset"])
    assert (first["total"], len(first["runs"]), first["next_offset"]) == (32, 20, 20)
    assert (len(second["runs"]), second["next_offset"]) == (12, None)
    assert len({line["run"] for line in first["runs"] + second["runs"]}) == 32
    assert len(contract.encode(first)) < 5000
    assert first["checker"] == "nobody watches this folder"
    assert [line["run"] for line in tools.list_runs("killed", 20, 0)["runs"]] == ["zoo/bad"]
    third = tools.list_runs("completed", 20, 20)
    assert (len(third["runs"]), third["next_offset"]) == (11, None)
    os.utime(root / "r-07" / contract.STATUS, (2e9, 2e9))
    assert tools.list_runs(None, 1, 0)["runs"][0]["run"] == "r-07"
    with pytest.raises(Complaint, match="state weird: no run's; there are: completed, killed"):
        tools.list_runs("weird", 20, 0)


def test_a_run_stands_as_it_stands(root):
    judged(root)
    told = Tools(root).status("zoo/bad")
    assert (told["state"], told["rule"], told["severity"], told["event"]) == ("killed", "nonfinite", "critical", "end")
    assert told["loss"] == "nan"
    assert len(contract.encode(told)) < 1000


def test_a_page_that_is_not_there_is_a_sentence(root):
    with pytest.raises(Complaint, match=r"has no diagnosis\.md yet: is it watched"):
        Tools(root).page("good", contract.DIAGNOSIS, 0)


def test_a_page_is_cut_and_says_how_to_go_on(root):
    (root / "good" / contract.DIAGNOSIS).write_text("".join(f"{number:07}\n" for number in range(2500)))
    tools = Tools(root)
    first = tools.page("good", contract.DIAGNOSIS, 0)
    assert first.endswith(f"\n[{20_000 - PAGE} more characters: offset={PAGE}]")
    last = tools.page("good", contract.DIAGNOSIS, 2 * PAGE)
    assert last.endswith("0002499\n")
    assert paged("short", 0) == "short"
    with pytest.raises(Complaint, match="offset 99: the text has 5 characters"):
        paged("short", 99)


def test_a_page_is_harmless(root, tmp_path):
    (root / "good" / contract.DIAGNOSIS).write_text("a \x1b[31mred\x1b[0m\nsk-abcdefghijklmnopqrstuvwx\n")
    tools = Tools(root)
    assert tools.page("good", contract.DIAGNOSIS, 0) == "a red\n[SECRET]\n"
    (tmp_path / "secret").write_text("mine")
    (root / "good" / contract.NEXT).symlink_to(tmp_path / "secret")
    with pytest.raises((OSError, contract.Unreadable)):
        tools.page("good", contract.NEXT, 0)


def test_an_end_is_told_at_once(root):
    told = Tools(root).wait("zoo/bad", "alert", None, 5.0, never)
    assert (told["event"], told["state"]) == ("end", "killed")


def test_waiting_ends_in_time_or_when_nobody_wants_it_any_more(root):
    Folder(root / "live").rows(1.0).status()
    assert Tools(root).wait("live", "alert", None, 0.1, never)["event"] == "timeout"
    assert Tools(root).wait("live", "alert", None, 3600.0, lambda: True)["event"] == "timeout"
    with pytest.raises(Complaint, match="no such run"):
        Tools(root).wait("coming", "alert", None, 0.3, never)


def test_events_are_got_once(root):
    tools = Tools(root)
    with pytest.raises(Complaint, match="no checker has watched"):
        tools.events(None, 20, 0.0, never)
    feed = Written(root).add(*DOOMED)
    assert tools.events(None, 20, 0.0, never) == {"events": [], "cursor": 1006, "more": False}
    first = tools.events(0, 4, 0.0, never)
    assert ([event["seq"] for event in first["events"]], first["cursor"], first["more"]) == (
        [1001, 1002, 1003, 1004], 1004, True,
    )  # fmt: skip
    second = tools.events(1004, 4, 0.0, never)
    assert (len(second["events"]), second["cursor"], second["more"]) == (2, 1006, False)
    assert tools.events(1006, 4, 0.1, never) == {"events": [], "cursor": 1006, "more": False}
    feed.add(alert("x", summary="sk-abcdefghijklmnopqrstuvwx \x1b[31m"))
    (event,) = tools.events(1006, 4, 5.0, never)["events"]
    assert event["summary"] == "[SECRET]"
    with pytest.raises(Complaint, match="no place in the feed"):
        tools.events(9999, 4, 0.0, never)


def test_nobody_is_killed_unless_that_is_allowed(root):
    live = Folder(root / "live").rows(1.0).status()
    with pytest.raises(Complaint, match="not allowed here: the server was started without --allow-kill"):
        Tools(root).kill("live", "because")
    assert "kill" not in live.document()
    tools = Tools(root, allow_kill=True)
    with pytest.raises(Complaint, match="say why"):
        tools.kill("live", "  ")
    with pytest.raises(Complaint, match="the run is completed; there is nothing to stop"):
        tools.kill("good", "because")
    assert tools.kill("live", "wrong data").startswith("asked live to stop")
    assert live.document()["kill"]["reason"] == "wrong data (asked through MCP)"
    assert tools.kill("live", "again").startswith("person via checker had asked already")


def test_a_replay_is_short(root):
    told = Tools(root).replay("zoo/bad")
    assert told["verdict"] == {"kill": True, "rule": "nonfinite", "row": 20, "step": 20}
    assert set(told["findings"][0]) == {"rule", "severity", "action", "row", "step", "summary"}
    assert len(told["findings"]) <= FINDINGS
    assert Tools(root).replay("zoo/bad/metrics.jsonl")["rows"] == 21
    assert len(contract.encode(told)) < 3000
    with pytest.raises(ValueError, match=r"a folder without metrics\.jsonl"):
        Tools(root).replay("zoo")


def test_a_log_that_is_too_large_is_for_the_command_line(root):
    with (root / "huge.jsonl").open("wb") as file:
        os.truncate(file.fileno(), (256 << 20) + 1)
    with pytest.raises(Complaint, match="on the command line: checker replay"):
        Tools(root).replay("huge.jsonl")


def test_a_rule_is_explained(root):
    tools = Tools(root)
    assert "What it sees" in tools.explain("stall", 0) or "stall" in tools.explain("stall", 0)
    assert "nonfinite" in tools.explain(None, 0)
    with pytest.raises(Complaint):
        tools.explain("nosuch", 0)


def test_a_verdict_needs_experiments(tmp_path):
    with pytest.raises(Complaint, match="no experiments yet"):
        Tools(tmp_path).verdict()


def test_a_verdict_has_its_exit_code(root):
    told = json.loads(contract.encode(Tools(root).verdict()))
    assert told["exit_code"] in (0, 10, 11, 12, 13)
