import dataclasses
import os

import pytest
from curves import noisy_descent, rows, tick

from checker import caution, judge, limits, watch
from checker.detectors import RULES, divergence, explosion, plateau
from checker.limits_check import values


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / limits.FILE
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


SILENT = {
    "nothing": "",
    "a comment": "# nothing yet\n",
    "an empty table": "[limits.explosion]\n",
    "what is shipped": "[limits.explosion]\ntimes = 3.0\n",
    "what is shipped, as a whole number": "[limits]\nexplosion = {times = 3}\n",
    "a record alone": '[calibration]\ndate = "2026-01-01"\nanything = [1, {a = 2}]\n',
    "a byte order mark": b"\xef\xbb\xbf[limits.explosion]\r\ntimes = 3.0\r\n",
}


@pytest.mark.parametrize("text", SILENT.values(), ids=SILENT.keys())
def test_nothing_is_changed(file, text):
    assert limits.read(file(text)).limits == {}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[limits.explosion]\ntimes = 6\n", id="a table"),
        pytest.param("limits.explosion.times = 6.0\n", id="dotted"),
        pytest.param('["limits" . explosion]\n"times" = 6e0\n', id="quoted"),
    ],
)
def test_one_limit_is_changed_and_the_others_are_as_shipped(file, text):
    found = limits.read(file(text))
    assert found.limits == {"explosion": dataclasses.replace(explosion.LIMITS, times=6.0)}
    assert found.sentence() == f"limits from {found.path}: 1 differs from the shipped ones"


def test_a_list_of_pairs_may_have_other_pairs(file):
    found = limits.read(file("[limits.divergence]\nscales = [\n  [5, 9],\n  [7, 8.5], # between\n  [11, 4.0],\n]\n"))
    assert found.limits["divergence"].scales == ((5, 9.0), (7, 8.5), (11, 4.0))


WRONG = {
    "no TOML": ("a = \n", "1: not valid TOML: invalid value"),
    "no TOML at the end": ("[limits.explosion]\ntimes = [1,", "2: not valid TOML: "),
    "nested too deeply": ("a = " + "[" * 5000 + "]" * 5000, ": not valid TOML: "),
    "an unknown table": ("\n[limit.explosion]\n", "2: limit: there is no such table; did you mean limits?"),
    "a rule at the top": (
        "[explosion]\n",
        "1: explosion: there is no such table; did you mean [limits.explosion]?",
    ),
    "limits that are no table": ("limits = 3\n", "1: limits = 3: must be a table, [limits.RULE]"),
    "a record that is none": ("calibration = 1\n", "1: calibration = 1: must be a table, [calibration]"),
    "an unknown rule": (
        "[limits.explosions]\n",
        "1: limits.explosions: there is no such rule; did you mean explosion?",
    ),
    "a rule that is no table": ("[limits]\nstall = 3\n", "2: limits.stall = 3: must be a table, [limits.stall]"),
    "an unknown limit": (
        "[limits.explosion]\n# more\ntims = 5.0\n",
        "3: limits.explosion.tims = 5.0: there is no such limit; did you mean times?",
    ),
    "a limit like no other": (
        "[limits.budget]\nqqq = 1\n",
        "2: limits.budget.qqq = 1: there is no such limit; there are: slack",
    ),
    "text for a number": (
        '[limits.explosion]\ntimes = "6"\n',
        '2: limits.explosion.times = "6": must be a number (shipped: 3.0)',
    ),
    "true for a number": (
        "[limits.explosion]\ntimes = true\n",
        "2: limits.explosion.times = true: must be a number",
    ),
    "not a number": ("[limits.explosion]\ntimes = nan\n", "times = nan: must be a finite number from 0 to 1e12"),
    "infinity": ("[limits.explosion]\ntimes = inf\n", "times = inf: must be a finite number from 0 to 1e12"),
    "below zero": ("[limits.explosion]\ntimes = -3.0\n", "times = -3.0: must be a finite number from 0 to 1e12"),
    "a date": ("[limits.explosion]\ntimes = 2026-01-01\n", "times = 2026-01-01: must be a number"),
    "beyond any number": (f"[limits.explosion]\ntimes = {'9' * 400}\n", "must be a finite number from 0 to 1e12"),
    "beyond any number, written another way": (
        f"[limits.explosion]\ntimes = 0x{'9' * 9000}\n",
        "must be a finite number",
    ),
    "beyond what is parsed": (f"[limits.explosion]\ntimes = {'9' * 9000}\n", "not valid TOML: "),
    "half a row": (
        "[limits.nonfinite]\nsure_rows = 1.5\n",
        "sure_rows = 1.5: must be a whole number from 1 to 1,000,000,000",
    ),
    "no row": (
        "[limits.nonfinite]\nsure_rows = 0\n",
        "2: limits.nonfinite.sure_rows = 0: must be a whole number from 1",
    ),
    "fewer than a rule stands on": (
        "[limits.explosion]\nmin_values = 3\n",
        "min_values = 3: must be a whole number from 4 to 1,000,000,000 (shipped: 4)",
    ),
    "a number for a list": (
        "[limits.divergence]\nscales = 5\n",
        "must be a list like the shipped [[5, 6.0], [11, 3.5]]",
    ),
    "an empty list": ("[limits.divergence]\nscales = []\n", "scales = []: must be a list like the shipped"),
    "a pair of three": (
        "[limits.divergence]\nscales = [[5, 6.0, 1]]\n",
        "must be a list like the shipped [5, 6.0]",
    ),
    "a bad pair, on many lines": (
        '[limits.divergence]\nscales = [\n  [5, 6.0],\n  [7, "x"],\n]\nfar = "y"\n',
        '6: limits.divergence.far = "y": must be a number',
    ),
    "bytes": (b"\xff\xfe", "not UTF-8 (byte 0)"),
}


