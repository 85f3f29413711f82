"""The programs of the zoo: model, data, optimizer, schedule and logger. They are split as a whole, before any is run.

What stands under `test` was never looked at while a limit was chosen: neither its curves nor its scores by program.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Program(NamedTuple):
    """One training program; what varies between its runs is in `members`."""

    model: str
    data: str
    optimizer: str
    schedule: str
    logger: str
    lr: float
    steps: int
    batch: int = 24
    clip: float = 0.0
    """0 is off."""
    half: bool = False

    @property
    def name(self) -> str:
        """All that makes it a program of its own."""
        parts = [self.model, self.data, self.optimizer, self.schedule, self.logger]
        return "-".join([*parts, *(["fp16"] if self.half else [])])


P = Program

PROGRAMS: Final[dict[str, tuple[Program, ...]]] = {
    "tune": (
        P("mlp", "digits", "adamw", "cosine", "every-step", 3e-3, 600),
        P("mlp", "cancer", "sgd", "constant", "epoch", 3e-2, 1200),
        P("mlp", "digits", "momentum", "one-cycle", "hugging-face-10", 2e-2, 1500),
        P("naive-mlp", "digits", "adamw", "constant", "every-10", 2e-3, 2000),
        P("deep-mlp", "digits", "adamw", "warmup-cosine", "lightning-20", 2e-3, 1600),
        P("regression", "diabetes", "adamw", "cosine", "every-step", 2e-3, 500),
        P("cnn", "digits", "sgd", "step", "loss-only", 0.1, 600, 16),
        P("cnn", "digits", "adamw", "warmup-cosine", "hugging-face-25", 3e-3, 1500, 16, 1.0),
        P("autoencoder", "digits", "adamw", "constant", "smoothed", 2e-3, 1500),
        P("gan", "digits", "adamw", "constant", "every-10", 1e-3, 2500),
        P("gpt", "text", "adamw", "warmup-cosine", "every-step", 3e-3, 600, 4, 1.0),
        P("gpt", "text", "sgd", "constant", "nano-10", 0.3, 1000, 4),
        P("lstm", "text", "adamw", "constant", "hugging-face-10", 5e-3, 1000, 4, 1.0),
        P("mlp", "digits", "adamw", "cosine", "every-10", 3e-3, 1500, 24, 1.0, half=True),
    ),
    "validate": (
        P("mlp", "wine", "adamw", "constant", "epoch", 3e-3, 1200, 16),
        P("normed-mlp", "digits", "momentum", "step", "every-step", 3e-2, 500),
        P("linear", "digits", "sgd", "constant", "every-10", 0.3, 2000),
        P("regression", "diabetes", "momentum", "restarts", "lightning-20", 3e-3, 1600),
        P("cnn", "digits", "momentum", "cosine", "every-10", 2e-2, 1500, 16, 5.0),
        P("vae", "digits", "adamw", "warmup-cosine", "every-step", 2e-3, 600),
        P("contrastive", "digits", "adamw", "cosine", "hugging-face-10", 2e-3, 1200),
        P("gpt", "text", "adamw", "one-cycle", "smoothed", 4e-3, 1000, 4, 1.0),
        P("lstm", "text", "momentum", "cosine", "nano-10", 0.3, 1000, 4, 1.0),
        P("words", "text", "adamw", "constant", "loss-only", 3e-3, 500, 8),
        P("policy", "digits", "adamw", "constant", "every-10", 2e-3, 2500, 32),
        P("cnn", "digits", "adamw", "warmup-cosine", "hugging-face-10", 3e-3, 1200, 16, 1.0, half=True),
    ),
    "test": (
        P("mlp", "digits", "lion", "cosine", "every-step", 5e-4, 500),
        P("mlp", "digits", "sgd", "warmup-cosine", "nano-10", 0.15, 2000),
        P("mlp", "cancer", "adamw", "step", "lightning-20", 2e-3, 1500),
        P("mlp", "wine", "momentum", "one-cycle", "epoch", 1e-2, 1200, 16),
        P("mlp", "digits", "adafactor", "constant", "every-10", 3e-3, 2000),
        P("naive-mlp", "cancer", "momentum", "cosine", "smoothed", 1e-2, 1500),
        P("naive-mlp", "wine", "sgd", "constant", "every-step", 5e-2, 600, 16),
        P("deep-mlp", "cancer", "momentum", "constant", "hugging-face-25", 1e-2, 2000, 24, 1.0),
        P("deep-mlp", "digits", "sgd", "step", "every-10", 5e-2, 2000),
        P("normed-mlp", "digits", "adamw", "restarts", "loss-only", 3e-3, 800),
        P("normed-mlp", "wine", "lion", "constant", "epoch", 3e-4, 1200, 16),
        P("linear", "cancer", "adamw", "cosine", "every-100", 1e-2, 6000),
        P("linear-regression", "diabetes", "sgd", "constant", "every-10", 1e-2, 2000),
        P("regression", "diabetes", "adafactor", "constant", "hugging-face-10", 2e-3, 1500),
        P("regression", "diabetes", "sgd", "cosine", "epoch", 1e-2, 1200),
        P("heteroscedastic", "diabetes", "adamw", "constant", "every-10", 1e-3, 2000),
        P("heteroscedastic", "diabetes", "momentum", "warmup-cosine", "every-step", 2e-3, 600, 24, 5.0),
        P("cnn", "digits", "lion", "constant", "lightning-20", 4e-4, 1500, 16),
        P("cnn", "digits", "sgd", "restarts", "every-100", 0.1, 4000, 8),
        P("cnn", "digits", "adafactor", "cosine", "epoch", 3e-3, 1200, 16),
        P("autoencoder", "digits", "momentum", "warmup-cosine", "every-step", 0.2, 600),
        P("autoencoder", "digits", "lion", "step", "hugging-face-10", 3e-4, 1500),
        P("gaussian-autoencoder", "digits", "adamw", "constant", "every-10", 1e-3, 2500),
        P("gaussian-autoencoder", "digits", "adafactor", "cosine", "nano-10", 2e-3, 1500),
        P("vae", "digits", "lion", "constant", "epoch", 3e-4, 1500),
        P("vae", "digits", "adamw", "restarts", "lightning-20", 2e-3, 1500),
        P("denoiser", "digits", "adamw", "warmup-cosine", "loss-only", 2e-3, 800),
        P("denoiser", "digits", "momentum", "constant", "hugging-face-25", 2e-2, 2000),
        P("contrastive", "digits", "momentum", "constant", "every-step", 5e-2, 500),
        P("policy", "digits", "momentum", "cosine", "every-step", 2e-2, 800, 32),
        P("policy", "digits", "adafactor", "constant", "smoothed", 2e-3, 2000, 32),
        P("gan", "digits", "momentum", "cosine", "hugging-face-10", 1e-2, 2000),
        P("gpt", "text", "lion", "warmup-cosine", "every-10", 5e-4, 1000, 4, 1.0),
        P("gpt", "text", "adafactor", "step", "loss-only", 5e-3, 500, 4),
        P("gpt", "text", "momentum", "warmup-cosine", "hugging-face-10", 0.1, 1000, 4, 1.0, half=True),
        P("lstm", "text", "adafactor", "cosine", "every-step", 5e-3, 400, 4),
        P("lstm", "text", "sgd", "warmup-cosine", "lightning-20", 1.0, 1000, 4, 1.0),
        P("words", "text", "momentum", "one-cycle", "every-10", 0.2, 2000, 8),
        P("words", "text", "lion", "cosine", "hugging-face-25", 5e-4, 2000, 8),
        P("deep-mlp", "digits", "adamw", "step", "nano-10", 2e-3, 1500, 24, 1.0, half=True),
    ),
}  # fmt: skip
