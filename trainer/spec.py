"""What to train, as a TOML file: every key has a type and a range, and all that is wrong is said at once."""

from __future__ import annotations

import difflib
import html
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from contract import now
from trainer import errors

SpecError = errors.SpecError
Document = dict[str, Any]
Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]


Kind = TypeVar("Kind", bound="Declared")


@dataclass
class Part:
    """A section of a note that holds a change: its heading's first word, what it says, and its first ```toml block."""

    name: str = ""
    idea: str = ""
    rationale: str = ""
    toml: str = ""
    """With blank lines before it, so that line numbers still count from the top of the file."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Model(Section):
    kind: str = "gpt"
    layers: Positive = 2
    heads: Positive = 4
    width: Positive = 64
    context: Positive = 64
    dropout: Fraction = 0.0
    init_std: float = Field(default=0.02, gt=0)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class Data(Section):
    kind: Literal["stdlib-text"] = "stdlib-text"
    max_bytes: int = Field(default=1_000_000, ge=256)
    val_fraction: float = Field(default=0.1, gt=0, lt=1)
    val_bytes: int | None = Field(default=None, ge=64)
    """Takes precedence over `val_fraction`."""


class Optimizer(Section):
    kind: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = Field(default=1e-3, ge=0)
    betas: Annotated[tuple[Beta, Beta], Field(strict=False)] = (0.9, 0.95)
    weight_decay: float = Field(default=0.1, ge=0)
    momentum: Fraction = 0.9


class Schedule(Section):
    kind: Literal["constant", "cosine", "linear", "step"] = "cosine"
    warmup_steps: int = Field(default=0, ge=0)
    decay_steps: Positive | None = None
    """The step at which the decay has arrived at its end, warm-up included; the last step of the run when not given."""
    final_lr_ratio: float = Field(default=0.1, ge=0, le=1)
    step_size: Positive = 1000
    gamma: float = Field(default=0.5, gt=0, le=1)

    @model_validator(mode="after")
    def _warmup_ends_before_decay(self) -> Self:
        if self.decay_steps is not None and self.warmup_steps >= self.decay_steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} leave nothing of decay_steps {self.decay_steps}")
        return self


class Train(Section):
    steps: Positive | None = None
    epochs: Positive | None = None
    batch_size: Positive = 16
    accumulate: Positive = 1
    clip_norm: float = Field(default=1.0, ge=0)
    """0 switches clipping off; the norm is logged all the same."""
    eval_every: int = Field(default=50, ge=0)
    eval_batches: Positive = 4
    checkpoint_every: int = Field(default=100, ge=0)
    """In steps; 0: not by steps. A run saves itself at its end and when it is asked to stop all the same."""
    checkpoint_epochs: int = Field(default=10, ge=0)
    """In epochs, beside `checkpoint_every`; 0: not by epochs. A run planned in steps goes by its steps alone."""
    log_every: Positive = 1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        return self


class Metric(Section):
    name: Literal["val_loss", "val_bits_per_byte", "val_accuracy"] = "val_loss"
    direction: Literal["min", "max"] = "min"

    @model_validator(mode="after")
    def _direction_fits(self) -> Self:
        right = "max" if self.name == "val_accuracy" else "min"
        if self.direction != right:
            raise ValueError(f'direction of {self.name} is "{right}", not "{self.direction}"')
        return self


class Tiers(Section):
    must_pass: float | None = None
    should_pass: float | None = None
    could_pass: float | None = None


class Budget(Section):
    wall_minutes: float | None = Field(default=None, gt=0)
    steps: Positive | None = None
    tokens: Positive | None = None


class Rehearsal(Section):
    """A fault staged on purpose, to see that it is found."""

    loader_hangs_at_step: int = Field(default=0, ge=0)
    """0: never. A resumed run stages no fault again."""
    sigkill_at_step: int = Field(default=0, ge=0)
    expect: str | None = None
    """The rule that should find it; read by people and by the demo."""


class Declared(Section):
    """What every experiment says of itself, whoever trains it."""

    name: str = Field(default="", max_length=200)
    hypothesis: str = ""
    rationale: str = ""
    parent: str | None = None
    tags: Annotated[tuple[str, ...], Field(strict=False)] = ()
    tiers: Tiers = Tiers()
    budget: Budget = Budget()


class AnyMetric(Section):
    """The metric of a program that this one knows nothing about."""

    name: str = Field(min_length=1)
    direction: Literal["min", "max"]


class External(Declared):
    """The spec of an experiment that another program trains: all other keys are that program's own."""

    model_config = ConfigDict(extra="allow")

    metric: AnyMetric


