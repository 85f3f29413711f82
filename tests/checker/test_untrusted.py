"""Run folders that want to harm: by links, sizes, depths, numbers, names and text. What is outside stays unread."""

import ast
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from experiments_on_disk import add
from folders import Folder, Watcher

import contract
from checker import cli, journal, replay, summary
from checker.daemon import judge_once
from checker.lock import only_one
from checker.registry import catalog, files, record, verify
from checker.report import checklist, pages
from checker.report.stacks import frames
from checker.tail import Tail
from checker.terms import Mode

ROOT = Path(__file__).parents[2]
CANARY = "sesame-4711"
"""Stands in every file outside; it must never be seen inside."""

RTL, ZERO = "\u202e", "\u200b"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do that")


def judged(root):
    """Everything that `checker once` does, and what it says."""
    reported = []

    def report(run):
        reported.append(run)
        pages.write(
            run.folder,
            run.case,
            status=run.document or None,
            experiment=run.experiment,
            acts=run.acts,
            unreadable=list(run.unreadable),
        )

    _, notices = judge_once(root, mode=Mode.JUDGE, on_change=report)
    checklist.write(root)
    return " ".join(notice.text for notice in notices)


COMMANDS = (
    ["status", "{root}"],
    ["status", "{root}", "--json"],
    ["list", "{root}"],
    ["list", "{root}", "--json"],
    ["show", "{root}/exp"],
    ["show", "{root}/exp", "--json"],
    ["lineage", "{root}/exp"],
    ["diff", "{root}/exp", "{root}/exp"],
    ["verify", "{root}/exp"],
    ["promote", "{root}/exp", "--dry-run"],
    ["verdict", "{root}"],
    ["replay", "{root}/exp"],
    ["replay", "{root}/exp", "--json"],
)


def said(root, capsys):
    """What every command says about a root that holds `exp`; none of them may break."""
    for command in COMMANDS:
        arguments = [part.format(root=root) for part in command]
        try:
            cli.main(arguments)
        except SystemExit as end:
            assert isinstance(end.code, int), arguments  # noqa: PT017 - a usage error, not a traceback
    captured = capsys.readouterr()
    return captured.out + captured.err


def written(root):
    """All text in all files below a root; links are not followed."""
    found = []
    for place, _, names in os.walk(root):
        found += [Path(place, name).read_bytes() for name in names if not Path(place, name).is_symlink()]
    return b"\n".join(found).decode("utf-8", "replace")


# ------------------------------------------------------------------------------------------------ silent: what is fine


def test_a_run_folder_may_be_a_link(tmp_path, capsys):
    real = Folder(tmp_path / "scratch" / "exp").rows(*[2.0] * 10, "NaN")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "exp").symlink_to(real.path)
    judged(tmp_path / "root")
    assert "nonfinite" in (real.path / contract.DIAGNOSIS).read_text()
    assert "nonfinite" in said(tmp_path / "root", capsys)


def test_a_log_may_be_a_link_to_another_disk(tmp_path, capsys):
    real = Folder(tmp_path / "scratch").rows(*[2.0] * 10, "NaN")
    folder = Folder(tmp_path / "root" / "exp").status()
    (folder.path / contract.METRICS).symlink_to(real.path / contract.METRICS)
    judged(tmp_path / "root")
    assert "nonfinite" in (folder.path / contract.DIAGNOSIS).read_text()
    assert "nonfinite" in said(tmp_path / "root", capsys)
    assert summary.lines(tmp_path / "root")[0].loss == "nan"


def test_checkpoints_may_be_a_link_to_another_disk(tmp_path):
    folder = add(tmp_path / "root", "exp-001", value=1.5)
    (folder / contract.CHECKPOINTS).rename(tmp_path / "disk")
    (folder / contract.CHECKPOINTS).symlink_to(tmp_path / "disk")
    (entry,) = catalog.entries(tmp_path / "root")
    assert [check for check in verify.verify(entry, [entry]) if not check.passed] == []


