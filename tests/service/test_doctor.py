"""The doctor: silent about what is well, and with a remedy for what is not."""

import json
import os
import re
import resource
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from folders import Folder, gone_process

import contract
from checker.lock import only_one
from checker.mounts import Mount
from checker.service import doctor
from checker.service.checks import folder as about
from checker.service.checks import machine
from checker.service.checks.check import Level
from checker.service.checks.folder import Place

ROOT = Path(__file__).resolve().parents[2]
OK, WARN, FAIL = Level.OK, Level.WARN, Level.FAIL


def test_all_is_well_where_all_is_well(call, tmp_path):
    Folder(tmp_path / "exp").rows(2.0).status("completed")
    with only_one(tmp_path) as beat:
        beat.beat(runs=1)
        found = {line.check: line.answer.level for line in doctor.examine(tmp_path)}
        code, out, err = call("doctor", tmp_path)
    allowed = {"terminal", "notifiers", "watches", "processes", "signals", "exchange"}  # what a sandbox may lack
    assert {check for check, level in found.items() if level is not OK} <= allowed
    assert list(found) == [*doctor.MACHINE, *doctor.FOLDER]
    assert (code < 2, err) == (True, "")
    assert len(out.splitlines()) >= len(found) + 1
    assert sorted(os.listdir(tmp_path)) == [contract.WATCHER, "exp"]  # nothing is left behind


def test_without_a_folder_the_machine_alone_is_looked_at(call):
    code, out, _ = call("doctor", "--json")
    document = json.loads(out)
    assert [check["check"] for check in document["checks"]] == list(doctor.MACHINE)
    assert code == Level(document["worst"]).rank
    assert all(check["todo"] for check in document["checks"] if check["level"] != "ok")


@pytest.mark.parametrize("where", ["nowhere", "file"])
def test_a_folder_that_is_none_is_a_failure(call, tmp_path, where):
    (tmp_path / "file").touch()
    code, out, _ = call("doctor", tmp_path / where)
    assert code == 2
    assert "1 failure" in out


