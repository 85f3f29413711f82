import json
from pathlib import Path

import pytest

from trainer import spec
from trainer.spec.keys import sections


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"modle": {}}, "modle = {}: there is no such key; did you mean model?"),
        ({"model": {"layrs": 4}}, "model.layrs = 4: there is no such key; did you mean model.layers?"),
        ({"lr": 1e-3}, "lr = 0.001: there is no such key; did you mean optimizer.lr?"),
        ({"optimizer": {"lr": -1.0}}, "optimizer.lr = -1.0: input should be greater than or equal to 0"),
        (
            {"optimizer": {"kind": "adamW"}},
            "input should be 'adamw', 'adam', 'sgd', 'lion' or 'muon'; did you mean 'adamw'?",
        ),
        ({"optimizer": {"lr": "fast"}}, "optimizer.lr = 'fast': input should be a valid number"),
        ({"optimizer": {"lr": float("nan")}}, "optimizer.lr = nan: input should be a finite number"),
        ({"optimizer": {"betas": [0.9, 1.0]}}, "optimizer.betas.1 = 1.0: input should be less than 1"),
        ({"model": {"width": 30, "heads": 4}}, "model: width 30 is not a multiple of heads 4"),
        ({"train": {"steps": True}}, "train.steps = True: input should be a valid integer"),
        ({"train": {"steps": 3, "epochs": 3}}, "train: give either steps or epochs"),
        ({"train": {"batch_size": 4}}, "train: give either steps or epochs"),
        ({"schedule": {"warmup_steps": 9, "decay_steps": 9}}, "schedule: warmup_steps 9 leave nothing of"),
        ({"metric": {"name": "val_accuracy"}}, 'direction of val_accuracy is "max", not "min"'),
        ({"device": "gpu"}, """device = 'gpu': give "auto", "cpu", "cuda", or "cuda:1" for one of several"""),
        ({"metric": {"name": "loss"}}, """metric.name = 'loss': begins with "val_\""""),
        ({"steps": 5}, "steps = 5: there is no such key; did you mean train.steps or budget.steps"),
        ({"model": {"batch_size": 5}}, "model.batch_size = 5: there is no such key; did you mean train.batch_size?"),
        ({"colour": "red"}, "colour = 'red': there is no such key"),
        ({"model": {"kind": "mlp", "heads": 2}}, "model.heads = 2: is a key of kind gpt, and this is mlp"),
        ({"model": {"channels": [2]}}, "model.channels = [2]: is a key of kind cnn, and this is gpt"),
        (
            {"data": {"kind": "a:b", "path": "x"}},
            "data.path = 'x': is a key of kind text or jsonl or csv, and this is a:b",
        ),
        (
            {"data": {"kind": "digits", "options": {}}},
            "data.options = {}: is a key of kind your own, and this is digits",
        ),
        (
            {"data": {"kind": "mixture", "sources": [{}, {"kind": "text", "path": "x", "max_bytes": 300}]}},
            "data.sources.1.max_bytes = 300: is a key of kind stdlib-text, and this is text",
        ),
        ({"data": {"kind": "mixture", "sources": [{}]}}, "data.sources = [{}]: has at least 2 item(s)"),
        (
            {"model": {"kind": "gtp"}},
            "model.kind = 'gtp': there is no such kind; known are gpt, mlp, cnn, and your own",
        ),
        ({"model": {"kind": 3}}, "model.kind = 3: there is no such kind"),
        ({"model": {"kind": "m:"}}, "model.kind = 'm:': your own code is named as package.module:name"),
        ({"model": "gpt"}, "model = 'gpt': is a table: [model]"),
        ({"train": 3}, "train = 3: is a table: [train]"),
        ({"task": "clasification"}, "or your own as package.module:name; did you mean 'classification'?"),
        (
            {"optimizer": {"groups": [{"match": "a"}, {"match": "("}]}},
            "optimizer.groups.1.match = '(': is not a regular",
        ),
        ({"optimizer": {"groups": [{"match": "a", "lr": 2}]}}, "optimizer.groups.0.lr = 2: there is no such key; did"),
        (
            {"optimizer": {"groups": {"match": "a"}}},
            "optimizer.groups = {'match': 'a'}: is a list of tables: [[optimizer.",
        ),
        ({"optimizer": {"betas": 0.9}}, "optimizer.betas = 0.9: is a list: […]"),
        ({"stages": {"name": "a"}}, "stages = {'name': 'a'}: is a list of tables: [[stages]]"),
        ({"stages": [{"kind": "eval"}]}, "stages.0.name: is missing"),
        (
            {"stages": [{"name": "a", "kind": "pre"}]},
            "stages.0.kind = 'pre': input should be 'pretrain', 'finetune' or",
        ),
        ({"frozen": [{"match": "x"}]}, "frozen.0.until_step: is missing"),
        ({"lora": {"targets": "head"}}, "lora.targets = 'head': is a list: […]"),
        ({"lora": {"targets": []}}, "lora.targets = []: has at least 1 item(s)"),
        (
            {"callbacks": {"step_end": ["f"]}},
            "callbacks.step_end.0 = 'f': your own code is named as package.module:name",
        ),
        ({"evaluate": {"metrics": ["recal"]}}, "evaluate.metrics.0 = 'recal': input should be"),
        ({"mirrors": ["wand"]}, "did you mean 'wandb'?"),
        ({"warm_start": {"source": ""}}, "warm_start.source = '': is empty"),
        ({"schedule": {"kind": "one-cycle", "warmup_steps": 3}}, "schedule: one-cycle has a rise of its own"),
        ({"data": {"kind": "csv", "path": "x"}}, "data: name either text"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_fault_is_named_with_place_value_and_remedy(document, said):
    with pytest.raises(spec.SpecError) as caught:
        spec.build({"train": {"steps": 1}} | document, where="x.toml")
    first, *faults = str(caught.value).splitlines()
    assert first == "x.toml: 1 thing(s) to correct"
    assert len(faults) == 1
    assert said in faults[0]


def test_a_fault_below_is_not_told_again_above():
    sources = [{"kind": "text"}, {"kind": "txt"}]
    with pytest.raises(spec.SpecError) as caught:
        spec.build({"train": {"steps": 1}, "data": {"kind": "mixture", "sources": sources}}, where="x.toml")
    _, *faults = str(caught.value).splitlines()
    assert [fault.split(":")[0].strip() for fault in faults] == ["data.sources.0.path", "data.sources.1.kind = 'txt'"]


def test_a_key_that_is_misspelled_in_a_list_is_named_with_its_number():
    with pytest.raises(spec.SpecError, match=r"groups\.1\.macth = 'b': .*; did you mean optimizer\.groups\.1\.match\?"):
        spec.build({"train": {"steps": 1}, "optimizer": {"groups": [{"match": "a"}, {"macth": "b"}]}}, where="x.toml")


def test_all_faults_are_listed_at_once():
    with pytest.raises(spec.SpecError) as caught:
        spec.build({"modle": {}, "optimizer": {"lr": -1}, "train": {"batchsize": 3}}, where="x.toml")
    text = str(caught.value)
    assert text.startswith("x.toml: 3 thing(s) to correct")
    assert len(text.splitlines()) == 4


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _path: None, "there is no such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "is not text (byte 0"),
        (lambda path: path.write_text("a = 1\nb = = 2\n"), "is not valid TOML: Invalid value (at line 2, column 5)"),
    ],
    ids=["missing", "folder", "binary", "toml"],
)
def test_a_file_that_is_no_spec_gets_one_sentence(tmp_path, make, said):
    make(tmp_path / "x.toml")
    with pytest.raises(spec.SpecError) as caught:
        spec.load(tmp_path / "x.toml")
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("setting", "document"),
    [
        ("optimizer.lr=1e-3", {"optimizer": {"lr": 1e-3}}),
        ("name=long run", {"name": "long run"}),
        ('name="quoted"', {"name": "quoted"}),
        ("optimizer.betas=[0.9, 0.99]", {"optimizer": {"betas": [0.9, 0.99]}}),
        ("train.compile=true", {"train": {"compile": True}}),
    ],
    ids=["float", "bare", "string", "array", "bool"],
)
def test_settings_are_toml_or_bare_words(setting, document):
    assert spec.parsed_setting(setting) == document


