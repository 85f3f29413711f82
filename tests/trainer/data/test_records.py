import csv
import json
import os
import pickle
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer import data, spec
from trainer.data.samples import IGNORED


def options(path, *, model=None, task=None, **keys):
    document = {"data": {"path": str(path), **keys}, "train": {"steps": 5}, "model": model or {"kind": "mlp"}}
    return spec.build(document | ({"task": task} if task else {}), where="test")


def table(path, **keys):
    return data.load(options(path, **{"kind": "csv", "features": ["x", "y"], "target": "t", **keys}))


def objects(path, **keys):
    return data.load(options(path, **{"kind": "jsonl", "features": ["x"], "target": "t", **keys}))


def documents(path, context=8, **keys):
    model = {"kind": "gpt", "context": context, "width": 16}
    return data.load(options(path, model=model, **{"kind": "jsonl", "text": "text", **keys}))


def everything(samples):
    return samples.batch(torch.arange(len(samples)))


def lines(folder, *records, name="data.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def rows(folder, *records, header=("x", "y", "t"), name="data.csv"):
    path = folder / name
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *records])
    return path


def twenty(folder):
    return rows(folder, *((number, number / 2, number % 3) for number in range(20)))


# ------------------------------------------------------------------------------------------ what would be silent


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("nan,1,0", "x = nan: is not a number"),
        ("inf,1,0", "x = inf: is too large"),
        ("1e39,1,0", "x = 1e+39: is too large"),
        ("1_0,1,0", "x = '1_0': is not a number"),
        (",1,0", "x = '': is empty"),
        ("a,1,0", "x = 'a': is not a number"),
        ("1,2", "has 2 fields, and the header has 3"),
        ("1,2,3,4", "has 4 fields, and the header has 3"),
        ("1,2,", "t = '': is empty"),
        ("1,2,nan", "t = nan: is not a number"),
        ('1,2,"0', "opens a quote that is never closed"),
    ],
    ids=lambda value: value if "," in value else "",
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, record, said):
    path = twenty(tmp_path)
    with path.open("a") as file:
        file.write(f"\n{record}\n")
    with pytest.raises(spec.SpecError) as told:
        table(path)
    assert f"data.csv:23: {said}" in str(told.value)
    assert "1 of 21 records cannot be used" in str(told.value)
    assert 'data.bad_records = "skip"' in str(told.value)
    found = table(path, bad_records="skip").facts["sources"][0]
    assert [found[name] for name in ("records", "blank", "malformed", "skipped")] == [20, 1, 1, 1]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ('{"x": NaN, "t": 1}', "has the number NaN, which JSON does not know"),
        ('{"x": -Infinity, "t": 1}', "has the number -Infinity"),
        ('{"x": 1e999, "t": 1}', "x = inf: is too large"),
        ('{"x": "1", "t": 1}', "x = '1': is a text, not a number"),
        ('{"x": true, "t": 1}', "x = True: is true or false, not a number"),
        ('{"x": null, "t": 1}', "x = None: is null, not a number"),
        ('{"x": [1, 2], "t": 1}', "features have the shapes [(2,)], those of the first record [()]"),
        ('{"x": [], "t": 1}', "x: has an empty list in it"),
        ('{"x": [[1], [2, 3]], "t": 1}', "x: has lists of different lengths in it"),
        ('{"x": [[1], 2], "t": 1}', "x: has lists of different lengths in it"),
        ('{"t": 1}', "has no field 'x'; it has 't'"),
        ('{"x": 1}', "has no field 't'; it has 'x'"),
        ('{"x": 1, "t": null}', "t = None: is null"),
        ('{"x": 1, "t": ""}', "t = '': is a text"),
        ("[1, 2]", "is a list, not an object"),
        ("7", "is a number, not an object"),
        ('{"x": 1, "t": 1', "is not JSON"),
        ('{"x": 1, "t": 1}}', "is not JSON"),
        ("\0\0\0", "is not JSON"),
        ("[" * 100_000, "is nested too deeply"),
    ],
    ids=lambda value: value[:30] if value[0] in "{[7\0" else "",
)
def test_an_object_that_cannot_be_used_is_named(tmp_path, record, said):
    path = lines(tmp_path, *({"x": number, "t": number % 2} for number in range(20)))
    with path.open("a") as file:
        file.write(record)
    with pytest.raises(spec.SpecError) as told:
        objects(path)
    assert f"data.jsonl:21: {said}" in str(told.value)
    assert objects(path, bad_records="skip").facts["sources"][0]["skipped"] == 1


