"""`trainer new`, and what it stands on: minting, fingerprints, and finding what is there already."""

import json
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from executed import pending

from contract import Experiment, State, config_hash, this_process
from trainer import child, fingerprints, known
from trainer.cli import main
from trainer.known import SpecError
from trainer.mint import mint
from trainer.new import Idea, new

METRIC = ["metric.name=val_err", "metric.direction=min"]


def idea(root, **over):
    return Idea(**{"experiments": root, "hypothesis": "it works", "settings": METRIC, "external": True, **over})


def record_of(folder):
    return json.loads((folder / "experiment.json").read_text())


# ------------------------------------------------------------------------------------------------ an experiment


def test_a_note_becomes_an_experiment(tmp_path):
    data = tmp_path / "data.csv"
    data.write_text("x\n1\n2\n")
    note = tmp_path / "hypothesis.md"
    note.write_text("---\nparent: null\n---\n# Hypothesis\n\nA lower rate is better.\n\n## Rationale\n- it rose\n")
    folder = new(idea(tmp_path / "e", hypothesis=str(note), data=data, tags=["a"], settings=[*METRIC, "lr=0.1"]))
    found = record_of(folder)
    assert (found["hypothesis"], found["rationale"], found["tags"]) == ("A lower rate is better.", "it rose", ["a"])
    assert (found["config"]["lr"], found["metric"]) == (0.1, {"name": "val_err", "direction": "min"})
    assert found["fingerprints"]["config"] == config_hash(found["config"])
    assert found["fingerprints"]["data"]["samples"] == 3
    assert {path.name for path in folder.iterdir()} == {"experiment.json", "environment.json", "hypothesis.md"}
    assert known.read(folder)[1] is State.PENDING


@pytest.mark.parametrize(
    "content",
    [b"claim\r\n\r\nmore of it\r\n", b"\xef\xbb\xbf# A claim\n\n- a\n- b", b"---\nparent: null\n---\nclaim \xc3\xa9"],
    ids=["crlf", "byte-order-mark", "front-matter"],
)
def test_a_note_is_kept_byte_for_byte(tmp_path, content):
    (tmp_path / "idea.md").write_bytes(content)
    assert (new(idea(tmp_path, hypothesis=str(tmp_path / "idea.md"))) / "hypothesis.md").read_bytes() == content


def test_a_hypothesis_that_was_typed_is_no_note(tmp_path):
    assert not (new(idea(tmp_path)) / "hypothesis.md").exists()


def test_a_note_may_name_the_parent(tmp_path):
    new(idea(tmp_path, settings=[*METRIC, "lr=0.1"]))
    note = tmp_path / "next.md"
    note.write_text("---\nparent: 'exp-001'\n---\nA higher rate is better.\n")
    found = record_of(new(idea(tmp_path, hypothesis=str(note), settings=["lr=0.2"])))
    assert (found["parent"], found["config"]["lr"], found["hypothesis"]) == (
        "exp-001", 0.2, "A higher rate is better.",
    )  # fmt: skip


def test_a_child_is_trained_on_its_parents_data(tmp_path):
    data = tmp_path / "data.csv"
    data.write_text("1\n")
    parent = record_of(new(idea(tmp_path / "e", data=data)))
    data.write_text("2\n")
    found = record_of(new(idea(tmp_path / "e", parent=Path("exp-001"), settings=[])))["fingerprints"]["data"]
    assert found["path"] == str(data)
    assert found["hash"] != parent["fingerprints"]["data"]["hash"]  # as it is now


@pytest.mark.parametrize("named", ["exp-001", "{root}/exp-001", "."], ids=["id", "path", "here"])
def test_a_parent_may_be_named_in_several_ways(tmp_path, monkeypatch, named):
    monkeypatch.chdir(new(idea(tmp_path)))
    folder = new(idea(tmp_path, parent=Path(named.format(root=tmp_path)), settings=[]))
    assert record_of(folder)["parent"] == "exp-001"