class Spec(Declared):
    """The spec of an experiment that this program trains."""

    seed: int = Field(default=1, ge=0, lt=2**63)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    model: Model = Model()
    data: Data = Data()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    train: Train
    metric: Metric = Metric()
    rehearsal: Rehearsal = Rehearsal()


def load(path: Path, *, overlay: Path | None = None, settings: list[str] | None = None) -> Spec:
    """The spec in `path`, with an overlay file and then `key.path=value` settings on top.

    Raises:
        SpecError: something in one of the three is wrong.
    """
    return build(read_toml(path), where=str(path), overlay=overlay, settings=settings)


def build(document: Document, *, where: str, overlay: Path | None = None, settings: list[str] | None = None) -> Spec:
    """The spec that `document` describes once overlay and settings are laid over it.

    Raises:
        SpecError: as for `load`.
    """
    document, where = merged(document, where, overlay, settings)
    return checked(Spec, document, where)


def merged(document: Document, where: str, overlay: Path | None, settings: list[str] | None) -> tuple[Document, str]:
    """`document` with overlay and settings laid over it, and words for where all that stands.

    Raises:
        SpecError: the overlay cannot be read, or a setting is none.
    """
    if overlay is not None:
        document, where = laid_over(document, read_toml(overlay)), f"{where} with {overlay}"
    for setting in settings or []:
        document = laid_over(document, parsed_setting(setting))
    return document, where


def checked(kind: type[Kind], document: Document, where: str) -> Kind:
    """`document` as a spec of some kind.

    Raises:
        SpecError: everything that is wrong with it.
    """
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        faults = [_fault(item) for item in error.errors(include_url=False)]
        raise SpecError("\n  ".join([f"{where}: {len(faults)} thing(s) to correct", *faults])) from None


def read_toml(path: Path) -> Document:
    """The TOML document in a file; of a Markdown file a block fenced as toml.

    Which block is said behind a `#`: `next.md#exp-006.2` is the first one below the heading `exp-006.2`; without it the
    first of the file.

    Raises:
        SpecError: the file cannot be read or is not TOML.
    """
    path, text, wanted = _source(path)
    if _is_note(path):
        text = _fenced(text, path, wanted).toml
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path}: is not valid TOML: {error}") from None


def section(path: Path) -> Part:
    """The section of a note that `read_toml` takes, with its words; an empty one for a plain TOML file.

    Raises:
        SpecError: as for `read_toml`.
    """
    path, text, wanted = _source(path)
    return _fenced(text, path, wanted) if _is_note(path) else Part()


def _is_note(path: Path) -> bool:
    return path.suffix.lower() in (".md", ".markdown")


def _source(path: Path) -> tuple[Path, str, str]:
    """The file that `path` names, its text, and the section behind a `#`."""
    wanted = ""
    if "#" in path.name and not path.exists():
        name, _, wanted = path.name.rpartition("#")
        path = path.with_name(name)
    try:
        return path, path.read_text("utf-8-sig"), wanted
    except FileNotFoundError:
        raise SpecError(f"{path}: there is no such file; give a spec, a .toml file") from None
    except IsADirectoryError:
        raise SpecError(f"{path}: is a folder; give a spec, a .toml file") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: is not text (byte {error.start} is no UTF-8); give a spec, a .toml file") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror})") from None


def _fenced(text: str, path: Path, wanted: str) -> Part:
    """The section named `wanted`, the first with a ```toml block where none is named.

    Raises:
        SpecError: there is no such section, or no block in it.
    """
    parts = [part for part in _parts(text) if part.toml]
    found = next((part for part in parts if wanted in ("", part.name)), None)
    if found is not None:
        return found
    if wanted and parts:
        named = ", ".join(part.name for part in parts if part.name) or "none with a name"
        raise SpecError(f"{path}: has no section {wanted!r} with a change of the configuration; it has {named}")
    raise SpecError(f"{path}: has no block that starts with ```toml, so there is no change to apply")