def test_only_the_first_faults_are_named_and_all_are_counted(tmp_path):
    path = rows(tmp_path, *(("bad", 1, 1) for _ in range(30)), (1, 1, 1))
    with pytest.raises(spec.SpecError) as told:
        table(path)
    assert "30 of 31 records" in str(told.value)
    assert str(told.value).count("data.csv:") == 5


def test_bytes_that_are_no_utf8_are_named(tmp_path):
    path = lines(tmp_path, *({"x": number, "t": 1} for number in range(5)))
    path.write_bytes(path.read_bytes() + b'{"x": 1, "t": "\xe4"}\n')
    with pytest.raises(spec.SpecError, match=r"data.jsonl:6: is not UTF-8 \(byte 16 of the line is 0xe4\)"):
        objects(path)


def test_a_record_that_changed_on_disk_is_never_trained_on(tmp_path):
    path = twenty(tmp_path)
    found = table(path)
    sent = pickle.loads(pickle.dumps(found.train))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"7,3.5", b"8,3.5"))
    for train in (found.train, sent):
        with pytest.raises(RuntimeError, match=r"data.csv:9: the record at byte \d+ has changed"):
            [everything(part) for part in (train, found.val)]


def test_a_file_that_grows_does_no_harm_and_one_that_is_cut_is_told(tmp_path):
    path = twenty(tmp_path)
    found = table(path)
    before = everything(found.train)
    with path.open("a") as file:
        file.write("more,1,2\n")
    assert torch.equal(everything(found.train)[0], before[0])
    os.truncate(path, 30)
    with pytest.raises(RuntimeError, match="has changed since the file was indexed"):
        everything(found.train)


def test_a_changed_file_is_indexed_anew(tmp_path):
    path = twenty(tmp_path)
    first = table(path)
    path.write_text(path.read_text() + "5,5,1\n")
    second = table(path)
    assert (len(first.train) + len(first.val), len(second.train) + len(second.val)) == (20, 21)
    assert first.fingerprint != second.fingerprint


# ----------------------------------------------------------------------------------------------- what is learned


def test_whole_targets_are_classes(tmp_path):
    found = table(twenty(tmp_path))
    assert (found.task, found.inputs, found.outputs, found.text) == ("classification", (2,), 3, False)
    assert (len(found.train), len(found.val), found.facts["labels"]) == (18, 2, [0, 1, 2])
    (inputs, targets), (more, others) = everything(found.train), everything(found.val)
    assert (inputs.dtype, targets.dtype) == (torch.float32, torch.int64)
    assert sorted(torch.cat([inputs, more])[:, 0].tolist()) == list(range(20))
    assert torch.equal(torch.cat([targets, others]), torch.cat([inputs, more])[:, 0].long() % 3)


@pytest.mark.parametrize(
    ("targets", "task", "labels"),
    [
        (["10", "9", "-1"], "classification", [-1, 9, 10]),
        (["b", "a", "c"], "classification", ["a", "b", "c"]),
        (["1", "x", "2"], "classification", ["1", "2", "x"]),
        (["1.5", "2", "3"], "regression", None),
        (["1.0", "2.0", "3.0"], "regression", None),
    ],
    ids=["whole", "texts", "whole-and-texts", "numbers", "written-as-numbers"],
)
def test_the_task_follows_from_the_targets(tmp_path, targets, task, labels):
    found = table(rows(tmp_path, *((1, 2, target) for target in targets)), val_fraction=0.4)
    assert (found.task, found.facts.get("labels"), found.outputs) == (task, labels, len(labels or [1]))


