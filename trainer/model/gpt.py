"""A GPT small enough to read: bytes in, the next byte out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.spec.model import Gpt


class Block(nn.Module):
    """Attention, then a perceptron, each added to what came in (pre-norm)."""

    def __init__(self, options: Gpt) -> None:
        super().__init__()
        self.heads, self.dropout = options.heads, options.dropout
        self.attention_norm = nn.LayerNorm(options.width)
        self.query_key_value = nn.Linear(options.width, 3 * options.width)
        self.attention_out = nn.Linear(options.width, options.width)
        self.perceptron_norm = nn.LayerNorm(options.width)
        self.perceptron_in = nn.Linear(options.width, 4 * options.width)
        self.perceptron_out = nn.Linear(4 * options.width, options.width)
        self.drop = nn.Dropout(options.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.attention_out(self._attend(self.attention_norm(x))))
        hidden = functional.gelu(self.perceptron_in(self.perceptron_norm(x)))
        added: Tensor = self.drop(self.perceptron_out(hidden))
        return x + added

    def _attend(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        projected = self.query_key_value(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        return mixed.transpose(1, 2).reshape(batch, length, width)


class GPT(nn.Module):
    """Predicts every next byte of a window from the bytes before it: [samples, context] to [.., context, bytes]."""

    def __init__(self, options: Gpt, vocabulary: int = 256) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, options.width)
        self.position = nn.Embedding(options.context, options.width)
        self.drop = nn.Dropout(options.dropout)
        self.blocks = nn.ModuleList(Block(options) for _ in range(options.layers))
        self.norm = nn.LayerNorm(options.width)
        self.head = nn.Linear(options.width, vocabulary, bias=False)
        self._initialize(options)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.drop(self.token(tokens) + self.position(places))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits

    def _initialize(self, options: Gpt) -> None:
        for name, parameter in self.named_parameters():
            if parameter.ndim >= 2:
                # What is added to the residual stream starts smaller the more of it there is (GPT-2).
                shrink = (2 * options.layers) ** -0.5 if name.endswith("_out.weight") else 1.0
                nn.init.normal_(parameter, std=options.init_std * shrink)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