@pytest.mark.parametrize("setting", ["optimizer.lr", "=3", "a..b=3"])
def test_a_setting_without_key_or_value_is_explained(setting):
    with pytest.raises(spec.SpecError, match=r"key\.path=value"):
        spec.parsed_setting(setting)


def test_overlays_and_settings_lie_on_top_in_that_order(tmp_path, small_toml):
    note = tmp_path / "next.md"
    note.write_text("# Next\n\n```toml\n[optimizer]\nlr = 0.5\nkind = 'sgd'\n```\n\n```toml\nname = 'second'\n```\n")
    found = spec.load(small_toml, overlay=note, settings=["optimizer.lr=0.25", "train.epochs=2"])
    assert (found.optimizer.lr, found.optimizer.kind, found.name) == (0.25, "sgd", "")
    assert (found.train.steps, found.train.epochs) == (None, 2)


def test_line_numbers_in_markdown_count_from_the_top_of_the_file(tmp_path):
    note = tmp_path / "next.md"
    note.write_text("# Next\n\n```toml\n[optimizer]\nlr = = 1\n```\n")
    with pytest.raises(spec.SpecError, match="at line 5"):
        spec.read_toml(note)


def test_markdown_without_a_toml_block_is_explained(tmp_path):
    (tmp_path / "next.md").write_text("nothing to do")
    with pytest.raises(spec.SpecError, match="no block that starts with ```toml"):
        spec.read_toml(tmp_path / "next.md")