def test_a_regression_has_a_column_of_numbers(tmp_path):
    found = table(rows(tmp_path, *((number, 0, number + 0.5) for number in range(10))))
    inputs, targets = everything(found.train)
    assert (targets.dtype, targets.shape) == (torch.float32, (9, 1))
    assert torch.equal(inputs[:, :1] + 0.5, targets)


def test_the_spec_has_the_last_word_about_the_task(tmp_path):
    path = twenty(tmp_path)
    keys = {"kind": "csv", "features": ["x"], "target": "t"}
    found = data.load(options(path, task="regression", **keys))
    assert (found.task, found.outputs) == ("regression", 1)
    path = rows(tmp_path, (1, 1, "1.0"), (2, 2, "2.0"), (3, 3, "2.0"), name="other.csv")
    found = data.load(options(path, task="classification", **keys, val_fraction=0.4))
    assert (found.task, found.facts["labels"]) == ("classification", [1, 2])


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (["1.5", "n/a", "2"], r"some are numbers, such as 1.5 \(line 2\), and some texts, such as 'n/a' \(line 3\)"),
        (["1", "1", "1"], "all targets are the same, 1"),
        ([str(number) for number in range(10_001)], "more than 10000 different values"),
    ],
    ids=["mixed", "one-label", "too-many"],
)
def test_targets_that_make_no_task(tmp_path, targets, said):
    with pytest.raises(spec.SpecError, match=said):
        table(rows(tmp_path, *((1, 2, target) for target in targets)), val_fraction=0.4)


def test_a_list_of_numbers_keeps_its_shape(tmp_path):
    image = [[1, 2, 3], [4, 5, 6.5]]
    found = objects(lines(tmp_path, *({"x": image, "t": name} for name in "abab")), val_fraction=0.5)
    assert found.inputs == (2, 3)
    assert torch.equal(found.train.batch(torch.tensor([0]))[0], torch.tensor([image]))


def test_several_features_stand_one_after_another(tmp_path):
    path = lines(tmp_path, *({"x": [[number, 2]], "y": 3, "t": number} for number in (1, 2)))
    found = objects(path, features=["y", "x"], val_fraction=0.5)
    assert found.inputs == (3,)
    parts = torch.cat([everything(found.train)[0], everything(found.val)[0]])
    assert sorted(parts.tolist()) == [[3, 1, 2], [3, 2, 2]]


def test_a_document_is_cut_or_padded_to_what_the_model_sees(tmp_path):
    path = lines(tmp_path, {"text": "ab"}, {"text": "äbcdefghijk"}, {"text": "12345678"}, {"text": "123456789"})
    found = documents(path, val_fraction=0.3, split_seed=2)
    assert (found.task, found.inputs, found.outputs, found.text) == ("language", (8,), 256, True)
    assert found.facts["sources"][0]["cut"] == 1
    parts = [everything(part) for part in (found.train, found.val)]
    inputs, targets = (torch.cat(each).tolist() for each in zip(*parts, strict=True))
    by_first = {first[0]: (first, then) for first, then in zip(inputs, targets, strict=True)}
    assert by_first[ord("a")] == ([97, 98, 0, 0, 0, 0, 0, 0], [98] + [IGNORED] * 7)
    assert by_first[0xC3] == (list("äbcdefg".encode()), list("äbcdefgh".encode())[1:])
    assert sorted(target.count(IGNORED) for target in targets) == [0, 0, 1, 7]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"text": ""}, "has fewer than 2 bytes"),
        ({"text": "x"}, "has fewer than 2 bytes"),
        ({"text": 3}, "text = 3: is a number, not a text"),
        ({"text": "\ud800 half"}, "has half a character in it"),
        ({"other": "x"}, "has no field 'text'"),
    ],
    ids=["empty", "one-byte", "number", "half-character", "missing"],
)
def test_a_document_that_cannot_be_learned_from(tmp_path, record, said):
    with pytest.raises(spec.SpecError, match=said):
        documents(lines(tmp_path, {"text": "good"}, {"text": "good"}, record), val_fraction=0.5)


