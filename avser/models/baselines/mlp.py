"""Small fully connected networks."""

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from avser.errors import ConfigError
from avser.models.baselines.base import Baseline


class Mlp(Baseline):
    """Fully connected layers with ReLU, fitted by Adam on batches of 200 vectors.

    Args:
        hidden: width of each hidden layer; one makes the "2-layer" net of many papers.
        penalty: weight of the squared weights.
        lr: learning rate.
        iterations: at most so many passes.
        patience: stop when the score on a held-out tenth of the vectors has not improved for this
            many passes; None trains to the end on all of them.
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


class DropoutMlp(Mlp):
    """Fully connected layers under dropout, fitted by AdamW on batches that hold classes alike.

    Dropping half of the inputs (Srivastava et al. 2014, "Dropout") is what keeps it from learning
    the few speakers of a corpus by heart.

    Args:
        hidden: width of each hidden layer.
        input_dropout: share of the inputs that is dropped.
        dropout: share of each hidden layer that is dropped.
        decay: decoupled weight decay.
        lr: highest learning rate of one cycle.
        epochs: passes.
        batch: vectors a step.
        seed: of the first weights, the batches and dropout.
        standardise: see `Baseline`.

    Raises:
        ConfigError: there is no hidden layer, or a width, a share or a count is not legal.
    """

    def __init__(
        self,
        *,
        hidden: tuple[int, ...] = (256,),
        input_dropout: float = 0.5,
        dropout: float = 0.3,
        decay: float = 0.1,
        lr: float = 1e-3,
        epochs: int = 25,
        batch: int = 128,
        seed: int = 0,
        standardise: bool = True,
    ) -> None:
        super().__init__(hidden=hidden, lr=lr, seed=seed, standardise=standardise)
        for name, share in {"input_dropout": input_dropout, "dropout": dropout}.items():
            if not 0 <= share < 1:
                raise ConfigError(f"Bad {name} {share:g}: legal is 0 up to, not including, 1.")
        for name, count in {"epochs": epochs, "batch": batch}.items():
            if count < 1:
                raise ConfigError(f"Bad {name} {count}: legal is 1 and more.")
        self.input_dropout, self.dropout, self.decay = input_dropout, dropout, decay
        self.epochs, self.batch = epochs, batch

    def estimate(self, x: NDArray[np.float32], y: NDArray[np.int64]) -> None:
        """See `Baseline.estimate`."""
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(self.seed)
            layers = self._trained(torch.from_numpy(x), torch.from_numpy(y))
        for index, layer in enumerate(layers):
            self.keep(f"weight{index}", layer.weight.detach().T)
            self.keep(f"bias{index}", layer.bias.detach())

    def _trained(self, x: Tensor, y: Tensor) -> list[nn.Linear]:
        """Linear layers after all epochs."""
        widths = [self.features, *self.hidden, self.classes]
        layers = [nn.Linear(inputs, outputs) for inputs, outputs in pairwise(widths)]
        parameters = [p for layer in layers for p in layer.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=self.lr, weight_decay=self.decay)
        steps = self.epochs * -(-len(x) // self.batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.lr, total_steps=steps, pct_start=0.1
        )
        weight = 1 / torch.bincount(y, minlength=self.classes)[y]
        for _ in range(steps):
            rows = torch.multinomial(weight, self.batch, replacement=True)
            out = F.dropout(x[rows], self.input_dropout)
            for layer in layers[:-1]:
                out = F.dropout(layer(out).relu(), self.dropout)
            loss = F.cross_entropy(layers[-1](out), y[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        return layers