@pytest.mark.parametrize(
    ("path", "within"),
    [
        ("checkpoints/best.pt", True),
        ("checkpoints/../result.json", True),
        ("../exp/checkpoints/best.pt", True),
        ("../exp-2/checkpoints/best.pt", False),
        ("../../x", False),
        ("checkpoints/../../x", False),
        ("/etc/passwd", False),
        ("out/passwd", False),
        ("out.pt", False),
        ("", False),
        ("a\0b", False),
        (None, False),
        (7, False),
        (["x"], False),
    ],
    ids=str,
)
def test_a_path_in_a_record_leads_nowhere_but_into_its_folder(tmp_path, path, within):
    folder = tmp_path / "exp"
    (folder / contract.CHECKPOINTS).mkdir(parents=True)
    (folder / "out").symlink_to("/etc")
    (folder / "out.pt").symlink_to("/etc/passwd")
    assert (files.inside(folder, path) is not None) is within


# ------------------------------------------------------------------------------------------------------------- links

RECORDS = {
    contract.STATUS: json.dumps({"state": "failed", "error": CANARY, "run_id": CANARY, "phase": CANARY}),
    contract.EXPERIMENT: json.dumps({"id": CANARY, "hypothesis": CANARY, "config": {CANARY: CANARY}}),
    contract.HYPOTHESIS: CANARY,
    contract.RESULT: json.dumps({"primary_metric": {"name": CANARY, "value": 1}, "shortfalls": [CANARY]}),
    contract.EVALUATIONS: json.dumps({"id": CANARY, "checkpoint": {"path": CANARY}}) + "\n",
    contract.PROMOTIONS: json.dumps({"kind": "promoted", "checkpoint": {"path": CANARY, "sha256": "0"}}) + "\n",
    contract.FINDINGS: json.dumps({"kind": "finding", "rule": CANARY, "severity": "critical", "id": "x"}) + "\n",
    contract.STACKS: f'Current thread 0x1:\n  File "{CANARY}.py", line 1 in {CANARY}\n',
    contract.NEXT: f"## exp-1\n- {CANARY}\n",
    contract.DIAGNOSIS: CANARY,
    contract.CURVE: CANARY,
    contract.METRICS: f"{CANARY} is no row\n",
    f".{contract.STATUS}.lock": CANARY,
    contract.WATCHER: CANARY,
}


def outside(tmp_path, name):
    """A file outside, with the canary in it, and how it was."""
    place = tmp_path / "outside"
    place.mkdir(exist_ok=True)
    (place / "file").write_text(RECORDS[name])
    return place / "file"


@pytest.mark.parametrize("name", RECORDS)
def test_a_link_out_of_the_folder_is_neither_read_nor_written_through(tmp_path, name, capsys):
    target = outside(tmp_path, name)
    folder = Folder(tmp_path / "root" / "exp")
    if name != contract.METRICS:
        folder.rows(*[2.0] * 10, "NaN")
    if name != contract.STATUS:
        folder.status(process=contract.this_process(), state="completed")
    (folder.path / name).symlink_to(target)
    told = judged(folder.path.parent) + said(folder.path.parent, capsys)
    try:
        told += str(Watcher(folder).turns(3).notices)
    except (OSError, ValueError) as error:  # the daemon then says that this run cannot be judged
        told += str(error)
    assert target.read_text() == RECORDS[name]
    assert CANARY not in told + written(folder.path.parent)


@pytest.mark.parametrize("name", RECORDS)
def test_a_link_to_nothing_makes_no_file_outside(tmp_path, name, capsys):
    folder = Folder(tmp_path / "root" / "exp")
    folder.rows(*[2.0] * 10, "NaN").status()
    (folder.path / name).unlink(missing_ok=True)
    (folder.path / name).symlink_to(tmp_path / "made")
    try:
        judged(folder.path.parent)
        Watcher(folder).turns(3)
    except (OSError, ValueError):
        pass  # as above
    said(folder.path.parent, capsys)
    assert not (tmp_path / "made").exists()


