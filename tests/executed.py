"""Programs for `trainer exec`, as lines of Python."""

import json
import sys

from contract import Experiment, config_hash, encode

WRITE = """
import json, os, sys
spec = json.load(open(os.environ["TRAINER_SPEC"]))
result = spec["result"]
def write(value=0.25, **over):
    result["primary_metric"]["value"] = value
    json.dump({**result, **over}, open(spec["result_path"], "w"))
"""


def pending(root, name="exp-001", **fields):
    """The folder of an experiment that nobody has trained yet."""
    folder = root / name
    folder.mkdir()
    about = {"config": {"lr": 0.1}, "metric": {"name": "val_err", "direction": "min"}, **fields}
    about = {"fingerprints": {"config": config_hash(about["config"])}, **about}
    record = Experiment(id=name, created_at="2026-01-01T00:00:00+00:00", **about)
    (folder / "experiment.json").write_bytes(encode(record.__dict__))
    return folder


def python(lines, *arguments):
    return [sys.executable, "-c", WRITE + lines, *arguments]


def state_of(folder):
    return json.loads((folder / "training_status.json").read_text())
