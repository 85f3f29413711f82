"""One parser, fed by a coverage-guided fuzzer: a fixed number of executions from fixed seeds. `faults.py` starts it."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[1] / "faults"), str(Path(__file__).parents[2])]
with atheris.instrument_imports(include=["checker", "contract"]):
    import targets

WORDS = (
    "step", "loss", "metrics", "NaN", "Infinity", "-Infinity", "null", "true", "state", "running", "killed", "kill",
    "id", "ack", "process", "pid", "host", "boot_id", "started", "grace_seconds", "requested_by", "person via checker",
    "kind", "tick", "act", "finding", "ranks", "rank", "life", "gone", "after_row", "now", "final", "event", "fold_end",
    "epoch", "config", "timestamp", "run_id", "val_loss", "grad_norm", "lr", "1e400", "notes", "launch", "world_size",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=targets.TARGETS)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        corpus = Path(place, "corpus")
        corpus.mkdir()
        for number, seed in enumerate(targets.SEEDS[options.target]):
            (corpus / str(number)).write_bytes(b"\xff" + seed)
            (corpus / f"{number}-made").write_bytes(b"\x00" + seed)
        words = Path(place, "words")
        words.write_text("".join(f'"{word}"\n"\\"{word}\\""\n' for word in WORDS))
        arguments = [
            sys.argv[0], f"-runs={options.runs}", f"-seed={options.seed}", f"-dict={words}", "-max_len=512",
            "-len_control=0", "-print_final_stats=1", "-verbosity=1", f"-artifact_prefix={tempfile.gettempdir()}/fuzz-",
            str(corpus),
        ]  # fmt: skip
        atheris.Setup(arguments, targets.fed(targets.TARGETS[options.target]))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