def test_a_link_in_place_of_a_page_is_replaced_by_the_page(tmp_path):
    target = outside(tmp_path, contract.DIAGNOSIS)
    folder = Folder(tmp_path / "root" / "exp").rows(*[2.0] * 10, "NaN")
    pages_ = (folder.path / contract.DIAGNOSIS, folder.path / contract.CURVE, tmp_path / "root" / contract.CHECKLIST)
    for page in pages_:
        page.symlink_to(target)
    judged(tmp_path / "root")
    assert target.read_text() == RECORDS[contract.DIAGNOSIS]
    assert [page.is_symlink() for page in pages_] == [False] * 3


def test_a_journal_that_is_a_link_stops_every_act(tmp_path):
    target = outside(tmp_path, contract.FINDINGS)
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 10, "NaN").status()
    (folder.path / contract.FINDINGS).symlink_to(target)
    with pytest.raises((OSError, ValueError), match="symbolic link"):
        Watcher(folder).turn()
    assert "kill" not in folder.document()
    with pytest.raises(OSError, match=r"no regular file|symbolic link|Too many levels"):
        journal.Journal(folder.path).write("trouble", {})
    assert target.read_text() == RECORDS[contract.FINDINGS]


def test_the_lock_of_a_watch_is_no_way_out(tmp_path):
    target = outside(tmp_path, contract.WATCHER)
    (tmp_path / contract.WATCHER).symlink_to(target)
    with pytest.raises(OSError), only_one(tmp_path):  # noqa: PT011 - whatever the system calls it
        pass
    assert contract.watcher(tmp_path) is None
    assert target.read_text() == CANARY


@pytest.mark.parametrize("link", ["ranks", "ranks/rank-00001.json", "ranks/rank-00001.stacks.txt"])
def test_what_ranks_are_said_to_be_is_not_looked_for_outside(tmp_path, link):
    elsewhere = tmp_path / "outside" / "ranks"
    elsewhere.mkdir(parents=True)
    document = {"rank": 1, "launch": "a", "state": "failed", "error": CANARY, "updated_at": contract.now()}
    (elsewhere / "rank-00001.json").write_text(json.dumps(document))
    (elsewhere / "rank-00001.stacks.txt").write_text(RECORDS[contract.STACKS])
    folder = Folder(tmp_path / "exp").rows(2.0).status(world_size=2, launch="a", process=contract.this_process())
    place = folder.path / link
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(tmp_path / "outside" / link)
    watcher = Watcher(folder, at=time.time()).turn()
    assert watcher.run.case.history.tick.ranks == ()
    assert frames(folder.path, 1) == []


@root_only
def test_a_log_that_is_another_users_link_to_our_file_is_not_read(tmp_path):
    real = Folder(tmp_path / "ours").rows(1.0)
    link = tmp_path / contract.METRICS
    link.symlink_to(real.path / contract.METRICS)
    assert [event.index for event in Tail(link).events()] == [0]
    os.chown(link, 4711, 4711, follow_symlinks=False)
    os.chown(real.path / contract.METRICS, 4712, 4712)
    (event,) = Tail(link).events()
    assert "a link to a file of another user" in event.reason
    os.chown(real.path / contract.METRICS, 4711, 4711)
    assert [event.index for event in Tail(link).events()] == [0]


def test_checkpoints_that_are_links_are_not_hashed(tmp_path, capsys):
    folder = add(tmp_path / "root", "exp-001", value=1.5)
    secret = tmp_path / "secret"
    secret.write_text(CANARY)
    (folder / contract.CHECKPOINTS / "x.pt").symlink_to(secret)
    (entry,) = catalog.entries(tmp_path / "root")
    (bad,) = [check for check in verify.verify(entry, [entry]) if not check.passed]
    assert "leads out of the folder" in bad.told
    assert files.digest(secret)[:12] not in bad.told
    cli.main(["promote", str(folder), "--checkpoint", "checkpoints/x.pt", "--dry-run"])
    assert files.digest(secret)[:12] not in capsys.readouterr().out


