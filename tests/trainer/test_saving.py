"""Checkpoints beside the training: what waits for what, and what a disk that refuses and a kill leave behind."""

import errno
import os
import pickle
import threading

import pytest
import torch
from torch import nn

from trainer import sealed
from trainer.checkpoints import files
from trainer.checkpoints.writer import Writer, copied
from trainer.experiment import record
from trainer.launch import Order, launch
from trainer.log import RunLog
from trainer.loop import train
from trainer.mint import mint
from trainer.run import Run


def begun(options, root):
    run = Run(options)
    return run, mint(root, record(root, options, run.legs))


def trained(run, folder, also=lambda: None):
    with RunLog(folder) as log:
        run.start(folder, log, {})
        also()
        return train(run)


def names(folder):
    return {path.name for path in (folder / "checkpoints").iterdir()}


def notes(rows):
    return [row["text"] for row in rows if row["event"] == "note"]


# ---------------------------------------------------------------------------------------------- what waits for what


def test_steps_go_on_while_a_checkpoint_is_written_until_the_next_one(tmp_path, small, read_rows, monkeypatch):
    options = small(train={"checkpoint_every": 4, "eval_every": 0})
    run, folder = begun(options, tmp_path)
    written, seen, save = threading.Event(), [], files.save_step

    def slowly(*arguments, **named):
        assert written.wait(30)
        return save(*arguments, **named)

    advance = Run.advance

    def watched(run):
        advance(run)
        seen.append((run.step, names(folder) if (folder / "checkpoints").exists() else set()))
        if run.step == 8:  # the next save comes after this step, and waits
            threading.Timer(0.05, written.set).start()

    monkeypatch.setattr(files, "save_step", slowly)
    monkeypatch.setattr(Run, "advance", watched)
    assert trained(run, folder) is None
    assert [(step, found) for step, found in seen if step <= 8] == [(step, set()) for step in range(1, 9)]
    saved = [(row["event"], row["step"]) for row in read_rows(folder) if row["event"] in ("step", "checkpoint_saved")]
    assert saved.index(("checkpoint_saved", 4)) > saved.index(("step", 8))
    assert saved.index(("checkpoint_saved", 4)) < saved.index(("step", 9))


def test_what_later_steps_change_is_not_in_the_file():
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    state = {"model": model.state_dict(), "steps": [torch.ones(2)], "pair": (1, torch.zeros(1))}
    taken = copied(state)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state["steps"][0].zero_()
    assert all(torch.equal(value, before[name]) for name, value in taken["model"].items())
    assert not torch.equal(model.weight, before["weight"])
    assert taken["steps"][0].tolist() == [1.0, 1.0]
    assert taken["pair"] == (1, torch.zeros(1))


@pytest.mark.parametrize("background", [True, False])
def test_a_writer_gives_what_its_job_gave_or_raised(background):
    def refused():
        raise OSError(28, "No space left on device")

    writer = Writer(background=background)
    assert writer.take() is None
    writer.submit(lambda: 3)
    assert (writer.take(), writer.take()) == (3, None)
    writer.submit(refused)
    with pytest.raises(OSError, match="No space"):
        writer.take()
    writer.close()


# ------------------------------------------------------------------------------------------- a disk that refuses


def full(_data):
    raise OSError(28, "No space left on device")


class Disk:
    """Refuses to write checkpoints while it is `full`; `refuse` may also say which calls."""

    def __init__(self, monkeypatch):
        self.full = False
        write = sealed._Hashing.write

        def guarded(file, data):
            if self.full:
                file._file = type("Full", (), {"write": staticmethod(full)})()
            return write(file, data)

        monkeypatch.setattr(sealed._Hashing, "write", guarded)


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


def test_a_checkpoint_that_is_not_written_leaves_no_note_of_it(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.sealed, "stream", full)
    with pytest.raises(OSError, match="No space left"):
        files.save_step(tmp_path, {"step": 3}, value=None, note={}, best=False)
    assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("size", [1, 100_000], ids=["small", "larger-than-a-buffer"])
def test_a_full_disk_is_an_error_of_the_disk_and_leaves_the_old_file(tmp_path, disk, size):
    files.save(tmp_path, "last", {"step": 1})
    disk.full = True
    with pytest.raises(OSError, match="No space left"):
        files.save(tmp_path, "last", {"step": 2, "weights": torch.ones(size)})
    assert files.load_newest(tmp_path) == ({"step": 1}, [])
    assert names(tmp_path) == {"last.pt", "last.pt.sha256"}


