"""The head that puts a baseline into a network."""

from typing import Literal, Self

from torch import Tensor

from avser.models.baselines.base import Baseline
from avser.models.encoders.recurrent import State
from avser.models.heads import Head


class BaselineHead(Head):
    """Classifies steps and clips by a baseline, which is fitted in one pass instead of epochs.

    Behind an encoder without weights (`PooledEncoder`) that makes a classical model; behind one
    that starts from a trained model, a classical model on what that has learnt.

    Args:
        baseline: its settings; every stream gets a model of its own.
        unit: what it is fitted on: ``clip`` is the mean of a clip's valid steps, ``step`` is each
            of them with the clip's label; the clip's probabilities are then the mean of theirs.
        scores: a head whose scores of each step are classified in the place of the step's vector;
            it begins with the model that ``init`` names. None classifies the vector.
    """

    def __init__(
        self,
        *,
        baseline: Baseline,
        unit: Literal["clip", "step"] = "clip",
        scores: Head | None = None,
    ) -> None:
        super().__init__()
        self.baseline, self.unit, self.scores = baseline, unit, scores

    def build(self, dim: int, classes: int) -> Self:
        """See `Head.build`."""
        if self.scores is not None:
            self.scores.build(dim, classes)
            dim = classes
        self.baseline.build(dim, classes)
        return self

    def vectors(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the baseline is fitted on, of ``x [B, T, D]`` and ``mask [B, T]``.

        Returns:
            Vectors ``[n, D]``, and which clip of the batch each is of, ``[n]``.
        """
        if self.scores is not None:
            _, x = self.scores(x, mask)
        if self.unit == "step":
            return x[mask], mask.nonzero()[:, 0]
        there = mask.any(dim=1)
        total, count = self._sums(x, mask)
        return (total / count)[there], there.nonzero()[:, 0]

    @staticmethod
    def _sums(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over valid steps ``[B, D]``, and their number, at least 1, ``[B, 1]``."""
        total = x.masked_fill(~mask.unsqueeze(-1), 0.0).sum(dim=1)
        return total, mask.sum(dim=1, keepdim=True).clamp(min=1).to(x.dtype)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See `Head.forward`: logits are log probabilities."""
        if self.scores is not None:
            _, x = self.scores(x, mask)
        steps = self.baseline.log_probabilities(x)
        total, count = self._sums(x if self.unit == "clip" else steps.exp(), mask)
        return self._logits(total, count), steps

    def _logits(self, total: Tensor, count: Tensor) -> Tensor:
        mean = total / count
        if self.unit == "clip":
            return self.baseline.log_probabilities(mean)
        return mean.clamp(min=1e-8).log()

    def initial_state(self, size: int) -> State:
        """Sum over steps so far, of vectors or of probabilities, and their number ``[B, 1]``."""
        like = self.baseline.mean
        width = len(like) if self.unit == "clip" else self.baseline.classes
        before = () if self.scores is None else self.scores.initial_state(size)
        return like.new_zeros(size, width), like.new_zeros(size, 1), *before

    def advance(self, x: Tensor, mask: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """See `Head.advance`."""
        total, count, *before = state
        if self.scores is not None:
            _, x, after = self.scores.advance(x, mask, tuple(before))
            before = list(after)
        steps = self.baseline.log_probabilities(x)
        more, _ = self._sums(x if self.unit == "clip" else steps.exp(), mask)
        total, count = total + more, count + mask.sum(dim=1, keepdim=True).to(count.dtype)
        return self._logits(total, count.clamp(min=1)), steps, (total, count, *before)