# --------------------------------------------------------------------------------------------- pipes, sizes, numbers


PIPES = [name for name in RECORDS if name not in (contract.WATCHER, f".{contract.STATUS}.lock")]


@pytest.mark.parametrize("name", PIPES)
def test_a_pipe_is_never_waited_for(tmp_path, name, capsys):
    folder = Folder(tmp_path / "root" / "exp").rows(*[2.0] * 10, "NaN").status("completed")
    (folder.path / name).unlink(missing_ok=True)
    os.mkfifo(folder.path / name)
    try:
        judged(tmp_path / "root")
        Watcher(folder).turns(2)
    except (OSError, ValueError):
        pass  # said, not waited for
    said(tmp_path / "root", capsys)


def test_files_of_hundreds_of_megabytes_are_not_taken_into_memory(tmp_path):
    for name in PIPES:
        folder = Folder(tmp_path / name).rows(2.0).status("completed")
        with (folder.path / name).open("r+b" if name == contract.METRICS else "wb") as file:
            file.truncate(1 << 28)  # a hole: it takes no room on the disk, and a quarter of a gigabyte to read
            if name == contract.FINDINGS:
                file.truncate(1 << 29)
    code = (
        "import re, sys\nfrom checker.cli import main\n"
        "for command in ('list', 'status', 'once'):\n main([command, sys.argv[1]])\n"
        "main(['show', sys.argv[1] + '/experiment.json'])\n"
        "print(re.search('VmHWM:[^0-9]*([0-9]+)', open('/proc/self/status').read())[1])"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert int(done.stdout.split()[-1]) < 200_000, done.stdout + done.stderr  # KB


def nested(depth):
    return '{"a":' * depth + "1" + "}" * depth


DEEP = '{"config": ' + nested(150) + ', "id": "exp", "parent": "p", "tags": ["t"]}'
NASTY = {
    "nested": nested(100_000),
    "lists": "[" * 100_000,
    "as deep as allowed": DEEP,
    "a little deeper": '{"config": ' + nested(400) + "}",
    "a million digits": '{"step": ' + "9" * 1_000_000 + "}",
    "four thousand digits": json.dumps(
        dict.fromkeys(("step", "total_steps", "world_size", "v", "heartbeat_at"), 10**4000)
    ),
    "huge settings": '{"config": {"lr": ' + "9" * 4000 + ', "n": -' + "9" * 400 + '}, "tiers": {"must_pass": 1e999}}',
    "huge results": '{"primary_metric": {"name": "loss", "value": ' + "9" * 4000 + "}}",
    "exponents": '{"step": 1e999, "wall_time_seconds": -1e999, "budget": {"steps": 1e308}, "total_steps": 1e999}',
    "duplicate keys": '{"id": "a", "id": "exp", "state": "completed", "state": "running"}',
    "every kind wrong": json.dumps({key: [[{}]] for key in (
        "id", "state", "config", "metric", "tiers", "tags", "kill", "ack", "process", "checkpoints", "error", "notes",
        "best_metrics", "primary_metric", "checkpoint", "fingerprints", "created_at", "experiment_id", "oracle_tier",
    )}),
    "kill": '{"state": "running", "kill": {"id": [1], "grace_seconds": ' + "9" * 4000 + ', "reason": {}}}',
    "kill, odd": '{"state": "running", "kill": {"requested_by": [[]], "requested_at": 1e999, "grace_seconds": "NaN"}}',
    "surrogates": '{"id": "\\ud800", "hypothesis": "\\udfff", "error": "\\ud800\\ud800", "state": "failed"}',
    "nul": '{"id": "a\\u0000b", "error": "\\u0000"}',
    "not UTF-8": b'{"id": "\xff\xfe"}',
    "a byte order mark": b'\xef\xbb\xbf{"id": "exp"}',
    "NaN": '{"metric": NaN, "config": {"lr": NaN}, "heartbeat_at": Infinity}',
    "empty": "",
    "null": "null",
}  # fmt: skip
DOCUMENTS = (contract.STATUS, contract.EXPERIMENT, contract.RESULT, contract.EVALUATIONS, contract.PROMOTIONS)


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
def test_a_document_that_is_a_bomb_costs_a_word_and_no_traceback(tmp_path, text, capsys):
    data = text if isinstance(text, bytes) else text.encode()
    said_well = Folder(tmp_path / "exp").rows(*[2.0] * 5, "NaN").status("completed")
    for name in (*DOCUMENTS[1:], contract.METRICS):
        with (said_well.path / name).open("ab" if name == contract.METRICS else "wb") as file:
            file.write(data + b"\n")
    badly = Folder(tmp_path / "exp-2").rows(*[2.0] * 5, "NaN")
    (badly.path / contract.STATUS).write_bytes(data)
    judged(tmp_path)
    for folder in (said_well, badly):
        Watcher(folder).turns(2).run.close()
    assert "Traceback" not in said(tmp_path, capsys)
    cli.main(["show", str(badly.path)])
    cli.main(["verify", str(badly.path)])
    assert "exp-2" in capsys.readouterr().out


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
def test_a_bomb_in_a_journal_is_no_entry_or_a_harmless_one(tmp_path, text):
    data = text if isinstance(text, bytes) else text.encode()
    one = b'{"kind": "act", "act": "requested", "finding": "x", "text": ' + (data or b"0") + b"}\n"
    two = b'{"kind": "tick", "after_row": 0, "now": 1, "blocked": ' + (data or b"0") + b"}\n"
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 5, "NaN").status()
    (folder.path / contract.FINDINGS).write_bytes(one + two)
    judged(tmp_path)
    Watcher(folder).turns(2).run.close()
    assert summary.lines(tmp_path)