def test_a_document_of_a_csv_file_may_have_lines_and_be_long(tmp_path):
    path = rows(tmp_path, ("one\nline, and\r\nmore",), ("x" * 3_000_000,), header=("text",))
    found = documents(path, context=20, kind="csv", val_fraction=0.5)
    texts = [bytes(everything(part)[0][0].tolist()) for part in (found.train, found.val)]
    assert sorted(texts) == [b"one\nline, and\r\nmore"[:19] + b"\0", b"x" * 20]


def test_normalized_features_have_mean_0_and_deviation_1(tmp_path):
    path = rows(tmp_path, *((1.7e9 + number, 5, number % 2) for number in range(100)))
    found = table(path, normalize=True)
    inputs = everything(found.train)[0]
    assert inputs.mean(0).tolist() == pytest.approx([0, 0], abs=1e-5)
    assert inputs[:, 0].std(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert set(inputs[:, 1].tolist()) == {0}  # always the same: shifted, not scaled
    plain = table(path)
    held_out = everything(found.val)[0][:, 0]
    apart = torch.cat([held_out, inputs[:, 0]]).sort().values.diff()
    assert apart.max().item() == pytest.approx(apart.min().item(), abs=1e-4)  # the held-out part by the same numbers
    assert found.fingerprint != plain.fingerprint


def test_scores_come_from_a_field_in_the_order_of_the_samples(tmp_path):
    found = table(twenty(tmp_path), difficulty="y", normalize=False)
    assert torch.equal(found.train.scores() * 2, everything(found.train)[0][:, 0])
    assert table(twenty(tmp_path)).train.scores() is None


def test_a_record_without_its_score_cannot_be_used(tmp_path):
    path = rows(tmp_path, (1, 2, 0, 0.5), (1, 2, 1, ""), (1, 2, 1, 3), header=("x", "y", "t", "hard"))
    with pytest.raises(spec.SpecError, match="hard = '': is empty"):
        table(path, difficulty="hard")


# ------------------------------------------------------------------------------------------- files and splits


def test_the_split_follows_from_its_own_seed_and_nothing_is_in_both_parts(tmp_path):
    path = twenty(tmp_path)
    parts = {seed: everything(table(path, split_seed=seed).val)[0][:, 0].tolist() for seed in range(4)}
    assert parts[0] == everything(table(path).val)[0][:, 0].tolist()
    assert len(set(map(tuple, parts.values()))) > 1
    found = table(path, val_fraction=0.5)
    assert not set(everything(found.train)[0][:, 0].tolist()) & set(everything(found.val)[0][:, 0].tolist())


def test_another_file_to_examine_on_shares_labels_and_normalization(tmp_path):
    one = rows(tmp_path, (1, 0, "a"), (3, 0, "c"))
    other = rows(tmp_path, (5, 0, "b"), name="val.csv")
    found = table(one, val_path=str(other), normalize=True)
    assert (found.facts["labels"], len(found.train), len(found.val)) == (["a", "b", "c"], 2, 1)
    assert everything(found.train)[1].tolist() == [0, 2]
    assert (everything(found.val)[0].tolist(), everything(found.val)[1].tolist()) == ([[3, 0]], [1])
    assert [item["path"] for item in found.facts["sources"]] == [str(one), str(other)]


def test_the_fingerprint_follows_from_what_is_learned_never_from_paths(tmp_path):
    path = twenty(tmp_path)
    moved = tmp_path / "moved.csv"
    moved.write_bytes(path.read_bytes())
    first = table(path).fingerprint
    assert table(moved).fingerprint == first
    others = [{"split_seed": 1}, {"val_fraction": 0.2}, {"normalize": True}, {"features": ["x"]}, {"target": "y"}]
    assert len({first, *(table(path, **keys).fingerprint for keys in others)}) == 6


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,b,c\n1,2,3\n", "data.csv:1: there is no column 'x', 'y', 't'; the first line names 'a', 'b', 'c'"),
        (b"x;y;t\n1;2;3\n", "(delimiter ',')"),
        (b"x,y,t,x\n1,2,3,4\n", "data.csv:1: there are several columns 'x'"),
        (b"\n\n", "has only blank lines"),
        (b"x,y,t\n", "has no record that can be used"),
        (b"x,y,t\n1,2,3\n", "of 1 records that is none, or all"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "is packed with gzip"),
    ],
    ids=["no-header", "other-delimiter", "column-twice", "blank", "only-header", "one-record", "gzip"],
)
def test_a_table_that_cannot_be_learned_from(tmp_path, content, said):
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    with pytest.raises(spec.SpecError) as told:
        table(path)
    assert said in str(told.value)
    assert "data.csv" in str(told.value) or "val_fraction" in str(told.value)


