"""Heads: from vectors of steps to logits of the clip and of every step."""

from abc import ABC, abstractmethod
from typing import Literal, Self

import torch
from einops import rearrange
from torch import Tensor, nn

from avser.errors import ConfigError
from avser.models.encoders.recurrent import MaskedRecurrence, State, take_frames

#: Score of an invalid step in a softmax: below any real score, and finite in float16.
MASKED_SCORE = -1e4


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis; invalid entries are exactly 0, also where all are invalid."""
    scores = scores.masked_fill(~mask, MASKED_SCORE)
    return scores.softmax(dim=-1) * mask.to(scores.dtype)


class Head(nn.Module, ABC):
    """Classifies steps and clips.

    A configuration holds a head's own settings. `build` then sizes it for a stream: a net has one
    head each for audio, video and their fusion.

    The output does not depend on invalid steps: not on their values, nor on their number. A clip
    may also be processed in pieces: `advance` over all pieces, each with the state of the one
    before, gives what `forward` gives for the whole.
    """

    @abstractmethod
    def build(self, dim: int, classes: int) -> Self:
        """Make the layers for inputs of width ``dim`` and ``classes`` outputs; return self."""

    @abstractmethod
    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Turn ``x [B, T, D], mask [B, T]`` into ``logits [B, K], step_logits [B, T, K]``."""

    @abstractmethod
    def initial_state(self, size: int) -> State:
        """State of ``size`` clips before their first step."""

    @abstractmethod
    def advance(self, x: Tensor, mask: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """Process the next steps of each clip.

        Args:
            x: ``[B, T, D]``, T of at least 1.
            mask: ``[B, T]`` bool.
            state: of `initial_state`, or of the piece before.

        Returns:
            ``logits [B, K]`` of all steps so far, ``step_logits [B, T, K]`` of these steps, and
            the state for the next piece.
        """


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
        # no bias on the scores: a softmax does not change when all of them are shifted
        self.attention = nn.Sequential(
            nn.Linear(dim, self.hidden), nn.Tanh(), nn.Linear(self.hidden, 1, bias=False)
        )
        self.clip = nn.Linear(2 * dim, classes)
        self.step = nn.Linear(dim, classes)
        return self

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See `Head.forward`."""
        weights = masked_softmax(self.attention(x).squeeze(-1), mask).unsqueeze(-1)
        mean = (weights * x).sum(dim=1)
        variance = (weights * (x - mean.unsqueeze(1)).square()).sum(dim=1)
        return self._classify(mean, variance), self.step(x)

    def on_single_steps(self) -> "LinearHead":
        """Linear head with the same logits on clips of one step.

        In a head that was trained on single pictures, the weights of the deviation and of the step
        layer are still random. The linear head has neither; a video's logits are the mean of its
        steps'.
        """
        dim, classes = self.step.in_features, self.step.out_features
        linear = LinearHead(dropout=self.dropout.p).build(dim, classes)
        with torch.no_grad():
            mean, deviation = self.clip.weight[:, :dim], self.clip.weight[:, dim:]
            linear.step.weight.copy_(mean)
            linear.step.bias.copy_(self.clip.bias + deviation.sum(dim=1) * 1e-5**0.5)
        return linear

    def _classify(self, mean: Tensor, variance: Tensor) -> Tensor:
        pooled = torch.cat([mean, (variance + 1e-5).sqrt()], dim=-1)
        logits: Tensor = self.clip(self.dropout(pooled))
        return logits

    def initial_state(self, size: int) -> State:
        """Highest score and sum of weights ``[B, 1]``, mean and sum of squares ``[B, D]``."""
        like = self.step.weight
        nothing, zeros = like.new_full((size, 1), MASKED_SCORE), like.new_zeros(size, like.shape[1])
        return nothing, torch.zeros_like(nothing), zeros, zeros.clone()

    def advance(self, x: Tensor, mask: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """See `Head.advance`.

        The softmax over all steps so far is kept as weights relative to the highest score so far.
        Means and squared deviations are merged as in Chan et al. (1979): after many steps, a
        difference of sums of squares would lose all digits of float32.
        """
        peak, total, mean, squares = state
        scores = self.attention(x).squeeze(-1).masked_fill(~mask, MASKED_SCORE)
        highest = torch.maximum(peak, scores.amax(dim=1, keepdim=True))
        weights = ((scores - highest).exp() * mask.to(scores.dtype)).unsqueeze(-1)
        here = weights.sum(dim=1)
        mean_here = (weights * x).sum(dim=1) / here.clamp(min=1e-12)
        squares_here = (weights * (x - mean_here.unsqueeze(1)).square()).sum(dim=1)

        fade = (peak - highest).exp()
        before, total = fade * total, fade * total + here
        share = here / total.clamp(min=1e-12)
        apart = mean_here - mean
        squares = fade * squares + squares_here + apart.square() * before * share
        mean = mean + apart * share
        logits = self._classify(mean, squares / total.clamp(min=1e-12))
        return logits, self.step(x), (highest, total, mean, squares)


class LinearHead(Head):
    """A linear layer: the softmax classifier of most papers.

    Args:
        dropout: on its input.
        average: a clip's output is that of its steps' mean vector ("vectors"), or the mean of the
            steps' probabilities, as where every chunk was trained by itself ("probabilities"). For
            an encoder of the span "clip" both are the same.
    """

    def __init__(
        self, *, dropout: float = 0.0, average: Literal["vectors", "probabilities"] = "vectors"
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.average = average

    def build(self, dim: int, classes: int) -> Self:
        """See `Head.build`."""
        self.step = nn.Linear(dim, classes)
        return self

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See `Head.forward`."""
        x = x.masked_fill(~mask.unsqueeze(-1), 0.0)
        total, count = self._totals(x, mask)
        return self._classify(total, count), self.step(self.dropout(x))

    def _totals(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over valid steps, of vectors or of probabilities, and their number ``[B, 1]``."""
        if self.average == "probabilities":
            x = self.step(self.dropout(x)).softmax(dim=-1)
        valid = mask.unsqueeze(-1).to(x.dtype)
        return (x * valid).sum(dim=1), valid.sum(dim=1)

    def _classify(self, total: Tensor, count: Tensor) -> Tensor:
        mean = total / count.clamp(min=1.0)
        if self.average == "probabilities":
            return (mean + 1e-8).log()
        logits: Tensor = self.step(self.dropout(mean))
        return logits

    def initial_state(self, size: int) -> State:
        """Sum over steps so far, of vectors or of probabilities, and their number ``[B, 1]``."""
        classes, dim = self.step.weight.shape
        width = dim if self.average == "vectors" else classes
        return self.step.weight.new_zeros(size, width), self.step.weight.new_zeros(size, 1)

    def advance(self, x: Tensor, mask: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """See `Head.advance`."""
        total, count = state
        more, number = self._totals(x.masked_fill(~mask.unsqueeze(-1), 0.0), mask)
        total, count = total + more, count + number
        return self._classify(total, count), self.step(self.dropout(x)), (total, count)


class LstmHead(Head):
    """LRCN (Donahue et al., CVPR 2015): an LSTM that classifies at every step.

    Training asks every step for the clip's label (``step_loss``); the clip's probabilities are the
    mean of its steps', and its logits their log. The LSTM holds its state over invalid steps and
    goes on at the next valid one, as if they had been cut out.

    Args:
        hidden: width of the LSTM.
        dropout: before and after it.
        bidirectional: also run from the last step to the first: for whole clips, not for streams.
    """

    def __init__(
        self, *, hidden: int = 256, dropout: float = 0.5, bidirectional: bool = False
    ) -> None:
        super().__init__()
        self.hidden, self.bidirectional = hidden, bidirectional
        self.dropout = nn.Dropout(dropout)

    def build(self, dim: int, classes: int) -> Self:
        """See `Head.build`."""
        self.recurrence = MaskedRecurrence(
            dim, hidden=self.hidden, cell="lstm", bidirectional=self.bidirectional
        )
        self.step = nn.Linear(self.recurrence.dim, classes)
        return self

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See `Head.forward`."""
        # number of valid steps up to each step; an invalid one has that of the step before
        rank = mask.long().cumsum(dim=1)
        index = torch.arange(mask.shape[1], device=mask.device).unsqueeze(0)
        nth = (rank.unsqueeze(1) <= index.unsqueeze(2)).sum(dim=2)  # index of the n-th valid step
        together = self.recurrence(take_frames(self.dropout(x), nth), index < rank[:, -1:])
        steps: Tensor = self.step(self.dropout(take_frames(together, rank - 1)))
        total, count = self._totals(steps, mask)
        return self._log_mean(total, count), steps

    @staticmethod
    def _totals(steps: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of the valid steps' probabilities ``[B, K]`` and their number ``[B, 1]``."""
        valid = mask.unsqueeze(-1).to(steps.dtype)
        return (steps.softmax(dim=-1) * valid).sum(dim=1), valid.sum(dim=1)

    @staticmethod
    def _log_mean(total: Tensor, count: Tensor) -> Tensor:
        return (total / count.clamp(min=1.0) + 1e-8).log()

    def initial_state(self, size: int) -> State:
        """The LSTM's two vectors ``[B, hidden]``, sum of probabilities ``[B, K]``, count.

        Raises:
            ConfigError: it is bidirectional.
        """
        if self.bidirectional:
            raise ConfigError(
                "Bad head: a bidirectional LSTM also reads a clip from its end, which a stream "
                "does not have; use a model whose head has bidirectional false."
            )
        like = self.step.weight
        zeros = like.new_zeros(size, self.hidden)
        return zeros, zeros.clone(), like.new_zeros(size, like.shape[0]), like.new_zeros(size, 1)

    def advance(self, x: Tensor, mask: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """See `Head.advance`. Goes step by step, since the state stays where a step is invalid."""
        short, long, total, count = state
        outputs = []
        for vector, valid in zip(self.dropout(x).unbind(dim=1), mask.unbind(dim=1), strict=True):
            _, (new_short, new_long) = self.recurrence.forwards(
                rearrange(vector, "b d -> b 1 d"),
                (rearrange(short, "b h -> 1 b h"), rearrange(long, "b h -> 1 b h")),
            )
            short = torch.where(valid.unsqueeze(-1), new_short.squeeze(0), short)
            long = torch.where(valid.unsqueeze(-1), new_long.squeeze(0), long)
            outputs.append(short)
        steps: Tensor = self.step(self.dropout(torch.stack(outputs, dim=1)))
        more, number = self._totals(steps, mask)
        total, count = total + more, count + number
        return self._log_mean(total, count), steps, (short, long, total, count)