TOML = {
    "tables": "[" + ".".join("a" * 20_000) + "]\n",
    "keys": ".".join("a" * 20_000) + " = 1\n",
    "lists": "a = " + "[" * 100_000,
    "closed lists": "a = " + "[" * 400 + "]" * 400,
    "a header of spaces": "[a" + " " * 60_000 + "\n",
    "a key of spaces": "a" + " " * 60_000 + "\n",
    "digits": "[limits.stall]\nfloor_seconds = " + "9" * 100_000 + "\n",
    "hexadecimal digits": "[limits.stall]\nfloor_seconds = 0x" + "f" * 100_000 + "\n",
    "duplicate keys": "[limits.stall]\nfloor_seconds = 1.0\nfloor_seconds = 2.0\n",
    "escapes": '[limits."\\u001b[2J"]\n',
}


@pytest.mark.parametrize("text", TOML.values(), ids=TOML.keys())
def test_a_toml_bomb_is_refused_at_once(tmp_path, text, capsys):
    folder = Folder(tmp_path / "exp").rows(1.0)
    (folder.path / "checker.toml").write_text(text)
    began = time.process_time()
    assert cli.main(["replay", str(folder.path)]) == cli.USAGE
    assert time.process_time() - began < 2.0
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("text", TOML.values(), ids=TOML.keys())
def test_a_toml_bomb_in_a_plan_costs_the_other_runs_nothing(tmp_path, text):
    folder = Folder(tmp_path / "exp").rows(1.0).status("completed")
    (folder.path / contract.EXPERIMENT).write_text('{"id": "exp", "config": {"lr": 1}}')
    (folder.path / contract.NEXT).write_text(f"## exp-1\n- an idea\n```toml\n{text}\n```\n")
    judged(tmp_path)
    assert "exp" in (tmp_path / contract.CHECKLIST).read_text()


