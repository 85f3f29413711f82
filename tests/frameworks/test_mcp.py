"""The checker for coding agents, asked by the official client over standard input and output: real processes."""

import json
import os
import subprocess
import sys
import time

import pytest
from folders import Folder
from processes import ROOT, program, wait_until

pytest.importorskip("mcp")

import anyio
from mcp import Client
from mcp.client.stdio import StdioServerParameters

FAKE = ROOT / "tests" / "checker" / "fake_trainer.py"

TOOLS = {
    "list_runs", "status", "diagnosis", "next_experiments", "wait", "events", "kill", "replay", "explain", "verdict",
}  # fmt: skip


def served(root, *options):
    environ = {"PYTHONPATH": str(ROOT)}
    command = ["-m", "checker", "mcp", str(root), *options]
    return StdioServerParameters(command=sys.executable, args=command, env=environ, cwd=ROOT)


def talk(root, conversation, *options, mode="auto"):
    """Has a conversation with a server of its own; `conversation` is given what asks a tool."""

    async def run():
        async with Client(served(root, *options), mode=mode) as client:

            async def ask(tool, **arguments):
                answer = await client.call_tool(tool, arguments)
                (content,) = answer.content
                assert answer.structured_content is None  # one copy of each answer
                return answer.is_error, content.text

            ask.client = client
            with anyio.fail_after(120):
                return await conversation(ask)

    return anyio.run(run)


async def told(ask, tool, **arguments):
    failed, text = await ask(tool, **arguments)
    assert not failed, text
    return json.loads(text)


def trainer(folder, *arguments):
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, FAKE, folder, *map(str, arguments)], env=environ)


@pytest.fixture
def root(tmp_path):
    made = tmp_path / "runs"
    Folder(made / "good").rows(*[2.0] * 20).status("completed")
    Folder(made / "bad").rows(*[2.0] * 20, "NaN").status("killed")
    once = program("checker", "once", made)
    once.communicate(timeout=60)
    assert once.returncode == 2
    return made


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_every_tool_is_offered_with_a_description_and_a_small_schema(root, mode):
    async def conversation(ask):
        listed = await ask.client.list_tools()
        return listed.tools, ask.client.instructions

    tools, instructions = talk(root, conversation, mode=mode)
    assert {tool.name for tool in tools} == TOOLS
    assert all(tool.description and len(tool.description) < 500 for tool in tools)
    assert {tool.name for tool in tools if not tool.annotations.read_only_hint} == {"kill"}
    assert sum(len(tool.model_dump_json()) for tool in tools) < 10_000
    assert "Stopping runs is not allowed here." in instructions
    assert str(root) in instructions


def test_an_agent_reads_what_happened(root):
    async def conversation(ask):
        runs = await told(ask, "list_runs")
        assert {run["run"]: run["state"] for run in runs["runs"]} == {"good": "completed", "bad": "killed"}
        assert runs["checker"].startswith("nobody watches this folder")
        stands = await told(ask, "status", run="bad")
        assert (stands["rule"], stands["state"]) == ("nonfinite", "killed")
        assert (await told(ask, "wait", run="bad"))["event"] == "end"
        assert (await told(ask, "replay", path="bad"))["verdict"]["rule"] == "nonfinite"
        events = await told(ask, "events", since=0)
        assert "alert" in [event["kind"] for event in events["events"]]
        assert (await told(ask, "events"))["cursor"] == events["cursor"]
        assert (await told(ask, "verdict"))["verdict"] in ("CONTINUE", "DEAD_END", "TARGET_HIT")
        failed, page = await ask("diagnosis", run="bad")
        assert (failed, page.splitlines()[0]) == (False, "# Diagnosis: bad (bad)")
        failed, page = await ask("next_experiments", run="bad")
        assert not failed
        assert "nonfinite" in (await ask("explain"))[1]

    talk(root, conversation)


ERRORS = {
    "no such run": ("status", {"run": "gone"}, "no such run; list_runs names those that there are"),
    "above the folder": ("diagnosis", {"run": "../../etc"}, "only what lies below"),
    "a kill": ("kill", {"run": "good", "reason": "because"}, "started without --allow-kill"),
    "no such file": ("replay", {"path": "gone.jsonl"}, "no such file or folder"),
    "no such rule": ("explain", {"rule": "gone"}, "gone"),
    "too many": ("list_runs", {"limit": 1000}, "less than or equal to 100"),
    "a cursor of another feed": ("events", {"since": 9_000_000_000_000_000}, "no place in the feed"),
}


def test_what_cannot_be_done_is_an_error_that_says_what_to_do(root):
    async def conversation(ask):
        for tool, arguments, sentence in ERRORS.values():
            failed, text = await ask(tool, **arguments)
            assert failed, tool
            assert sentence in text
            assert "Traceback" not in text
            assert len(text) < 1200

    talk(root, conversation)


def test_who_waits_holds_up_nobody_and_may_change_their_mind(root):
    Folder(root / "live").rows(1.0).status()

    async def conversation(ask):
        async with anyio.create_task_group() as group:
            for _ in range(40):  # more than have a thread
                group.start_soon(lambda: ask("wait", run="live", seconds=600))
            await anyio.sleep(1.0)
            began = time.monotonic()
            await told(ask, "status", run="good")
            assert time.monotonic() - began < 2.0
            group.cancel_scope.cancel()
        assert (await told(ask, "wait", run="live", seconds=0.2))["event"] == "timeout"

    began = time.monotonic()
    talk(root, conversation)
    assert time.monotonic() - began < 20


def test_an_agent_runs_an_experiment_unattended(tmp_path):
    root = tmp_path / "runs"
    root.mkdir()
    watch = program("checker", "watch", root)
    watch.stdout.readline()
    started = []

    async def conversation(ask):
        async with anyio.create_task_group() as group:
            answers = []

            async def wait():
                answers.append(await told(ask, "wait", run="exp-001", until="end", seconds=60))

            group.start_soon(wait)  # before there is such a run
            await anyio.sleep(0.5)
            started.append(trainer(root / "exp-001", "obey", 30))
        (answer,) = answers
        assert (answer["event"], answer["state"], answer["rule"]) == ("end", "killed", "nonfinite")
        assert answer["watched"] is True
        failed, page = await ask("diagnosis", run="exp-001")
        assert not failed
        assert "nonfinite" in page

    try:
        talk(root, conversation)
    finally:
        watch.terminate()
        watch.communicate(timeout=20)
    assert started[0].wait(20) == 3


def test_an_agent_that_may_stops_a_run(tmp_path):
    root = tmp_path / "runs"
    root.mkdir()
    running = trainer(root / "exp-001", "obey")
    wait_until((root / "exp-001" / "training_status.json").exists)

    async def conversation(ask):
        assert "Stopping runs is allowed (kill)." in ask.client.instructions
        failed, text = await ask("kill", run="exp-001", reason="wrong data")
        assert (failed, text.startswith("asked exp-001 to stop")) == (False, True)
        return await told(ask, "wait", run="exp-001", until="end", seconds=30)

    answer = talk(root, conversation, "--allow-kill")
    assert (answer["event"], answer["state"]) == ("end", "killed")
    assert running.wait(20) == 3
    document = json.loads((root / "exp-001" / "training_status.json").read_text())
    assert document["kill"]["reason"] == "wrong data (asked through MCP)"
    assert document["ack"]["id"] == document["kill"]["id"]
