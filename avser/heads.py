"""Heads: from vectors of steps to logits of the clip and of every step."""

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor, nn

from avser.encoders.recurrent import MaskedRecurrence


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis in which invalid places get exactly 0; all-invalid gives 0."""
    scores = scores.masked_fill(~mask, -1e4)
    return scores.softmax(dim=-1) * mask.to(scores.dtype)


class Head(nn.Module, ABC):
    """Classifies steps and clips.

    A configuration gives a head's own settings; `build` then sizes it for a stream, since a net
    has one head each for sound, picture and both.
    """

    @abstractmethod
    def build(self, dim: int, classes: int) -> Self:
        """Make the layers for inputs of width ``dim`` and ``classes`` outputs; return self."""

    @abstractmethod
    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Turn ``x [B, T, D], mask [B, T]`` into ``logits [B, K], step_logits [B, T, K]``."""


class AttentiveHead(Head):
    """Attentive statistics pooling (Okabe et al., Interspeech 2018), then a linear layer.

    The clip's vector is the attention-weighted mean and deviation of its steps; each step is
    also classified by itself, which draws the timeline.

    Args:
        hidden: width of the attention's hidden layer.
        dropout: on the clip's vector.
    """

    def __init__(self, *, hidden: int = 64, dropout: float = 0.3) -> None:
        super().__init__()
        self.hidden = hidden
        self.dropout = nn.Dropout(dropout)

    def build(self, dim: int, classes: int) -> Self:
        """See `Head.build`."""
        self.attention = nn.Sequential(
            nn.Linear(dim, self.hidden), nn.Tanh(), nn.Linear(self.hidden, 1)
        )
        self.clip = nn.Linear(2 * dim, classes)
        self.step = nn.Linear(dim, classes)
        return self

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See `Head.forward`."""
        weights = masked_softmax(self.attention(x).squeeze(-1), mask).unsqueeze(-1)
        mean = (weights * x).sum(dim=1)
        variance = (weights * (x - mean.unsqueeze(1)).square()).sum(dim=1)
        pooled = torch.cat([mean, (variance + 1e-5).sqrt()], dim=-1)
        return self.clip(self.dropout(pooled)), self.step(x)


class LstmHead(Head):
    """LRCN (Donahue et al., CVPR 2015): an LSTM that classifies at every step.

    The clip's logits are the log of the mean of its steps' probabilities.

    Args:
        hidden: width of the LSTM.
        dropout: before and after it.
    """

    def __init__(self, *, hidden: int = 256, dropout: float = 0.5) -> None:
        super().__init__()
        self.hidden = hidden
        self.dropout = nn.Dropout(dropout)

    def build(self, dim: int, classes: int) -> Self:
        """See `Head.build`."""
        self.recurrence = MaskedRecurrence(
            dim, hidden=self.hidden, cell="lstm", bidirectional=False
        )
        self.step = nn.Linear(self.hidden, classes)
        return self

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See `Head.forward`."""
        x = x * mask.unsqueeze(-1).to(x.dtype)
        steps = self.step(self.dropout(self.recurrence(self.dropout(x), mask)))
        valid = mask.unsqueeze(-1).to(x.dtype)
        mean = (steps.softmax(dim=-1) * valid).sum(dim=1) / valid.sum(dim=1).clamp(min=1.0)
        return (mean + 1e-8).log(), steps