SLOW = ["# " + "#" * 60_000 + "x", "- " + " " * 60_000, "## " + "a.1" * 20_000, "-sk-" * 15_000, "eyJ-" * 15_000,
        "\x1b]" * 30_000, "api_key" * 8_000, "1" * 60_000 + ".", "[a" + " " * 60_000]  # fmt: skip


@pytest.mark.parametrize("text", SLOW, ids=lambda text: repr(text[:6]))
def test_no_pattern_takes_the_square_of_a_text(tmp_path, text):
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 5, "NaN").status("failed", error=text)
    (folder.path / contract.HYPOTHESIS).write_text(text)
    (folder.path / contract.NEXT).write_text(f"## exp-1\n{text}\n## exp-2\n- {text}\n")
    began = time.process_time()
    judged(tmp_path)
    summary.lines(tmp_path)
    assert time.process_time() - began < 3.0


def test_settings_nested_beyond_reason_are_one_value():
    deep = json.loads(nested(150))
    assert len(list(record.flat(deep))) == 1


# --------------------------------------------------------------------------------------------------------------- text

EVIL = f"\x1b]0;owned\x07\x1b[2J<script>alert(1)</script> [x](http://e) `c` |a| {RTL}gpj{ZERO}\r\n\n# head\n\x9b31m"
SECRET = "sk-proj-aB3dE5gH7jK9mN1pQ3sT_5vX7zA9cE1gI3kM5oQ7"


def evil(root):
    """Two experiments in which every name and every text is hostile."""
    folder = Folder(root / "exp")
    text = f"{EVIL} {SECRET}"
    folder.run_id = text
    metrics = {"loss": 1.0, text: 2.0, f"val {text}": "NaN"}
    folder.rows(*[2.0] * 5, "NaN", phase=text, metrics=metrics, event="step", text=text)
    folder.rows(1.0, event=text, text=text)
    with (folder.path / contract.METRICS).open("a") as file:
        file.write(f"{SECRET} {EVIL!r}\n")
    folder.status(
        "failed", error=text, phase=text, experiment_id=text, notes=[text], ack={"id": text, "step": 1},
        kill={"id": text, "reason": text, "requested_by": text}, best_metrics={text: 1.0, "val_loss": 1},
        checkpoints=[{"path": text, "step": 0}], callback_errors=[{"callback": text, "stage": text, "error": text}],
        heartbeat_at=text,
    )  # fmt: skip
    words = ("id", "name", "parent", "hypothesis", "rationale", "created_at")
    document = {**dict.fromkeys(words, text), "tags": [text], "config": {text: text, "lr": 1}}
    document |= {"metric": {"name": text, "direction": "min"}, "tiers": {"must_pass": 0.1, text: 1}}
    (folder.path / contract.EXPERIMENT).write_text(json.dumps(document))
    (folder.path / contract.RESULT).write_text(
        json.dumps({"primary_metric": {"name": text, "value": 1}, "shortfalls": [text]})
    )
    (folder.path / contract.EVALUATIONS).write_text(
        json.dumps({"id": text, "at": text, "data": {"name": text}, "checkpoint": {"path": text}})
    )
    (folder.path / contract.STACKS).write_text(
        f'Current thread 0x1:\n  File "{SECRET}\x1b[2J.py", line 1 in <b>{SECRET}\n'
    )
    (folder.path / contract.NEXT).write_text(f"## exp-1\n\n- {text}\n")
    return folder