@pytest.mark.parametrize("background", [True, False])
def test_a_run_goes_on_when_a_checkpoint_cannot_be_written(tmp_path, small, read_rows, read_status, disk, background):
    run, folder = begun(small(checkpoints={"background": background}), tmp_path)
    advance = run.advance

    def sometimes_full():
        disk.full = 3 <= run.step < 9
        advance()

    run.advance = sometimes_full
    assert trained(run, folder) is None
    assert read_status(folder)["state"] == "completed"
    assert any(
        "no checkpoint was written at step 4: " in text and "No space" in text for text in notes(read_rows(folder))
    )
    assert torch.load(folder / "checkpoints/last.pt", weights_only=True)["step"] == 12


def test_a_best_value_without_its_checkpoint_does_not_count(tmp_path, small, disk):
    run, folder = begun(small(train={"steps": 20}), tmp_path)
    with RunLog(folder) as log:
        run.start(folder, log, {})
        run.evaluator = lambda *_arguments, **_named: {"val_loss": values.pop(0)}
        values = [3.0, 1.0, 2.0]
        run.step = 1
        run.examine()
        run.saving.settle()
        disk.full = True
        run.step = 2
        run.examine()
        assert run.best == 1.0
        assert not run.saving.settle()
        assert run.saving.best == (3.0, 1)
        disk.full = False
        run.step = 3
        run.examine()
        assert run.saving.settle()
        assert run.saving.best == (2.0, 3)
        run.close()
    assert torch.load(folder / "checkpoints/best.pt", weights_only=True)["step"] == 3


def test_a_run_fails_honestly_when_its_last_checkpoint_cannot_be_written(tmp_path, small, read_rows, read_status, disk):
    run, folder = begun(small(), tmp_path)

    def fill():
        disk.full = True

    with pytest.raises(OSError, match="the last checkpoint could not be written"):
        trained(run, folder, fill)
    assert read_status(folder)["state"] == "failed"
    assert max(row["step"] for row in read_rows(folder, "step")) == 12
    assert not (folder / "result.json").exists()


def test_a_last_write_that_fails_once_is_tried_again(tmp_path, small, read_status, disk):
    run, folder = begun(small(), tmp_path)
    save, calls = run.save, []

    def first_of_the_last_refused(**named):
        if run.step == 12:
            calls.append(run.step)
            disk.full = len(calls) == 1
        save(**named)
        run.saving._writer._pool.submit(lambda: None).result()  # so that the disk is full for this one only
        disk.full = False

    run.save = first_of_the_last_refused
    assert trained(run, folder) is None
    assert read_status(folder)["state"] == "completed"
    assert len(calls) == 2
    assert files.load_newest(folder)[0]["step"] == 12


def test_where_the_folder_of_checkpoints_is_none_the_run_goes_on(tmp_path, small, read_rows):
    run, folder = begun(small(), tmp_path)
    (folder / "checkpoints").write_text("a file")
    with pytest.raises(OSError, match="the last checkpoint"):
        trained(run, folder)
    assert max(row["step"] for row in read_rows(folder, "step")) == 12


def test_an_old_checkpoint_that_cannot_be_removed_is_no_failed_write(tmp_path, small, read_rows, monkeypatch):
    def refuse(_one):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("trainer.checkpoints.retention.remove", refuse)
    run, folder = begun(small(), tmp_path)
    assert trained(run, folder) is None
    assert any("an old checkpoint could not be removed" in text for text in notes(read_rows(folder)))
    assert [row["step"] for row in read_rows(folder, "checkpoint_saved")] == [4, 5, 8, 10, 12]


def test_a_training_that_fails_still_tells_of_the_checkpoint_under_way(tmp_path, small, read_rows, monkeypatch):
    run, folder = begun(small(train={"eval_every": 0}), tmp_path)
    save, slow = files.save_step, threading.Event()

    def slowly(*arguments, **named):
        slow.wait(30)
        return save(*arguments, **named)

    monkeypatch.setattr(files, "save_step", slowly)
    advance = run.advance

    def breaks():
        if run.step == 6:
            slow.set()
            raise ZeroDivisionError
        advance()

    run.advance = breaks
    with pytest.raises(ZeroDivisionError):
        trained(run, folder)
    assert [row["step"] for row in read_rows(folder, "checkpoint_saved")] == [4]


# ------------------------------------------------------------------------------------------ what a kill leaves behind

LITTER = [".step-00000004.pt.ab12cd", ".last.pt.x", ".best.pt.sha256.17.0.tmp", ".step-00000004.json.17.1.tmp"]


def littered(folder):
    (folder / "checkpoints").mkdir(exist_ok=True)
    for name in (*LITTER, ".gitignore", "mine.txt"):
        (folder / "checkpoints" / name).write_text("x")


