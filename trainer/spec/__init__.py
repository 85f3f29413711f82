"""What to train, as a TOML file: every key has a type and a range, and all that is wrong is said at once."""

from trainer.errors import SpecError
from trainer.spec.check import checked
from trainer.spec.experiment import DIRECTIONS, Declared, External, Rehearsal, Spec, build, config, facts, load
from trainer.spec.source import Document, Part, laid_over, merged, parsed_setting, read_toml, section

__all__ = [
    "DIRECTIONS",
    "Declared",
    "Document",
    "External",
    "Part",
    "Rehearsal",
    "Spec",
    "SpecError",
    "build",
    "checked",
    "config",
    "facts",
    "laid_over",
    "load",
    "merged",
    "parsed_setting",
    "read_toml",
    "section",
]