def test_a_child_lies_beside_its_parent_unless_told_otherwise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    new(idea(tmp_path / "e"))
    assert main(["new", "--external", "--parent", str(tmp_path / "e/exp-001"), "--set", "lr=0.2"]) == 0
    found = record_of(tmp_path / "e/exp-002")
    assert (found["parent"], found["hypothesis"]) == ("exp-001", "exp-001 with lr = 0.2")


@pytest.mark.parametrize("words", [[], ["--tag", "a"], ["--set", "name=mine"]], ids=["nothing", "a-tag", "a-name"])
def test_a_child_without_a_change_has_a_hypothesis_of_its_own(tmp_path, capsys, words):
    new(idea(tmp_path))
    asked = ["new", "--external", "--parent", "exp-001", "--experiments", str(tmp_path), *words]
    assert main(asked) == 2
    assert "no hypothesis: say with --hypothesis" in capsys.readouterr().err
    assert not (tmp_path / "exp-002").exists()
    assert main([*asked, "--hypothesis", "it was chance"]) == 0
    assert record_of(tmp_path / "exp-002")["hypothesis"] == "it was chance"


SENTENCE = "better than in notes.md"

WRONG = {
    "no-hypothesis": ({"hypothesis": ""}, "no hypothesis: say with --hypothesis"),
    "no-such-note": ({"hypothesis": "nowhere.md"}, "--hypothesis nowhere.md: the note cannot be read"),
    "an-empty-note": ({"hypothesis": "{here}/empty.md"}, "the note says nothing"),
    "a-note-that-is-no-text": ({"hypothesis": "{here}/bytes.md"}, "the note cannot be read"),
    "no-such-parent": ({"parent": Path("exp-002")}, "no experiment of that name"),
    "a-parent-elsewhere": ({"parent": Path("{here}/other/exp-001")}, "a child lies beside its parent"),
    "a-metric-without-direction": ({"settings": ["metric.name=a"]}, "metric.direction: is missing"),
    "no-metric": ({"settings": []}, "metric: is missing"),
    "an-unknown-budget": ({"settings": [*METRIC, "budget.wall_minuts=3"]}, "did you mean budget.wall_minutes?"),
    "a-budget-of-nothing": ({"settings": [*METRIC, "budget.wall_minutes=0"]}, "budget.wall_minutes = 0"),
    "no-such-data": ({"data": Path("nowhere")}, "--data nowhere: cannot be read"),
    "data-of-our-own-trainer": ({"external": False, "settings": ["train.steps=5"], "data": Path()}, "--data"),
    "a-spec-of-our-own-trainer": ({"external": False, "settings": ["lr=1"]}, "lr = 1: there is no such key"),
    "a-place-that-is-a-file": ({"experiments": "{here}/empty.md"}, "no experiment can be created there"),
}