def test_the_next_save_removes_what_a_kill_has_left(tmp_path):
    littered(tmp_path)
    files.save_step(tmp_path, {"step": 5}, value=None, note={}, best=False)
    assert names(tmp_path) == {
        ".gitignore", "mine.txt", "last.pt", "last.pt.sha256",
        "step-00000005.json", "step-00000005.pt", "step-00000005.pt.sha256",
    }  # fmt: skip


@pytest.fixture
def stopped(tmp_path, small):
    """The folder of a run that was killed after step 6."""
    run, folder = begun(small(checkpoints={"keep_last": 9}), tmp_path)
    advance = run.advance

    def gone():
        if run.step == 6:
            raise KeyboardInterrupt
        advance()

    run.advance = gone
    with pytest.raises(KeyboardInterrupt):
        trained(run, folder)
    return folder


def test_so_does_resuming(tmp_path, stopped):
    littered(stopped)
    assert launch(Order(stopped, tmp_path, resume=True)) == 0
    assert not names(stopped) & set(LITTER)


def test_names_that_a_kill_left_behind_are_given_again(tmp_path, stopped, monkeypatch):
    folder = stopped / "checkpoints"
    for name in ("last", "best"):
        sealed.link(folder / f"{name}.pt", folder / "step-00000004.pt")
    at = {}
    monkeypatch.setattr(
        "trainer.launch.train", lambda _run: at.update({n: step_of(folder, n) for n in ("last", "best")})
    )
    launch(Order(stopped, tmp_path, resume=True))
    assert at == {"last": 5, "best": 5}


def step_of(folder, name):
    return files.load(folder / f"{name}.pt")["step"]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def cut(path):
    os.truncate(path, 100)


def empty(path):
    os.truncate(path, 0)


def no_hash(path):
    sealed.beside(path).unlink()


def hash_of_another(path):
    sealed.beside(path).write_text(sealed.beside(path.with_name("step-00000004.pt")).read_text())


@pytest.mark.parametrize("damage", [flip, cut, empty, no_hash, hash_of_another], ids=lambda damage: damage.__name__)
def test_a_damaged_newest_gives_way_to_the_one_before_and_that_is_said(tmp_path, stopped, read_rows, damage):
    for name in ("last.pt", "best.pt"):
        (stopped / "checkpoints" / name).unlink()
    damage(stopped / "checkpoints/step-00000005.pt")
    assert launch(Order(stopped, tmp_path, resume=True)) == 0
    said = notes(read_rows(stopped))
    assert any("step-00000005.pt" in text for text in said)
    assert any("resumed at step 4" in text for text in said)
    assert files.whole(stopped / "checkpoints/step-00000005.pt")


def test_a_copy_named_last_is_sound_where_the_newest_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", full_link)
    for step in (4, 8):
        files.save_step(tmp_path, {"step": step}, value=None, note={}, best=False)
    flip(tmp_path / "checkpoints/step-00000008.pt")
    state, troubles = files.load_newest(tmp_path)
    assert (state, len(troubles)) == ({"step": 8}, 1)


def full_link(_old, _new):
    raise OSError(95, "Operation not supported")


@pytest.mark.parametrize("links", [True, False], ids=["hard-links", "none"])
def test_last_and_best_are_names_and_survive_pruning(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", full_link)
    for step in (4, 8, 12):
        path = files.save_step(tmp_path, {"step": step}, value=1.0, note={}, best=step == 4)
    folder = tmp_path / "checkpoints"
    assert os.path.samefile(path, folder / "last.pt") is links
    for one in files.saved(tmp_path):
        files.remove(one)
    assert (step_of(folder, "last"), step_of(folder, "best")) == (12, 4)
    assert names(tmp_path) == {"last.pt", "last.pt.sha256", "best.pt", "best.pt.sha256"}


# --------------------------------------------------------------------------------------------- what is never believed


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def plainly(path, value):
    sealed.write(path, pickle.dumps(value, protocol=2))


def by_torch(path, value):
    sealed.stream(path, lambda file: torch.save({"model": value}, file))


@pytest.mark.parametrize("write", [plainly, by_torch])
def test_a_pickle_that_runs_code_is_refused(tmp_path, write):
    path = tmp_path / "last.pt"
    write(path, Malicious(tmp_path / "executed"))
    with pytest.raises(files.BadCheckpoint, match=r"last\.pt: torch cannot read it"):
        files.load(path)
    assert not (tmp_path / "executed").exists()


def test_what_is_no_state_is_refused(tmp_path):
    sealed.stream(tmp_path / "last.pt", lambda file: torch.save([1, 2], file))
    with pytest.raises(files.BadCheckpoint, match="holds list"):
        files.load(tmp_path / "last.pt")