def _parts(text: str) -> Iterator[Part]:
    """The sections of a note; whatever stands above the first heading is a section without a name."""
    part, fence, block = Part(), "", list[str]()
    for number, line in enumerate(text.splitlines()):
        if fence:
            if line.startswith("```"):
                if fence == "toml" and not part.toml:
                    part.toml = "\n" * (number - len(block)) + "".join(f"{item}\n" for item in block)
                fence = ""
            else:
                block.append(line)
        elif line.startswith("```"):
            fence, block = ("toml" if line.startswith("```toml") else "other"), []
        elif heading := re.match(r"#+[ \t]+([^\s:,]+)", line):
            yield part
            part = Part(heading[1])
        elif bullet := re.match(r"[-*+][ \t]+(.*\S)", line):
            _say(part, _unescaped(bullet[1]))
    yield part


def _say(part: Part, bullet: str) -> None:
    """The first bullet is the idea; the one that begins with `Rationale:` says why."""
    label, colon, rest = bullet.partition(":")
    if colon and label.lower() == "rationale":
        part.rationale = part.rationale or rest.strip()
    elif not part.idea:
        part.idea = bullet


def _unescaped(text: str) -> str:
    """The text that Markdown shows."""
    return html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text))


def parsed_setting(setting: str) -> Document:
    """`train.steps=50` as the document `{"train": {"steps": 50}}`; a value that is not TOML is taken as text.

    Raises:
        SpecError: there is no `=` or no key.
    """
    key, equals, value = setting.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise SpecError(f"--set {setting}: give it as key.path=value, for example --set optimizer.lr=1e-3")
    try:
        parsed: Any = tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    for part in reversed(parts):
        parsed = {part: parsed}
    return dict(parsed)


_WORDS = ("name", "hypothesis", "rationale", "parent", "tags")
"""What a spec says about a run, and what does nothing to it."""


def config(options: Declared) -> Document:
    """Everything that a run is told, without the words about it: two runs of one config differ by chance alone."""
    return options.model_dump(mode="json", exclude=set(_WORDS))


def facts(options: Spec | External) -> Document:
    """The fields of an `Experiment` that a spec gives; its id comes with its folder."""
    return {
        "id": "",
        "created_at": now(),
        **{word: getattr(options, word) for word in _WORDS},
        "config": config(options),
        "metric": options.metric.model_dump(),
        "tiers": options.tiers.model_dump(exclude_none=True),
        "budget": options.budget.model_dump(exclude_none=True),
    }


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> Document:
    """`above` on top of `below`, table by table. Setting one of train.steps and train.epochs replaces the other."""
    result = dict(below)
    for key, value in above.items():
        mine = result.get(key)
        result[key] = laid_over(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    for one, other in (("steps", "epochs"), ("epochs", "steps")):
        if one in above and other in below and other not in above:
            result.pop(other)
    return result


def _fault(item: ErrorDetails) -> str:
    """One line: where, what stands there, what is wrong with it, what may be meant."""
    path = [str(part) for part in item["loc"]]
    where, value = ".".join(path) or "spec", item["input"]
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(where, list(_keys(Spec)), n=1, cutoff=0.5)
        same = [key for key in _keys(Spec) if key.rsplit(".", 1)[-1] == path[-1]]
        hint = f"; did you mean {(same or near)[0]}?" if same or near else ""
        return f"{where} = {_short(value)}: there is no such key{hint}"
    if item["type"] == "missing":
        return f"{where}: is missing"
    message = item["msg"].removeprefix("Value error, ")
    if isinstance(value, Mapping):
        return f"{where}: {message}"
    choices = re.findall(r"'([^']+)'", item.get("ctx", {}).get("expected", ""))
    near = difflib.get_close_matches(str(value).lower(), choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{where} = {_short(value)}: {message[:1].lower()}{message[1:]}{hint}"


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _keys(field.annotation, f"{prefix}{name}.")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