@pytest.mark.parametrize(("over", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_and_nothing_is_created(tmp_path, over, said):
    (tmp_path / "empty.md").write_text("---\na: b\n---\n\n")
    (tmp_path / "bytes.md").write_bytes(b"\xff\xfe\x00")
    new(idea(tmp_path / "other"))
    there = sorted(tmp_path.rglob("*"))
    filled = {
        key: type(value)(str(value).format(here=tmp_path)) if key in ("parent", "hypothesis", "experiments") else value
        for key, value in over.items()
    }
    with pytest.raises(SpecError) as caught:
        new(idea(Path(filled.pop("experiments", tmp_path / "e")), **filled))
    assert said in str(caught.value)
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in there] in ([], [tmp_path / "e"])


def test_a_sentence_may_end_in_the_name_of_a_file(tmp_path):
    assert record_of(new(idea(tmp_path, hypothesis=SENTENCE)))["hypothesis"] == SENTENCE


def test_an_experiment_of_our_own_trainer_is_minted_pending_and_run_later(tmp_path, small_toml, capsys):
    words = ["--experiments", str(tmp_path / "e")]
    assert main(["new", "--hypothesis", "small is enough", "--spec", str(small_toml), *words]) == 0
    assert "next: trainer run" in capsys.readouterr().out
    assert record_of(tmp_path / "e/exp-001")["total_steps"] == 12
    assert main(["run", "exp-001", *words]) == 0
    assert (tmp_path / "e/exp-001/result.json").exists()


# ------------------------------------------------------------------------------------------------ minting


def _mint(root):
    return mint(root, Experiment(id="", created_at="")).name


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_a_reader_that_goes_away_is_no_error(tmp_path, unbuffered):
    sets = [f"--set={setting}" for setting in METRIC]
    words = ["new", "--external", "--hypothesis", "h", *sets, "--experiments", str(tmp_path)]
    inside, outside = os.pipe()
    os.close(inside)
    done = subprocess.run(
        [sys.executable, "-m", "trainer", *words],
        cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONUNBUFFERED": unbuffered}, stdout=outside,
        stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(outside)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "exp-001/experiment.json").exists()


def test_fifty_at_once_get_fifty_folders_with_records_of_their_own(tmp_path):
    with ProcessPoolExecutor(8, get_context("fork")) as pool:
        names = list(pool.map(_mint, [tmp_path] * 50))
    assert sorted(names) == [f"exp-{number:03d}" for number in range(1, 51)]
    assert all(record_of(tmp_path / name)["id"] == name for name in names)


def test_a_folder_without_a_record_is_not_left_behind(tmp_path, monkeypatch):
    def full(path, _data):
        if path.name == "experiment.json":
            raise OSError(28, "No space left on device", str(path))
        path.write_text("{}")

    monkeypatch.setattr("trainer.mint.replace", full)
    with pytest.raises(OSError, match="No space"):
        mint(tmp_path, Experiment(id="", created_at=""), b"a note")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------ a child's words


@pytest.mark.parametrize(
    ("changes", "name", "hypothesis"),
    [
        ([], "", "exp-007 once more, with nothing changed"),
        (["lr=0.2"], "lr = 0.2", "exp-007 with lr = 0.2"),
        (["lr = 0.2", "seed=3"], "lr = 0.2, seed = 3", "exp-007 with lr = 0.2, seed = 3"),
        (["name=mine"], "", "exp-007 once more, with nothing changed"),
    ],
    ids=["nothing", "one", "two", "its-name"],
)
def test_a_childs_words_are_about_the_change(changes, name, hypothesis):
    config = {"lr": 0.1, "rehearsal": {"sigkill_at_step": 3}}
    parent = Experiment(id="exp-007", created_at="", hypothesis="old", rationale="old", config=config)
    found = child.settings(parent, None, changes)
    assert (found["name"], found["hypothesis"], found["rationale"]) == (name, hypothesis, "")
    assert (found["parent"], found["lr"], "rehearsal" in found) == ("exp-007", 0.1, False)


# ------------------------------------------------------------------------------------------------ what is there


def test_near_names_are_suggested(tmp_path):
    for name in ("exp-001", "exp-002", "warmup"):
        pending(tmp_path, name)
    with pytest.raises(SpecError, match="did you mean warmup"):
        known.find(Path("warmpu"), tmp_path)
    with pytest.raises(SpecError, match=r"in \S+nowhere$"):
        known.find(Path("exp-001"), tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "has no experiment.json"),
        ("{", "not valid JSON"),
        ("[]", "expected one JSON object"),
        ('{"v": 2}', "is written in format 2, this trainer knows up to 1; upgrade it"),
    ],
    ids=["none", "half", "a-list", "newer"],
)
def test_a_folder_that_is_no_experiment_is_told(tmp_path, text, said):
    if text is not None:
        (tmp_path / "experiment.json").write_text(text)
    with pytest.raises(SpecError, match=said):
        known.read_record(tmp_path)


