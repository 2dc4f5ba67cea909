"""Running centring of a face's scores or embeddings on the person's own mean so far."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from einops import rearrange
from torch import Tensor

from avser.types import STEP_S

#: Steps after which half of a person's mean is subtracted: 20 s. In a short clip nearly nothing is
#: subtracted, since its mean is its emotion; in a long one, with several emotions, nearly all.
WARM_UP_STEPS = round(20 / STEP_S)


class RunningCentre:
    """The mean so far, shrunk, to be subtracted from each step's log probabilities or vector.

    After n steps with a face the mean is weighted by n / (n + 39): 9 % after 2 s, 50 % after 20 s,
    90 % after 3 minutes. The mean of a step includes its own scores, and no later ones.

    Args:
        warm_up: steps after which the weight is one half.
    """

    def __init__(self, *, warm_up: int = WARM_UP_STEPS) -> None:
        self._warm_up = warm_up
        self._total: Tensor | float = 0.0  # [1, 1, K] of the steps before
        self._count: Tensor | float = 0.0

    def __call__(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Turn log probabilities, or vectors, ``[B, T, K]`` under ``mask [B, T]`` into means."""
        total, count = self._sums(scores, mask)
        return total / (count + self._warm_up)

    def _sums(self, scores: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        shown = rearrange(mask, "b t -> b t 1")
        total = torch.where(shown, scores, 0.0).cumsum(dim=1) + self._total
        return total, shown.cumsum(dim=1) + self._count

    @contextmanager
    def followed_by(self, steps: int) -> Iterator["_Recorder"]:
        """Process a window of a clip; the next window begins that many steps later."""
        recorder = _Recorder(self)
        yield recorder
        if recorder.scores is not None and recorder.mask is not None:
            total, count = self._sums(recorder.scores, recorder.mask)
            last = min(steps, total.shape[1]) - 1
            self._total, self._count = total[:, last : last + 1], count[:, last : last + 1]


class _Recorder:
    """Keeps the scores of a window."""

    def __init__(self, centre: RunningCentre) -> None:
        self._centre = centre
        self.scores: Tensor | None = None
        self.mask: Tensor | None = None

    def __call__(self, scores: Tensor, mask: Tensor) -> Tensor:
        self.scores, self.mask = scores, mask
        return self._centre(scores, mask)