@pytest.mark.parametrize("order", [1, -1], ids=["kind-last", "kind-first"])
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["model.width=32", "model.kind=mlp"], {"kind": "mlp", "width": 32}),
        (["model.options={wide=3}", "model.kind=a:B"], {"kind": "a:B", "options": {"wide": 3}}),
        (["model.layers=7", "model.kind=gpt"], {"kind": "gpt", "layers": 7, "context": 16, "heads": 2, "width": 16}),
    ],
    ids=["another-kind", "own-kind", "the-same-kind"],
)
def test_settings_may_come_in_any_order(small_toml, settings, expected, order):
    found = spec.load(small_toml, settings=settings[::order])
    assert found.model.model_dump(include=expected.keys()) == expected


@pytest.mark.parametrize(
    ("below", "above", "expected"),
    [
        ({}, {"model": {"kind": "mlp"}}, {"model": {"kind": "mlp"}}),
        ({"model": {"heads": 2}}, {"model": {"width": 8}}, {"model": {"heads": 2, "width": 8}}),
        ({"model": {"heads": 2}}, {"model": {"kind": "gpt"}}, {"model": {"heads": 2, "kind": "gpt"}}),
        ({"model": {"heads": 2}}, {"model": {"kind": "mlp", "width": 3}}, {"model": {"kind": "mlp", "width": 3}}),
        ({"data": {"kind": "text", "path": "x"}}, {"data": {"kind": "digits"}}, {"data": {"kind": "digits"}}),
        (
            {"optimizer": {"kind": "sgd", "momentum": 0.5}},
            {"optimizer": {"kind": "muon"}},
            {"optimizer": {"kind": "muon", "momentum": 0.5}},
        ),
        ({"frozen": [{"match": "a"}, {"match": "b"}]}, {"frozen": [{"match": "c"}]}, {"frozen": [{"match": "c"}]}),
        ({"train": {"steps": 3, "epochs": None}}, {"train": {"epochs": 2}}, {"train": {"epochs": 2}}),
        ({"train": {"epochs": 3}}, {"train": {"steps": 2}}, {"train": {"steps": 2}}),
        ({"budget": {"steps": 3}}, {"train": {"epochs": 2}}, {"budget": {"steps": 3}, "train": {"epochs": 2}}),
    ],
    ids=[
        "nothing-below", "same-table", "same-kind-by-name", "another-kind", "another-kind-of-data",
        "kinds-that-share-their-keys", "lists-are-replaced", "epochs-for-steps", "steps-for-epochs", "another-table",
    ],
)  # fmt: skip
def test_what_lies_above_counts(below, above, expected):
    assert spec.laid_over(below, above) == expected


