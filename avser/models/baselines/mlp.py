"""Small fully connected networks."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from avser.errors import ConfigError
from avser.models.baselines.base import Baseline


class Mlp(Baseline):
    """Fully connected layers with ReLU, fitted by Adam on batches of 200 vectors.

    Args:
        hidden: width of each hidden layer; one makes the "2-layer" net of many papers.
        penalty: weight of the squared weights.
        lr: learning rate.
        iterations: at most so many passes.
        patience: stop when a tenth of the vectors, spared for that, has not improved for so many
            passes; None trains to the end on all of them.
        seed: of the first weights and the batches.
        standardise: see `Baseline`.

    Raises:
        ConfigError: there is no hidden layer, or a width is not positive.
    """

    def __init__(
        self,
        *,
        hidden: tuple[int, ...] = (100,),
        penalty: float = 1e-4,
        lr: float = 1e-3,
        iterations: int = 200,
        patience: int | None = 10,
        seed: int = 0,
        standardise: bool = True,
    ) -> None:
        super().__init__(standardise=standardise)
        if not hidden or min(hidden) < 1:
            raise ConfigError(f"Bad hidden {list(hidden)}: give one positive width a hidden layer.")
        self.hidden, self.penalty, self.lr = tuple(hidden), penalty, lr
        self.iterations, self.patience, self.seed = iterations, patience, seed

    def allocate(self) -> None:
        """See `Baseline.allocate`."""
        widths = [self.features, *self.hidden, self.classes]
        for index, (inputs, outputs) in enumerate(pairwise(widths)):
            self.keep(f"weight{index}", np.zeros((inputs, outputs)))
            self.keep(f"bias{index}", np.zeros(outputs))

    def estimate(self, x: NDArray[np.float32], y: NDArray[np.int64]) -> None:
        """See `Baseline.estimate`."""
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        model = MLPClassifier(
            self.hidden,
            alpha=self.penalty,
            learning_rate_init=self.lr,
            max_iter=self.iterations,
            early_stopping=self.patience is not None,
            n_iter_no_change=self.patience or self.iterations,
            random_state=self.seed,
        )
        with warnings.catch_warnings():  # the limit is a setting, not a fault
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, y)
        coefs, biases = list(model.coefs_), list(model.intercepts_)
        if self.classes == 2:  # scikit-learn gives the second class alone, against 0
            coefs[-1] = np.hstack([0 * coefs[-1], coefs[-1]])
            biases[-1] = np.append([0.0], biases[-1])
        for index, (weight, bias) in enumerate(zip(coefs, biases, strict=True)):
            self.keep(f"weight{index}", weight)
            self.keep(f"bias{index}", bias)

    def scores(self, x: Tensor) -> Tensor:
        """See `Baseline.scores`."""
        for index in range(len(self.hidden) + 1):
            x = (x.relu() if index else x) @ getattr(self, f"weight{index}")
            x = x + getattr(self, f"bias{index}")
        return x
