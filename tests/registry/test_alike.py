"""Runs of a sweep that fail alike: when nothing is said first, then what is said, and what is left to stop."""

import pytest

from checker.registry import alike
from checker.registry.alike import Shared, Sibling
from contract import Setting, SweepStop, sweep_stop, sweep_stop_file

NAN, OOM = "nonfinite of train_loss", "RuntimeError: out of memory"


def siblings(text):
    """Runs from a string: `F` failed by NaN, `O` by memory, `B` out of budget, `c` completed, `k` killed by somebody,
    `p` pending, `r12` running at step 12, `w12` the same with a warning; `F5` failed at step 5."""
    kinds = {
        "F": ("killed", NAN, "nonfinite"), "O": ("failed", OOM, ""), "B": ("killed", "budget", "budget"),
        "c": ("completed", "", ""), "k": ("killed", "", ""), "p": ("pending", "", ""), "r": ("running", "", ""),
        "w": ("running", "", "plateau"),
    }  # fmt: skip
    return [
        Sibling(f"{number}", *kinds[word[0]], step=int(word[1:]) if word[1:] else None)
        for number, word in enumerate(text.split())
    ]


SILENT = {
    "nothing": "",
    "all well": "c c c c r9 p",
    "one": "F c c c c",
    "two": "F F c c c",
    "three that differ": "F F O O c c",
    "what is over by its budget has not failed": "B B B B c",
    "stopped by somebody": "k k k k",
    "not begun": "p p p p",
}


@pytest.mark.parametrize("text", SILENT.values(), ids=SILENT.keys())
def test_nothing_is_said(text):
    assert alike.groups(siblings(text)) == []


STANDS = {
    "completed ones are sound": ("F F F c c", "01", "34", ""),
    "who goes on is open": ("F F F r p", "", "", "3"),
    "who has come no further is open": ("F10 F10 F10 r10", "", "", "3"),
    "who has come further is sound": ("F10 F10 F10 r11", "", "3", ""),
    "further than half of them is enough": ("F10 F20 F900 r30", "", "3", ""),
    "with a warning against it, it is not": ("F10 F10 F10 w99", "", "", "3"),
    "who failed otherwise says nothing": ("F F F O k p", "", "", ""),
}


@pytest.mark.parametrize(("text", "_", "sound", "open_"), STANDS.values(), ids=STANDS.keys())
def test_how_the_others_stand(text, _, sound, open_):
    (group,) = alike.groups(siblings(text))
    assert group.failed == ("0", "1", "2")
    assert ("".join(group.sound), "".join(group.open)) == (sound, open_)


def test_the_most_frequent_failure_comes_first():
    found = alike.groups(siblings("O O O F F F F c p"))
    assert [(group.failure, len(group.failed), group.begun) for group in found] == [(NAN, 4, 8), (OOM, 3, 8)]


# -------------------------------------------------------------------------------------------- what they have in common


def configs(**columns):
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


NOTHING = {
    "no sound run": (configs(lr=[1, 1, 1]), []),
    "one sound run has it too": (configs(lr=[1, 1, 1]), configs(lr=[1, 2, 3])),
    "the same everywhere": (configs(lr=[1, 1, 1]), configs(lr=[1, 1])),
    "ranges that overlap": (configs(lr=[1, 3, 5]), configs(lr=[2, 0])),
    "texts that differ": (configs(opt=["a", "b", "a"]), configs(opt=["c", "c"])),
    "a configuration that is not known": ([{}, {"lr": 1}, {"lr": 1}], configs(lr=[2, 2])),
    "a sound one that is not known": (configs(lr=[1, 1, 1]), [{"lr": 2}, {}]),
    "no number": (configs(lr=[float("nan")] * 3), configs(lr=[1, 2])),
}


@pytest.mark.parametrize(("failed", "sound"), NOTHING.values(), ids=NOTHING.keys())
def test_nothing_tells_them_apart(failed, sound):
    assert alike.shared(failed, sound) == ()


PARTED = {
    "one value against lower ones": ([0.5] * 3, [0.1, 0.01], "= 0.5", "<= 0.1"),
    "one value against higher ones": ([0] * 3, [1, 2], "= 0", ">= 1"),
    "one value against one": (["a"] * 3, ["b", "b"], "= a", "= b"),
    "one value between others": ([2] * 3, [1, 3], "= 2", "other values"),
    "high against low": ([0.5, 1, 2], [0.1, 0.2], ">= 0.5", "<= 0.2"),
    "low against high": ([1, 2, 3], [4, 5], "<= 3", ">= 4"),
    "true is not 1": ([True] * 3, [1, 1], "= yes", "= 1"),
    "a list": ([(1, 2)] * 3, [(1, 3)], "= (1, 2)", "= (1, 3)"),
    "what the others do not have": ([1] * 3, [None, None], "= 1", "= None"),
}


@pytest.mark.parametrize(("failed", "sound", "theirs", "others"), PARTED.values(), ids=PARTED.keys())
def test_what_tells_them_apart(failed, sound, theirs, others):
    (found,) = alike.shared(configs(x=failed), configs(x=sound))
    assert (alike.told(found.setting), found.others) == (f"x {theirs}", others)


def test_chance_is_counted():
    (found,) = alike.shared(configs(lr=[0.5] * 3), configs(lr=[0.1] * 5))
    assert found.chance == pytest.approx(1 / 56)  # one way: exactly these three
    (found,) = alike.shared(configs(lr=[6, 7, 8]), configs(lr=[1, 2, 3, 4, 5]))
    assert found.chance == pytest.approx(2 / 56)  # the lowest three would do as well
    many = alike.shared(configs(lr=[0.5] * 3, seed=[1, 5, 3]), configs(lr=[0.1] * 5, seed=[2, 4, 6, 0, 9]))
    assert [(part.setting.key, part.clear) for part in many] == [("lr", True)]
    assert many[0].chance == pytest.approx(2 / 56)  # two settings have been looked at