KINDS = {
    "metric-a-text": ('"metric": "loss"', ["metric = 'loss': must be an object with name and direction"]),
    "metric-of-numbers": (
        '"metric": {"name": 1, "direction": []}',
        ["metric.name = 1: must be a text", "metric.direction = []: must be a text"],
    ),
    "config-a-list": ('"config": [1, 2]', ["config = [1, 2]: must be an object"]),
    "tiers-a-list": ('"tiers": []', ["tiers = []: must be an object"]),
    "a-tier-in-words": ('"tiers": {"must_pass": "low"}', ["tiers.must_pass = 'low': must be a number"]),
    "budget-a-list": ('"budget": [5]', ["budget = [5]: must be an object"]),
    "a-budget-of-true": ('"budget": {"steps": true}', ["budget.steps = True: must be a number"]),
    "schedule-a-text": ('"schedule": "cosine"', ["schedule = 'cosine': must be an object"]),
    "fingerprints-a-text": ('"fingerprints": "x"', ["fingerprints = 'x': must be an object"]),
    "parent-a-number": ('"parent": 5', ["parent = 5: must be a text"]),
    "tags-a-text": ('"tags": "x"', ["tags = 'x': must be a list of texts"]),
    "tags-of-numbers": ('"tags": [1]', ["tags = [1]: must be a list of texts"]),
    "half-a-step": ('"total_steps": 1.5', ["total_steps = 1.5: must be a whole number"]),
    "true-epochs": ('"total_epochs": true', ["total_epochs = True: must be a whole number"]),
    "two": ('"id": 1, "hypothesis": {}', ["id = 1: must be a text", "hypothesis = {}: must be a text"]),
}


@pytest.mark.parametrize(("text", "said"), KINDS.values(), ids=KINDS)
def test_a_value_of_the_wrong_kind_is_told(tmp_path, text, said):
    (tmp_path / "experiment.json").write_text(f"{{{text}}}")
    with pytest.raises(SpecError) as caught:
        known.read_record(tmp_path)
    first = f"{tmp_path / 'experiment.json'}: {len(said)} thing(s) to correct"
    assert str(caught.value).split("\n  ") == [first, *said]


COMMANDS = {
    "run": ["run", "exp-001"],
    "eval": ["eval", "exp-001"],
    "child": ["new", "--external", "--parent", "exp-001", "--hypothesis", "h"],
    "exec": ["exec", "exp-001"],
    "abort": ["abort", "exp-001"],
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_no_command_stumbles_over_a_record(tmp_path, capsys, words):
    pending(tmp_path, metric="loss", config=[1, 2], fingerprints={})
    program = ["--", "true"] if words[0] == "exec" else []
    assert main([*words, "--experiments", str(tmp_path), *program]) == 2
    assert "experiment.json: 2 thing(s) to correct\n  config = [1, 2]" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["a-pipe", "a-folder", "too-large"])
def test_a_record_is_a_regular_file_of_a_decent_size(tmp_path, kind):
    path = tmp_path / "experiment.json"
    if kind == "a-pipe":
        os.mkfifo(path)
    elif kind == "a-folder":
        path.mkdir()
    else:
        path.touch()
        os.truncate(path, (1 << 24) + 1)
    with pytest.raises(SpecError, match="is no regular file of at most 16,777,216 bytes"):
        known.read_record(tmp_path)


def test_a_record_is_read_whatever_else_is_in_it(tmp_path):
    text = '{"id": "x", "new_field": 1, "tags": null, "tiers": {"must_pass": null, "could_pass": "Infinity", "a": []}}'
    (tmp_path / "experiment.json").write_text(text)
    assert known.read_record(tmp_path).tags == ()


ME = this_process().__dict__

PROCESSES = {
    "this-one": (ME, True, False),
    "a-reused-pid": ({**ME, "started": 1}, False, True),
    "gone": ({**ME, "pid": 2**22 + 1}, False, True),
    "before-the-machine-started": ({**ME, "boot_id": "another"}, False, True),
    "on-another-machine": ({**ME, "host": "elsewhere"}, False, False),
    "without-a-boot": ({**ME, "boot_id": None}, False, False),
    "without-a-start": ({**ME, "started": None}, False, False),
    "without-a-pid": ({**ME, "pid": None}, False, False),
    "a-text": ("1234", False, False),
    "none": (None, False, False),
}


@pytest.mark.parametrize(("process", "living", "gone"), PROCESSES.values(), ids=PROCESSES)
def test_what_is_known_about_a_process(process, living, gone):
    assert (bool(known.living(process)), known.gone(process)) == (living, gone)


# ------------------------------------------------------------------------------------------------ trainer abort