FULL = {
    "name": "everything", "tags": ["a", "b"], "tiers": {"must_pass": 2.0}, "budget": {"steps": 9},
    "task": "own.code:losses", "seed": 3, "device": "cuda:1", "deterministic": True, "mirrors": ["wandb"],
    "model": {"kind": "own.code:Net", "options": {"depth": 3, "names": ["x"]}, "context": 8},
    "lora": {"targets": ["head", r"blocks\.0\."]},
    "data": {
        "kind": "mixture",
        "sources": [
            {"kind": "text", "path": "a.txt", "weight": 3.0, "difficulty": "zlib"},
            {"kind": "jsonl", "path": "b.jsonl", "text": "body", "bad_records": "skip"},
            {"kind": "csv", "path": "c.csv", "features": ["x", "y"], "target": "z", "normalize": True},
            {"kind": "own.code:load", "options": {"size": 3}},
            {"kind": "digits"},
            {},
        ],
    },
    "loading": {"workers": 2},
    "optimizer": {"kind": "muon", "betas": [0.8, 0.9], "groups": [{"match": "head", "weight_decay": 0.0}]},
    "schedule": {"kind": "wsd", "warmup_steps": 3, "decay_steps": 8},
    "train": {"epochs": 3, "precision": "bf16", "trainable": ["head"]},
    "warm_start": {"source": "similar"}, "ema": {"decay": 0.9}, "curriculum": {"kind": "step"},
    "mining": {"keep_ratio": 0.25},
    "frozen": [{"match": "blocks", "until_step": 3}],
    "stages": [{"name": "one", "train": {"steps": 3}}, {"name": "two", "kind": "eval", "data": {"kind": "digits"}}],
    "evaluate": {"metrics": ["f1", "auroc"]}, "metric": {"name": "val_f1", "direction": "max"},
    "checkpoints": {"keep_last": 3}, "callbacks": {"step_end": ["own.code:tell"]}, "distributed": {"strategy": "fsdp"},
    "rehearsal": {"sigkill_at_step": 3, "expect": "crash"},
}  # fmt: skip
"""A spec that uses every table."""

ZOO = sorted((Path(__file__).parents[2] / "experiments/zoo").glob("*.toml"))


def test_the_full_spec_leaves_out_no_table():
    said = {name for name, field in spec.Spec.model_fields.items() if any(sections(field.annotation))}
    assert said <= FULL.keys()


@pytest.mark.parametrize(
    "document", [FULL, *(spec.read_toml(path) for path in ZOO)], ids=["full", *(path.stem for path in ZOO)]
)
def test_a_spec_survives_the_way_through_json(document):
    built = spec.build(document, where="")
    again = spec.build(json.loads(json.dumps(built.model_dump(mode="json"))), where="")
    assert again == built
    config = json.loads(json.dumps(spec.config(built)))
    assert spec.config(spec.build(config, where="")) == config


SECTIONS = "## exp-006.1\n\n```toml\n[train]\nsteps = 1\n```\n\n## exp-006.2\n\n```toml\n[train]\nsteps = 2\n```\n"


@pytest.mark.parametrize(("section", "steps"), [("", 1), ("#exp-006.1", 1), ("#exp-006.2", 2)])
def test_a_section_of_a_note_is_chosen_by_name(tmp_path, section, steps):
    (tmp_path / "next.md").write_text(SECTIONS)
    assert spec.read_toml(tmp_path / f"next.md{section}") == {"train": {"steps": steps}}


def test_an_unknown_section_is_named_with_those_there_are(tmp_path):
    (tmp_path / "next.md").write_text(SECTIONS)
    with pytest.raises(
        spec.SpecError, match=r"no section 'exp-006.3' with a change of .*; it has exp-006.1, exp-006.2$"
    ):
        spec.read_toml(tmp_path / "next.md#exp-006.3")


NOTE = """# Next experiments

## exp-006, by hand

- look at it
  - Rationale: none

## exp-006.1

- lower the rate \\| 2 &lt; 3
- Rationale: train_loss rose (since step 70)
- Expected: less

```toml
# exp-006.9 is no heading here
[train]
steps = 1
```
"""


def test_only_sections_with_a_change_are_named(tmp_path):
    (tmp_path / "next.md").write_text(NOTE)
    with pytest.raises(spec.SpecError, match=r"it has exp-006.1$"):
        spec.read_toml(tmp_path / "next.md#exp-006")


def test_a_section_tells_its_idea_and_its_reason(tmp_path):
    (tmp_path / "next.md").write_text(NOTE)
    found = spec.section(tmp_path / "next.md")
    assert (found.name, found.idea) == ("exp-006.1", "lower the rate | 2 < 3")
    assert found.rationale == "train_loss rose (since step 70)"
    (tmp_path / "plain.toml").write_text("name = 'x'")
    assert spec.section(tmp_path / "plain.toml") == spec.Part()


def test_a_section_without_a_change_never_takes_its_neighbours(tmp_path):
    (tmp_path / "next.md").write_text("## exp-001.1\n\n- resume\n\n" + SECTIONS)
    with pytest.raises(spec.SpecError, match=r"has no section 'exp-001\.1' with a change"):
        spec.read_toml(tmp_path / "next.md#exp-001.1")
