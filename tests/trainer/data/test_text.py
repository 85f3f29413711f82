import os
import pickle
import zlib

import pytest
import torch

from trainer import data, spec


def test_the_text_is_the_same_every_time_and_split_by_bytes(small):
    one, two = data.load(small()), data.load(small())
    assert torch.equal(one.train.text, two.train.text)
    assert (len(one.train.text), len(one.val.text), one.fingerprint) == (3500, 500, two.fingerprint)
    assert (one.task, one.inputs, one.outputs, one.text) == ("language", (16,), 256, True)


def test_windows_share_a_byte_and_the_target_is_one_byte_later(small):
    train = data.load(small()).train
    inputs, targets = train.batch(torch.tensor([1, 0]))
    text = train.text.long()
    assert torch.equal(inputs, torch.stack([text[16:32], text[:16]]))
    assert torch.equal(targets, torch.stack([text[17:33], text[1:17]]))
    assert len(train) == 3499 // 16


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"data": {"val_bytes": 4000}}, "data.val_bytes = 4000: the text has only 4000 bytes"),
        ({"model": {"context": 5000}}, "model.context = 5000: longer than the text"),
        ({"model": {"kind": "mlp"}}, "model.kind = 'mlp': sees no text"),
    ],
    ids=["all-validation", "context-too-long", "no-context"],
)
def test_too_little_text_is_a_fault_of_the_spec(small, over, said):
    with pytest.raises(spec.SpecError, match=said):
        data.load(small(**over))


def test_another_split_is_other_data(small):
    one, two = (data.load(small(data={"val_bytes": size})) for size in (500, 400))
    assert one.fingerprint != two.fingerprint


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_bytes(bytes(range(256)) * 4)
    return path


def from_file(small, path, **more):
    return data.load(small(data={"kind": "text", "path": str(path), **more}))


def test_a_file_is_cut_into_windows_and_its_end_held_out(small, file):
    found = from_file(small, file, val_fraction=0.25)
    assert (len(found.train), len(found.val)) == (767 // 16, 255 // 16)
    inputs, targets = found.train.batch(torch.arange(len(found.train)))
    assert inputs.flatten().tolist() == list(range(256)) * 2 + list(range(240))
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert found.facts["sources"][0]["bytes"] == 1024
    assert (found.task, found.outputs, found.text) == ("language", 256, True)


def test_a_mark_at_the_begin_is_no_text(small, file):
    plain = from_file(small, file)
    train, val = plain.train.text.clone(), plain.val.text.clone()
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    marked = from_file(small, file)
    assert torch.equal(train, marked.train.text)
    assert torch.equal(val, marked.val.text)


def test_another_file_to_examine_on(small, file, tmp_path):
    other = tmp_path / "other.txt"
    other.write_bytes(b"\xef\xbb\xbf" + b"x" * 40)
    found = from_file(small, file, val_path=str(other))
    assert (len(found.train), len(found.val)) == (1023 // 16, 2)
    assert [item["path"] for item in found.facts["sources"]] == [str(file), str(other)]
    assert found.fingerprint != from_file(small, file).fingerprint


def test_the_fingerprint_follows_from_content_and_split_alone(small, file, tmp_path):
    moved = tmp_path / "elsewhere.txt"
    moved.write_bytes(file.read_bytes())
    prints = [from_file(small, file), from_file(small, moved), from_file(small, file, val_fraction=0.3)]
    moved.write_bytes(moved.read_bytes()[:-1] + b"!")
    prints.append(from_file(small, moved))
    assert [item.fingerprint == prints[0].fingerprint for item in prints] == [True, True, False, False]


def test_content_that_changes_below_a_run_is_told(small, file):
    train = from_file(small, file).train
    sent = pickle.loads(pickle.dumps(train))
    os.utime(file, (1, 1))
    train.batch(torch.tensor([0]))  # a touch does no harm
    with file.open("ab") as opened:
        opened.write(b"more")
    train.batch(torch.tensor([0]))  # nor does more at the end
    file.write_bytes(b"!" + file.read_bytes()[1:])
    with pytest.raises(RuntimeError, match=r"corpus.txt: its content has changed"):
        train.batch(torch.tensor([0]))
    with pytest.raises(RuntimeError, match=r"its content has changed"):
        sent.batch(torch.tensor([0]))


def test_a_file_that_is_cut_off_below_a_run_ends_it_with_words(small, file):
    train = from_file(small, file).train
    os.truncate(file, 3)
    with pytest.raises(RuntimeError, match=r"corpus.txt: has 3 bytes now, and had 1024"):
        train.batch(torch.tensor([50]))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"too short", "longer than this part of"),
        (b"x" * 30, "longer than this part of"),  # enough to learn from, not to examine on
        (b"\x1f\x8b\x08" + b"x" * 99, "is packed with gzip"),
        ("text".encode("utf-16") * 99, "UTF-16"),
        (None, "there is no such file"),
    ],
    ids=["empty", "only-a-mark", "too-short", "no-window-held-out", "gzip", "utf-16", "missing"],
)
def test_a_file_that_cannot_be_learned_from(small, tmp_path, content, said):
    path = tmp_path / "bad.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(spec.SpecError, match=said) as told:
        from_file(small, path)
    assert "bad.txt" in str(told.value)


def test_a_folder_is_no_file(small, tmp_path):
    with pytest.raises(spec.SpecError, match="is a folder"):
        from_file(small, tmp_path)


@pytest.mark.parametrize("kind", ["text", "stdlib-text"])
def test_scores_are_how_badly_a_window_packs(small, file, kind):
    path = {"path": str(file)} if kind == "text" else {}
    found = data.load(small(data={"kind": kind, "difficulty": "zlib", **path}))
    scores, text = found.train.scores(), bytes(found.train.text.tolist())
    expected = [len(zlib.compress(text[16 * place : 16 * place + 17], 1)) / 17 for place in range(len(found.train))]
    assert scores.tolist() == pytest.approx(expected)
    assert scores.dtype == torch.float32
    assert pickle.loads(pickle.dumps(found.train)).scores().tolist() == scores.tolist()


def test_without_difficulty_there_are_no_scores(small, file):
    assert from_file(small, file).train.scores() is None
