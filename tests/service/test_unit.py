"""The unit file: what systemd makes of odd names is checked by systemd itself, where it is installed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from checker.service.unit import Unit, exec_word, word

WORDS = {
    "/data/runs": ("/data/runs", "/data/runs"),
    "/data/my runs": ('"/data/my runs"', '"/data/my runs"'),
    "/50%": ('"/50%%"', '"/50%%"'),
    "/$HOME": ('"/$HOME"', '"/$$HOME"'),
    'a"b\\c': (r'"a\"b\\c"',) * 2,
    "a\nb": (r'"a\x0ab"',) * 2,
    "é": ('"é"',) * 2,
    "": ('""', '""'),
}


@pytest.mark.parametrize(("text", "expected"), WORDS.items(), ids=map(repr, WORDS))
def test_words_mean_themselves(text, expected):
    assert (word(text), exec_word(text)) == expected
    assert exec_word(text, first=True) == word(text)  # of the program systemd replaces no variables


def keys(text):
    lines = [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def test_the_users_own_unit_says_when_it_lives_and_is_started_again(call, tmp_path):
    code, out, _ = call("service", tmp_path, "--observe", "--poll", "0.5")
    found = keys(out)
    assert code == 0
    assert found["ExecStart"] == f"{sys.executable} -m checker watch {tmp_path} --observe --poll 0.5"
    assert (found["Type"], found["Restart"], found["StartLimitIntervalSec"]) == ("notify", "on-failure", "0")
    assert found["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert found["WantedBy"] == "default.target"
    assert found["RestrictAddressFamilies"] == "AF_UNIX"
    assert not {"User", "ProtectSystem", "PrivateTmp", "PrivateUsers", "ProtectProc"} & found.keys()
    assert f"checker service {tmp_path} --observe --poll 0.5 > ~/.config/systemd/user/" in out.splitlines()[0]


def test_the_machines_unit_may_write_below_the_folder_alone(call, tmp_path):
    found = keys(call("service", tmp_path, "--system", "--user", "alice", "--metrics-port", "9100")[1])
    assert (found["User"], found["WantedBy"]) == ("alice", "multi-user.target")
    assert (found["ProtectSystem"], found["ReadWritePaths"]) == ("strict", str(tmp_path))
    assert found["RestrictAddressFamilies"] == "AF_UNIX AF_INET AF_INET6"
    assert not {"PrivateTmp", "PrivateUsers", "ProtectProc", "ProtectHostname"} & found.keys()


def test_a_single_run_has_its_checklist_beside_it(call, tmp_path):
    run = tmp_path / "exp-001"
    run.mkdir()
    (run / "metrics.jsonl").touch()
    found = keys(call("service", run, "--system", "--user", "alice")[1])
    assert (found["ReadWritePaths"], found["ExecStart"].split()[-1]) == (str(tmp_path), str(run))


@pytest.mark.parametrize(
    "arguments",
    [
        ["/nowhere"],
        [".", "--user", "alice"],
        [".", "--system", "--user", "a b"],
        [".", "--poll", "soon"],
        [".", "--metrics-port", "70000"],
        [],
    ],
    ids=["no folder", "a user without --system", "no user", "no pace", "no port", "nothing"],
)
def test_what_cannot_be_is_one_sentence(call, arguments):
    code, out, err = call("service", *arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
@pytest.mark.parametrize("user", [None, "root"], ids=["user", "system"])
def test_systemd_accepts_it(tmp_path, user):
    root = tmp_path / 'my 100% "runs" $HOME\\'
    root.mkdir()
    unit = Unit(root=root, options=["--metrics-port", "9100"], user=user, network=True, environment={"A": "b c"})
    path = tmp_path / unit.name
    path.write_text(unit.text())
    command = ["systemd-analyze", "verify", path] if user else ["systemd-analyze", "--user", "verify", path]
    done = subprocess.run(
        command, env={"XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "Failed to initialize manager" in done.stderr:
        pytest.skip("no systemd that would look at it")
    assert (done.returncode, done.stderr) == (0, "")
