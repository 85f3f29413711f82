"""Small real models as pure functions of their parameters, so that many are trained at once (`torch.func.vmap`).

A model says which parameters it has and what each sample of a batch costs. One call trains one member; stacking is the
business of `train`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  # the name that everybody knows
from data import CONTEXT, SYMBOLS, Data
from torch import Tensor

Params = Mapping[str, Tensor]


class Batch(NamedTuple):
    """What one member sees in one step."""

    x: Tensor
    y: Tensor
    noise: Tensor
    """Standard normal noise, as much per sample as the model asks for (`Model.noise`)."""
    eps: Tensor
    """What guards a logarithm; 0 is the classic mistake."""
    half: bool
    """Whether activations and their gradients pass through half precision."""


class Cost(NamedTuple):
    """The loss that is minimised and the one that is printed, per sample."""

    minimised: Tensor
    printed: Tensor


@dataclass(frozen=True)
class Model:
    """A family of models over one kind of data.

    A parameter is named `layer.kind`: `w` weights before a ReLU, `v` other weights, both `[fan in, fan out]`, `b`
    biases, `g` gains, `e` embeddings.
    """

    shapes: Callable[[Data], dict[str, tuple[int, ...]]]
    cost: Callable[[Params, Batch], Cost]
    noise: int = 0
    """Random numbers per sample."""


def initial(name: str, shape: tuple[int, ...], members: int, generator: torch.Generator) -> Tensor:
    """Weights scaled by their fan-in (He et al. 2015), biases 0, gains 1, embeddings of size 0.1."""
    if name.endswith(".b"):
        return torch.zeros(members, *shape)
    if name.endswith(".g"):
        return torch.ones(members, *shape)
    scale = 0.1 if name.endswith(".e") else math.sqrt((2.0 if name.endswith(".w") else 1.0) / shape[-2])
    return torch.randn(members, *shape, generator=generator) * scale


def _dense(params: Params, name: str, x: Tensor) -> Tensor:
    weight = params.get(f"{name}.w")
    return x @ (params[f"{name}.v"] if weight is None else weight) + params[f"{name}.b"]


def _through(x: Tensor, half: bool) -> Tensor:
    return x.half().float() if half else x


def _norm(x: Tensor, gain: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:]) * gain


def _classes(logits: Tensor, batch: Batch) -> Cost:
    """Cross entropy, written safely."""
    loss = F.cross_entropy(logits, batch.y, reduction="none")
    return Cost(loss, loss)


def _naive_classes(logits: Tensor, batch: Batch) -> Cost:
    """The same as the logarithm of a softmax, which only `eps` keeps from being infinite."""
    chance = logits.exp() / logits.exp().sum(-1, keepdim=True)
    loss = -(chance.gather(-1, batch.y[:, None])[:, 0] + batch.eps).log()
    return Cost(loss, loss)


# ------------------------------------------------------------------------------------------------------- tables


def _mlp_shapes(hidden: int, depth: int, *, normed: bool = False) -> Callable[[Data], dict[str, tuple[int, ...]]]:
    def shapes(data: Data) -> dict[str, tuple[int, ...]]:
        sizes = [data.x.shape[1], *[hidden] * depth]
        found: dict[str, tuple[int, ...]] = {}
        for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            found |= {f"{layer}.w": (fan_in, fan_out), f"{layer}.b": (fan_out,)}
            if normed:
                found |= {f"{layer}.g": (fan_out,)}
        return found | {"out.v": (hidden, data.classes or 1), "out.b": (data.classes or 1,)}

    return shapes


def _mlp(params: Params, batch: Batch) -> Tensor:
    x, layer = batch.x, 0
    while f"{layer}.w" in params:
        x = _dense(params, str(layer), x)
        if f"{layer}.g" in params:
            x = _norm(x, params[f"{layer}.g"])
        x = _through(F.relu(x), batch.half)
        layer += 1
    return _through(_dense(params, "out", x), batch.half)


def _mlp_cost(params: Params, batch: Batch) -> Cost:
    return _classes(_mlp(params, batch), batch)


def _naive_mlp_cost(params: Params, batch: Batch) -> Cost:
    return _naive_classes(_mlp(params, batch), batch)


def _regression_cost(params: Params, batch: Batch) -> Cost:
    loss = (_mlp(params, batch)[:, 0] - batch.y).square()
    return Cost(loss, loss)


def _heteroscedastic_cost(params: Params, batch: Batch) -> Cost:
    """A Gaussian negative log-likelihood with a learned variance per sample: negative when the fit is good."""
    out = _dense(params, "head", _mlp(params, batch))
    loss = 0.5 * (out[:, 1] + (out[:, 0] - batch.y).square() * (-out[:, 1]).exp())
    return Cost(loss, loss)


def _heteroscedastic_shapes(data: Data) -> dict[str, tuple[int, ...]]:
    body = _mlp_shapes(24, 1)(data)
    return body | {"out.v": (24, 12), "out.b": (12,), "head.v": (12, 2), "head.b": (2,)}


def _linear_shapes(data: Data) -> dict[str, tuple[int, ...]]:
    return {"out.v": (data.x.shape[1], data.classes or 1), "out.b": (data.classes or 1,)}


# ----------------------------------------------------------------------------------------------------- pictures


def _cnn_shapes(data: Data) -> dict[str, tuple[int, ...]]:
    return {"0.w": (4, 12), "0.b": (12,), "1.w": (48, 24), "1.b": (24,), "out.v": (96, data.classes), "out.b": (10,)}


def _convolve(x: Tensor, params: Params, name: str) -> Tensor:
    """A 2x2 convolution with stride 2, `[batch, side, side, channels]`: windows that do not overlap are a reshape."""
    windows = x.unflatten(1, (-1, 2)).unflatten(3, (-1, 2)).transpose(2, 3).flatten(3)
    return _dense(params, name, windows)


def _cnn_cost(params: Params, batch: Batch) -> Cost:
    x = batch.x.unflatten(1, (8, 8, 1))
    for layer in ("0", "1"):
        x = _through(F.relu(_convolve(x, params, layer)), batch.half)
    return _classes(_dense(params, "out", x.flatten(1)), batch)


def _auto_shapes(data: Data) -> dict[str, tuple[int, ...]]:
    wide = data.x.shape[1]
    return {
        "0.w": (wide, 32), "0.b": (32,), "code.v": (32, 8), "code.b": (8,),
        "1.w": (8, 32), "1.b": (32,), "out.v": (32, wide), "out.b": (wide,),
    }  # fmt: skip


def _code(params: Params, batch: Batch) -> Tensor:
    return _dense(params, "code", F.relu(_dense(params, "0", batch.x)))


def _decoded(params: Params, code: Tensor) -> Tensor:
    return _dense(params, "out", F.relu(_dense(params, "1", code)))


def _auto_cost(params: Params, batch: Batch) -> Cost:
    """A Bernoulli likelihood of pixels, written with the logarithm of a probability."""
    chance = torch.sigmoid(_decoded(params, _code(params, batch)))
    target = batch.x.clamp(0, 1)
    likelihood = target * (chance + batch.eps).log() + (1 - target) * (1 - chance + batch.eps).log()
    loss = -likelihood.mean(-1)
    return Cost(loss, loss)


def _gaussian_auto_cost(params: Params, batch: Batch) -> Cost:
    """A Gaussian likelihood with one learned deviation per pixel: falls below 0 as the pictures get sharp."""
    residual = (_decoded(params, _code(params, batch)) - batch.x).square()
    log_variance = params["deviation.b"]
    loss = 0.5 * (log_variance + residual * (-log_variance).exp()).mean(-1)
    return Cost(loss, loss)


def _gaussian_auto_shapes(data: Data) -> dict[str, tuple[int, ...]]:
    return _auto_shapes(data) | {"deviation.b": (data.x.shape[1],)}


def _vae_shapes(data: Data) -> dict[str, tuple[int, ...]]:
    return _auto_shapes(data) | {"code.v": (32, 16), "code.b": (16,), "deviation.b": (data.x.shape[1],)}


def _vae_cost(params: Params, batch: Batch) -> Cost:
    """The negative evidence bound with a Gaussian decoder (Kingma & Welling 2014), per pixel."""
    mean, log_variance = _code(params, batch).chunk(2, -1)
    code = mean + batch.noise * (0.5 * log_variance).exp()
    residual = (_decoded(params, code) - batch.x).square()
    spread = params["deviation.b"]
    likelihood = 0.5 * (spread + residual * (-spread).exp()).mean(-1)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)
    loss = likelihood + divergence / batch.x.shape[1]
    return Cost(loss, loss)


def _denoiser_shapes(data: Data) -> dict[str, tuple[int, ...]]:
    wide = data.x.shape[1]
    return {"0.w": (wide + 1, 48), "0.b": (48,), "1.w": (48, 48), "1.b": (48,), "out.v": (48, wide), "out.b": (wide,)}


def _denoiser_cost(params: Params, batch: Batch) -> Cost:
    """Predicts the noise that was mixed into a picture, as diffusion models do (Ho et al. 2020)."""
    noise, level = batch.noise[:, :-1], torch.sigmoid(batch.noise[:, -1:])
    mixed = (1 - level).sqrt() * (2 * batch.x - 1) + level.sqrt() * noise
    out = _mlp(params, batch._replace(x=torch.cat([mixed, level], -1)))
    loss = (out - noise).square().mean(-1)
    return Cost(loss, loss)


def _contrast_shapes(data: Data) -> dict[str, tuple[int, ...]]:
    return {"0.w": (data.x.shape[1], 32), "0.b": (32,), "out.v": (32, 12), "out.b": (12,)}


def _contrast_cost(params: Params, batch: Batch) -> Cost:
    """Two noisy views of each picture must find each other in the batch (InfoNCE, van den Oord et al. 2018)."""
    first, second = batch.noise.chunk(2, -1)
    views = [_mlp(params, batch._replace(x=batch.x + 0.3 * noise)) for noise in (first, second)]
    left, right = (F.normalize(view, dim=-1) for view in views)
    loss = F.cross_entropy(left @ right.T / 0.2, torch.arange(len(left)), reduction="none")
    return Cost(loss, loss)


def _policy_cost(params: Params, batch: Batch) -> Cost:
    """A policy gradient (Williams 1992): act, get 1 for the right digit. The printed loss says little, as it should."""
    logits = _mlp(params, batch)
    action = (logits.detach() - (-(torch.special.ndtr(batch.noise)).clamp(1e-6, 1 - 1e-6).log()).log()).argmax(-1)
    reward = (action == batch.y).float()
    logs = logits.log_softmax(-1)
    entropy = -(logs.exp() * logs).sum(-1)
    loss = -logs.gather(-1, action[:, None])[:, 0] * (reward - reward.mean()) - 0.01 * entropy
    return Cost(loss, loss)


def _adversarial_shapes(data: Data) -> dict[str, tuple[int, ...]]:
    wide = data.x.shape[1]
    maker = {"g0.w": (8, 32), "g0.b": (32,), "g1.v": (32, wide), "g1.b": (wide,)}
    return maker | {"d0.w": (wide, 32), "d0.b": (32,), "d1.v": (32, 1), "d1.b": (1,)}


def _adversarial_cost(params: Params, batch: Batch) -> Cost:
    """A generator against a discriminator (Goodfellow et al. 2014); the generator's loss is what is printed."""

    def judged(weights: Params, x: Tensor) -> Tensor:
        return _dense(weights, "d1", F.leaky_relu(_dense(weights, "d0", x), 0.2))[:, 0]

    fixed = {name: value.detach() for name, value in params.items()}
    made = torch.sigmoid(_dense(params, "g1", F.relu(_dense(params, "g0", batch.noise))))
    told = F.softplus(-judged(params, batch.x)) + F.softplus(judged(params, made.detach()))
    fooled = F.softplus(-judged(fixed, made))
    return Cost(told + fooled, fooled)