@pytest.mark.parametrize(("text", "told"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_told_with_its_place(file, text, told):
    path = file(text)
    with pytest.raises(limits.LimitsError) as caught:
        limits.read(path)
    assert told in str(caught.value)
    assert all(line.startswith(f"{path}:") for line in str(caught.value).splitlines())


def test_all_faults_are_told_at_once(file):
    path = file("[limits.explosion]\ntims = 1\nval_times = -1\n[limits.stahl]\n[more]\n")
    with pytest.raises(limits.LimitsError) as caught:
        limits.read(path)
    lines = [line.removeprefix(f"{path}:").split(":")[0] for line in str(caught.value).splitlines()]
    assert sorted(lines) == ["2", "3", "4", "5"]


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda _: None], ids=["folder", "pipe", "nothing"])
def test_what_is_no_file_is_told(tmp_path, make):
    make(tmp_path / "x.toml")
    with pytest.raises(limits.LimitsError, match=r"x\.toml: (not a regular file|No such file)"):
        limits.read(tmp_path / "x.toml")


def test_without_a_file_the_shipped_limits_are_in_force(tmp_path):
    assert limits.in_force(tmp_path) is limits.SHIPPED
    assert limits.in_force_above(tmp_path / "exp") is limits.SHIPPED
    assert limits.SHIPPED.sentence() == ""


def test_a_file_is_looked_for_where_a_watch_may_stand():
    assert limits.ABOVE == watch.DEPTH


def test_the_nearest_file_is_in_force_unless_one_is_named(file, tmp_path):
    path = file("[limits.plateau]\nimprovement = 0.1\n")
    run = tmp_path / "zoo" / "exp"
    run.mkdir(parents=True)
    assert limits.in_force(tmp_path).path == path
    assert limits.in_force(tmp_path / "zoo") is limits.SHIPPED
    assert limits.in_force_above(run).limits == {"plateau": dataclasses.replace(plateau.LIMITS, improvement=0.1)}
    (tmp_path / "zoo" / limits.FILE).write_text("")
    assert limits.in_force_above(run).limits == {}
    assert limits.in_force_above(run, path).path == path


def test_a_file_that_is_there_and_cannot_be_read_is_never_passed_over(tmp_path):
    (tmp_path / limits.FILE).symlink_to(tmp_path / "nowhere")
    with pytest.raises(limits.LimitsError, match="No such file"):
        limits.in_force(tmp_path)


@pytest.mark.parametrize("one", caution.GRID)
def test_what_is_written_is_read_to_the_last_bit(file, one):
    record = {"date": "2026-01-01", "caution": one, "odd": 'a "quoted" \\ text'}
    found = limits.read(file(limits.render(caution.limits(one), record, "a head\nof two lines")))
    assert found.limits == caution.limits(one)
    assert found.calibration == record


def test_a_promise_is_void_once_its_limits_or_the_rules_have_changed(file):
    record = {"date": "2026-01-01", "runs": 99, "false_kill_rate": 0.01, "rules": limits.rules_digest()}
    record["seal"] = limits.seal(caution.limits(2))
    text = limits.render(caution.limits(2), record)
    assert limits.read(file(text)).sentence().endswith("; fitted 2026-01-01 to 99 runs for a false kill rate of 0.01")
    assert "promise is void" not in limits.read(file(text + "\n[limits.plateau]\nimprovement = 0.1\n")).sentence()
    assert "promise is void" in limits.read(file(text.replace("times = 5.0", "times = 4.0"))).sentence()
    assert "promise is void" in limits.read(file(text.replace(record["rules"], "0" * 16))).sentence()


ODD = (0, 1, 1e12, 10**9, [[1, 0.0]], [[10**9, 1.0]])
CURVES = (
    {
        "train": [*noisy_descent(80), *[9.0 + i for i in range(60)]],
        "val": [*noisy_descent(80), *[9.0] * 60],
        "grad": [*[1.0] * 80, *[500.0] * 60],
        "lr": "0.1x140",
    },
    {"train": "2.0-0.01x20 nan nan nan 1.5x30 0.0x30", "grad": "1.0x20 nan nan nan nan 0.0x60", "lr": "0.1x30 0.0x60"},
    {"train": "-1.0-0.01x90 5.0x40", "grad": "1.0x130", "val": "-1.0x60"},
    {"train": "0.0x50"},
    {"grad": "1 2 3 1000 1000 1000"},
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_no_limit_that_is_accepted_breaks_its_rule(rule):
    for field in dataclasses.fields(rule.limits):
        for value in ODD:
            try:
                given = values(rule.name, {field.name: value})
            except ValueError:
                continue
            for curve in CURVES:
                case = judge.Case.open(limits={rule.name: dataclasses.replace(rule.limits, **given)})
                case.rules = (rule,)
                made = rows(**curve)
                for row in made:
                    judge.step(case, row)
                judge.step(case, tick(made[-1].at + 1e5, started_at=made[0].at, final=True))


def test_divergence_still_ships_with_pairs():
    assert all(len(pair) == 2 for pair in divergence.LIMITS.scales)
