"""Base class of baselines: fitted by scikit-learn, then plain arrays and arithmetic."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from avser.errors import ConfigError


class Baseline(nn.Module, ABC):
    """A classical model of vectors.

    scikit-learn fits it; what it has learnt is copied into arrays, which travel with a network's
    weights (safetensors, never a pickle) and give probabilities by themselves. A subclass writes
    `allocate`, `estimate` and `scores`, and `make_room` where a size is known only after fitting.

    Args:
        standardise: take the training vectors' mean from each feature and divide by its deviation.

    Attributes:
        features: F, width of a vector.
        classes: K.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, *, standardise: bool = True) -> None:
        super().__init__()
        self.standardise = standardise
        self.features, self.classes = 0, 0

    def build(self, features: int, classes: int) -> Self:
        """Make room for vectors of width ``features`` and ``classes`` outputs; return self."""
        self.features, self.classes = features, classes
        self.keep("mean", np.zeros(features))
        self.keep("deviation", np.ones(features))
        self.allocate()
        return self

    def keep(self, name: str, values: ArrayLike | Tensor) -> None:
        """Hold an array as a weight that no optimizer moves; reals as float32."""
        # a copy: arrays of fitted models may be read-only
        array = (
            values if isinstance(values, Tensor) else torch.as_tensor(np.array(values, order="C"))
        )
        array = array.float() if array.is_floating_point() else array
        setattr(self, name, nn.Parameter(array, requires_grad=False))

    def fit(self, x: Tensor, y: Tensor) -> Self:
        """Learn from ``x [n, F]`` and classes ``y [n]``; return self.

        Raises:
            ConfigError: a class has no vector, or a value is not finite.
        """
        if x.ndim != 2 or x.shape[1] != self.features or len(x) != len(y):
            raise ConfigError(
                f"Bad vectors {tuple(x.shape)} of {len(y)} labels: expected one row of "
                f"{self.features} values a label."
            )
        there = sorted(set(y.tolist()))
        if there != list(range(self.classes)):
            raise ConfigError(
                f"Bad classes {there} of {self.classes}: a baseline needs vectors of every class; "
                "choose another split, or fewer classes."
            )
        if not bool(x.isfinite().all()):
            raise ConfigError("Bad vectors: some value is not finite; choose another front end.")
        if self.standardise:
            exact = x.double()
            self.keep("mean", exact.mean(dim=0).cpu())
            spread = exact.std(dim=0, correction=0)
            self.keep("deviation", torch.where(spread > 1e-6, spread, 1.0).cpu())
            self.to(x.device)
        self.estimate(self.scaled(x).cpu().numpy(), y.cpu().numpy())
        self.to(x.device)
        return self

    def scaled(self, x: Tensor) -> Tensor:
        """Standardise ``[..., F]``."""
        return (x.float() - self.mean) / self.deviation

    def log_probabilities(self, x: Tensor) -> Tensor:
        """Turn vectors ``[..., F]`` into log probabilities ``[..., K]``."""
        rows = self.scaled(x).reshape(-1, self.features)
        return self.scores(rows).log_softmax(dim=-1).reshape(*x.shape[:-1], self.classes)

    def probabilities(self, x: Tensor) -> Tensor:
        """Turn vectors ``[..., F]`` into probabilities ``[..., K]``."""
        return self.log_probabilities(x).exp()

    def make_room(self, stored: Mapping[str, Tensor]) -> None:
        """Size arrays like stored ones, before these are loaded, where only fitting fixes sizes."""

    @abstractmethod
    def allocate(self) -> None:
        """Hold arrays of `features` and `classes`, of a model that has learnt nothing."""

    @abstractmethod
    def estimate(self, x: NDArray[np.float32], y: NDArray[np.int64]) -> None:
        """Fit to standardised ``x [n, F]`` and ``y [n]``, and `keep` what was learnt."""

    @abstractmethod
    def scores(self, x: Tensor) -> Tensor:
        """Turn standardised ``[n, F]`` into ``[n, K]``: log probabilities up to a constant."""


def log_priors(y: NDArray[np.int64], classes: int, *, balanced: bool) -> NDArray[np.float64]:
    """Log share of each class ``[K]``, or the same for all."""
    counts = np.ones(classes) if balanced else np.bincount(y, minlength=classes).astype(float)
    shares: NDArray[np.float64] = np.log(counts / counts.sum())
    return shares