def test_a_check_that_stumbles_costs_none_of_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(about.os, "statvfs", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    found = {line.check: line.answer for line in doctor.examine(tmp_path)}
    assert found["space"].level is WARN
    assert found["space"].text == "cannot be told (Input/output error)"
    assert "watched" in found


def test_the_libraries_are_those_of_the_project():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = dict(re.fullmatch(r"(\w+)>=([\d.]+)", text).groups() for text in wanted["dependencies"])
    assert {name: ".".join(map(str, least)).removesuffix(".0") for name, least in machine.NEEDED.items()} == known
    assert wanted["requires-python"] == f">={'.'.join(map(str, machine.PYTHON))}"


# --------------------------------------------------------------------------------------------------- the machine


def proc(tmp_path, *, instances=128, mounts="proc /proc proc rw 0 0\n", used=0, watches=0):
    """A process table with one process of ours."""
    folder = tmp_path / "proc"
    (folder / "self").mkdir(parents=True)
    (folder / "self" / "stat").touch()
    (folder / "mounts").write_text(mounts)
    for name, value in (("instances", instances), ("watches", 1000)):
        path = folder / f"sys/fs/inotify/max_user_{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    for number in range(used):
        (folder / "77/fd").mkdir(parents=True, exist_ok=True)
        (folder / "77/fdinfo").mkdir(exist_ok=True)
        (folder / "77/fd" / str(number)).symlink_to("anon_inode:inotify")
        (folder / "77/fdinfo" / str(number)).write_text("inotify wd:1 ino:2\n" * watches)
    return folder


MACHINES = {
    "every process is seen": ({}, machine.processes, OK, ""),
    "hidepid off": ({"mounts": "proc /proc proc rw,hidepid=0 0 0\n"}, machine.processes, OK, ""),
    "hidepid on": (
        {"mounts": "proc /proc proc rw,hidepid=2 0 0\n"},
        machine.processes,
        WARN,
        "as the user of the runs",
    ),
    "instances free": ({"used": 3}, machine.instances, OK, ""),
    "instances gone": ({"instances": 8, "used": 5}, machine.instances, WARN, "fs.inotify.max_user_instances=512"),
    "many instances gone": ({"instances": 9, "used": 5}, machine.instances, WARN, "sudo sysctl"),
}


@pytest.mark.parametrize(("table", "check", "level", "todo"), MACHINES.values(), ids=MACHINES.keys())
def test_what_the_machine_has(tmp_path, monkeypatch, table, check, level, todo):
    monkeypatch.setattr(machine.os, "geteuid", os.getuid if check is machine.instances else lambda: 1000)
    answer = check(proc(tmp_path, **table))
    assert answer.level is level
    assert todo in answer.todo


@pytest.mark.parametrize(("soft", "level"), [(65536, OK), (resource.RLIM_INFINITY, OK), (256, WARN)])
def test_open_files(monkeypatch, soft, level):
    monkeypatch.setattr(machine.resource, "getrlimit", lambda _: (soft, resource.RLIM_INFINITY))
    answer = machine.open_files()
    assert (answer.level, answer.todo) == (level, "ulimit -n 1024" if level is WARN else "")


def test_a_missing_library_is_named_with_the_command_that_brings_it(monkeypatch):
    assert machine.libraries().level is OK
    monkeypatch.setattr(machine, "NEEDED", {**machine.NEEDED, "rich": (999, 0), "nonesuch": (1, 2)})
    answer = machine.libraries()
    assert answer.level is FAIL
    assert answer.todo.endswith("-m pip install 'rich>=999.0' 'nonesuch>=1.2'")


# ---------------------------------------------------------------------------------------------------- the folder


def limits(text):
    return lambda root: (root / "checker.toml").write_text(text)


def run(state="running", **fields):
    return lambda root: Folder(root / "exp").rows(2.0).status(state, **fields)


def dead(root):
    run(process=gone_process())(root)


def left(**record):
    def write(root):
        run(process=contract.this_process())(root) if record.pop("live", False) else None
        (root / contract.WATCHER).write_text(json.dumps({"pid": 12, "host": "node-7", **record}))
        os.utime(root / contract.WATCHER, (time.time() - 99,) * 2)

    return write


FOLDERS = {
    "no limits of its own": (about.configuration, lambda _: None, OK, "the shipped limits"),
    "limits": (about.configuration, limits("[limits.explosion]\ntimes = 4.0\n"), OK, "1 differs from the shipped"),
    "wrong limits": (about.configuration, limits("[limits.x]\n[limits.y]\n"), FAIL, "checker.toml:1"),
    "empty": (about.readable, lambda _: None, OK, "empty so far"),
    "too deep": (about.readable, lambda root: (root / "a/b/c").mkdir(parents=True), WARN, "no run folders yet"),
    "a run": (about.readable, run(), OK, "1 run, all can be read"),
    "none live": (about.owners, run("completed"), OK, "no live run on this machine"),
    "one dead": (about.owners, dead, OK, "no live run on this machine"),
    "one live": (about.owners, run(process=contract.this_process()), OK, "1 live run on this machine, yours"),
    "one elsewhere": (about.owners, run(), OK, "no live run on this machine; 1 more on other machines or unknown"),
    "nobody, and nothing to watch": (about.watched, run("completed"), OK, "nobody watches this folder"),
    "nobody, and something to watch": (about.watched, run(), WARN, "nobody watches this folder, and 1 run goes on"),
    "left in order": (about.watched, left(ended="2026-01-01T00:00:00Z"), OK, "left at 2026-01-01 00:00:00 UTC"),
    "gone without a word": (about.watched, left(), WARN, "is gone without a word"),
    "space": (about.space, lambda _: None, OK, "GiB free"),
    "the clock": (about.clocks, lambda _: None, OK, "the clock agrees with the folder's"),
    "locks": (about.locks, lambda _: None, OK, "flock works"),
    "yours": (about.access, lambda _: None, OK, "you are"),
}


@pytest.mark.parametrize(("check", "make", "level", "text"), FOLDERS.values(), ids=FOLDERS.keys())
def test_what_the_folder_has(tmp_path, check, make, level, text):
    make(tmp_path)
    answer = check(Place(tmp_path))
    assert (answer.level, text in answer.text) == (level, True), answer
    assert bool(answer.todo) or level is OK


def test_a_run_of_another_user_is_named(tmp_path, monkeypatch):
    run(process=contract.this_process())(tmp_path)
    monkeypatch.setattr(about, "_owner", lambda _: 4_000_000)
    answer = about.owners(Place(tmp_path))
    assert answer.level is WARN
    assert "1 live run of other users (exp): asked by file, never signalled" in answer.text
    assert "--system --user" in answer.todo


@pytest.mark.parametrize(
    ("allowed", "used", "folders", "level"),
    [(1000, 10, 100, OK), (1000, 850, 100, WARN), (1000, 950, 100, FAIL)],
    ids=["plenty", "tight", "too few"],
)
def test_the_watches_that_it_takes(tmp_path, monkeypatch, allowed, used, folders, level):
    monkeypatch.setattr(machine, "PROC", proc(tmp_path))
    monkeypatch.setattr(machine, "notifiers", lambda: (1, used))
    place = SimpleNamespace(root=tmp_path, below=(folders, True))
    answer = about.watches(place)
    assert (answer.level, f"{allowed - used} of 1,000" in answer.text) == (level, True)
    assert level is OK or f"fs.inotify.max_user_watches={524_288}" in answer.todo


@pytest.mark.parametrize(("free", "level"), [(10 << 30, OK), (500 << 20, WARN), (1 << 20, FAIL)])
def test_a_disk_that_fills_up(tmp_path, monkeypatch, free, level):
    full = SimpleNamespace(f_bavail=free, f_frsize=1, f_favail=1 << 20, f_files=1 << 30)
    monkeypatch.setattr(about.os, "statvfs", lambda _: full)
    assert about.space(Place(tmp_path)).level is level


def test_a_network_disk_wakes_nobody_and_needs_one_time(tmp_path, monkeypatch):
    place = Place(tmp_path)
    place.mount = Mount("nfs4", "/data")
    assert about.file_system(place).level is WARN
    assert "--poll 0.2" in about.file_system(place).todo
    monkeypatch.setattr(machine, "synchronised", lambda: False)
    assert about.clocks(place).level is WARN
    monkeypatch.setattr(about.time, "time", lambda: 1e9)
    answer = about.clocks(place)
    assert re.search(r"the folder's clock is \d+\.\d s ahead of this machine's", answer.text)


def test_the_exit_code_is_the_gravest_answer(call, tmp_path):
    (tmp_path / "checker.toml").write_text("[limits.nonesuch]\n")
    code, out, _ = call("doctor", tmp_path, "--json")
    assert code == 2
    wrong = [check for check in json.loads(out)["checks"] if check["level"] == "fail"]
    assert [check["check"] for check in wrong] == ["limits"]