ABORTS = {
    "gone": ({"state": "running", "process": {**ME, "started": 1}}, [], None),
    "before-the-machine-started": ({"state": "running", "process": {**ME, "boot_id": "another"}}, [], None),
    "elsewhere-by-force": ({"state": "running", "process": {**ME, "host": "elsewhere"}}, ["--force"], None),
    "elsewhere": ({"state": "running", "process": {**ME, "host": "elsewhere"}}, [], "on host 'elsewhere'"),
    "no-process": (
        {"state": "running"},
        [],
        "names no process, so nobody here can tell whether it still runs",
    ),
    "no-pid": (
        {"state": "running", "process": {**ME, "pid": None}},
        [],
        "if you are sure that it is gone, use",
    ),
    "no-process-by-force": ({"state": "running"}, ["--force"], None),
    "alive": ({"state": "running", "process": ME}, [], "ask it to stop first: checker kill"),
    "alive-by-force": ({"state": "running", "process": ME}, ["--force"], "ask it to stop first: checker kill"),
    "pending": (None, [], "a run that is pending cannot become aborted: after pending comes only running"),
    "completed": ({"state": "completed"}, ["--force"], "a run that is completed cannot become aborted"),
    "aborted": ({"state": "aborted"}, [], "a run that is aborted cannot become aborted"),
    "half-saved": ("{", [], "not valid JSON"),
}


@pytest.mark.parametrize(("document", "words", "said"), ABORTS.values(), ids=ABORTS)
def test_abort(tmp_path, capsys, document, words, said):
    folder = pending(tmp_path)
    status = folder / "training_status.json"
    if document is not None:
        full = {**document, "kill": "x", "mine": 7, "notes": ["before"]} if isinstance(document, dict) else document
        status.write_text(full if isinstance(full, str) else json.dumps(full))
    before = status.read_text() if status.exists() else None
    answer = main(["abort", "exp-001", "--experiments", str(tmp_path), *words, "--reason", "power cut"])
    if said is None:
        found = json.loads(status.read_text())
        assert (answer, found["state"], found["is_training"], found["error"]) == (0, "aborted", False, "power cut")
        assert (found["kill"], found["mine"], found["notes"]) == ("x", 7, ["before", "aborted: power cut"])
    else:
        assert answer == 2
        assert said in capsys.readouterr().err
        assert (status.read_text() if status.exists() else None) == before


# ------------------------------------------------------------------------------------------------ fingerprints


@pytest.fixture
def checkout(tmp_path):
    """A git checkout with one Python file, made with nobody's settings."""

    def git(*words):
        quiet = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, env=quiet, check=True, capture_output=True)

    (tmp_path / "code.py").write_text("a = 1\n")
    git("init")
    git("add", "code.py")
    git("commit", "-m", "first")
    return tmp_path


def test_a_clean_checkout_is_its_commit(checkout):
    found = fingerprints.code(checkout)
    assert (len(found["commit"]), found["dirty"]) == (40, None)


@pytest.mark.parametrize(
    ("name", "dirty"),
    [("code.py", True), ("new.py", True), ("notes.txt", False), ("experiments/exp-001/x.py", False)],
    ids=["changed", "untracked", "no-code", "an-experiment"],
)
def test_only_changes_of_the_code_count(checkout, name, dirty):
    (checkout / name).parent.mkdir(parents=True, exist_ok=True)
    (checkout / name).write_text("b = 2\n")
    assert (fingerprints.code(checkout, without=checkout / "experiments")["dirty"] is not None) == dirty


def test_a_change_has_a_fingerprint_of_its_own(checkout):
    found = set()
    for text in ("b = 2\n", "b = 3\n"):
        (checkout / "new.py").write_text(text)
        found.add(fingerprints.code(checkout)["dirty"])
    (checkout / "new.py").rename(checkout / "newer.py")
    assert len({*found, fingerprints.code(checkout)["dirty"]}) == 3


