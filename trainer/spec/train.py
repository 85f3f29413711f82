"""`[train]` and what may be laid on top of plain training, each a table that is absent or switches itself on."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from trainer.spec.section import Count, Own, Pattern, Positive, Section, Share


class Train(Section):
    """How long, in which portions, and what is done on the way."""

    steps: Positive | None = None
    """Optimizer steps; give this or `epochs`."""
    epochs: Positive | None = None
    """Times that all samples are gone through; give this or `steps`."""
    batch_size: Positive = 16
    """Samples of a micro-batch, over all ranks together: the same spec is the same run on any number of them."""
    accumulate: Positive = 1
    """Micro-batches whose gradients are added up for one step; the smaller rest of an epoch is a step as well."""
    clip_norm: float = Field(default=1.0, ge=0)
    """0 switches clipping off; the norm is logged all the same."""
    eval_every: Count = 50
    """In steps; 0: never."""
    eval_batches: Positive = 4
    """Batches of the held-out data that an evaluation looks at."""
    checkpoint_every: Count = 100
    """In steps; 0: not by steps. A run saves itself at its end and when it is asked to stop all the same."""
    checkpoint_epochs: Count = 10
    """In epochs, beside `checkpoint_every`; 0: not by epochs. A run planned in steps goes by its steps alone."""
    log_every: Positive = 1
    """Steps from one row to the next; the last step has one too."""
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    """Of the forward pass; weights stay fp32. `tf32` counts on a GPU alone; `fp16` scales the loss by itself."""
    compile: bool = False
    """By torch.compile: minutes at first, then faster steps."""
    trainable: Annotated[tuple[Pattern, ...], Field(strict=False)] = ()
    """Only parameters whose names match one of these are trained; empty: all of them."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        return self


class Checkpoints(Section):
    """Which checkpoints stay; the newest one always does."""

    keep_last: Positive = 2
    """The newest ones: a damaged one must not be the only one."""
    keep_best: Positive = 1
    """Those with the best metric."""
    keep_every: Count = 0
    """One of every so many steps stays for good; 0: none."""
    background: bool = True
    """Write them beside the training, which then waits only while the state is copied."""


class WarmStart(Section):
    """Begin with what another run has learned."""

    source: str = Field(min_length=1)
    """`similar` (the finished experiment with the most similar configuration), the id of an experiment beside this
    one, or the path of a checkpoint."""
    restore: Literal["weights", "all"] = "weights"
    """`all` takes the optimizer and its scaler as well; step and data begin anew either way."""
    minimum_similarity: Share = 0.7
    """Of `similar`: matching settings / settings in either."""


class Ema(Section):
    """An exponential moving average of the weights, beside them."""

    decay: float = Field(default=0.999, gt=0, lt=1)
    """What is left of the average at each step; the rest comes from the weights."""
    evaluate: bool = True
    """Whether evaluations look at the average."""


class Curriculum(Section):
    """From easy to hard samples: at difficulty d those with a score of at most d + 0.1, of scores scaled to 0 … 1."""

    kind: Literal["linear", "exponential", "step", "constant"] = "linear"
    """How the difficulty rises with the steps."""
    steps: Positive | None = None
    """Steps until everything is shown; None: the whole run."""
    start: Share = 0.0
    """The difficulty at first (and, of `constant`, always)."""
    stairs: Positive = 3
    """Of `step`: how many there are."""


class Mining(Section):
    """Online hard-example mining: only the samples of a batch with the largest losses give a gradient."""

    keep_ratio: float = Field(default=0.5, gt=0, le=1)
    """The share of each micro-batch that gives a gradient, rounded up."""
    min_keep: Positive = 1
    """Samples that do at least."""
    warmup_steps: Count = 0
    """Steps without it."""


class Frozen(Section):
    """Parameters that are left as they are until a step; their schedule goes on meanwhile."""

    match: Pattern
    """Searched for in the names of parameters."""
    until_step: Positive
    """The last step that leaves them as they are."""


class Stage(Section):
    """A part of the run with settings of its own: any table or key of a spec may stand in it, on top of the spec's."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(min_length=1, max_length=60)
    """What logs call it."""
    kind: Literal["pretrain", "finetune", "eval"] = "pretrain"
    """`finetune` begins with the best weights so far, with a fresh optimizer; `eval` only examines, on all held-out
    data, and logs `test_` metrics."""

    @property
    def change(self) -> dict[str, Any]:
        """What is laid over the spec."""
        return dict(self.model_extra or {})


class Evaluate(Section):
    """Metrics of a classification or regression beyond loss and accuracy (scikit-learn, an extra)."""

    metrics: Annotated[
        tuple[
            Literal[
                "precision", "recall", "f1", "mcc", "balanced_accuracy", "auroc", "auprc", "sensitivity", "specificity",
                "mae", "rmse", "r2",
            ],
            ...,
        ],
        Field(strict=False),
    ] = ()  # fmt: skip
    """Of several classes the mean over them. What is undefined, such as the AUROC of one class or the precision of a
    class that is never guessed, is left out of its row."""


Functions = Annotated[tuple[Own, ...], Field(strict=False)]


class Callbacks(Section):
    """Your own functions, called with a `trainer.callbacks.Moment`; what one raises is told and stops nothing."""

    train_start: Functions = ()
    """Before the first step, also of a resumed run."""
    step_end: Functions = ()
    """After each step that is logged."""
    evaluation: Functions = ()
    """A mapping that it returns is logged as metrics; so also at `epoch_end`."""
    epoch_end: Functions = ()
    """After the last step of an epoch."""
    checkpoint_saved: Functions = ()
    """When one is on the disk."""
    train_end: Functions = ()
    """After the last checkpoint, before the result."""


class Distributed(Section):
    """Under torchrun: how the ranks share the work."""

    strategy: Literal["ddp", "fsdp"] = "ddp"
    """`fsdp` shards weights, gradients and optimizer (FSDP2), which only a GPT needs and has."""
    timeout_seconds: float = Field(default=1800.0, gt=0)
    """How long a rank waits for the others before it gives up."""