def test_hostile_text_steers_no_terminal_and_shows_no_secret(tmp_path, capsys):
    folder = evil(tmp_path)
    told = judged(tmp_path)
    watcher = Watcher(folder).turns(3)
    from checker.show import line, row  # noqa: PLC0415 - only here

    told += "".join(map(line, watcher.notices)) + "".join(map(str, row(watcher.run)[:6]))
    out = said(tmp_path, capsys)
    assert not {"\x1b", "\x07", "\x9b", RTL, ZERO, "\r"} & set(out)
    plain = "\n".join(text for text in out.splitlines() if not text.startswith("{"))
    assert SECRET not in plain
    assert not {"\x1b", "\x07", RTL} & set("".join(map(line, watcher.notices)))
    assert told


@pytest.mark.parametrize("page", [contract.DIAGNOSIS, contract.CURVE, f"../{contract.CHECKLIST}"])
def test_hostile_text_stays_text_in_every_page(tmp_path, page):
    folder = evil(tmp_path)
    judged(tmp_path)
    text = (folder.path / page).read_text()
    assert not {"\x1b", "\x07", "\x9b", RTL, ZERO, "\r"} & set(text)
    assert "<script" not in text
    assert not re.search(r"(?<!\\)\]\(http", text)
    assert "\n# head" not in text
    assert SECRET not in text


def test_a_folder_with_a_hostile_name_heads_no_section(tmp_path):
    folder = Folder(tmp_path / "x\n# head\n<script>`|").rows(*[2.0] * 10, *["NaN"] * 3)
    (folder.path / contract.EXPERIMENT).write_text(
        '{"id": "e", "config": {"optimizer": {"lr": 1}, "train": {"precision": "fp16"}}}'
    )
    folder.status("killed")
    judged(tmp_path)
    for page in (folder.path / contract.NEXT, folder.path / contract.DIAGNOSIS, tmp_path / contract.CHECKLIST):
        text = page.read_text() if page.exists() else ""
        assert "<script" not in text, page
        assert "\n# head" not in text, page


# ----------------------------------------------------------------------------------------------- modes and what is run


def test_with_umask_0_nothing_is_writable_for_the_world(tmp_path):
    before = os.umask(0)
    try:
        folder = Folder(tmp_path / "exp").rows(*[2.0] * 10, "NaN").status()
        with only_one(tmp_path):
            Watcher(folder).turn().run.close()
        judged(tmp_path)
    finally:
        os.umask(before)
    ours = {contract.FINDINGS, contract.DIAGNOSIS, contract.CURVE, contract.STATUS, f".{contract.STATUS}.lock"}
    made = {path.name: path.stat().st_mode & 0o777 for path in (*folder.path.iterdir(), *tmp_path.iterdir())}
    assert ours | {contract.WATCHER, contract.CHECKLIST} <= made.keys()
    assert {name: oct(mode) for name, mode in made.items() if name in (*ours, contract.WATCHER) and mode & 0o002} == {}
    assert made[contract.DIAGNOSIS] == made[contract.FINDINGS] == 0o664


def test_the_umask_of_the_user_counts(tmp_path):
    before = os.umask(0o077)
    try:
        folder = Folder(tmp_path / "exp").rows(*[2.0] * 10, "NaN").status()
        Watcher(folder).turn().run.close()
        judged(tmp_path)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o077 for path in folder.path.iterdir()} == {0}


FORBIDDEN = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "torch", "runpy", "code"}


def test_nothing_that_a_folder_holds_is_executed_or_unpickled():
    """By what the checker's own modules import and call at all."""
    for path in (ROOT / "checker").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not FORBIDDEN & {name.partition(".")[0] for name in names}, path
            if isinstance(node, ast.Call):
                called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                bare = isinstance(node.func, ast.Name)
                assert not (bare and called in ("eval", "exec", "compile", "__import__")), path
                assert called not in ("system", "popen", "literal_eval"), path


def test_a_replay_of_a_hostile_run_finds_what_was_found_live(tmp_path):
    folder = evil(tmp_path)
    watcher = Watcher(folder, Mode.OBSERVE).turns(3)
    assert replay.read(folder.path).case.findings == watcher.run.case.findings