def test_the_clearest_comes_first():
    found = alike.shared(configs(a=[4, 5, 6], b=[1] * 3), configs(a=[1, 2, 3], b=[2, 2, 3]))
    assert [part.setting.key for part in found] == ["b", "a"]


# ----------------------------------------------------------------------------------------------------- what is left

RATE = Setting(key="lr", how="=", value=0.5)


def group(failed, sound, *shared):
    return alike.Alike(NAN, tuple("f" * failed), tuple("s" * sound), ("o",), failed + sound + 1, shared)


LEFT = {
    "no policy": (group(9, 0), 0, None),
    "not yet enough": (group(4, 0), 5, None),
    "nothing has gone well": (group(5, 0), 5, ()),
    "a sound one, and nothing tells them apart": (group(50, 1), 5, None),
    "it may be chance": (group(5, 2, Shared(RATE, "= 0.1", 0.06)), 5, None),
    "it is not chance": (group(5, 5, Shared(RATE, "= 0.1", 0.01)), 5, (RATE,)),
    "only what is clear counts": (
        group(5, 5, Shared(RATE, "= 0.1", 0.01), Shared(Setting(key="x", how="=", value=1), "= 2", 0.9)), 5, (RATE,),
    ),
    "two are the least": (group(1, 0), 1, None),
}  # fmt: skip


@pytest.mark.parametrize(("found", "policy", "left"), LEFT.values(), ids=LEFT.keys())
def test_what_is_to_stop(found, policy, left):
    assert alike.left(found, policy) == left


SAID = {
    "none well": (group(3, 0), "3 of 4 runs failed alike (nonfinite of train_loss); none has gone well so far"),
    "no difference": (group(3, 2), "; no setting tells them from the 2 that go well"),
    "a difference": (group(3, 5, Shared(RATE, "<= 0.1", 0.01)), ": all have lr = 0.5; the 5 sound ones have lr <= 0.1"),
    "perhaps": (
        group(3, 1, Shared(RATE, "<= 0.1", 0.5)),
        "the sound one has lr <= 0.1 (too few runs to rule out chance)",
    ),
}


@pytest.mark.parametrize(("found", "said"), SAID.values(), ids=SAID.keys())
def test_what_is_said(found, said):
    assert alike.sentence(found).endswith(said)


def test_a_secret_among_the_settings_is_not_said():
    secret = Setting(key="wandb.api_key", how="=", value="0123456789abcdef0123456789abcdef01234567")
    assert "0123456789" not in alike.sentence(group(3, 5, Shared(secret, "other values", 0.01)))


# ------------------------------------------------------------------------------------------------------ the treaty

MET = {
    "equal": ("=", 0.5, {"a": {"b": 0.5}}, True),
    "equal, flat": ("=", 0.5, {"a.b": 0.5}, True),
    "as whole number": ("=", 1.0, {"a": {"b": 1}}, True),
    "as list": ("=", [1, 2], {"a": {"b": (1, 2)}}, True),
    "at least": (">=", 0.5, {"a": {"b": 0.6}}, True),
    "at most": ("<=", 0.5, {"a": {"b": 0.5}}, True),
    "another": ("=", 0.5, {"a": {"b": 0.6}}, False),
    "true and 1": ("=", 1, {"a": {"b": True}}, False),
    "below": (">=", 0.5, {"a": {"b": 0.4}}, False),
    "no number": (">=", 0.5, {"a": {"b": "x"}}, False),
    "not there": ("=", None, {"a": {}}, False),
    "no table": ("=", 1, {"a": 1}, False),
    "a sign of tomorrow": ("~", 1, {"a": {"b": 1}}, False),
}


@pytest.mark.parametrize(("how", "value", "config", "met"), MET.values(), ids=MET.keys())
def test_who_has_a_setting(how, value, config, met):
    assert Setting(key="a.b", how=how, value=value).met(config) is met


NOTES = {
    "empty": ("", "no reason given", True),
    "half saved": ('{"reason', "not valid JSON", True),
    "by hand": ('{"reason": "wrong data"}', "wrong data", True),
    "about others": ('{"only": [{"key": "lr", "how": "=", "value": 1}]}', "no reason", False),
    "about these": ('{"only": [{"key": "lr", "how": "=", "value": 0.5}], "more": 1}', "no reason", True),
    "about nobody knows whom": ('{"only": "everything"}', "no reason", False),
    "strange": ('{"reason": 5, "id": []}', "no reason", True),
}


@pytest.mark.parametrize(("text", "reason", "concerned"), NOTES.values(), ids=NOTES.keys())
def test_a_note_that_stops_a_sweep(tmp_path, text, reason, concerned):
    assert sweep_stop(tmp_path, "s") is None
    (tmp_path / "stop-s.json").write_text(text)
    note = sweep_stop(tmp_path, "s")
    assert isinstance(note, SweepStop)
    assert reason in note.reason
    assert note.concerns({"lr": 0.5}) is concerned
    assert sweep_stop(tmp_path, "other") is None


@pytest.mark.parametrize("sweep", ["", ".", "../x", "a/b", "a b", "-x", "x" * 101, "a\n", "ü"])
def test_what_is_no_name_has_no_note(tmp_path, sweep):
    assert sweep_stop_file(tmp_path, sweep) is None
    assert sweep_stop(tmp_path, sweep) is None
