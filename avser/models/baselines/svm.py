"""Support vector machine."""

from collections.abc import Mapping
from itertools import combinations
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.models.baselines.base import Baseline


class Svm(Baseline):
    """C-SVM, one machine for each pair of classes (Cortes & Vapnik 1995; LIBSVM).

    Its scores are the votes of the pairs, ties broken by their margins, as scikit-learn's
    ``decision_function`` gives them; their softmax is calibrated by the network's temperature,
    which is fitted on validation, so that no training clips are held out for that.

    Args:
        cost: C, the price of a vector on the wrong side.
        kernel: ``rbf`` exp(-gamma |a - b|^2), or ``linear``.
        gamma: of the kernel; None is 1 / (F times the variance of all values).
        balanced: weigh classes by inverse frequency.
        standardise: see `Baseline`.

    Raises:
        ConfigError: cost or gamma is not positive.
    """

    support: Tensor
    pairs: Tensor
    bias: Tensor
    width: Tensor

    def __init__(
        self,
        *,
        cost: float = 1.0,
        kernel: Literal["rbf", "linear"] = "rbf",
        gamma: float | None = None,
        balanced: bool = False,
        standardise: bool = True,
    ) -> None:
        super().__init__(standardise=standardise)
        if cost <= 0 or (gamma is not None and gamma <= 0):
            raise ConfigError(f"Bad cost {cost} or gamma {gamma}: legal is more than 0.")
        self.cost, self.kernel, self.gamma, self.balanced = cost, kernel, gamma, balanced

    def allocate(self) -> None:
        """See `Baseline.allocate`: no support vector yet."""
        self.keep("width", np.float64(self.gamma or 1.0))
        self.keep("bias", np.zeros(self._count))
        self._hold(0)

    @property
    def _count(self) -> int:
        return self.classes * (self.classes - 1) // 2

    def _hold(self, vectors: int) -> None:
        self.keep("support", np.zeros((vectors, self.features)))
        self.keep("pairs", np.zeros((vectors, self._count)))

    def make_room(self, stored: Mapping[str, Tensor]) -> None:
        """See `Baseline.make_room`."""
        if "support" in stored and stored["support"].ndim == 2:
            self._hold(len(stored["support"]))

    def estimate(self, x: NDArray[np.float32], y: NDArray[np.int64]) -> None:
        """See `Baseline.estimate`."""
        from sklearn.svm import SVC

        variance = float(x.var()) or 1.0
        gamma = self.gamma or 1.0 / (self.features * variance)
        machine = SVC(
            C=self.cost,
            kernel=self.kernel,
            gamma=gamma,
            class_weight="balanced" if self.balanced else None,
        ).fit(x, y)
        # row m of dual_coef_ holds, for a vector of class c, its weight against the m-th other one
        owner = np.repeat(np.arange(self.classes), machine.n_support_)
        dual = np.zeros((len(owner), self._count))
        for place, (i, j) in enumerate(combinations(range(self.classes), 2)):
            dual[owner == i, place] = machine.dual_coef_[j - 1, owner == i]
            dual[owner == j, place] = machine.dual_coef_[i, owner == j]
        # with two classes scikit-learn turns the sign: positive is the second one
        sign = -1.0 if self.classes == 2 else 1.0
        self.keep("width", np.float64(gamma))
        self.keep("support", machine.support_vectors_)
        self.keep("pairs", sign * dual)
        self.keep("bias", sign * machine.intercept_)

    def scores(self, x: Tensor) -> Tensor:
        """See `Baseline.scores`."""
        product = x @ self.support.T
        if self.kernel == "rbf":
            far = x.square().sum(dim=1, keepdim=True) + self.support.square().sum(dim=1)
            product = (-self.width * (far - 2 * product).clamp(min=0)).exp()
        margins = product @ self.pairs + self.bias
        pairs = torch.tensor(list(combinations(range(self.classes), 2)), device=x.device)
        one, other = F.one_hot(pairs, self.classes).to(x.dtype).unbind(dim=1)  # [pairs, K] each
        first = (margins >= 0).to(x.dtype)
        votes, sums = first @ one + (1 - first) @ other, margins @ (one - other)
        # a third at most, so that margins break ties and never outvote
        total: Tensor = votes + sums / (3 * (sums.abs() + 1))
        return total