@pytest.mark.parametrize("git", [True, False], ids=["untracked", "without-git"])
def test_the_fingerprint_knows_in_which_folder_a_file_lies(checkout, monkeypatch, git):
    if not git:
        monkeypatch.setattr(fingerprints, "_git", lambda *_: None)
    for name in ("a", "b"):
        (checkout / name).mkdir()
    (checkout / "a/new.py").write_text("b = 2\n")
    before = fingerprints.code(checkout)
    (checkout / "a/new.py").rename(checkout / "b/new.py")
    assert fingerprints.code(checkout) != before


@pytest.mark.parametrize("slow", ["rev-parse", "diff", "ls-files"])
def test_a_git_that_takes_too_long_leaves_it_unknown(checkout, monkeypatch, slow):
    run = subprocess.run

    def limited(command, **options):
        if slow in command:
            raise subprocess.TimeoutExpired(command, 10)
        return run(command, **options)

    commit = fingerprints.code(checkout)["commit"]
    monkeypatch.setattr(subprocess, "run", limited)
    expected = "unknown" if slow == "rev-parse" else commit
    assert fingerprints.code(checkout) == {"commit": expected, "dirty": "unknown"}


@pytest.mark.parametrize(("files", "cut"), [(3, False), (4, True)], ids=["as-many-as-are-hashed", "one-more"])
def test_too_many_sources_are_said_to_be_cut(tmp_path, monkeypatch, files, cut):
    monkeypatch.setattr(fingerprints, "_git", lambda *_: None)
    monkeypatch.setattr(fingerprints, "_MOST_SOURCES", 3)
    for number in range(files):
        (tmp_path / f"{number}.py").write_text("")
    assert fingerprints.code(tmp_path).get("sources_cut", False) is cut


def test_without_git_the_sources_are_hashed(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprints, "_git", lambda *_: None)
    (tmp_path / "code.py").write_text("a = 1\n")
    before = fingerprints.code(tmp_path)
    for skipped in (".venv/lib", "env", "node_modules", "experiments"):
        (tmp_path / skipped).mkdir(parents=True)
        (tmp_path / skipped / "x.py").write_text("x")
    (tmp_path / "env/pyvenv.cfg").write_text("")
    assert fingerprints.code(tmp_path, without=tmp_path / "experiments") == before
    (tmp_path / "code.py").write_text("a = 2\n")
    assert fingerprints.code(tmp_path, without=tmp_path / "experiments") != before


@pytest.mark.parametrize(
    ("name", "content", "samples"),
    [("a.csv", b"x\n1\n2\n", 3), ("a.jsonl", b"{}\n{}", 2), ("a.txt", b"", 0), ("a.parquet", b"1\n2\n", None)],
    ids=["csv", "no-last-newline", "empty", "binary"],
)
def test_samples_of_a_data_file(tmp_path, name, content, samples):
    (tmp_path / name).write_bytes(content)
    assert fingerprints.data(tmp_path / name)["samples"] == samples


def test_the_hash_of_a_folder_knows_names_and_contents(tmp_path):
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/a").write_text("1")
    found = [fingerprints.data(folder)]
    (folder / "sub/a").rename(folder / "b")
    found.append(fingerprints.data(folder))
    (folder / "b").write_text("2")
    found.append(fingerprints.data(folder))
    assert len({item["hash"] for item in found}) == 3
    assert {item["samples"] for item in found} == {1}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({"config": "a"}, {"config": "a"}, []),
        ({"config": "a"}, {}, ["config has changed: it was a, now it is None"]),
        ({}, {"config": "a"}, []),
        ({"environment": {"python": "3.11"}}, {"environment": {"python": "3.12"}}, []),
        (
            {"code": {"commit": "c" * 40, "dirty": None}},
            {"code": {"commit": "c" * 40, "dirty": "d"}},
            [f"code has changed: it was commit {'c' * 16}, now it is commit {'c' * 16}, dirty d"],
        ),
    ],
    ids=["same", "gone", "not-recorded", "environment-may-change", "dirty-since"],
)
def test_what_has_changed_is_told(before, after, said):
    assert fingerprints.mismatches(before, after) == said


def test_the_environment_names_what_matters_and_hides_nothing():
    found = fingerprints.environment()
    assert {"python", "platform", "torch", "packages"} <= set(found)
    assert "torch" in fingerprints.packages()
