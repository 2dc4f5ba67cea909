"""Baselines whose scores are linear in the vector."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from avser.errors import ConfigError
from avser.models.baselines.base import Baseline, log_priors


class Linear(Baseline):
    """Scores ``W x + b``: what linear models have in common."""

    weight: Tensor
    bias: Tensor

    def allocate(self) -> None:
        """See `Baseline.allocate`."""
        self.keep("weight", np.zeros((self.classes, self.features)))
        self.keep("bias", np.zeros(self.classes))

    def _take(self, model: Any) -> None:  # noqa: ANN401 (scikit-learn is not typed)
        weight, bias = model.coef_, model.intercept_
        if self.classes == 2:  # scikit-learn gives the second class alone, against 0
            weight, bias = np.vstack([0 * weight, weight]), np.append([0.0], bias)
        self.keep("weight", weight)
        self.keep("bias", bias)

    def scores(self, x: Tensor) -> Tensor:
        """See `Baseline.scores`."""
        return x @ self.weight.T + self.bias


class Softmax(Linear):
    """Softmax (multinomial logistic) regression.

    Args:
        cost: inverse of the L2 penalty's weight.
        iterations: at most so many.
        balanced: weigh classes by inverse frequency.
        standardise: see `Baseline`.

    Raises:
        ConfigError: cost is not positive.
    """

    def __init__(
        self,
        *,
        cost: float = 1.0,
        iterations: int = 1000,
        balanced: bool = False,
        standardise: bool = True,
    ) -> None:
        super().__init__(standardise=standardise)
        if cost <= 0:
            raise ConfigError(f"Bad cost {cost}: legal is more than 0.")
        self.cost, self.iterations, self.balanced = cost, iterations, balanced

    def estimate(self, x: NDArray[np.float32], y: NDArray[np.int64]) -> None:
        """See `Baseline.estimate`."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(
            C=self.cost,
            max_iter=self.iterations,
            class_weight="balanced" if self.balanced else None,
        )
        with warnings.catch_warnings():  # the limit is a setting, not a fault
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._take(model.fit(x.astype(np.float64), y))


class Lda(Linear):
    """Linear discriminant analysis: Gaussian classes of one covariance.

    Args:
        shrinkage: share of the identity in the covariance, 0 to 1; None is Ledoit and Wolf's.
        balanced: take classes as equally probable beforehand.
        standardise: see `Baseline`.

    Raises:
        ConfigError: shrinkage is out of its range.
    """

    def __init__(
        self,
        *,
        shrinkage: float | None = None,
        balanced: bool = False,
        standardise: bool = True,
    ) -> None:
        super().__init__(standardise=standardise)
        if shrinkage is not None and not 0 <= shrinkage <= 1:
            raise ConfigError(f"Bad shrinkage {shrinkage}: legal is 0 to 1, or null.")
        self.shrinkage, self.balanced = shrinkage, balanced

    def estimate(self, x: NDArray[np.float32], y: NDArray[np.int64]) -> None:
        """See `Baseline.estimate`."""
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        model = LinearDiscriminantAnalysis(
            solver="lsqr",
            shrinkage="auto" if self.shrinkage is None else self.shrinkage,
            priors=np.exp(log_priors(y, self.classes, balanced=self.balanced)),
        )
        self._take(model.fit(x.astype(np.float64), y))
