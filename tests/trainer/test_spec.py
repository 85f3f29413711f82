import pytest

from trainer import spec


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
        ({"device": "gpu"}, "device = 'gpu': string should match"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_fault_is_named_with_place_value_and_remedy(document, said):
    with pytest.raises(spec.SpecError) as caught:
        spec.build({"train": {"steps": 1}} | document, where="x.toml")
    assert said in str(caught.value)


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


def test_a_spec_survives_the_way_through_json(small):
    built = small(optimizer={"betas": [0.8, 0.9]})
    assert spec.build(built.model_dump(mode="json"), where="") == built


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