# --------------------------------------------------------------------------------------------------------- text

WIDTH = 16


def _embedded(params: Params, symbols: Tensor) -> Tensor:
    """A product with one-hot rows: the gradient of an index is slow when members are stacked."""
    return F.one_hot(symbols, SYMBOLS).float() @ params["word.e"]


def _gpt_shapes(_: Data) -> dict[str, tuple[int, ...]]:
    block = {
        "n0.g": (WIDTH,), "qkv.v": (WIDTH, 3 * WIDTH), "qkv.b": (3 * WIDTH,),
        "mix.v": (WIDTH, WIDTH), "mix.b": (WIDTH,),
        "n1.g": (WIDTH,), "up.w": (WIDTH, 3 * WIDTH), "up.b": (3 * WIDTH,),
        "down.v": (3 * WIDTH, WIDTH), "down.b": (WIDTH,),
    }  # fmt: skip
    return {"word.e": (SYMBOLS, WIDTH), "place.e": (CONTEXT, WIDTH)} | block | {
        "n2.g": (WIDTH,), "out.v": (WIDTH, SYMBOLS), "out.b": (SYMBOLS,),
    }  # fmt: skip


def _gpt_cost(params: Params, batch: Batch) -> Cost:
    seen, wanted = batch.x[:, :-1], batch.y[:, 1:]
    x = _embedded(params, seen) + params["place.e"]
    query, key, value = (
        part.unflatten(-1, (2, WIDTH // 2)).transpose(1, 2)
        for part in _dense(params, "qkv", _norm(x, params["n0.g"])).chunk(3, -1)
    )
    scores = query @ key.transpose(-1, -2) / math.sqrt(WIDTH // 2)
    later = torch.ones(CONTEXT, CONTEXT, dtype=torch.bool).triu(1)
    mixed = scores.masked_fill(later, -1e4).softmax(-1) @ value
    x = _through(x + _dense(params, "mix", mixed.transpose(1, 2).flatten(2)), batch.half)
    x = _through(x + _dense(params, "down", F.gelu(_dense(params, "up", _norm(x, params["n1.g"])))), batch.half)
    return _next_symbol(_dense(params, "out", _norm(x, params["n2.g"])), wanted)


def _next_symbol(logits: Tensor, wanted: Tensor) -> Cost:
    loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none").unflatten(0, wanted.shape).mean(-1)
    return Cost(loss, loss)


def _lstm_shapes(_: Data) -> dict[str, tuple[int, ...]]:
    return {
        "word.e": (SYMBOLS, WIDTH), "in.v": (WIDTH, 4 * WIDTH), "in.b": (4 * WIDTH,), "back.v": (WIDTH, 4 * WIDTH),
        "out.v": (WIDTH, SYMBOLS), "out.b": (SYMBOLS,),
    }  # fmt: skip


def _lstm_cost(params: Params, batch: Batch) -> Cost:
    """Hochreiter & Schmidhuber 1997, with a forget gate."""
    seen, wanted = batch.x[:, :-1], batch.y[:, 1:]
    fed = _dense(params, "in", _embedded(params, seen))
    state = cell = torch.zeros(seen.shape[0], WIDTH)
    told = []
    for place in range(CONTEXT):
        gate_in, forget, candidate, gate_out = (fed[:, place] + state @ params["back.v"]).chunk(4, -1)
        cell = torch.sigmoid(forget + 1) * cell + torch.sigmoid(gate_in) * torch.tanh(candidate)
        state = torch.sigmoid(gate_out) * torch.tanh(cell)
        told.append(state)
    return _next_symbol(_dense(params, "out", torch.stack(told, 1)), wanted)


def _words_shapes(_: Data) -> dict[str, tuple[int, ...]]:
    return {"word.e": (SYMBOLS, 12), "0.w": (48, 48), "0.b": (48,), "out.v": (48, SYMBOLS), "out.b": (SYMBOLS,)}


def _words_cost(params: Params, batch: Batch) -> Cost:
    """The next symbol from the four before (Bengio et al. 2003)."""
    seen = _embedded(params, batch.x[:, :-1])
    before = torch.cat([seen[:, shift : CONTEXT - 3 + shift] for shift in range(4)], -1)
    hidden = torch.tanh(_dense(params, "0", before))
    return _next_symbol(_dense(params, "out", hidden), batch.y[:, 4:])


MODELS: dict[str, Model] = {
    "linear": Model(_linear_shapes, _mlp_cost),
    "mlp": Model(_mlp_shapes(32, 2), _mlp_cost),
    "naive-mlp": Model(_mlp_shapes(32, 1), _naive_mlp_cost),
    "deep-mlp": Model(_mlp_shapes(24, 5), _mlp_cost),
    "normed-mlp": Model(_mlp_shapes(24, 3, normed=True), _mlp_cost),
    "linear-regression": Model(_linear_shapes, _regression_cost),
    "regression": Model(_mlp_shapes(24, 2), _regression_cost),
    "heteroscedastic": Model(_heteroscedastic_shapes, _heteroscedastic_cost),
    "cnn": Model(_cnn_shapes, _cnn_cost),
    "autoencoder": Model(_auto_shapes, _auto_cost),
    "gaussian-autoencoder": Model(_gaussian_auto_shapes, _gaussian_auto_cost),
    "vae": Model(_vae_shapes, _vae_cost, noise=8),
    "denoiser": Model(_denoiser_shapes, _denoiser_cost, noise=65),
    "contrastive": Model(_contrast_shapes, _contrast_cost, noise=128),
    "policy": Model(_mlp_shapes(32, 1), _policy_cost, noise=10),
    "gan": Model(_adversarial_shapes, _adversarial_cost, noise=8),
    "gpt": Model(_gpt_shapes, _gpt_cost),
    "lstm": Model(_lstm_shapes, _lstm_cost),
    "words": Model(_words_shapes, _words_cost),
}