def test_marks_breaks_and_delimiters_of_other_systems(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes(b'\xef\xbb\xbfx;y;t\r\n"1";2;0\r\n\r\n3;4;1')
    found = table(path, delimiter=";", val_fraction=0.5)
    parts = torch.cat([everything(found.train)[0], everything(found.val)[0]])
    assert sorted(parts.tolist()) == [[1, 2], [3, 4]]
    assert found.facts["sources"][0]["blank"] == 1


def test_nothing_is_written_beside_the_data(tmp_path):
    table(twenty(tmp_path), normalize=True, difficulty="y")
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


@pytest.mark.parametrize("delimiter", ['"', "\n", "\r"])
def test_a_delimiter_that_means_something_else(tmp_path, delimiter):
    with pytest.raises(spec.SpecError, match=r"data.delimiter = "):
        table(twenty(tmp_path), delimiter=delimiter)


def test_text_needs_a_model_that_sees_some_and_has_no_mean(tmp_path):
    path = lines(tmp_path, {"text": "some"}, {"text": "more"})
    with pytest.raises(spec.SpecError, match=r"model.kind = 'mlp': sees no text"):
        data.load(options(path, kind="jsonl", text="text"))
    with pytest.raises(spec.SpecError, match=r"data.normalize = true"):
        documents(path, normalize=True)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    records=st.lists(
        st.tuples(
            st.floats(width=32, allow_nan=False, allow_infinity=False),
            st.integers(-5, 5),
            st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1).filter(str.strip),
        ),
        min_size=2,
        max_size=12,
    )
)
def test_both_formats_say_the_same(tmp_path, records):
    one = lines(tmp_path, *({"x": x, "y": y, "t": f"label {t}"} for x, y, t in records))
    other = rows(tmp_path, *((x, y, f"label {t}") for x, y, t in records))
    task = {"task": "classification", "features": ["x", "y"], "target": "t", "val_fraction": 0.5}
    if len({t for _, _, t in records}) < 2:
        return
    found = [data.load(options(path, kind=kind, **task)) for path, kind in ((one, "jsonl"), (other, "csv"))]
    for part in ("train", "val"):
        (inputs, targets), (others, more) = (everything(getattr(each, part)) for each in found)
        assert torch.equal(inputs, others)
        assert torch.equal(targets, more)
    assert found[0].facts["labels"] == found[1].facts["labels"] == sorted({f"label {t}" for _, _, t in records})


# ------------------------------------------------------------------------------------------------------- memory

MEASURED = """
import sys
from pathlib import Path
from trainer import data, spec
from trainer.data.loader import Loader
from trainer.data.plan import Position

def peak():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)

before = peak()
document = {"data": {"kind": "csv", "path": sys.argv[1], "features": ["x"], "target": "t"}, "train": {"steps": 9}}
options = spec.build({**document, "model": {"kind": "mlp"}}, where="test")
loader = Loader(data.load(options).train, options, Position())
for step in range(1, 500):
    loader.next_group(step)
print((peak() - before) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_a_file_is_never_loaded_whole(tmp_path):
    path = tmp_path / "large.csv"
    size = 60_000_000
    with path.open("w") as file:
        file.write("x,t,note\n")
        block = "".join(f"{number}.5,{number % 7},{'n' * 2000}\n" for number in range(2000))
        while file.tell() < size:
            file.write(block)
    done = subprocess.run([sys.executable, "-c", MEASURED, path], check=True, capture_output=True, text=True)
    assert 0 < int(done.stdout) < size / 2
