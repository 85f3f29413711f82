"""The command `notify`, the option of `watch` and `service`, and what is said when something is missing."""

import importlib.util

import pytest

from checker import limits


@pytest.mark.parametrize("command", [["notify"], ["watch", "--notify"]], ids=" ".join)
def test_alarms_without_their_library_are_one_sentence(call, tmp_path, monkeypatch, command):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "apprise" else real(name, *rest)
    )
    code, out, err = call(command[0], tmp_path, *command[1:], "json://127.0.0.1/SecretToken")
    assert (code, out) == (2, "")
    assert err == "checker: alarms need the extra: pip install 'training-checker[alarms]'\n"
    assert not (tmp_path / ".checker.alarms").exists()


WRONG = {
    "no such folder": (["notify", "/nowhere", "json://x"], "/nowhere: no such folder"),
    "no channel": (["notify", "."], "no channel: give an Apprise URL or a file of them, or set CHECKER_NOTIFY"),
    "a secret in a unit": (
        ["service", ".", "--notify", "json://x/SecretToken"],
        "--notify: a unit can be read by everybody",
    ),
}


@pytest.mark.parametrize(("arguments", "told"), WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_done_is_one_sentence_and_exit_2(call, monkeypatch, arguments, told):
    monkeypatch.delenv("CHECKER_NOTIFY", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: object())
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"checker: {told}")
    assert "SecretToken" not in err
    assert len(err.splitlines()) == 1


def test_a_unit_names_the_file_of_channels_and_may_use_the_network(call, tmp_path):
    where = tmp_path / "channels"
    where.write_text("json://x/SecretToken\n")
    code, out, _ = call("service", tmp_path, "--notify", where)
    assert code == 0
    assert f"--notify {where}" in out
    assert "AF_INET" in out
    assert "SecretToken" not in out


def test_what_is_worth_an_alarm_stands_in_the_limits_file(tmp_path):
    (tmp_path / "checker.toml").write_text('[notify]\nmin_severity = "critical"\nper_minute = 2\n')
    found = limits.in_force(tmp_path).notify
    assert (found.min_severity, found.per_minute) == ("critical", 2)
    (tmp_path / "checker.toml").write_text('[notify]\nmin_severity = "dire"\nper_minute = 0\nurls = ["x"]\n')
    with pytest.raises(limits.LimitsError) as caught:
        limits.in_force(tmp_path)
    faults = str(caught.value).splitlines()
    assert [line.partition("checker.toml:")[2][:1] for line in faults] == ["2", "3", "4"]
    assert "must be one of warning, critical" in faults[0]
