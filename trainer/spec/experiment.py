"""A whole spec, and what every experiment says of itself, whoever trains it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from contract import now
from trainer.spec.check import checked
from trainer.spec.data import Data, Loading, StdlibText
from trainer.spec.model import Gpt, Lora, Model
from trainer.spec.optimizer import Optimizer, Schedule
from trainer.spec.section import Count, Own, Positive, Section
from trainer.spec.source import Document, merged, read_toml
from trainer.spec.train import (
    Callbacks,
    Checkpoints,
    Curriculum,
    Distributed,
    Ema,
    Evaluate,
    Frozen,
    Mining,
    Stage,
    Train,
    WarmStart,
)

Direction = Literal["min", "max"]

DIRECTIONS: dict[str, Direction] = {
    "loss": "min", "bits_per_byte": "min", "accuracy": "max", "mae": "min", "rmse": "min", "r2": "max",
    "precision": "max", "recall": "max", "f1": "max", "mcc": "max", "balanced_accuracy": "max", "auroc": "max",
    "auprc": "max", "sensitivity": "max", "specificity": "max",
}  # fmt: skip
"""Which way each metric that this program computes improves."""


class Metric(Section):
    """The metric that the best checkpoint is chosen by."""

    name: str = Field(default="val_loss", pattern=r"^val_\w+$")
    """One that an evaluation logs, with `val_` before it."""
    direction: Direction = "min"
    """Which way is better."""

    @model_validator(mode="after")
    def _direction_fits(self) -> Self:
        right = DIRECTIONS.get(self.name.removeprefix("val_"), self.direction)
        if self.direction != right:
            raise ValueError(f'direction of {self.name} is "{right}", not "{self.direction}"')
        return self


class Tiers(Section):
    """What the metric must, should and could reach; who reaches one has reached those before it."""

    must_pass: float | None = None
    """The floor."""
    should_pass: float | None = None
    """The aim."""
    could_pass: float | None = None
    """More than was hoped for."""


class Budget(Section):
    """What the run may use up; a checker stops it then."""

    wall_minutes: float | None = Field(default=None, gt=0)
    """Minutes on the clock."""
    steps: Positive | None = None
    """Optimizer steps."""
    tokens: Positive | None = None
    """Tokens trained on; they are logged then."""


class Rehearsal(Section):
    """A fault staged on purpose, to see that it is found."""

    loader_hangs_at_step: Count = 0
    """0: never. A resumed run stages no fault again."""
    sigkill_at_step: Count = 0
    """0: never. The process ends in the midst of this step, without a word."""
    expect: str | None = None
    """The rule that should find it; read by people and by the demo."""


class Declared(Section):
    """What every experiment says of itself, whoever trains it."""

    name: str = Field(default="", max_length=200)
    """What lists call it."""
    hypothesis: str = ""
    """What is expected, and should turn out to be true or false."""
    rationale: str = ""
    """Why it is expected."""
    parent: str | None = None
    """The experiment that this one is compared with, such as exp-006."""
    tags: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Words to find it by."""
    tiers: Tiers = Tiers()
    budget: Budget = Budget()


class AnyMetric(Section):
    """The metric of a program that this one knows nothing about."""

    name: str = Field(min_length=1)
    direction: Direction


class External(Declared):
    """The spec of an experiment that another program trains: all other keys are that program's own."""

    model_config = ConfigDict(extra="allow")

    metric: AnyMetric


class Spec(Declared):
    """The spec of an experiment that this program trains."""

    seed: int = Field(default=1, ge=0, lt=2**63)
    """All random numbers follow from it: weights, order of the data, dropout."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """`auto`, `cpu`, `cuda`, or `cuda:1`; `auto` takes a GPU where there is one."""
    deterministic: bool = False
    """Only algorithms that give the same bits each time, at the price of speed on a GPU."""
    task: Literal["auto", "language", "classification", "regression"] | Own = "auto"
    """What the targets mean; `auto` follows from the data. Your own: `package.module:name`."""
    model: Model = Gpt()
    lora: Lora | None = None
    data: Data = StdlibText()
    loading: Loading = Loading()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    train: Train
    warm_start: WarmStart | None = None
    ema: Ema | None = None
    curriculum: Curriculum | None = None
    mining: Mining | None = None
    frozen: Annotated[tuple[Frozen, ...], Field(strict=False)] = ()
    stages: Annotated[tuple[Stage, ...], Field(strict=False)] = ()
    evaluate: Evaluate = Evaluate()
    metric: Metric = Metric()
    checkpoints: Checkpoints = Checkpoints()
    callbacks: Callbacks = Callbacks()
    distributed: Distributed = Distributed()
    mirrors: Annotated[tuple[Literal["tensorboard", "mlflow", "wandb"], ...], Field(strict=False)] = ()
    """Dashboards that are written to beside our files; what goes wrong there never touches the run."""
    rehearsal: Rehearsal = Rehearsal()

    @property
    def context(self) -> int:
        """Tokens that the model sees at a time; 0 for one that sees none."""
        return getattr(self.model, "context", 0)


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
